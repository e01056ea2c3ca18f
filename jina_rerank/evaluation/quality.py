"""How good rankings are: nDCG, MRR and recall at a cutoff, as ir_measures computes them."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias, get_args

from .topics import Topic

# Imported by name, since ir_measures claims to be typed and is not.
_ir_measures: Final[Any] = import_module("ir_measures")

Measure: TypeAlias = Literal["nDCG", "MRR", "recall"]
"""nDCG: how much of the best possible order is had, by graded relevance. MRR: one over the place of the first relevant
document. Recall: the share of the relevant documents that is found. Each looks at the first places alone."""

MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)
_NAMES: Final[Mapping[Measure, str]] = {"nDCG": "nDCG", "MRR": "RR", "recall": "R"}


def quality(
    topics: Sequence[Topic], orders: Sequence[Sequence[str]], cutoff: int
) -> Mapping[Measure, tuple[float, ...]]:
    """How well each topic's relevant documents come first.

    Args:
        topics: What was asked about.
        orders: For each topic the ids of its documents, best first. Relevant documents that are missing count as not
            found.
        cutoff: How many of the first places are looked at.

    Returns:
        For each measure a number from 0 to 1 for each topic, in order.
    """
    measures: dict[Measure, Any] = {measure: getattr(_ir_measures, name) @ cutoff for measure, name in _NAMES.items()}
    judgments = {topic.id: {id_: int(grade) for id_, grade in topic.relevance.items()} for topic in topics}
    # It takes scores, and sorts by them.
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
