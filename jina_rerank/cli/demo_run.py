"""The work of `jina-rerank demo`: the same questions to whichever server is to be asked, many at a time."""

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..client import RerankClient
from ..emulator import MiniLMScorer
from ..emulator.scifact import Abstract, Claim, claims
from ..endpoint import API_KEY_VARIABLE, BASE_URL_VARIABLE, resolve_endpoint
from ..models import RerankResponse
from ..retry import RetryPolicy
from .console import progress_console
from .local import LOCAL_KEY, local_server

Ranking = RerankResponse[Abstract]


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask."""

    client: RerankClient
    url: str
    name: str
    """Whom that is, for people."""
    at_once: int
    """How many calls it takes at a time."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked, and the answers."""

    claims: Sequence[Claim]
    rankings: Sequence[Ranking]
    seconds: float
    target: Target


@contextmanager
def target() -> Generator[Target]:
    """The server that the environment names; else an emulator, for as long as the context lasts.

    Raises:
        ConfigurationError: The environment breaks a rule.
    """
    if any(os.environ.get(name, "").strip() for name in (API_KEY_VARIABLE, BASE_URL_VARIABLE)):
        yield _target_of_environment()
        return
    scorer = MiniLMScorer()
    with local_server(scorer) as url:
        # A proxy of the environment has no business between two ends of this process.
        client = RerankClient(LOCAL_KEY, base_url=url, trust_env=False)
        yield Target(client, url, f"an emulator on this machine ({scorer.name}, not Jina's model)", at_once=4)


def _target_of_environment() -> Target:
    endpoint = resolve_endpoint(None, None, allow_insecure=False, variable=os.getenv)
    if not endpoint.hosted:
        return Target(RerankClient(), endpoint.url, endpoint.url, at_once=4)
    # A free key allows 2 calls at a time and 100,000 tokens a minute, and all claims together take more.
    patient = RetryPolicy(max_attempts=10, throttle_delay=4.0, max_delay=30.0)
    client = RerankClient(deadline=900.0, retry=patient)
    return Target(client, endpoint.url, f"{endpoint.url}, which takes minutes with a free key", at_once=2)


def work(target: Target, count: int) -> Run:
    """Asks about the first `count` claims, with a progress bar if a person watches.

    Raises:
        RerankError: One call failed; the others were cancelled. It may stand in a group.
    """
    asked = claims()[:count]
    console = progress_console()
    columns = TextColumn("reranking"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(asked))
        started = time.perf_counter()
        rankings = anyio.run(rerank_all, target, asked, lambda: progress.advance(task))
        seconds = time.perf_counter() - started
    return Run(asked, rankings, seconds, target)


async def rerank_all(target: Target, asked: Sequence[Claim], on_answer: Callable[[], None]) -> list[Ranking]:
    """One call for each claim, in order, `target.at_once` of them at a time."""
    rankings: dict[int, Ranking] = {}
    limiter = anyio.CapacityLimiter(target.at_once)

    async def ask(position: int, claim: Claim) -> None:
        async with limiter:
            rankings[position] = await target.client.rerank(
                claim.text, claim.candidates, key=lambda abstract: abstract.passage
            )
        on_answer()

    async with target.client, anyio.create_task_group() as tasks:
        for position, claim in enumerate(asked):
            tasks.start_soon(ask, position, claim)
    return [rankings[position] for position in range(len(asked))]
