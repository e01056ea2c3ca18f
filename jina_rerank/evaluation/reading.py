"""Reading test collections, in BEIR format or as JSON lines."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from ..errors import InvalidRequestError
from .topics import Passage, Topic


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "it is blank")
    return text


def _as_text(id_: Any) -> Any:
    return str(id_) if type(id_) is int else id_


Text = Annotated[str, AfterValidator(_not_blank)]
Id = Annotated[Text, BeforeValidator(_as_text)]


class _Document(BaseModel, strict=True):
    id: Annotated[Id, Field(alias="_id")]
    title: str = ""
    text: str


class _Query(BaseModel, strict=True):
    id: Annotated[Id, Field(alias="_id")]
    text: Text


class _Labelled(BaseModel, strict=True):
    id: Id | None = None
    query: Text
    documents: list[str]
    relevance: list[int]


M = TypeVar("M", _Document, _Query, _Labelled)


def read_topics(path: str | os.PathLike[str]) -> tuple[Topic, ...]:
    """Return the topics of a test collection, without those that have no relevant document and cannot be measured.

    A directory is in BEIR format: `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`),
    `qrels.tsv` (query, document, relevance) and `candidates.tsv` (query, document, rank), the results of a first
    stage. Title and text of a document are ranked together.

    A file has a JSON line per query: `id`, `query`, `documents` in a first stage's order, and `relevance`, an integer
    for each document. A query without an id is named by its line: "line 7". Blank lines are ignored.

    Raises:
        InvalidRequestError: A file cannot be read, or is invalid; the message has the file, the line and the reason.
    """
    place = Path(path)
    found = _beir_topics(place) if place.is_dir() else _labelled_topics(place)
    topics = tuple(topic for topic in found if topic.relevant)
    if not topics:
        raise InvalidRequestError(f"{place}: no query has a relevant document, so there is nothing to measure")
    return topics


def _beir_topics(directory: Path) -> Iterator[Topic]:
    passages = {
        document.id: Passage(document.id, f"{document.title} {document.text}".strip())
        for _, document in _json_lines(directory / "corpus.jsonl", _Document)
    }
    queries = {query.id: query.text for _, query in _json_lines(directory / "queries.jsonl", _Query)}
    relevance = _table(directory / "qrels.tsv", queries, "relevance")
    ranks = _table(directory / "candidates.tsv", queries, "rank", documents=passages)
    for id_, text in queries.items():
        found = ranks[id_]
        candidates = tuple(passages[document] for document in sorted(found, key=lambda document: found[document]))
        yield Topic(id_, text, candidates, relevance[id_])


def _labelled_topics(file: Path) -> Iterator[Topic]:
    for number, line in _json_lines(file, _Labelled):
        where = f"{file}, line {number}"
        if len(line.documents) != len(line.relevance):
            raise InvalidRequestError(
                f"{where}: relevance has {len(line.relevance)} numbers for {len(line.documents)} documents; "
                "give one for each"
            )
        passages = tuple(Passage(str(position), text) for position, text in enumerate(line.documents))
        relevance = {passage.id: grade for passage, grade in zip(passages, line.relevance, strict=True)}
        yield Topic(line.id or f"line {number}", line.query, passages, relevance)


def _table(
    file: Path, queries: Mapping[str, str], value: str, *, documents: Mapping[str, Passage] | None = None
) -> Mapping[str, dict[str, int]]:
    """Return the third column by query and document; ids must be in `queries` and, if given, in `documents`."""
    table: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for number, line in _lines(file):
        where = f"{file}, line {number}"
        cells = line.split("\t")
        if len(cells) != 3:
            raise InvalidRequestError(
                f"{where}: expected query, document and {value} with tabs between; got {len(cells)} columns"
            )
        query, document, text = cells
        try:
            number_ = int(text)
        except ValueError:
            if number == 1 and query not in queries:
                continue  # the header
            raise InvalidRequestError(f"{where}: {value} must be an integer") from None
        if query not in queries:
            raise InvalidRequestError(f"{where}: queries.jsonl has no query {query!r}")
        if documents is not None and document not in documents:
            raise InvalidRequestError(f"{where}: corpus.jsonl has no document {document!r}")
        if document in table[query]:
            raise InvalidRequestError(f"{where}: document {document!r} is duplicated for query {query!r}")
        table[query][document] = number_
    return table


def _json_lines(file: Path, kind: type[M]) -> Iterator[tuple[int, M]]:
    """Yield the number and the parsed content of each line."""
    seen: set[str] = set()
    for number, line in _lines(file):
        where = f"{file}, line {number}"
        try:
            read = kind.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise InvalidRequestError(f"{where}: {name + ': ' if name else ''}{first['msg']}") from None
        if read.id in seen:
            raise InvalidRequestError(f"{where}: the id {read.id!r} is a duplicate of one on an earlier line")
        if read.id is not None:
            seen.add(read.id)
        yield number, read


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as opened:
            for number, line in enumerate(opened, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as error:
        raise InvalidRequestError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{file} is not UTF-8; convert it") from None
