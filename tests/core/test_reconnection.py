"""How long a server asks to wait, the delays between attempts, when to give up, and what the log says."""

from __future__ import annotations

import email.utils
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from websockets._session.reconnection import Backoff, GiveUp, Reconnection, describe, retry_after
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidHandshake, InvalidProxyStatus, InvalidStatus
from websockets.http11 import Response


def refusal(status: int, *headers: tuple[str, str]) -> InvalidStatus:
    return InvalidStatus(Response(status, "", Headers(headers)))


# ------------------------------------------------------------------------------------------------- how long to wait

# 1994-11-06 08:49:37 UTC, in the three formats of RFC 9110 section 5.6.7.
MOMENT = 784111777.0
DATES = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("value", "delay"), [("0", 0), ("5", 5), ("120", 120), ("007", 7), ("9" * 5000, 999_999_999)])
def test_retry_after_seconds(status: int, value: str, delay: float) -> None:
    exc = refusal(status, ("Retry-After", value))
    assert retry_after(exc, MOMENT) == delay
    # Said by a proxy, it means the same.
    assert retry_after(InvalidProxyStatus(exc.response), MOMENT) == delay


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local time that is hours away from UTC, where it can be changed."""
    tzset = getattr(time, "tzset", lambda: None)
    monkeypatch.setenv("TZ", "XYZ+5")
    tzset()
    yield
    monkeypatch.undo()
    tzset()


@pytest.mark.usefixtures("far_from_utc")
@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize(("since", "delay"), [(-30, 30), (-0.5, 0.5), (0, 0), (30, 0)])
def test_retry_after_date(date: str, since: float, delay: float) -> None:
    assert retry_after(refusal(503, ("Retry-After", date)), MOMENT + since) == delay


@pytest.mark.parametrize(
    "exc",
    [
        *(refusal(status, ("Retry-After", "5")) for status in (301, 404, 500, 502, 504)),
        refusal(503),
        refusal(503, ("Retry-After", "5"), ("Retry-After", "5")),
        *(refusal(503, ("Retry-After", value)) for value in ("", "-5", "1.5", "+5", "5s", "\u00b2", "soon")),
        refusal(503, ("Retry-After", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT")),
        refusal(503, ("Retry-After", "Sun, 06 Nov 1994 08:49:37 +9999999")),
        OSError(),
    ],
    ids=repr,
)
def test_nothing_to_wait_for(exc: Exception) -> None:
    assert retry_after(exc, 0.0) == 0


DATE_LIKE = st.lists(st.sampled_from(["Sun,", "06", "Nov", "1994", "08:49:37", "GMT", "-0000", "+9999", "0", ":", "-"]))


@given(st.one_of(st.text(st.characters(max_codepoint=0xFF)), DATE_LIKE.map(" ".join)))
@example("Fri, 31 Dec 9999 23:59:59 GMT")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_retry_after_never_fails(value: str) -> None:
    headers = Headers()
    try:
        headers["Retry-After"] = value
    except InvalidHandshake:
        return
    assert retry_after(InvalidStatus(Response(503, "", headers)), MOMENT) >= 0


@given(st.integers(0, 2**33))
def test_retry_after_reads_what_the_standard_library_writes(seconds: int) -> None:
    date = email.utils.formatdate(seconds, usegmt=True)
    assert retry_after(refusal(429, ("Retry-After", date)), 0.0) == seconds


# -------------------------------------------------------------------------------------------------------- the delays


def numbered(*delays: float) -> Backoff:
    return Backoff(lambda: iter(delays))


def test_delays_grow_with_each_failure() -> None:
    backoff = numbered(1, 2, 3)
    assert [backoff.after_failure() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(GiveUp):
        backoff.after_failure()


def test_server_may_ask_for_more() -> None:
    backoff = numbered(1, 2, 3)
    assert [backoff.after_failure(10), backoff.after_failure(0.5), backoff.after_failure(3)] == [10, 2, 3]


def test_start_over_after_a_connection_that_outlived_its_delay() -> None:
    backoff = numbered(1, 2, 3)
    assert [backoff.after_failure(), backoff.after_failure()] == [1, 2]
    assert backoff.after_connection(2.1) == 0
    assert [backoff.after_failure(), backoff.after_failure()] == [1, 2]


def test_go_on_after_a_connection_that_did_not() -> None:
    backoff = numbered(1, 2, 3, 4)
    assert backoff.after_failure() == 1
    assert backoff.after_connection(1) == 2
    assert backoff.after_connection(1.5) == 3
    assert backoff.after_failure() == 4


def test_what_the_server_asked_for_must_be_outlived_too() -> None:
    backoff = numbered(1, 2, 3)
    assert backoff.after_failure(60) == 60
    assert backoff.after_connection(30) == 2
    assert backoff.after_failure(60) == 60
    assert backoff.after_connection(61) == 0


def test_connection_without_a_delay_before_it() -> None:
    assert numbered(5, 6).after_connection(4.5) == 5
    backoff = numbered(5, 6)
    # It must outlive the delay that comes next, which is not spent if it does.
    assert backoff.after_connection(5.5) == 0
    assert backoff.after_connection(5) == 5
    assert backoff.after_connection(5) == 6
    with pytest.raises(GiveUp):
        backoff.after_connection(5)


def test_last_delay_can_be_outlived() -> None:
    backoff = numbered(1)
    assert backoff.after_failure() == 1
    assert backoff.after_connection(2) == 0
    assert backoff.after_failure() == 1
    with pytest.raises(GiveUp):
        backoff.after_failure()


def test_no_delays_at_all() -> None:
    with pytest.raises(GiveUp):
        numbered().after_failure()
    with pytest.raises(GiveUp):
        numbered().after_connection(1e9)


def test_accept_then_close_is_no_hot_loop() -> None:
    backoff = Backoff(lambda: itertools.count(1.0))
    delays = [backoff.after_connection(0.001) for _ in range(20)]
    assert delays == [float(number) for number in range(1, 21)]


def test_each_series_is_new() -> None:
    made: list[int] = []

    def series() -> Iterator[float]:
        made.append(len(made))
        return itertools.repeat(1.0 + made[-1])

    backoff = Backoff(series)
    assert made == []
    assert [backoff.after_failure(), backoff.after_connection(9), backoff.after_failure()] == [1, 0, 2]
    assert made == [0, 1]


# ------------------------------------------------------------------------------------------------------- the iteration


def reconnection(
    process: Callable[[Exception], Any] = lambda exc: None, delays: Sequence[float] = (1, 2)
) -> Reconnection:
    logger = logging.getLogger("reconnection")
    hooks: Any = SimpleNamespace(process_exception=process, reconnect_delays=lambda: iter(delays), logger=logger)
    return Reconnection(hooks)


def fail(reconnection: Reconnection, exc: Exception, now: float = 0.0) -> float:
    """Do as a front-end does: tell while the error is handled."""
    try:
        raise exc
    except Exception as error:
        return reconnection.after_failure(error, now)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "reconnection")
    return lambda: [record.getMessage() for record in caplog.records]


def test_waiting_after_failures(lines: Callable[[], list[str]]) -> None:
    trying = reconnection()
    assert fail(trying, OSError("down")) == 1
    assert fail(trying, refusal(503, ("Retry-After", "120"))) == 120
    with pytest.raises(OSError, match="^last$") as caught:
        fail(trying, OSError("last"))
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)
    assert lines() == [
        "connect failed; reconnecting in 1.0 seconds: OSError: down",
        "connect failed; reconnecting in 120.0 seconds: websockets.exceptions.InvalidStatus: "
        "server rejected WebSocket connection: HTTP 503",
    ]


def test_server_that_names_a_date() -> None:
    exc = refusal(503, ("Retry-After", DATES[0]))
    assert fail(reconnection(), exc, MOMENT - 45) == 45


def test_last_error_keeps_its_cause() -> None:
    exc, cause = ConnectionError(), LookupError()
    exc.__cause__ = cause
    with pytest.raises(ConnectionError) as caught:
        fail(reconnection(delays=()), exc)
    assert (caught.value, caught.value.__cause__) == (exc, cause)


def test_error_that_ends_the_iteration(lines: Callable[[], list[str]]) -> None:
    exc, other = ConnectionError(), LookupError()
    with pytest.raises(ConnectionError) as same:
        fail(reconnection(lambda exc: exc), exc)
    assert (same.value, same.value.__cause__) == (exc, None)
    with pytest.raises(LookupError) as returned:
        fail(reconnection(lambda exc: other), exc)
    assert (returned.value, returned.value.__cause__) == (other, exc)

    def refuse(exc: Exception) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        fail(reconnection(refuse), exc)
    assert raised.value.__cause__ is exc
    assert lines() == []


def test_hook_that_raises_what_it_was_given() -> None:
    def refuse(exc: Exception) -> None:
        raise exc

    exc = ConnectionError()
    with pytest.raises(ConnectionError) as caught:
        fail(reconnection(refuse), exc)
    assert (caught.value, caught.value.__cause__) == (exc, None)


def test_waiting_after_connections(lines: Callable[[], list[str]]) -> None:
    cause = OSError("reset")

    def close_exc() -> ConnectionClosedError:
        exc = ConnectionClosedError(None, None)
        exc.__cause__ = cause
        return exc

    session: Any = SimpleNamespace(close_exc=close_exc)
    trying = reconnection()
    trying.connected(100.0)
    assert trying.after_connection(session, 101.5) == 0
    assert lines() == []
    trying.connected(200.0)
    assert [trying.after_connection(session, 200.5), trying.after_connection(session, 200.5)] == [1, 2]
    with pytest.raises(ConnectionClosedError) as caught:
        trying.after_connection(session, 200.5)
    assert caught.value.__cause__ is cause
    text = str(close_exc())
    assert lines() == [f"connection closed early; reconnecting in {delay:.1f} seconds: {text}" for delay in (1, 2)]


def test_one_step_at_a_time() -> None:
    trying = reconnection()
    assert not trying.ended
    with trying.step("busy"):
        with pytest.raises(RuntimeError, match="^not now$"), trying.step("not now"):
            raise AssertionError("never reached")
        with pytest.raises(RuntimeError, match="^busy$"), trying.step("busy"):
            raise AssertionError("never reached")
    with pytest.raises(LookupError), trying.step("busy"):
        raise LookupError
    with trying.step("busy"):
        pass


# -------------------------------------------------------------------------------------------------------------- the log


class Nested:
    class Refused(Exception):
        pass


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (TimeoutError(), "TimeoutError"),
        (TimeoutError("timed out"), "TimeoutError: timed out"),
        (ConnectionRefusedError(111, "no"), "ConnectionRefusedError: [Errno 111] no"),
        (refusal(503), "websockets.exceptions.InvalidStatus: server rejected WebSocket connection: HTTP 503"),
        (Nested.Refused("é"), f"{__name__}.Nested.Refused: é"),
        (ExceptionGroup("many", [OSError(), OSError()]), "ExceptionGroup: many (2 sub-exceptions)"),
        # A line of the log stays one.
        (OSError("first\r\nsecond\x1b[0m"), "OSError: first\\r\\nsecond\\x1b[0m"),
    ],
    ids=repr,
)
def test_describe(exc: Exception, text: str) -> None:
    assert describe(exc) == text


def test_describe_adds_notes() -> None:
    exc = OSError("no")
    exc.add_note("first\nline")
    exc.add_note("second")
    assert describe(exc) == "OSError: no (first\\nline) (second)"
