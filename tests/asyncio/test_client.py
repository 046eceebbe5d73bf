"""Clients on asyncio: the ways to use connect(), classes, options, sockets, TLS, names, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import ssl
from collections.abc import Generator
from typing import Any

import pytest

from _kit import RawPeer, VirtualLoop, idle, steps, virtual, wire
from _kit.site import Asked, let_in, let_in_and_close, redirect, site
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosedOK,
    InvalidMessage,
    InvalidURI,
    SecurityError,
)
from websockets.protocol import State


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def now() -> float:
    return asyncio.get_running_loop().time()


def accepted(asked: Asked) -> bytes:
    return wire.response(key=asked.headers["Sec-WebSocket-Key"][0])


async def hang(peer: RawPeer, asked: Asked) -> None:
    """Never answer; notice when the client is gone."""
    await peer.read_until_eof()


# ---------------------------------------------------------------------------------------------------------- three uses


@virtual
async def test_await() -> None:
    async with site([let_in]) as web:
        for connecting in (connect(web.uri()), connect(web.uri()).connect()):
            connection = await connecting
            assert isinstance(connection, ClientConnection)
            assert connection.state is State.OPEN
            await connection.close()
            assert connection.close_code == 1000


@virtual
async def test_one_at_a_time() -> None:
    async with site([let_in]) as web:
        connecting = connect(web.uri())
        async with connecting as first:
            with pytest.raises(RuntimeError, match=r"^connect\(\) isn't reentrant$"):
                async with connecting:
                    raise AssertionError("never reached")
            assert first.state is State.OPEN
        async with connecting as second:
            assert second is not first


@virtual
async def test_leaving_what_was_not_entered() -> None:
    async with site([let_in]) as web:
        connecting = connect(web.uri())
        for _ in range(2):
            with pytest.raises(AttributeError, match=r"^connect\(\) has no connection: it is left without"):
                await connecting.__aexit__(None, None, None)
            async with connecting:
                pass


@virtual
async def test_a_class_with_names_of_its_own() -> None:
    class Named(connect):
        def __init__(self, uri: str, **options: Any) -> None:
            super().__init__(uri, **options)
            names = "uri protocol connection connecting connector loop logger attempt hop redirects entered is_entered"
            for name in (*names.split(), "first_uri", "make_protocol", "make_connection", "streams", "max_redirects"):
                setattr(self, f"_{name}", "mine")

    class NamedConnection(ClientConnection):
        _open = _opening = _ask = _hear = _new_parser = "mine"

    async with site([let_in]) as web:
        async with Named(web.uri(), create_connection=NamedConnection) as connection:
            assert connection.state is State.OPEN
        await (await Named(web.uri())).close()


@virtual
async def test_a_class_with_its_own_way_to_be_awaited() -> None:
    class Counting(connect):
        count = 0

        def __await__(self) -> Generator[Any, None, ClientConnection]:
            self.count += 1
            return super().__await__()

    async with site([let_in_and_close()]) as web:
        connecting = Counting(web.uri())
        await (await connecting).close()
        async with connecting:
            pass
        async for connection in connecting:
            await connection.close()
            break
        assert connecting.count == 3


@virtual
async def test_opening_a_tcp_connection() -> None:
    """A class may do something to each TCP connection before the opening handshake, redirects included."""

    class Marking(connect):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.opened: list[tuple[str, State]] = []

        async def open_tcp_connection(self) -> ClientConnection:
            connection = await super().open_tcp_connection()
            self.opened.append((self.ws_uri.path, connection.state))
            return connection

    async with site({"/a": redirect("/b"), "/b": let_in}) as web:
        connecting = Marking(web.uri("/a"))
        async with connecting:
            assert connecting.opened == [("/a", State.CONNECTING), ("/b", State.CONNECTING)]
        async with connecting:
            assert [path for path, _ in connecting.opened] == ["/a", "/b"] * 2
    connecting = Marking("ws://localhost/", family=0)
    assert connecting.create_connection_kwargs == {"family": 0}


@virtual
async def test_connection() -> None:
    async with site([let_in]) as web, connect(web.uri("/a?b=c")) as connection:
        assert connection.request is not None
        assert connection.request.path == "/a?b=c"
        assert connection.response is not None
        assert connection.response.status_code == 101
        assert connection.remote_address == ("127.0.0.1", web.port)
        assert connection.local_address == web.peers[0].link.client.getsockname()


# ------------------------------------------------------------------------------------------------------------- options

QUEUE = "must be a number of frames, 0 or more, a pair of such, or None for no limit"

BAD_OPTIONS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("http://localhost/", {}, InvalidURI, "http://localhost/ isn't a valid URI: scheme isn't ws or wss"),
    ("ws://", {}, InvalidURI, "ws:// isn't a valid URI: hostname isn't provided"),
    ("ws://localhost:99999/", {}, InvalidURI, "ws://localhost:99999/ isn't a valid URI: port is out of range 0-65535"),
    ("ws://localhost/", {"ssl": "context"}, ValueError, "ssl argument is incompatible with a ws:// URI"),
    ("wss://localhost/", {"ssl": None}, ValueError, "ssl=None is incompatible with a wss:// URI"),
    ("ws://localhost/", {"compression": "gzip"}, ValueError, "unsupported compression: gzip"),
    ("ws://localhost/", {"subprotocols": "chat"}, TypeError, "subprotocols must be a list, not a str"),
    ("ws://localhost/", {"subprotocols": ["a b"]}, ValueError, "invalid subprotocol: a b"),
    ("ws://localhost/", {"max_queue": -1}, ValueError, f"max_queue {QUEUE}, not -1"),
]


@pytest.mark.parametrize(("uri", "options", "kind", "text"), BAD_OPTIONS)
def test_options_are_checked_at_once(uri: str, options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        connect(uri, **options)
    assert str(caught.value) == text


@virtual
async def test_unknown_option() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        await connect("ws://localhost:20000/", nonsense=1)


def test_signature_of_connection_and_connect_agree() -> None:
    connection = inspect.signature(ClientConnection).parameters
    options = inspect.signature(connect).parameters
    for name in ("ping_interval", "ping_timeout", "close_timeout", "max_queue", "write_limit"):
        assert connection[name].default == options[name].default


@virtual
async def test_socket_that_is_connected() -> None:
    async with site([let_in]) as web:
        sock = await running_loop().network.open("localhost", web.port)
        async with connect("ws://example.com/", sock=sock) as connection:
            assert connection.remote_address == ("127.0.0.1", web.port)
        assert web.asked[0].headers["Host"] == ["example.com"]


@virtual
async def test_other_arguments_reach_the_loop() -> None:
    async with site([let_in]) as web:
        async with connect(web.uri(), local_addr=("127.0.0.1", 4000), happy_eyeballs_delay=0.1) as connection:
            assert connection.local_address == ("127.0.0.1", 4000)


class Mine(ClientConnection):
    """A connection class of the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arguments = (args, kwargs)


