"""Connections from proxies until their header is there: who may come, what is read, why one is refused."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest

from websockets._codec.proxy_protocol import TrustedProxies
from websockets._rules.addresses import shown_address
from websockets._rules.capacity import Capacity
from websockets._session.arriving import CLOSING, READ_SIZE, READ_TOO_MUCH, Arriving, Refusal
from websockets._session.registry import Registry

PROXY = ("10.0.0.1", 50000)
HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"


class Guest:
    """What stands for a connection in the registry."""


def arriving(registry: Registry[Any, Any] | None = None) -> Arriving:
    registry = Registry() if registry is None else registry
    return Arriving(registry, TrustedProxies.of(["10.0.0.0/8"]), logging.getLogger("test"))


def test_a_header_in_pieces() -> None:
    registry: Registry[Any, Any] = Registry()
    client = arriving(registry)
    assert client.admit("x", PROXY) is None
    assert client.waiting
    data = HEADER
    while client.addresses is None:
        assert client.waiting
        size = client.read_size
        assert 0 < size <= len(data)  # nothing behind the header is asked for
        assert client.receive_data(data[:size]) is None
        data = data[size:]
    assert data == b""
    assert client.addresses == (("192.0.2.1", 1000), ("192.0.2.2", 443))
    assert client.read_size == READ_SIZE
    assert client.leave()
    assert not client.waiting
    assert not registry.arriving
    client.lose()
    assert not registry.statistics().refused


@pytest.mark.parametrize(
    ("peer", "refusal"),
    [
        (None, Refusal("client gone", None)),
        (("192.0.2.1", 1), Refusal("not a trusted proxy", "its address isn't in proxy_protocol")),
    ],
)
def test_who_may_not_come(peer: Any, refusal: Refusal) -> None:
    registry: Registry[Any, Any] = Registry()
    assert arriving(registry).admit("x", peer) == refusal
    assert not registry.arriving


def test_who_comes_too_late() -> None:
    registry: Registry[Any, Any] = Registry()
    registry.say_farewell(1001, "", close_connections=True)
    assert arriving(registry).admit("x", PROXY) == CLOSING


def test_who_finds_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets._rules.capacity.WAITING_LIMIT", 0)
    registry: Registry[Any, Any] = Registry(Capacity(1, None))
    assert arriving(registry).admit("x", PROXY) is None
    refusal = arriving(registry).admit("y", PROXY)
    assert refusal == ("too many connections to be told",) * 2


def test_what_is_wrong_later() -> None:
    client = arriving()
    client.admit("x", PROXY)
    refusal = client.receive_data(b"GET / HTTP/1.1\r\n")
    assert refusal is not None
    assert refusal.reason == "invalid PROXY header"
    assert str(refusal.text).startswith("invalid PROXY protocol header: ")
    assert client.time_out(10) == ("timeout", "no complete PROXY protocol header within 10 s")


def test_more_than_was_asked_for() -> None:
    client = arriving()
    client.admit("x", PROXY)
    assert client.receive_data(HEADER) is None
    assert client.receive_data(b"more") == ("failure", READ_TOO_MUCH)


@pytest.mark.parametrize(
    ("exc", "refusal"),
    [
        (None, ("client gone", None)),
        (ConnectionResetError(), ("client gone", None)),
        (BrokenPipeError(), ("client gone", None)),
        (OSError("x"), ("TLS handshake failed", "TLS handshake failed: x")),
        (TypeError("y"), ("TLS handshake failed", "TLS handshake failed: y")),
    ],
)
def test_tls_that_fails(exc: BaseException | None, refusal: tuple[str, str | None]) -> None:
    assert arriving().tls_failed(exc) == refusal


def test_refusals_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test")
    registry: Registry[Any, Any] = Registry()
    client = arriving(registry)
    client.admit("x", PROXY)
    client.refuse(CLOSING, PROXY)
    assert not registry.arriving
    client.refuse(Refusal("timeout", "too slow"), "")
    client.refuse(Refusal("client gone", None), PROXY)
    assert caplog.messages == [
        "connection from 10.0.0.1:50000 closed: server is shutting down",
        "connection from a Unix socket closed: too slow",
    ]
    assert registry.statistics().refused == {"server is shutting down": 1, "timeout": 1, "client gone": 1}


def test_who_leaves_before_its_header() -> None:
    registry: Registry[Any, Any] = Registry()
    client = arriving(registry)
    client.admit("x", PROXY)
    client.lose()
    client.lose()
    assert registry.statistics().refused == {"client gone": 1}


def test_who_has_left_is_not_referred_to() -> None:
    client, guest = arriving(), Guest()
    reference = weakref.ref(guest)
    client.admit(guest, PROXY)
    client.leave()
    gc.disable()
    try:
        del guest
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        ("/run/x", "/run/x"),
        (b"\0x", "\0x"),
        ("", ""),
    ],
)
def test_addresses_in_the_log(address: Any, shown: str) -> None:
    assert shown_address(address) == shown
