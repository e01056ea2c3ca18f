"""Asking contenders: the same queries and candidates to each, one contender after the other."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from .._background import background
from .._base import client_over, core_of
from .._results import Results
from ..catalog import find_model
from ..client import RerankClient
from ..emulator.scorers import SCORER_HEADER
from ..errors import RerankError
from ..models import RerankResponse
from ..sync import SyncRerankClient
from .topics import Passage, Topic

PassageResponse = RerankResponse[Passage]


@dataclass(frozen=True, slots=True)
class Run:
    """One contender's rankings, and what they took."""

    name: str
    rankings: Sequence[PassageResponse]
    """One for each topic, in order."""
    latencies: Sequence[float] = ()
    """Seconds that each call took, with its retries and its waits for a place. There are none for the order given, nor
    for topics of which nothing was sent: without candidates, or with blank ones alone."""
    seconds: float = 0.0
    """How long all calls took together."""
    price_per_million_tokens: float | None = None
    """US dollars, of the catalogue; None where it does not know: of servers that are not Jina's own."""

    @property
    def reranked(self) -> bool:
        """Whether a reranker gave the order, and the scores."""
        return bool(self.latencies)

    @property
    def model(self) -> str | None:
        """The model, as the first answer names it."""
        return self.rankings[0].model

    @property
    def scorer(self) -> str | None:
        """What scored in the model's place, if an emulator answered: the names of its scorers."""
        names = dict.fromkeys(ranking.headers.get(SCORER_HEADER) for ranking in self.rankings)
        return ", ".join(filter(None, names)) or None

    @property
    def label(self) -> str:
        """The name for tables and plots: scores of an emulator never stand under a model's name alone."""
        if self.scorer is None or self.name.endswith(self.scorer):
            return self.name
        return f"{self.name} (emulator: {self.scorer})"

    @property
    def calls(self) -> int:
        """Requests that were answered."""
        return sum(ranking.calls for ranking in self.rankings)

    @property
    def attempts(self) -> int:
        """Requests that were sent."""
        return sum(ranking.attempts for ranking in self.rankings)

    @property
    def tokens(self) -> int:
        """As the server counts them; 0 if it does not."""
        return sum(ranking.usage.total_tokens for ranking in self.rankings if ranking.usage)

    @property
    def price(self) -> float | None:
        """US dollars for all calls; None where the price is not known."""
        price = self.price_per_million_tokens
        return None if price is None else self.tokens * price / 1e6


def order_given(name: str, topics: Sequence[Topic]) -> Run:
    """The candidates as they are, with no scores that mean anything."""
    return Run(
        name,
        [
            RerankResponse(Results(range(count), [0.0] * count, topic.candidates))
            for topic in topics
            for count in [len(topic.candidates)]
        ],
    )


def ask(
    name: str,
    client: RerankClient | SyncRerankClient,
    topics: Sequence[Topic],
    *,
    at_once: int,
    max_doc_length: int | None,
    on_answer: Callable[[], object],
) -> Run:
    """One call for each topic, `at_once` of them at a time.

    Raises:
        RerankError: One call failed; the others were cancelled. A note says which it was.
    """
    asking = _Asking(client_over(RerankClient, core_of(client)), topics, max_doc_length, on_answer)
    started = time.perf_counter()
    background.run(asking.all(at_once), deadline=None)
    seconds = time.perf_counter() - started
    if asking.failure is not None:
        raise asking.failure
    known = find_model(core_of(client).config.model_name) if core_of(client).hosted else None
    answers = [asking.answers[position] for position in range(len(topics))]
    return Run(
        name,
        [ranking for ranking, _ in answers],
        [latency for ranking, latency in answers if ranking.calls],
        seconds,
        None if known is None else known.price_per_million_tokens,
    )


class _Asking:
    """The answers to topics by position, and the first failure, which ends it all."""

    def __init__(
        self,
        client: RerankClient,
        topics: Sequence[Topic],
        max_doc_length: int | None,
        on_answer: Callable[[], object],
    ) -> None:
        self.answers: dict[int, tuple[PassageResponse, float]] = {}
        self.failure: RerankError | None = None
        self._client = client
        self._topics = topics
        self._max_doc_length = max_doc_length
        self._on_answer = on_answer

    async def all(self, at_once: int) -> None:
        positions = iter(range(len(self._topics)))
        async with anyio.create_task_group() as tasks:

            async def work() -> None:
                for position in positions:  # shared: each worker takes the next
                    try:
                        await self._one(position)
                    except RerankError as error:
                        error.add_note(f"query {self._topics[position].id!r}")
                        self.failure = self.failure or error
                        tasks.cancel_scope.cancel()

            for _ in range(at_once):
                tasks.start_soon(work)

    async def _one(self, position: int) -> None:
        topic = self._topics[position]
        started = time.perf_counter()
        ranking = await self._client.rerank(
            topic.query, topic.candidates, key=lambda passage: passage.text, max_doc_length=self._max_doc_length
        )
        if ranking.cause is not None:  # the client falls back to the order given, which is another contender
            raise ranking.cause
        self.answers[position] = ranking, time.perf_counter() - started
        self._on_answer()
