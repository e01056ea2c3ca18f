"""The work of `jina-rerank demo`: reranks the same claims concurrently on whichever server is configured."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..._endpoint import API_KEY_VARIABLE, BASE_URL_VARIABLE, resolve_endpoint
from ...emulator import MiniLMScorer, serve
from ...emulator.scifact import Claim, claims
from ...evaluation import Evaluation, evaluate, sample
from ...retry import RetryPolicy
from ...sync import SyncRerankClient
from ..console import progress_bars
from ..local import LOCAL_KEY


@dataclass(frozen=True, slots=True)
class Target:
    """The server to use."""

    client: SyncRerankClient
    url: str
    name: str
    """A description for people."""
    at_once: int
    """The number of concurrent calls."""


@dataclass(frozen=True, slots=True)
class Work:
    """The claims, and the evaluation of their rankings."""

    claims: Sequence[Claim]
    evaluation: Evaluation
    target: Target


@contextmanager
def target() -> Generator[Target]:
    """Yield the server that the environment names, or else an emulator that runs as long as the context.

    Raises:
        ConfigurationError: A variable of the environment is invalid.
    """
    if any(os.environ.get(name, "").strip() for name in (API_KEY_VARIABLE, BASE_URL_VARIABLE)):
        yield _target_of_environment()
        return
    scorer = MiniLMScorer()
    with serve(scorer=scorer) as server:
        client = SyncRerankClient(LOCAL_KEY, base_url=server.url)
        yield Target(client, server.url, f"an emulator on this machine ({scorer.name}, not Jina's model)", at_once=4)


def _target_of_environment() -> Target:
    endpoint = resolve_endpoint(None, None, allow_insecure=False, variable=os.getenv)
    if not endpoint.hosted:
        return Target(SyncRerankClient(), endpoint.url, endpoint.url, at_once=4)
    # A free key allows 2 concurrent calls and 100,000 tokens a minute; all claims together need more.
    patient = RetryPolicy(max_attempts=10, throttle_delay=4.0, max_delay=30.0)
    client = SyncRerankClient(deadline=900.0, retry=patient)
    return Target(client, endpoint.url, f"{endpoint.url}, which takes minutes with a free key", at_once=2)


def work(target: Target, count: int) -> Work:
    """Rerank the first `count` claims, with a progress bar on a terminal.

    Raises:
        RerankError: A call failed; the others were cancelled.
    """
    with target.client, progress_bars() as progress:
        task = progress.add_task("reranking", total=count)
        evaluation = evaluate(
            sample()[:count],
            {"reranked": target.client},
            at_once=target.at_once,
            on_answer=lambda _: progress.advance(task),
        )
    return Work(claims()[:count], evaluation, target)
