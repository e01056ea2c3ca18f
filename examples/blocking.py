"""Rank documents from a plain script.

Set JINA_API_KEY, or start `jina-rerank serve` and set JINA_RERANK_BASE_URL to what it prints.
"""

from jina_rerank import RerankError, SyncRerankClient

with SyncRerankClient(deadline=30) as client:
    try:
        response = client.rerank("repairing a flat tyre", ["A recipe for onion soup.", "How to change a bicycle tyre."])
    except RerankError as error:
        raise SystemExit(f"no ranking: {error}") from None

for result in response.results:
    print(f"{result.relevance_score:6.3f}  {result.document}")
print(f"{response.usage.total_tokens if response.usage else '?'} tokens, {response.attempts} request(s)")
