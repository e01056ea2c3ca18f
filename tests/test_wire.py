"""The codec: every shape of answer that servers give, and every rule an answer can break."""

import json
from typing import Any

import pytest

from jina_rerank import ResponseFormatError, Usage
from jina_rerank._codec import Ranking, WireRequest, decode, encode

pytestmark = pytest.mark.smoke


def decoded(answer: Any, *, documents: int = 3, top_n: int | None = None) -> Ranking:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return decode(body, documents=documents, top_n=top_n)


def results(score: str = "relevance_score", **more: Any) -> list[dict[str, Any]]:
    return [{"index": 1, score: 0.9, **more}, {"index": 0, score: 0.5, **more}, {"index": 2, score: 0.1, **more}]


SERVERS: dict[str, tuple[Any, str | None, Usage | None]] = {
    "jina": (
        {"model": "jina-reranker-v3.5", "object": "list", "usage": {"total_tokens": 9}, "results": results()},
        "jina-reranker-v3.5",
        Usage(total_tokens=9),
    ),
    "jina, 2024": (
        {"results": results(document={"text": "a"}), "usage": {"total_tokens": 815, "prompt_tokens": 815}},
        None,
        Usage(total_tokens=815, prompt_tokens=815),
    ),
    "vLLM": (
        {
            "id": "rerank-1",
            "model": "BAAI/bge-reranker-v2-m3",
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
            "results": results(document={"text": "a", "multi_modal": None}),
        },
        "BAAI/bge-reranker-v2-m3",
        Usage(total_tokens=4, prompt_tokens=4),
    ),
    "Infinity": (
        {
            "object": "rerank",
            "results": results(document="a"),
            "model": "mixedbread",
            "usage": {"prompt_tokens": 4, "total_tokens": 5},
            "id": "infinity-1",
            "created": 1_700_000_000,
        },
        "mixedbread",
        Usage(total_tokens=5, prompt_tokens=4),
    ),
    "llama.cpp, unsorted and with every document": (
        {
            "model": "gpt-3.5-turbo",
            "object": "list",
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
            "results": [
                {"index": 0, "relevance_score": 0.5},
                {"index": 1, "relevance_score": 0.9},
                {"index": 2, "relevance_score": 0.1},
            ],
        },
        "gpt-3.5-turbo",
        Usage(total_tokens=7, prompt_tokens=7),
    ),
    "LocalAI": (
        {
            "model": "m",
            "usage": {"total_tokens": 3, "prompt_tokens": 3},
            "results": results(document={"text": "a"}),
        },
        "m",
        Usage(total_tokens=3, prompt_tokens=3),
    ),
    "Xinference": (
        {
            "id": "1",
            "results": results(document=None),
            "meta": {"api_version": None, "billed_units": None, "tokens": None, "warnings": None},
        },
        None,
        None,
    ),
    "Xinference with tokens": (
        {"id": "1", "results": results(), "meta": {"tokens": {"input_tokens": 6, "output_tokens": 0}}},
        None,
        Usage(total_tokens=6, prompt_tokens=6, completion_tokens=0),
    ),
    "LiteLLM": (
        {"id": "1", "results": results(document={"text": "a"}), "meta": {"billed_units": {"total_tokens": 8}}},
        None,
        Usage(total_tokens=8),
    ),
    "Cohere": ({"id": "1", "results": results(), "meta": {"billed_units": {"search_units": 1}}}, None, None),
    "SiliconFlow": (
        {"id": "1", "results": results(document={"text": "a"}), "tokens": {"input_tokens": 5, "output_tokens": 1}},
        None,
        Usage(total_tokens=6, prompt_tokens=5, completion_tokens=1),
    ),
    "new-api": (
        {"results": results(), "usage": {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2}},
        None,
        Usage(total_tokens=2, prompt_tokens=2, completion_tokens=0),
    ),
    "data for results": (
        {"object": "list", "data": results(document="a"), "model": "rerank-2", "usage": {"total_tokens": 2}},
        "rerank-2",
        Usage(total_tokens=2),
    ),
    "SGLang, a bare array": (results("score", document="a", meta_info={}), None, None),
    "TEI, a bare array": (results("score"), None, None),
    "usage that is no count": ({"results": results(), "usage": {"total_tokens": "many"}}, None, None),
}


@pytest.mark.parametrize(("answer", "model", "usage"), SERVERS.values(), ids=SERVERS)
def test_answers_of_compatible_servers_are_decoded(answer: Any, model: str | None, usage: Usage | None) -> None:
    ranking = decoded(answer)
    assert ranking.indices == [1, 0, 2]
    assert ranking.scores == [0.9, 0.5, 0.1]
    assert ranking.model == model
    assert ranking.usage == usage


def test_unknown_fields_are_kept() -> None:
    ranking = decoded({"id": "7", "meta": {"x": 1}, "results": results()})
    assert ranking.extra == {"id": "7", "meta": {"x": 1}}


