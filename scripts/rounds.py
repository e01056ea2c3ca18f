"""Measure how rounds affect quality: nDCG@10 on SciFact, for one request of 100 documents and for requests of 25.

    python scripts/rounds.py                 the claims in the package, 20 candidates each and 80 of other claims
    python scripts/rounds.py DIRECTORY       a whole BEIR data set: corpus.jsonl, queries.jsonl, qrels.tsv, and
                                             candidates.tsv with query-id, corpus-id and rank of BM25's first 100

Needs the extras `demo` and `eval`.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import httpx

from jina_rerank import RerankClient
from jina_rerank.emulator import LexicalScorer, MiniLMScorer, Scorer, create_app
from jina_rerank.evaluation import Topic, read_topics, sample
from jina_rerank.evaluation.quality import quality

CANDIDATES, CAP, TOP_N = 100, 25, 10


def packaged(count: int) -> list[Topic]:
    """Return the first claims of the package, each with its own candidates, followed by those of the others."""
    chosen = sample()[:count]
    pool = {passage.id: passage for topic in chosen for passage in topic.candidates}
    return [
        replace(topic, candidates=tuple({**{own.id: own for own in topic.candidates}, **pool}.values()))
        for topic in chosen
    ]


async def rank(topics: Sequence[Topic], scorer: Scorer, max_documents: int) -> list[list[str]]:
    """Return the best ids for each topic, by a listwise model with `max_documents` per request."""
    orders: list[list[str]] = []
    http_client = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(scorer=scorer)))
    async with RerankClient(
        "jina_local", max_documents=max_documents, http_client=http_client, deadline=None
    ) as client:
        for topic in topics:
            candidates = topic.candidates[:CANDIDATES]
            response = await client.rerank(topic.query, candidates, key=lambda passage: passage.text, top_n=TOP_N)
            orders.append([passage.id for passage in response.documents])
    return orders


def main() -> None:
    """Measure with both scorers, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--claims", type=int, default=len(sample()), help="number of the package's claims")
    parser.add_argument("--max-tokens", type=int, default=192, help="maximum length of MiniLM's input")
    arguments = parser.parse_args()
    logging.disable()
    topics = read_topics(arguments.directory) if arguments.directory else packaged(arguments.claims)
    print(f"{'scorer':<12}{'one request':>12}{'rounds':>8}{'difference':>12}{'same best 10':>14}")
    for scorer in (MiniLMScorer(max_tokens=arguments.max_tokens, cache_size=10_000), LexicalScorer()):
        one = anyio.run(rank, topics, scorer, CANDIDATES)
        many = anyio.run(rank, topics, scorer, CAP)
        scores = (quality(topics, orders, TOP_N)["nDCG"] for orders in (one, many))
        before, after = (sum(values) / len(topics) for values in scores)
        same = sum(map(list.__eq__, one, many))
        print(f"{scorer.name:<12}{before:>12.4f}{after:>8.4f}{after - before:>+12.4f}{same:>8} of {len(topics)}")


if __name__ == "__main__":
    main()
