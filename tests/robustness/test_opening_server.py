"""Scenarios 1 to 28: what a server makes of clients that open a connection slowly, wrongly, or in bad faith."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import Any

import pytest

from _kit import KEY, request, wire
from _kit.asking import Answered
from robustness.worlds import (
    ask,
    each_loop,
    echo,
    greet,
    port_of,
    real_client,
    refused,
    running,
    until,
    welcome,
)
from scenarios._world import World
from scenarios._worlds import in_every_world
from websockets._rules import capacity as _capacity
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, RequestParser

scenario = pytest.mark.scenario


# ---------------------------------------------------------------------------------------------------- slow clients


@scenario(1)
@each_loop
async def test_s01_silence() -> None:
    # The server counts from when it accepts, which may be long before anything here goes on.
    begin = time.monotonic()
    async with serve(echo, "127.0.0.1", 0, open_timeout=0.1) as server, real_client(port_of(server), b"") as peer:
        # A reset or an end, but no answer: there was no question.
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await peer.reader.readexactly(1)
        assert 0.05 < time.monotonic() - begin < 9  # the default is 10
        await greet(f"ws://127.0.0.1:{port_of(server)}/")


@scenario(3)
@each_loop
async def test_s03_many_slow_clients() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        addresses = [("127.0.0.1", port_of(server))] * 200
        writers = [(await asyncio.open_connection(*address))[1] for address in addresses]
        for byte in wire.bytewise(request()[:40]):
            for writer in writers:
                writer.write(byte)
            await asyncio.sleep(0)
        assert len(server._ws_registry.all) == 200
        begin = time.monotonic()
        await greet(f"ws://127.0.0.1:{port_of(server)}/")
        assert time.monotonic() - begin < 8  # the slow clients have 10
        for writer in writers:
            writer.transport.abort()


@scenario(25)
@in_every_world()
async def test_s25_half_open_handshakes_are_few_bytes_and_no_runner_and_end_in_time(world: World) -> None:
    async with world.serve(echo, open_timeout=5) as server:
        # Whatever serves all of them starts with the first.
        peers = [await world.reach(server)]
        await world.settle()
        before = running(world)
        peers += [await world.reach(server) for _ in range(299)]
        for peer in peers:
            await peer.write(request()[:-2])
        await world.advance(4.9)
        assert len(server._ws_registry.all) == 300
        assert running(world) == before
        await world.advance(0.2)
        assert not server._ws_registry.all
        assert {peer.ended for peer in peers} == {"eof"}
        for peer in peers:
            peer.hang_up()


@scenario(25)
@in_every_world()
async def test_s25_beyond_the_limit_everybody_is_told_and_no_runner_is_made(world: World) -> None:
    async with world.serve(echo, max_connections=10) as server:
        inside = [await world.reach(server) for _ in range(10)]
        await inside[0].write(request())
        await world.settle()
        before = running(world)
        outside = [await world.reach(server) for _ in range(500)]
        for peer in outside:
            await peer.write(request())
        await world.settle()
        assert running(world) == before
        for peer in outside:
            assert peer.received.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nRetry-After: 5\r\n" in peer.received
            peer.hang_up()
        await world.settle()
        assert len(server._ws_registry.all) == 10
        for peer in inside:
            peer.hang_up()
        await world.settle()
        await welcome(world, server)


@scenario(25)
@each_loop
async def test_s25_half_open_handshakes_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent client takes a place. Of the clients beyond the limit, some are kept, and the others are cut off."""
    monkeypatch.setattr(_capacity, "WAITING_LIMIT", 20)
    async with serve(echo, "127.0.0.1", 0, max_connections=10) as server:
        address = "127.0.0.1", port_of(server)
        most = 10 + 20
        writers = [(await asyncio.open_connection(*address))[1] for _ in range(most)]
        await until(lambda: len(server._ws_registry.all) == most)
        reader, writer = await asyncio.open_connection(*address)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert len(server._ws_registry.all) == most
        for open_writer in (writer, *writers):
            open_writer.transport.abort()
        await until(lambda: not server._ws_registry.all)
        await greet(f"ws://127.0.0.1:{port_of(server)}/")


# ----------------------------------------------------------------------------------------------------- endless input


@scenario(4)
@pytest.mark.parametrize(
    "data", [request("/" + "a" * MAX_LINE_LENGTH), b"GET /" + b"a" * MAX_LINE_LENGTH, b"a" * 2**20], ids=len
)
@in_every_world()
async def test_s04_request_line_too_long(world: World, data: bytes) -> None:
    answer = await refused(world, data, 414)
    assert answer.body == (b"Failed to open a WebSocket connection: request line exceeds limit of 8192 bytes.\n")