def test_server_that_ignores_top_n_is_cut_to_the_best() -> None:
    assert decoded({"results": results()[::-1]}, top_n=2).indices == [1, 0]
    assert decoded({"results": results()[:2]}, top_n=2).indices == [1, 0]


def test_scores_pass_through_untouched() -> None:
    scores = [7.74, -11.0, 0]
    ranking = decoded([{"index": i, "score": score} for i, score in enumerate(scores)])
    assert (ranking.indices, ranking.scores) == ([0, 2, 1], [7.74, 0.0, -11.0])
    assert {type(score) for score in ranking.scores} == {float}


def test_embeddings_follow_their_documents() -> None:
    answer = [{"index": i, "relevance_score": i, "embedding": [i, 0.5]} for i in range(3)]
    assert decoded({"results": answer}).embeddings == [[2.0, 0.5], [1.0, 0.5], [0.0, 0.5]]


def one(**fields: Any) -> Any:
    return {"results": [{"index": 0, "relevance_score": 0.5, **fields}]}


BROKEN: dict[str, tuple[Any, str]] = {
    "an index below 0": (one(index=-1), "not between 0 and 0"),
    "an index above": (one(index=1), "not between 0 and 0"),
    "a float index": (one(index=0.0), "not an integer"),
    "a boolean index": (one(index=False), "not an integer"),
    "a text index": (one(index="0"), "not an integer"),
    "no index": ({"results": [{"relevance_score": 1}]}, "needs an index"),
    "no score": ({"results": [{"index": 0}]}, "needs an index"),
    "a null score": (one(relevance_score=None), "not a number"),
    "a boolean score": (one(relevance_score=True), "not a number"),
    "a text score": (one(relevance_score="0.5"), "not a number"),
    "a huge score": (b'{"results": [{"index": 0, "relevance_score": 1e400}]}', "not finite"),
    "a score of 1,000 digits": (b'{"results": [{"index": 0, "relevance_score": ' + b"9" * 1000 + b"}]}", "not finite"),
    "an index of 1,000 digits": (b'{"results": [{"index": ' + b"9" * 1000 + b', "relevance_score": 1}]}', "between"),
    "a result that is no object": ({"results": ["a"]}, "needs an index"),
    "a result that is null": ({"results": [None]}, "needs an index"),
    "results of null": ({"results": None}, "no list of results"),
    "no results": ({"model": "m"}, "no list of results"),
    "an object for results": ({"results": {"index": 0}}, "no list of results"),
    "a number": (3, "no list of results"),
    "too few results": ({"results": []}, "1 results were expected, 0 came"),
    "too many results": ({"results": one()["results"] * 2}, "1 results were expected, 2 came"),
    "an embedding that is text": (one(embedding="AAAA"), "embedding"),
    "an embedding of text": (one(embedding=["a"]), "embedding"),
}


@pytest.mark.parametrize(("answer", "rule"), BROKEN.values(), ids=BROKEN)
def test_invalid_answer_raises_without_retry(answer: Any, rule: str) -> None:
    with pytest.raises(ResponseFormatError, match=rule) as caught:
        decoded(answer, documents=1)
    assert caught.value.should_retry is False


def test_duplicate_index_raises() -> None:
    answer = [{"index": i, "score": 0.5} for i in (0, 1, 1)]
    with pytest.raises(ResponseFormatError, match="twice"):
        decoded(answer)


NOT_JSON = {
    "nothing": (b"", True),
    "blanks": (b" \r\n", True),
    "half an answer": (b'{"results": [{"index": 0, "relev', True),
    "NaN": (b'{"results": [{"index": 0, "relevance_score": NaN}]}', True),
    "Infinity": (b'{"results": [{"index": 0, "relevance_score": -Infinity}]}', True),
    "a byte order mark": (b"\xef\xbb\xbf[]", True),
    "bad UTF-8": (b'{"results": [], "id": "\xff"}', True),
    "something behind": (b"[] []", True),
    "brackets without end": (b"[" * 100_000, True),
    "a page of HTML": (b" <!DOCTYPE html><html></html>", False),
}


@pytest.mark.parametrize(("body", "again"), NOT_JSON.values(), ids=NOT_JSON)
def test_answer_that_is_not_json_raises(body: bytes, again: bool) -> None:
    with pytest.raises(ResponseFormatError) as caught:
        decoded(body)
    assert caught.value.should_retry is again


@pytest.mark.parametrize("text", ["", "naïve", "日本語", "\u202eright to left", "\x00\x1f", "🂡" * 1000, '"\\'])
def test_any_text_reaches_body_unchanged(text: str) -> None:
    body = encode(WireRequest(model="m", query=text, documents=[text, {"image": text}]))
    assert json.loads(body)["documents"] == [text, {"image": text}]
