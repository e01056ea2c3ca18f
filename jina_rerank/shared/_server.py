"""The server of a store: a connection opened on demand, and the script that runs on the server."""

import json
from collections.abc import Sequence
from typing import Any, Final

from ._exchange import SCRIPT, SCRIPT_SHA
from ._link import LINK_ERRORS, Address, Command, Link, ServerError

SERVER_ERRORS: Final = (*LINK_ERRORS, ValueError, TypeError)
"""The exceptions of `RedisServer`: LINK_ERRORS, and those of invalid addresses and replies."""
_MAX_CONNECTION_ATTEMPTS: Final = 3


class RedisServer:
    """One server, or the node of a cluster that stores the keys."""

    def __init__(self, address: Address, keys: Sequence[str]) -> None:
        self._address = address
        self._node = address
        self._keys = keys
        self._link: Link | None = None

    def __str__(self) -> str:
        return str(self._address)

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open, as far as known; the server may have closed it since."""
        return self._link is not None

    async def connect(self) -> Link:
        """Connect and log in, unless connected."""
        if self._link is None:
            node, self._node = self._node, self._address  # the next attempt, should the node not answer
            self._link = await Link.open(node)
            self._node = node
        return self._link

    async def run(self, report: str) -> Any:
        """Run the script, on a new connection if the server has closed an idle one or names another node.

        An exception, including a cancellation, closes the connection.
        """
        for attempt in range(_MAX_CONNECTION_ATTEMPTS):
            is_used = self._link is not None
            link = await self.connect()
            try:
                return await self._evaluate(link, report)
            except ServerError as error:
                await self.aclose()
                self._node = self._address.moved(error) or self._address
                if self._node == self._address or attempt + 1 == _MAX_CONNECTION_ATTEMPTS:
                    raise
            except LINK_ERRORS:
                await self.aclose()
                if not is_used:
                    raise
            except BaseException:
                await self.aclose()
                raise
        raise ConnectionError("the server closes every connection")

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()

    async def _evaluate(self, link: Link, report: str) -> Any:
        arguments: Command = (len(self._keys), *self._keys, report)
        try:
            replies = await link.call(("EVALSHA", SCRIPT_SHA, *arguments))
        except ServerError as error:
            if error.code != "NOSCRIPT":
                raise
            replies = await link.call(("EVAL", SCRIPT, *arguments))
        return json.loads(replies[0])


def reason(error: BaseException) -> str:
    """Return the error's text without the command arguments that a server may echo."""
    return str(error).partition(", with args")[0] or type(error).__name__