@scenario(5)
@pytest.mark.parametrize(
    "header", [b"A: " + b"b" * MAX_LINE_LENGTH, b"A" * MAX_LINE_LENGTH + b": b"], ids=["value", "name"]
)
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n"], ids=["endless", "line", "head"])
@in_every_world()
async def test_s05_header_line_too_long(world: World, header: bytes, end: bytes) -> None:
    answer = await refused(world, request()[:-2] + header + end, 431)
    assert b"header line exceeds limit of 8192 bytes" in answer.body


@scenario(6)
@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["endless", "head"])
@pytest.mark.parametrize("line", [b"A: b\r\n", b"A:\r\n", b"Upgrade: websocket\r\n"])
@in_every_world()
async def test_s06_too_many_headers(world: World, line: bytes, end: bytes) -> None:
    """Counted before anything is looked up: a flood can't push ``Upgrade`` out of sight."""
    answer = await refused(world, request()[:-2] + line * (MAX_NUM_HEADERS - 4) + end, 431)
    assert b"number of headers exceeds limit of 128" in answer.body


def largest_head() -> bytes:
    """As much as a request may be: no line too long, not one header too many."""
    line = b"x" * (MAX_LINE_LENGTH - 5) + b": y\r\n"
    return request()[:-2] + line * (MAX_NUM_HEADERS - 5) + b"\r\n"


@scenario(7)
def test_s07_all_headers_together_are_bounded_and_read_in_linear_time() -> None:
    head = largest_head()
    assert len(head) < MAX_LINE_LENGTH * (MAX_NUM_HEADERS + 1)
    parser, read = RequestParser(), None
    begin = time.process_time()
    for index in range(0, len(head), 16):
        read = parser.feed(head[index : index + 16])
    # 65 000 reads. If each looked at everything again, that would be 30 GB.
    assert time.process_time() - begin < 3
    assert read is not None
    assert len(list(read.headers.raw_items())) == MAX_NUM_HEADERS


@scenario(8)
@in_every_world()
async def test_s08_endless_header_is_refused_as_soon_as_it_is_too_long(world: World) -> None:
    async with world.serve(echo) as server:
        peer = await world.reach(server)
        await peer.write(request()[:-2] + b"A: ")
        sent = 3
        while not peer.received:
            await peer.write(b"b" * 64)
            await world.advance(0.001)
            sent += 64
        assert sent <= MAX_LINE_LENGTH + 64
        assert (await peer.read_until_eof()).startswith(b"HTTP/1.1 431 ")
        peer.hang_up()


# --------------------------------------------------------------------------------------------------- wrong requests


@scenario(9)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "get", "WEBSOCKET"])
@in_every_world()
async def test_s09_another_method(world: World, method: str) -> None:
    answer = await refused(world, request(method=method), 405)
    assert answer.headers["Allow"] == ["GET"]


@scenario(10)
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(http="HTTP/1.0"), 505),
        (request(http="HTTP/2.0"), 400),
        (request(http="HTTP/1.2"), 400),
        (request(http="HTTP/0.9"), 400),
        (b"GET /\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    ],
    ids=["1.0", "2.0", "1.2", "0.9", "none", "preface", "TLS", "SSH"],
)
@in_every_world()
async def test_s10_another_version_or_another_protocol(world: World, data: bytes, status: int) -> None:
    await refused(world, data, status)


@scenario(11)
@pytest.mark.parametrize("host", [None, ["localhost", "localhost"], ["a", "b"]], ids=["missing", "twice", "two"])
@in_every_world()
async def test_s11_not_one_host(world: World, host: Any) -> None:
    answer = await refused(world, request(headers={"Host": host}), 400)
    assert b"Host header" in answer.body


@scenario(12)
@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": None},
        {"Connection": None},
        {"Upgrade": "h2c"},
        {"Upgrade": "websocket, h2c"},
        {"Connection": "keep-alive"},
        {"Upgrade": None, "Connection": "close", "Sec-WebSocket-Key": None, "Sec-WebSocket-Version": None},
    ],
    ids=str,
)
@in_every_world()
async def test_s12_no_upgrade(world: World, headers: Any) -> None:
    answer = await refused(world, request(headers=headers), 426)
    assert answer.headers["Upgrade"] == ["websocket"]


