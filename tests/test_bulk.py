"""rerank_many, awaited: order, laziness, back-pressure, and every way to end it."""

import asyncio
import gc
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import FrozenInstanceError
from typing import Any, ClassVar

import anyio
import httpx
import pytest
from pydantic import ValidationError

from jina_rerank import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    RateLimit,
    RerankClient,
    RerankError,
    RerankOutcome,
    RerankRequest,
    RerankStream,
    RetryPolicy,
)
from jina_rerank.bulk import BatchProgress, Totals

from . import virtual_time
from .fake_server import Body, FakeServer, client_for
from .servers import RawServer, answer_body, http, send

pytestmark = [pytest.mark.smoke, pytest.mark.anyio]


class Job(RerankRequest, frozen=True):
    """A request with a field of the caller's own."""

    id: int


def job(number: int, query: str = "quick") -> Job:
    return Job(query=query, documents=["a", "b"], id=number)


def jobs(count: int) -> list[Job]:
    return [job(number) for number in range(count)]


class Service(FakeServer):
    """Does what the query says: answer, refuse, or wait for `release`."""

    client_options: ClassVar = {"max_concurrency": 100}

    def __init__(self) -> None:
        super().__init__()
        self.release = anyio.Event()

    async def respond(self, body: Body, number: int) -> httpx.Response:
        match body["query"]:
            case "refused":
                return httpx.Response(401, json={"detail": "no", "code": "AUTH_INVALID_API_KEY"})
            case "broken hook":
                raise LookupError("of a hook")
            case "ending hook":
                raise StopAsyncIteration
            case "hook that breaks late":
                await self.release.wait()
                raise LookupError("of a hook")
            case "slow":
                await self.release.wait()
            case _:
                for _ in range(20):  # long enough for other requests to start
                    await anyio.lowlevel.checkpoint()
        return httpx.Response(200, content=answer_body(2))


class Source:
    """Requests without end, counted as they are read."""

    def __init__(self, make: Callable[[int], Job] = job) -> None:
        self.read = 0
        self.closed = False
        self._make = make

    def __iter__(self) -> Iterator[Job]:
        for number in itertools.count():
            self.read += 1
            yield self._make(number)

    async def __aiter__(self) -> AsyncIterator[Job]:
        with anyio.CancelScope():  # must be left in the task that has entered it
            try:
                for request in iter(self):
                    yield request
            finally:
                self.closed = True
                await anyio.lowlevel.checkpoint()


def plain(source: Source) -> Iterable[Job]:
    return iter(source)


@pytest.fixture
def service() -> Service:
    return Service()


async def settle() -> None:
    """Wait until all tasks are blocked."""
    gc.collect()
    await anyio.lowlevel.checkpoint()  # run the callbacks that the collector scheduled
    await anyio.wait_all_tasks_blocked()


async def all_of(stream: RerankStream[Job]) -> list[RerankOutcome[Job]]:
    return [outcome async for outcome in stream]


async def up_to_the_error(stream: RerankStream[Job]) -> tuple[list[RerankOutcome[Job]], Exception]:
    """The outcomes that come before the stream raises, and what it raises."""
    outcomes: list[RerankOutcome[Job]] = []
    while True:
        try:
            outcomes.append(await anext(stream))
        except (RerankError, LookupError) as error:
            return outcomes, error


# Outcomes


@pytest.mark.parametrize("ordered", [True, False])
async def test_every_request_has_its_outcome(service: Service, ordered: bool) -> None:
    requests = jobs(50)
    async with service.client() as client:
        outcomes = await all_of(client.rerank_many(requests, max_concurrency=5, ordered=ordered))
    assert sorted(outcome.index for outcome in outcomes) == list(range(50))
    assert all(outcome.request is requests[outcome.index] for outcome in outcomes)
    assert all(outcome.response is not None and outcome.response.documents == ["b", "a"] for outcome in outcomes)
    assert service.max_in_flight == 5


async def test_ordered_yields_in_request_order_and_unordered_in_completion_order(service: Service) -> None:
    requests = [job(0, "slow"), *(job(number) for number in range(1, 10))]
    async with service.client() as client:
        stream = client.rerank_many(requests, max_concurrency=3, ordered=False)
        first = [(await anext(stream)).index for _ in range(9)]
        service.release.set()
        assert sorted(first) == list(range(1, 10))
        assert [outcome.index async for outcome in stream] == [0]

        service.release = anyio.Event()
        stream = client.rerank_many(requests, max_concurrency=3)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(release_when, service, lambda: service.request_count == 20 and service.in_flight == 1)
            assert [outcome.index async for outcome in stream] == list(range(10))


