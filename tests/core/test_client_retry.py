"""When a client tries again, and after how long."""

from __future__ import annotations

import errno
import importlib.util
import itertools
import random
import socket
import ssl
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets import client
from websockets.client import backoff, process_exception
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
    ProxyError,
    SecurityError,
)
from websockets.http11 import Response


def load_again() -> ModuleType:
    """The module as it loads now, beside the one that everybody uses."""
    spec = importlib.util.spec_from_file_location("websockets._client_again", client.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --------------------------------------------------------------------------------------------------------------- delays

DEFAULTS = {"INITIAL_DELAY": 5.0, "MIN_DELAY": 3.1, "MAX_DELAY": 90.0, "FACTOR": 1.618}


def test_default_delays() -> None:
    first, *others = itertools.islice(backoff(), 12)
    assert 0 <= first < 5
    assert [round(delay, 1) for delay in others] == [3.1, 5.0, 8.1, 13.1, 21.2, 34.4, 55.6, 90.0, 90.0, 90.0, 90.0]


def test_first_delay_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.25)
    assert next(backoff()) == 1.25
    assert next(backoff(initial_delay=8)) == 2
    monkeypatch.undo()
    assert len({next(backoff()) for _ in range(100)}) > 90


def test_delays_as_told() -> None:
    delays = backoff(initial_delay=0, min_delay=1, max_delay=5, factor=2)
    assert list(itertools.islice(delays, 6)) == [0, 1, 2, 4, 5, 5]


@pytest.mark.parametrize(("least", "most"), [(5, 5), (7, 5)])
def test_no_delay_exceeds_the_largest(least: float, most: float) -> None:
    delays = backoff(initial_delay=0, min_delay=least, max_delay=most, factor=2)
    assert list(itertools.islice(delays, 4)) == [0, most, most, most]


@given(st.floats(0, 10), st.floats(0.001, 10), st.floats(0.001, 100), st.floats(1.01, 4))
def test_delays_grow_up_to_the_largest(initial: float, least: float, most: float, factor: float) -> None:
    first, *others = itertools.islice(backoff(initial, least, most, factor), 20)
    assert 0 <= first <= initial
    assert others == sorted(others)
    assert max(others) <= most
    assert others[0] == min(least, most)


def test_each_series_is_its_own() -> None:
    first, second = backoff(), backoff()
    assert list(itertools.islice(first, 5))[1:] == list(itertools.islice(second, 5))[1:]


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in DEFAULTS:
        monkeypatch.delenv(f"WEBSOCKETS_BACKOFF_{each}", raising=False)
    monkeypatch.setenv(f"WEBSOCKETS_BACKOFF_{name}", "7.5")
    module = load_again()
    assert {each: getattr(module, f"BACKOFF_{each}") for each in DEFAULTS} == DEFAULTS | {name: 7.5}
    expected = DEFAULTS | {name: 7.5}
    assert module.backoff.__defaults__ == tuple(expected.values())


# --------------------------------------------------------------------------------------------------- worth another try


def refusal(status: int) -> InvalidStatus:
    return InvalidStatus(Response(status, "", Headers()))


def caused(exc: Exception, cause: Exception) -> Exception:
    exc.__cause__ = cause
    return exc


def refusal_by_proxy(status: int) -> InvalidProxyStatus:
    return InvalidProxyStatus(Response(status, "", Headers()))


def socks_failure(reply: object, text: str = "some text") -> Exception:
    """What python-socks raises, as we wrap it."""
    failure = LookupError(text)
    failure.error_code = reply  # type: ignore[attr-defined]
    return caused(ProxyError("failed to connect to SOCKS proxy"), failure)


PASSING: list[Callable[[], Exception]] = [
    OSError,
    TimeoutError,
    ConnectionRefusedError,
    ConnectionResetError,
    lambda: OSError(errno.ENETUNREACH, "Network is unreachable"),
    lambda: socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    lambda: ssl.SSLError(1, "record layer failure"),
    ssl.SSLEOFError,
    lambda: caused(InvalidMessage("did not receive a valid HTTP response"), EOFError("stream ended")),
    lambda: refusal(429),
    lambda: refusal(500),
    lambda: refusal(502),
    lambda: refusal(503),
    lambda: refusal(504),
    # The same troubles with a proxy.
    lambda: caused(InvalidProxyMessage("did not receive a valid HTTP response"), EOFError("stream ended")),
    *(lambda status=status: refusal_by_proxy(status) for status in (429, 500, 502, 503, 504)),
    *(lambda reply=reply: socks_failure(reply) for reply in (1, 3, 4, 5, 6, 0x5B)),
    lambda: socks_failure(None, "Connection closed unexpectedly"),
]

FINAL: list[Callable[[], Exception]] = [
    lambda: ssl.SSLCertVerificationError(1, "certificate verify failed"),
    lambda: InvalidMessage("did not receive a valid HTTP response"),
    lambda: caused(InvalidMessage("did not receive a valid HTTP response"), ValueError("malformed")),
    *(lambda status=status: refusal(status) for status in (200, 301, 400, 401, 403, 404, 428, 430, 501, 505)),
    lambda: InvalidProxyMessage("did not receive a valid HTTP response"),
    lambda: caused(InvalidProxyMessage("did not receive a valid HTTP response"), ValueError("malformed")),
    *(lambda status=status: refusal_by_proxy(status) for status in (101, 302, 400, 401, 403, 404, 405, 407, 501)),
    *(lambda reply=reply: socks_failure(reply) for reply in (None, 2, 7, 8, 9, 0x5C, 0x5D, 255)),
    lambda: ProxyError("proxy sent 3 bytes before the TLS handshake"),
    lambda: caused(ProxyError("failed to connect to SOCKS proxy"), AssertionError()),
    lambda: InvalidURI("http://localhost/", "scheme isn't ws or wss"),
    SecurityError,
    NegotiationError,
    InvalidHandshake,
    lambda: caused(InvalidHandshake(), EOFError()),
    EOFError,
    ValueError,
]


@pytest.mark.parametrize("make", PASSING, ids=lambda make: repr(make()))
def test_try_again(make: Callable[[], Exception]) -> None:
    assert process_exception(make()) is None


@pytest.mark.parametrize("make", FINAL, ids=lambda make: repr(make()))
def test_give_up(make: Callable[[], Exception]) -> None:
    exc = make()
    assert process_exception(exc) is exc
