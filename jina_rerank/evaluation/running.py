"""Running contenders on the same queries and candidates, one contender after the other."""

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
    """One contender's rankings, with their costs."""

    name: str
    rankings: Sequence[PassageResponse]
    """One for each topic, in order."""
    latencies: Sequence[float] = ()
    """Seconds of each call, including retries and waits for its turn. Empty for the original order, and without the
    topics that need no request since they have no candidates, or only blank ones."""
    seconds: float = 0.0
    """Seconds for all calls together."""
    price_per_million_tokens: float | None = None
    """US dollars, from the catalogue; None if unknown, as for servers other than Jina's."""

    @property
    def reranked(self) -> bool:
        """Whether order and scores come from a reranker."""
        return bool(self.latencies)

    @property
    def model(self) -> str | None:
        """The model named by the first response."""
        return self.rankings[0].model

    @property
    def scorer(self) -> str | None:
        """The names of the emulator's scorers, if an emulator answered."""
        names = dict.fromkeys(ranking.headers.get(SCORER_HEADER) for ranking in self.rankings)
        return ", ".join(filter(None, names)) or None

    @property
    def label(self) -> str:
        """The name for tables and plots, which marks the scores of an emulator as such."""
        if self.scorer is None or self.name.endswith(self.scorer):
            return self.name
        return f"{self.name} (emulator: {self.scorer})"

    @property
    def calls(self) -> int:
        """The number of answered requests."""
        return sum(ranking.calls for ranking in self.rankings)

    @property
    def attempts(self) -> int:
        """The number of sent requests."""
        return sum(ranking.attempts for ranking in self.rankings)

    @property
    def tokens(self) -> int:
        """Tokens as counted by the server; 0 if it does not report them."""
        return sum(ranking.usage.total_tokens for ranking in self.rankings if ranking.usage)

    @property
    def price(self) -> float | None:
        """US dollars for all calls; None if the price is unknown."""
        price = self.price_per_million_tokens
        return None if price is None else self.tokens * price / 1e6


def order_given(name: str, topics: Sequence[Topic]) -> Run:
    """Return a run with the candidates in their original order and meaningless scores."""
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
    """Rank each topic in one call, with `at_once` concurrent calls.

    Raises:
        RerankError: A call failed, and the others were cancelled. A note names its query.
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
    """The responses by the topics' positions, and the first failure, which cancels all other calls."""

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
        if ranking.cause is not None:  # the client fell back to the original order, which is another contender
            raise ranking.cause
        self.answers[position] = ranking, time.perf_counter() - started
        self._on_answer()