@scenario(13)
@pytest.mark.parametrize(
    "key", [None, "", "x", "A" * 22, KEY[:-1], "A" * 24, KEY + "=", KEY * 2, "\xe9" * 22 + "==", [KEY, KEY]], ids=str
)
@in_every_world()
async def test_s13_no_key(world: World, key: Any) -> None:
    answer = await refused(world, request(headers={"Sec-WebSocket-Key": key}), 400)
    assert b"Sec-WebSocket-Key header" in answer.body


@scenario(14)
@pytest.mark.parametrize("version", ["8", "7", "14", "013", "13.0", "13, 8", "255", "-13", ""])
@in_every_world()
async def test_s14_another_version_of_the_protocol(world: World, version: str) -> None:
    answer = await refused(world, request(headers={"Sec-WebSocket-Version": version}), 426)
    assert answer.headers["Sec-WebSocket-Version"] == ["13"]


@scenario(14)
@pytest.mark.parametrize("version", [None, ["13", "13"], ["13", "8"]], ids=["missing", "twice", "two"])
@in_every_world()
async def test_s14_not_one_version(world: World, version: Any) -> None:
    await refused(world, request(headers={"Sec-WebSocket-Version": version}), 400)


# What breaks the syntax of a head: RFC 9112 sections 2.2, 3 and 5.
BROKEN = {
    "blank before colon": request(raw=b"A : b\r\n"),
    "folded": request(raw=b"A: b\r\n c\r\n"),
    "folded first": b"GET / HTTP/1.1\r\n A: b\r\n\r\n",
    "no colon": request(raw=b"A\r\n"),
    "no name": request(raw=b": b\r\n"),
    "bare LF": request(raw=b"A: b\nC: d\r\n"),
    "bare CR": request(raw=b"A: b\rC: d\r\n"),
    "LF ends the request line": request().replace(b"1.1\r\n", b"1.1\n", 1),
    "NUL in a value": request(raw=b"A: b\0c\r\n"),
    "ESC in a value": request(raw=b"A: \x1b[31m\r\n"),
    "DEL in a value": request(raw=b"A: \x7f\r\n"),
    "NUL in a name": request(raw=b"A\0: b\r\n"),
    "non-ASCII name": request(raw=b"\xc3\xa9: b\r\n"),
    "NUL in the target": request("/\0"),
    "blank in the target": request("/a b"),
    "tab in the target": request("/a\tb"),
    "non-ASCII target": request("/\xe9"),
    "target is no path": request("a"),
    "target is a URI of another kind": request("ftp://localhost/"),
    "target is a URI with credentials": request("http://user:password@localhost/"),
    "empty target": request(""),
    "two blanks": b"GET  / HTTP/1.1\r\n\r\n",
    "empty line first": b"\r\n" + request(),
    "garbage": b"\xff\xfe\xfd\r\n\r\n",
}


@scenario(15)
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
@in_every_world()
async def test_s15_broken_syntax(world: World, data: bytes) -> None:
    answer = await refused(world, data, 400)
    assert answer.body.decode().removesuffix("\n").isprintable()


BODIES = {
    "length": b"Content-Length: 5\r\n",
    "zero twice": b"Content-Length: 0\r\nContent-Length: 0\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n",
    "list of lengths": b"Content-Length: 0, 5\r\n",
    "plus": b"Content-Length: +5\r\n",
    "minus": b"Content-Length: -1\r\n",
    "hexadecimal": b"Content-Length: 0x5\r\n",
    "underscore": b"Content-Length: 1_0\r\n",
    "zeros": b"Content-Length: 00\r\n",
    "huge": b"Content-Length: " + b"9" * 5000 + b"\r\n",
    "empty": b"Content-Length:\r\n",
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "two codings": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    "both": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
}


@scenario(16)
@pytest.mark.parametrize("lines", BODIES.values(), ids=BODIES)
@in_every_world()
async def test_s16_body(world: World, lines: bytes) -> None:
    """What follows a refused head is neither a body nor another request nor a frame."""
    smuggled = request("/smuggled") + wire.text("smuggled", mask=True)
    answer = await refused(world, request(raw=lines, body=smuggled), 400)
    assert b"HTTP/1.1" not in answer.body
    assert b"smuggled" not in answer.body


