"""The governor and the quota of retries, driven by Hypothesis through all they can meet, with time in its hand."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jina_rerank import APIConnectionError, RateLimit, RateLimitError, RerankError
from jina_rerank._stack.estimates import TokenScale
from jina_rerank._stack.governor import Governor, Turn
from jina_rerank._stack.lessons import Kind
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
SPENT: st.SearchStrategy[tuple[Kind, ...]] = st.sampled_from([(), ("requests",), ("tokens",), ("requests", "tokens")])


class GovernorMachine(RuleBasedStateMachine):
    """Requests come, go, fail, are refused and cancelled; time passes; nothing is lost, only the late wait longer."""

    def __init__(self) -> None:
        super().__init__()
        self.governor = Governor()
        self.now = 0.0
        self.come_so_far = 0
        self.queue: list[Turn] = []
        self.flying: list[Turn] = []
        self.log: list[tuple[float, Turn]] = []
        self.concurrency: float = math.inf
        self.requests: float = math.inf

    @initialize(limit=LIMIT, number=st.none() | st.integers(1, 20))
    def state(self, limit: RateLimit, number: int | None) -> None:
        self.governor.state(limit, number)
        self.concurrency = limit.concurrency or math.inf
        self.requests = limit.requests_per_minute or math.inf

    @rule(
        tokens=st.integers(1, 2000),
        patience=st.sampled_from([5.0, 120.0, math.inf]),
        deadline=st.sampled_from([1.0, 10.0, 100.0, math.inf]),
    )
    def come(self, tokens: int, patience: float, deadline: float) -> None:
        turn = Turn(lambda: tokens)
        turn.patience = patience
        turn.latest = self.now + deadline
        if self.governor.enter(turn, self.now):
            assert not self.queue, "it overtook those who wait"
            self._sent(turn)
        else:
            self.queue.append(turn)
            self.come_so_far += 1
            turn.place = self.come_so_far
            self.governor.join(turn, self.now)
            self._look()

    @rule(seconds=st.floats(0.0, 70.0))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.queue and self._head().wakes_at <= end:
            self._wake_head()
        self.now = max(self.now, end)

    @rule(data=st.data(), tokens=st.none() | st.integers(0, 3000), spent=SPENT)
    def succeed(self, data: st.DataObject, tokens: int | None, spent: tuple[Kind, ...]) -> None:
        if self.flying:
            turn = self._pick(data, self.flying)
            self.governor.succeeded(turn, self.now, tokens=tokens, spent=spent)
            self._look()

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        if self.flying:
            self.governor.failed(self._pick(data, self.flying), self.now)
            self._look()

    @rule(data=st.data(), error=REFUSALS, pause=st.floats(0.0, 8.0))
    def refuse(self, data: st.DataObject, error: RateLimitError, pause: float) -> None:
        if self.flying:
            turn = self._pick(data, self.flying)
            self.log = [entry for entry in self.log if entry[1] is not turn]
            self.governor.refused(turn, self.now, error, pause)
            self._look()

    @rule(data=st.data())
    def cancel_a_waiter(self, data: st.DataObject) -> None:
        if self.queue:
            self.governor.withdraw(self._pick(data, self.queue), self.now)
            self._look()

    @rule(data=st.data())
    def cancel_before_it_knows_of_its_turn(self, data: st.DataObject) -> None:
        if self.flying:
            turn = self._pick(data, self.flying)
            self.log = [entry for entry in self.log if entry[1] is not turn]
            self.governor.withdraw(turn, self.now)
            self._look()

    @invariant()
    def nothing_is_negative_and_no_limit_is_broken(self) -> None:
        governor = self.governor
        assert governor.in_flight == len(self.flying)
        assert governor.in_flight <= self.concurrency
        assert governor.concurrency.value <= min(self.concurrency, governor.concurrency.ceiling)
        for allowance in (governor.concurrency, governor.requests, governor.tokens):
            assert 1 <= allowance.value <= allowance.ceiling
        recent = [time for time, _ in self.log if time > self.now - 60]
        assert len(recent) <= self.requests

    @invariant()
    def whoever_waits_is_first_or_will_be_woken_by_the_first(self) -> None:
        if self.queue:
            assert math.isfinite(self._head().wakes_at) or self.flying, "nobody will wake the first"

    def teardown(self) -> None:
        """In the end all are served, if only the server answers."""
        for _ in range(100_000):
            if self.flying:
                self.governor.failed(self.flying.pop(0), self.now)
                self._look()
            elif self.queue:
                self._wake_head()
            else:
                break
        assert not self.queue
        assert self.governor.in_flight == 0

    def _wake_head(self) -> None:
        head = self._head()
        self.now = max(self.now, head.wakes_at)
        assert math.isfinite(self.now)
        head.wakes_at = math.inf
        self.governor.advance(self.now)
        self._look()

    def _pick(self, data: st.DataObject, turns: list[Turn]) -> Turn:
        return turns.pop(data.draw(st.integers(0, len(turns) - 1)))

    def _look(self) -> None:
        """Who is not waiting any more were the first in the queue, but for those who were late."""
        gone = [turn for turn in self.queue if turn.state != "waiting"]
        self.queue = [turn for turn in self.queue if turn.state == "waiting"]
        for turn in gone:
            if turn.late:
                assert all(other.late and other.latest <= turn.latest for other in self.queue), "the late overtook"
            else:
                assert all(other.late or other.place > turn.place for other in self.queue), "somebody was overtaken"
            if turn.state == "sent":
                self._sent(turn)
            else:
                assert turn.state == "turned away"
                assert turn.wait > min(turn.patience, turn.latest - self.now)
        assert not any(turn.late and math.isinf(turn.latest) for turn in self.queue), "it has all the time there is"

    def _head(self) -> Turn:
        return min(self.queue, key=lambda turn: turn.order)

    def _sent(self, turn: Turn) -> None:
        self.flying.append(turn)
        self.log.append((self.now, turn))


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
    scale = TokenScale()
    assert scale.applied(100) == 100
    for _ in range(20):
        scale.learn(100, 150)
    assert 150 <= scale.applied(100) <= 151
    for _ in range(10):
        scale.learn(100, 100)
        scale.learn(100, 200)
    assert 200 < scale.applied(100) < 300


TestGovernor = GovernorMachine.TestCase
TestGovernor.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestQuota = QuotaMachine.TestCase
TestQuota.settings = settings(max_examples=50, deadline=None)
