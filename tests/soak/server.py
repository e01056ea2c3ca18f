"""The server of the soak, a process of its own: the emulator with its faults, which also counts what it sees.

    python -m tests.soak.server

Prints its URL, and ends when its input does. `GET /_soak` tells how many requests of each group it has met, and how
many of them it has dropped.
"""

import random
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from jina_rerank import RateLimit
from jina_rerank.emulator import Server, create_app
from jina_rerank.emulator.faults import HANG_UP

from . import GROUP

LATENCY: Final = 0.05
"""Minimum latency of a good answer, in seconds."""
DROPPED: Final = 0.02
"""Of all requests: their connection is reset before their body is read."""
FAULTS: Final = (
    *("500:0.02", "502:0.01", "503:0.03", "504:0.01", "408:0.01"),
    *("reset:0.02", "cut:0.03", "garbage:0.01", "html:0.01"),
    *("slow:0.02:0.5s", "hang:0.01"),
)
"""With DROPPED, a fifth of all requests."""
LIMIT: Final = RateLimit(concurrency=40)
"""Fewer at once than callers; and the two clients, who share the key, do not know of each other: hence the 429s."""


class ScoresOfTheQuery:
    """A scorer that reads the scores from the query, so that each query has a distinct answer."""

    name = "scores of the query"
    blocking = False

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> list[float]:
        """The numbers of the query, in thousandths."""
        return [int(number) / 1000 for number in query.split()]

    def embed(self, documents: Sequence[str]) -> list[list[float]]:
        """Nobody asks."""
        raise NotImplementedError

    def count_tokens(self, text: str) -> int:
        """One for each word."""
        return len(text.split())

    def truncate(self, text: str, max_tokens: int) -> str:
        """All of it."""
        return text


class Counting:
    """An app in front of the emulator: it counts requests when their head has come, and drops some of them."""

    def __init__(self, app: ASGIApp, chance: random.Random) -> None:
        self._app = app
        self._chance = chance
        self._met = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        group = dict(scope["headers"]).get(GROUP.encode())
        if scope["path"] == "/_soak":
            await JSONResponse(self._met)(scope, receive, send)
        elif group is not None and self._is_dropped(group.decode()):
            scope["extensions"][HANG_UP](reset=True)
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await self._app(scope, receive, send)

    def _is_dropped(self, group: str) -> bool:
        self._met[group] += 1
        is_dropped = self._chance.random() < DROPPED
        self._met["fault drop"] += is_dropped
        return is_dropped


def main() -> None:
    """Serves until the input ends."""
    emulator = create_app(scorer=ScoresOfTheQuery(), latency=LATENCY, limits=LIMIT, faults=FAULTS)
    with Server(Counting(emulator, random.Random(1)), "127.0.0.1", 0) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
