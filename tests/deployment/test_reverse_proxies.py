"""Reverse proxies, with the configuration of the examples, in front of servers: what passes through, what doesn't.

Both ends of each connection are in this process, so that what one did can be compared with what the other saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import random
import re
import runpy
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployment.programs import (
    EXAMPLES,
    TIMEOUT,
    Running,
    adapted,
    certificate,
    example,
    free_port,
    program,
    running,
    until,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.protocol import State

# How long the proxies of these tests let a connection be silent, and how often one is pinged that shall live.
SILENCE = 1
PING_INTERVAL = 0.25
SILENT = {"ping_interval": None}

# Where a server of these tests sends pings of its own.
PINGED = "/pinged"

COMPRESSIBLE = "All work and no play makes Jack a dull boy. " * 2000
LARGE = random.Random(0).randbytes(2**20)


@dataclass
class Proxy:
    """A proxy that runs."""

    kind: Kind
    uri: str
    run: Running
    config: Path
    trusted: ssl.SSLContext | None

    async def connect(self, path: str = "/", **options: Any) -> ClientConnection:
        return await connect(self.uri + path, ssl=self.trusted, **options)


@dataclass
class Site:
    """Two servers and a proxy in front of them.

    Parameters:
        ports: where the servers listen.
        connections: the servers' ends of connections, by the path of the request.
    """

    ports: tuple[int, int]
    connections: dict[str, ServerConnection] = field(default_factory=dict)

    async def echo(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.connections[connection.request.path] = connection
        with contextlib.suppress(ConnectionClosed):
            while connection.request.path == PINGED:
                await (await connection.ping())
                await asyncio.sleep(PING_INTERVAL)
            async for message in connection:
                await connection.send(message)


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Site]:
    """Run two servers."""
    async with contextlib.AsyncExitStack() as stack:
        site = Site((free_port(), free_port()))
        for port in site.ports:
            server = serve(site.echo, "127.0.0.1", port, process_request=answer_health_check, backlog=1024, **options)
            await stack.enter_async_context(server)
        yield site


def answer_health_check(connection: ServerConnection, request: Request) -> Response | None:
    """What HAProxy asks every other second."""
    return connection.respond(200, "OK\n") if request.path == "/health" else None


@contextlib.contextmanager
def nginx(folder: Path, port: int, ports: tuple[int, int], silence: int) -> Iterator[tuple[Running, Path]]:
    """Run nginx in a folder that has the certificate."""
    words = {"_8443": port, "_8765": ports[0], "_8766": ports[1], "_75s": f"{silence}s"}
    config = adapted("nginx/nginx.conf", folder, **words)
    (folder / "tmp").mkdir()
    # Started by root, it would become somebody else, who may not look into the folder.
    user = ["-g", "user root; daemon off;" if os.getuid() == 0 else "daemon off;"]
    with running(program("nginx"), "-p", folder, "-c", config.name, *user, port=port, cwd=folder) as run:
        yield run, config


@contextlib.contextmanager
def haproxy(folder: Path, port: int, ports: tuple[int, int], silence: int) -> Iterator[tuple[Running, Path]]:
    """Run HAProxy in a folder that has the certificate."""
    words = {"_8443": port, "_8765": ports[0], "_8766": ports[1], "_75s": f"{silence}s"}
    config = adapted("haproxy/haproxy.cfg", folder, **words)
    with running(program("haproxy"), "-W", "-f", config.name, port=port, cwd=folder) as run:
        yield run, config


@contextlib.contextmanager
def apache(folder: Path, port: int, ports: tuple[int, int], silence: int) -> Iterator[tuple[Running, Path]]:
    """Run Apache in a folder that has the certificate."""
    words = {"_8443": port, "_8765": ports[0], "_8766": ports[1], "_75": silence}
    config = adapted("apache/apache.conf", folder, **words)
    with running(program("apache2"), "-d", folder, "-f", config, "-D", "FOREGROUND", port=port, cwd=folder) as run:
        try:
            yield run, config
        finally:
            # Its processes are in a group of their own.
            run.stop()


@contextlib.contextmanager
def caddy(folder: Path, port: int, ports: tuple[int, int], silence: int) -> Iterator[tuple[Running, Path]]:
    """Run Caddy in a folder that has the certificate; it lets any silence pass."""
    words = {"_8443": port, "_8765": ports[0], "_8766": ports[1], "_2019": free_port()}
    config = adapted("caddy/Caddyfile", folder, **words)
    env = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with running(program("caddy"), "run", "--config", config, port=port, cwd=folder, env=env) as run:
        yield run, config


@contextlib.contextmanager
def lighttpd(folder: Path, port: int, ports: tuple[int, int], silence: int) -> Iterator[tuple[Running, Path]]:
    """Run lighttpd in a folder that has the certificate."""
    words = {"_8443": port, "_8765": ports[0], "_8766": ports[1], "_75": silence}
    config = adapted("lighttpd/lighttpd.conf", folder, **words)
    env = {"PWD": str(folder)}
    with running(program("lighttpd"), "-D", "-f", config, port=port, cwd=folder, env=env) as run:
        yield run, config


@contextlib.contextmanager
def varnish(folder: Path, port: int, ports: tuple[int, int], silence: int) -> Iterator[tuple[Running, Path]]:
    """Run Varnish, which has no TLS."""
    config = adapted("varnish/default.vcl", folder, _8765=ports[0], _8766=ports[1])
    place = "-n", str(folder / "varnish"), "-a", f"127.0.0.1:{port}", "-f", str(config)
    command = program("varnishd"), "-F", "-j", "none", *place, "-p", f"pipe_timeout={silence}"
    with running(*command, port=port, cwd=folder) as run:
        yield run, config


def administer(folder: Path, *command: str) -> str:
    """Give Varnish a command; return the answer."""
    administration = [program("varnishadm"), "-n", str(folder / "varnish"), *command]
    return subprocess.run(administration, capture_output=True, timeout=TIMEOUT, text=True, check=False).stdout


Start = Callable[[Path, int, tuple[int, int], int], contextlib.AbstractContextManager[tuple[Running, Path]]]


@dataclass(frozen=True)
class Kind:
    """A program that can be a proxy.

    Parameters:
        start: runs it.
        connections: how many connections it is tried with.
        tls: whether it speaks TLS with clients.
        reload: the signal that makes it read its configuration again without disturbing anybody; None for none.
        cuts: whether it ends connections that are silent for too long.
    """

    start: Start
    connections: int = 200
    tls: bool = True
    reload: signal.Signals | None = None
    cuts: bool = True


PROXIES = {
    "nginx": Kind(nginx, 1000, reload=signal.SIGHUP),
    "haproxy": Kind(haproxy, reload=signal.SIGUSR2),
    "apache": Kind(apache, reload=signal.SIGUSR1),
    "caddy": Kind(caddy, cuts=False),
    "lighttpd": Kind(lighttpd),
    "varnish": Kind(varnish, tls=False),
}


@contextlib.contextmanager
def in_front(name: str, folder: Path, ports: tuple[int, int], silence: int = 75) -> Iterator[Proxy]:
    """Run a proxy in front of two servers."""
    kind = PROXIES[name]
    trusted = ssl.create_default_context(cafile=certificate(folder)) if kind.tls else None
    port = free_port()
    with kind.start(folder, port, ports, silence) as (run, config):
        yield Proxy(kind, f"{'wss' if kind.tls else 'ws'}://localhost:{port}", run, config, trusted)


each_proxy = pytest.mark.parametrize("name", PROXIES)
each_that_cuts = pytest.mark.parametrize("name", [name for name, kind in PROXIES.items() if kind.cuts])
each_with_signal = pytest.mark.parametrize("name", [name for name, kind in PROXIES.items() if kind.reload])


async def everybody(site: Site, proxy: Proxy, **options: Any) -> list[ClientConnection]:
    """Open as many connections as the proxy is tried with, each with a path of its own."""
    count = proxy.kind.connections
    few = asyncio.Semaphore(100)

    async def one(number: int) -> ClientConnection:
        async with few:
            return await proxy.connect(f"/{number}", **options)

    clients = await asyncio.gather(*(one(number) for number in range(count)))
    assert len(site.connections) == count
    return clients


# ------------------------------------------------------------------------------------------------------ what passes


@each_proxy
async def test_many_connections(name: str, tmp_path: Path) -> None:
    """Messages with compression, keepalive both ways, close codes both ways, on many connections at the same time."""
    times = {"ping_interval": 1, "ping_timeout": TIMEOUT}
    async with serving(**times) as site:
        with in_front(name, tmp_path, site.ports) as proxy:
            clients = await everybody(site, proxy, **times)
            servers = [site.connections[f"/{number}"] for number in range(len(clients))]
            await check_messages(clients)
            await check_pings(clients, servers)
            await check_closing(clients, servers)
            shares = [sum(server.local_address[1] == port for server in servers) for port in site.ports]
            assert sum(shares) == len(clients)
            assert abs(shares[0] - shares[1]) <= len(clients) // 10
    print(f"\n{name}: {len(clients)} connections, {shares[0]} + {shares[1]} on two servers; all messages, pings, codes")


async def check_messages(clients: list[ClientConnection]) -> None:
    for client in clients:
        assert client.response is not None
        assert client.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")

    async def talk(number: int, client: ClientConnection) -> None:
        for message in (f"message {number}", b"\0\xff" * number, COMPRESSIBLE, LARGE if number < 3 else ""):
            await client.send(message)
            assert await client.recv() == message

    await asyncio.gather(*(talk(number, client) for number, client in enumerate(clients)))


async def check_pings(clients: list[ClientConnection], servers: list[ServerConnection]) -> None:
    """Each end's own keepalive has measured the latency, and a ping with a payload is answered."""
    ends = [*clients, *servers]
    await until(lambda: all(end.latency > 0 for end in ends))
    pongs = [await end.ping(f"ping {number}") for number, end in enumerate(ends)]
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*pongs)


