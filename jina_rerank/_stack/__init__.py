"""The mechanisms a call passes through, each a function `with_x(send, ...) -> Send` around the next."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from .._codec import Ranking, WireRequest
from .call_context import CallContext

Send: TypeAlias = Callable[[WireRequest, CallContext], Awaitable[Ranking]]
"""The shape of every mechanism: a request and the context of its call in, a ranking out, or a RerankError."""
