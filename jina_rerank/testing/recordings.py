"""Recordings of requests and the API's responses, as human-readable JSON. No I/O."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from .._redaction import Redactor
from .._typeguards import is_array, is_object
from ..emulator.scorers import SCORER_HEADER

_SCRUBBED: Final = "SCRUBBED"
_KEY: Final = re.compile(r"jina_[A-Za-z0-9_-]{16,}")
"""The form of the hosted API's keys."""
_MAX_VALUE_LENGTH: Final = 80  # characters, in the message of a failed test

_KEPT_HEADERS: Final = ("content-type", "retry-after", "x-request-id", SCORER_HEADER)
"""An allowlist, since the headers that may contain secrets cannot be enumerated."""


@dataclass(frozen=True, slots=True)
class RecordedResponse:
    """A response of the API."""

    status: int
    headers: Mapping[str, str]
    body: Any
    """Parsed JSON; a text if the body was not JSON."""


class Recording:
    """The responses of one test, by the bodies of their requests.

    Only the last response to a body is kept, so that requests retried during recording succeed at the first attempt
    in a replay.
    """

    def __init__(self) -> None:
        self._exchanges: dict[str, tuple[Any, RecordedResponse]] = {}

    def __len__(self) -> int:
        return len(self._exchanges)

    def add(self, body: Any, answer: RecordedResponse) -> None:
        """Record the response to `body`."""
        self._exchanges[_identity(body)] = body, answer

    def find(self, body: Any) -> RecordedResponse | None:
        """Return the response to a body with equal JSON, regardless of the order of fields, or None."""
        found = self._exchanges.get(_identity(body))
        return None if found is None else found[1]

    def nearest(self, body: Any) -> str:
        """Describe how `body` differs from the most similar recorded request."""
        differences = [_different_fields(body, recorded) for recorded, _ in self._exchanges.values()]
        if not differences:
            return "nothing was recorded"
        fewest: Mapping[str, Any] = min(differences, key=len)
        fields = ", ".join(f"{name} (recorded: {_brief(value)})" for name, value in fewest.items())
        return f"the nearest of {len(differences)} recorded requests differs in {fields}"

    def to_text(self) -> str:
        """Return the recording as JSON, with one field per line."""
        exchanges = [
            {"request": body, "answer": {"status": answer.status, "headers": answer.headers, "body": answer.body}}
            for body, answer in self._exchanges.values()
        ]
        return json.dumps(exchanges, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Recording":
        """Parse a recording written by `to_text`.

        Raises:
            ValueError: The text is not a recording.
        """
        recording = cls()
        try:
            for exchange in json.loads(text):
                answer = exchange["answer"]
                recording.add(
                    exchange["request"], RecordedResponse(int(answer["status"]), answer["headers"], answer["body"])
                )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("it is not a recording; delete it, and record it again") from error
        return recording


class Scrubber:
    """A filter that removes `key`, and texts like keys of the hosted API, from recordings, however they are quoted."""

    def __init__(self, key: str | None = None) -> None:
        secrets = [] if key is None else [key]
        self._redactor = Redactor(secrets, mask=_SCRUBBED, pattern=_KEY, longest=sys.maxsize)

    def text(self, text: str) -> str:
        """Return a text without keys."""
        return self._redactor.text(text)

    def body(self, data: bytes) -> Any:
        """Return a body without keys: parsed JSON, or a text if it is not JSON."""
        text = data.decode("utf-8", "replace")
        try:
            return self._redactor.json(json.loads(text))
        except (ValueError, RecursionError):
            return self.text(text)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the response headers that a recording keeps; names in lower case."""
        return {name: self.text(headers[name]) for name in _KEPT_HEADERS if name in headers}


def recording_path(test_file: Path, node_id: str) -> Path:
    """Return the path of a test's recording, in the directory `recordings` beside the test's file."""
    test = ".".join(node_id.split("::")[1:])
    name = re.sub(r"[^\w.-]+", "-", test).strip("-")[:100]
    if re.sub(r"[\[\]]", "-", test).strip("-") != name:
        # Two tests may differ only in characters that a file name cannot contain.
        name += "-" + sha256(test.encode()).hexdigest()[:8]
    return test_file.parent / "recordings" / test_file.stem / f"{name}.json"


def _identity(body: Any) -> str:
    return json.dumps(body, sort_keys=True)


def _different_fields(body: Any, recorded: Any) -> dict[str, Any]:
    """Return the recorded values of the fields that differ."""
    if not is_object(body) or not is_object(recorded):
        return {"everything": recorded}
    names = sorted({*body, *recorded})
    return {name: recorded.get(name) for name in names if _identity(body.get(name)) != _identity(recorded.get(name))}


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE_LENGTH else text[:_MAX_VALUE_LENGTH] + "…"


def shown(body: Any) -> str:
    """Return a short description of a request."""
    if not is_object(body):
        return "a body that is not a JSON object"
    documents = body.get("documents")
    count = len(documents) if is_array(documents) else 0
    return f"query {body.get('query')!r:.80} with {count} documents for {body.get('model')}"
