"""Our client through real proxies: HTTP, HTTP over TLS, and SOCKS, with and without credentials, on each event loop.

Charter: starts the proxies, which ``debian-packages.txt`` names, and plays both ends of the tunnel itself. Needs
python-socks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interop.test_loops import OPENSSL
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidProxyStatus, ProxyError

# How long a proxy may take to listen, and to end. Only failures ever wait that long.
TIMEOUT = 30

CREDENTIALS = "user:sec%72et@"


def program(name: str) -> str:
    """Return the path of a proxy's program, which may be missing."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed: see debian-packages.txt")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


# ----------------------------------------------------------------------------------------------------------- programs


@contextlib.contextmanager
def running(port: int, *command: str | Path) -> Iterator[int]:
    """Run a proxy during a ``with`` block, beginning when it listens on its port."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        try:
            wait_for(port, process)
            yield port
        except TimeoutError:
            output.seek(0)
            pytest.fail(f"{command[0]} doesn't listen\n{output.read()}", pytrace=False)
        finally:
            process.kill()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a port accepts connections."""
    deadline = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
            return
        time.sleep(0.01)
    raise TimeoutError


@contextlib.contextmanager
def tinyproxy(folder: Path, auth: bool) -> Iterator[int]:
    """Run a proxy that speaks HTTP."""
    port = free_port()
    config = folder / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", "MaxClients 100", *["BasicAuth user secret"][:auth]]
    config.write_text("".join(f"{line}\n" for line in lines))
    with running(port, program("tinyproxy"), "-d", "-c", config):
        yield port


@contextlib.contextmanager
def stunnel(folder: Path, auth: bool) -> Iterator[int]:
    """Run a proxy that speaks HTTP over TLS."""
    port = free_port()
    config = folder / "stunnel.conf"
    path = program("stunnel4")
    with tinyproxy(folder, auth) as inner:
        lines = ["foreground = yes", "pid =", "[proxy]", f"accept = 127.0.0.1:{port}", f"connect = 127.0.0.1:{inner}"]
        lines += [f"cert = {folder / 'certificate.pem'}", f"key = {folder / 'key.pem'}"]
        config.write_text("".join(f"{line}\n" for line in lines))
        with running(port, path, config):
            yield port


@contextlib.contextmanager
def microsocks(folder: Path, auth: bool) -> Iterator[int]:
    """Run a proxy that speaks SOCKS 5."""
    port = free_port()
    options = ["-u", "user", "-P", "secret"] if auth else []
    with running(port, program("microsocks"), "-i", "127.0.0.1", "-p", str(port), *options):
        yield port


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """Make a certificate in a folder; return the settings of a server that has it."""
    command = OPENSSL.replace("localhost", name).split()
    subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


# ----------------------------------------------------------------------------------------------------------- fixtures


@dataclass(frozen=True)
class Certificates:
    """Who can prove to be whom."""

    folder: Path
    localhost: ssl.SSLContext
    other: ssl.SSLContext
    trusted: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make certificates for localhost and for another name, both of which the client trusts."""
    folder, other = tmp_path_factory.mktemp("localhost"), tmp_path_factory.mktemp("other")
    servers = certificate(folder, "localhost"), certificate(other, "other.example")
    trusted = ssl.create_default_context()
    for place in (folder, other):
        trusted.load_verify_locations(place / "certificate.pem")
    return Certificates(folder, *servers, trusted)


Kind = tuple[str, Callable[[Path, bool], contextlib.AbstractContextManager[int]]]

KINDS: list[Kind] = [("http", tinyproxy), ("https", stunnel), ("socks5", microsocks), ("socks5h", microsocks)]


@dataclass(frozen=True)
class RunningProxy:
    """A proxy."""

    scheme: str
    port: int
    auth: bool
    trusted: ssl.SSLContext

    def options(self, credentials: str = CREDENTIALS) -> dict[str, Any]:
        """What the client has to be told."""
        user_info = credentials if self.auth else ""
        options: dict[str, Any] = {"proxy": f"{self.scheme}://{user_info}localhost:{self.port}"}
        return options | ({"proxy_ssl": self.trusted} if self.scheme == "https" else {})


@pytest.fixture(scope="module", params=KINDS, ids=[scheme for scheme, _ in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Give each kind of proxy."""
    result: Kind = request.param
    return result


