"""The callers of the soak, and the account that each keeps of its calls."""

import asyncio
import math
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import anyio

from jina_rerank import DeadlineExceededError, RerankClient, RerankError, RerankResponse, SyncRerankClient

from . import GROUP

THREADS: Final = 20
TASKS: Final = 50
INTERRUPTED: Final = 0.05
"""Of all calls, so many have a deadline that may be too short, or are cancelled by their caller."""
PATIENCE: Final = 0.15
"""Maximum deadline of these calls, in seconds; a good answer takes 0.05."""
TIMEOUT: Final = 3.0
"""Seconds for one attempt: hit by the server's fault `hang` alone."""
DOCUMENTS: Final = 8


class Question(NamedTuple):
    """A question whose answer no other question has."""

    query: str
    documents: list[str]
    answer: list[tuple[int, float]]

    @classmethod
    def ask(cls, chance: random.Random) -> "Question":
        """Makes one up: the scores of the answer, in thousandths, are the query."""
        scores = chance.sample(range(1000), DOCUMENTS)
        best_first = sorted(range(DOCUMENTS), key=scores.__getitem__, reverse=True)
        documents = [f"document {index} for {scores[index]} " + "x" * 200 for index in range(DOCUMENTS)]
        return cls(" ".join(map(str, scores)), documents, [(index, scores[index] / 1000) for index in best_first])

    def is_answered_by(self, response: RerankResponse[str]) -> bool:
        """Whether it is the answer to this question, with this question's documents."""
        told = [(result.index, result.relevance_score) for result in response.results]
        return told == self.answer and response.documents == [self.documents[index] for index, _ in self.answer]


@dataclass
class Account:
    """What became of calls. Each caller has its own, and so needs no lock."""

    started: int = 0
    succeeded: int = 0
    cancelled: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])
    """By class of error."""
    wrong: int = 0
    """Answers that were not to the question."""
    attempts: Counter[str] = field(default_factory=Counter[str])
    """The sum of `.attempts` of all responses and errors, by group. Cancelled calls leave nothing to read it from."""
    interrupted: Counter[str] = field(default_factory=Counter[str])
    """Calls ended by their deadline or cancelled, by group: the last attempt of each may have gone no further."""

    def take(self, group: str, question: Question, outcome: RerankResponse[str] | RerankError | None) -> None:
        """Books a call; None is one that was cancelled."""
        if outcome is None or isinstance(outcome, DeadlineExceededError):
            self.interrupted[group] += 1
        if outcome is None:
            self.cancelled += 1
            return
        if isinstance(outcome, RerankError):
            self.failed[type(outcome).__name__] += 1
        else:
            self.succeeded += 1
            self.wrong += not question.is_answered_by(outcome)
        assert outcome.attempts is not None
        self.attempts[group] += outcome.attempts

    def add(self, other: "Account") -> None:
        """Adds another's."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Callers:
    """Threads that share one client, and tasks that share another."""

    def __init__(self, url: str) -> None:
        self.sync_client = SyncRerankClient("jina_soak", base_url=url, timeout=TIMEOUT)
        self.client = RerankClient("jina_soak", base_url=url, timeout=TIMEOUT)
        self._sync_clones, self._clones = _by_group(self.sync_client), _by_group(self.client)
        self.accounts: list[Account] = []

    @property
    def account(self) -> Account:
        """All accounts in one."""
        whole = Account()
        for account in self.accounts:
            whole.add(account)
        return whole

    async def run(self, seconds: float) -> None:
        """Calls for so long."""
        end = time.monotonic() + seconds
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(THREADS) as threads:
            await asyncio.gather(
                *(loop.run_in_executor(threads, self._call_in_a_thread, number, end) for number in range(THREADS)),
                *(self._call_in_a_task(number, end) for number in range(TASKS)),
            )

    async def close(self) -> None:
        """Closes both clients."""
        self.sync_client.close()
        await self.client.aclose()

    def _call_in_a_thread(self, number: int, end: float) -> None:
        account, chance = self._opened(), random.Random(f"thread {number}")
        while time.monotonic() < end:
            question, group, limits = Question.ask(chance), *_limits(chance)
            account.started += 1
            outcome: RerankResponse[str] | RerankError
            try:
                outcome = self._sync_clones[group].rerank(question.query, question.documents, **limits)
            except RerankError as error:
                outcome = error
            account.take(group, question, outcome)

    async def _call_in_a_task(self, number: int, end: float) -> None:
        account, chance = self._opened(), random.Random(f"task {number}")
        while time.monotonic() < end:
            question, group, limits = Question.ask(chance), *_limits(chance)
            patience = limits.pop("deadline") if limits and chance.random() < 0.5 else math.inf
            account.started += 1
            outcome: RerankResponse[str] | RerankError | None = None
            with anyio.CancelScope(deadline=anyio.current_time() + patience):
                try:
                    outcome = await self._clones[group].rerank(question.query, question.documents, **limits)
                except RerankError as error:
                    outcome = error
            account.take(group, question, outcome)

    def _opened(self) -> Account:
        account = Account()
        self.accounts.append(account)
        return account


def _by_group(client: Any) -> dict[str, Any]:
    """Clones of a client whose requests tell the server what they belong to."""
    return {group: client.with_options(headers={GROUP: group}) for group in ("steady", "hasty")}


def _limits(chance: random.Random) -> tuple[str, dict[str, float]]:
    """The group of a call, and its deadline if that is not the client's."""
    if chance.random() >= INTERRUPTED:
        return "steady", {}
    return "hasty", {"deadline": chance.uniform(0.001, PATIENCE)}
