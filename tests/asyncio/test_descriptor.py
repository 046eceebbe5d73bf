"""What the compiled twin writes to a socket without the transport, and what it must never write.

Nobody could tell that it does, but for the time it takes: whatever would keep the transport from writing, or change
what it writes, keeps the twin from it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from asyncio import selector_events
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import request, virtual, wire
from _kit.platforms import needs_selector
from _kit.sockets import anonymous_tls
from _kit.tls import TLS_TRANSPORTS
from core._twins import TWINS
from robustness.worlds import LOOPS, each_loop
from websockets.asyncio import _internals
from websockets.asyncio._fastpath import _readable
from websockets.asyncio._internals import socket_behind
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.testing import connected_pair

from .test_fast_path_twins import Twin, compiled_twin, every_twin, make

# Those of another loop write all that there is to write.
pytestmark = needs_selector

# From the sizes whose frames are copied to those that the kernel takes in many pieces.
SIZES = [0, 1, 125, 126, 2000, 2040, 2041, 2042, 2043, 2044, 2045, 5000, 16384, 65535, 65536, 300_000, 2**20]

LARGE = b"y" * 2**20


async def transport_of(sock: socket.socket) -> Any:
    """A transport of the running loop, which nobody reads from."""
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=sock)
    transport.pause_reading()
    return transport


@contextlib.asynccontextmanager
async def behind(twin: Twin, *, client: bool = False) -> AsyncIterator[tuple[Any, socket.socket]]:
    """A path on a transport of asyncio, and the other end of its socket, which holds little."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in ours, theirs:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
        path = make(twin, client=client)
        type(path)._ws_write_pieces = lambda self, header, payload: self.transport.writelines([header, payload])
        path.transport = await transport_of(ours)
        path._ws_socket = socket_behind(path.transport)
        assert path._ws_socket is ours
        try:
            yield path, theirs
        finally:
            path.transport.abort()
            await asyncio.sleep(0)


def arrived(theirs: socket.socket) -> bytes:
    pieces = []
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while piece := theirs.recv(2**20):
            pieces.append(piece)
    return b"".join(pieces)


def waiting(transport: Any) -> bytes:
    """What waits in a transport of asyncio."""
    buffer = transport._buffer
    return bytes(buffer) if isinstance(buffer, bytearray) else b"".join(map(bytes, buffer))


def decoded(data: bytes, *, masked: bool) -> list[Any]:
    decoder = TWINS["python"].FrameDecoder(masked, 0, -1, -1, True)
    frames: list[Any] = decoder.feed(data)
    assert decoder.failure is None
    return frames[1::2]


