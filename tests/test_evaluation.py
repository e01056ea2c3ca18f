"""Evaluation: the data that goes in, the figures, the report, and the command; against the emulator and by hand."""

import asyncio
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("ir_measures")
pytest.importorskip("uvicorn")
pytest.importorskip("typer")

import numpy as np

from jina_rerank import (
    BadRequestError,
    InvalidRequestError,
    RerankClient,
    RetryPolicy,
    ServerError,
    SyncRerankClient,
)
from jina_rerank.emulator import serve
from jina_rerank.evaluation import Passage, Topic, evaluate, read_topics, report, sample, write_report
from jina_rerank.evaluation.quality import quality
from jina_rerank.evaluation.statistics import estimate, holm, p_value

from .servers import RawServer, http, send
from .test_cli import call, command, on_terminal, refused, without_styles

stats = pytest.importorskip("scipy.stats")  # to compare with


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with serve() as server:
        yield server.url


def topic(id_: str, *labelled: tuple[str, int]) -> Topic:
    """Candidates by id and relevance. The text of each is its id."""
    return Topic(id_, f"query {id_}", tuple(Passage(name, name) for name, _ in labelled), dict(labelled))


def scoring(score: Callable[[str], float], **options: Any) -> RerankClient:
    """A client of the hosted API, whose scores depend on the text alone; each document has a million tokens."""

    def answer(request: httpx.Request) -> httpx.Response:
        documents = json.loads(request.content)["documents"]
        results = [{"index": index, "relevance_score": score(text)} for index, text in enumerate(documents)]
        usage = {"total_tokens": 1_000_000 * len(documents)}
        return httpx.Response(200, json={"model": "m", "usage": usage, "results": results})

    transport = httpx.MockTransport(answer)
    return RerankClient("jina_test", http_client=lambda: httpx.AsyncClient(transport=transport), **options)


# The data


def beir(directory: Path, **files: str) -> Path:
    """A test collection in BEIR's form, with some files replaced."""
    usual = {
        "corpus.jsonl": '{"_id": "a", "title": "T", "text": "first"}\n{"_id": "b", "text": "second"}\n',
        "queries.jsonl": '{"_id": "1", "text": "one"}\n{"_id": "2", "text": "two"}\n',
        "qrels.tsv": "query-id\tcorpus-id\tscore\n1\tb\t2\n1\tgone\t1\n",
        "candidates.tsv": "query-id\tcorpus-id\trank\n1\tb\t2\n1\ta\t1\n",
    }
    for name, text in {**usual, **{name.replace("_", "."): text for name, text in files.items()}}.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def test_beir_directory_is_read(tmp_path: Path) -> None:
    # The second query has nothing relevant; a relevant document that the first stage did not find counts.
    [only] = read_topics(beir(tmp_path))
    assert (only.id, only.query) == ("1", "one")
    assert only.candidates == (Passage("a", "T first"), Passage("b", "second"))
    assert only.relevance == {"b": 2, "gone": 1}


@pytest.mark.parametrize(
    ("file", "text", "rule"),
    [
        ("corpus_jsonl", '{"_id": "a", "text": "x"}\nnone', "corpus.jsonl, line 2: Invalid JSON"),
        ("corpus_jsonl", '\n{"_id": 7.5, "text": "x"}', "corpus.jsonl, line 2: _id: Input should be a valid string"),
        ("corpus_jsonl", '{"_id": "a"}', "corpus.jsonl, line 1: text: Field required"),
        ("queries_jsonl", '{"_id": "1", "text": " "}', "queries.jsonl, line 1: text: it is blank"),
        (
            "queries_jsonl",
            '{"_id": "1", "text": "x"}\n' * 2,
            "queries.jsonl, line 2: the id '1' is a duplicate of one on an earlier",
        ),
        ("qrels_tsv", "1\tb\n", "qrels.tsv, line 1: expected query, document and relevance with tabs between; got 2"),
        ("qrels_tsv", "h\th\th\n1\tb\thigh\n", "qrels.tsv, line 2: relevance must be an integer"),
        ("qrels_tsv", "1\tb\t1.5\n", "qrels.tsv, line 1: relevance must be an integer"),
        ("qrels_tsv", "9\tb\t1\n", "qrels.tsv, line 1: queries.jsonl has no query '9'"),
        ("qrels_tsv", "1\tb\t0\n", "no query has a relevant document"),
        ("candidates_tsv", "1\tc\t1\n", "candidates.tsv, line 1: corpus.jsonl has no document 'c'"),
        ("candidates_tsv", "1\ta\t1\n1\ta\t2\n", "candidates.tsv, line 2: document 'a' is duplicated for query '1'"),
    ],
)
def test_invalid_file_is_refused_with_its_rule(tmp_path: Path, file: str, text: str, rule: str) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(rule)) as refusal:
        read_topics(beir(tmp_path, **{file: text}))
    assert str(tmp_path) in refusal.value.message


