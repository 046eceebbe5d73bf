"""Targets: whole connections, on which anything arrives in any pieces.

May know: the protocols, connections on asyncio, the virtual loop, oracles. Must not know: engines.

The sans-I/O protocols are given the same bytes in different pieces and must do the same, with either twin of the
accelerator. Connections on asyncio live through a script, in which the application and its peer take turns; the twins
must agree on all that the one learns and the other is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from _kit import wire
from _kit.clock import VirtualLoop, advance, idle
from _kit.peer import RawPeer
from core._twins import TWINS, Rules, oracle
from fuzz.streams import FRAME_WORDS
from fuzz.target import Reader, Target, alike, chunkings, require, shown
from fuzz.values import HTTP_WORDS
from fuzz.worlds import WORLDS
from websockets import exceptions, frames, http11, protocol
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory as ServerFactory
from websockets.server import ServerProtocol
from websockets.testing import Link, MemoryTransport
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

__all__ = ["TARGETS"]


# ----------------------------------------------------------------------------------------------- after the handshake


def written(writes: list[bytes], masked: bool) -> tuple[list[Any], bool]:
    """The frames that a protocol wrote, and whether it ended its stream, after which it may not write."""
    ended = b"" in writes
    require(not ended or writes.index(b"") == len(writes) - 1, "written after the end", writes)
    rows, rest = wire.parse(b"".join(writes))
    require(rest == b"" and all((row.mask is not None) == masked for row in rows), "no whole frames", rows, rest)
    return [row._replace(mask=None) for row in rows], ended


def live(sans: Any, chunks: list[bytes], late: bool = False) -> dict[str, Any]:
    """What becomes of a protocol that is given some chunks, and then the end of the stream.

    Parameters:
        sans: the protocol.
        chunks: what arrives.
        late: whether nobody looks at it before all chunks arrived.
    """
    events: list[Any] = []
    writes: list[bytes] = []
    for index, chunk in enumerate([*chunks, None]):
        if chunk is None:
            sans.receive_eof()
        else:
            sans.receive_data(chunk)
        if late and index < len(chunks) - 1:
            continue
        news = sans.events_received()
        if news and isinstance(news[0], http11.Request):
            if sans.state is protocol.State.CONNECTING:
                sans.send_response(sans.accept(news[0]))
            news += sans.events_received()
        events += news
        writes += sans.data_to_send()
    return {
        "events": events,
        "writes": writes,
        "state": sans.state.name,
        "code": sans.close_code,
        "reason": sans.close_reason,
        "error": shown(sans.parser_exc),
        "closed": shown(sans.close_exc) if sans.close_code is not None else None,
        "received": sans.close_rcvd,
        "sent": sans.close_sent,
        "order": sans.close_rcvd_then_sent,
        "handshake": shown(sans.handshake_exc),
    }


class Twin:
    """Lets the protocols use one twin of the accelerator."""

    NAMES = ("FrameDecoder", "build_frame", "new_mask")

    def __init__(self, twin: Any) -> None:
        self.twin = twin

    def __enter__(self) -> None:
        self.before = {name: getattr(protocol, name) for name in self.NAMES}
        for name in self.NAMES:
            setattr(protocol, name, getattr(self.twin, name))

    def __exit__(self, *exc_info: object) -> None:
        for name, value in self.before.items():
            setattr(protocol, name, value)


def check_protocol(data: bytes) -> None:
    """A connection that is open: what arrives, what is answered, how it ends."""
    reader = Reader(data)
    settings, seed = reader.byte(), reader.byte()
    limit = reader.choose((None, 0, 1, 5, 125, 300, (300, 5), (None, 5)))
    data = reader.rest()
    side = protocol.Side(settings & 1)
    results = []
    for twin in TWINS.values():
        with Twin(twin):
            for chunks in chunkings(data, seed):
                sans = protocol.Protocol(side, max_size=limit)
                if settings & 2:
                    sans.extensions = [PerMessageDeflate(bool(settings & 4), bool(settings & 8), 15, 15)]
                results.append(live(sans, chunks))
                results[-1]["writes"] = written(results[-1]["writes"], side is protocol.Side.CLIENT)
    result = alike(results, side, limit)
    check_answers(result, data)
    if not settings & 2:
        message, fragment = limit if isinstance(limit, tuple) else (limit, None)
        limits = [-1 if size is None else size for size in (fragment, message)]
        rules = Rules(side is protocol.Side.SERVER, 0, limits[0], limits[1])
        check_by_oracle(result, data, rules)


def check_answers(result: dict[str, Any], data: bytes) -> None:
    """Nothing is sent but what is owed, and no more of it than of what arrived."""
    rows, ended = result["writes"]
    require(ended and result["state"] == "CLOSED", "not over", result["state"])
    pings = [bytes(frame.data) for frame in result["events"] if frame.opcode is frames.Opcode.PING]
    pongs = [row.payload for row in rows if row.opcode == wire.PONG]
    require(pongs == pings, "pongs", pongs, pings)
    closes = [row.payload for row in rows if row.opcode == wire.CLOSE]
    require(len(closes) <= 1 and len(rows) == len(pongs) + len(closes), rows)
    require(not closes or rows[-1].opcode == wire.CLOSE, "sent after Close", rows)
    if closes and closes[0]:
        frames.Close.parse(closes[0]).check()


def check_by_oracle(result: dict[str, Any], data: bytes, rules: Rules) -> None:
    """The frames of the oracle arrive, up to a Close that can't be read, and its failure is the one that is sent."""
    verdict = oracle(data, rules)
    expected = [*zip(verdict.frames[::2], verdict.frames[1::2], strict=True)]
    if expected and expected[-1][0] & 15 == wire.CLOSE:
        try:
            frames.Close.parse(expected[-1][1])
        except (exceptions.ProtocolError, UnicodeDecodeError) as exc:
            expected.pop()
            code = 1002 if isinstance(exc, exceptions.ProtocolError) else 1007
            require(result["sent"] is not None and result["sent"].code == code, result)
    got = [(frame.head, bytes(frame.data)) for frame in result["events"]]
    require(got == expected, "other frames", got, expected)
    if verdict.failure is not None:
        require(result["sent"] is not None and result["sent"].code == verdict.failure[0], result, verdict)
        require(result["error"] is not None, result, verdict)