def message(kind: str, size: int) -> Any:
    if kind == "wide text":
        return "\u00e9" * (size // 2)
    if kind == "text":
        return "x" * size
    return {"bytes": bytes, "bytearray": bytearray, "view": memoryview}[kind](b"y" * size)


# ------------------------------------------------------------------------------------------------- what is on the wire

kinds = st.sampled_from(["text", "wide text", "bytes", "bytearray", "view"])


@every_twin
@given(st.lists(st.tuples(kinds, st.sampled_from(SIZES)), max_size=5), st.booleans())
def test_what_the_socket_and_the_transport_get_is_the_stream(
    twin: Twin, plan: list[tuple[str, int]], client: bool
) -> None:
    """The transport gets what the socket doesn't take, and everything after that."""
    sent = [message(kind, size) for kind, size in plan]

    async def send() -> bytes:
        async with behind(twin, client=client) as (path, theirs):
            for item in sent:
                assert path._ws_send_now(item, None) == _readable.SENT
            return arrived(theirs) + waiting(path.transport)

    stream = asyncio.run(send())
    assert decoded(stream, masked=client) == [item if isinstance(item, str) else bytes(item) for item in sent]


@every_twin
@pytest.mark.parametrize("size", [2**18 - 14, 2**18 - 13, 2**18, 2**20, 3 * 2**20 + 1])
async def test_pieces_of_what_is_masked(twin: Twin, size: int) -> None:
    """However many of them the kernel takes, and where in one it stops, the mask goes on where it was."""
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    # TCP has room for several; a pair of sockets for less than one.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()) as ours, listening.accept()[0] as theirs:
            theirs.settimeout(60)  # what never comes must not be waited for
            path = make(twin, client=True)
            path.transport = await transport_of(ours)
            path._ws_socket = socket_behind(path.transport)
            path._ws_send_now(payload, None)
            stream, rest, whole = bytearray(), waiting(path.transport), size + 14
            while len(stream) < whole - len(rest):
                stream += theirs.recv(2**20)
            path.transport.abort()
            await asyncio.sleep(0)
    assert decoded(bytes(stream) + rest, masked=True) == [payload]


@compiled_twin
async def test_what_waits_comes_first(twin: Twin) -> None:
    async with behind(twin) as (path, theirs):
        path._ws_send_now("one", None)
        assert (arrived(theirs), waiting(path.transport)) == (b"\x81\x03one", b"")
        path.transport.write(LARGE)
        stream = arrived(theirs)
        path._ws_send_now("two", None)
        path._ws_send_now(LARGE, None)
        path._ws_put(b"\x81\x01x", 1)
        stream += arrived(theirs) + waiting(path.transport)
        assert stream == LARGE + b"\x81\x03two" + b"\x82\x7f" + len(LARGE).to_bytes(8, "big") + LARGE + b"\x81\x01x"


@every_twin
async def test_nothing_is_written_once_the_transport_closes(twin: Twin) -> None:
    async with behind(twin) as (path, theirs):
        path.transport.close()
        for size in SIZES:
            if size < _readable.GATHER_FROM:
                path._ws_send_now(bytes(size), None)
        assert (arrived(theirs), waiting(path.transport), path._ws_bytes_sent) == (b"", b"", 0)


@every_twin
async def test_a_socket_goes_with_its_transport(twin: Twin) -> None:
    async with behind(twin) as (path, theirs):
        first, ours = path.transport, path._ws_socket
        path.transport = other = await transport_of(socket.create_server(("127.0.0.1", 0)))
        if not isinstance(path, _readable.FastPath):
            assert path._ws_socket is None
        assert ours is not None
        assert arrived(theirs) == b""
        path.transport = first
        other.abort()


# ----------------------------------------------------------------------------------------------- somebody else's socket


class Strangers:
    """Sockets that get the numbers of others which were closed, and must not get anything else."""

    def __init__(self) -> None:
        self.pairs: list[tuple[socket.socket, socket.socket]] = []

    def take(self, number: int) -> None:
        """Open sockets until one has this number."""
        while not any(sock.fileno() == number for pair in self.pairs for sock in pair):
            self.pairs.append(socket.socketpair())

    def close(self) -> bytes:
        """What any of them got."""
        got = bytearray()
        for sock in (sock for pair in self.pairs for sock in pair):
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                got += sock.recv(2**20)
        for pair in self.pairs:
            for sock in pair:
                sock.close()
        return bytes(got)


ENDS: dict[str, Callable[[socket.socket], object]] = {
    "closed": socket.socket.close,
    "detached": lambda sock: os.close(sock.detach()),
}


@every_twin
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("size", [10, 5000, 2**18])
async def test_what_somebody_else_owns_by_now_is_not_written_to(
    twin: Twin, end: Callable[[socket.socket], object], size: int
) -> None:
    strangers = Strangers()
    async with behind(twin) as (path, _):
        ours = path._ws_socket
        number = ours.fileno()
        end(ours)
        strangers.take(number)
        with contextlib.suppress(OSError):
            path._ws_send_now(bytes(size), None)
            path._ws_send_now("more", None)
        assert path.transport.is_closing()
        selector_of_running_loop_forgets(number)
    assert strangers.close() == b""


def selector_of_running_loop_forgets(number: int) -> None:
    """The loop still watches a number that a socket had when it was closed behind its back."""
    with contextlib.suppress(Exception):
        asyncio.get_running_loop()._selector.unregister(number)  # type: ignore[attr-defined]


# uvloop keeps a number, and with it what was detached; but nothing is closed below it.
@pytest.mark.parametrize(("loop", "end"), [("asyncio", "closed"), ("asyncio", "detached"), ("uvloop", "closed")])
def test_a_socket_that_its_owner_closed(loop: str, end: str) -> None:
    """``connect(sock=sock)``, and the caller closes ``sock``: the connection ends; nobody else hears of it."""
    if loop not in LOOPS:
        pytest.skip("there is no uvloop here")
    strangers = Strangers()

    async def test() -> None:
        async with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0) as server:
            address = next(iter(server.sockets)).getsockname()
            with socket.create_connection(address) as sock:
                client = await connect("ws://localhost/", sock=sock, proxy=None, compression=None)
                number = sock.fileno()
                ENDS[end](sock)
            if loop == "asyncio":
                strangers.take(number)
                with contextlib.suppress(ConnectionClosedError):
                    for _ in range(3):
                        await client.send("secret")
                        await asyncio.sleep(0)
                with pytest.raises(ConnectionClosedError) as raised:
                    await client.recv()
                assert isinstance(raised.value.__cause__, OSError)
                selector_of_running_loop_forgets(number)
            else:
                await client.send("for the server")
            client.transport.abort()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(test())
    assert strangers.close() == b""