@scenario(16)
@pytest.mark.parametrize("status", [200, 403])
@in_every_world()
async def test_s16_bytes_behind_a_request_are_frames_only_after_101(world: World, status: int) -> None:
    asked: list[str] = []

    def process_request(connection: ServerConnection, request: Any) -> Any:
        asked.append(request.path)
        return connection.respond(status, "no\n") if request.path == "/no" else None

    async with world.serve(echo, process_request=process_request) as server:
        answer = await ask(world, server, request("/no") + request("/smuggled") + wire.text("smuggled", mask=True))
        assert answer.body == b"no\n"
    assert asked == ["/no"]


@scenario(17)
@pytest.mark.parametrize(
    "data",
    [
        request("/\rX:1"),
        request("/%0d%0aX:%201\r\nX: 1 HTTP/1.1"),
        request(headers={"Origin": "http://a\rX: 1"}),
        request(headers={"Sec-WebSocket-Protocol": "chat\rX: 1"}),
        request(headers={"Sec-WebSocket-Protocol": "chat, \x85X"}),
        request(headers={"Sec-WebSocket-Extensions": "permessage-deflate\nX: 1"}),
        request(headers={"Sec-WebSocket-Extensions": 'a; b="\\\x80"'}),
        request(headers={"Sec-WebSocket-Key": "\x9bX: 1"}),
        request(headers={"Sec-WebSocket-Version": "13\x85"}),
        request(headers={"Upgrade": "web\xa0socket"}),
        request("/", method="\x1b[31mGET"),
    ],
    ids=range(11),
)
@in_every_world()
async def test_s17_nothing_of_the_client_gets_into_a_head_nor_unprintable_into_a_body(
    world: World, data: bytes
) -> None:
    async with world.serve(echo, origins=["http://a"], subprotocols=["chat"]) as server:
        answer = await ask(world, server, data)
    assert answer.status in ("400 Bad Request", "426 Upgrade Required", "403 Forbidden")
    usual = {"Date", "Connection", "Content-Length", "Content-Type", "Server"}
    assert set(answer.headers) <= usual | {"Upgrade", "Sec-WebSocket-Version"}
    assert answer.body.decode().replace("\n", "").isprintable()


@scenario(17)
@pytest.mark.parametrize("choice", ["a\r\nX: 1", "a\nb", "a\0", "\u20ac"])
@in_every_world()
async def test_s17_choices_of_the_application_cannot_split_the_response(
    world: World, choice: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await refused_by_us(world, select_subprotocol=lambda connection, offered: choice)
    assert "X" not in answer.headers
    assert "opening handshake failed" in caplog.messages


async def refused_by_us(world: World, **options: Any) -> Answered:
    """The answer to a good request that the application can't deal with."""
    async with world.serve(echo, **options) as server:
        answer = await ask(world, server, request())
    assert answer.status == "500 Internal Server Error"
    return answer


# ------------------------------------------------------------------------------------------------------ negotiation


@scenario(18)
@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        (["chat"], "chat"),
        (["x, superchat"], "superchat"),
        (["superchat", "chat"], "chat"),
        (["x", "y, chat"], "chat"),
        (["CHAT"], None),
        (["chatx"], None),
        (["x", "y"], None),
        ([], None),
    ],
)
@in_every_world()
async def test_s18_only_what_is_offered_is_selected(world: World, offers: list[str], chosen: str | None) -> None:
    data = request(headers={"Sec-WebSocket-Protocol": offers})
    async with world.serve(echo, subprotocols=["chat", "superchat"]) as server:
        if chosen is None:
            answer = await ask(world, server, data)
            assert answer.status == "400 Bad Request"
            assert "Sec-WebSocket-Protocol" not in answer.headers
        else:
            peer = await world.reach(server)
            await peer.write(data)
            assert f"Sec-WebSocket-Protocol: {chosen}\r\n".encode() in await peer.read_until()
            peer.reset()


@scenario(19)
@pytest.mark.parametrize("name", ["Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"])
@pytest.mark.parametrize(
    "value", ["\xe9", "chat, \xff", ";", "a b", '"', "a;b=", "a=", "a, ;", "/", "\xa0", "(", ","], ids=ascii
)
@in_every_world()
async def test_s19_malformed_lists(world: World, name: str, value: str) -> None:
    """Refused, even if no upgrade is left; a crash would be 500."""
    async with world.serve(echo, subprotocols=["chat"]) as server:
        answer = await ask(world, server, request(headers={"Sec-WebSocket-Protocol": "chat", name: value}))
        assert answer.status in ("400 Bad Request", "426 Upgrade Required")
        assert (answer.status == "400 Bad Request") or name in ("Connection", "Upgrade")


