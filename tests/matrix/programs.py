"""Rows 33 to 50: cancellation, load, processes, the way to the server, secrets, and time."""

from collections.abc import Sequence
from typing import Final

from .case import Row

PROGRAMS: Final[Sequence[Row]] = (
    Row(
        33,
        "5,000 cancellations at random moments, under contention",
        "the connections work as before",
        tests=["test_load.py::test_cancellations_at_any_moment_leave_client_usable"],
    ),
    Row(
        34,
        "Overload with deadlines: 60 tasks, 10 connections",
        "at least 65 % of the capacity is served, no error but DeadlineExceededError, and the client works afterwards",
        tests=[
            "test_overload.py::test_overload_with_deadlines_sends_only_calls_that_can_finish",
            "test_load.py::test_overload_with_deadlines_leaves_client_usable",
        ],
    ),
    Row(
        35,
        "1,000 concurrent calls to a server that takes 1 s",
        "all succeed",
        tests=["test_load.py::test_thousand_concurrent_calls_succeed"],
    ),
    Row(
        36,
        "Ctrl-C in a sync call",
        "KeyboardInterrupt; the request is cancelled, and the next call works",
        tests=[
            "test_processes.py::test_ctrl_c_cancels_the_request_in_flight_and_the_next_call_works",
            "test_processes.py::test_interrupt_at_any_moment_raises_keyboard_interrupt_and_client_recovers",
        ],
    ),
    Row(
        37,
        "Exit: unclosed, in flight, from atexit, from a thread that outlives main",
        "immediate, with code 0 and no output",
        tests=[
            "test_processes.py::test_open_clients_neither_delay_exit_nor_warn",
            "test_processes.py::test_first_call_during_interpreter_exit_succeeds_or_raises",
            "test_processes.py::test_call_in_flight_does_not_delay_the_exit",
            "test_processes.py::test_call_in_flight_in_a_thread_that_outlives_main_gets_its_answer",
            "test_processes.py::test_call_in_a_finalizer_at_exit_raises_client_closed_error",
        ],
    ),
    Row(
        38,
        "Fork with open connections, one in use: four children and the parent call",
        "each call gets its own response, including the parent's request in flight",
        tests=["test_forks.py::test_fork_with_calls_in_flight_gives_each_process_its_own_answers"],
    ),
    Row(
        39,
        "Fork under the load of threads, or during the very first call; gunicorn --preload; "
        "multiprocessing by fork, spawn, forkserver",
        "no failure",
        tests=[
            "test_forks.py::test_forks_under_the_load_of_threads_lose_nothing",
            "test_forks.py::test_forks_during_the_very_first_call_lose_nothing",
            "test_forks.py::test_module_level_client_works_in_process_pool",
            "test_gunicorn.py::test_workers_forked_from_a_warm_app_each_get_their_own_answers",
        ],
    ),
    Row(
        40,
        "One client on several event loops, sequentially and concurrently",
        "every call succeeds, and no socket leaks",
        tests=[
            "test_processes.py::test_one_client_serves_many_event_loops_and_leaves_no_socket",
            "test_processes.py::test_event_loops_closed_without_aclose_are_released",
        ],
    ),
    Row(
        41,
        "Closing with calls in flight; closing twice; calls after closing",
        "ClientClosedError, and no call hangs",
        tests=[
            "test_retry.py::test_aclose_cancels_calls_in_flight",
            "test_facade.py::test_closing_ends_calls_of_other_threads",
            "test_facade.py::test_call_on_closed_client_raises_client_closed_error",
            "test_load.py::test_calls_racing_with_aclose_succeed_or_raise_client_closed_error",
        ],
    ),
    Row(
        42,
        "A sync call in a running loop; in a worker thread; in a hook on the background loop; in a signal handler",
        "works; works; a clear error; works",
        tests=[
            "test_facade.py::test_call_under_running_loop_works_and_warns_once",
            "test_facade.py::test_threads_share_a_client",
            "test_facade.py::test_hook_that_calls_client_raises_instead_of_deadlock",
            "test_processes.py::test_signal_handler_that_calls_during_the_first_call_gets_its_answer",
            "test_processes.py::test_call_in_finalizer_on_loop_thread_raises_without_deadlock",
        ],
    ),
    Row(
        43,
        "A proxy that is down, one that refuses, SOCKS without its package, a bad SSL_CERT_FILE",
        "an error that names it; not retried",
        tests=[
            "test_sockets.py::test_unreachable_proxy_is_not_retried",
            "test_sockets.py::test_refusing_proxy_is_not_retried",
            "test_sockets.py::test_socks_proxy_without_package_raises_at_construction",
            "test_sockets.py::test_invalid_certificate_variable_raises_at_construction",
        ],
    ),
    Row(44, "HTTP/2: GOAWAY, REFUSED_STREAM", "not applicable: HTTP/2 is not offered"),
    Row(
        45,
        "Keys with line breaks, NUL, non-ASCII letters, spaces; an empty key",
        "ConfigurationError without the key; nothing is sent",
        tests=["test_secrets.py::test_bad_key_is_refused_and_not_quoted"],
    ),
    Row(
        46,
        "The key in repr, str, logs, tracebacks, pickles, dumps, schemas, copies",
        "never; and no log contains a document",
        tests=[
            "test_secrets.py::test_canary_key_appears_in_no_channel",
            "test_secrets.py::test_no_mechanism_logs_a_key_or_a_document",
            "test_secrets.py::test_langchain_shows_no_key_when_it_fails",
            "test_langchain.py::test_key_appears_nowhere",
            "test_secrets.py::test_cancellation_in_flight_has_no_key_in_its_tracebacks",
        ],
    ),
    Row(
        47,
        "An outage under load",
        "n calls send at most n + 35 requests",
        tests=["test_rate_limits.py::test_retry_quota_allows_35_retries_during_outage"],
    ),
    Row(
        48,
        "The wall clock jumps during a wait",
        "no wait changes: only the monotonic clock is used",
        tests=["test_retry.py::test_wall_clock_jumps_do_not_affect_delays"],
    ),
    Row(
        49,
        "Errors in pickles, copies, and process pools",
        "equal, field by field",
        tests=[
            "test_errors.py::test_errors_survive_pickle_copy_and_print",
            "test_errors.py::test_every_error_and_every_result_crosses_a_process_pool",
            "test_errors.py::test_errors_and_results_cross_a_process_pool",
        ],
    ),
    Row(
        50,
        "LangChain documents after compressing, nested metadata included",
        "unchanged",
        tests=["test_langchain.py::test_copies_are_returned_best_first_and_originals_unchanged"],
    ),
)