async def check_closing(clients: list[ClientConnection], servers: list[ServerConnection]) -> None:
    """Half are closed by the client, half by the server, each with a code of its own."""
    async with asyncio.timeout(TIMEOUT):
        pairs = enumerate(zip(clients, servers, strict=True))
        await asyncio.gather(*(pair[number % 2].close(3000 + number, f"reason {number}") for number, pair in pairs))
        await asyncio.gather(*(end.wait_closed() for end in [*clients, *servers]))
    for ends in (clients, servers):
        assert [(end.close_code, end.close_reason) for end in ends] == [
            (3000 + number, f"reason {number}") for number in range(len(ends))
        ]


# ----------------------------------------------------------------------------------------------------------- silence


@each_that_cuts
async def test_silence(name: str, tmp_path: Path) -> None:
    """A silent connection is cut by the proxy; pings in time, from either end, keep it."""
    async with serving(ping_interval=None) as site:
        with in_front(name, tmp_path, site.ports, silence=SILENCE) as proxy:
            pinged = await proxy.connect("/", ping_interval=PING_INTERVAL), await proxy.connect(PINGED, **SILENT)
            # The second one is silent for as long as the proxy allows, while the others have been there for longer.
            for _ in range(2):
                silent = await proxy.connect("/", **SILENT)
                await asyncio.wait_for(silent.wait_closed(), TIMEOUT)
                assert silent.close_code == 1006
            assert [client.state for client in pinged] == [State.OPEN] * 2
            for client in pinged:
                await client.close()