def test_missing_file_and_invalid_utf_8_are_refused(tmp_path: Path) -> None:
    directory = beir(tmp_path)
    (directory / "qrels.tsv").write_bytes(b"1\tb\xe8\t1\n")
    with pytest.raises(InvalidRequestError, match=r"qrels\.tsv is not UTF-8"):
        read_topics(directory)
    (directory / "qrels.tsv").unlink()
    with pytest.raises(InvalidRequestError, match=r"qrels\.tsv cannot be read: No such file"):
        read_topics(directory)


def test_file_of_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    line = {"id": "q", "query": "one", "documents": ["x", "x"], "relevance": [0, 1]}
    file.write_text(json.dumps(line) + "\n")
    [only] = read_topics(str(file))
    assert [passage.text for passage in only.candidates] == ["x", "x"]
    assert [only.is_relevant(passage.id) for passage in only.candidates] == [False, True]
    # As `jina-rerank bulk` takes it: numbers as ids, none, and blank lines.
    lines = [json.dumps({**line, "id": 7}), "", json.dumps({**line, "id": None}), json.dumps({**line, "id": 8})]
    file.write_text("\n".join(lines) + "\n\n")
    assert [found.id for found in read_topics(file)] == ["7", "line 3", "8"]


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text('{"id": "q", "query": "one", "documents": ["x", "y"], "relevance": [0]}\n')
    with pytest.raises(InvalidRequestError, match=r"labelled\.jsonl, line 1: relevance has 1 numbers for 2 documents"):
        read_topics(file)


# The figures


def test_quality() -> None:
    # One relevant document in the second place, one in the eleventh, and one of two in the first.
    topics = [topic(id_, *((str(place), int(str(place) in found)) for place in range(20))) for id_, found in JUDGED]
    found = quality(topics, [[passage.id for passage in one.candidates] for one in topics], 10)
    assert found["nDCG"] == pytest.approx([0.63093, 0.0, 0.61315], abs=1e-5)  # 1 / log2(3), 0, 1 / (1 + 1 / log2(3))
    assert found["MRR"] == pytest.approx([0.5, 0.0, 1.0])
    assert found["recall"] == pytest.approx([1.0, 0.0, 0.5])


JUDGED = [("a", {"1"}), ("b", {"10"}), ("c", {"0", "15"})]


def test_interval_is_that_of_the_bootstrap() -> None:
    values = np.random.default_rng(7).beta(2, 1, 80)
    found = estimate(values.tolist())
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert estimate(values.tolist()) == found


def test_p_value_is_that_of_the_randomisation_test() -> None:
    differences = np.random.default_rng(7).normal(0.2, 1, 60)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=10_000, rng=1
    ).pvalue
    assert p_value(differences.tolist()) == pytest.approx(expected, abs=0.02)
    assert p_value([0.0] * 10) == 1.0
    assert p_value([0.1] * 4) == pytest.approx(2 / 2**4, abs=0.02)  # all signs equal
    assert p_value([0.1] * 60) < 0.001


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]


# The whole


TOPICS = [topic(str(number), ("bad", 0), ("good", 1), ("worse", 0), ("fair", 1)) for number in range(10)]
SCORES = {"good": 0.9, "fair": 0.5, "bad": 0.3, "worse": -0.2}


