"""What rounds cost in quality: nDCG@10 on SciFact, of one request of 100 documents and of requests of 25.

    python scripts/rounds.py                 the claims in the package, 20 candidates each and 80 of other claims
    python scripts/rounds.py DIRECTORY       a whole BEIR data set: corpus.jsonl, queries.jsonl, qrels.tsv, and
                                             candidates.tsv with query-id, corpus-id and rank of BM25's first 100

It needs the extra `demo`.
"""

import argparse
import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
from jina_rerank.cli.quality import quality

from jina_rerank import RerankClient
from jina_rerank.emulator import LexicalScorer, MiniLMScorer, Scorer, create_app
from jina_rerank.emulator.scifact import claims

CANDIDATES, CAP, TOP_N = 100, 25, 10


@dataclass(frozen=True)
class Query:
    """A query, its candidates as BM25 orders them, by id, and the judgments."""

    id: str
    text: str
    candidates: dict[str, str]
    relevance: dict[str, int]


def packaged(count: int) -> list[Query]:
    """The first claims of the package, each with its candidates first, and those of the others after them."""
    chosen = claims()[:count]
    pool = {abstract.id: abstract.passage for claim in chosen for abstract in claim.candidates}
    queries = []
    for claim in chosen:
        own = {abstract.id: abstract.passage for abstract in claim.candidates}
        candidates = dict(list({**own, **pool}.items())[:CANDIDATES])
        queries.append(Query(claim.id, claim.text, candidates, dict(claim.relevance)))
    return queries


def of_directory(directory: Path) -> list[Query]:
    """All queries of a data set."""
    corpus = {line["_id"]: f"{line['title']} {line['text']}" for line in lines(directory / "corpus.jsonl")}
    queries = {line["_id"]: Query(line["_id"], line["text"], {}, {}) for line in lines(directory / "queries.jsonl")}
    for row in rows(directory / "candidates.tsv"):
        if int(row["rank"]) <= CANDIDATES:
            queries[row["query-id"]].candidates[row["corpus-id"]] = corpus[row["corpus-id"]]
    for row in rows(directory / "qrels.tsv"):
        queries[row["query-id"]].relevance[row["corpus-id"]] = int(row["score"])
    return list(queries.values())


def lines(path: Path) -> Iterator[dict[str, str]]:
    """The objects of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a file of tab-separated values."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")


async def rank(queries: Sequence[Query], scorer: Scorer, max_documents: int) -> dict[str, list[str]]:
    """The best ids for each query, by a listwise model that takes `max_documents` at once."""
    rankings: dict[str, list[str]] = {}
    http_client = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(scorer=scorer)))
    async with RerankClient(
        "jina_local", max_documents=max_documents, http_client=http_client, deadline=None
    ) as client:
        for query in queries:
            ids = list(query.candidates)
            response = await client.rerank(query.text, ids, key=query.candidates.__getitem__, top_n=TOP_N)
            rankings[query.id] = response.documents
    return rankings


def main() -> None:
    """Measures with both scorers, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--claims", type=int, default=len(claims()), help="of the package, the first so many")
    arguments = parser.parse_args()
    logging.disable()
    queries = of_directory(arguments.directory) if arguments.directory else packaged(arguments.claims)
    judgments = {query.id: query.relevance for query in queries}
    print(f"{'scorer':<12}{'one request':>12}{'rounds':>8}{'difference':>12}{'same best 10':>14}")
    for scorer in (MiniLMScorer(cache_size=10_000), LexicalScorer()):
        one = anyio.run(rank, queries, scorer, CANDIDATES)
        many = anyio.run(rank, queries, scorer, CAP)
        before, after = (quality(judgments, rankings).ndcg_at_10 for rankings in (one, many))
        same = sum(one[query.id] == many[query.id] for query in queries)
        print(f"{scorer.name:<12}{before:>12.4f}{after:>8.4f}{after - before:>+12.4f}{same:>8} of {len(queries)}")


if __name__ == "__main__":
    main()
