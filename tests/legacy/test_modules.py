"""Modules of before 14.0 that programs used beside connections: frames, requests and responses on a stream, helpers."""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from _kit import KEY, accept_key, request, virtual, wire
from _kit.asking import ask, uri_of
from _kit.platforms import needs_unix_sockets
from websockets import frames, http11, utils
from websockets.exceptions import (
    PayloadTooBig,
    ProtocolError,
    SecurityError,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Opcode
from websockets.legacy import framing
from websockets.legacy import http as legacy_http
from websockets.legacy.client import connect
from websockets.legacy.server import WebSocketServerProtocol, remove_path_argument, serve


def stream_of(data: bytes) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return stream


# -------------------------------------------------------------------------------------------------------------- frames

FRAMES = [
    (framing.Frame(True, Opcode.TEXT, b"hi"), b"\x81\x02hi"),
    (framing.Frame(False, Opcode.BINARY, b"x" * 126), b"\x02\x7e\x00\x7e" + b"x" * 126),
    (framing.Frame(True, Opcode.CONT, bytes(2**16)), b"\x80\x7f" + (2**16).to_bytes(8, "big") + bytes(2**16)),
    (framing.Frame(True, Opcode.PING, b""), b"\x89\x00"),
]


@pytest.mark.parametrize(("frame", "data"), FRAMES)
def test_frames_are_written_and_read(frame: framing.Frame, data: bytes) -> None:
    async def read(written: bytes, mask: bool) -> framing.Frame:
        stream = stream_of(written + b"rest")
        found = await framing.Frame.read(stream.readexactly, mask=mask)
        assert await stream.read() == b"rest"
        return found

    written: list[bytes] = []
    frame.write(written.append, mask=False)
    assert written == [data]
    assert asyncio.run(read(data, False)) == frame
    frame.write(written.append, mask=True)
    assert written[1] != data
    assert asyncio.run(read(written[1], True)) == frame
    assert frame.new_frame == frames.Frame(frame.opcode, frame.data, frame.fin)
    assert str(frame) == str(frame.new_frame)


def test_frames_go_through_extensions() -> None:
    async def read(data: bytes) -> framing.Frame:
        return await framing.Frame.read(stream_of(data).readexactly, mask=False, extensions=[deflate()])

    def deflate() -> PerMessageDeflate:
        return PerMessageDeflate(False, False, 15, 15)

    frame = framing.Frame(True, Opcode.TEXT, b"x" * 1000)
    written: list[bytes] = []
    frame.write(written.append, mask=False, extensions=[deflate()])
    assert len(written[0]) < 100
    assert asyncio.run(read(written[0])) == frame


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (wire.frame(wire.TEXT, b"hi", mask=True), ProtocolError, "incorrect masking"),
        (b"\x83\x00", ProtocolError, "invalid opcode"),
        (b"\xc1\x00", ProtocolError, "reserved bits must be 0"),
        (b"\x89\x7e\x00\xff", ProtocolError, "control frame too long"),
        (b"\x09\x00", ProtocolError, "fragmented control frame"),
        (b"\x81\x7e\x00\xff", PayloadTooBig, "frame with 255 bytes exceeds limit of 10 bytes"),
    ],
)
def test_frames_that_break_a_rule(data: bytes, error: type[Exception], text: str) -> None:
    async def read() -> None:
        await framing.Frame.read(stream_of(data).readexactly, mask=False, max_size=10)

    with pytest.raises(error, match=f"^{text}$"):
        asyncio.run(read())


def test_frames_that_may_not_be_written() -> None:
    for frame, text in [
        (framing.Frame(True, 3, b""), "invalid opcode"),  # type: ignore[arg-type]
        (framing.Frame(True, Opcode.PING, bytes(126)), "control frame too long"),
        (framing.Frame(True, Opcode.TEXT, b"", True), "reserved bits must be 0"),
    ]:
        with pytest.raises(ProtocolError, match=f"^{text}$"):
            frame.write(print, mask=False)


def test_payloads() -> None:
    assert framing.prepare_data("\u00e9") == (Opcode.TEXT, b"\xc3\xa9")
    for data in (b"x", bytearray(b"x"), memoryview(b"x")):
        assert framing.prepare_data(data) == (Opcode.BINARY, data)
        assert framing.prepare_ctrl(data) == framing.encode_data(data) == b"x"
    assert framing.prepare_ctrl("\u00e9") == b"\xc3\xa9"
    for prepare in (framing.prepare_data, framing.prepare_ctrl):
        with pytest.raises(TypeError, match=r"^data must be str or bytes-like$"):
            prepare(5)  # type: ignore[arg-type]


def test_payload_of_a_close() -> None:
    assert framing.serialize_close(1000, "ok") == b"\x03\xe8ok"
    assert framing.parse_close(b"\x03\xe8ok") == (1000, "ok")
    assert framing.parse_close(b"") == (CloseCode.NO_STATUS_RCVD, "")
    for wrong in (lambda: framing.parse_close(b"\x03"), lambda: framing.serialize_close(1, "")):
        with pytest.raises(ProtocolError):
            wrong()