def test_perfect_reranker_scores_one() -> None:
    found = evaluate(TOPICS, {"knows": scoring(SCORES.__getitem__)}, cutoff=2)
    given, knows = found.results
    assert [result.name for result in found.results] == ["no rerank", "knows"]
    assert [given.mean("nDCG"), given.mean("MRR"), given.mean("recall")] == pytest.approx([0.38685, 0.5, 0.5], abs=1e-5)
    assert [knows.mean("nDCG"), knows.mean("MRR"), knows.mean("recall")] == [1, 1, 1]
    assert found.best is knows
    # All that is relevant scores 0.5 and more, everything else 0.3 and less.
    assert (given.top_n.top_n, given.top_n.recall, given.threshold) == (4, 1.0, None)
    assert (knows.top_n.top_n, knows.top_n.recall, knows.top_n.candidates) == (2, 1.0, 4)
    assert knows.threshold is not None
    assert knows.threshold.score == pytest.approx(0.4)
    assert (knows.threshold.precision, knows.threshold.recall, knows.threshold.f1) == (1, 1, 1)
    assert (knows.threshold.kept, knows.threshold.empty) == (2, 0)
    assert knows.held_out == knows.threshold
    [pair] = found.compare()
    assert (pair.first, pair.second) == ("no rerank", "knows")
    assert pair.difference.low == pair.difference.mean == pytest.approx(0.61315, abs=1e-5)
    assert pair.p_value < 0.01
    assert found.rivals == []


def test_contenders_tied_with_best_are_marked() -> None:
    good, bad = scoring(SCORES.__getitem__), scoring(lambda text: -SCORES[text])
    found = evaluate(TOPICS, {"bad": bad, "good": good, "as good": good})
    assert (found.best.name, found.rivals) == ("good", ["as good"])


def test_thresholds_where_scores_overlap() -> None:
    topics = [topic("1", ("a", 1), ("b", 0), ("c", 1), ("d", 0)), topic("2", ("e", 0), ("f", 1), ("g", 0))]
    scores = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.1, "e": 0.6, "f": 0.05, "g": 0.07}
    result = evaluate(topics, {"mixed": scoring(scores.__getitem__)}).results[1]
    assert result.threshold is not None
    # a, b, c: 2 of 3 relevant, of 3 in all; f, the third, comes after everything else.
    assert result.threshold.score == pytest.approx(0.65)
    assert (result.threshold.precision, result.threshold.recall) == pytest.approx((2 / 3, 2 / 3))
    assert (result.threshold.kept, result.threshold.empty) == (1.5, 0.5)
    # Each half chooses for the other: the first keeps a, b and c, the second everything.
    assert result.held_out is not None
    assert result.held_out.score == pytest.approx((0.4 + 0.05) / 2)


def test_cost_is_reported() -> None:
    result = evaluate(TOPICS, {"hosted": scoring(SCORES.__getitem__)}).results[1]
    assert (result.run.calls, result.run.attempts, result.run.tokens) == (10, 10, 40_000_000)
    assert result.run.price == pytest.approx(2.0)  # 0.05 USD a million
    assert result.price_per_thousand == pytest.approx(200)
    assert list(result.latencies) == ["p50", "p95", "p99"]
    assert sorted(result.latencies.values()) == list(result.latencies.values())


def test_real_data_and_several_contenders(emulator: str) -> None:
    contenders = {
        "listwise": SyncRerankClient("jina_test", base_url=emulator),
        "pointwise": SyncRerankClient("jina_test", base_url=emulator, model="jina-reranker-m0"),
    }
    answers: list[str] = []
    found = evaluate(sample()[:12], contenders, on_answer=answers.append)
    assert answers == ["listwise"] * 12 + ["pointwise"] * 12
    assert [(pair.first, pair.second) for pair in found.compare()] == [
        ("no rerank", "listwise"),
        ("no rerank", "pointwise"),
        ("listwise", "pointwise"),
    ]
    assert all(result.price_per_thousand is None for result in found.results)
    data = json.loads(json.dumps(found.to_dict()))
    assert [one["name"] for one in data["contenders"]] == ["no rerank", "listwise", "pointwise"]
    for client in contenders.values():
        assert client.rerank("still", ["open"]).documents == ["open"]
        client.close()