# ------------------------------------------------------------------------------------------------------ from the start

OPENING_WORDS = (
    *HTTP_WORDS,
    wire.request(),
    wire.response(),
    b"GET /chat HTTP/1.1\r\nHost: a\r\n",
    b"Upgrade: websocket\r\n",
    b"Connection: Upgrade\r\n",
    b"Connection: keep-alive, Upgrade\r\n",
    f"Sec-WebSocket-Key: {wire.KEY}\r\n".encode(),
    f"Sec-WebSocket-Accept: {wire.accept_key(wire.KEY)}\r\n".encode(),
    b"Sec-WebSocket-Version: 13\r\n",
    b"Sec-WebSocket-Protocol: chat, x\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    b"Origin: http://a\r\n",
    b"Authorization: Basic YTpi\r\n",
    *FRAME_WORDS,
)

# What the server may say of a request; 500 would be a failure of its own.
STATUSES = {101, 400, 403, 405, 413, 414, 426, 431, 505}
NAMES = {
    "Date",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Content-Length",
    "Content-Type",
    "Allow",
}


def check_server(data: bytes) -> None:
    """A server that anything is sent to from the first byte on."""
    reader = Reader(data)
    settings, seed = reader.byte(), reader.byte()
    data = reader.rest()
    if settings & 4:
        data = wire.request(headers={"Sec-WebSocket-Extensions": "permessage-deflate"}) + data
    results = []
    for chunks in chunkings(data, seed):
        server = ServerProtocol(
            extensions=[ServerFactory()] if settings & 1 else None,
            subprotocols=[Subprotocol("chat")] if settings & 2 else None,
        )
        result = live(server, chunks, late=bool(settings & 8))
        result["writes"] = re.sub(rb"Date: [^\r]*\r\n", b"", b"".join(result["writes"])), b"" in result["writes"]
        results.append(result)
    result = alike(results)
    require(result["writes"][1], "the stream wasn't ended")
    if result["writes"][0]:
        check_first_response(result["writes"][0])


