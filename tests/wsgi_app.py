"""An app as people write it, for `gunicorn --preload`: clients of the module, warm before there are workers."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from jina_rerank import RerankClient, SyncRerankClient

DOCUMENTS = [f"number {i}" for i in range(50)]

sync_client = SyncRerankClient()
async_client = RerankClient()
assert sync_client.rerank("number 7", DOCUMENTS).documents[0] == "number 7"
PARENT = os.getpid()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers with what each client finds best for `?q=`, and who it is."""
    query = parse_qs(environ["QUERY_STRING"])["q"][0]
    best = [
        sync_client.rerank(query, DOCUMENTS).documents[0],
        asyncio.run(async_client.rerank(query, DOCUMENTS)).documents[0],
    ]
    assert os.getpid() != PARENT
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps({"best": best, "worker": os.getpid()}).encode()]