def test_unsent_request_has_no_latency() -> None:
    nothing = Topic("none", "q", (), {"a": 1})
    blank = Topic("blank", "q", (Passage("a", " "),), {"a": 1})
    run = evaluate([*TOPICS, nothing, blank], {"knows": scoring(SCORES.__getitem__)}).results[1].run
    assert (len(run.rankings), run.calls, len(run.latencies)) == (12, 10, 10)


def test_evaluation_works_inside_event_loop() -> None:
    async def cell() -> float:
        return evaluate(TOPICS, {"knows": scoring(SCORES.__getitem__)}).results[1].mean("nDCG")

    assert asyncio.run(cell()) == 1


# Failures


def test_call_that_fails_ends_the_evaluation(raw_server: RawServer) -> None:
    raw_server.plays = [send(http(b'{"detail": "no such model"}', 400))]
    client = RerankClient(base_url=raw_server.url)
    with pytest.raises(BadRequestError, match="no such model") as failure:
        evaluate(TOPICS, {"broken": client})
    assert re.fullmatch(r"query '\d'", failure.value.__notes__[0])
    assert len(raw_server.requests) <= 2


def test_fallback_is_not_evaluated_as_ranking(raw_server: RawServer) -> None:
    raw_server.plays = [send(http(b"{}", 500))]
    client = RerankClient(base_url=raw_server.url, retry=RetryPolicy(max_attempts=1), fallback="original_order")
    with pytest.raises(ServerError):
        evaluate(TOPICS, {"falls back": client})


@pytest.mark.parametrize(
    ("topics", "options", "rule"),
    [
        ([], {}, "data: each topic needs a relevant document"),
        ([topic("1", ("a", 0))], {}, "data: each topic needs a relevant document"),
        ([*TOPICS, TOPICS[0]], {}, "data: two topics have the same id"),
        ([Topic("1", "q", (Passage("a", "a"),), {"b": 1})], {}, "data: no candidate is relevant"),
        ([Topic("1", "q", (Passage("a", " "),), {"a": 1})], {}, "data: no candidate is relevant"),
        ([Topic("1", "q", (Passage("a", "a"),) * 2, {"a": 1})], {}, "data: two candidates of query '1' have the same"),
        ([topic("1", ("a", 0.5))], {}, "data: the relevance of each document is an integer; query '1' has others"),  # type: ignore[arg-type]  # it is what is wrong
        (TOPICS, {"cutoff": 0}, "cutoff: expected a positive integer; got 0"),
        (TOPICS, {"at_once": 0}, "at_once: expected a positive integer; got 0"),
    ],
)
def test_arguments_that_break_a_rule(topics: list[Topic], options: dict[str, int], rule: str) -> None:
    with pytest.raises(InvalidRequestError, match=rule):
        evaluate(topics, {}, **options)  # type: ignore[arg-type]  # the options are numbers


def test_name_of_original_order_is_reserved() -> None:
    with pytest.raises(InvalidRequestError, match="'no rerank' is the order given, which always competes"):
        evaluate(TOPICS, {"no rerank": scoring(SCORES.__getitem__)})


# The report


def test_report_has_the_numbers() -> None:
    found = evaluate(TOPICS, {"kn*ws|all": scoring(SCORES.__getitem__)}, cutoff=2, title="ten <queries>")
    lines = report(found).splitlines()
    assert lines[0] == r"# Rerankers on ten \<queries\>"
    assert "- 10 queries with 4 candidates each, and 20 relevant documents." in lines
    assert r"| kn\*ws\|all | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] |" in lines
    assert any(
        re.fullmatch(r"\| kn\\\*ws\\\|all against no rerank \| \+0\.613 .* \| significant \|", line) for line in lines
    )
    assert r"| kn\*ws\|all | 2 | 1.000 | 1.000 | 4 |" in lines
    assert "  With fewer than 15 queries, the intervals are too narrow to trust." in lines
    assert "| highest F1 | 0.4000 | 1.000 | 1.000 | 1.000 | 2.0 | 0.0 % |" in lines
    assert any("| 10 | 40,000,000 | 200.00 |" in line for line in lines)