@virtual
async def test_create_connection_as_a_class() -> None:
    times = {"ping_interval": 1, "ping_timeout": 2, "close_timeout": 3, "max_queue": 4, "write_limit": 5}
    async with site([let_in]) as web, connect(web.uri(), create_connection=Mine, **times) as connection:  # type: ignore[arg-type]
        assert isinstance(connection, Mine)
        args, kwargs = connection.arguments
        assert [type(argument) for argument in args] == [ClientProtocol]
        assert kwargs == times


@virtual
async def test_create_connection_as_a_factory() -> None:
    made: list[ClientConnection] = []

    def factory(protocol: ClientProtocol, **kwargs: Any) -> ClientConnection:
        made.append(ClientConnection(protocol, **kwargs))
        return made[-1]

    async with site([let_in]) as web, connect(web.uri(), create_connection=factory) as connection:
        assert made == [connection]


@virtual
async def test_extra_headers_is_the_old_name() -> None:
    async with site([let_in]) as web:
        with pytest.warns(DeprecationWarning, match=r"^extra_headers was renamed to additional_headers$") as caught:
            connecting = connect(web.uri(), extra_headers={"X-Old": "1"})
        assert caught[0].filename == __file__
        async with connecting:
            assert web.asked[0].headers["X-Old"] == ["1"]


