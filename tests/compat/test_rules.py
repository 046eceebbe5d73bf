"""The rules by which this library is better than release 17.4: one test, or a few, for each, named after its number.

docs/changelog.md tells users of the same things. Details of each are tested where they are implemented.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import ssl
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from _kit import VirtualLoop, idle, virtual, wire
from _kit.asking import ask, reach, uri_of
from _kit.ends import open_end
from _kit.site import Answer, let_in_and_close, redirect, refuse, site
from compat._resolving import RESOLVE
from websockets import proxy
from websockets.asyncio.client import connect, process_exception
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT], ids=["server", "client"])


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def now() -> float:
    return asyncio.get_running_loop().time()


def test_every_rule_has_a_test() -> None:
    found = {int(name.split("_")[2]) for name in globals() if re.match(r"test_rule_\d\d_", name)}
    assert found == set(range(1, 26))


# --------------------------------------------------------------------------------------------------- the oldest callers


@virtual
async def test_oldest_handler_gets_the_path() -> None:
    async def handler(connection: ServerConnection, path: str) -> None:
        await connection.send(path)

    async with serve(handler, "localhost", 0) as server, connect(uri_of(server, "/a?b=c")) as client:
        assert await client.recv() == "/a?b=c"


@virtual
async def test_oldest_name_of_create_connection() -> None:
    made: list[str] = []

    class Mine(ServerConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append("class")
            super().__init__(*args, **kwargs)

    async def handler(connection: ServerConnection) -> None:
        assert isinstance(connection, Mine)

    with pytest.warns(DeprecationWarning, match="^create_protocol was renamed to create_connection$"):
        serving = serve(handler, "localhost", 0, create_protocol=Mine)
    async with serving as server:
        with pytest.warns(DeprecationWarning, match="^create_protocol was renamed to create_connection$"):
            connecting = connect(uri_of(server), create_protocol=None)
        async with connecting as client:
            await client.wait_closed()
    assert made == ["class"]


# -------------------------------------------------------------------------------------------------------- 1-8 receiving


@both_sides
@virtual
async def test_rule_01_text_is_checked_as_it_arrives(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        await peer.text("é")
        assert await connection.recv(decode=False) == "é".encode()
        # A hundred bytes are announced, five are sent, and nobody reads.
        await peer.raw.send(wire.frame(wire.TEXT, b"abc\xc3\x28", mask=peer.mask, declared=100))
        await peer.expect_close(1007, "invalid continuation byte at position 3")
        await peer.finish(1007)
        with pytest.raises(ConnectionClosedError, match="1007"):
            await connection.recv()


@both_sides
@virtual
async def test_rule_02_what_came_whole_before_an_error_is_delivered_and_answered(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        good, bad = (wire.text("good", mask=peer.mask), wire.frame(3, mask=peer.mask))
        await peer.raw.send(good + bad)
        assert await connection.recv() == "good"
        await connection.send("answer")
        await peer.expect(wire.TEXT, b"answer")
        reading = asyncio.create_task(connection.recv())
        await peer.expect_close(1002, "invalid opcode")
        await peer.finish(1002)
        with pytest.raises(ConnectionClosedError, match="1002"):
            await reading


@both_sides
@virtual
async def test_rule_03_max_size_is_not_for_control_frames(side: Side) -> None:
    async with open_end(side, max_size=(10, 5)) as (connection, peer):
        await peer.send(wire.PING, b"x" * 125)
        await peer.expect(wire.PONG, b"x" * 125)
        # Failed by its header: no byte of the payload was sent.
        header = wire.frame(wire.PING, b"x" * 126, mask=peer.mask)[: 8 if peer.mask else 4]
        await peer.raw.send(header)
        await peer.expect_close(1002, "control frame too long")
        assert connection.state is State.CLOSING


async def receive_fragments(count: int) -> None:
    """Receive a message of so many fragments of a byte, which arrive while nobody but ``recv`` waits for them."""
    async with open_end(Side.CLIENT, max_size=count + 1) as (connection, peer):
        receiving = asyncio.create_task(connection.recv())
        await peer.text("x", fin=False)
        fragments = wire.cont("x", fin=False) * (count // 100)
        for _ in range(100):
            await peer.raw.send(fragments)
        await peer.send(wire.CONT)
        assert await receiving == "x" * (count + 1)


@virtual
async def test_rule_04_a_million_fragments_of_a_byte_arrive() -> None:
    await receive_fragments(10**6)


@virtual
async def test_rule_04_fragments_cost_little_more_than_their_bytes() -> None:
    tracemalloc.start()
    try:
        await receive_fragments(200_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The network of the test takes some of it. An object for each fragment would take more than 50 bytes.
    assert peak < 20 * 200_000


@both_sides
@pytest.mark.parametrize(
    "options",
    [{"length_form": "16"}, {"length_form": "64"}, {"declared": 2**63}],
    ids=["16 bits", "64 bits", "top bit"],
)
@virtual
async def test_rule_05_lengths_have_one_form(side: Side, options: dict[str, Any]) -> None:
    async with open_end(side, max_size=None) as (_, peer):
        await peer.text("x", **options)
        row = await peer.frame()
        assert (row.opcode, row.payload[:2]) == (wire.CLOSE, (1002).to_bytes(2, "big"))


@both_sides
@virtual
async def test_rule_06_closing_with_a_full_queue_takes_a_round_trip(side: Side) -> None:
    async with open_end(side, max_queue=1, close_timeout=60) as (connection, peer):
        flood = asyncio.create_task(peer.raw.send(wire.text("x" * 1000, mask=peer.mask) * 1000))
        await idle()
        start = now()
        closing = asyncio.create_task(connection.close())
        await peer.expect_close(1000)
        await flood
        await peer.finish()
        await closing
        assert now() - start < 1
        assert connection.close_code == 1000


async def leave(connection: Any, how: str) -> None:
    """Read one fragment of a message, and no more."""
    stream = connection.recv_streaming()
    if how == "break":
        async for _ in stream:
            break
    elif how == "aclose":
        await anext(stream)
        await stream.aclose()
    else:
        await anext(stream)
        reading = asyncio.ensure_future(anext(stream))
        await idle()
        reading.cancel()
        await asyncio.wait([reading])


@both_sides
@pytest.mark.parametrize("how", ["break", "aclose", "cancel"])
@virtual
async def test_rule_07_a_stream_may_be_left_early(side: Side, how: str) -> None:
    async with open_end(side) as (connection, peer):
        await peer.text("one", fin=False)
        await leave(connection, how)
        await peer.send(wire.CONT, b"rest", fin=False)
        await peer.send(wire.CONT, b"end")
        await peer.text("two")
        assert await connection.recv() == "two"


# RFC 7692 section 7.2.3: "Hello" in a block that isn't the last, in one that is, and cut off.
PLAIN, FINAL, CUT = (bytes.fromhex(data) for data in ("f248cdc9c90700", "f348cdc9c9070000", "f248cd"))


def test_rule_08_a_deflate_stream_may_end_but_not_break_off() -> None:
    connection = Protocol(Side.CLIENT)
    connection.extensions = [PerMessageDeflate(False, False, 15, 15)]
    for payload in (PLAIN, FINAL, PLAIN):
        connection.receive_data(wire.frame(wire.TEXT, payload, rsv=4))
    received = [bytes(frame.data) for frame in connection.events_received()]  # type: ignore[union-attr]
    assert received == [b"Hello"] * 3
    connection.receive_data(wire.frame(wire.TEXT, CUT, rsv=4))
    assert connection.close_sent is not None
    assert connection.close_sent.code == 1007


# ------------------------------------------------------------------------------------------------------- 9-11 keepalive


@both_sides
@virtual
async def test_rule_09_bytes_after_a_ping_are_life(side: Side) -> None:
    async with open_end(side) as (connection, peer):
        for number in range(30):
            await asyncio.sleep(10)
            await peer.text(str(number))  # and never a pong
            assert await connection.recv() == str(number)
        assert connection.state is State.OPEN


@both_sides
@virtual
async def test_rule_10_keepalive_works_while_send_is_blocked(side: Side) -> None:
    async with open_end(side, close_timeout=5) as (connection, peer):
        peer.raw.stop_reading()
        start = now()
        with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
            await connection.send(bytes(10**7))
        assert now() - start == pytest.approx(20 + 20, abs=0.1)


@both_sides
@virtual
async def test_rule_11_a_stalled_loop_grants_more_time(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets")
    async with open_end(side) as (connection, peer):
        ping = await peer.frame()
        assert ping.opcode == wire.PING
        running_loop().stall(60)
        await asyncio.sleep(10)
        assert connection.state is State.OPEN
        assert any(line.startswith("event loop stalled for ") for line in caplog.messages)
        await peer.send(wire.PONG, ping.payload)
        await asyncio.sleep(15)
        assert connection.state is State.OPEN


# -------------------------------------------------------------------------------------------------------- 12-13 sending


@both_sides
@virtual
async def test_rule_12_fragmented_messages_queue_behind_each_other(side: Side) -> None:
    async def items(name: str) -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(1)  # before the first one too
            yield f"{name}{number} "

    async with open_end(side, ping_interval=None) as (connection, peer):
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(connection.send(items(name)))
            group.create_task(connection.send("whole"))
        rows = [await peer.frame() for _ in range(13)]
        messages = b"".join(row.payload + (b"|" if row.fin else b"") for row in rows)
        assert sorted(messages.split(b"|")) == [b"", b"a0 a1 a2 ", b"b0 b1 b2 ", b"c0 c1 c2 ", b"whole"]


@both_sides
@virtual
async def test_rule_13_cancelling_a_fragmented_message_fails_the_connection(side: Side) -> None:
    async def items() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(3600)

    async with open_end(side, ping_interval=None) as (connection, peer):
        sending = asyncio.create_task(connection.send(items()))
        await idle()
        start = now()
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
        assert (await peer.frame()).payload == b"first"
        await peer.expect_close(1011, "error in fragmented message")
        await peer.finish(1011)
        with pytest.raises(ConnectionClosedError, match="1011") as raised:
            await connection.recv()
        assert now() - start < 1
        assert str(raised.value.__cause__) == "sending a fragmented message was cancelled"


# --------------------------------------------------------------------------------------------------- 14-16 reconnecting


def delays(*seconds: float) -> Callable[[], Iterator[float]]:
    return lambda: iter(seconds)


async def visit(uri: str, times: int, **options: Any) -> None:
    """Connect so many times, and stay until the server closes."""
    async for connection in connect(uri, **options):
        with contextlib.suppress(ConnectionClosed):
            await connection.recv()
        times -= 1
        if not times:
            break


@virtual
async def test_rule_14_accepting_and_closing_is_no_hot_loop() -> None:
    async with site([let_in_and_close()]) as here:
        await visit(here.uri(), 4, reconnect_delays=delays(1, 2, 4, 8))
    assert here.times == [0, 1, 3, 7]
    # Each connection outlives the delay before it: the delays start over.
    async with site([let_in_and_close(after=5)]) as here:
        await visit(here.uri(), 4, reconnect_delays=delays(1, 2, 4, 8))
    assert here.times == [0, 5, 10, 15]


@virtual
async def test_rule_15_certificates_are_final_and_retry_after_is_honoured() -> None:
    untrusted = ssl.SSLCertVerificationError("self-signed certificate")
    assert process_exception(untrusted) is untrusted
    assert process_exception(ssl.SSLError("handshake failure")) is None
    answers: list[Answer] = [refuse(429, {"Retry-After": "30"}), refuse(503, {"Retry-After": "60"}), let_in_and_close()]
    async with site(answers) as here:
        await visit(here.uri(), 1, reconnect_delays=delays(1, 1, 1))
    assert here.times == [0, 30, 90]


@virtual
async def test_rule_16_delays_may_end_and_redirects_are_not_kept() -> None:
    async with site([refuse(503)]) as here:
        with pytest.raises(InvalidStatus, match="HTTP 503"):
            await visit(here.uri(), 1, reconnect_delays=delays(1, 2))
    assert here.times == [0, 1, 3]
    async with site({"/a": redirect("/b"), "/b": let_in_and_close(after=5)}) as here:
        await visit(here.uri("/a"), 2, reconnect_delays=delays(1, 2))
    assert here.targets == ["/a", "/b", "/a", "/b"]


# ---------------------------------------------------------------------------------------------- 17-19 opening handshake


async def nothing(connection: ServerConnection) -> None:
    """A handler."""


REFUSED = {
    "garbage": (b"\x16\x03\x01\x02\x00\r\n\r\n", "400 Bad Request"),
    "folded header": (wire.request(raw=b"X: a\r\n b\r\n"), "400 Bad Request"),
    "malformed header": (wire.request(raw=b"no colon\r\n"), "400 Bad Request"),
    "control character": (wire.request(raw=b"X: a\x00b\r\n"), "400 Bad Request"),
    "target without slash": (wire.request("chat"), "400 Bad Request"),
    "target of another scheme": (wire.request("ftp://localhost/chat"), "400 Bad Request"),
    "target outside ASCII": (wire.request("/caf\xe9"), "400 Bad Request"),
    "body": (wire.request(headers={"Content-Length": "5"}, body=b"hello"), "400 Bad Request"),
    "chunked body": (wire.request(headers={"Transfer-Encoding": "chunked"}), "400 Bad Request"),
    "bad number": (wire.request(headers={"Content-Length": "five"}), "400 Bad Request"),
    "no host": (wire.request(headers={"Host": None}), "400 Bad Request"),
    "two hosts": (wire.request(headers={"Host": ["a", "b"]}), "400 Bad Request"),
    "version 8": (wire.request(headers={"Sec-WebSocket-Version": "8"}), "426 Upgrade Required"),
    "no upgrade": (wire.request(headers={"Upgrade": None}), "426 Upgrade Required"),
    "another method": (wire.request(method="PUT"), "405 Method Not Allowed"),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
@virtual
async def test_rule_17_every_refusal_is_answered(data: bytes, status: str) -> None:
    async with serve(nothing, "localhost", 0) as server:
        answer = await ask(server, data)
    assert answer.status == status
    assert answer.headers["Connection"] == ["close"]
    assert answer.headers.get("Sec-WebSocket-Version") == (["13"] if b"Version: 8" in data else None)


@pytest.mark.parametrize("target", ["http://localhost:80/chat?a", "WS://localhost/chat?a", "https://localhost/chat?a"])
@virtual
async def test_rule_17_targets_in_absolute_form(target: str) -> None:
    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.send(connection.request.path)

    async with serve(handler, "localhost", 0) as server:
        peer = await reach(server)
        await peer.send(wire.request(target))
        assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
        assert (await peer.read_frame()).payload == b"/chat?a"
        peer.reset()


@virtual
async def test_rule_17_an_answer_to_head_has_no_body() -> None:
    async with serve(nothing, "localhost", 0) as server:
        answer = await ask(server, wire.request(method="HEAD"))
    assert answer.status == "405 Method Not Allowed"
    assert answer.headers["Content-Length"] != ["0"]
    assert answer.body == b""


@pytest.mark.scenario(21)
@pytest.mark.parametrize(
    "bad",
    [
        "server_max_window_bits=99",
        "server_no_context_takeover=1",
        "server_max_window_bits=10; server_max_window_bits=10",
    ],
)
@virtual
async def test_rule_18_a_bad_offer_is_declined_and_the_next_one_tried(bad: str) -> None:
    offers = f"permessage-deflate; {bad}, permessage-deflate; server_max_window_bits=11"
    async with serve(nothing, "localhost", 0) as server:
        peer = await reach(server)
        await peer.send(wire.request(headers={"Sec-WebSocket-Extensions": offers}))
        head = (await peer.read_until()).decode()
        peer.reset()
    assert head.startswith("HTTP/1.1 101 ")
    assert "server_max_window_bits=11" in head


@virtual
async def test_rule_19_opening_timeouts_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serve(nothing, "localhost", 0, open_timeout=3) as server:
        peer = await reach(server)
        await peer.send(wire.request()[:-2])
        await asyncio.sleep(4)
        assert peer.ended is not None
        peer.close()
    (record,) = (record for record in caplog.records if "opening handshake" in record.getMessage())
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("opening handshake failed: timed out during opening handshake")


# ----------------------------------------------------------------------------------------------- 20-21 proxies and URIs


def test_rule_20_socks_has_a_port_of_its_own() -> None:
    for scheme in ("socks4", "socks4a", "socks5", "socks5h"):
        assert proxy.parse_proxy(f"{scheme}://proxy").port == 1080


def test_rule_20_loopback_is_never_behind_the_system_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:8080")
    assert proxy.get_proxy(parse_uri("ws://example.com/")) == "http://proxy:8080"
    for host in ("localhost", "127.0.0.1", "[::1]", "127.1.2.3"):
        assert proxy.get_proxy(parse_uri(f"ws://{host}/")) is None


@virtual
async def test_rule_20_errors_name_the_proxy_but_not_its_password() -> None:
    listener = running_loop().network.listen("proxy", 8080)
    # A proxy that is asked for is used for this machine too.
    opening = asyncio.ensure_future(connect("ws://localhost/", proxy="http://user:secret@proxy:8080").connect())
    peer = await listener.peer()
    assert b"CONNECT localhost:80 HTTP/1.1\r\n" in await peer.read_until()
    await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(InvalidProxyStatus) as raised:
        await opening
    peer.close()
    listener.close()
    shown = f"{raised.value} {raised.value.__notes__}"
    assert "http://proxy:8080" in shown
    assert "secret" not in shown


@pytest.mark.parametrize("port", ["65536", "-1", "x", "99999999999999999999"])
def test_rule_21_a_port_out_of_range_is_an_invalid_uri(port: str) -> None:
    with pytest.raises(InvalidURI):
        parse_uri(f"ws://localhost:{port}/")
    with pytest.raises(InvalidURI):
        connect(f"ws://localhost:{port}/")


# ------------------------------------------------------------------------------------------------- 22-25 logs and names


@pytest.mark.parametrize("code", [1000, 1011])
@virtual
async def test_rule_22_a_handler_ends_with_its_connection(code: int, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()

    caplog.set_level(logging.INFO, "websockets.server")
    async with serve(handler, "localhost", 0) as server:
        async with connect(uri_of(server)) as client:
            await client.close(code)
        await idle()
    (record,) = (record for record in caplog.records if "handler" in record.getMessage())
    assert (record.levelno, record.exc_info) == (logging.INFO, None)


@virtual
async def test_rule_22_the_end_of_another_connection_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: ServerConnection) -> None:
        raise ConnectionClosedOK(None, None)

    async with serve(handler, "localhost", 0) as server, connect(uri_of(server)) as client:
        await client.wait_closed()
        assert client.close_code == 1011
    assert [text.partition(":")[0] for text in caplog.messages] == ["connection handler failed"]


def test_rule_23_credentials_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.server")
    names = ("Authorization", "Proxy-Authorization", "Cookie")
    server = ServerProtocol()
    server.receive_data(wire.request("/a", dict.fromkeys(names, "secret")))
    (request,) = server.events_received()
    response = server.accept(request)  # type: ignore[arg-type]
    response.headers["Set-Cookie"] = "secret"
    server.send_response(response)
    server.receive_data(wire.text("a\x1b[31mred\n", mask=True))
    log = "\n".join(caplog.messages)
    assert all(f"{name}: " in log for name in (*names, "Set-Cookie"))
    assert "secret" not in log
    assert "red" in log
    assert "\x1b" not in log


def run(program: str, **variables: str) -> str:
    """What a program prints in a process of its own."""
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


NAMELESS = """
import asyncio
from websockets import connect, serve
async def handler(connection):
    print("User-Agent" in connection.request.headers, "Server" in connection.response.headers)
async def main():
    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as connection:
            await connection.wait_closed()
asyncio.run(main())
"""


def test_rule_24_an_empty_name_removes_the_header() -> None:
    assert run(NAMELESS) == "True True\n"
    assert run(NAMELESS, WEBSOCKETS_USER_AGENT="", WEBSOCKETS_SERVER="") == "False False\n"


def test_rule_25_submodules_resolve() -> None:
    """Each on its own: what one loads is forgotten before the next."""
    names = ("exceptions", "asyncio.client", "asyncio.server", "extensions.permessage_deflate", "protocol", "proxy")
    modules = [f"websockets.{name}" for name in names]
    assert run(f"import sys; sys.argv[1:] = {modules}\n{RESOLVE}").splitlines() == modules
    # Importing it stays fast: nothing else is loaded.
    loaded = run("import sys; before = {*sys.modules}; import websockets; print(*({*sys.modules} - before))").split()
    assert {name for name in loaded if name.startswith("websockets")} == {"websockets", "websockets.version"}
    assert not {"asyncio", "ssl", "socket", "logging", "zlib"} & {*loaded}
