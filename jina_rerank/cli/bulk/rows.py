"""The rows of `jina-rerank bulk`, their requests and their digests. No I/O."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from ...errors import InvalidRequestError
from ...models import RerankRequest, build_request

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""Lone surrogates, which JSON can escape and UTF-8 cannot encode."""


@dataclass(frozen=True, slots=True)
class Record:
    """The content of a line of a file, or of a row of a table."""

    fields: Mapping[str, Any]
    problem: str | None = None
    """Why the record cannot be parsed; the fields then hold its raw content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingArguments:
    """The options that rows are ranked with. Those that differ from the defaults are part of each row's digest."""

    model: str
    top_n: int | None = None
    local: bool = False
    max_doc_length: int | None = None
    others: Mapping[str, object] = field(default_factory=dict[str, object])
    """Other options that change the output, without those left at their defaults."""
    query: str = "query"
    """The column of queries."""
    documents: str = "documents"
    """The column of the lists of candidates."""

    def digest(self, content: Mapping[str, object]) -> str:
        """Return a digest of the row and of these options, by which a later run recognizes the row's result."""
        others = {"max_doc_length": self.max_doc_length, **self.others}
        non_default = {name: value for name, value in others.items() if value}
        identity = [self.model, self.top_n, self.local, content, *([non_default] if non_default else [])]
        return sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Row:
    """One ranking to compute."""

    number: int
    """The row's position in the input, from 0."""
    record: Record
    ranking: RankingArguments
    digest: str
    """A digest of everything that affects the ranking, to distinguish its result from that of another request."""

    @property
    def id(self) -> str | int | None:
        """The user's id of the row; None if not every format can store it."""
        value = self.record.fields.get("id")
        if isinstance(value, str):
            return None if _SURROGATE.search(value) else value
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def request(self) -> RerankRequest:
        """Return the request to send.

        Raises:
            InvalidRequestError: The row is invalid.
        """
        if self.record.problem is not None:
            raise InvalidRequestError(self.record.problem)
        fields, ranking = self.record.fields, self.ranking
        for name in (ranking.query, ranking.documents):
            if fields.get(name) is None:
                raise InvalidRequestError(f"{name}: it is missing")
        if self.id is None and fields.get("id") is not None:
            raise InvalidRequestError("id: expected a text or an integer; lone surrogates are not allowed")
        return build_request(
            query=fields[ranking.query],
            documents=fields[ranking.documents],
            top_n=ranking.top_n,
            max_doc_length=ranking.max_doc_length,
        )


def number_rows(records: Iterable[Record], ranking: RankingArguments) -> Iterator[Row]:
    """Yield the rows of records, numbered from 0."""
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