def check_first_response(data: bytes) -> None:
    """What the server answers is HTTP, in words that are its own."""
    parser = http11.ResponseParser()
    response = parser.feed(data)
    require(response is not None, "no whole response", data)
    assert response is not None
    require(response.status_code in STATUSES, response)
    require({name for name, _ in response.headers.raw_items()} <= NAMES, response)
    if response.status_code == 101:
        wire.parse(parser.rest)
    else:
        require(parser.rest == b"" and response.headers["Connection"] == "close", response)


HANDSHAKE_ERRORS = (exceptions.InvalidHandshake, type(None))


def check_client(data: bytes) -> None:
    """A client that anything is answered to from the first byte on."""
    reader = Reader(data)
    settings, seed = reader.byte(), reader.byte()
    data = reader.rest()
    if settings & 4:
        data = wire.response() + data
    results = []
    for chunks in chunkings(data, seed):
        client = ClientProtocol(
            parse_uri("ws://localhost/"),
            extensions=[ClientPerMessageDeflateFactory()] if settings & 1 else None,
            subprotocols=[Subprotocol("chat"), Subprotocol("x")] if settings & 2 else None,
        )
        client.key = wire.KEY
        result = live(client, chunks)
        require(isinstance(client.handshake_exc, HANDSHAKE_ERRORS), client.handshake_exc)
        opened = client.handshake_exc is None
        require(opened or not any(isinstance(event, frames.Frame) for event in result["events"]), result)
        result["writes"] = written(result["writes"], masked=True)
        results.append(result)
    alike(results)


# ---------------------------------------------------------------------------------------------------------- on asyncio


