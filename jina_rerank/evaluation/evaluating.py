"""`evaluate`: compares rerankers on a test collection, with confidence intervals, costs and recommended cutoffs."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Final

from ..client import RerankClient
from ..errors import InvalidRequestError
from ..sync import SyncRerankClient
from .reading import read_topics
from .results import Evaluation, judge
from .running import ask, order_given
from .topics import Topic

ORDER_GIVEN: Final = "no rerank"
"""The name of the contender that keeps the candidates in their original order."""


def evaluate(
    data: str | os.PathLike[str] | Sequence[Topic],
    contenders: Mapping[str, RerankClient | SyncRerankClient],
    *,
    cutoff: int = 10,
    at_once: int = 2,
    max_doc_length: int | None = None,
    on_answer: Callable[[str], object] | None = None,
    title: str | None = None,
) -> Evaluation:
    """Rank the candidates of each topic with each contender, and evaluate the rankings.

    The call blocks, also in a notebook. The contenders run one after the other, and their clients stay open.

    Args:
        data: The path of a test collection in a format of `read_topics`, or topics.
        contenders: Clients by name; each uses its own server and model. The original order is always a contender too,
            named "no rerank".
        cutoff: The rank cutoff of the measures.
        at_once: The number of concurrent calls. A free key of the hosted API allows two.
        max_doc_length: Tokens of each document that are scored; None is the model's own limit.
        on_answer: Called with the contender's name after each response, in another thread.
        title: The name of the data in a report; None is the last part of the path.

    Raises:
        InvalidRequestError: An argument or the data is invalid.
        RerankError: A call failed. There is no evaluation without its topic, since that would favour a contender.
    """
    topics = read_topics(data) if isinstance(data, str | os.PathLike) else tuple(data)
    _check(topics, contenders, cutoff=cutoff, at_once=at_once)
    runs = [order_given(ORDER_GIVEN, topics)]
    for name, client in contenders.items():
        report = partial(on_answer, name) if on_answer else lambda: None
        runs.append(ask(name, client, topics, at_once=at_once, max_doc_length=max_doc_length, on_answer=report))
    if title is None:
        title = Path(data).resolve().name if isinstance(data, str | os.PathLike) else "the topics given"
    return Evaluation(title, topics, cutoff, at_once, [judge(topics, run, cutoff) for run in runs])


def _check(topics: Sequence[Topic], contenders: Mapping[str, object], **counts: int) -> None:
    if not topics or not all(topic.relevant for topic in topics):
        raise InvalidRequestError("data: each topic needs a relevant document; leave out those without")
    if len({topic.id for topic in topics}) < len(topics):
        raise InvalidRequestError("data: two topics have the same id")
    for topic in topics:
        if len({passage.id for passage in topic.candidates}) < len(topic.candidates):
            raise InvalidRequestError(f"data: two candidates of query {topic.id!r} have the same id")
        if not all(isinstance(grade, Integral) for grade in topic.relevance.values()):
            raise InvalidRequestError(
                f"data: the relevance of each document is an integer; query {topic.id!r} has others"
            )
    # Blank documents are not sent.
    if not any(topic.is_relevant(one.id) and one.text.strip() for topic in topics for one in topic.candidates):
        raise InvalidRequestError("data: no candidate is relevant, so no order is better than another")
    if ORDER_GIVEN in contenders:
        raise InvalidRequestError(
            f"contenders: {ORDER_GIVEN!r} is the order given, which always competes; rename yours"
        )
    for name, value in counts.items():
        if value < 1:
            raise InvalidRequestError(f"{name}: expected a positive integer; got {value}")
