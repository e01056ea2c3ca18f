"""The emulator's scorers: the protocol, and those that need no dependencies.

A pointwise score depends on the query and one document only; listwise scores depend on the whole list, as with
jina-reranker-v3 and v3.5. Only listwise scores reveal a client that merges the parts of a split list wrongly.
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
"""The response header in which the emulator names its scorer."""

Scores: TypeAlias = Iterable[float] | Awaitable[Iterable[float]]
"""The scores of a scorer: numbers or, if it does not block, an awaitable of them."""

ScoreFunction: TypeAlias = Callable[[str, Sequence[str]], Scores]
"""A function of a query and documents that returns one finite number for each document. It may be `async`."""


@runtime_checkable
class Scorer(Protocol):
    """A source of scores for the emulator. If `blocking` is true, several threads call it concurrently."""

    @property
    def name(self) -> str:
        """Printable ASCII, sent in the header `x-jina-emulator-scorer` of every response."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether it takes so long that it must run in a worker thread."""
        ...

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> Scores:
        """Return one finite number for each document: 0 to 1 pointwise, -1 to 1 like a cosine listwise."""
        ...

    def embed(self, documents: Sequence[str]) -> list[list[float]]:
        """Return one vector of unit length for each document, for `return_embeddings`."""
        ...

    def count_tokens(self, text: str) -> int:
        """Return the tokens of `text`, for the usage of a response."""
        ...

    def truncate(self, text: str, max_tokens: int) -> str:
        """Return the beginning of `text`, for `max_doc_length`."""
        ...


@runtime_checkable
class SelectiveScorer(Protocol):
    """A scorer that delegates texts that it cannot read to another one."""

    def for_texts(self, query: str, documents: Sequence[str]) -> Scorer:
        """Return the scorer for these texts: this one, or a substitute whose name says so."""
        ...


RIVALRY: Final = 0.1
"""The share of the mean score of the other documents that a listwise score loses."""


def against_rivals(scores: Sequence[float]) -> list[float]:
    """Make scores depend on the list: each loses a tenth of the mean of the others, then is scaled back to [-1, 1].

    The order stays the same, and documents that match nothing get negative scores, as with jina-reranker-v3's cosines.
    Documents of a list scored in two parts have other rivals, so their scores differ from those of the whole list.
    """
    others = len(scores) - 1
    if others < 1:
        return list(scores)
    total = math.fsum(scores)
    return [(score - RIVALRY * (total - score) / others) / (1 + RIVALRY) for score in scores]


# Tuned on the 300 test claims of SciFact with 20 BM25 candidates each. Nothing here is specific to English: there are
# no stop words, and shared 4-grams take the place of stemming.
_MAX_SHORT_WORD_LENGTH: Final = 3
_SHORT_WORD_WEIGHT: Final = 0.3  # the most frequent words of a language are short
_PAIR_WEIGHT: Final = 0.5
_GRAM_LENGTH: Final = 4
_GRAM_WEIGHT: Final = 0.2

_SATURATION: Final = 3.0  # BM25's k1
_LENGTH_PENALTY: Final = 0.75  # BM25's b
_USUAL_LENGTH: Final = 1_500  # characters of a paper's abstract; a pointwise scorer has no list to compute a mean from
_HALF_SCORE_COVERAGE: Final = 0.2  # the coverage that scores one half
_MIN_COVERAGE: Final = 0.001  # the coverage of a text that shares nothing with the query; a blank text has 0

_LONG_TEXT: Final = 100_000  # characters; above it, counting one feature takes as long as a yield

_DIMENSIONS: Final = 512  # as in the vectors of jina-reranker-v3.5


class TextRules:
    """Rule-based embeddings and token counts, for scorers without a model for them."""

    def embed(self, documents: Sequence[str]) -> list[list[float]]:
        """Return the 4-grams, hashed to 512 dimensions; a blank text gives the zero vector."""
        return [_hashed(document) for document in documents]

    def count_tokens(self, text: str) -> int:
        """Estimate the tokens: one per four bytes of UTF-8, but at least the number of words."""
        return count_tokens(text)

    def truncate(self, text: str, max_tokens: int) -> str:
        """Return the beginning of the text, cut where the estimate reaches `max_tokens`."""
        return truncate(text, max_tokens)


class LexicalScorer(TextRules):
    """BM25 over words, pairs of words, CJK bigrams and character 4-grams: any language, no dependency.

    Scores are the same in every process and on every machine. Pointwise scores use no statistics of the list: each
    feature has the weight of its kind, and lengths are relative to that of an abstract. Listwise scores take BM25's
    inverse document frequency and mean length from the list, and `against_rivals` applies.
    """

    name: str = "lexical"
    blocking = False

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> list[float]:
        """Return the share of the query's weight that each document covers; blank texts score lowest."""
        return finish(self.scoring(query, documents, listwise=listwise))

    def scoring(self, query: str, documents: Sequence[str], *, listwise: bool) -> Steps[list[float]]:
        """Compute the scores in steps."""
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
    """The lexical scorer as a substitute for one that cannot read the texts."""

    def __init__(self, absent: str) -> None:
        self.name: str = f"lexical ({absent} cannot read these texts)"


