"""Rows 18 to 32: what servers answer."""

import gzip
import json
from collections.abc import Sequence
from typing import Any, Final

from jina_rerank import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InsufficientBalanceError,
    NotFoundError,
    PermissionDeniedError,
    RequestTooLargeError,
    ResponseFormatError,
    ServerError,
    UnprocessableEntityError,
)

from ..servers import answer_body, http, send, send_and_close
from .case import GOOD, Case, Row

PAGE = b"<!DOCTYPE html><html><head><title>503 Service Temporarily Unavailable</title></head></html>"
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"


def bad(name: str, body: bytes, says: str = "", *, attempts: int = 1, **headers: str) -> Case:
    """A body of a good status that is not believed."""
    return Case(
        name=name, plays=(send(http(body, 200, **headers)),), error=ResponseFormatError, says=says, attempts=attempts
    )


def results(*items: Any) -> bytes:
    """An answer of these results."""
    return json.dumps({"results": items}).encode()


def result(index: Any, score: Any = 0.5) -> dict[str, Any]:
    """One result."""
    return {"index": index, "relevance_score": score}


def score(text: str) -> bytes:
    """An answer whose second score is written as `text`."""
    return b'{"results": [{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": %s}]}' % text.encode()


def refused(status: int, error: type[APIStatusError]) -> Case:
    """A refusal that stands."""
    body = b'{"detail": "no", "request_id": "abc"}'
    return Case(name=str(status), plays=(send(http(body, status)),), error=error, attempts=1)


def twice(status: int) -> Case:
    """A failure that comes twice and then passes."""
    return Case(name=f"{status} twice", plays=(*[send(http(b"", status))] * 2, send(GOOD)), attempts=3)


GARBAGE = ("", "-5", "inf", "nan", "1_000", "\uff11", "1" * 34, "Fri, 31 Dec 100000 23:59:59 GMT", "soon")


def garbage(value: str) -> Case:
    """A Retry-After that cannot be read, before a good answer."""
    answer = http(b"", 503).replace(b"\r\n\r\n", b"\r\nretry-after: " + value.encode() + b"\r\n\r\n")
    return Case(name=f"{value[:12]!r}", plays=(send(answer), send(GOOD)), attempts=2)


def verdict(name: str, status: int, word: str, case: dict[str, Any]) -> Case:
    """A server that decides itself whether to try again."""
    return Case(name=name, plays=(send(http(b"", status, x_should_retry=word)), send(GOOD)), **case)