@virtual
async def test_create_protocol_is_the_old_name() -> None:
    async with site([let_in]) as web:
        with pytest.warns(DeprecationWarning, match=r"^create_protocol was renamed to create_connection$") as caught:
            connecting = connect(web.uri(), create_protocol=Mine)
        assert [warning.filename for warning in caught] == [__file__]
        async with connecting as connection:
            assert isinstance(connection, Mine)


# ----------------------------------------------------------------------------------------------------------------- TLS


def plain_text(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make the running loop connect without TLS whatever it is told; return what it is told."""
    seen: list[dict[str, Any]] = []
    loop = running_loop()

    async def create_connection(factory: Any, **kwargs: Any) -> Any:
        seen.append(kwargs)
        return await loop.network.create_connection(factory, host=kwargs["host"], port=kwargs["port"])

    monkeypatch.setattr(loop, "create_connection", create_connection)
    return seen


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.scenario(75)
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, {"ssl": True, "server_hostname": "localhost"}),
        ({"ssl": True}, {"ssl": True, "server_hostname": "localhost"}),
        ({"ssl": CONTEXT}, {"ssl": CONTEXT, "server_hostname": "localhost"}),
        ({"server_hostname": "other"}, {"ssl": True, "server_hostname": "other"}),
        ({"host": "127.0.0.1"}, {"ssl": True, "server_hostname": "localhost", "host": "127.0.0.1"}),
    ],
)
@virtual
async def test_tls_checks_the_name_in_the_uri(options: Any, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = plain_text(monkeypatch)
    async with site([let_in], port=443) as web:
        async with connect("wss://localhost/", **options):
            pass
        assert seen == [{"host": "localhost", "port": 443, **told}]
        assert web.asked[0].headers["Host"] == ["localhost"]


@virtual
async def test_tls_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site([hang]) as web:
        web.converse = garbage  # type: ignore[method-assign]
        with pytest.raises(ssl.SSLError):
            await connect(f"wss://localhost:{web.port}/", ssl=ssl.create_default_context())


async def garbage(peer: RawPeer) -> None:
    await peer.send(b"this is no TLS record")
    with contextlib.suppress(OSError):
        await peer.read_until_eof()
    peer.close()


# -------------------------------------------------------------------------------------------------------- Unix sockets


@pytest.mark.parametrize(
    ("options", "host"),
    [({}, "localhost"), ({"uri": "ws://example.com:8000/a"}, "example.com:8000")],
)
@virtual
async def test_unix_socket(options: Any, host: str) -> None:
    listener = running_loop().network.listen_unix("/run/a")
    connecting = asyncio.create_task(unix_connect("/run/a", **options).connect())
    peer = await listener.peer()
    head = (await peer.read_until()).decode()
    assert f"\r\nHost: {host}\r\n" in head
    key = re.search(r"Sec-WebSocket-Key: (\S+)", head)
    assert key is not None
    await peer.send(wire.response(key=key[1]))
    connection = await connecting
    assert connection.remote_address == "/run/a"
    peer.reset()
    await connection.wait_closed()


def test_unix_socket_with_tls() -> None:
    assert unix_connect("/run/a", ssl=ssl.create_default_context()).uri == "wss://localhost/"
    assert unix_connect("/run/a", ssl=None).uri == "ws://localhost/"


@virtual
async def test_unix_socket_that_is_connected() -> None:
    listener = running_loop().network.listen_unix("/run/a")
    sock = await running_loop().network.open_unix("/run/a")
    connecting = asyncio.create_task(unix_connect(sock=sock).connect())
    peer = await listener.peer()
    await peer.read_until()
    peer.reset()
    with pytest.raises(InvalidMessage):
        await connecting


@virtual
async def test_unix_socket_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        await unix_connect("/run/a")


@virtual
async def test_connection_that_is_lost_before_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        transport, connection = await running_loop().network.create_connection(*args, **kwargs)
        transport.abort()
        await idle()
        return transport, connection

    async with site([let_in]) as web:
        monkeypatch.setattr(running_loop(), "create_connection", create_connection)
        with pytest.raises(InvalidMessage) as caught:
            await connect(web.uri())
        assert isinstance(caught.value.__cause__, EOFError)
        assert web.asked == []


@virtual
async def test_name_that_has_no_address() -> None:
    running_loop().network.hosts["nowhere"] = []
    with pytest.raises(OSError, match="Name or service not known"):
        await connect("ws://nowhere/")


@virtual
async def test_connecting_counts() -> None:
    running_loop().network.blackhole("localhost", 20000)
    start = now()
    with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
        await connect("ws://localhost:20000/")
    assert now() - start == 10


@virtual
async def test_timeout_of_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr(running_loop(), "create_connection", create_connection)
    with pytest.raises(TimeoutError, match="Connection timed out"):
        await connect("ws://localhost/")


@pytest.mark.scenario(78)
@virtual
async def test_cancelled_at_any_step() -> None:
    """Wherever connecting is cancelled, the TCP connection is closed and nothing is left behind."""
    async with site([let_in]) as web:
        opened = 0
        for count in range(16):
            task = asyncio.create_task(connect(web.uri()).connect())
            await steps(count)
            if task.done():
                opened += 1
                await task.result().close()
                continue
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await idle()
            assert all(link.client.closed for link in running_loop().network.links)
        assert opened > 0


@pytest.mark.parametrize("control", ["\0", "\t", "\r\n", "\x1f", "\x7f"])
@pytest.mark.parametrize("uri", ["ws://localhost/a{}b", "ws://localhost/?é {}b", "ws://u:p{}w@localhost/"])
def test_uri_with_a_control_character(uri: str, control: str) -> None:
    with pytest.raises(InvalidURI, match="it contains a control character$"):
        connect(uri.format(control))


# Names for which Python's resolver has nothing but a UnicodeError.
NO_NAMES = ["a..b", ".invalid", "a..", ".", "a" * 64, "a。。b", "é" * 63]


@pytest.mark.parametrize("host", NO_NAMES)
def test_host_that_no_resolver_takes(host: str) -> None:
    with pytest.raises(InvalidURI, match=r"hostname|outside ASCII"):
        connect(f"ws://{host}/")
    with pytest.raises(ValueError, match="^host must be a host: a str, not '.*': .*label"):
        connect("ws://localhost/", host=host)
    with pytest.raises(ValueError, match="^local_addr must be a pair of a host and a port, or None, not .*: .*label"):
        connect("ws://localhost/", local_addr=(host, 0))


def test_hosts_that_resolvers_take() -> None:
    for host in (None, "localhost.", "bücher.example", b"localhost", "fe80::1%eth0", "0.0.0.0"):
        connect("ws://localhost/", host=host)
        connect("ws://localhost/", local_addr=None if host is None else (host, 0))
    connect("ws://localhost/", happy_eyeballs_delay=0, interleave=0)
    connect("ws://localhost/", happy_eyeballs_delay=None, interleave=None)
    with pytest.raises(ValueError, match="^happy_eyeballs_delay must be a number of seconds, 0 or more"):
        connect("ws://localhost/", happy_eyeballs_delay=-1)
    with pytest.raises(TypeError, match="^interleave must be a whole number, 0 or more"):
        connect("ws://localhost/", interleave=1.5)


@virtual
async def test_redirects_keep_a_zone() -> None:
    running_loop().network.hosts["fe80::1%eth0"] = ["127.0.0.1"]
    async with site({"/a": redirect("/b"), "/b": let_in}, port=8000) as web:
        async with connect("ws://[fe80::1%25eth0]:8000/a") as connection:
            assert connection.protocol.uri.host == "fe80::1%eth0"
        assert [request.headers["Host"] for request in web.asked] == [["[fe80::1]:8000"]] * 2


@pytest.mark.scenario(72)
@pytest.mark.parametrize("target", ["ws://localhost:81/", "ws://LOCALHOST:81/", "ws://other/", "wss://localhost:80/"])
@virtual
async def test_what_is_another_origin(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_text(monkeypatch)
    headers = [("Cookie", "a"), ("Cookie", "b")]
    running_loop().network.hosts["other"] = ["127.0.0.1"]
    async with site([let_in], port=81) as second, site([redirect(target), let_in], port=80) as first:
        async with connect("ws://localhost/", additional_headers=headers):
            pass
    assert first.asked[0].headers["Cookie"] == ["a", "b"]
    assert "Cookie" not in [*first.asked, *second.asked][-1].headers


@pytest.mark.scenario(72)
@virtual
async def test_redirect_that_gives_up_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_text(monkeypatch)
    async with site([redirect("ws://localhost/")], port=443) as web:
        error = "^cannot follow redirect to non-secure URI ws://localhost/$"
        with pytest.raises(SecurityError, match=error):
            await connect("wss://localhost/")
        assert len(web.asked) == 1


@virtual
async def test_redirect_to_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = plain_text(monkeypatch)
    async with site([let_in], port=443), site([redirect("wss://localhost/")], port=80):
        async with connect("ws://localhost/"):
            pass
        assert [kwargs.get("ssl") for kwargs in seen] == [None, True]
    async with site([redirect("wss://localhost/")], port=80):
        with pytest.raises(ValueError, match="^ssl=None is incompatible with a wss:// URI$"):
            await connect("ws://localhost/", ssl=None)


@pytest.mark.parametrize(
    ("location", "name"),
    [("wss://elsewhere/", "elsewhere"), ("https://elsewhere/", "elsewhere"), ("/b", "given")],
)
@virtual
async def test_tls_checks_the_name_of_where_a_redirect_leads(
    location: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = plain_text(monkeypatch)
    async with site([redirect(location), let_in], port=443), site([let_in], "elsewhere", 443):
        async with connect("wss://localhost/", server_hostname="given"):
            pass
    # An empty name would turn the check off, and the other server had not been meant.
    assert [kwargs["server_hostname"] for kwargs in seen] == ["given", name]


@pytest.mark.parametrize("location", ["/b", "ws://other/"])
@virtual
async def test_redirect_of_a_connected_socket(location: str) -> None:
    async with site([redirect(location)]) as web:
        sock = await running_loop().network.open("localhost", web.port)
        with pytest.raises(ValueError, match=r"^cannot follow redirect to \S+ with a preexisting socket$") as caught:
            await connect(f"ws://user:secret@localhost:{web.port}/", sock=sock)
        assert "secret" not in str(caught.value)


@virtual
async def test_redirect_of_a_unix_socket() -> None:
    listener = running_loop().network.listen_unix("/run/a")
    connecting = asyncio.create_task(unix_connect("/run/a").connect())
    for location in ("/b", "ws://other/"):
        peer = await listener.peer()
        await peer.read_until()
        await peer.send(redirect(location))
        peer.close()
    with pytest.raises(ValueError, match="^cannot follow cross-origin redirect to ws://other/ with an explicit unix$"):
        await connecting


@pytest.mark.scenario(73)
@virtual
async def test_bad_uri_does_not_show_credentials() -> None:
    with pytest.raises(InvalidURI) as caught:
        connect("ws://user:secret@localhost:99999/")
    assert "secret" not in str(caught.value) + repr(caught.value)


# ------------------------------------------------------------------------------------------------- a few real sockets


async def test_real_sockets() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        assert key is not None
        writer.write(wire.response(key=key[1].decode(), body=wire.text("hello") + wire.close(1000)))
        await reader.read(100)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/") as connection:
            assert await connection.recv() == "hello"
            with pytest.raises(ConnectionClosedOK):
                await connection.recv()


# ------------------------------------------------------------------------------------------- given up while it opens


class GivesUp(ClientConnection):
    """Fails its protocol as soon as there is a connection to the server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(1, self.give_up)

    def give_up(self) -> None:
        self.protocol.fail(1011, "enough")


class Closes(GivesUp):
    """Closes itself meanwhile, as users may."""

    def give_up(self) -> None:
        self.closing = asyncio.ensure_future(self.close())


async def answer_late(peer: RawPeer, asked: Asked) -> None:
    await asyncio.sleep(2)
    with contextlib.suppress(OSError):
        await peer.send(accepted(asked))
        await peer.read_until_eof()


@pytest.mark.parametrize(("how", "server"), [(GivesUp, answer_late), (Closes, answer_late), (Closes, hang)])
@virtual
async def test_a_connection_that_was_given_up_is_not_returned(how: type[ClientConnection], server: Any) -> None:
    async with site([server]) as web:
        with pytest.raises(InvalidMessage, match="^did not receive a valid HTTP response$") as caught:
            await connect(web.uri(), create_connection=how)
        assert str(caught.value.__cause__) == "opening handshake was given up"