@pytest.fixture(scope="module", params=[False, True], ids=["open", "with credentials"])
def proxy(request: pytest.FixtureRequest, kind: Kind, certificates: Certificates) -> Iterator[RunningProxy]:
    """Run each proxy, without and with credentials."""
    scheme, start = kind
    with start(certificates.folder, request.param) as port:
        yield RunningProxy(scheme, port, request.param, certificates.trusted)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on each event loop."""

    def runner(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as loop:
            loop.run(asyncio.wait_for(main, TIMEOUT))

    new_event_loop = asyncio.new_event_loop
    if request.param == "uvloop":
        import uvloop

        new_event_loop = uvloop.new_event_loop
    return runner


Run = Callable[[Coroutine[Any, Any, None]], None]


async def echo(connection: ServerConnection) -> None:
    """Send back each message."""
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext | None) -> AsyncIterator[str]:
    """Run an echo server on every loopback address, as proxies differ in which they take; give its URI."""
    sockets = [socket.create_server(("127.0.0.1", 0))]
    port = sockets[0].getsockname()[1]
    with contextlib.suppress(OSError):
        sockets.append(socket.create_server(("::1", port), family=socket.AF_INET6))
    async with contextlib.AsyncExitStack() as stack:
        for sock in sockets:
            await stack.enter_async_context(serve(echo, sock=sock, ssl=context))
        yield f"{'ws' if context is None else 'wss'}://localhost:{port}/"


@dataclass(frozen=True)
class Servers:
    """URIs of echo servers: without TLS, and with TLS for localhost and for another name."""

    plain: str
    secure: str
    other: str


@pytest.fixture(scope="module")
def servers(certificates: Certificates) -> Iterator[Servers]:
    """Run servers in a thread, so that clients can leave without a look at what becomes of the other end."""

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        async with (
            serving(None) as plain,
            serving(certificates.localhost) as secure,
            serving(certificates.other) as other,
        ):
            started.put((Servers(plain, secure, other), lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()

    started: queue.SimpleQueue[tuple[Servers, Callable[[], object]]] = queue.SimpleQueue()
    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    result, stop = started.get(timeout=TIMEOUT)
    yield result
    stop()
    thread.join(TIMEOUT)


# -------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_conversation(
    proxy: RunningProxy, secure: bool, servers: Servers, certificates: Certificates, run: Run
) -> None:
    async def main() -> None:
        options: dict[str, Any] = proxy.options() | ({"ssl": certificates.trusted} if secure else {})
        async with connect(servers.secure if secure else servers.plain, **options) as connection:
            assert connection.remote_address[1] == proxy.port
            for message in ("text", b"", os.urandom(10**6)):
                await connection.send(message)
                assert await connection.recv() == message
            await asyncio.wait_for(await connection.ping(), TIMEOUT)
        assert connection.close_code == 1000

    run(main())


def test_many_at_once(proxy: RunningProxy, servers: Servers, certificates: Certificates, run: Run) -> None:
    async def talk(number: int) -> None:
        async with connect(servers.secure, ssl=certificates.trusted, **proxy.options()) as connection:
            await connection.send(f"message {number}")
            assert await connection.recv() == f"message {number}"

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(talk(number))

    run(main())


@pytest.mark.parametrize("credentials", ["", "user:wrong@", "wrong:secret@"])
def test_wrong_credentials(proxy: RunningProxy, credentials: str, servers: Servers, run: Run) -> None:
    async def main() -> None:
        if not proxy.auth:
            await (await connect(servers.plain, **proxy.options(credentials))).close()
            return
        with pytest.raises(ProxyError) as raised:
            await connect(servers.plain, **proxy.options(credentials))
        if proxy.scheme.startswith("http"):
            assert isinstance(raised.value, InvalidProxyStatus)
            assert raised.value.response.status_code in (401, 407)
        else:
            assert str(raised.value) == "failed to connect to SOCKS proxy"

    run(main())


def test_server_that_cannot_be_reached(proxy: RunningProxy, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ProxyError) as raised:
            await connect(f"ws://localhost:{free_port()}/", **proxy.options())
        if proxy.scheme.startswith("http"):
            assert isinstance(raised.value, InvalidProxyStatus)
            assert raised.value.response.status_code >= 500
        assert f"{proxy.scheme}://localhost:{proxy.port}" in raised.value.__notes__[0]

    run(main())


def test_server_that_is_somebody_else(
    proxy: RunningProxy, servers: Servers, certificates: Certificates, run: Run
) -> None:
    """The certificate is verified from end to end, whatever the proxy proved to be."""

    async def main() -> None:
        with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
            await connect(servers.other, ssl=certificates.trusted, **proxy.options())
        # The name may be another than in the URI only if the user says so.
        options = proxy.options() | {"ssl": certificates.trusted, "server_hostname": "other.example"}
        async with connect(servers.other, **options) as connection:
            await connection.send("text")
            assert await connection.recv() == "text"

    run(main())


def test_server_that_is_not_trusted(proxy: RunningProxy, servers: Servers, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(servers.secure, **proxy.options())

    run(main())


@pytest.mark.parametrize("options", [{"proxy_ssl": True}, {"proxy_server_hostname": "other.example"}])
def test_proxy_that_is_not_trusted(options: Any, certificates: Certificates, servers: Servers, run: Run) -> None:
    async def main() -> None:
        with stunnel(certificates.folder, auth=False) as port:
            proxy = RunningProxy("https", port, False, certificates.trusted)
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(servers.plain, **proxy.options() | options)

    run(main())


def test_connection_that_is_aborted(
    proxy: RunningProxy, servers: Servers, certificates: Certificates, run: Run
) -> None:
    async def main() -> None:
        connection = await connect(servers.secure, ssl=certificates.trusted, **proxy.options())
        connection.transport.abort()
        await connection.wait_closed()
        assert connection.close_code == 1006

    run(main())
