"""ASGI without connections: scopes, and what rules of messages say."""

from __future__ import annotations

from typing import Any

import pytest

from websockets._rules import asgi
from websockets._rules.asgi import EXPECTED, Head, Phase, Place
from websockets.datastructures import Headers
from websockets.frames import Close
from websockets.http11 import Request

PLACE = Place("3.0", "", False, ("127.0.0.1", 80), ("127.0.0.1", 1234))


@pytest.mark.parametrize(
    ("target", "path", "raw", "query"),
    [
        ("/", "/", b"/", b""),
        ("/a%20b?c%20d?e", "/a b", b"/a%20b", b"c%20d?e"),
        ("/%C3%A9", "/é", b"/%C3%A9", b""),
        ("http://host:80/a?b", "/a", b"/a", b"b"),
        ("ws://host?b", "/", b"/", b"b"),
        ("/?next=http://host/", "/", b"/", b"next=http://host/"),
    ],
)
def test_target(target: str, path: str, raw: bytes, query: bytes) -> None:
    scope = asgi.make_scope(Request(target, Headers()), PLACE, {})
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw, query)
    assert asgi.shown_path(scope) == raw.decode() + ("?" + query.decode() if query else "")


def test_root_path() -> None:
    scope = asgi.make_scope(Request("/b", Headers()), PLACE._replace(root_path="/é"), {})
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/é", "/é/b", b"/%C3%A9/b")


@pytest.mark.parametrize(
    ("server", "client", "in_scope"),
    [
        (("::1", 80, 0, 0), ["::1", 99, 0, 0], (("::1", 80), ("::1", 99), "::1:99")),
        ("/run/socket", "", (("/run/socket", None), None, "")),
        ("", None, (None, None, "")),
    ],
)
def test_addresses(server: Any, client: Any, in_scope: Any) -> None:
    scope = asgi.make_scope(Request("/", Headers()), PLACE._replace(server=server, client=client, secure=True), {})
    assert (scope["server"], scope["client"], asgi.shown_client(scope)) == in_scope
    assert scope["scheme"] == "wss"


def test_each_phase_has_its_messages() -> None:
    assert {*EXPECTED} == {*Phase}
    for phase, kinds in EXPECTED.items():
        for kind in (*(kind for kinds in EXPECTED.values() for kind in kinds), "websocket.receive"):
            if kind in kinds:
                assert asgi.check_type(phase, {"type": kind}) == kind
            else:
                with pytest.raises(RuntimeError, match=kind):
                    asgi.check_type(phase, {"type": kind})


@pytest.mark.parametrize(
    ("rcvd", "sent", "first", "event"),
    [
        (Close(1000, ""), Close(1000, ""), True, {"code": 1000, "reason": ""}),
        (Close(1000, "x"), None, True, {"code": 1000, "reason": "x"}),
        (Close(1000, "x"), Close(4000, "y"), False, {"code": 4000, "reason": "y"}),
        (None, Close(1012, ""), False, {"code": 1012}),
        (None, None, None, {"code": 1006}),
    ],
)
def test_disconnect(rcvd: Close | None, sent: Close | None, first: bool | None, event: dict[str, Any]) -> None:
    made = asgi.disconnect(rcvd, sent, first)
    assert made == {"type": "websocket.disconnect", **event}
    assert type(made["code"]) is int


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_binary_payloads(data: Any) -> None:
    assert asgi.payload_of({"type": "websocket.send", "bytes": data}) is data


def test_status_without_a_name() -> None:
    assert asgi.full_response(Head(599, Headers()), b"").reason_phrase == ""


def test_default_headers_give_way() -> None:
    head = asgi.head_of({"status": 200, "headers": [(b"SERVER", b"mine")]}, [(b"server", b"x"), (b"date", b"today")])
    assert [*head.headers.raw_items()] == [("date", "today"), ("Connection", "close"), ("SERVER", "mine")]
