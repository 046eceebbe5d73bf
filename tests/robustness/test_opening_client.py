"""Scenarios 68 to 77: what a client makes of servers that answer wrongly, without end, or in bad faith."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from _kit import virtual, wire
from _kit.site import Asked, redirect
from robustness.worlds import each_loop
from scenarios._world import Peer, World
from scenarios._worlds import in_every_world
from websockets._codec import new_mask
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
    SecurityError,
)
from websockets.http11 import MAX_BODY_SIZE, MAX_LINE_LENGTH, MAX_NUM_HEADERS
from websockets.uri import parse_uri

scenario = pytest.mark.scenario


def answer(**options: Any) -> Callable[[Peer, Asked], Any]:
    """A site's answer that knows the key."""

    async def send(peer: Peer, asked: Asked) -> None:
        await peer.write(wire.response(key=asked.headers["Sec-WebSocket-Key"][0], **options))

    return send


async def refuses(
    world: World, reply: Any, kind: type[Exception], text: str | None = None, **options: Any
) -> Exception:
    """A client refuses what a server answers, with an error of ours, and lets go of the connection."""
    async with world.site([reply]) as web:
        with pytest.raises(kind, match=text) as caught:
            await world.connect(web.uri(), **options)
        await world.settle()
        assert all(peer.let_go for peer in web.visitors)
    return caught.value


@scenario(68)
@pytest.mark.parametrize("kind", ["wrong", "case", "missing", "empty", "twice", "key", "blank", "longer"])
@in_every_world()
async def test_s68_bad_accept(world: World, kind: str) -> None:
    async def send(peer: Peer, asked: Asked) -> None:
        key = asked.headers["Sec-WebSocket-Key"][0]
        accept = wire.accept_key(key)
        values: dict[str, Any] = {
            "wrong": wire.accept_key(wire.KEY),
            "case": accept.swapcase(),
            "missing": None,
            "empty": "",
            "twice": [accept, accept],
            "key": key,
            "blank": f"{accept[:5]} {accept[5:]}",
            "longer": accept + "=",
        }
        await peer.write(wire.response(101, {"Sec-WebSocket-Accept": values[kind]}))

    await refuses(world, send, InvalidHeader, "Sec-WebSocket-Accept")


UNASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "extension": ({"Sec-WebSocket-Extensions": "permessage-deflate"}, {"compression": None}),
    "unknown extension": ({"Sec-WebSocket-Extensions": "x-unknown"}, {}),
    "extension twice": ({"Sec-WebSocket-Extensions": "permessage-deflate, permessage-deflate"}, {}),
    "extension in two headers": ({"Sec-WebSocket-Extensions": ["permessage-deflate"] * 2}, {}),
    "parameter": ({"Sec-WebSocket-Extensions": "permessage-deflate; x=1"}, {}),
    "parameter twice": ({"Sec-WebSocket-Extensions": "permessage-deflate" + "; server_no_context_takeover" * 2}, {}),
    "bits out of range": ({"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=16"}, {}),
    "bits out of all range": ({"Sec-WebSocket-Extensions": f"permessage-deflate; server_max_window_bits={10**30}"}, {}),
    "bits below range": ({"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=7"}, {}),
    "bits with a zero": ({"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=08"}, {}),
    "bits of ours": ({"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits=7"}, {}),
    "subprotocol": ({"Sec-WebSocket-Protocol": "chat"}, {}),
    "another subprotocol": ({"Sec-WebSocket-Protocol": "x"}, {"subprotocols": ["chat"]}),
    "subprotocol in another case": ({"Sec-WebSocket-Protocol": "CHAT"}, {"subprotocols": ["chat"]}),
}


@scenario(69)
@pytest.mark.parametrize(("headers", "options"), UNASKED.values(), ids=UNASKED)
@in_every_world()
async def test_s69_what_was_not_asked_for(world: World, headers: Any, options: Any) -> None:
    await refuses(world, answer(headers=headers), NegotiationError, **options)


