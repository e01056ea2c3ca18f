"""The mechanisms a call passes through, each a function `with_x(send, ...) -> Send` around the next."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from .._codec import Ranking, WireRequest

Send: TypeAlias = Callable[[WireRequest], Awaitable[Ranking]]
"""One shape for every mechanism: a request in, its ranking out, or a RerankError."""
