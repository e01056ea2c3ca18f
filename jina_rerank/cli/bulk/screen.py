"""What people see of `jina-rerank bulk` while it works: how far it is, how fast, what it costs, how long it takes."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from ..._totals import Totals
from ..console import progress_bars


@contextmanager
def progress_bar(count: Callable[[], int], totals: Callable[[], Totals], done: int) -> Generator[Callable[[int], None]]:
    """A function to call after each row with how many have failed; on a terminal it moves a bar.

    Args:
        count: Tells how many rows there are; asked only if somebody watches.
        totals: What was spent by this run.
        done: Rows that were done before.
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
    """Tokens, and their list price."""
    return f"{totals.tokens:,} tokens, ${totals.price:,.4f}"
