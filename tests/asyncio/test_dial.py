"""Reaching a host with several addresses: which is tried when, what is left behind, what the loop is told.

Most tests run on a virtual clock, with a resolver and sockets that lead into the network in memory; some, at the end,
over real sockets, on each loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import itertools
import socket
import ssl
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from _kit import START, VirtualLoop, idle, steps, virtual
from _kit.sockets import anonymous_tls
from robustness.worlds import each_loop, echo, greet, now, port_of
from websockets.asyncio import _dial
from websockets.asyncio._internals import connects_as_known
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, serve
from websockets.testing._link import MemorySocket

V6, V4, OTHER = "2001:db8::1", "192.0.2.1", "192.0.2.2"
PORT = 8080
URI = f"ws://example.com:{PORT}/"


class FakeSocket:
    """A socket of the fake system below."""

    def __init__(self, family: int, kind: int, proto: int) -> None:
        self.family, self.kind, self.proto = family, kind, proto
        self.blocking, self.given_up = True, False
        self.bound: Any = None
        self.memory: MemorySocket | None = None
        system.sockets.append(self)
        if family in system.unsupported:
            self.given_up = True
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    def setblocking(self, flag: bool) -> None:
        self.blocking = flag

    def fileno(self) -> int:
        return -1

    def bind(self, address: Any) -> None:
        if address[0] in system.taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.bound = address

    def close(self) -> None:
        self.given_up = True
        if self.memory is not None:
            self.memory.close()

    @property
    def closed(self) -> bool:
        # Once the loop has it, the transport closes what is behind it.
        return self.given_up or (self.memory is not None and self.memory.closed)


class System:
    """What a loop asks of the operating system: names, sockets, connecting. Behind it is the network in memory.

    Attributes:
        attempts: seconds since the start and the address of each attempt to connect.
        sockets: all that were opened.
        asked: what the resolver was asked.
        told: what ``create_connection`` of the loop was told.
        faults: what connecting to an address waits for or raises, instead of the network.
    """

    def __init__(self) -> None:
        self.attempts: list[tuple[float, str]] = []
        self.sockets: list[FakeSocket] = []
        self.asked: list[tuple[Any, ...]] = []
        self.told: list[dict[str, Any]] = []
        self.faults: dict[str, Callable[[], Awaitable[Any]]] = {}
        self.taken: set[str] = set()
        self.unsupported: set[int] = set()

    def install(self, loop: VirtualLoop) -> None:
        network = loop.network

        async def getaddrinfo(
            host: str, port: int, *, type: int, family: int = 0, proto: int = 0, flags: int = 0
        ) -> list[Any]:
            self.asked.append((host, port, family, proto, flags))
            found: list[Any] = []
            for ip in network._resolve(host, family):
                if ":" in ip:
                    found.append((socket.AF_INET6, type, 6, "", (ip, port, 0, 0)))
                else:
                    found.append((socket.AF_INET, type, 6, "", (ip, port)))
            return found

        async def sock_connect(sock: FakeSocket, address: tuple[Any, ...]) -> None:
            ip = address[0]
            # Windows knows the family of an address by the number of its parts.
            assert len(address) == (4 if ":" in ip else 2)
            self.attempts.append((round(now() - START, 6), ip))
            assert not sock.blocking
            if ip in self.faults:
                await self.faults[ip]()
            else:
                # One turn of the loop, as all that is done by the kernel.
                sock.memory = await network.open(ip, address[1])

        async def create_connection(factory: Any, *, sock: FakeSocket | None = None, **rest: Any) -> Any:
            self.told.append({**rest, **({} if sock is None else {"sock": sock})})
            if sock is not None:
                rest["sock"] = sock.memory
            return await network.create_connection(factory, **rest)

        # As if it were one of asyncio's own.
        code, closure = create_connection.__code__, create_connection.__closure__
        method = types.FunctionType(code, asyncio.base_events.__dict__, closure=closure)
        method.__kwdefaults__ = create_connection.__kwdefaults__
        loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
        loop.sock_connect = sock_connect  # type: ignore[method-assign, assignment]
        loop.create_connection = method  # type: ignore[method-assign]

    @property
    def open_sockets(self) -> int:
        return sum(not sock.closed for sock in self.sockets)


system: System


@pytest.fixture(autouse=True)
def fake_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the module under test sees of module ``socket``; others see the true one."""
    names = {name: getattr(socket, name) for name in ("AF_INET", "AF_INET6", "SOCK_STREAM", "inet_pton")}
    global system
    system = System()
    monkeypatch.setattr(_dial, "socket", SimpleNamespace(socket=FakeSocket, **names))