@every_twin
def test_a_transport_that_was_collected(twin: Twin) -> None:
    """It closes its socket without being told to close."""
    strangers = Strangers()

    async def test() -> None:
        async with behind(twin) as (path, _):
            number = path._ws_socket.fileno()
            with pytest.warns(ResourceWarning):
                path.transport.__del__()
            strangers.take(number)
            assert not path.transport.is_closing()
            with contextlib.suppress(OSError):
                path._ws_send_now("secret", None)
            selector_of_running_loop_forgets(number)

    asyncio.run(test())
    assert strangers.close() == b""


CLOSED_LOOP = """
import asyncio, os, socket, sys
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

async def opened():
    server = await serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0)
    uri = "ws://127.0.0.1:%d/" % next(iter(server.sockets)).getsockname()[1]
    return server, await connect(uri, proxy=None, compression=None)

if {loop!r} == "uvloop":
    import uvloop
    loop = uvloop.new_event_loop()
else:
    loop = asyncio.new_event_loop()
server, client = loop.run_until_complete(opened())
numbers = [connection.transport.get_extra_info("socket").fileno() for connection in [client, *server.connections]]
loop.close()
pairs = [socket.socketpair() for _ in range(20)]
reused = [number for number in numbers if any(sock.fileno() == number for pair in pairs for sock in pair)]
for _ in range(3):
    try:
        client.send("secret").send(None)
    except (StopIteration, Exception):
        pass
for pair in pairs:
    for sock in pair:
        sock.setblocking(False)
        try:
            print("a stranger got", sock.recv(100))
        except BlockingIOError:
            pass
print("done", len(reused) if {loop!r} == "uvloop" else 2, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_was_closed(loop: str) -> None:
    """With a connection open: uvloop closes its sockets, and what is sent then goes to nobody else."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLOSED_LOOP.format(loop=loop)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("done 2\n", "")


# ------------------------------------------------------------------------------------------ who has the transport's ear


