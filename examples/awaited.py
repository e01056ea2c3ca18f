"""Rank documents from async code, many queries at once.

Set JINA_API_KEY, or start `jina-rerank serve` and set JINA_RERANK_BASE_URL to what it prints.
"""

import asyncio

from jina_rerank import RerankClient

DOCUMENTS = [
    "Aloe vera gel soothes dry and sensitive skin.",
    "The new collection of bold lipsticks arrives in spring.",
    "Chamomile lotion without perfume, for organic skin care.",
    "How to change a bicycle tyre in ten minutes.",
]


async def main() -> None:
    async with RerankClient() as client:
        queries = ["organic skin care for sensitive skin", "repairing a flat tyre"]
        responses = await asyncio.gather(*[client.rerank(query, DOCUMENTS, top_n=2) for query in queries])
    for query, response in zip(queries, responses, strict=True):
        print(query)
        for result in response.results:
            print(f"  {result.relevance_score:6.3f}  {result.document}")


if __name__ == "__main__":
    asyncio.run(main())
