"""Rows 33 to 50: cancellation, load, processes, the way to the server, secrets, and time."""

from collections.abc import Sequence
from typing import Final

from .case import Row

PROGRAMS: Final[Sequence[Row]] = (
    Row(
        33,
        "5,000 cancellations at random moments, under contention",
        "the connections work as before",
        tests=["test_load.py::test_cancellations_at_any_moment_leave_a_client_that_works"],
    ),
    Row(
        34,
        "Overload with deadlines: 60 tasks, 10 connections",
        "at least 65 % of the capacity is served, no error but DeadlineExceededError, and the client works afterwards",
        tests=[
            "test_overload.py::test_who_is_sent_has_time_for_the_answer",
            "test_load.py::test_overload_with_deadlines_leaves_a_client_that_works",
        ],
    ),
    Row(
        35,
        "1,000 concurrent calls to a server that takes 1 s",
        "all succeed",
        tests=["test_load.py::test_a_thousand_calls_at_once"],
    ),
    Row(
        36,
        "Ctrl-C in a sync call",
        "KeyboardInterrupt; the request is cancelled, and the next call works",
        tests=[
            "test_processes.py::test_ctrl_c_cancels_the_request_in_flight_and_the_next_call_works",
            "test_processes.py::test_interrupts_at_any_moment_are_interrupts_and_nothing_breaks",
        ],
    ),
    Row(
        37,
        "Exit: unclosed, in flight, from atexit, from a thread that outlives main",
        "immediate, with code 0 and no output",
        tests=[
            "test_processes.py::test_no_client_delays_the_exit_or_complains",
            "test_processes.py::test_a_first_call_while_the_interpreter_exits_is_made_or_refused",
            "test_processes.py::test_a_call_in_flight_does_not_delay_the_exit",
            "test_processes.py::test_a_call_in_flight_in_a_thread_that_outlives_main_gets_its_answer",
            "test_processes.py::test_call_in_a_finalizer_at_exit_raises_client_closed_error",
        ],
    ),
    Row(
        38,
        "Fork with open connections, one in use: four children and the parent call",
        "each call gets its own response, including the parent's request in flight",
        tests=["test_forks.py::test_after_a_fork_everybody_gets_their_own_answers_the_parents_in_flight_too"],
    ),
    Row(
        39,
        "Fork under the load of threads, or during the very first call; gunicorn --preload; "
        "multiprocessing by fork, spawn, forkserver",
        "no failure",
        tests=[
            "test_forks.py::test_forks_under_the_load_of_threads_lose_nothing",
            "test_forks.py::test_forks_during_the_very_first_call_lose_nothing",
            "test_forks.py::test_a_client_of_a_module_serves_the_processes_of_a_pool",
            "test_gunicorn.py::test_workers_forked_from_a_warm_app_each_get_their_own_answers",
        ],
    ),
    Row(
        40,
        "One client on several event loops, sequentially and concurrently",
        "every call succeeds, and no socket leaks",
        tests=[
            "test_processes.py::test_one_client_serves_many_event_loops_and_leaves_no_socket",
            "test_processes.py::test_loops_that_are_closed_without_a_word_are_forgotten",
        ],
    ),
    Row(
        41,
        "Closing with calls in flight; closing twice; calls after closing",
        "ClientClosedError, and no call hangs",
        tests=[
            "test_retry.py::test_closing_ends_the_calls_in_flight",
            "test_facade.py::test_closing_ends_the_calls_of_other_threads",
            "test_facade.py::test_a_closed_client_says_so",
            "test_load.py::test_calls_that_race_with_closing_end_one_way_or_the_other",
        ],
    ),
    Row(
        42,
        "A sync call in a running loop; in a worker thread; in a hook on the background loop; in a signal handler",
        "works; works; a clear error; works",
        tests=[
            "test_facade.py::test_under_a_running_loop_it_works_and_says_once_that_it_blocks",
            "test_facade.py::test_threads_share_a_client",
            "test_facade.py::test_a_hook_that_calls_back_is_refused_and_not_stuck",
            "test_processes.py::test_signal_handler_that_calls_during_the_first_call_gets_its_answer",
            "test_processes.py::test_call_in_a_finalizer_on_the_loop_is_refused_and_disturbs_nobody",
        ],
    ),
    Row(
        43,
        "A proxy that is down, one that refuses, SOCKS without its package, a bad SSL_CERT_FILE",
        "an error that names it; not retried",
        tests=[
            "test_sockets.py::test_a_proxy_that_is_down_is_not_asked_twice",
            "test_sockets.py::test_a_proxy_that_refuses_is_not_asked_twice",
            "test_sockets.py::test_a_socks_proxy_without_its_package_is_said_at_once",
            "test_sockets.py::test_a_variable_that_names_no_certificates_is_said_at_once",
        ],
    ),
    Row(44, "HTTP/2: GOAWAY, REFUSED_STREAM", "not applicable: HTTP/2 is not offered"),
    Row(
        45,
        "Keys with line breaks, NUL, non-ASCII letters, spaces; an empty key",
        "ConfigurationError without the key; nothing is sent",
        tests=["test_secrets.py::test_a_bad_key_is_refused_and_not_quoted"],
    ),
    Row(
        46,
        "The key in repr, str, logs, tracebacks, pickles, dumps, schemas, copies",
        "never; and no log contains a document",
        tests=[
            "test_secrets.py::test_a_canary_shows_in_no_channel",
            "test_secrets.py::test_no_mechanism_logs_a_key_or_a_document",
            "test_secrets.py::test_langchain_shows_no_key_when_it_fails",
            "test_langchain.py::test_the_key_shows_nowhere",
            "test_secrets.py::test_cancellation_in_flight_has_no_key_in_its_tracebacks",
        ],
    ),
    Row(
        47,
        "An outage under load",
        "n calls send at most n + 35 requests",
        tests=["test_rate_limits.py::test_an_outage_is_met_with_35_requests_more_than_calls"],
    ),
    Row(
        48,
        "The wall clock jumps during a wait",
        "no wait changes: only the monotonic clock is used",
        tests=["test_retry.py::test_a_wall_clock_that_jumps_changes_no_wait"],
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
        tests=["test_langchain.py::test_copies_come_back_best_first_and_the_callers_stay_as_they_are"],
    ),
)