@scenario(69)
@pytest.mark.parametrize("value", ["chat, chat", ["chat", "chat"], "chat, superchat"], ids=str)
@in_every_world()
async def test_s69_several_subprotocols(world: World, value: Any) -> None:
    headers = {"Sec-WebSocket-Protocol": value}
    await refuses(world, answer(headers=headers), InvalidHeader, subprotocols=["chat", "superchat"])


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "empty line": b"\r\n\r\n",
    "text": b"hello world\r\n\r\n",
    "bytes": bytes(range(128, 256)) + b"\r\n\r\n",
    "NUL": b"\0" * 100,
    "frames": wire.text("hello") * 10,
    "HTTP/1.0": wire.response(http="HTTP/1.0"),
    "HTTP/2": wire.response(http="HTTP/2"),
    "no status": b"HTTP/1.1\r\n\r\n",
    "status out of range": b"HTTP/1.1 600 x\r\n\r\n",
    "status too small": b"HTTP/1.1 099 x\r\n\r\n",
    "status with a sign": b"HTTP/1.1 +101 x\r\n\r\n",
    "digits of another script": "HTTP/1.1 \u0661\u0660\u0661 x\r\n\r\n".encode(),
    "control character in the reason": b"HTTP/1.1 101 a\x1bb\r\n\r\n",
    "bare LF": wire.response().replace(b"\r\n", b"\n"),
    "folded header": wire.response(raw=b"a: b\r\n c\r\n"),
    "header without a name": wire.response(raw=b": b\r\n"),
    "blank before colon": wire.response(raw=b"a : b\r\n"),
    "cut in the status line": b"HTTP/1.1 10",
    "cut in a header": wire.response()[:-10],
    "negative length": wire.response(404, {"Content-Length": "-1"}),
    "no length": wire.response(404, {"Content-Length": "x"}),
    "lengths": wire.response(404, {"Content-Length": ["1", "2"]}),
    "huge length": wire.response(404, {"Content-Length": "9" * 30}),
    "body shorter than told": wire.response(404, {"Content-Length": "10"}, body=b"short"),
    "chunk size": wire.response(404, {"Transfer-Encoding": "chunked"}, body=b"x\r\n"),
    "negative chunk": wire.response(404, {"Transfer-Encoding": "chunked"}, body=b"-1\r\n"),
    "unknown coding": wire.response(404, {"Transfer-Encoding": "gzip"}),
    "not an upgrade": wire.response(101, {"Upgrade": None}),
    "another upgrade": wire.response(101, {"Upgrade": "h2c"}),
    "no Connection": wire.response(101, {"Connection": None}),
    "malformed Connection": wire.response(101, {"Connection": "\xe9"}),
    "malformed extensions": wire.response(101, {"Sec-WebSocket-Extensions": ";"}),
    "200": wire.response(200, {"Content-Length": "0"}),
    "100": wire.response(100),
    "204": wire.response(204),
    "401": wire.response(401, {"Content-Length": "0"}),
    "500": wire.response(500, {"Content-Length": "0"}),
}


@scenario(70)
@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
@in_every_world()
async def test_s70_garbage(world: World, data: bytes) -> None:
    exc = await refuses(world, data, InvalidHandshake)
    assert isinstance(exc, InvalidMessage | InvalidStatus | InvalidHeader | InvalidHandshake)
    assert str(exc).isprintable()


@scenario(70)
@pytest.mark.parametrize(
    "location", ["ws://[::1:bad/", "ws://localhost:port/", "ws://localhost:99999/", "//[", "ws://a_\xe9:x/"]
)
@in_every_world()
async def test_s70_redirect_to_garbage(world: World, location: str) -> None:
    await refuses(world, redirect(location), InvalidURI)


# ----------------------------------------------------------------------------------------------------- endless input

ENDLESS: dict[str, tuple[bytes, bytes, int, type[Exception]]] = {
    "status line": (b"HTTP/1.1 101 ", b"a", MAX_LINE_LENGTH, InvalidHandshake),
    "header": (wire.response()[:-2] + b"a: ", b"b", MAX_LINE_LENGTH, InvalidMessage),
    "headers": (wire.response()[:-2], b"a: b\r\n", MAX_NUM_HEADERS * 6, InvalidMessage),
    "body": (wire.response(500), b"a", MAX_BODY_SIZE, InvalidStatus),
    "announced body": (wire.response(500, {"Content-Length": "9" * 18}), b"a", MAX_BODY_SIZE, InvalidStatus),
    "interim responses": (b"", wire.response(103), 16 * len(wire.response(103)), InvalidMessage),
    "folded header": (wire.response()[:-2] + b"a: b\r\n", b" \r\n", MAX_LINE_LENGTH, InvalidMessage),
    "chunks": (
        wire.response(500, {"Transfer-Encoding": "chunked"}),
        b"8\r\n12345678\r\n",
        MAX_BODY_SIZE * 13 // 8,
        InvalidStatus,
    ),
    "chunk extension": (
        wire.response(500, {"Transfer-Encoding": "chunked"}) + b"1;",
        b"a",
        MAX_LINE_LENGTH,
        InvalidStatus,
    ),
    "trailers": (
        wire.response(500, {"Transfer-Encoding": "chunked"}) + b"0\r\n",
        b"a: b\r\n",
        MAX_NUM_HEADERS * 6,
        InvalidStatus,
    ),
}


@scenario(71)
@pytest.mark.parametrize(("start", "more", "most", "kind"), ENDLESS.values(), ids=ENDLESS)
@in_every_world()
async def test_s71_endless_answers(world: World, start: bytes, more: bytes, most: int, kind: type[Exception]) -> None:
    sent = 0

    async def send(peer: Peer, asked: Asked) -> None:
        nonlocal sent
        await peer.write(start)
        with contextlib.suppress(OSError):
            while sent < 20 * 2**20:
                await peer.write(more * 1000)
                sent += len(more) * 1000

    await refuses(world, send, kind)
    # What was given to the kernel before the client hung up is on top.
    assert sent < most + 3 * 65_536 + 1000 * len(more)


