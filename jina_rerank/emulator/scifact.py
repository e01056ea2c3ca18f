"""Forty claims of SciFact with their candidates and judgments: real data for demos and tests.

The candidates of each claim are the first 20 abstracts by BM25, in its order, and include every relevant abstract.
data/NOTICE.md names sources and licences.
"""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Abstract:
    """The abstract of a paper."""

    id: str
    title: str
    text: str

    @property
    def passage(self) -> str:
        """Title and text: the input of BM25, and the text to rerank."""
        return f"{self.title} {self.text}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A query: a scientific claim, for which the abstracts with evidence for or against it are relevant."""

    id: str
    text: str
    candidates: tuple[Abstract, ...]
    """In BM25's order, best first."""
    relevance: Mapping[str, int]
    """Relevance judgments by the id of the abstract; unlisted abstracts are not relevant."""


@cache
def claims() -> tuple[Claim, ...]:
    """Return all forty claims."""
    packed = resources.files("jina_rerank.emulator").joinpath("data/scifact-mini.jsonl.gz").read_bytes()
    lines: list[dict[str, Any]] = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    abstracts = {
        line["document"]: Abstract(line["document"], line["title"], line["text"])
        for line in lines
        if "document" in line
    }
    return tuple(
        Claim(
            line["query"],
            line["text"],
            tuple(abstracts[id_] for id_ in line["candidates"]),
            MappingProxyType(line["relevance"]),
        )
        for line in lines
        if "query" in line
    )