# ------------------------------------------------------------------------------------------------------------ reload


@each_with_signal
async def test_reload(name: str, tmp_path: Path) -> None:
    """The proxy takes a new configuration; connections that are open stay."""
    async with serving() as site:
        with in_front(name, tmp_path, site.ports) as proxy:
            client = await proxy.connect()
            new = free_port()
            old = proxy.uri.rpartition(":")[2]
            proxy.config.write_text(proxy.config.read_text("utf-8").replace(f":{old}", f":{new}"), "utf-8")
            async with asyncio.timeout(TIMEOUT):
                while True:
                    # More than once: just after its start, HAProxy may lose a signal.
                    assert proxy.kind.reload is not None
                    proxy.run.process.send_signal(proxy.kind.reload)
                    with contextlib.suppress(OSError):
                        await (await connect(f"wss://localhost:{new}/new", ssl=proxy.trusted)).close()
                        break
                    await asyncio.sleep(0.2)
            await client.send("still there")
            assert await client.recv() == "still there"
            await client.close()


async def test_reload_of_caddy(tmp_path: Path) -> None:
    """Caddy sends Close to both ends. That to the server isn't masked, so the server is the next to complain."""
    async with serving() as site:
        with in_front("caddy", tmp_path, site.ports) as proxy:
            client = await proxy.connect("/old")
            await client.send("hello")
            assert await client.recv() == "hello"
            reload = [program("caddy"), "reload", "--config", str(proxy.config)]
            for change in ("", "# the same\n", "\n:0 {\n}\n"):
                assert client.state is State.OPEN
                proxy.config.write_text(proxy.config.read_text("utf-8") + change, "utf-8")
                process = await asyncio.create_subprocess_exec(*reload, stderr=subprocess.DEVNULL, cwd=tmp_path)
                assert await process.wait() == 0
            await asyncio.wait_for(client.wait_closed(), TIMEOUT)
            assert (client.close_code, client.close_reason) in [(1001, ""), (1002, "incorrect masking")]
            server = site.connections["/old"]
            await asyncio.wait_for(server.wait_closed(), TIMEOUT)
            assert server.close_code == 1006
            await (await proxy.connect("/new")).close()


async def test_reload_of_lighttpd(tmp_path: Path) -> None:
    """lighttpd begins anew once all connections are closed, or when it has waited long enough for that."""
    async with serving() as site:
        with in_front("lighttpd", tmp_path, site.ports) as proxy:
            client = await proxy.connect("/old")
            proxy.run.process.send_signal(signal.SIGUSR1)
            await until(lambda: "graceful shutdown started" in (tmp_path / "error.log").read_text("utf-8"))
            await client.send("still there")
            assert await client.recv() == "still there"
            waiting = asyncio.create_task(proxy.connect("/new"))
            await asyncio.wait_for(client.wait_closed(), TIMEOUT)
            assert client.close_code == 1006
            await (await asyncio.wait_for(waiting, TIMEOUT)).close()