@scenario(71)
@each_loop
@pytest.mark.parametrize("end", ["silence", "stream", "reset"])
async def test_s71_a_refusal_without_the_end_of_its_body(end: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 503\r\nContent-Length: 100\r\n\r\nbecause")
        await writer.drain()
        if end == "silence":
            await reader.read()
        elif end == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await asyncio.sleep(0.05)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(InvalidStatus, match="HTTP 503") as caught:
            await connect(f"ws://127.0.0.1:{port}/", proxy=None, open_timeout=0.1 if end == "silence" else 10)
        assert caught.value.response.body == b"because"
        assert isinstance(caught.value.__cause__, TimeoutError if end == "silence" else EOFError)


# --------------------------------------------------------------------------------------------------------- redirects


@scenario(72)
@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("/again", SecurityError),
        ("ftp://localhost/", InvalidURI),
        ("file:///etc/passwd", InvalidURI),
        ("javascript:alert(1)", InvalidURI),
        ("/a b", SecurityError),
        ("ws://local host/", InvalidURI),
        ("/a\tb", InvalidURI),
        ("", InvalidHeader),
        ("#a", SecurityError),
        ("http://localhost:0/", OSError),
        ("/\xff", SecurityError),
    ],
)
@in_every_world()
async def test_s72_redirects(world: World, location: str, kind: type[Exception]) -> None:
    async with world.site([redirect(location)]) as web:
        with pytest.raises((kind, InvalidStatus)):
            await world.connect(web.uri())
        assert len(web.asked) <= 10


# --------------------------------------------------------------------------------------------------------------- TLS


@scenario(75)
@virtual
async def test_s75_the_default_context_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ssl=False`` and the like can't turn TLS, or the verification of the server, off."""
    told: list[Any] = []

    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        told.append(kwargs)
        raise OSError("enough")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    with pytest.raises(OSError, match="enough"):
        await connect("wss://example.com/", proxy=None)
    (arguments,) = told
    context = arguments["ssl"]
    if context is not True:
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert arguments["server_hostname"] == "example.com"
    for off in (None, False):
        with pytest.raises(ValueError, match="wss"):
            connect("wss://example.com/", ssl=off)


# ------------------------------------------------------------------------------------------------------------- masks


def tell_masks(pipe: Any) -> None:
    pipe.send([new_mask() for _ in range(100)])


@scenario(76)
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods()[:1])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_s76_masks_differ_from_frame_to_frame_and_from_process_to_process(method: str) -> None:
    ours = [new_mask() for _ in range(100)]
    context: Any = multiprocessing.get_context(method)
    theirs: list[bytes] = []
    for _ in range(2):
        here, there = context.Pipe()
        process = context.Process(target=tell_masks, args=[there])
        process.start()
        theirs += here.recv()
        process.join()
        here.close()
        there.close()
    masks = [*ours, *theirs, *(new_mask() for _ in range(100))]
    # Of 400 random masks, two are the same once in 50 000 runs; many are the same if a process repeats another's.
    assert len(set(masks)) >= len(masks) - 2
    assert all(len(mask) == 4 for mask in masks)


@scenario(76)
def test_s76_masks_and_keys_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {ClientProtocol(parse_uri("ws://localhost/")).key for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9+/]{22}==", key) for key in keys)
    drawn: list[int] = []
    urandom = os.urandom

    def counting(size: int) -> bytes:
        drawn.append(size)
        return urandom(size)

    monkeypatch.setattr(os, "urandom", counting)
    for _ in range(100_000):
        new_mask()
    assert sum(drawn) >= 4 * 90_000


# ----------------------------------------------------------------------------------------------------------- closing


@scenario(77)
@each_loop
@pytest.mark.parametrize("kind", ["silent", "sends", "answers"])
async def test_s77_closing_ends_whatever_the_server_does(kind: str) -> None:
    """It says nothing, or doesn't stop to send, or answers but keeps the TCP connection open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (key,) = re.findall(rb"Sec-WebSocket-Key: (\S+)", head)
        writer.write(wire.response(key=key.decode()))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while kind == "sends":
                writer.write(wire.binary(bytes(1000)))
                await writer.drain()
                await asyncio.sleep(0)
            await reader.readexactly(2)
            if kind == "answers":
                writer.write(wire.close(1000))
            await reader.read()
        await finished.wait()
        writer.close()

    finished = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await connect(f"ws://127.0.0.1:{port}/", proxy=None, close_timeout=0.1)
    begin = time.monotonic()
    await client.close()
    assert 0.05 < time.monotonic() - begin < 5
    assert client.close_code == (1000 if kind == "answers" else 1006)
    finished.set()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)
