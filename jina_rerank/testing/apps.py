"""Two ASGI apps in place of the emulator: one replays a recording, the other calls the API and records it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from .._endpoint import Endpoint
from .recordings import RecordedResponse, Recording, Scrubber, shown

_TIMEOUT = 120.0
"""Seconds for one response of the API during recording, longer than the default timeouts of clients."""


class Replay:
    """An app that answers from a recording, and collects the requests without a recorded answer.

    Raises:
        ValueError: The file is not a recording.
    """

    def __init__(self, path: Path, node_id: str) -> None:
        self._path = path
        self._node_id = node_id
        self._problems: list[str] = []
        self._recording = Recording()
        if path.exists():
            try:
                self._recording = Recording.from_text(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        body = Scrubber().body(await request.body())
        answer = self._recording.find(body)
        response = self._not_recorded(body) if answer is None else _response(answer)
        await response(scope, receive, send)

    def end(self) -> str | None:
        """Return why the test must fail, or None."""
        return _listed(self._problems)

    def _not_recorded(self, body: Any) -> Response:
        problem = (
            f"no recording of this request: {shown(body)}\n"
            f"{self._recording.nearest(body)}, in {self._path}\n"
            f"record it with: pytest --rerank-record '{self._node_id}'"
        )
        self._problems.append(problem)
        # A status that clients do not retry.
        return JSONResponse({"detail": problem}, 404)


class RecordingApp:
    """An app that forwards requests to the API, and writes the responses to a recording when the test ends."""

    def __init__(self, path: Path, upstream: Endpoint) -> None:
        self._path = path
        self._upstream = upstream
        self._scrubber = Scrubber(self._secret())
        self._problems: list[str] = []
        self._recording = Recording()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with the API's response, scrubbed as in the recording."""
        request = Request(scope, receive)
        body = await request.body()
        try:
            answer = await self._ask(body)
        except httpx.HTTPError as error:
            reason = self._scrubber.text(repr(error))
            problem = f"{self._upstream.url} gave no answer ({reason}); nothing is recorded of this test"
            self._problems.append(problem)
            await JSONResponse({"detail": problem}, 502)(scope, receive, send)
            return
        self._recording.add(self._scrubber.body(body), answer)
        await _response(answer)(scope, receive, send)

    def end(self) -> str | None:
        """Write the recording if it is complete; otherwise return why not."""
        if self._recording and not self._problems:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(self._recording.to_text(), encoding="utf-8")
        return _listed(self._problems)

    async def _ask(self, body: bytes) -> RecordedResponse:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if secret := self._secret():
            headers["authorization"] = f"Bearer {secret}"
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
            response = await client.post(self._upstream.url, content=body, headers=headers)
        headers, said = self._scrubber.headers(response.headers), self._scrubber.body(response.content)
        return RecordedResponse(response.status_code, headers, said)

    def _secret(self) -> str | None:
        key = self._upstream.api_key
        return None if key is None else key.get_secret_value()


def _response(answer: RecordedResponse) -> Response:
    text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    return Response(text, answer.status, dict(answer.headers))


def _listed(problems: Sequence[str]) -> str | None:
    return "\n".join(dict.fromkeys(problems)) or None