class Script:
    """A connection on asyncio, its application and its peer, by the bytes of an input.

    Parameters:
        world: the copy of the library.
        reader: what happens.
    """

    def __init__(self, world: Any, reader: Reader) -> None:
        self.world = world
        self.reader = reader
        self.log: list[Any] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ended = False

    async def run(self) -> list[Any]:
        """Live through it; return what happened, in order."""
        settings, limit = self.reader.byte(), self.reader.choose((None, 5, 300))
        side = self.world.protocol.Side(settings & 1)
        sans = self.world.protocol.Protocol(side, max_size=limit)
        if settings & 2:
            sans.extensions = [self.world.deflate.PerMessageDeflate(False, False, 15, 15)]
        self.connection = self.world.connection.Connection(
            sans, ping_interval=20 if settings & 4 else None, max_queue=(None, 1, 4)[settings >> 3 & 1], write_limit=200
        )
        link = Link(asyncio.get_running_loop(), chunk=(None, 1, 7)[settings >> 4 & 1], capacity=2000)
        MemoryTransport(asyncio.get_running_loop(), link.server, self.connection)
        self.peer = RawPeer(link.client)
        self.masked = side is self.world.protocol.Side.CLIENT
        await idle()
        for number in range(30):
            if not self.reader:
                break
            await self.act(number)
            await idle()
        await self.finish()
        return self.log

    async def act(self, number: int) -> None:
        """One thing that happens."""
        kind = self.reader.byte() % 16
        if kind < 6:
            self.send(self.reader.take(self.reader.byte() % 64))
        elif kind == 6:
            await advance(self.reader.choose((0.0, 1.0, 15.0)))
        elif kind == 7:
            self.peer.stop_reading() if self.reader.byte() & 1 else self.peer.resume_reading()
        elif kind == 8:
            self.cancel()
        elif kind == 9:
            self.end()
        else:
            self.begin(number, self.call(kind))

    def send(self, data: bytes) -> None:
        """The peer sends something, or as much of it as there is room for."""
        if data and not self.ended and self.peer.sock.writable:
            with contextlib.suppress(OSError):
                self.peer.sock.send(data)

    def cancel(self) -> None:
        """Cancel a task, or none."""
        if self.tasks:
            self.reader.choose(self.tasks).cancel()

    def end(self) -> None:
        """The peer ends the connection, in some way or another."""
        if self.ended:
            return
        self.ended = True
        if self.reader.byte() & 1:
            with contextlib.suppress(OSError):
                self.peer.eof()
        else:
            self.peer.reset()

    def call(self, kind: int) -> Callable[[], Awaitable[Any]]:
        """Something that the application does."""
        connection, choose = self.connection, self.reader.choose
        message = choose(("hi", b"bytes", "é" * 200, b"x" * 1500, ["frag", "ments"], ""))
        code = choose((1000, 1001, 3000, 1011))
        calls: list[Callable[[], Awaitable[Any]]] = [
            connection.recv,
            self.stream,
            lambda: connection.send(message),
            lambda: connection.ping(str(code)),
            lambda: connection.close(code, "reason"),
            connection.recv,
        ]
        return calls[kind - 10]

    async def stream(self) -> str:
        """A message in fragments, joined: how many there are may depend on when they are asked for."""
        pieces = [piece async for piece in self.connection.recv_streaming(decode=False)]
        return b"".join(pieces).hex()

    def begin(self, number: int, call: Callable[[], Awaitable[Any]]) -> None:
        """Let the application do something, and note what it comes to."""

        async def note() -> None:
            try:
                result = await call()
                self.log.append((number, "future" if asyncio.isfuture(result) else result))
            except asyncio.CancelledError:
                self.log.append((number, "cancelled"))
            except self.expected() as exc:
                self.log.append((number, *(shown(exc) or ())))

        self.tasks.append(asyncio.ensure_future(note()))

    def expected(self) -> tuple[type[Exception], ...]:
        module = self.world.exceptions
        return module.ConnectionClosedOK, module.ConnectionClosedError, module.ConcurrencyError

    async def finish(self) -> None:
        """End it, and require that everything ends with it."""
        self.peer.resume_reading()
        await idle()
        self.peer.reset()
        await idle()
        # A connection that doesn't read, as nobody asks for messages, doesn't see a reset.
        connection = self.connection
        closing = asyncio.ensure_future(connection.close())
        await advance(60)
        for task in [*self.tasks, closing]:
            require(task.done(), "a task that never ends", task)
            task.result()
        require(connection.state.name == "CLOSED", connection.state)
        self.log.append((connection.close_code, connection.close_reason, self.rows()))

    def rows(self) -> list[Any]:
        """What the peer was sent; the masks and the payload of pings for keepalive are random."""
        rows, rest = wire.parse(self.peer.received)
        require(all((row.mask is not None) == self.masked for row in rows), rows)
        seen = [row._replace(mask=None) for row in rows]
        hide = [
            row._replace(payload=b"?") if row.opcode == wire.PING and len(row.payload) == 4 else row for row in seen
        ]
        # What was cut off is cut off at the same byte, but masked differently.
        return [*hide, len(rest)]


def play(world: Any, data: bytes) -> list[Any]:
    """Live through a script in one world."""
    return run_in_memory(Script(world, Reader(data)).run())