async def never() -> None:
    await asyncio.get_running_loop().create_future()


def refuses(number: int = errno.ECONNREFUSED, text: str = "Connection refused") -> Callable[[], Awaitable[None]]:
    async def fault() -> None:
        raise OSError(number, text)

    return fault


def slowly(seconds: float, number: int = errno.ECONNREFUSED) -> Callable[[], Awaitable[None]]:
    async def fault() -> None:
        await asyncio.sleep(seconds)
        raise OSError(number, "Connection refused")

    return fault


def network() -> Any:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.network


@contextlib.asynccontextmanager
async def reachable(*ips: str, at: str = V4, **faults: Any) -> AsyncIterator[Server]:
    """A server at one address of example.com, which has them all."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    system.install(loop)
    loop.network.hosts["example.com"] = list(ips)
    async with serve(echo, at, PORT) as server:
        yield server


async def check(uri: str = URI, **options: Any) -> Any:
    """A connection works, and in the end nothing is left; return the address that was reached."""
    async with connect(uri, proxy=None, compression=None, **options) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        address = client.remote_address
        assert system.open_sockets == (1 if system.sockets else 0)
    return address[0]


# --------------------------------------------------------------------------------------------------- which, and when


@virtual
async def test_broken_first_address_costs_a_quarter_of_a_second() -> None:
    async with reachable(V6, V4):
        system.faults[V6] = never
        assert await check() == V4
        assert now() - START == 0.25
        assert system.attempts == [(0, V6), (0.25, V4)]
        # The one that was given up is closed, and of the right kind.
        assert [sock.family for sock in system.sockets] == [socket.AF_INET6, socket.AF_INET]
        assert system.sockets[0].closed


@virtual
async def test_an_iteration_goes_on_where_the_first_address_is_broken() -> None:
    async with reachable(V6, V4):
        system.faults[V6] = never
        opened = 0
        async for client in connect(URI, proxy=None, reconnect_delays=lambda: itertools.repeat(0.0)):
            assert client.remote_address[0] == V4
            await client.close()
            opened += 1
            if opened == 3:
                break
        assert now() - START == 0.75
        assert system.open_sockets == 0


@virtual
async def test_first_address_that_works_is_the_only_one_tried() -> None:
    async with reachable(V6, V4, at=V6):
        assert await check() == V6
        assert system.attempts == [(0, V6)]
        assert system.asked == [("example.com", PORT, 0, 0, 0)]


@virtual
async def test_a_slow_first_address_may_win() -> None:
    async with reachable(V6, V4, at=V6):
        network().delay = 0.2
        system.faults[V4] = never
        assert await check() == V6
        assert system.attempts == [(0, V6), (0.25, V4)]
        assert [sock.family for sock in system.sockets if not sock.memory] == [socket.AF_INET]


@virtual
async def test_after_a_refusal_the_next_address_is_tried_at_once() -> None:
    async with reachable(V6, V4):
        system.faults[V6] = refuses()
        assert await check() == V4
        assert system.attempts == [(0, V6), (0, V4)]


@virtual
async def test_a_refusal_while_others_run() -> None:
    async with reachable(V6, "2001:db8::2", OTHER, V4):
        system.faults |= {V6: never, OTHER: slowly(0.1), "2001:db8::2": never}
        assert await check() == V4
        # Families take turns; the second fails 0.1 seconds after it began.
        assert system.attempts == [(0, V6), (0.25, OTHER), (0.35, "2001:db8::2"), (0.6, V4)]


@virtual
async def test_the_order_of_addresses() -> None:
    async with reachable(V6, "2001:db8::2", V4, OTHER, V6):
        for ip in ("2001:db8::2", OTHER, V6):
            system.faults[ip] = refuses()
        system.faults[V4] = slowly(0, errno.ENETUNREACH)
        cases: list[tuple[dict[str, Any], list[str]]] = [
            ({}, [V6, V4, "2001:db8::2", OTHER]),
            ({"interleave": 2}, [V6, "2001:db8::2", V4, OTHER]),
            ({"interleave": 0}, [V6, "2001:db8::2", V4, OTHER]),
            ({"happy_eyeballs_delay": None}, [V6, "2001:db8::2", V4, OTHER]),
            ({"happy_eyeballs_delay": None, "interleave": 1}, [V6, V4, "2001:db8::2", OTHER]),
        ]
        for options, order in cases:
            system.attempts.clear()
            with pytest.raises(OSError, match=r"^Multiple exceptions: "):
                await check(**options)
            assert [ip for _, ip in system.attempts] == order


@pytest.mark.parametrize(("delay", "seconds"), [(0.1, 0.1), (0, 0), (2, 2)])
@virtual
async def test_another_delay(delay: float, seconds: float) -> None:
    async with reachable(V6, V4):
        system.faults[V6] = never
        await check(happy_eyeballs_delay=delay)
        assert system.attempts == [(0, V6), (seconds, V4)]


@virtual
async def test_one_address_at_a_time() -> None:
    async with reachable(V6, V4):
        system.faults[V6] = slowly(3)
        await check(happy_eyeballs_delay=None)
        assert system.attempts == [(0, V6), (3, V4)]


@virtual
async def test_a_family_can_be_chosen() -> None:
    async with reachable(V6, OTHER, V4):
        system.faults[OTHER] = refuses()
        assert await check(family=socket.AF_INET, proto=6, flags=1) == V4
        assert system.asked == [("example.com", PORT, socket.AF_INET, 6, 1)]
        assert [ip for _, ip in system.attempts] == [OTHER, V4]


# ------------------------------------------------------------------------------------------------------------ failures


@virtual
async def test_all_refuse() -> None:
    async with reachable(V6, V4):
        system.faults |= {V6: refuses(), V4: refuses(text=f"Connect call failed ('{V4}', {PORT})")}
        with pytest.raises(ConnectionRefusedError) as raised:
            await connect(URI, proxy=None)
        number = errno.ECONNREFUSED
        assert str(raised.value) == (
            f"[Errno {number}] Multiple exceptions: "
            f"[Errno {number}] Connect call failed ('{V6}', {PORT}, 0, 0): Connection refused, "
            f"[Errno {number}] Connect call failed ('{V4}', {PORT})"
        )
        assert now() == START
        assert system.open_sockets == 0


@virtual
async def test_families_that_the_system_does_not_have() -> None:
    async with reachable(V6, V4):
        system.unsupported.add(socket.AF_INET6)
        assert await check() == V4
        system.faults[V4] = refuses()
        with pytest.raises(OSError, match=rf"{V6}.*family not supported.*{V4}.*refused"):
            await connect(URI, proxy=None)


@virtual
async def test_all_errors_in_a_group() -> None:
    for ips in ([V6, V4], [V4]):
        async with reachable(*ips):
            system.faults |= {V6: refuses(), V4: refuses()}
            with pytest.raises(ExceptionGroup, match="create_connection failed") as raised:
                await connect(URI, proxy=None, all_errors=True)
            assert [type(exc) for exc in raised.value.exceptions] == [ConnectionRefusedError] * len(ips)


@virtual
async def test_no_address_answers() -> None:
    async with reachable(V6, V4):
        system.faults |= {V6: never, V4: never}
        with pytest.raises(TimeoutError, match="timed out during opening handshake"):
            await connect(URI, proxy=None, open_timeout=5)
        assert now() - START == 5
        assert len(system.attempts) == 2
        assert system.open_sockets == 0


@virtual
async def test_no_address_at_all() -> None:
    async with reachable():
        network()._resolve = lambda *_: []
        with pytest.raises(OSError, match=r"^example\.com has no address$"):
            await connect(URI, proxy=None)


@virtual
async def test_cancelling_closes_every_socket() -> None:
    async with reachable(V6, V4):
        for count in range(20):
            system.faults[V6] = never if count % 2 else slowly(0)
            connecting = asyncio.create_task(connect(URI, proxy=None, happy_eyeballs_delay=0).connect())
            await steps(count)
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await connecting).close()
            await idle()
            assert system.open_sockets == 0, count
        assert any(sock.memory for sock in system.sockets)
        assert any(not sock.memory for sock in system.sockets)


@virtual
async def test_cancelling_twice_closes_every_socket() -> None:
    async with reachable(V6, V4):
        system.faults |= {V6: never, V4: never}
        connecting = asyncio.create_task(connect(URI, proxy=None).connect())
        await asyncio.sleep(1)
        connecting.cancel()
        await steps(1)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await idle()
        assert system.open_sockets == 0


@virtual
async def test_of_two_that_connect_at_once_one_is_closed() -> None:
    async with reachable(OTHER, V4), serve(echo, OTHER, PORT):
        network().delay = 0.1
        assert await check(happy_eyeballs_delay=0) == OTHER
        first, second = system.sockets
        assert first.memory is not None
        assert second.memory is not None
        assert second.closed


@virtual
async def test_a_bug_in_an_attempt_is_no_failure_of_the_network() -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    async with reachable(V6, V4):
        system.faults |= {V6: never, V4: bug}
        with pytest.raises(ZeroDivisionError):
            await connect(URI, proxy=None)
        assert system.open_sockets == 0


# ---------------------------------------------------------------------------------------------- what the loop is told


@virtual
async def test_addresses_and_names_with_one_address_are_left_to_the_loop() -> None:
    async with reachable(V4):
        assert await check() == V4
        assert system.told == [{"host": V4, "port": PORT}]
        assert system.asked == [("example.com", PORT, 0, 0, 0)]
        assert await check(f"ws://{V4}:{PORT}/", happy_eyeballs_delay=1, interleave=1, all_errors=False) == V4
        assert system.told[1:] == [{"host": V4, "port": PORT}]
        assert await check(host=V4, port=PORT, local_addr=("127.0.0.1", 5)) == V4
        assert system.told[2:] == [{"host": V4, "port": PORT, "local_addr": ("127.0.0.1", 5)}]
        network().hosts[b"bytes"] = [V4]
        assert await check(host=b"bytes") == V4
        assert system.told.pop() == {"host": b"bytes", "port": PORT}
        sock = await network().open(V4, PORT)
        fake = FakeSocket(socket.AF_INET, 1, 6)
        fake.memory = sock
        assert await check(sock=fake, happy_eyeballs_delay=None) == V4
        assert system.told[3:] == [{"sock": fake}]
        # Only the name was looked up, and only this socket was opened.
        assert len(system.asked) == 1
        assert system.sockets == [fake]
        fake.close()


@virtual
async def test_an_address_is_not_looked_up_unless_errors_are_to_be_grouped() -> None:
    async with reachable(V4):
        assert await check(f"ws://{V4}:{PORT}/") == V4
        assert (system.told, system.asked, system.sockets) == ([{"host": V4, "port": PORT}], [], [])
        assert await check(f"ws://{V4}:{PORT}/", all_errors=True) == V4
        assert system.attempts == [(0, V4)]
        assert system.told[1:] == [{"sock": system.sockets[0]}]
        system.faults[V4] = refuses()
        with pytest.raises(ExceptionGroup):
            await check(f"ws://{V4}:{PORT}/", all_errors=True)


@virtual
async def test_an_address_may_have_a_zone() -> None:
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", PORT, 0, 7))]

    async def getaddrinfo(host: str, port: int, **_: Any) -> Any:
        assert (host, port) == ("fe80::1%eth0", PORT)
        return found

    async with reachable():
        asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
        network().hosts["fe80::1%7"] = [V4]
        for again in (False, True):
            assert await check(f"ws://[fe80::1%25eth0]:{PORT}/") == V4
            if not again:
                assert system.told == [{"host": "fe80::1%7", "port": PORT}]
            # Several of them: the zone isn't lost on the way to the socket either.
            found.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::2", PORT, 0, 7)))
        assert system.attempts == [(0, "fe80::1%7")]


@virtual
async def test_who_makes_connections_otherwise_gets_the_name() -> None:
    async with reachable(V6, V4):
        seen = []

        async def create_connection(factory: Any, **kwargs: Any) -> Any:
            seen.append(kwargs.copy())
            kwargs.pop("happy_eyeballs_delay", None)
            return await network().create_connection(factory, **kwargs)

        asyncio.get_running_loop().create_connection = create_connection  # type: ignore[method-assign, assignment]
        await check()
        await check(happy_eyeballs_delay=None)
        place = {"host": "example.com", "port": PORT}
        assert seen == [place, {**place, "happy_eyeballs_delay": None}]
        assert not system.asked


def wrapped(method: Any) -> Any:
    @functools.wraps(method)
    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        return await method(*args, **kwargs)

    return create_connection


class WithOneOfItsOwn:
    """What has a method that asyncio's module doesn't know, under a name that it does."""

    async def create_connection(self) -> None: ...

    create_connection.__module__ = "asyncio.base_events"


@pytest.mark.parametrize(
    "other", [wrapped, mock.create_autospec, mock.Mock, lambda _: WithOneOfItsOwn().create_connection]
)
@each_loop
async def test_what_stands_in_for_the_method_of_a_loop_gets_the_name(other: Any) -> None:
    loop = asyncio.get_running_loop()
    assert connects_as_known(loop)
    assert not connects_as_known(SimpleNamespace(create_connection=other(loop.create_connection)))


@virtual
async def test_this_end_may_have_an_address() -> None:
    async with reachable(V6, OTHER, V4):
        network().hosts["mine"] = ["198.51.100.1", "198.51.100.2"]
        system.taken.add("198.51.100.1")
        system.faults[OTHER] = refuses()
        assert await check(local_addr=("mine", 99)) == V4
        assert [ip for _, ip in system.attempts] == [OTHER, V4]
        assert system.sockets[-1].bound == ("198.51.100.2", 99)
        system.taken.add("198.51.100.2")
        with pytest.raises(
            OSError,
            match=rf"{V6}.*no local address of the same family.*"
            r"error while attempting to bind on address \('198.51.100.2', 99\): Address already in use",
        ):
            await check(local_addr=("mine", 99))
        assert system.open_sockets == 0


@virtual
async def test_a_socket_that_the_loop_did_not_take_is_closed() -> None:
    def crash(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    async with reachable(V6, V4):
        system.faults[V6] = refuses()
        with pytest.raises(ZeroDivisionError):
            await connect(URI, proxy=None, create_connection=crash)
        with pytest.raises(TypeError, match="nonsense"):
            await _dial.open_connection(
                asyncio.get_running_loop(), asyncio.Protocol, host="example.com", port=PORT, nonsense=1
            )
        assert len(system.sockets) == 4
        assert system.open_sockets == 0


@pytest.mark.parametrize("ips", [[V4], [V6, V4]])
@pytest.mark.parametrize(
    ("uri", "options", "name"),
    [
        (f"wss://example.com:{PORT}/", {}, "example.com"),
        (f"wss://example.com.:{PORT}/", {}, "example.com"),
        (f"wss://example.com.:{PORT}/", {"server_hostname": "a."}, "a."),
        (f"wss://example.com:{PORT}/", {"server_hostname": None}, "example.com"),
        (f"wss://other:{PORT}/", {"host": "example.com"}, "other"),
    ],
)
@virtual
async def test_tls_checks_the_name_and_not_the_address(
    ips: list[str], uri: str, options: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = anonymous_tls()
    seen = []
    server.sni_callback = lambda sock, sni, context: seen.append(sni)
    monkeypatch.setattr(ssl, "create_default_context", lambda *_: client)
    async with reachable(*ips):
        network().hosts["example.com."] = network().hosts["example.com"]
        system.faults[V6] = refuses()
        async with serve(echo, OTHER, PORT, ssl=server):
            network().hosts["example.com"][-1] = OTHER
            async with connect(uri, proxy=None, ssl=client, tls_transport="loop", **options) as connection:
                assert connection.request is not None
                # The request names the server as the URI does.
                assert f"wss://{connection.request.headers['Host']}/" == uri
    assert system.told[0]["server_hostname"] == name
    assert seen == ([name] if name != "a." else ["a."])


@virtual
async def test_zones_are_nobody_elses_business() -> None:
    server, client = anonymous_tls()
    async with reachable(), serve(echo, OTHER, PORT, ssl=server):
        network().hosts["fe80::1%eth0"] = [OTHER]
        uri = f"wss://[fe80::1%25eth0]:{PORT}/"
        async with connect(uri, proxy=None, ssl=client, tls_transport="loop") as connection:
            assert connection.request is not None
            assert connection.request.headers["Host"] == f"[fe80::1]:{PORT}"
        assert system.told == [{"host": OTHER, "port": PORT, "ssl": client, "server_hostname": "fe80::1"}]


# ------------------------------------------------------------------------------------------------------------- proxies


@virtual
async def test_a_proxy_with_a_broken_address() -> None:
    async with reachable(V6, V4):
        system.faults[V6] = never
        listener = network().listen(V4, 3128)
        connecting = asyncio.create_task(connect("ws://other/", proxy="http://example.com:3128").connect())
        peer = await listener.peer()
        assert now() - START == 0.25
        assert (await peer.read_until()).startswith(b"CONNECT other:80 ")
        peer.reset()
        with pytest.raises(Exception, match="did not receive a valid HTTP response from proxy"):
            await connecting
        listener.close()
        assert system.open_sockets == 0


# ------------------------------------------------------------------------------------------------------- real sockets


# What it does with attempts to connect for which a listening socket has no room.
ONLY_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems refuse, or take more than they were told"
)


@contextlib.contextmanager
def unanswering() -> Iterator[Any]:
    """An address at which no attempt to connect ever ends: that of a listening socket whose queue is full."""
    with contextlib.ExitStack() as stack:
        try:
            listening = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=0))
        except OSError:  # a machine without IPv6
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listening.getsockname()
        with contextlib.suppress(TimeoutError):
            while True:
                stack.enter_context(socket.create_connection(address[:2], timeout=0.1))
        yield info(*address)


def info(*address: Any) -> Any:
    """An address as the resolver gives it."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


