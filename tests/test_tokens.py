"""The estimate of a request's tokens, beside what a real vocabulary counts."""

import pytest

from jina_rerank._tokens import TOKENS_PER_IMAGE, estimate_tokens
from jina_rerank.catalog import find_model

V3 = "jina-reranker-v3"


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("text", "counted"),
    [  # counted with the vocabulary of Qwen
        ("Alle Menschen sind frei und gleich an Würde und Rechten geboren.", 16),
        ("人人生而自由,在尊严和权利上一律平等。", 13),
        ("すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。", 24),
    ],
)
def test_estimate_is_within_half_for_every_script(text: str, counted: int) -> None:
    assert counted / 1.5 <= estimate_tokens(text, [], known=find_model(V3)) <= counted * 1.5


def test_real_abstracts_are_estimated_a_little_high() -> None:
    from jina_rerank.emulator.scifact import claims  # noqa: PLC0415  # of an extra, which smoke tests do without

    passages = [abstract.passage for claim in claims() for abstract in claim.candidates][:200]
    counted = 69_315  # with the vocabulary of Qwen
    assert counted <= estimate_tokens("q", passages, known=find_model(V3)) <= 1.2 * counted


@pytest.mark.smoke
def test_query_counts_once_and_each_part_up_to_its_limit() -> None:
    assert estimate_tokens("a" * 40, ["b" * 400, "c" * 800], known=find_model(V3)) == 10 + 100 + 200
    assert estimate_tokens("a" * 40, ["b" * 400, "c" * 800], known=find_model(V3), max_doc_length=150) == 10 + 100 + 150
    v2 = "jinaai/jina-reranker-v2-base-multilingual"
    assert estimate_tokens("a" * 40, ["b" * 100_000], known=find_model(v2)) == 10 + 1024
    assert estimate_tokens("a" * 40, ["b" * 100_000], known=find_model(v2), max_doc_length=2000) == 10 + 1024
    assert estimate_tokens("a" * 40, ["b" * 100_000], known=find_model("unknown")) == 10 + 25_000
    assert (
        estimate_tokens({"image": "https://x/y.png"}, [{"image": "A" * 10_000}], known=find_model("m"))
        == 2 * TOKENS_PER_IMAGE
    )


@pytest.mark.smoke
def test_any_text_has_an_estimate() -> None:
    assert estimate_tokens("", [], known=find_model(V3)) == 1
    assert estimate_tokens("\ud800", ["\x00"], known=find_model(V3)) == 2
