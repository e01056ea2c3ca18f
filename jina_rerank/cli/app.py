"""The commands of `jina-rerank`."""

from typing import Annotated

import typer

from .._version import __version__
from .bulk import bulk
from .demo import demo
from .doctor import doctor
from .eval import evaluate
from .models import models
from .rank import rank
from .serve import serve

app: typer.Typer = typer.Typer(
    help="Rerank documents with Jina's models, or with an emulator of their API on this machine.",
    epilog="The key is read from JINA_API_KEY, the server from JINA_RERANK_BASE_URL. "
    "Exit codes: 0 done, 1 the API failed, 2 wrong usage or configuration, 130 interrupted.",
    no_args_is_help=True,
    # The traceback of a bug must not show local variables: one of them may be the key.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _examples(*lines: str) -> str:
    # Typer prints each paragraph of an epilog as one line.
    return "\n\n".join(["Examples:", *lines])


app.command(
    epilog=_examples(
        'jina-rerank rank "organic skincare" products.txt --top-n 3',
        "grep -h refund *.txt | jina-rerank rank 'how do I get my money back' --json",
        'jina-rerank rank "organic skincare" products.txt --local',
        'jina-rerank rank "organic skincare" products.csv --field description --json',
    )
)(rank)
app.command(
    epilog=_examples(
        "jina-rerank bulk requests.jsonl rankings.jsonl --top-n 10",
        "jina-rerank bulk requests.parquet rankings.parquet --model jina-reranker-m0",
        "jina-rerank bulk requests.csv rankings.csv --local",
        "zcat requests.jsonl.gz | jina-rerank bulk - rankings.jsonl.gz --with-documents",
    )
)(bulk)
app.command(
    epilog=_examples(
        "jina-rerank serve",
        "jina-rerank serve --scorer minilm --latency 0.2 --port 9000",
        "jina-rerank serve --tier free --balance 1000000",
        "jina-rerank serve --fault 503:0.1 --fault slow:0.05:2s",
    )
)(serve)
app.command(
    "eval",
    epilog=_examples(
        "jina-rerank eval sample lexical minilm",
        "jina-rerank eval scifact/ jina-reranker-v3.5 jina-reranker-v2-base-multilingual --report out/",
        "jina-rerank eval queries.jsonl jina-reranker-v3.5 BAAI/bge-reranker-v2-m3@http://localhost:8000 --json",
    ),
)(evaluate)
app.command(
    epilog=_examples(
        "jina-rerank demo",
        "jina-rerank demo --claims 5 --json",
    )
)(demo)

app.command(
    epilog=_examples(
        "jina-rerank models",
        "jina-rerank models --live --json",
    )
)(models)
app.command(
    epilog=_examples(
        "jina-rerank doctor",
        "JINA_RERANK_BASE_URL=http://localhost:8000 jina-rerank doctor",
        "jina-rerank doctor --base-url https://rerank.example --api-key-variable MY_KEY",
    )
)(doctor)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"jina-rerank {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    del version  # its callback has printed it