async def release_when(service: Service, condition: Callable[[], bool]) -> None:
    while not condition():
        await anyio.lowlevel.checkpoint()
    service.release.set()


async def test_failed_request_does_not_stop_others(service: Service) -> None:
    wrong: Any = ["q", ["a"]]
    async with service.client() as client:
        requests = [job(0), job(1, "refused"), wrong, job(3)]
        good, refused, invalid, last = await all_of(client.rerank_many(requests))
    assert (good.error, last.error) == (None, None)
    assert isinstance(refused.error, AuthenticationError)
    assert (refused.response, refused.error.attempts, refused.error.__traceback__) == (None, 1, None)
    assert isinstance(invalid.error, InvalidRequestError)
    assert invalid.request is wrong
    assert "requests[2]: expected a RerankRequest or a mapping with its fields, got list" in str(invalid.error)


async def test_outcome_is_frozen_and_becomes_json(service: Service) -> None:
    async with service.client() as client:
        good, refused = await all_of(client.rerank_many([job(7), job(8, "refused")]))
    with pytest.raises(FrozenInstanceError):
        good.index = 1  # type: ignore[misc]  # that it is frozen is the point
    data = json.loads(json.dumps(good.to_dict()))
    assert (data["index"], data["request"]["id"], data["error"]) == (0, 7, None)
    assert data["response"]["results"][0] == {"index": 1, "relevance_score": 0.2, "document": "b"}
    data = json.loads(json.dumps(refused.to_dict()))
    assert (data["response"], data["error"]["type"]) == (None, "AuthenticationError")
    assert data["error"]["code"] == "AUTH_INVALID_API_KEY"


async def test_over_sockets(raw_server: RawServer) -> None:
    raw_server.plays = [send(http(answer_body(2)))]
    async with RerankClient(base_url=raw_server.url, max_concurrency=4) as client:
        outcomes = await all_of(client.rerank_many(jobs(40)))
    assert [outcome.request.id for outcome in outcomes] == list(range(40))
    assert (len(raw_server.requests), raw_server.connections) == (40, 4)


# Laziness and limits


@pytest.mark.parametrize("kind", [plain, lambda source: source], ids=["iterator", "async generator"])
async def test_requests_are_read_no_further_than_four_times_the_concurrency(service: Service, kind: Any) -> None:
    source = Source()
    async with service.client() as client:
        stream = client.rerank_many(kind(source), max_concurrency=3)
        await settle()
        assert source.read == 0
        for taken in range(1, 30):
            outcome = await anext(stream)
            assert outcome.index == taken - 1
            assert source.read <= taken + 12
        await settle()
        assert (source.read, service.request_count) == (29 + 12, 29 + 12)
        await stream.aclose()


async def test_lowest_configured_limit_applies(service: Service) -> None:
    limits: list[tuple[dict[str, Any], int | None]]
    limits = [({"max_concurrency": 2}, 5), ({"rate_limit": RateLimit(concurrency=3)}, None), ({}, 4), ({}, None)]
    for (options, asked), expected in zip(limits, (2, 3, 4, 100), strict=True):
        source = Source(lambda number: job(number, "slow"))
        async with service.client(**options) as client, client.rerank_many(source, max_concurrency=asked) as stream:
            with anyio.move_on_after(0.01):
                await anext(stream)
            await settle()
            assert source.read == 4 * expected


async def test_outcome_does_not_wait_for_the_next_request(service: Service) -> None:
    sender, receiver = anyio.create_memory_object_stream[Job](1)
    async with service.client() as client, client.rerank_many(receiver) as stream:
        for number in range(3):
            await sender.send(job(number))
            assert (await anext(stream)).request.id == number
        sender.close()
        assert await all_of(stream) == []
    receiver.close()


