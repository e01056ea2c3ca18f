"""The progress bar of `jina-rerank bulk`: rows, rate, cost and remaining time."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from ..._totals import Totals
from ..console import progress_bars


@contextmanager
def progress_bar(count: Callable[[], int], totals: Callable[[], Totals], done: int) -> Generator[Callable[[int], None]]:
    """Yield a callback to call after each row with the number of failed rows; it advances a bar on a terminal.

    Args:
        count: Returns the number of rows; called only on a terminal.
        totals: Returns the client's totals of this run.
        done: The number of rows done by earlier runs.
    """
    with progress_bars("rate", "spent") as progress:
        if progress.disable:
            yield lambda _: None
            return
        task = progress.add_task("bulk", total=count(), completed=done, rate="", spent="")

        def advance(failed: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(
                task,
                advance=1,
                rate="" if speed is None else f"{speed:,.1f}/s",
                spent=spent(totals()) + (f", {failed:,} failed" if failed else ""),
            )

        yield advance


def spent(totals: Totals) -> str:
    """Return the tokens and their list price, as text."""
    return f"{totals.tokens:,} tokens, ${totals.price:,.4f}"