async def test_reload_of_varnish(tmp_path: Path) -> None:
    """A new configuration is for new connections."""
    async with serving() as site:
        with in_front("varnish", tmp_path, site.ports) as proxy:
            client = await proxy.connect("/old")
            changed = proxy.config.read_text("utf-8").replace("sub vcl_recv {", "sub vcl_recv { return (synth(503));")
            proxy.config.write_text(changed, "utf-8")
            for command in (["vcl.load", "changed", str(proxy.config)], ["vcl.use", "changed"]):
                await asyncio.to_thread(administer, tmp_path, *command)
            with pytest.raises(InvalidStatus, match="HTTP 503"):
                await proxy.connect("/new")
            await client.send("still there")
            assert await client.recv() == "still there"
            await client.close()


# --------------------------------------------------------------------------------------------------------- the rest


@each_proxy
async def test_address_of_the_client(name: str, tmp_path: Path) -> None:
    """The server of the example learns the address, and believes nobody else about it."""
    ports = free_port(), free_port()
    with example("nginx/server.py", *map(str, ports), port=ports[1]) as server:
        with in_front(name, tmp_path, ports) as proxy:
            for headers in ({}, {"X-Forwarded-For": "203.0.113.7"}):
                async with await proxy.connect(local_addr=("127.0.0.9", 0), additional_headers=headers) as client:
                    await client.send("hello")
                    assert await client.recv() == "hello"
        assert re.findall("client .*", server.output) == ["client 127.0.0.9"] * 2
        assert server.stop() == 0


@each_proxy
async def test_names_and_headers(name: str, tmp_path: Path) -> None:
    """The server sees the name that the client used; the client sees the upgrade, and who serves it."""
    async with serving(hosts=["localhost"]) as site:
        with in_front(name, tmp_path, site.ports) as proxy:
            async with await proxy.connect("/names") as client:
                assert client.response is not None
                headers = client.response.headers
                assert headers["Upgrade"].lower() == "websocket"
                assert headers["Connection"].lower() == "upgrade"
                # Caddy adds its own, nginx replaces that of the server.
                assert len(headers.get_all("Server")) == (2 if name == "caddy" else 1)
            server = site.connections["/names"]
            assert server.request is not None
            assert server.request.headers["Host"] == proxy.uri.partition("//")[2]


async def test_one_server_header_with_caddy(tmp_path: Path) -> None:
    """Caddy adds its own to that of the server."""
    async with serving(server_header=None) as site:
        with in_front("caddy", tmp_path, site.ports) as proxy:
            async with await proxy.connect() as client:
                assert client.response is not None
                assert client.response.headers.get_all("Server") == ["Caddy"]


@each_proxy
async def test_health_check(name: str, tmp_path: Path) -> None:
    """A server that doesn't answer is left out, and nobody notices."""
    ports = free_port(), free_port()
    with example("nginx/server.py", str(ports[0]), port=ports[0]):
        with in_front(name, tmp_path, ports) as proxy:
            if name == "haproxy":
                await until(lambda: "DOWN" in proxy.run.output)
            elif name == "varnish":
                await until(lambda: "0/2" in administer(tmp_path, "backend.list"))
            for _ in range(10):
                async with await proxy.connect() as client:
                    await client.send("hello")
                    assert await client.recv() == "hello"
        direct = http.client.HTTPConnection("127.0.0.1", ports[0])
        direct.request("GET", "/health")
        answer = direct.getresponse()
        assert (answer.status, answer.read()) == (200, b"I'm fine.\n")
        direct.close()


@pytest.mark.parametrize(
    ("address", "forwarded", "expected"),
    [
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("::1", ["2001:db8::7"], "2001:db8::7"),
        ("127.0.0.1", ["1.1.1.1, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("127.0.0.1", ["1.1.1.1", "203.0.113.7", "10.0.0.2"], "203.0.113.7"),
        ("127.0.0.1", ["1.1.1.1, nonsense, 10.0.0.2"], "nonsense"),
    ],
)
def test_which_address_counts(address: str, forwarded: list[str], expected: str) -> None:
    client_address = runpy.run_path(str(EXAMPLES / "nginx" / "server.py"))["client_address"]
    headers = Headers([("X-Forwarded-For", value) for value in forwarded])
    connection = SimpleNamespace(remote_address=(address, 1), request=SimpleNamespace(headers=headers))
    assert client_address(connection) == expected
