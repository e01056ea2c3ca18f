"""The mechanisms that a call passes through: each is a function `with_x(send, ...) -> Send` that wraps the next."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from .._codec import Ranking, WireRequest
from .call_context import CallContext

Send: TypeAlias = Callable[[WireRequest, CallContext], Awaitable[Ranking]]
"""A mechanism: it takes a request and the context of its call, and returns a ranking or raises a RerankError."""