def resolving(monkeypatch: pytest.MonkeyPatch, *found: Any) -> None:
    """Let the running loop know the addresses of example.com, and the module under test see the true sockets."""
    monkeypatch.setattr(_dial, "socket", socket)
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **hints: Any) -> Any:
        return list(found) if host == "example.com" else await real(host, port, **hints)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


@ONLY_LINUX
@each_loop
async def test_a_broken_address_on_real_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        with unanswering() as broken:
            resolving(monkeypatch, broken, info("127.0.0.1", port_of(server)))
            began = now()
            async with connect("ws://example.com/", proxy=None) as client:
                seconds = now() - began
                print(f"{seconds:.3f} seconds to connect, with {broken[4][0]} broken")
                assert 0.2 <= seconds < 5
                await client.send("hello")
                assert await client.recv() == "hello"
                assert client.remote_address == ("127.0.0.1", port_of(server))
                raw = client.transport.get_extra_info("socket")
                assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            with pytest.raises(TimeoutError):
                await connect("ws://example.com/", proxy=None, happy_eyeballs_delay=None, open_timeout=0.05)


@each_loop
async def test_refusals_on_real_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as one, socket.socket() as two:
        for sock in (one, two):
            # A port that is taken, and at which nobody listens.
            sock.bind(("127.0.0.1", 0))
        addresses = [sock.getsockname() for sock in (one, two)]
        resolving(monkeypatch, *(info(*address) for address in addresses))
        with pytest.raises(ConnectionRefusedError) as raised:
            await connect("ws://example.com/", proxy=None)
        for address in addresses:
            assert str(address) in str(raised.value)


@each_loop
async def test_names_on_real_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dial, "socket", socket)
    cases: list[dict[str, Any]] = [{}, {"happy_eyeballs_delay": None}, {"interleave": 1}, {"all_errors": True}]
    async with serve(echo, "127.0.0.1", 0) as server:
        for options in cases:
            async with connect(f"ws://localhost:{port_of(server)}/", proxy=None, **options) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
        await greet(f"ws://127.0.0.1:{port_of(server)}/")
