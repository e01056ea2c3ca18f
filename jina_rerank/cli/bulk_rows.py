"""The rows of `jina-rerank bulk`: what is to be ranked, and by what it is known again. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from ..errors import InvalidRequestError
from ..models import RerankRequest, build_request

COLUMNS: Final = ("id", "query", "documents")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""What JSON can name, and UTF-8 cannot write."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a line of a file, or a row of a table, holds."""

    fields: Mapping[str, Any]
    problem: str | None = None
    """Why it cannot be read; then the fields are what there is of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One ranking to be done."""

    number: int
    """Its position in the input, from 0."""
    record: Record
    top_n: int | None
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
        fields = self.record.fields
        for name in ("query", "documents"):
            if fields.get(name) is None:
                raise InvalidRequestError(f"{name}: it is missing")
        if self.id is None and fields.get("id") is not None:
            raise InvalidRequestError("id: expected a text or an integer; a lone surrogate is no text")
        return build_request(query=fields["query"], documents=fields["documents"], top_n=self.top_n)


def number_rows(records: Iterable[Record], *, model: str, top_n: int | None, local: bool) -> Iterator[Row]:
    """The rows that records make, to be ranked with this model, or by the emulator in its place, and cut."""
    for number, record in enumerate(records):
        content = dict(record.fields) if record.problem else {name: record.fields.get(name) for name in COLUMNS}
        identity = json.dumps([model, top_n, local, content], sort_keys=True, default=str)
        yield Row(number, record, top_n, sha256(identity.encode()).hexdigest()[:16])
