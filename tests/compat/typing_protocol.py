"""The protocol without I/O as typed programs use it; nothing here runs: see test_typing.py."""

from __future__ import annotations

from typing import assert_type

from websockets.client import ClientProtocol, backoff
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI, parse_uri


def client() -> ClientProtocol:
    uri = parse_uri("wss://user:password@example.com/path")
    assert_type(uri, WebSocketURI)
    assert_type(uri.port, int)
    assert_type(uri.user_info, tuple[str, str] | None)
    protocol = ClientProtocol(uri, extensions=[ClientPerMessageDeflateFactory()], max_size=(2**20, None))
    request = protocol.connect()
    assert_type(request, Request)
    request.headers["X-Header"] = "value"
    protocol.send_request(request)
    return protocol


def server(data: bytes) -> None:
    protocol = ServerProtocol(state=State.CONNECTING, max_size=None)
    protocol.receive_data(data)
    for event in protocol.events_received():
        if isinstance(event, Request):
            response = protocol.accept(event)
            assert_type(response, Response)
            protocol.send_response(response)
        elif isinstance(event, Frame):
            assert_type(event.opcode, Opcode)
            print(bytes(event.data), event.fin)
    protocol.send_response(protocol.reject(404, "nothing here\n"))


def converse(protocol: Protocol) -> list[bytes]:
    protocol.send_text(b"text")
    protocol.send_binary(memoryview(b"binary"), fin=False)
    protocol.send_continuation(b"more", fin=True)
    protocol.send_ping(b"ping")
    protocol.send_close(1000, "bye")
    protocol.fail(1011)
    protocol.receive_eof()
    assert_type(protocol.close_expected(), bool)
    assert_type(protocol.close_exc, ConnectionClosed)
    assert_type(protocol.close_code, int | None)
    assert_type(protocol.handshake_exc, Exception | None)
    protocol.send_text("text")  # type: ignore[arg-type]
    writes = protocol.data_to_send()
    assert_type(writes, list[bytes])
    return [data for data in writes if data is not SEND_EOF]


def values(headers: Headers) -> None:
    assert_type(headers["Host"], str)
    assert_type(headers.get("Host"), str | None)
    assert_type(headers.get("Host", "localhost"), str)
    assert_type(headers.get_all("Cookie"), list[str])
    for name, value in headers.raw_items():
        assert_type((name, value), tuple[str, str])
    assert_type(headers.copy(), Headers)
    assert_type(Protocol(Side.CLIENT).state, State)
    assert_type(next(backoff()), float)
