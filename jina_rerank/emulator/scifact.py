"""Forty claims of SciFact with their candidates and judgments: real data for demos and tests.

Of each claim there are the first 20 abstracts that BM25 finds, in its order, and every relevant abstract is among
them. Sources and licences are told in data/NOTICE.md.
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
        """Title and text: what BM25 read, and what to rerank."""
        return f"{self.title} {self.text}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A query: a scientific claim, for which the abstracts with evidence for or against it are relevant."""

    id: str
    text: str
    candidates: tuple[Abstract, ...]
    """In BM25's order, best first."""
    relevance: Mapping[str, int]
    """The judgment by id of the abstract; those not listed are not relevant."""


@cache
def claims() -> tuple[Claim, ...]:
    """All forty claims."""
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
