"""`jina-rerank serve`: the emulator in the foreground."""

import logging
from enum import StrEnum
from typing import Annotated

import typer

from .._endpoint import API_KEY_VARIABLE, BASE_URL_VARIABLE
from .console import ignoring_broken_pipe
from .failures import CommandError, needing, reporting_errors
from .local import LOCAL_KEY, scorer_named
from .server import complete_scorers


class Tier(StrEnum):
    """The tiers of the hosted API; `none` means no limits."""

    NONE = "none"
    FREE = "free"
    PAID = "paid"
    PREMIUM = "premium"


@reporting_errors
def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 accepts other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 picks a free one.")] = 8000,
    scorer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="lexical: words in common. minilm: a small neural model. hf:MODEL: a cross-encoder from the Hugging "
            "Face Hub or a directory. module:function: your own.",
            autocompletion=complete_scorers,
        ),
    ] = "lexical",
    serving: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Emulate Jina's on-prem container of this model, which needs no key, instead of the hosted API.",
            show_default=False,
        ),
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Accept requests without a key.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Write a line for each request to standard error.")] = False,
    latency: Annotated[
        str,
        typer.Option(metavar="SECONDS", help="Added to each response: 0.2, or by percentile: 50:0.12,95:0.4,99:1.2."),
    ] = "0",
    tier: Annotated[
        Tier,
        typer.Option(help="Rate limits of each key. free: 2 concurrent; 100 requests, 100,000 tokens a minute."),
    ] = Tier.NONE,
    balance: Annotated[
        int | None, typer.Option(min=0, help="Tokens that each key may spend; then it gets 403.", show_default=False)
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:PROBABILITY",
            help="Inject a fault: 503, 429:0.1, slow:0.05:2s. May be repeated. Kinds: HTTP statuses, slow, "
            "hang, cut, reset, garbage, html.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random faults and latencies.")] = 0,
) -> None:
    """Emulate the Jina Rerank API on this machine, until Ctrl-C.

    The responses are like those of the hosted API, but the scores are not
    those of Jina's models.
    """
    with needing("local"):
        from ..emulator import TIERS, run  # noqa: PLC0415  # needs the extra [local]
        from ..emulator.latency import parse_latency  # noqa: PLC0415  # needs the extra [local]
    chosen = scorer_named(scorer)
    if log:
        _log_requests()
    try:
        run(
            scorer=chosen,
            serving=serving,
            key_required=not no_key,
            latency=parse_latency(latency),
            limits=TIERS.get(tier),
            balance=balance,
            faults=fault or (),
            seed=seed,
            host=host,
            port=port,
            on_ready=lambda url: _greet(url, chosen.name, serving, key_required=not no_key and serving is None),
        )
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # asyncio repeats host and port there
        raise CommandError(f"cannot listen on {host}, port {port}: {reason}") from None
    except ValueError as error:
        raise CommandError(str(error)) from None


def _log_requests() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("jina_rerank.emulator.requests")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)


def _greet(url: str, scorer: str, serving: str | None, *, key_required: bool) -> None:
    # The loopback address also reaches a server on all addresses, and a key goes over plain http to no other host.
    client_url = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    documents = r"printf '%s\n' 'onion soup' 'change a flat tyre'"
    if key_required:
        settings = f"export {BASE_URL_VARIABLE}={client_url} {API_KEY_VARIABLE}={LOCAL_KEY}"
        example = f"{settings}\n  {documents} | jina-rerank rank"
    else:
        # With --base-url no key is sent, not even the user's own.
        example = f"{documents} | jina-rerank rank --base-url {client_url}"
    if serving is not None:
        example += f" --model {serving}"
    with ignoring_broken_pipe():
        typer.echo(f"""\
The Jina Rerank API, emulated at {url}
Scorer: {scorer}, which is not Jina's model

Try it from another terminal:
  {example} 'flat tyre'

Ctrl-C ends it.""")