def test_report_and_its_plots_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = evaluate(TOPICS, {"knows": scoring(SCORES.__getitem__), "errs": scoring(lambda text: -SCORES[text])})
    file = write_report(found, tmp_path / "new" / "place")
    shown = re.findall(r"!\[[\w ]+\]\((\w+\.svg)\)", file.read_text())
    assert shown == ["quality.svg", "scores.svg", "thresholds.svg"]
    texts = {name: " ".join(ET.parse(file.parent / name).getroot().itertext()) for name in shown}
    assert all("knows" in text and "errs" in text for text in texts.values())
    assert "US dollars for 1,000 queries" in texts["quality.svg"]
    assert "highest F1: 0.4000" in texts["thresholds.svg"]
    again = write_report(found, tmp_path)
    assert [(again.parent / name).read_bytes() for name in shown] == [
        (file.parent / name).read_bytes() for name in shown
    ]


def test_names_and_scores_that_are_hard_to_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = ["v3 ($0.05) or v2 ($0.02)", r"$\frac$", "_hidden", "a<b>&c"]
    all_relevant = [topic("1", ("a", 1)), topic("2", ("b", 2))]
    found = evaluate(all_relevant, {name: scoring(lambda _: 1e-6) for name in names}, title="equal")
    write_report(found, tmp_path)
    texts = [text.strip() for text in ET.parse(tmp_path / "quality.svg").getroot().itertext()]
    assert [text for text in texts if text.startswith("1.000  ")] == [
        f"1.000  {name}" for name in ("no rerank", *names)
    ]
    assert "| highest F1 | 1.000e-06 |" in report(found)


def test_without_a_reranker_there_is_no_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert "svg" not in write_report(evaluate(TOPICS, {}), tmp_path).read_text()


# The command


def test_pipe_gets_a_table_with_tabs() -> None:
    result = call("eval", "sample", "lexical", "-k", "5")
    doubt = "highest nDCG@5: no rerank; its lead over lexical may be chance"
    assert (result.exit_code, result.stderr) == (0, f"jina-rerank: {doubt}\n")
    header, given, lexical = (line.split("\t") for line in result.stdout.splitlines())
    assert header == ["contender", "nDCG@5", "MRR@5", "recall@5", "p95 s", "tokens", "top_n", "threshold"]
    assert (given[0], given[4], given[5], given[7]) == ("no rerank", "", "", "")
    assert lexical[0] == "lexical"
    assert all(0 < float(number) <= 1 for number in (*given[1:4], *lexical[1:4]))


