"""Rank a table of queries and candidates on Ray Data (pip install 'ray[data]').

Set JINA_API_KEY, or start `jina-rerank serve` and set JINA_RERANK_BASE_URL to what it prints. The workers of a local
Ray inherit both; on a cluster, put them into the runtime environment.
"""

from functools import partial

import ray

from jina_rerank import RateLimit, SyncRerankClient
from jina_rerank.bulk import BatchReranker
from jina_rerank.emulator.scifact import claims

WORKERS = 2
# The key's limits, here 500 requests a minute and 50 in flight, divided among the workers.
SHARE = RateLimit(requests_per_minute=500 // WORKERS, concurrency=50 // WORKERS)

ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="warning")
table = ray.data.from_items(
    [{"claim": claim.text, "abstracts": [abstract.passage for abstract in claim.candidates]} for claim in claims()]
).map_batches(
    BatchReranker,
    fn_constructor_args=(partial(SyncRerankClient, rate_limit=SHARE),),
    fn_constructor_kwargs={"query": "claim", "documents": "abstracts", "top_n": 3},
    compute=ray.data.ActorPoolStrategy(size=WORKERS),
    batch_size=10,
)
ranked = table.take_all()
print(f"{len(ranked)} claims, {sum(row['error'] is not None for row in ranked)} errors")
for row in ranked[:3]:
    best = row["abstracts"][row["indices"][0]]
    print(f"{row['claim'][:60]}\n  {row['scores'][0]:6.3f}  {best[:60]}")
