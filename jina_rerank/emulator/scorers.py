"""What gives the emulator its scores: the protocol, and the scorers that need nothing but Python.

Pointwise scores depend on the query and one document alone; listwise scores depend on the whole list, as those of
jina-reranker-v3 and v3.5 do. A client that merges parts of a list wrongly is found out by the second kind only.
"""

import inspect
import math
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol, TypeAlias, runtime_checkable

from .steps import Steps, finish
from .tokens import count_tokens, is_cjk, truncate, words

SCORER_HEADER: Final = "x-jina-emulator-scorer"
"""The header in which the emulator names what has scored in a model's place."""

Scores: TypeAlias = Iterable[float] | Awaitable[Iterable[float]]
"""What a scorer gives: numbers or, if it does not block, an awaitable of them."""

ScoreFunction: TypeAlias = Callable[[str, Sequence[str]], Scores]
"""Of a query and documents: one finite number for each. It may be `async`."""


@runtime_checkable
class Scorer(Protocol):
    """Scores texts for the emulator. It is called from several threads at once when `blocking` is true."""

    @property
    def name(self) -> str:
        """Printable ASCII; every answer tells it in the header `x-jina-emulator-scorer`."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether it computes for so long that it has to run in a worker thread."""
        ...

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> Scores:
        """One finite number for each document: 0 to 1 pointwise, in the manner of a cosine listwise."""
        ...

    def embed(self, documents: Sequence[str]) -> list[list[float]]:
        """One vector of unit length for each document, for `return_embeddings`."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens the usage of an answer counts for `text`."""
        ...

    def truncate(self, text: str, max_tokens: int) -> str:
        """The beginning of `text`, for `max_doc_length`."""
        ...


@runtime_checkable
class SelectiveScorer(Protocol):
    """A scorer that leaves texts that it cannot read to another one."""

    def for_texts(self, query: str, documents: Sequence[str]) -> Scorer:
        """Return the scorer for these texts: this one, or another one whose name says so."""
        ...


RIVALRY: Final = 0.1
"""The share of the others' mean score that a document loses in a list."""


def against_rivals(scores: Sequence[float]) -> list[float]:
    """Make scores depend on the list: each loses a tenth of the mean of the others, then is scaled back to [-1, 1].

    Order is kept, and what matches nothing falls below zero, as with the cosines of jina-reranker-v3.
    Documents scored in two parts have other rivals, so their merged scores differ from those of one list.
    """
    others = len(scores) - 1
    if others < 1:
        return list(scores)
    total = math.fsum(scores)
    return [(score - RIVALRY * (total - score) / others) / (1 + RIVALRY) for score in scores]


# Tuned on the 300 test claims of SciFact with 20 BM25 candidates each. Nothing here is about English: there are no
# stop words, and the 4-grams that inflected words share stand for their stem.
_SHORT_WORD: Final = 3
_SHORT_WORD_WEIGHT: Final = 0.3  # the most frequent words of a language are short
_PAIR_WEIGHT: Final = 0.5
_GRAM: Final = 4
_GRAM_WEIGHT: Final = 0.2

_SATURATION: Final = 3.0  # BM25's k1
_LENGTH_PENALTY: Final = 0.75  # BM25's b
_USUAL_LENGTH: Final = 1_500  # characters, a paper's abstract; pointwise there is no list to take the mean of
_HALF: Final = 0.2  # the coverage that scores one half
_FLOOR: Final = 0.001  # the coverage of a text that shares nothing; a blank text has none at all

_LONG: Final = 100_000  # characters, from which to count one feature takes as long as to yield

_DIMENSIONS: Final = 512  # as the vectors of jina-reranker-v3.5


class TextRules:
    """Embeddings and tokens by rules alone, for scorers that have none of their own."""

    def embed(self, documents: Sequence[str]) -> list[list[float]]:
        """Feature hashing of the 4-grams to 512 dimensions; a blank text is the zero vector."""
        return [_hashed(document) for document in documents]

    def count_tokens(self, text: str) -> int:
        """Estimate tokens: one for each four bytes of UTF-8, but no fewer than what white space separates."""
        return count_tokens(text)

    def truncate(self, text: str, max_tokens: int) -> str:
        """Cut where the estimate reaches `max_tokens`."""
        return truncate(text, max_tokens)


class LexicalScorer(TextRules):
    """BM25 over words, pairs of words, CJK bigrams and character 4-grams: any language, no dependency.

    The same scores in every process and on every machine. Pointwise, no statistics of the list are used: every
    feature has the weight of its kind and every length is held against that of an abstract. Listwise, BM25's
    inverse document frequency and mean length come from the list, and `against_rivals` applies.
    """

    name: str = "lexical"
    blocking = False

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> list[float]:
        """Score by how much of the query's weight a document covers; blank texts score lowest."""
        return finish(self.scoring(query, documents, listwise=listwise))

    def scoring(self, query: str, documents: Sequence[str], *, listwise: bool) -> Steps[list[float]]:
        """Score in steps."""
        weights = _features(query)
        indexed: list[str] = []
        for document in documents:
            indexed.append(_index(document))
            yield
        length: float = _USUAL_LENGTH
        if listwise:
            weights = yield from _weigh_by_rarity(weights, indexed)
            length = sum(map(len, indexed)) / max(len(indexed), 1)
        scores: list[float] = []
        for document in indexed:
            coverage = yield from _coverage(document, weights, length)
            scores.append(_relevance(coverage))
        return against_rivals(scores) if listwise else scores