class FunctionScorer(TextRules):
    """A scorer that calls your function, and uses its scores unchanged for pointwise and listwise models.

    Args:
        function: A plain function, called in several worker threads concurrently, or an `async` one, called on the
            event loop.

    Raises:
        ValueError: The function cannot be called with a query and documents.
    """

    def __init__(self, function: ScoreFunction) -> None:
        if not _takes_query_and_documents(function):
            raise ValueError("scorer: expected a Scorer, or a function (query, documents) -> scores")
        self._function = function
        self.blocking: bool = not _is_async(function)
        self.name: str = header_name(getattr(function, "__qualname__", type(function).__qualname__))
        """The name of the function."""

    def score(self, query: str, documents: Sequence[str], *, listwise: bool) -> Scores:  # noqa: ARG002  # the same scores for both
        """Return the function's scores."""
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
    except ValueError:  # a C function without a signature
        return True
    return True


def as_scorer(scorer: Scorer | ScoreFunction | None) -> Scorer:
    """Return the scorer itself, a function wrapped as one, or the lexical scorer for None.

    Raises:
        ValueError: The argument is neither a scorer nor a function, or its name is not allowed in a header.
    """
    if scorer is None:
        return LexicalScorer()
    # A class has the attributes of its instances too, but is not a scorer.
    found = scorer if isinstance(scorer, Scorer) and not isinstance(scorer, type) else FunctionScorer(scorer)
    if not (found.name.isascii() and found.name.isprintable()):
        raise ValueError("a scorer's name must be printable ASCII")
    return found


def header_name(name: str) -> str:
    """Return the name escaped for a header."""
    return ascii(name)[1:-1]


def _index(document: str) -> str:
    """Return the words separated by two spaces, so that each feature of a query can be counted as a substring."""
    found = words(document)
    return f" {'  '.join(found)} " if found else ""


def _features(query: str) -> dict[str, float]:
    """Return the features to count in an indexed document, with their weights."""
    found = words(query)
    features = {f" {first}  {second} ": _PAIR_WEIGHT for first, second in pairwise(found)}
    for word in found:
        features |= _cjk_features(word) if is_cjk(word) else _word_features(word)
    return features


def _cjk_features(run: str) -> dict[str, float]:
    return dict.fromkeys([run[i : i + 2] for i in range(len(run) - 1)] or [run], 1.0)


def _word_features(word: str) -> dict[str, float]:
    features = {word[i : i + _GRAM_LENGTH]: _GRAM_WEIGHT for i in range(len(word) - _GRAM_LENGTH + 1)}
    features[f" {word} "] = 1.0 if len(word) > _MAX_SHORT_WORD_LENGTH else _SHORT_WORD_WEIGHT
    return features


def _weigh_by_rarity(weights: Mapping[str, float], documents: Sequence[str]) -> Steps[dict[str, float]]:
    """Multiply the weights by BM25's inverse document frequency in this list."""
    count = len(documents)
    rare: dict[str, float] = {}
    for feature, weight in weights.items():
        frequency = sum(feature in document for document in documents)
        rare[feature] = weight * math.log1p((count - frequency + 0.5) / (frequency + 0.5))
        yield
    return rare


def _coverage(document: str, weights: Mapping[str, float], usual_length: float) -> Steps[float]:
    """Compute BM25 as a share of the maximum weight, 0 to 1."""
    if not document:
        return 0.0
    k = _SATURATION * (1 - _LENGTH_PENALTY + _LENGTH_PENALTY * len(document) / usual_length)
    total = sum(weights.values())
    covered = 0.0
    for feature, weight in weights.items():
        if count := document.count(feature):
            covered += weight * count / (count + k)
        if len(document) > _LONG_TEXT:
            yield
    yield
    return _MIN_COVERAGE + (1 - _MIN_COVERAGE) * covered / total if total else _MIN_COVERAGE


def _relevance(coverage: float) -> float:
    # A long text that contains every feature has a coverage of about 0.25: map that to Jina's usual range.
    return coverage / (coverage + _HALF_SCORE_COVERAGE)


def _hashed(document: str) -> list[float]:
    indexed = _index(document)
    vector = [0.0] * _DIMENSIONS
    grams = [indexed[i : i + _GRAM_LENGTH] for i in range(len(indexed) - _GRAM_LENGTH + 1)] or [indexed]
    for gram in filter(None, grams):
        # Not hash(), which differs between processes.
        digest = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
        vector[digest % _DIMENSIONS] += 1.0 if digest >> 31 else -1.0
    norm = math.hypot(*vector)
    return [value / norm for value in vector] if norm else vector