ANSWERS: Final[Sequence[Row]] = (
    Row(
        18,
        "429 with Retry-After in seconds, in milliseconds, as a date",
        "waits that long, then continues",
        tests=[
            "test_retry.py::test_retry_after_sets_delay",
            "test_rate_limits.py::test_retry_after_delays_all_clients_of_key",
            "test_refusals.py::test_retry_after_is_read_strictly",
        ],
    ),
    Row(
        19,
        "Invalid Retry-After",
        "ignored; normal backoff",
        [garbage(value) for value in GARBAGE],
        tests=["test_refusals.py::test_retry_after_is_read_strictly"],
    ),
    Row(
        20,
        "Retry-After beyond the deadline, or above `max_retry_after`",
        "raised at once, with `retry_after`",
        [
            Case(
                name="503, above the cap",
                plays=(send(http(b"", 503, retry_after="121")),),
                error=ServerError,
                attempts=1,
            ),
            Case(
                name="503, beyond the deadline",
                plays=(send(http(b"", 503, retry_after="60")),),
                options={"deadline": 30.0},
                error=ServerError,
                attempts=1,
            ),
        ],
        tests=[
            "test_retry.py::test_retry_after_above_cap_or_deadline_raises_at_once",
            "test_rate_limits.py::test_wait_beyond_deadline_or_cap_raises_at_once",
        ],
    ),
    Row(
        21,
        "Endless 503; endless 429",
        "503: three attempts; 429: RateLimitError no later than the deadline",
        [Case(name="503", plays=(send(http(b"", 503)),), error=ServerError, attempts=3)],
        tests=["test_rate_limits.py::test_endless_429s_raise_rate_limit_error_by_deadline"],
    ),
    Row(
        22,
        "500, 502, 503, 504, 520 to 524, twice each",
        "retried",
        [twice(status) for status in (408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524)],
    ),
    Row(
        23,
        "400, 401, 402, 403, 404, 413, 422",
        "one error class for each, not retried",
        [
            refused(400, BadRequestError),
            refused(401, AuthenticationError),
            refused(402, InsufficientBalanceError),
            refused(403, PermissionDeniedError),
            refused(404, NotFoundError),
            refused(413, RequestTooLargeError),
            refused(422, UnprocessableEntityError),
        ],
    ),
    Row(
        24,
        "x-should-retry: false with a 503, true with a 400",
        "the header overrides the default",
        [
            verdict("false", 503, "false", {"error": ServerError, "attempts": 1}),
            verdict("true", 400, "true", {"attempts": 2}),
        ],
    ),
    Row(
        25,
        "An HTML page with 200, with 503",
        "200: rejected, not retried; 503: retried as usual",
        [
            bad("200", PAGE, "page of HTML", content_type="text/html"),
            Case(
                name="503",
                plays=(send(http(PAGE, 503, content_type="text/html")),),
                error=ServerError,
                says="503 Service Temporarily Unavailable",
                attempts=3,
            ),
        ],
    ),
    Row(
        26,
        "204, 999, a 1xx and no more, HTTP/0.9, bytes of TLS, a header of 200 KB, two lengths",
        "a typed error, and no hang",
        [
            Case(name="204", plays=(send(b"HTTP/1.1 204 No\r\n\r\n"),), error=ResponseFormatError, attempts=2),
            Case(name="999", plays=(send(http(b"", 999)),), error=APIStatusError, attempts=1),
            *[
                Case(name=name, plays=(send_and_close(data),), error=APIConnectionError, attempts=3)
                for name, data in {
                    "1xx and no more": b"HTTP/1.1 103 Early Hints\r\n\r\n",
                    "HTTP/0.9": b'{"results": []}\n',
                    "bytes of TLS": TLS_ALERT,
                    "a header of 200 KB": b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000 + b"\r\n\r\n",
                    "two lengths": GOOD.replace(b"\r\n\r\n", b"\r\ncontent-length: 7\r\n\r\n", 1),
                }.items()
            ],
        ],
    ),
    Row(
        27,
        "A decompression bomb (gzip, deflate, br, zstd, gzip in gzip), endless chunks",
        "read up to 32 MiB, counted after decompression; not retried",
        [
            bad(
                "gzip five times",
                gzip.compress(answer_body(2)),
                "gzip was offered",
                content_encoding="gzip, " * 4 + "gzip",
            )
        ],
        tests=[
            "test_sockets.py::test_endless_answer_is_cut_off_at_size_limit",
            "test_bombs.py::test_decompression_bomb_uses_less_memory_than_one_answer",
        ],
    ),
    Row(
        28,
        "Compression that is corrupt, mislabelled, or was not offered",
        "rejected",
        [
            bad("corrupt", b"\x1f\x8b" + b"x" * 90, "compression of the answer is broken", content_encoding="gzip"),
            bad("mislabelled", answer_body(2), "compression of the answer is broken", content_encoding="gzip"),
            bad("br", answer_body(2), "'br'; gzip was offered", content_encoding="br"),
            bad("unknown", answer_body(2), "gzip was offered", content_encoding="x-own"),
        ],
    ),
    Row(
        29,
        "Scores: NaN, Infinity, 1e400, null, text, true",
        "rejected",
        [
            *[bad(text, score(text), attempts=2) for text in ("NaN", "Infinity", "-Infinity")],
            *[bad(text, score(text), "a relevance_score is not") for text in ("1e400", "null", '"0.5"', "true")],
        ],
    ),
    Row(
        30,
        "Indices that are negative, too high, duplicate, missing or fractional; too many results; none",
        "rejected; the error names the rule",
        [
            bad("below 0", results(result(0), result(-1)), "not between 0 and 1"),
            bad("too high", results(result(0), result(2)), "not between 0 and 1"),
            bad("twice", results(result(1), result(1)), "appears twice"),
            bad("missing", results(result(0), {"relevance_score": 1}), "needs an index"),
            bad("a fraction", results(result(0), result(1.0)), "not an integer"),
            bad("too many", results(*map(result, range(3))), "2 results were expected, 3 came"),
            bad("too few", results(result(0)), "2 results were expected, 1 came"),
            bad("null", b'{"results": null}', "no list of results"),
            bad("absent", b'{"model": "m"}', "no list of results"),
        ],
    ),
    Row(
        31,
        "JSON 100,000 deep, integers of 5,000 digits, a BOM, invalid UTF-8, lone surrogates",
        "rejected",
        [
            bad("deep", b"[" * 100_000 + b"]" * 100_000, attempts=2),
            bad("5,000 digits", score("9" * 5_000), attempts=2),
            bad("a BOM", b"\xef\xbb\xbf" + answer_body(2), attempts=2),
            bad("bad UTF-8", answer_body(2).replace(b"v3.5", b"v3\xff"), attempts=2),
            bad("a lone surrogate", answer_body(2).replace(b"v3.5", b"v3\\ud800"), attempts=2),
        ],
    ),
    Row(
        32,
        "301, 302, 303, 307, 308, to the same and to another host",
        "never followed",
        [
            Case(
                name=f"{status} to {where}",
                plays=(send(http(b"", status, location=target)), send(GOOD)),
                error=APIStatusError,
                says=f"redirects to {says}",
                attempts=1,
            )
            for status in (301, 302, 303, 307, 308)
            for where, target, says in (
                ("the same host", "/v2/rerank", "another path"),
                ("another", "https://elsewhere.example/v1/rerank?key=1", "elsewhere.example;"),
            )
        ],
        tests=["test_matrix.py::test_redirect_to_another_server_is_not_followed"],
    ),
)