ORIGINS: Any = ["https://example.com", re.compile(r"https://\w+\.example\.org")]


@scenario(23)
@pytest.mark.parametrize(
    ("origins", "origin", "opens"),
    [
        (ORIGINS, "https://example.com", True),
        (ORIGINS, "https://www.example.org", True),
        (ORIGINS, "https://example.com.evil.net", False),
        (ORIGINS, "https://EXAMPLE.com", False),
        (ORIGINS, "https://example.com/", False),
        (ORIGINS, "https://example.com:444", False),
        (ORIGINS, "http://example.com", False),
        (ORIGINS, "https://www.example.org.evil.net", False),
        (ORIGINS, "https://evil.net/https://www.example.org", False),
        (ORIGINS, "null", False),
        (ORIGINS, "", False),
        (ORIGINS, None, False),
        ([*ORIGINS, None], None, True),
        ([*ORIGINS, None], "https://evil.net", False),
        (None, "https://evil.net", True),
    ],
)
@in_every_world()
async def test_s23_origins(world: World, origins: Any, origin: str | None, opens: bool) -> None:
    async with world.serve(echo, origins=origins) as server:
        peer = await world.reach(server)
        await peer.write(request(headers={"Origin": origin}))
        assert (await peer.read_until()).startswith(b"HTTP/1.1 101 " if opens else b"HTTP/1.1 403 ")
        peer.reset()


@scenario(23)
@in_every_world()
async def test_s23_several_origins(world: World) -> None:
    await refused(
        world, request(headers={"Origin": ["https://example.com", "https://evil.net"]}), 400, origins=[*ORIGINS, None]
    )


# ------------------------------------------------------------------------------------------------ how it is answered


@scenario(26)
@pytest.mark.parametrize("stays", [False, True], ids=["client ends", "client stays"])
@pytest.mark.parametrize(
    "data", [b"garbage\r\n\r\n", request(method="POST"), request(headers={"Upgrade": None})], ids=["400", "405", "426"]
)
@each_loop
async def test_s26_refused_socket_closes(data: bytes, stays: bool) -> None:
    async with serve(echo, "127.0.0.1", 0, close_timeout=0.1) as server, real_client(port_of(server), data) as peer:
        head = await peer.head()
        assert b"\r\nConnection: close\r\n" in head
        assert len(await peer.rest()) == int(re.findall(rb"Content-Length: (\d+)", head)[0])
        if stays:
            # Our side of the connection is not ended by the client, so the server does, in time.
            await until(lambda: not server._ws_registry.all)
        else:
            peer.writer.close()
            await until(lambda: not server._ws_registry.all)


@scenario(28)
@pytest.mark.parametrize("split", [None, 1, 200])
@each_loop
async def test_s28_frame_in_the_segment_of_the_request(split: int | None) -> None:
    async with serve(echo, "127.0.0.1", 0) as server, real_client(port_of(server), b"") as peer:
        data = request() + wire.text("early", mask=True) + wire.text("bird", mask=True)
        peer.send(data[:split])
        await asyncio.sleep(0)
        if split is not None:
            peer.send(data[split:])
        await peer.head()
        assert [(await peer.frame()).payload, (await peer.frame()).payload] == [b"early", b"bird"]


# ------------------------------------------------------------------------------------------------------ credentials


@scenario(24)
@in_every_world()
async def test_s24_credentials_are_in_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    check = world.basic_auth("realm", credentials=("user", "right"))
    async with world.serve(echo, process_request=check) as server:
        await welcome(world, server, "user:right@")
        with pytest.raises(InvalidStatus) as caught:
            await world.connect(world.uri(server, user_info="user:wr0ng@"))
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["WWW-Authenticate"] == 'Basic realm="realm", charset="UTF-8"'
    shown = caplog.text + str(caught.value) + repr(caught.value)
    for secret in ["right", "wr0ng", "dXNlcjpyaWdodA==", "dXNlcjp3cjBuZw=="]:
        assert secret not in shown


@scenario(27)
@in_every_world()
async def test_s27_crash_of_a_hook_tells_the_client_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def process_request(connection: ServerConnection, request: Any) -> None:
        raise LookupError("password of the database")

    answer = await refused_by_us(world, process_request=process_request)
    assert b"password" not in answer.body
    assert b"LookupError" not in answer.body
    assert b"Traceback" not in answer.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.message == "process_request failed"
    assert record.exc_info is not None