def run_in_memory(main: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """What a coroutine returns, on a virtual loop to which nothing may be reported."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        log = runner.run(main)
    require(not loop.errors, "reported to the loop", loop.errors)
    return log


def check_connection(data: bytes) -> None:
    """Both twins of everything: what the application learns, and what the peer is sent."""
    alike([play(world, data) for world in WORLDS])


# ------------------------------------------------------------------------------------------------------ large payloads

SIZES = (0, 1, 3, 125, 4000, 65_535, 65_536, 65_537, 100_000, 131_072, 200_000, 262_143, 300_000)
PIECES = (997, 4096, 65_536, 65_550, 262_144)
ASCII = b"0123456789abcdefghijklmnopqrstuvwxyz" * 9000


def mask_quickly(data: bytes) -> bytes:
    """Mask a large payload; the naive format would take its time."""
    key = (wire.MASK * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")


def large_frame(reader: Reader, masked: bool) -> bytes:
    """A frame of any size; its payload is ASCII, but for a few bytes somewhere."""
    head = reader.choose((0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x89, 0x81))
    size = (reader.choose(SIZES) + reader.byte() % 3) if head & 8 == 0 else 3
    payload = bytearray(ASCII[:size])
    odd = reader.choose((b"", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\xc3", b"\xff", b"\xed\xa0", b"\xe2\x82"))
    at = (0, max(size - len(odd), 0), size // 2, min(65_530 + reader.byte() % 12, size))[reader.byte() % 4]
    payload[at : at + len(odd)] = odd[: max(size - at, 0)]
    data = bytes(payload)
    frame = wire.frame(head & 15, b"", fin=head >= 128, mask=masked, declared=len(data))
    return frame + (mask_quickly(data) if masked else data)


async def read_large(world: Any, data: bytes, pieces: int) -> list[Any]:
    """The messages of an application that reads all of them, from a peer whose frames arrive in pieces."""
    reader = Reader(data)
    settings, limit = reader.byte(), reader.choose((None, 100_000, 250_000, 65_536))
    side = world.protocol.Side(settings & 1)
    sans = world.protocol.Protocol(side, max_size=limit)
    connection = world.connection.Connection(sans, ping_interval=None, max_queue=(16, 1)[settings >> 1 & 1])
    loop = asyncio.get_running_loop()
    link = Link(loop, capacity=2**20)
    MemoryTransport(loop, link.server, connection)
    peer = RawPeer(link.client)
    frames_sent = b"".join(large_frame(reader, masked=settings & 1 == 0) for _ in range(1 + (settings >> 2) % 4))
    if settings & 64:
        frames_sent = frames_sent[: -1 - reader.number()]
    log: list[Any] = []

    async def read() -> None:
        try:
            while True:
                log.append(await connection.recv())
        except (world.exceptions.ConnectionClosedOK, world.exceptions.ConnectionClosedError) as exc:
            log.append(shown(exc))

    reading = asyncio.ensure_future(read())
    for piece in in_pieces(frames_sent, pieces, reader.byte()):
        with contextlib.suppress(OSError):
            await peer.send(piece)
        await idle()
    with contextlib.suppress(OSError):
        peer.eof()
    await advance(60)
    require(reading.done() and reading.exception() is None, "still reading")
    rows, _ = wire.parse(peer.received)
    return [*log, connection.close_code, [row._replace(mask=None) for row in rows]]


def in_pieces(data: bytes, size: int, first: int) -> list[bytes]:
    """Pieces of a size, of which the first may be another."""
    cuts = [0, *range(first, len(data), size), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(cuts) if begin < end]


def check_large(data: bytes) -> None:
    """Payloads that are read into where they belong: however they arrive, both twins give the same."""
    reader = Reader(data)
    sizes = {reader.choose(PIECES), reader.choose(PIECES), 10**6}
    data = reader.rest()
    alike([run_in_memory(read_large(world, data, size)) for world in WORLDS for size in sorted(sizes)])


SCRIPT_WORDS = (
    *(bytes([0, len(word)]) + word for word in FRAME_WORDS),
    # Messages in fragments, with a message before them that starts the decoder, in one read; then they are received.
    b"\x00\x12\x81\x01a\x01\x01\xc3\x89\x00\x00\x01\xa9\x80\x01b\x02\x00\x80\x00",
    b"\x00\x1b\x81\x81\x00\x00\x00\x00a\x01\x81\x00\x00\x00\x00\xc3\x00\x81\x00\x00\x00\x00\xa9\x80\x80\x00\x00\x00\x00",
    b"\x0a\x00\x00",
    b"\x0b\x00\x00",
    b"\x0c\x00\x00",
    b"\x0c\x03\x00",
    b"\x0c\x04\x00",
    b"\x0d\x00\x00",
    b"\x0e\x00\x00",
    b"\x06\x01",
    b"\x06\x02",
    b"\x07\x01",
    b"\x07\x00",
    b"\x08\x00",
    b"\x09\x00",
    b"\x09\x01",
)

TARGETS = [
    Target("protocol", check_protocol, FRAME_WORDS, 1000, 3),
    Target("server", check_server, OPENING_WORDS, 3000, 2),
    Target("client", check_client, OPENING_WORDS, 3000, 2),
    Target("large", check_large, (b"\x00", b"\x08\x01", b"\x05\x02", b"\x44", b"\x03\x00\x08"), 40, 4),
    Target("connection", check_connection, SCRIPT_WORDS, 600, 2),
]
