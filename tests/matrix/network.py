"""Rows 1 to 17: names, connections, TLS, and answers that end early or never."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import trustme

from jina_rerank import (
    APIConnectionError,
    APITimeoutError,
    DeadlineExceededError,
    InvalidRequestError,
    RequestTooLargeError,
)

from ..servers import (
    AbsentServer,
    DeafServer,
    RawServer,
    answer_body,
    http,
    reset,
    send,
    send_and_close,
    silence,
    trickle,
)
from ..tcp_proxy import blackhole, cut, cut_by_reset, delay, half_close
from .case import GOOD, Case, Row, server_tls, trust
from .injections import (
    CHUNKED,
    EARLY_HINTS,
    HALF_GZIP,
    HTTPS,
    OVER_TLS,
    REFUSED,
    SHORT,
    TOO_LARGE,
    UNTIL_CLOSE,
    deaf,
    expired,
    halves,
    hint_early,
    interrupted,
    large,
    once_and_always,
    refuse_early,
    refuse_early_and_close,
    secure,
    through,
)

NETWORK: Final[Sequence[Row]] = (
    Row(
        1,
        "Connection refused",
        "retried, then raised with the system's message",
        [
            Case(
                name="refused",
                server=AbsentServer,
                error=APIConnectionError,
                says="no connection: ",
                attempts=3,
                unseen=True,
            )
        ],
    ),
    Row(
        2,
        "Connecting never completes",
        "each attempt ends at `timeout`, the call at `deadline`",
        [
            Case(
                name="timeout",
                server=DeafServer,
                options=SHORT,
                error=APITimeoutError,
                says="timeout of 0.3 s",
                attempts=3,
                unseen=True,
            ),
            Case(
                name="deadline",
                server=DeafServer,
                options={"deadline": 0.3},
                error=DeadlineExceededError,
                says="deadline of 0.3 s",
                attempts=1,
                unseen=True,
            ),
        ],
    ),
    Row(
        3,
        "DNS: no such host; temporary failure",
        "an unknown host is not retried; a temporary failure is",
        tests=[
            "test_sockets.py::test_unknown_host_is_not_retried",
            "test_dns.py::test_temporary_resolver_failure_is_retried",
        ],
    ),
    Row(
        4,
        "DNS hangs",
        "the call ends at its deadline; closing does not wait for the resolver",
        tests=["test_dns.py::test_hanging_resolver_blocks_neither_call_nor_aclose"],
    ),
    Row(
        5,
        "A certificate that is untrusted, for another host, or expired",
        "fails at once, not retried",
        [
            Case(
                name="not trusted",
                server=secure(server_tls(of=trustme.CA())),
                url=HTTPS,
                options={"verify": trust()},
                error=APIConnectionError,
                says="certificate is not valid: .*issuer",
                attempts=1,
            ),
            Case(
                name="for another host",
                server=secure(server_tls("elsewhere.example")),
                url=HTTPS,
                options={"verify": trust()},
                error=APIConnectionError,
                says="certificate is not valid: .*IP address",
                attempts=1,
            ),
            Case(
                name="expired",
                server=secure(expired()),
                url=HTTPS,
                options={"verify": trust()},
                error=APIConnectionError,
                says="certificate is not valid: .*expired",
                attempts=1,
            ),
        ],
        tests=["test_sockets.py::test_stalled_tls_handshake_leaks_no_socket"],
    ),
    Row(
        6,
        "TLS to a plain port; plain HTTP to a TLS port",
        "retried, then raised",
        [
            Case(
                name="TLS to a plain port",
                server=partial(RawServer, greeting=send_and_close(http(b"", 400))),
                url=HTTPS,
                options={"verify": trust()},
                error=APIConnectionError,
                attempts=3,
            ),
            Case(name="plain to a TLS port", server=secure(server_tls()), error=APIConnectionError, attempts=3),
        ],
    ),
    Row(
        7,
        "A server that never answers",
        "each attempt ends at `timeout`, the call at `deadline`",
        [
            Case(name="timeout", plays=(silence,), options=SHORT, error=APITimeoutError, attempts=3),
            Case(name="once", plays=(silence, send(GOOD)), options=SHORT, attempts=2),
            Case(name="deadline", plays=(silence,), options={"deadline": 0.3}, error=DeadlineExceededError, attempts=1),
            Case(
                name="blackhole in the answer",
                server=through(blackhole(60)),
                options=SHORT,
                error=APITimeoutError,
                attempts=3,
            ),
        ],
    ),
    Row(8, "A reset before the response", "retried", once_and_always("reset", reset)),
    Row(9, "The connection closes before the response", "retried", once_and_always("closed", send_and_close())),
    Row(
        10,
        "Keep-alive connections that the server closes: at once, after 1 ms, after 10 ms",
        "no error in 200 calls each",
        tests=[
            "test_matrix.py::test_server_that_closes_idle_connections_fails_no_call",
            "test_sockets.py::test_server_that_closes_after_each_answer_fails_no_call",
        ],
    ),
    Row(
        11,
        "The connection closes after a second request on it was read",
        "retried",
        [
            Case(name="closed", plays=(send(GOOD), send_and_close(), send(GOOD)), warm=1, attempts=2),
            Case(name="reset", plays=(send(GOOD), reset, send(GOOD)), warm=1, attempts=2),
        ],
    ),
    Row(
        12,
        "The connection ends in the headers",
        "retried",
        [
            *once_and_always("closed", send_and_close(GOOD[:40])),
            Case(name="reset by the network", server=through(cut_by_reset(40)), error=APIConnectionError, attempts=3),
        ],
    ),
    Row(
        13,
        "The body is shorter than declared; broken chunks",
        "retried; a truncated response is never used",
        [
            *once_and_always("short", send_and_close(GOOD[:-20])),
            *once_and_always("half of a chunk", send_and_close(CHUNKED + b"ff\r\n{")),
            *once_and_always("a chunk of no size", send_and_close(CHUNKED + b"zz\r\n")),
            Case(name="cut by the network", server=through(cut(len(GOOD) - 20), delay(0)), attempts=2),
            Case(name="reset by the network", server=through(cut_by_reset(len(GOOD) - 20), delay(0)), attempts=2),
            Case(name="half closed by the network", server=through(half_close(len(GOOD) - 20), delay(0)), attempts=2),
        ],
        tests=["test_cuts.py::test_answer_cut_at_any_byte_is_whole_or_a_typed_error"],
    ),
    Row(
        14,
        "Half of a response in valid HTTP: ended by closing, or half of its gzip",
        "retried once, then raised",
        [
            *halves("half of JSON, ended by closing", send_and_close(UNTIL_CLOSE + answer_body(2)[:-9])),
            *halves("half of gzip", send(HALF_GZIP)),
        ],
    ),
    Row(
        15,
        "A server that trickles a header, a body, or endless informational responses",
        "each attempt ends at `timeout`, no matter how often bytes arrive",
        [
            Case(
                name="a header",
                plays=(trickle(b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 10_000),),
                options=SHORT,
                error=APITimeoutError,
                attempts=3,
            ),
            Case(name="a body", plays=(trickle(GOOD, 0.05),), options=SHORT, error=APITimeoutError, attempts=3),
            Case(
                name="informational answers",
                plays=(trickle(EARLY_HINTS * 1_000),),
                options=SHORT,
                error=APITimeoutError,
                attempts=3,
            ),
            Case(name="slow, but whole", server=through(delay(0.001, 8)), attempts=1),
        ],
    ),
    Row(
        16,
        "A server that does not read 50 MB; a request above 64 MiB",
        "an attempt ends at `timeout` while still sending; above the cap nothing is sent",
        [
            Case(
                name="50 MB",
                server=partial(RawServer, greeting=deaf),
                documents=partial(large, 48),
                options={"timeout": 2.0},
                error=APITimeoutError,
                attempts=3,
                within=10.0,
            ),
            Case(
                name="above the cap",
                documents=partial(large, 64),
                error=InvalidRequestError,
                says="the most is 67,108,864",
                attempts=0,
            ),
        ],
    ),
    Row(
        17,
        "413 while the body is still being sent",
        "RequestTooLargeError, and the rest is not sent; aiohttp may lose the response, which the error mentions",
        [
            interrupted("and the rest is taken", refuse_early, **REFUSED),
            interrupted("and the connection is closed", send_and_close(TOO_LARGE), **REFUSED, transports=["httpx"]),
            interrupted("and the connection is reset", refuse_early_and_close, **REFUSED, transports=["httpx"]),
            interrupted("and the same over TLS", refuse_early_and_close, **OVER_TLS, **REFUSED, transports=["httpx"]),
            interrupted(
                "and the connection is reset, aiohttp",
                refuse_early_and_close,
                error=(RequestTooLargeError, APIConnectionError),
                says="Too Large|too large for the server",
                attempts=(1, 2, 3),
                transports=["aiohttp"],
            ),
            interrupted("not a refusal, but early hints", hint_early, attempts=1),
        ],
    ),
)
