"""Rank your own objects: `key=` selects the text to score, and the response holds the same objects, fully typed."""

import asyncio
from dataclasses import dataclass

from jina_rerank import RerankClient


@dataclass(frozen=True)
class Article:
    id: int
    title: str
    body: str


ARTICLES = [
    Article(17, "Onion soup", "Slice the onions and let them brown slowly."),
    Article(23, "Flat tyres", "Take the wheel off, lever the tyre over the rim, patch the tube."),
    Article(42, "Tyre pressure", "Soft tyres wear early; hard ones lose grip on wet roads."),
]


async def main() -> None:
    async with RerankClient() as client:
        response = await client.rerank(
            "repairing a flat tyre", ARTICLES, key=lambda article: f"{article.title}\n{article.body}", top_n=2
        )
    for result in response.results:
        article = result.document  # an Article, for the type checker too
        print(f"{result.relevance_score:6.3f}  #{article.id} {article.title} (was at position {result.index})")


if __name__ == "__main__":
    asyncio.run(main())
