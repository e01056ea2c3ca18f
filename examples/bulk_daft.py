"""Rank a table of queries and candidates on Daft (pip install daft).

Set JINA_API_KEY, or start `jina-rerank serve` and set JINA_RERANK_BASE_URL to what it prints.
"""

from typing import Any

import daft
from daft import DataType, Series

from jina_rerank.bulk import BatchReranker
from jina_rerank.emulator.scifact import claims

COLUMNS = {
    "indices": DataType.list(DataType.int64()),
    "scores": DataType.list(DataType.float64()),
    "error": DataType.string(),
}
reranker = BatchReranker(top_n=3)


@daft.func.batch(return_dtype=DataType.struct(COLUMNS), unnest=True, batch_size=20)
def rank(queries: Series, documents: Series) -> list[dict[str, Any]]:
    batch = reranker({"query": queries.to_pylist(), "documents": documents.to_pylist()})
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(batch[name] for name in COLUMNS), strict=True)]


claim, abstracts = daft.col("claim"), daft.col("abstracts")
table = daft.from_pydict(
    {
        "claim": [claim.text for claim in claims()],
        "abstracts": [[abstract.passage for abstract in claim.candidates] for claim in claims()],
    }
)
ranked = table.select(claim, abstracts, rank(claim, abstracts)).to_pylist()
print(f"{len(ranked)} claims, {sum(row['error'] is not None for row in ranked)} errors")
for row in ranked[:3]:
    best = row["abstracts"][row["indices"][0]]
    print(f"{row['claim'][:60]}\n  {row['scores'][0]:6.3f}  {best[:60]}")
