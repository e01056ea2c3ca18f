"""From a valid request to the response body. No I/O, except in the scorer."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from ..catalog import Model
from .body import Part, RerankBody
from .envelopes import FieldError, invalid, nested, too_long
from .scorers import Scorer


def refuse_unsupported(body: RerankBody, model: Model) -> None:
    """Reject requests that the schema allows but the model does not support.

    Raises:
        RefusedError: 400.
    """
    if isinstance(body.query, dict) and not {"text", "image"} & body.query.keys():
        raise nested(400, "Query object must have a 'text' or 'image' key.", "bad_request")
    if body.return_embeddings and not model.embeddings:
        reason = "scores each query-document pair directly and never forms a document vector"
        raise nested(400, f"{model.name} {reason}, so there is no embedding for it to return.", "bad_request")


def refuse_images(body: RerankBody) -> None:
    """Reject images like the hosted API, whose description has only texts for most models; the error text is a guess.

    Raises:
        RefusedError: 422, with the field of each image.
    """
    parts = [("query", body.query)] + [(f"documents -> {i}", part) for i, part in enumerate(body.documents)]
    errors = [
        FieldError(field=f"body -> {path} -> text", message="Field required", type="missing", input=part)
        for path, part in parts
        if isinstance(part, dict) and "image" in part and "text" not in part
    ]
    if errors:
        raise invalid(errors)


@dataclass(frozen=True, slots=True)
class Reading:
    """The texts that a model reads: documents truncated to `max_doc_length` or the model's limit, and all tokens."""

    query: str
    documents: Sequence[str]
    total_tokens: int
    """Each text counts once, and only the part that the model reads, as on Jina's on-prem server."""


def read(scorer: Scorer, body: RerankBody, model: Model) -> Reading:
    """Return the texts of `body` that `model` reads.

    Raises:
        RefusedError: 400, a text exceeds the model's context and the request forbids truncation.
        Exception: Whatever the scorer raises.
    """
    query = _text(body.query, model)
    documents = [_text(document, model) for document in body.documents]
    tokens = [scorer.count_tokens(text) for text in documents]
    limit = body.max_doc_length or (model.document_tokens if body.truncate else None)
    for index, count in enumerate(tokens):
        if limit is not None and count > limit:
            documents[index] = scorer.truncate(documents[index], limit)
            tokens[index] = scorer.count_tokens(documents[index])
    tokens.append(scorer.count_tokens(query))
    if not body.truncate and max(tokens) > model.context_tokens:
        raise too_long(model.context_tokens)
    return Reading(query, documents, sum(min(count, model.context_tokens) for count in tokens))


def rank(given: Iterable[float], count: int, body: RerankBody) -> list[tuple[int, float]]:
    """Return the indices and scores of the best of `count` documents, from a scorer's scores.

    Raises:
        ValueError: The scores are not `count` finite numbers.
        Exception: Whatever the scorer raises.
    """
    scores = _checked(given, count)
    best = sorted(range(count), key=lambda index: (-scores[index], index))[: body.top_n]
    return [(index, scores[index]) for index in best]


def answer(
    reading: Reading,
    ranking: Sequence[tuple[int, float]],
    embeddings: Sequence[list[float]],
    body: RerankBody,
    model: Model,
) -> dict[str, object]:
    """Return the response body for `body`; `embeddings` are those of the ranked documents, if requested."""
    results = [_result(index, score, body, model) for index, score in ranking]
    if body.return_embeddings:
        results = [result | {"embedding": vector} for result, vector in zip(results, embeddings, strict=True)]
    usage = {"total_tokens": reading.total_tokens}
    return {"model": model.name, "object": "list", "usage": usage, "results": results}


def _result(index: int, score: float, body: RerankBody, model: Model) -> dict[str, object]:
    """Return one result; an unrequested `document` is omitted, not null (measured on the hosted API)."""
    result: dict[str, object] = {"index": index, "relevance_score": score}
    if body.return_documents:
        result["document"] = _echo(body.documents[index], model)
    return result


def _echo(document: Part, model: Model) -> object:
    """Return the document as the model echoes it: pointwise models unchanged, listwise ones always as an object.

    Measured on the hosted API; for an image a listwise model echoes an empty text (on-prem server).
    """
    if model.scoring == "pointwise":
        return document
    return {"text": document if isinstance(document, str) else document.get("text", "")}


def _text(part: Part, model: Model) -> str:
    """Return the text to score: the text itself, or the words in an image's URL if the model reads images."""
    if isinstance(part, str):
        return part
    if "text" in part or not model.images:
        return str(part.get("text", ""))
    return _words_of_url(str(part.get("image", "")))


def _words_of_url(image: str) -> str:
    """Return `red running shoe` for `https://host/a/red-running_shoe.png`, and an empty text for base64."""
    if not re.match(r"https?://", image, re.IGNORECASE):
        return ""
    path = image.partition("#")[0].partition("?")[0].partition("//")[2]
    name = PurePosixPath(unquote(path.partition("/")[2])).stem
    return re.sub(r"[\W_]+", " ", name).strip()


def _checked(given: Iterable[float], count: int) -> list[float]:
    """Return the scores with 8 decimals, like the hosted API, and without negative zeros."""
    scores = [float(score) for score in given]
    if len(scores) != count:
        raise ValueError(f"a scorer must give one number for each document: it gave {len(scores)} for {count}")
    for index, score in enumerate(scores):
        if not math.isfinite(score):
            raise ValueError(f"a scorer must give finite numbers: it gave {score} for document {index}")
    return [round(score, 8) + 0.0 for score in scores]
