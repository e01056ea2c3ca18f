"""Fault injection: with some probability, or for a single request that asks for a fault in a header.

A fault is written `kind[:probability[:seconds]]`: `503`, `429:0.1`, `429:0.1:5s`, `slow:0.05:2s`. The syntax is the
same in `create_app`, on the command line and in the request header.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import anyio
import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from .envelopes import REFUSALS, flat, html_page

FAULT_HEADER: Final = "x-jina-emulator-fault"
"""The request header that asks for a fault."""

HANG_UP: Final = "jina_rerank.emulator.hang_up"
"""The ASGI extension with which the app closes its connection: `hang_up(reset: bool)`."""

_PROBABILITY: Final = re.compile(r"0|1|[01]?\.[0-9]{1,9}")
_SECONDS: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s?")


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, its probability, and its seconds."""

    kind: str
    probability: float = 1.0
    seconds: float | None = None
    """The delay of `slow`, or the Retry-After of an error."""

    def refuse(self) -> None:
        """Raise the fault's error, if it is an error response.

        Raises:
            RefusedError: The fault is an error response.
        """
        if create_error := REFUSALS.get(self.kind):
            refused = create_error()
            if self.seconds is not None:
                refused.headers = {"retry-after": f"{self.seconds:g}"}
            raise refused

    async def spoil(self, response: Response, request: Request) -> Response:
        """Return what to send instead of a good `response`."""
        apply = _SPOILERS.get(self.kind)
        return await apply(self, response, request) if apply else response


class Faults:
    """A random choice of at most one fault for each request, reproducible by its seed."""

    def __init__(self, specifications: Sequence[str], seed: int) -> None:
        if isinstance(specifications, str):
            raise ValueError("faults must be a list, like ['503:0.1']")  # noqa: TRY004  # as for all invalid options
        self._faults = [parse_fault(specification) for specification in specifications]
        total = sum(fault.probability for fault in self._faults)
        if total > 1 + 1e-9:  # ten times 0.1 is a little more than 1
            raise ValueError(
                f"the probabilities of the faults add up to {total:g}: at most 1, since a request gets one"
            )
        self._random = Random(seed)

    def draw(self, header: str | None) -> Fault | None:
        """Return the fault of the next request, which a header may choose.

        Raises:
            RefusedError: 400, the header is not a valid fault.
        """
        try:
            faults = [parse_fault(header)] if header else self._faults
        except ValueError as error:
            raise flat(400, f"{FAULT_HEADER}: {error}") from None
        number = self._random.random()
        for fault in faults:
            number -= fault.probability
            if number < 0:
                return fault
        return None


def parse_fault(text: str) -> Fault:
    """Return the fault that `text` describes.

    Raises:
        ValueError: The text is invalid; the message says why.
    """
    kind, *rest = text.strip().split(":")
    if len(rest) > 2:
        raise ValueError(f"fault {text!r}: must be kind[:probability[:seconds]], like slow:0.05:2s")
    if kind not in REFUSALS and kind not in _SPOILERS:
        raise ValueError(f"fault {text!r}: no such kind; choose one of {', '.join([*REFUSALS, *_SPOILERS])}")
    probability = rest[0] if rest else "1"
    if not _PROBABILITY.fullmatch(probability) or float(probability) > 1:
        raise ValueError(f"fault {text!r}: the probability must be a number from 0 to 1, like 0.05")
    return Fault(kind, float(probability), _parse_seconds(text, kind, rest[1] if len(rest) == 2 else None))


def _parse_seconds(text: str, kind: str, seconds: str | None) -> float | None:
    if seconds is None:
        if kind == "slow":
            raise ValueError(f"fault {text!r}: slow needs a probability and seconds, like slow:0.05:2s")
        return None
    if kind != "slow" and kind in _SPOILERS:
        raise ValueError(f"fault {text!r}: {kind} takes no seconds")
    matched = _SECONDS.fullmatch(seconds)
    if not matched:
        raise ValueError(f"fault {text!r}: the seconds must be a number like 2s or 0.5s")
    return float(matched[1])


async def _slow(fault: Fault, response: Response, _: Request) -> Response:
    await anyio.sleep(fault.seconds or 0.0)
    return response


async def _hang(_: Fault, __: Response, request: Request) -> Response:
    await _until_disconnected(request.receive)
    raise ClientDisconnect


async def _garble(_: Fault, response: Response, __: Request) -> Response:
    half = bytes(response.body)[: len(response.body) // 2]
    return Response(half, media_type="application/json")


async def _replace_by_page(_: Fault, __: Response, ___: Request) -> Response:
    return HTMLResponse(html_page("Please wait"))


async def _cut(_: Fault, response: Response, __: Request) -> Response:
    return _BrokenOff(response, reset=False)


async def _reset(_: Fault, response: Response, __: Request) -> Response:
    return _BrokenOff(response, reset=True)


_SPOILERS: Final[Mapping[str, Callable[[Fault, Response, Request], Awaitable[Response]]]] = {
    "slow": _slow,
    "hang": _hang,
    "garbage": _garble,
    "html": _replace_by_page,
    "cut": _cut,
    "reset": _reset,
}


class _BrokenOff(Response):
    """Half a response and then a closed connection; with `reset`, no response and a TCP reset."""

    def __init__(self, whole: Response, *, reset: bool) -> None:
        super().__init__(whole.body, whole.status_code, dict(whole.headers))
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._reset:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            half = bytes(self.body)[: len(self.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        hang_up = scope.get("extensions", {}).get(HANG_UP)
        if hang_up:
            hang_up(reset=self._reset)
            await _until_disconnected(receive)
        # Without a socket there is nothing to close. httpx.ASGITransport passes exceptions on to its caller unchanged,
        # so raise what httpx raises for the same event on a socket.
        elif self._reset:
            raise httpx.ReadError("connection reset by the emulator")
        else:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body (emulated)")


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