async def test_deadline_starts_when_request_leaves_queue() -> None:
    async def second_long(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(30 if b'"late"' in request.content else 1)
        return httpx.Response(200, content=answer_body(2))

    async def main() -> None:
        async with client_for(second_long, deadline=1.5) as client:
            outcomes = await all_of(client.rerank_many([*jobs(9), job(9, "late")], max_concurrency=1))
        assert [type(outcome.error) for outcome in outcomes] == [type(None)] * 9 + [DeadlineExceededError]

    # In a thread, because this test runs on an event loop already.
    await anyio.to_thread.run_sync(virtual_time.run, main)


async def test_arguments_are_checked_at_once(service: Service) -> None:
    async with service.client() as client:
        wrong: list[tuple[Any, dict[str, Any], str]] = [
            ([], {"max_concurrency": 0}, "max_concurrency: expected a positive integer"),
            ([], {"max_concurrency": True}, "max_concurrency"),
            ([], {"ordered": [True, False]}, "ordered: expected True or False, got list"),
            ([], {"progress": 3}, "progress: expected a function, or None; got int"),
            ([], {"key": "title"}, r"key: expected a function .*got str; pass key=lambda d: d\['title'\]"),
            (job(0), {}, "got one Job; put it in a list"),
            ("text", {}, "got one str"),
            (3, {}, "expected an iterable of RerankRequest, got int"),
        ]
        for requests, options, message in wrong:
            with pytest.raises(InvalidRequestError, match=message):
                client.rerank_many(requests, **options)
        assert await all_of(client.rerank_many([])) == []


# Ending a stream


async def test_break_cancels_workers_and_keeps_client_usable(service: Service) -> None:
    source = Source(lambda number: job(number, "quick" if number == 0 else "slow"))
    async with service.client() as client:
        async for outcome in client.rerank_many(source, max_concurrency=5):
            assert outcome.index == 0
            break
        await settle()
        assert (service.in_flight, source.closed) == (0, True)
        assert (await client.rerank("quick", ["a", "b"])).documents == ["b", "a"]


async def test_dropped_stream_cancels_its_workers(service: Service) -> None:
    async with service.client() as client:
        stream = client.rerank_many(Source(lambda number: job(number, "slow")), max_concurrency=5)
        with anyio.move_on_after(0.01):
            await anext(stream)
        await settle()
        assert service.in_flight == 5
        del stream
        await settle()
        assert service.in_flight == 0


async def test_kept_stream_resumes_after_break_and_after_cancelled_wait(service: Service) -> None:
    requests = [job(number, "slow" if number == 4 else "quick") for number in range(9)]
    async with service.client() as client:
        stream = client.rerank_many(requests, max_concurrency=2)
        seen: list[int] = []
        async for outcome in stream:
            seen.append(outcome.index)
            if outcome.index == 2:
                break
        seen += [(await anext(stream)).index]
        with anyio.move_on_after(0.01) as scope:
            await anext(stream)
        assert scope.cancelled_caught
        service.release.set()
        assert seen + [outcome.index async for outcome in stream] == list(range(9))


async def test_cancelled_consumer_leaves_no_workers(service: Service) -> None:
    async def consume() -> None:
        async for _ in client.rerank_many(Source(lambda number: job(number, "slow")), max_concurrency=5):
            pass

    async with service.client() as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await settle()
            assert service.in_flight == 5
            tasks.cancel_scope.cancel()
        await settle()
        assert service.in_flight == 0


async def test_closing_stream_ends_all_waiting_consumers(service: Service) -> None:
    source = Source(lambda number: job(number, "slow"))
    async with service.client() as client:
        async with client.rerank_many(source, max_concurrency=5) as stream, anyio.create_task_group() as tasks:
            ended: list[list[RerankOutcome[Job]]] = []

            async def consume() -> None:
                ended.append(await all_of(stream))

            tasks.start_soon(consume)
            tasks.start_soon(consume)
            await settle()
            assert service.in_flight == 5
            await stream.aclose()
            assert (service.in_flight, source.closed) == (0, True)
        assert ended == [[], []]
        assert await all_of(stream) == []
        unused = client.rerank_many(Source())
        await unused.aclose()
        assert await all_of(unused) == []
        assert repr(unused) == "<RerankStream: 0 outcomes taken, closed>"


@pytest.mark.parametrize("ordered", [True, False])
async def test_closing_the_client_leaves_no_request_without_an_outcome(service: Service, ordered: bool) -> None:
    source = Source(lambda number: job(number, "quick" if number < 3 else "slow"))
    client = service.client()
    stream = client.rerank_many(source, max_concurrency=5, ordered=ordered)
    first = await anext(stream)
    await settle()
    await client.aclose()
    assert (service.in_flight, source.closed) == (0, True)
    others, error = await up_to_the_error(stream)
    outcomes = [first, *others]
    assert isinstance(error, ClientClosedError)
    assert sorted(outcome.index for outcome in outcomes) == list(range(source.read))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    assert {type(outcome.error) for outcome in failed} == {ClientClosedError}
    assert len(outcomes) - len(failed) == 3
    assert await all_of(stream) == []
    with pytest.raises(ClientClosedError):
        await anext(client.rerank_many(jobs(1)))


@pytest.mark.parametrize("kind", [plain, lambda source: source], ids=["iterator", "async generator"])
@pytest.mark.parametrize("ordered", [True, False])
async def test_error_of_iterable_is_raised_after_outcomes_read(service: Service, ordered: bool, kind: Any) -> None:
    def make(number: int) -> Job:
        if number == 7:
            raise KeyError("line 7")
        return job(number)

    async with service.client() as client:
        stream = client.rerank_many(kind(Source(make)), max_concurrency=3, ordered=ordered)
        outcomes, error = await up_to_the_error(stream)
        assert sorted(outcome.index for outcome in outcomes) == list(range(7))
        assert repr(error) == "KeyError('line 7')"
        assert await all_of(stream) == []


async def test_error_of_hook_stops_reading(service: Service) -> None:
    source = Source(lambda number: job(number, "broken hook" if number == 1 else "quick"))
    async with service.client() as client:
        outcomes, error = await up_to_the_error(client.rerank_many(source, max_concurrency=2))
        assert [outcome.index for outcome in outcomes] == [0, *range(2, source.read)]
        assert repr(error) == "LookupError('of a hook')"


@pytest.mark.parametrize("ordered", [True, False])
async def test_error_of_hook_is_raised_when_input_is_exhausted(service: Service, ordered: bool) -> None:
    async with service.client() as client:
        stream = client.rerank_many([*jobs(3), job(3, "hook that breaks late")], ordered=ordered)
        first = await anext(stream)
        await settle()
        service.release.set()
        others, error = await up_to_the_error(stream)
        assert sorted(outcome.index for outcome in [first, *others]) == [0, 1, 2]
        assert repr(error) == "LookupError('of a hook')"
        assert await all_of(stream) == []


async def test_closing_client_raises_when_input_is_exhausted(service: Service) -> None:
    client = service.client()
    stream = client.rerank_many([job(0), job(1, "slow"), job(2, "slow")])
    await anext(stream)
    await settle()
    await client.aclose()
    outcomes, error = await up_to_the_error(stream)
    assert [type(outcome.error) for outcome in outcomes] == [ClientClosedError] * 2
    assert isinstance(error, ClientClosedError)
    assert await all_of(stream) == []


def test_stream_is_bound_to_its_event_loop_and_does_not_block_loop_exit() -> None:
    service = Service()
    client = service.client()
    stream = client.rerank_many(Source(lambda number: job(number, "quick" if number == 0 else "slow")))

    async def begin() -> None:
        assert (await anext(stream)).index == 0

    async def go_on() -> None:
        with pytest.raises(ConfigurationError, match="call rerank_many again"):
            await anext(stream)
        await stream.aclose()

    asyncio.run(begin())
    assert service.in_flight == 0
    asyncio.run(go_on())


# Counts


async def test_progress_is_called_with_each_outcome(service: Service) -> None:
    told: list[BatchProgress] = []
    async with service.client() as client:
        requests = [job(number, "refused" if number == 1 else "quick") for number in range(4)]
        async for outcome in client.rerank_many(requests, max_concurrency=1, progress=told.append):
            assert told[-1].done == outcome.index + 1
        assert [(step.done, step.failed) for step in told] == [(1, 0), (2, 1), (3, 1), (4, 1)]
        assert (told[-1].read, all(step.read >= step.done for step in told)) == (4, True)
        assert [step.elapsed for step in told] == sorted(step.elapsed for step in told)

        def interrupt(progress: BatchProgress) -> None:
            raise LookupError(f"after {progress.done}")

        with pytest.raises(LookupError, match="after 1"):
            await all_of(client.rerank_many(jobs(3), progress=interrupt))


@pytest.mark.parametrize("end", [StopIteration, StopAsyncIteration])
async def test_end_of_iteration_that_progress_raises_is_an_error(service: Service, end: type[Exception]) -> None:
    def progress(_: BatchProgress) -> None:
        raise end

    async with service.client() as client:
        with pytest.raises(RuntimeError, match=end.__name__) as caught:
            await all_of(client.rerank_many(jobs(3), progress=progress))
    assert isinstance(caught.value.__cause__, end)


async def test_end_of_iteration_that_a_hook_raises_is_an_error(service: Service) -> None:
    async with service.client() as client:
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            await all_of(client.rerank_many([job(0, "ending hook")]))


async def test_totals_of_a_client_its_clones_and_its_streams(service: Service) -> None:
    async with service.client(retry=RetryPolicy(base_delay=0)) as client:
        clone = client.with_options(timeout=5)
        await clone.rerank("q", ["a", "b"])
        await client.rerank("q", [])
        stream = client.rerank_many([*jobs(4), job(4, "refused")])
        assert len(await all_of(stream)) == 5
        for totals, requests, tokens in ((stream.totals, 5, 28), (client.totals, 6, 35), (clone.totals, 6, 35)):
            assert (totals.requests, totals.attempts, totals.tokens) == (requests, requests, tokens)
            assert totals.price == pytest.approx(tokens * 0.05 / 1e6)


async def test_totals_exclude_requests_never_sent(service: Service) -> None:
    client = service.client(max_documents=2)
    async with client:
        outcomes = await all_of(client.rerank_many([Job(id=0, query="q", documents=["a", "b", "c"])]))
        assert isinstance(outcomes[0].error, InvalidRequestError)
    with pytest.raises(ClientClosedError):
        await client.rerank("q", ["a"])
    assert client.totals == Totals()


async def test_estimate_is_near_the_bytes_and_sends_nothing(service: Service) -> None:
    async with service.client() as client:
        request = RerankRequest(query="q" * 40, documents=["d" * 400, "", "d" * 4000], max_doc_length=500)
        assert client.estimate_tokens(request) == 10 + 100 + 500
        assert client.estimate_tokens(RerankRequest(query="q", documents=[])) == 0
        with pytest.raises(InvalidRequestError, match="reads no images"):
            client.estimate_tokens(RerankRequest(query="q", documents=[{"image": "https://a/b.png"}]))
    assert service.request_count == 0


IMAGE: dict[str, Any] = {"image": "https://a/b.png"}
INVALID: dict[str, tuple[Any, str]] = {
    "a field of another name": (
        {"query": "q", "documents": ["a", "b"], "topn": 1},
        "topn: not a field of RerankRequest; subclass RerankRequest to add fields",
    ),
    "a name that is no text": ({"query": "q", "documents": ["a"], 7: 1}, "7: not a field of RerankRequest"),
    "no documents": ({"query": "q"}, "documents: Field required"),
    "no query": ({"documents": ["a"]}, "query: Field required"),
    "a blank query": ({"query": " ", "documents": ["a"]}, "query: it is blank"),
    "a wrong top_n": ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n: .*greater than or equal to 1; leave it"),
    "one text as documents": ({"query": "q", "documents": "a"}, "documents: expected a sequence .* put it in a list"),
    "a document without text": (
        {"query": "q", "documents": [{"title": "a", "body": "b"}]},
        r"documents\[0\]: .* pass key=, as in sorted\(key=\); this mapping has neither, but 'title', 'body'",
    ),
    "an image for a model of texts": ({"query": "q", "documents": ["a", IMAGE]}, "jina-reranker-v3.5 reads no images"),
    "such a request": (RerankRequest(query="q", documents=["a", IMAGE]), "jina-reranker-v3.5 reads no images"),
}


@pytest.mark.parametrize(("invalid", "message"), INVALID.values(), ids=INVALID)
async def test_invalid_request_has_its_error_in_its_outcome(service: Service, invalid: Any, message: str) -> None:
    requests: list[Any] = [{"query": "q", "documents": ["a", "b"]}, invalid, job(2)]
    async with service.client() as client:
        good, refused, last = [outcome async for outcome in client.rerank_many(requests)]
        with pytest.raises(InvalidRequestError, match=message):
            refused.unwrap()
        assert client.totals.requests == 2
    assert [outcome.unwrap().documents for outcome in (good, last)] == [["b", "a"], ["b", "a"]]
    assert (refused.request, refused.response) == (invalid, None)
    assert json.loads(json.dumps(good.to_dict()))["request"] == {"query": "q", "documents": ["a", "b"]}


async def test_mapping_and_key_rank_custom_objects(service: Service) -> None:
    first, second = {"title": "a"}, {"title": "b"}
    requests: list[dict[str, Any]] = [
        {"query": "q", "documents": [first, second], "top_n": 1},
        {"query": "q", "documents": [first, {"name": "b"}]},
        {"query": "q", "documents": iter([first, second])},
    ]
    async with service.client() as client:
        outcomes = [outcome async for outcome in client.rerank_many(requests, key=lambda item: item["title"])]
        tokens = client.estimate_tokens(requests[0], key=lambda item: str(item["title"]))
    assert outcomes[0].unwrap().documents[0] is outcomes[2].unwrap().documents[0] is second
    assert isinstance(outcomes[1].error, InvalidRequestError)
    assert "documents: key= raised KeyError: 'title'" in str(outcomes[1].error)
    assert tokens == 3


def test_request_made_by_hand_with_objects_names_rerank_many() -> None:
    with pytest.raises(ValidationError, match="give rerank_many mappings with the fields of a RerankRequest, and key="):
        RerankRequest(query="q", documents=[{"title": "a"}])
