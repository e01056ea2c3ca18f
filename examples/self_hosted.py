"""Rank with a self-hosted server: vLLM, Infinity, llama.cpp, LocalAI, LiteLLM, Xinference, ... (docs/servers.md).

python examples/self_hosted.py http://localhost:8000 BAAI/bge-reranker-v2-m3
"""

import asyncio
import os
import sys

from jina_rerank import APIConnectionError, RerankClient, RetryPolicy


async def main(base_url: str, model: str | None) -> None:
    # JINA_API_KEY is not sent to a base_url written in code, so pass this server's key here.
    async with RerankClient(
        os.environ.get("RERANK_SERVER_KEY"), base_url=base_url, model=model, retry=RetryPolicy(max_attempts=2)
    ) as client:
        try:
            response = await client.rerank("repairing a flat tyre", ["onion soup", "change a bicycle tyre"])
        except APIConnectionError as error:
            raise SystemExit(f"is it running? {error}") from None
    for result in response.results:
        print(f"{result.relevance_score:8.3f}  {result.document}")  # llama.cpp returns logits, others 0 to 1


if __name__ == "__main__":
    server = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
    asyncio.run(main(server, sys.argv[2] if len(sys.argv) > 2 else None))
