"""`hf:`, a cross-encoder as a scorer: a tiny one, built on the spot. Needs the extra `hf` (`make hf`)."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jina_rerank import SyncRerankClient
from jina_rerank.emulator import serve

if TYPE_CHECKING:
    from jina_rerank.emulator import CrossEncoderScorer

pytestmark = [
    pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="the extra `hf` is not installed: make hf"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the libraries below
]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "skin", "care", "cream", "aloe", "vera", "engine", "oil", "home"]
QUERY = "skin care"
DOCUMENTS = ["engine oil for engine", "aloe vera cream for skin", "smart home", ""]


def build(folder: Path, *, labels: int = 1, head: bool = True) -> Path:
    """A BERT of one layer with random weights, the same each time."""
    transformers: Any = import_module("transformers")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, num_labels=labels, initializer_range=1.0,
    )  # fmt: skip
    import_module("torch").manual_seed(0)
    kind = transformers.BertForSequenceClassification if head else transformers.BertModel
    kind(config).save_pretrained(folder)
    save_tokenizer(folder, WORDS)
    return folder


def save_tokenizer(folder: Path, words: Sequence[str]) -> None:
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("models") / "tiny-reranker")


@pytest.fixture(scope="module")
def scorer(model: Path) -> "CrossEncoderScorer":
    from jina_rerank.emulator import CrossEncoderScorer  # noqa: PLC0415

    return CrossEncoderScorer(str(model))


def predicted(model: Path, documents: Sequence[str] = DOCUMENTS) -> list[float]:
    """What sentence-transformers itself gives: the logistic function of the model's output."""
    cross_encoder: Any = import_module("sentence_transformers").CrossEncoder(str(model))
    return [float(score) for score in cross_encoder.predict([(QUERY, text) for text in documents])]


def test_scores_are_those_of_the_cross_encoder(scorer: "CrossEncoderScorer", model: Path) -> None:
    expected = predicted(model)
    assert len({round(score, 3) for score in expected}) == len(expected)
    assert scorer.score(QUERY, DOCUMENTS, listwise=False) == pytest.approx(expected, abs=1e-5)
    listwise = scorer.score(QUERY, DOCUMENTS, listwise=True)
    assert sorted(listwise) == [score for _, score in sorted(zip(expected, listwise, strict=True))]
    assert scorer.score(QUERY, DOCUMENTS[:2], listwise=True) != listwise[:2]
    assert scorer.score(QUERY, [], listwise=True) == []


def test_long_list_is_scored_in_batches_and_stays_in_order(scorer: "CrossEncoderScorer", model: Path) -> None:
    documents = [" ".join([WORDS[5 + i % 8]] * (1 + i * 7 % 40)) for i in range(100)]
    assert scorer.score(QUERY, documents, listwise=False) == pytest.approx(predicted(model, documents), abs=1e-5)


def test_scores_lie_between_0_and_1_whatever_the_model_would_give(
    scorer: "CrossEncoderScorer", model: Path, tmp_path: Path
) -> None:
    from jina_rerank.emulator import CrossEncoderScorer  # noqa: PLC0415

    shutil.copytree(model, tmp_path, dirs_exist_ok=True)
    config = json.loads((model / "config.json").read_text())
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert max(predicted(tmp_path)) > 1
    outputs = CrossEncoderScorer(str(tmp_path)).score(QUERY, DOCUMENTS, listwise=False)
    assert outputs == scorer.score(QUERY, DOCUMENTS, listwise=False)


def test_language_model_that_says_yes_or_no_is_a_cross_encoder(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", minversion="6")  # earlier ones do not know how to ask it
    from jina_rerank.emulator import CrossEncoderScorer  # noqa: PLC0415

    transformers: Any = import_module("transformers")
    words = [*WORDS, "yes", "no"]
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=16, max_position_embeddings=64, pad_token_id=0, initializer_range=1.0,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, words)
    assert CrossEncoderScorer(str(tmp_path)).score(QUERY, DOCUMENTS, listwise=False) == pytest.approx(
        predicted(tmp_path), abs=1e-5
    )


def test_cross_encoder_is_served(model: Path) -> None:
    command = [sys.executable, "-m", "jina_rerank.cli", "serve", "--port", "0", "--scorer", f"hf:{model}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            greeting = "".join(iter(process.stdout.readline, "Ctrl-C ends it.\n"))
            assert "Scorer: hf:tiny-reranker, which is not Jina's model" in greeting
            url = greeting.split("emulated at ")[1].split()[0]
            with SyncRerankClient("jina_local", base_url=url, model="jina-reranker-v2-base-multilingual") as client:
                response = client.rerank(QUERY, DOCUMENTS)
        finally:
            process.kill()
    assert response.headers["x-jina-emulator-scorer"] == "hf:tiny-reranker"
    # The blank document is not sent: it comes last.
    sent = predicted(model)[:-1]
    assert [result.relevance_score for result in response.results[:-1]] == pytest.approx(sorted(sent)[::-1], abs=1e-5)
    assert [result.index for result in response.results] == [*sorted(range(3), key=lambda index: -sent[index]), 3]


def test_cross_encoder_serves_concurrent_requests_and_any_text(scorer: "CrossEncoderScorer") -> None:
    texts = ["\ud800 half a pair", "skin " * 1_000, "気候変動", "\x00"]
    with serve(scorer=scorer) as server, SyncRerankClient("jina_local", base_url=server.url) as client:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: client.rerank(QUERY, DOCUMENTS).documents, range(32)))
        vectors = client.rerank(QUERY, ["skin"], return_embeddings=True).results[0].embedding
    assert len({tuple(answer) for answer in answers}) == 1
    assert vectors is not None
    assert math.hypot(*vectors) == pytest.approx(1.0)
    assert all(map(math.isfinite, scorer.score(QUERY, texts, listwise=False)))


def test_tokens_are_those_of_the_model(scorer: "CrossEncoderScorer") -> None:
    assert scorer.count_tokens("skin care") == 4  # two words, [CLS] and [SEP]
    assert scorer.truncate("skin care cream", 2) == "skin care"
    assert scorer.truncate("skin care", 2) == "skin care"


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("classifier", {"labels": 3}, "gives 3 scores for a pair; a reranker gives one"),
        ("encoder", {"head": False}, "is not a cross-encoder"),
    ],
)
def test_model_that_is_not_cross_encoder_is_refused(
    tmp_path: Path, name: str, options: dict[str, Any], reason: str
) -> None:
    from jina_rerank.emulator import CrossEncoderScorer  # noqa: PLC0415

    with pytest.raises(ValueError, match=reason):
        CrossEncoderScorer(str(build(tmp_path / name, **options)))


def test_path_that_holds_no_model_is_named(tmp_path: Path) -> None:
    from jina_rerank.emulator import CrossEncoderScorer  # noqa: PLC0415

    with pytest.raises(ValueError, match=r"nothing: there is no such directory"):
        CrossEncoderScorer(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="cannot be loaded: "):
        CrossEncoderScorer(str(tmp_path))


def test_model_that_cannot_be_downloaded_is_named() -> None:
    command = [sys.executable, "-m", "jina_rerank.cli", "serve", "--port", "0", "--scorer", "hf:org/no-such-model"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("jina-rerank: hf:org/no-such-model cannot be loaded: ")