def test_models_and_servers(emulator: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JINA_RERANK_BASE_URL", emulator)
    monkeypatch.setenv("JINA_API_KEY", "jina_test")
    file = tmp_path / "labelled.jsonl"
    file.write_text('{"id": "q", "query": "tyre", "documents": ["soup", "tyre"], "relevance": [0, 1]}\n')
    with RawServer(
        send(http(b'{"results": [{"index": 1, "relevance_score": 2}, {"index": 0, "relevance_score": 1}]}'))
    ) as own:
        named = f"some/model@{own.url}"
        result = call("eval", str(file), "jina-reranker-m0", named, "--json", "--report", str(tmp_path / "out"))
        [(headers, body)] = own.requests
    assert result.exit_code == 0, result.stderr
    assert result.stderr == f"jina-rerank: the report is in {tmp_path}/out/report.md\n"
    data = json.loads(result.stdout)
    assert (data["data"], data["best"]) == ("labelled.jsonl", "jina-reranker-m0")
    assert [one["model"] for one in data["contenders"]] == [None, "jina-reranker-m0", None]
    assert [one["nDCG"]["mean"] for one in data["contenders"][1:]] == [1, 1]
    assert json.loads(body)["model"] == "some/model"
    assert "authorization" not in headers


def test_scores_of_an_emulator_name_its_scorer_beside_the_model(
    emulator: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("JINA_RERANK_BASE_URL", emulator)
    monkeypatch.setenv("JINA_API_KEY", "jina_test")
    file = tmp_path / "labelled.jsonl"
    file.write_text('{"id": "q", "query": "tyre", "documents": ["soup", "tyre"], "relevance": [0, 1]}\n')
    asked = ("eval", str(file), "jina-reranker-m0", "lexical", "--report", str(tmp_path))
    named = "jina-reranker-m0 (emulator: lexical)"
    result = call(*asked)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()[1:]] == ["no rerank", named, "lexical"]
    assert f"highest nDCG@10: {named}; its lead over no rerank and lexical may be chance" in result.stderr
    written = (tmp_path / "report.md").read_text()
    assert written.count(named) == written.count("jina-reranker-m0") >= 6
    assert named in " ".join(ET.parse(tmp_path / "quality.svg").getroot().itertext())
    data = json.loads(call(*asked, "--json").stdout)
    assert [(one["name"], one["scorer"]) for one in data["contenders"]] == [
        ("no rerank", None),
        ("jina-reranker-m0", "lexical"),
        ("lexical", "lexical"),
    ]


def test_key_of_a_variable_goes_to_the_url_that_contends(
    raw_server: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text('{"id": "q", "query": "tyre", "documents": ["soup", "tyre"], "relevance": [0, 1]}\n')
    raw_server.plays = [
        send(http(b'{"results": [{"index": 1, "relevance_score": 2}, {"index": 0, "relevance_score": 1}]}'))
    ]
    monkeypatch.setenv("MY_KEY", "sk-mine")
    arguments = ("eval", str(file), f"m@{raw_server.url}", "--api-key-variable", "MY_KEY", "--max-doc-length", "7")
    assert call(*arguments).exit_code == 0
    [(headers, body)] = raw_server.requests
    assert (headers["authorization"], json.loads(body)["max_doc_length"]) == ("Bearer sk-mine", 7)
    refused(call(*arguments, "m@https://other.example"), 2, "the key would be sent to several servers")
    assert len(raw_server.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["missing", "lexical"], "missing cannot be read: No such file"),
        (["sample", "lexical", "lexical"], "a contender is named twice"),
        (
            ["sample", "jina-reranker-v3.5"],
            "jina-reranker-v3.5 is read as a model's name: Jina's API needs a key: set JINA_API_KEY",
        ),
        (["sample", "lexical", "lexica"], "lexica is read as a model's name: "),
        (["sample", "m@http://"], "MODEL@URL: expected http"),
        (["sample", "no_such_module:scores"], "scorer no_such_module:scores: ModuleNotFoundError"),
        (["sample", "a-model:latest"], "JINA_API_KEY"),
    ],
)
def test_wrong_use(arguments: list[str], part: str) -> None:
    refused(call("eval", *arguments), 2, part)


def test_password_in_a_bad_url_is_not_repeated() -> None:
    result = call("eval", "sample", "http://me:secret@host/")
    refused(result, 2, "MODEL@URL: ")
    assert "secret" not in result.stdout + result.stderr


def test_server_that_fails(raw_server: RawServer) -> None:
    raw_server.plays = [send(http(b'{"detail": "no such model"}', 400))]
    refused(call("eval", "sample", raw_server.url), 1, "HTTP 400: no such model", "query '")


def test_unwritable_report_is_refused_before_sending(tmp_path: Path, raw_server: RawServer) -> None:
    (tmp_path / "file").touch()
    refused(
        call("eval", "sample", raw_server.url, "--report", str(tmp_path / "file")),
        2,
        "file cannot be written: File exists",
    )
    assert raw_server.requests == []


def test_current_directory_has_name_in_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beir(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = call("eval", ".", "lexical", "--json")
    assert json.loads(result.stdout)["data"] == tmp_path.name


def test_on_a_terminal() -> None:
    shown, code = on_terminal(command("eval", "sample", "lexical"), 100)
    lines = without_styles(shown).splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == ["contender", "no", "lexical"]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("absent", ["numpy", "ir_measures"])
def test_import_of_evaluation_without_its_extra_names_it(absent: str) -> None:
    code = f"import sys; sys.modules[{absent!r}] = None; import jina_rerank.evaluation"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith('ImportError: jina_rerank.evaluation needs an extra: pip install "jina-rerank[eval]"\n')
