"""Fuzz `_codec.py` and `_status_errors.py` with atheris, guided by coverage.

    make atheris                     for twenty minutes
    make atheris ATHERIS=600         for 600 seconds

Any input must give a ranking that obeys the rules of tests/codec_rules.py, or a RerankError. The first byte of an input
selects its kind; the rest is the body of a response, or status, headers and body of an error, or a Retry-After. Inputs
that reach new code are stored in build/atheris/corpus, with which the next run starts. Failing inputs are written to
build/atheris/, and `python -m scripts.atheris_codec FILE` reproduces them.
"""

import json
import sys
from pathlib import Path
from typing import Final

import atheris

ROOT: Final = Path(__file__).resolve().parents[1]
OUTPUT: Final = ROOT / "build" / "atheris"

with atheris.instrument_imports(include=["jina_rerank", "email"]):
    from tests.codec_rules import ANSWER, COUNT, assert_decodes, assert_refuses, assert_waits

ANSWERED: Final = COUNT + 3
"""First bytes below this are responses: to a request without top_n, and with a top_n from 1 to above the count."""
WORDS: Final = (
    *("results", "data", "index", "relevance_score", "score", "embedding", "model", "usage", "meta", "tokens"),
    *("total_tokens", "prompt_tokens", "completion_tokens", "input_tokens", "billed_units", "detail", "error"),
    *("errors", "message", "code", "type", "loc", "msg", "field", "request_id", "error_type"),
    "AUTHZ_INSUFFICIENT_BALANCE",
)
PIECES: Final = (
    *("{", "}", "[", "]", ":", ",", "null", "true", "-1", "0.5", "1e400", "NaN", "Infinity", "9" * 30, "\\ud800"),
    *("retry-after: ", "retry-after-ms: ", "x-should-retry: false", "location: //", "<title>", "</title>", "&#x0;"),
    *("Wed, 21 Oct 2026 07:28:00 GMT", "-0000", "\n\n"),
)
OTHER_ANSWERS: Final = (
    b'{"data":[%b],"meta":{"tokens":{"input_tokens":7}}}'
    % b",".join(b'{"index":%d,"score":-%d}' % (index, index) for index in range(COUNT)),
    ANSWER.replace(b'"relevance_score": 0.5', b'"relevance_score": 1' + b"0" * 400),
)
OTHER_REFUSALS: Final = (
    (307, b""),
    (403, b'{"detail":{"message":"no","code":"AUTHZ_INSUFFICIENT_BALANCE","request_id":"1"}}'),
    (422, b'{"detail":[{"loc":["body","query"],"msg":"Field required","type":"missing"}]}'),
    (503, b"<html><title>503 &amp; more</title></html>"),
)
HEADERS: Final = b"\nretry-after: 5\nlocation: https://x/\n\n"


def try_input(data: bytes) -> None:
    """Pass one input to the code that its first byte selects."""
    kind, rest = data[:1] or b"\0", data[1:]
    number = kind[0] % 16
    if number < ANSWERED:
        assert_decodes(rest, top_n=number or None)
        return
    head, _, body = rest.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    headers = dict(_header(line) for line in lines)
    if number % 2:
        assert_refuses(300 + int.from_bytes(first[:2], "big") % 700, headers, body)
    else:
        assert_waits(headers, now=float(int.from_bytes(first[:4], "big")))


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return name.decode("latin-1").lower().strip(), value.decode("latin-1").strip()


def write_seeds(corpus: Path) -> None:
    """Write the recorded responses of real servers, and some others, as seeds."""
    captures = [json.loads(line) for line in (ROOT / "tests/data/captures.jsonl").read_text().splitlines()]
    recorded = [(capture["status"], json.dumps(capture["response"]).encode()) for capture in captures]
    answers = [ANSWER, *OTHER_ANSWERS, *(body for status, body in recorded if status == 200)]
    refusals = [*OTHER_REFUSALS, *(each for each in recorded if each[0] != 200)]
    seeds = [bytes([top_n]) + body for top_n in (0, 2) for body in answers]
    seeds += [b"\7" + (status - 300).to_bytes(2, "big") + HEADERS + body for status, body in refusals]
    seeds += [b"\x08" + bytes(4) + b"\nretry-after: " + wait for wait in (b"7", b"Wed, 21 Oct 2026 07:28:00 GMT")]
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)


def main() -> None:
    """Run libFuzzer with these options, and those of the command line."""
    corpus = OUTPUT / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    write_seeds(corpus)
    words = OUTPUT / "words"
    quoted = [*(f'"{word}"' for word in WORDS), *PIECES]
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in quoted))
    options = [f"-artifact_prefix={OUTPUT}/", f"-dict={words}", "-max_len=4096", "-timeout=10", "-print_final_stats=1"]
    files = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], *([] if files else [str(corpus)])], try_input)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(char if char.isalnum() else f"\\x{ord(char):02x}" for char in word)


if __name__ == "__main__":
    main()