@every_twin
@pytest.mark.parametrize("size", [4, 5000, 2**18])
@pytest.mark.parametrize("where", ["instance", "class"])
async def test_who_replaces_write_sees_everything(
    twin: Twin, size: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def write(*arguments: Any) -> None:
        data = arguments[-1]
        seen.append(b"".join(map(bytes, data)) if isinstance(data, list) else bytes(data))

    async with behind(twin) as (path, theirs):
        for name in ("write", "writelines"):
            monkeypatch.setattr(path.transport if where == "instance" else type(path.transport), name, write)
        path._ws_send_now(bytes(size), None)
        path._ws_write_out(b"\x8a\x00")
        path._ws_put(b"\x81\x01x", 1)
        assert arrived(theirs) == b""
        assert decoded(b"".join(seen), masked=False) == [bytes(size), b"", "x"]
        monkeypatch.undo()
        path._ws_send_now("again", None)
        assert arrived(theirs) == b"\x81\x05again"


@every_twin
@pytest.mark.parametrize("name", ["write", "writelines"])
async def test_who_replaces_one_of_them_sees_what_it_is_for(
    twin: Twin, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large frame of a server is written in pieces, which older releases of asyncio join."""
    seen: list[Any] = []
    async with behind(twin) as (path, theirs):
        monkeypatch.setattr(path.transport, name, seen.append)
        path._ws_send_now(LARGE, None)
        joined = [bytes] if sys.version_info < (3, 12) else []
        assert [type(item) for item in seen] == (joined if name == "write" else [list])
        if name == "writelines":
            assert arrived(theirs) == b""
        monkeypatch.undo()


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_a_program_that_watches_what_is_written(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """``connection.transport.write = f``, where transports have attributes: messages, pongs, broadcasts, Close."""
    seen: list[bytes] = []

    async def handler(connection: ServerConnection) -> None:
        transport: Any = connection.transport
        write = transport.write

        def watch(data: Any) -> None:
            seen.append(bytes(data))
            write(data)

        try:
            transport.write = watch
        except AttributeError:
            return
        await connection.send("text")
        await connection.send(bytes(3000))
        broadcast([connection], "all")
        assert await connection.recv() == "last"

    async def test() -> None:
        async with serve(handler, "127.0.0.1", 0, compression=None) as server:
            host, port = next(iter(server.sockets)).getsockname()
            async with connect(f"ws://{host}:{port}/", proxy=None, compression=None) as client:
                with contextlib.suppress(ConnectionClosed):
                    await client.ping(b"?")
                    await client.send("last")
                    await client.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test())
    if new_loop is LOOPS["asyncio"]:
        assert decoded(b"".join(seen), masked=False) == ["text", bytes(3000), "all", b"?", b"\x03\xe8"]


async def test_a_file_that_is_being_sent() -> None:
    """asyncio's ``write()`` refuses meanwhile; no frame gets into the middle of the file."""
    content = os.urandom(2**22)
    refused: list[str] = []
    done = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            sending = asyncio.create_task(asyncio.get_running_loop().sendfile(connection.transport, file))
            await asyncio.sleep(0)
            while not sending.done():
                with pytest.raises(RuntimeError, match="sendfile is in progress") as raised:
                    await connection.send("text")
                refused.append(str(raised.value))
                with pytest.raises(RuntimeError, match="sendfile is in progress"):
                    await connection.ping()
                broadcast([connection], "all")
                reading.set()
                await asyncio.sleep(0.001)
            await sending
        await connection.send("after")
        done.set()
        await connection.wait_closed()

    def read() -> bytes:
        got = bytearray()
        while not got.endswith(b"\x81\x05after"):
            got += peer.recv(2**16)
        return bytes(got)

    reading = asyncio.Event()
    async with serve(handler, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        peer = socket.create_connection(next(iter(server.sockets)).getsockname())
        peer.sendall(request())
        await reading.wait()
        got = await asyncio.to_thread(read)
        await done.wait()
        peer.close()
    assert refused
    _, _, rest = got.partition(b"\r\n\r\n")
    assert rest == content + b"\x81\x05after"


# ----------------------------------------------------------------------------------------------------- writes that fail


def reset(peer: socket.socket) -> None:
    """End a connection so that the next write of the other end fails."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@compiled_twin
@pytest.mark.parametrize("size", [4, 5000, 2**18])
async def test_after_a_failed_write_the_transport_is_aborted(twin: Twin, size: int) -> None:
    """It isn't asked to write the same again: it would hear less, and a signal might end the program."""
    async with behind(twin) as (path, theirs):
        wrote: list[object] = []
        theirs.close()
        path._ws_send_now(bytes(size), None)
        assert path.transport.is_closing()
        assert isinstance(path._ws_write_error, BrokenPipeError)
        assert path._ws_torn
        path.transport._closing = False
        path.transport.write = wrote.append
        path._ws_send_now("more", None)
        path._ws_write_out(b"\x8a\x00")
        assert wrote == []


@pytest.mark.parametrize("kind", ["server", "client"])
async def test_a_reset_is_told_as_what_it_was(kind: str) -> None:
    async def use(connection: Any) -> None:
        # Nobody else runs meanwhile: the connection learns of it by writing.
        reset(peer)
        await connection.send("text")
        with pytest.raises(ConnectionClosedError) as raised:
            await connection.send("more")
        failure.set_result(raised.value)

    failure: asyncio.Future[ConnectionClosedError] = asyncio.get_running_loop().create_future()
    if kind == "server":
        async with serve(use, "127.0.0.1", 0, compression=None) as server:
            peer = socket.create_connection(next(iter(server.sockets)).getsockname())
            peer.sendall(request())
            closed = await failure
    else:
        async with serve(lambda connection: connection.wait_closed(), "127.0.0.1", 0) as server:
            address = next(iter(server.sockets)).getsockname()
            async with connect(f"ws://{address[0]}:{address[1]}/", proxy=None, compression=None) as client:
                (connection,) = server.connections
                # The same socket, by another number.
                theirs = connection.transport.get_extra_info("socket")
                peer = socket.socket(fileno=os.dup(theirs.fileno()))
                connection.transport.abort()
                await asyncio.sleep(0)
                await use(client)
            closed = await failure
    assert isinstance(closed.__cause__, ConnectionResetError)
    assert closed.rcvd is None


DEADLY = """
import asyncio, signal, socket, struct, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

async def handler(connection):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    try:
        for _ in range(3):
            await connection.send({message})
        await connection.recv()
    except ConnectionClosed:
        done.set_result(None)

async def main():
    global peer, done
    done = asyncio.get_running_loop().create_future()
    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        peer = socket.create_connection(next(iter(server.sockets)).getsockname())
        peer.sendall({request!r})
        await done
    print("lives")

if {loop!r} == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("message", ["'text'", "bytes(5000)", "bytes(2**20)"])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="there is no such signal")
def test_sigpipe_at_its_default(loop: str, message: str) -> None:
    """Programs that embed Python leave it so; the peer resets, and the program goes on."""
    code = DEADLY.format(request=request(), message=message, loop=loop)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("lives\n", "", 0)


@pytest.mark.parametrize(
    ("heard", "told"),
    [(None, InterruptedError), (ConnectionResetError(), ConnectionResetError)],
    ids=["nothing", "a reset"],
)
@virtual
async def test_it_is_told_where_the_transport_heard_nothing(heard: Exception | None, told: type[Exception]) -> None:
    async with connected_pair() as (_, connection):
        connection._ws_write_error = InterruptedError()
        connection.transport.set_protocol(asyncio.Protocol())
        connection.transport.abort()
        connection.connection_lost(heard)
        with pytest.raises(ConnectionClosedError) as raised:
            await connection.recv()
    assert type(raised.value.__cause__) is told


async def test_a_stream_that_the_program_ended() -> None:
    """``write()`` refuses then, and the connection stays: the peer may still send."""
    heard: list[object] = []

    async def handler(connection: ServerConnection) -> None:
        connection.transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            await connection.send("text")
        peer.sendall(wire.frame(1, b"question", mask=b"abcd"))
        heard.append(await connection.recv())
        connection.abort()
        done.set()

    done = asyncio.Event()
    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        with socket.create_connection(next(iter(server.sockets)).getsockname()) as peer:
            peer.sendall(request())
            await done.wait()
    assert heard == ["question"]


AFTER_THE_LAST: dict[str, Callable[[Any], None]] = {
    "end of the stream": lambda path: path.transport.write_eof(),
    "end of the connection": lambda path: path.transport.close(),
    "more after all": lambda path: path._ws_write_out(b"more"),
}


@every_twin
@pytest.mark.parametrize("end", AFTER_THE_LAST.values(), ids=AFTER_THE_LAST)
async def test_the_last_bytes_travel_with_the_end(twin: Twin, end: Callable[[Any], None]) -> None:
    """Linux keeps them until then; whatever follows them, they are sent with it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    with ours, theirs:
        for sock in ours, theirs:
            sock.setblocking(False)
        path = make(twin)
        path.transport = await transport_of(ours)
        path._ws_socket = socket_behind(path.transport)
        path._ws_write_last(b"\x88\x00")
        assert path._ws_bytes_sent == 2
        if sys.platform == "linux" and twin.path is not _readable.FastPath:
            assert arrived(theirs) == b""
        end(path)
        await asyncio.sleep(0)  # a transport closes its socket in the next turn
        theirs.settimeout(10)
        assert theirs.recv(2) == b"\x88\x00"
        path.transport.abort()
        await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------------------ whose sockets


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_whose_sockets_are_written_to(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Those of asyncio's transports; uvloop's gain nothing by it."""

    async def test() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            transport = await transport_of(ours)
            assert socket_behind(transport) is (ours if new_loop is LOOPS["asyncio"] else None)
            transport.abort()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test())


async def with_transport(look: Callable[[Any], object]) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = await transport_of(ours)
        assert socket_behind(transport) is ours
        look(transport)
        transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize("name", ["_buffer", "_closing", "_empty_waiter", "_extra"])
async def test_a_release_of_asyncio_that_is_made_otherwise(name: str) -> None:
    """Where something isn't as it was, everything goes through the transport."""

    def look(transport: Any) -> None:
        kept = getattr(transport, name)
        setattr(transport, name, {} if name == "_extra" else "otherwise")
        assert socket_behind(transport) is None
        setattr(transport, name, kept)

    await with_transport(look)


async def test_methods_that_are_not_asyncios(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody put their own in the place of asyncio's before the library was imported."""

    def look(transport: Any) -> None:
        assert None not in _internals.OWN_METHODS
        monkeypatch.setattr(selector_events._SelectorSocketTransport, "write", print)  # type: ignore[attr-defined]
        assert _internals._of(type(transport), "write", selector_events) is None
        monkeypatch.undo()
        monkeypatch.setattr(_internals, "OWN_METHODS", (None, None))
        assert socket_behind(transport) is None
        monkeypatch.undo()

    await with_transport(look)


async def test_sockets_of_a_class_of_somebodys() -> None:
    class Watched(socket.socket):
        pass

    ours, theirs = socket.socketpair()
    with theirs:
        watched = Watched(fileno=ours.detach())
        transport = await transport_of(watched)
        assert socket_behind(transport) is None
        transport.abort()
        await asyncio.sleep(0)


async def test_those_below_tls_are_not() -> None:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Any] = loop.create_future()

    class Refusing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set_result(transport)

    context, client = anonymous_tls()
    server = await loop.create_server(Refusing, "127.0.0.1", 0, ssl=context)
    async with server:
        host, port = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, host, port, ssl=client)
        for end in transport, await made:
            assert end.get_extra_info("socket").fileno() >= 0
            assert socket_behind(end) is None
            end.abort()


@pytest.mark.parametrize("tls_transport", TLS_TRANSPORTS, indirect=True)
@each_loop
async def test_tls_brings_what_it_read(tls_transport: str) -> None:
    """asyncio's would take longer to fill the buffer of the loop, uvloop's to make its own; nothing else differs."""
    protocols: list[Any] = []

    async def handler(connection: ServerConnection) -> None:
        protocols.append(connection.transport.get_protocol())
        async for data in connection:
            await connection.send(data)

    context, trusting = anonymous_tls()
    async with serve(handler, "127.0.0.1", 0, ssl=context) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with connect(f"wss://{host}:{port}/", ssl=trusting, proxy=None, max_size=None) as client:
            protocols.append(client.transport.get_protocol())
            for size in (0, 100, 100_000, 2**20 - 1):
                await client.send(bytes(size))
                assert await client.recv() == bytes(size)
            assert await (await client.ping()) >= 0
        assert client.close_code == 1000
    assert len(protocols) == 2
    kinds = (asyncio.BufferedProtocol, asyncio.Protocol)
    for protocol in protocols:
        # asyncio's TLS takes no buffer, unless it is of the one kind; uvloop's takes none of the other kind.
        assert isinstance(protocol, kinds) is (tls_transport != "loop")
        assert protocol.get_buffer(-1)


async def test_those_of_others_are_not() -> None:
    """A class derived from a transport may want to see every write."""

    def look(transport: Any) -> None:
        class Watched(type(transport)):  # type: ignore[misc]
            pass

        transport.__class__ = Watched
        assert socket_behind(transport) is None

    await with_transport(look)
