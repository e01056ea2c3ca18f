"""The quality of rankings: nDCG, MRR and recall at a cutoff, computed with ir_measures."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias, get_args

from .topics import Topic

# import_module, since ir_measures claims to be typed but is not.
_ir_measures: Final[Any] = import_module("ir_measures")

Measure: TypeAlias = Literal["nDCG", "MRR", "recall"]
"""nDCG: the gain relative to the best possible order, by graded relevance. MRR: the reciprocal rank of the first
relevant document. Recall: the share of the relevant documents. All consider only the ranks up to the cutoff."""

MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)
_NAMES: Final[Mapping[Measure, str]] = {"nDCG": "nDCG", "MRR": "RR", "recall": "R"}


def quality(
    topics: Sequence[Topic], orders: Sequence[Sequence[str]], cutoff: int
) -> Mapping[Measure, tuple[float, ...]]:
    """Return the quality of a ranking of each topic.

    Args:
        topics: The topics.
        orders: For each topic the ids of its documents, best first. Missing relevant documents count as not found.
        cutoff: The rank cutoff.

    Returns:
        For each measure a number from 0 to 1 per topic, in order.
    """
    measures: dict[Measure, Any] = {measure: getattr(_ir_measures, name) @ cutoff for measure, name in _NAMES.items()}
    judgments = {topic.id: {id_: int(grade) for id_, grade in topic.relevance.items()} for topic in topics}
    # ir_measures takes scores, and sorts by them.
    scores = {
        topic.id: {id_: -float(place) for place, id_ in enumerate(order)}
        for topic, order in zip(topics, orders, strict=True)
    }
    found = {
        (str(one.measure), one.query_id): float(one.value)
        for one in _ir_measures.iter_calc(list(measures.values()), judgments, scores)
    }
    values: dict[Measure, tuple[float, ...]] = {
        measure: tuple(found.get((str(measured), topic.id), 0.0) for topic in topics)
        for measure, measured in measures.items()
    }
    return values
