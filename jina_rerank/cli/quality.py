"""How good rankings are: nDCG@10 and MRR@10 against relevance judgments, as ir_measures computes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

# Imported by name, since ir_measures claims to be typed and is not.
_ir_measures: Final[Any] = import_module("ir_measures")
_NDCG: Final[Any] = _ir_measures.nDCG @ 10
_RR: Final[Any] = _ir_measures.RR @ 10


@dataclass(frozen=True, slots=True)
class Quality:
    """The means over all queries, and the nDCG@10 of each."""

    ndcg_at_10: float
    mrr_at_10: float
    ndcg_of: Mapping[str, float]


def quality(judgments: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]) -> Quality:
    """How well rankings put the relevant documents first.

    Args:
        judgments: For each query the relevance of its judged documents, all by id.
        rankings: For each query the ids of its documents, best first.
    """
    # It takes scores, and sorts by them.
    scores = {query: {id_: -float(rank) for rank, id_ in enumerate(ids)} for query, ids in rankings.items()}
    found = _ir_measures.calc([_NDCG, _RR], {query: dict(judged) for query, judged in judgments.items()}, scores)
    return Quality(
        ndcg_at_10=float(found.aggregated[_NDCG]),
        mrr_at_10=float(found.aggregated[_RR]),
        ndcg_of={one.query_id: float(one.value) for one in found.per_query if one.measure == _NDCG},
    )