class StandInScorer(LexicalScorer):
    """The lexical scorer, for texts that another one cannot read."""

    def __init__(self, absent: str) -> None:
        self.name: str = f"lexical ({absent} cannot read these texts)"


class FunctionScorer(TextRules):
    """Scores by a function of your own, taken as they are for pointwise and for listwise models.

    Args:
        function: A plain one is called in worker threads, in several at once; an `async` one on the event loop.

    Raises:
        ValueError: It cannot be called with a query and documents.
    """

    def __init__(self, function: ScoreFunction) -> None:
        if not _takes_query_and_documents(function):
            raise ValueError("scorer: expected a Scorer, or a function (query, documents) -> scores")
        self._function = function
        self.blocking: bool = not _is_async(function)
        self.name: str = header_name(getattr(function, "__qualname__", type(function).__qualname__))
        """The function's own."""

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> Scores:  # noqa: ARG002  # a function knows no modes
        """The function's scores."""
        return self._function(query, documents)


def _is_async(function: ScoreFunction) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _takes_query_and_documents(function: object) -> bool:
    if not callable(function) or isinstance(function, type):
        return False
    try:
        inspect.signature(function).bind("query", [])
    except TypeError:
        return False
    except ValueError:  # a function of C that does not tell
        return True
    return True


def as_scorer(scorer: Scorer | ScoreFunction | None) -> Scorer:
    """The scorer that is meant: a function becomes one, None is the lexical one.

    Raises:
        ValueError: It is neither, or its name does not fit into a header.
    """
    if scorer is None:
        return LexicalScorer()
    # A class has its instances' attributes, and is none of them.
    found = scorer if isinstance(scorer, Scorer) and not isinstance(scorer, type) else FunctionScorer(scorer)
    if not (found.name.isascii() and found.name.isprintable()):
        raise ValueError("a scorer's name must be printable ASCII")
    return found


def header_name(name: str) -> str:
    """A name as it can stand in a header."""
    return ascii(name)[1:-1]


def _index(document: str) -> str:
    """The words with two spaces between: every feature of a query can then be counted as a substring."""
    found = words(document)
    return f" {'  '.join(found)} " if found else ""


def _features(query: str) -> dict[str, float]:
    """What to look for in an indexed document, and how much each is worth."""
    found = words(query)
    features = {f" {first}  {second} ": _PAIR_WEIGHT for first, second in pairwise(found)}
    for word in found:
        features |= _cjk_features(word) if is_cjk(word) else _word_features(word)
    return features


def _cjk_features(run: str) -> dict[str, float]:
    return dict.fromkeys([run[i : i + 2] for i in range(len(run) - 1)] or [run], 1.0)


def _word_features(word: str) -> dict[str, float]:
    features = {word[i : i + _GRAM]: _GRAM_WEIGHT for i in range(len(word) - _GRAM + 1)}
    features[f" {word} "] = 1.0 if len(word) > _SHORT_WORD else _SHORT_WORD_WEIGHT
    return features


def _weigh_by_rarity(weights: Mapping[str, float], documents: Sequence[str]) -> Steps[dict[str, float]]:
    """The weights, times BM25's inverse document frequency in this list."""
    count = len(documents)
    rare: dict[str, float] = {}
    for feature, weight in weights.items():
        frequency = sum(feature in document for document in documents)
        rare[feature] = weight * math.log1p((count - frequency + 0.5) / (frequency + 0.5))
        yield
    return rare


def _coverage(document: str, weights: Mapping[str, float], usual_length: float) -> Steps[float]:
    """BM25, as the share of the weight that could be had: 0 to 1."""
    if not document:
        return 0.0
    k = _SATURATION * (1 - _LENGTH_PENALTY + _LENGTH_PENALTY * len(document) / usual_length)
    total = sum(weights.values())
    covered = 0.0
    for feature, weight in weights.items():
        if count := document.count(feature):
            covered += weight * count / (count + k)
        if len(document) > _LONG:
            yield
    yield
    return _FLOOR + (1 - _FLOOR) * covered / total if total else _FLOOR


def _relevance(coverage: float) -> float:
    # A long text that has everything covers about a quarter: spread that over the range users know from Jina.
    return coverage / (coverage + _HALF)


def _hashed(document: str) -> list[float]:
    indexed = _index(document)
    vector = [0.0] * _DIMENSIONS
    grams = [indexed[i : i + _GRAM] for i in range(len(indexed) - _GRAM + 1)] or [indexed]
    for gram in filter(None, grams):
        # Not hash(): that differs from process to process.
        digest = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
        vector[digest % _DIMENSIONS] += 1.0 if digest >> 31 else -1.0
    norm = math.hypot(*vector)
    return [value / norm for value in vector] if norm else vector
