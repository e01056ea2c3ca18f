"""The rate limiter and the quota of retries, driven by Hypothesis, which also decides what time it is."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jina_rerank import APIConnectionError, RateLimit, RateLimitError, RerankError
from jina_rerank._stack.estimators import TokenEstimator
from jina_rerank._stack.rate_limit_errors import Kind
from jina_rerank._stack.rate_limiter import RateLimiter
from jina_rerank._stack.waiter import Waiter
from jina_rerank.retry import RetryQuota

LIMITS = {
    "RATE_CONCURRENCY_LIMIT_EXCEEDED": "concurrent requests",
    "RATE_REQUEST_LIMIT_EXCEEDED": "requests per minute",
    "RATE_TOKEN_LIMIT_EXCEEDED": "tokens per minute",
}
REFUSALS = st.builds(
    lambda code, limit: (
        RateLimitError(f"{limit}/{limit} {LIMITS[code]}" if limit else "too many", status=429, code=code)
        if code
        else RateLimitError("too many", status=429)
    ),
    st.sampled_from([None, *LIMITS]),
    st.none() | st.integers(1, 1000),
)
LIMIT = st.builds(
    RateLimit,
    concurrency=st.none() | st.integers(1, 5),
    requests_per_minute=st.none() | st.integers(1, 20),
    tokens_per_minute=st.none() | st.integers(1, 3000),
)
REMAINING: st.SearchStrategy[dict[Kind, int]] = st.fixed_dictionaries(
    {}, optional={"requests": st.integers(0, 30), "tokens": st.integers(0, 4000)}
)


class RateLimiterMachine(RuleBasedStateMachine):
    """Requests come, go, fail, are refused and cancelled; time passes; nothing is lost, only the late wait longer."""

    def __init__(self) -> None:
        super().__init__()
        self.limiter = RateLimiter(jitter=lambda: 0.5)
        self.now = 0.0
        self.come_so_far = 0
        self.queue: list[Waiter] = []
        self.flying: list[Waiter] = []
        self.log: list[tuple[float, Waiter]] = []
        self.concurrency: float = math.inf
        self.requests: float = math.inf

    @initialize(limit=LIMIT, number=st.none() | st.integers(1, 20))
    def state(self, limit: RateLimit, number: int | None) -> None:
        self.limiter.configure(limit, number)
        self.concurrency = limit.concurrency or math.inf
        self.requests = limit.requests_per_minute or math.inf

    @rule(
        tokens=st.integers(1, 2000),
        patience=st.sampled_from([5.0, 120.0, math.inf]),
        deadline=st.sampled_from([1.0, 10.0, 100.0, math.inf]),
    )
    def come(self, tokens: int, patience: float, deadline: float) -> None:
        waiter = Waiter(lambda: tokens)
        waiter.patience = patience
        waiter.deadline = self.now + deadline
        if self.limiter.enter(waiter, self.now):
            assert not self.queue, "it overtook those who wait"
            self._sent(waiter)
        else:
            self.queue.append(waiter)
            self.come_so_far += 1
            waiter.place = self.come_so_far
            self.limiter.join(waiter, self.now)
            self._look()

    @rule(seconds=st.floats(0.0, 70.0))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.queue and self._head().wakes_at <= end:
            self._wake_head()
        self.now = max(self.now, end)

    @rule(data=st.data(), tokens=st.none() | st.integers(0, 3000), remaining=REMAINING)
    def succeed(self, data: st.DataObject, tokens: int | None, remaining: dict[Kind, int]) -> None:
        if self.flying:
            waiter = self._pick(data, self.flying)
            self.limiter.succeeded(waiter, self.now, tokens=tokens, remaining=remaining)
            self._look()

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        if self.flying:
            self.limiter.failed(self._pick(data, self.flying), self.now)
            self._look()

    @rule(data=st.data(), error=REFUSALS)
    def refuse(self, data: st.DataObject, error: RateLimitError) -> None:
        if self.flying:
            waiter = self._pick(data, self.flying)
            self.log = [entry for entry in self.log if entry[1] is not waiter]
            self.limiter.throttled(waiter, self.now, error)
            self._look()

    @rule(data=st.data())
    def cancel_a_waiter(self, data: st.DataObject) -> None:
        if self.queue:
            self.limiter.withdraw(self._pick(data, self.queue), self.now)
            self._look()

    @rule(data=st.data())
    def cancel_before_it_knows_of_its_turn(self, data: st.DataObject) -> None:
        if self.flying:
            waiter = self._pick(data, self.flying)
            self.log = [entry for entry in self.log if entry[1] is not waiter]
            self.limiter.withdraw(waiter, self.now)
            self._look()

    @invariant()
    def nothing_is_negative_and_no_limit_is_broken(self) -> None:
        limiter = self.limiter
        assert limiter.in_flight == len(self.flying)
        assert limiter.in_flight <= self.concurrency
        assert limiter.concurrency.value <= self.concurrency
        assert limiter.concurrency.value > 0
        for window in (limiter.requests, limiter.tokens):
            assert window.used >= 0
            assert window.foreign(self.now) >= 0
        recent = [time for time, _ in self.log if time > self.now - 60]
        assert len(recent) <= self.requests

    @invariant()
    def whoever_waits_is_first_or_will_be_woken_by_the_first(self) -> None:
        if self.queue:
            assert math.isfinite(self._head().wakes_at) or self.flying, "no timer or reply wakes the first waiter"

    def teardown(self) -> None:
        """In the end all are served, if only the server answers."""
        for _ in range(100_000):
            if self.flying:
                self.limiter.failed(self.flying.pop(0), self.now)
                self._look()
            elif self.queue:
                self._wake_head()
            else:
                break
        assert not self.queue
        assert self.limiter.in_flight == 0

    def _wake_head(self) -> None:
        head = self._head()
        self.now = max(self.now, head.wakes_at)
        assert math.isfinite(self.now)
        head.wakes_at = math.inf
        self.limiter.advance(self.now)
        self._look()

    def _pick(self, data: st.DataObject, waiters: list[Waiter]) -> Waiter:
        return waiters.pop(data.draw(st.integers(0, len(waiters) - 1)))

    def _look(self) -> None:
        """Who is not waiting any more were the first in the queue, but for those who were late."""
        gone = [waiter for waiter in self.queue if waiter.state != "waiting"]
        self.queue = [waiter for waiter in self.queue if waiter.state == "waiting"]
        for waiter in gone:
            if waiter.is_late:
                assert all(other.is_late and other.deadline <= waiter.deadline for other in self.queue), (
                    "the late overtook"
                )
            else:
                assert all(other.is_late or other.place > waiter.place for other in self.queue), (
                    "a waiter was overtaken"
                )
            if waiter.state == "sent":
                self._sent(waiter)
            else:
                assert waiter.state == "rejected"
                assert waiter.wait > min(waiter.patience, waiter.deadline - self.now)
        assert not any(waiter.is_late and math.isinf(waiter.deadline) for waiter in self.queue), (
            "it has all the time there is"
        )

    def _head(self) -> Waiter:
        return min(self.queue, key=lambda waiter: waiter.order)

    def _sent(self, waiter: Waiter) -> None:
        self.flying.append(waiter)
        self.log.append((self.now, waiter))


class QuotaMachine(RuleBasedStateMachine):
    """Retries take and successes give, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.quota = RetryQuota(100)
        self.taken: list[int] = []

    @rule(error=st.sampled_from([RateLimitError("x", status=429), APIConnectionError("x")]))
    def retry(self, error: RerankError) -> None:
        before = self.quota.level
        cost = self.quota.take(error)
        assert cost in (0, 5, 14)
        assert self.quota.level == before - cost
        assert cost or before < 14
        if cost:
            self.taken.append(cost)

    @rule()
    def succeed_after_a_retry(self) -> None:
        if self.taken:
            self.quota.give(self.taken.pop())

    @rule()
    def succeed_at_once(self) -> None:
        self.quota.give(1)

    @invariant()
    def it_is_never_negative_and_never_above_its_capacity(self) -> None:
        assert 0 <= self.quota.level <= self.quota.capacity


def test_tokens_are_planned_above_their_mean_when_they_vary() -> None:
    estimator = TokenEstimator()
    assert estimator.planned(100) == 100
    for _ in range(20):
        estimator.observe(100, 150)
    assert 150 <= estimator.planned(100) <= 151
    for _ in range(10):
        estimator.observe(100, 100)
        estimator.observe(100, 200)
    assert 200 < estimator.planned(100) < 300


TestRateLimiter = RateLimiterMachine.TestCase
TestRateLimiter.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestQuota = QuotaMachine.TestCase
TestQuota.settings = settings(max_examples=50, deadline=None)
