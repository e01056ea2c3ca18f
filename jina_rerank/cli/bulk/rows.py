"""The rows of `jina-rerank bulk`: what is to be ranked, and by what it is known again. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from ...errors import InvalidRequestError
from ...models import RerankRequest, build_request

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""What JSON can name, and UTF-8 cannot write."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a line of a file, or a row of a table, holds."""

    fields: Mapping[str, Any]
    problem: str | None = None
    """Why it cannot be read; then the fields are what there is of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingArguments:
    """How rows are ranked. What is not the default decides, with the row, whether an output is of this command."""

    model: str
    top_n: int | None = None
    local: bool = False
    max_doc_length: int | None = None
    others: Mapping[str, object] = field(default_factory=dict[str, object])
    """The other options that change what is in the output, if they are given."""
    query: str = "query"
    """The column of queries."""
    documents: str = "documents"
    """The column of the lists of candidates."""

    def digest(self, content: Mapping[str, object]) -> str:
        """What a row's ranking is known again by."""
        others = {"max_doc_length": self.max_doc_length, **self.others}
        given = {name: value for name, value in others.items() if value}
        identity = [self.model, self.top_n, self.local, content, *([given] if given else [])]
        return sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Row:
    """One ranking to be done."""

    number: int
    """Its position in the input, from 0."""
    record: Record
    ranking: RankingArguments
    digest: str
    """Of all that decides the ranking, so that a result can be told from that of another request."""

    @property
    def id(self) -> str | int | None:
        """The caller's own name for it, if it is one that every format can hold."""
        given = self.record.fields.get("id")
        if isinstance(given, str):
            return None if _SURROGATE.search(given) else given
        return given if isinstance(given, int) and not isinstance(given, bool) else None

    def request(self) -> RerankRequest:
        """What to send.

        Raises:
            InvalidRequestError: The row breaks a rule.
        """
        if self.record.problem is not None:
            raise InvalidRequestError(self.record.problem)
        fields, ranking = self.record.fields, self.ranking
        for name in (ranking.query, ranking.documents):
            if fields.get(name) is None:
                raise InvalidRequestError(f"{name}: it is missing")
        if self.id is None and fields.get("id") is not None:
            raise InvalidRequestError("id: expected a text or an integer; a lone surrogate is no text")
        return build_request(
            query=fields[ranking.query],
            documents=fields[ranking.documents],
            top_n=ranking.top_n,
            max_doc_length=ranking.max_doc_length,
        )


def number_rows(records: Iterable[Record], ranking: RankingArguments) -> Iterator[Row]:
    """The rows that records make."""
    for number, record in enumerate(records):
        fields = record.fields
        content = (
            dict(fields)
            if record.problem
            else {
                "id": fields.get("id"),
                "query": fields.get(ranking.query),
                "documents": fields.get(ranking.documents),
            }
        )
        yield Row(number, record, ranking, ranking.digest(content))