# ------------------------------------------------------------------------------------------------ requests, responses


def test_reading_a_request() -> None:
    async def read() -> None:
        stream = stream_of(request("/chat?a", {"Cookie": "b"}) + b"rest")
        path, headers = await legacy_http.read_request(stream)
        assert (path, headers["Cookie"]) == ("/chat?a", "b")
        assert await stream.read() == b"rest"

    asyncio.run(read())


def test_reading_a_response() -> None:
    async def read() -> None:
        stream = stream_of(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nrest")
        status, reason, headers = await legacy_http.read_response(stream)
        assert (status, reason, headers["Content-Length"]) == (404, "Not Found", "4")
        assert await stream.read() == b"rest"

    asyncio.run(read())


@pytest.mark.parametrize(
    ("read", "data", "error"),
    [
        (legacy_http.read_request, b"", EOFError),
        (legacy_http.read_request, b"GET /a", EOFError),
        (legacy_http.read_request, b"POST / HTTP/1.1\r\n\r\n", ValueError),
        (legacy_http.read_request, b"GET / HTTP/1.0\r\n\r\n", ValueError),
        (legacy_http.read_request, b"GET / HTTP/1.1\r\nno colon\r\n\r\n", ValueError),
        (legacy_http.read_request, b"GET /%b HTTP/1.1\r\n\r\n" % (b"a" * 9000), SecurityError),
        (legacy_http.read_request, b"GET / HTTP/1.1\r\n%b\r\n" % (b"A: b\r\n" * 200), SecurityError),
        (legacy_http.read_response, b"HTTP/1.1 200 OK\r\n", EOFError),
        (legacy_http.read_response, b"hello\r\n", ValueError),
    ],
)
def test_what_is_not_read(read: Any, data: bytes, error: type[Exception]) -> None:
    async def main() -> None:
        await read(stream_of(data))

    with pytest.raises(error):
        asyncio.run(main())


async def nothing(websocket: WebSocketServerProtocol) -> None:
    """A handler."""


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = http11.MAX_LINE_LENGTH, http11.MAX_NUM_HEADERS
    assert before == (legacy_http.MAX_LINE_LENGTH, legacy_http.MAX_NUM_HEADERS)
    yield
    legacy_http.MAX_LINE_LENGTH, legacy_http.MAX_NUM_HEADERS = before
    assert before == (http11.MAX_LINE_LENGTH, http11.MAX_NUM_HEADERS)


@pytest.mark.usefixtures("limits")
@virtual
async def test_limits_that_a_program_sets_while_it_runs() -> None:
    many, long = b"A: b\r\n" * 200, b"A: %b\r\n" % (b"b" * 20_000)
    async with serve(nothing, "localhost", 0) as server:
        for raw in (many, long):
            assert (await ask(server, request(raw=raw))).status == "431 Request Header Fields Too Large"
        legacy_http.MAX_LINE_LENGTH = 30_000
        legacy_http.MAX_NUM_HEADERS = 300
        async with connect(uri_of(server), extra_headers=[("A", "b")] * 200 + [("B", "b" * 20_000)]):
            pass
        legacy_http.MAX_NUM_HEADERS = 3
        assert (await ask(server, request())).status == "431 Request Header Fields Too Large"


def test_other_names_of_that_module_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_http, "read_request", None)
    assert not hasattr(http11, "read_request")


# -------------------------------------------------------------------------------------------------------------- helpers


def test_keys() -> None:
    assert utils.accept_key(KEY) == accept_key(KEY)
    keys = {utils.generate_key() for _ in range(10)}
    assert {len(key) for key in keys} == {24}
    assert len(keys) == 10
    assert utils.GUID == "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def test_masks() -> None:
    for data in (b"abcde", bytearray(b"abcde"), memoryview(b"abcde")):
        for mask in (b"1234", bytearray(b"1234")):
            assert utils.apply_mask(data, mask) == b"PPPPT"
    with pytest.raises(ValueError, match=r"^mask must contain 4 bytes, not 3$"):
        utils.apply_mask(b"abcde", b"123")


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_names_of_sockets(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        port = sock.getsockname()[1]
        assert utils.get_socket_name(sock) == (f"{host}:{port}" if family == socket.AF_INET else f"[{host}]:{port}")


@needs_unix_sockets
def test_names_of_unix_sockets(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        assert utils.get_socket_name(sock) == ""
        sock.bind(str(tmp_path / "socket"))
        assert utils.get_socket_name(sock) == str(tmp_path / "socket")


def test_handlers_with_a_path() -> None:
    async def with_path(websocket: WebSocketServerProtocol, path: str) -> str:
        return path

    class Connection:
        path = "/chat"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert remove_path_argument(nothing) is nothing
    with pytest.warns(DeprecationWarning, match=r"^remove second argument of ws_handler$") as caught:
        handler: Any = remove_path_argument(with_path)
    assert caught[0].filename == __file__
    assert asyncio.run(handler(Connection())) == "/chat"
