"""Our client through real proxies: HTTP, HTTP over TLS, and SOCKS, with and without credentials, on each event loop.

Two of each kind: small ones, and those that companies have: squid and dante. And the SOCKS proxy of ssh.

Charter: starts the proxies, which ``debian-packages.txt`` names, and plays both ends of the tunnel itself. Needs
python-socks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
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
from websockets.asyncio.client import connect, process_exception
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidProxyStatus, ProxyError

# How long a proxy may take to listen, and to end. Only failures ever wait that long.
TIMEOUT = 30

CREDENTIALS = "user:sec%72et@"

# A port that squid and dante are told to refuse. It is never connected to.
FORBIDDEN = 9


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
            # squid has shared memory, and processes that help it, which it removes in the end.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TIMEOUT)
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
def squid(folder: Path, auth: bool) -> Iterator[int]:
    """Run squid, which speaks HTTP."""
    port = free_port()
    # As root it becomes somebody else, who must be able to read this.
    with tempfile.TemporaryDirectory() as readable:
        Path(readable).chmod(0o755)
        passwords = Path(readable, "passwords")
        passwords.write_text("user:$apr1$websocke$6V6IHQy0Ei7IfeMH7E5sk1\n")
        config = folder / f"squid{port}.conf"
        config.write_text(
            f"""
            http_port 127.0.0.1:{port}
            {"cache_effective_user nobody" if os.getuid() == 0 else ""}
            pid_filename none
            access_log none
            cache_log /dev/null
            cache deny all
            coredump_dir none
            netdb_filename none
            pinger_enable off
            visible_hostname localhost
            shutdown_lifetime 0 seconds
            dns_nameservers 127.0.0.1
            dns_timeout 1 seconds
            dns_retransmit_interval 1 seconds
            auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}
            auth_param basic children 1 startup=1
            acl known proxy_auth REQUIRED
            acl forbidden port {FORBIDDEN}
            http_access deny forbidden
            http_access allow {"known" if auth else "all"}
            http_access deny all
            """
        )
        # The name keeps its shared memory apart from that of others.
        with running(port, program("squid"), "-N", "-n", f"tests{port}", "-d", "1", "-f", config):
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


@contextlib.contextmanager
def dante(folder: Path, auth: bool) -> Iterator[int]:
    """Run dante, which speaks SOCKS 5; it could ask for passwords, but only those of the system's users."""
    assert not auth
    port = free_port()
    user = pwd.getpwuid(os.getuid()).pw_name
    config = folder / f"dante{port}.conf"
    config.write_text(
        f"""
        errorlog: stderr
        logoutput: stderr
        internal: 127.0.0.1 port = {port}
        external: lo
        clientmethod: none
        socksmethod: none
        user.privileged: {user}
        user.unprivileged: {user}
        client pass {{ from: 0/0 to: 0/0 }}
        socks block {{ from: 0/0 to: 0/0 port = {FORBIDDEN} }}
        socks pass {{ from: 0/0 to: 0/0 }}
        """
    )
    with running(port, program("danted"), "-f", config):
        yield port


@contextlib.contextmanager
def ssh(folder: Path, auth: bool) -> Iterator[int]:
    """Run the SOCKS proxy of an ssh client, and the server that it leads through; neither knows of passwords."""
    assert not auth
    port, server_port = free_port(), free_port()
    for name in ("host", "client"):
        key = folder / f"{name}{port}"
        command: list[str | Path] = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key]
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=True)
    config = folder / f"sshd{port}.conf"
    config.write_text(
        f"Port {server_port}\nListenAddress 127.0.0.1\nHostKey {folder}/host{port}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/client{port}.pub\nStrictModes no\nPermitRootLogin yes\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself up
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ExitOnForwardFailure=yes"]
    client: list[str | Path] = [
        program("ssh"),
        "-N",
        "-D",
        f"127.0.0.1:{port}",
        "-p",
        f"{server_port}",
        "-i",
        folder / f"client{port}",
    ]
    client += ["-F", "none", *(f"-o{option}" for option in options), "127.0.0.1"]
    # sshd wants to be called by its full name.
    with running(server_port, program("sshd"), "-D", "-e", "-f", config), running(port, *client):
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


Start = Callable[[Path, bool], contextlib.AbstractContextManager[int]]

# Scheme, program, and whether it can be told to ask for credentials.
KINDS: list[tuple[str, Start, bool]] = [
    ("http", tinyproxy, True),
    ("http", squid, True),
    ("https", stunnel, True),
    ("socks5", microsocks, True),
    ("socks5h", microsocks, True),
    ("socks5", dante, False),
    ("socks5h", dante, False),
    ("socks4a", ssh, False),
    ("socks5h", ssh, False),
]

CASES = [(scheme, start, auth) for scheme, start, can_ask in KINDS for auth in (False, True)[: 1 + can_ask]]


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


def describe(case: tuple[str, Start, bool]) -> str:
    """Return the name of a case, for the names of tests."""
    scheme, start, auth = case
    return f"{start.__name__} {scheme}{' with credentials' if auth else ''}"


@pytest.fixture(scope="module", params=CASES, ids=describe)
def proxy(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[RunningProxy]:
    """Run each proxy, without and with credentials."""
    scheme, start, auth = request.param
    with start(certificates.folder, auth) as port:
        yield RunningProxy(scheme, port, auth, certificates.trusted)


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
    """Send back each message, or close with the code that it asks for."""
    async for message in connection:
        if isinstance(message, str) and message.startswith("close "):
            await connection.close(int(message.split()[1]), "as you wish")
        else:
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


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1011, 1012, 3000, 4999])
def test_close_codes(proxy: RunningProxy, code: int, servers: Servers) -> None:
    async def main() -> None:
        async with connect(servers.plain, **proxy.options()) as connection:
            await connection.send(f"close {code}")
            with pytest.raises(ConnectionClosed) as raised:
                await connection.recv()
        assert raised.value.rcvd is not None
        assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (code, "as you wish")
        async with connect(servers.plain, **proxy.options()) as connection:
            await connection.close(code)
        assert connection.close_code == code

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))


def test_server_that_cannot_be_reached(proxy: RunningProxy, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ProxyError) as raised:
            await connect(f"ws://localhost:{free_port()}/", **proxy.options())
        if proxy.scheme.startswith("http"):
            assert isinstance(raised.value, InvalidProxyStatus)
            assert raised.value.response.status_code in (500, 502, 503)
        assert f"{proxy.scheme}://localhost:{proxy.port}" in raised.value.__notes__[0]
        # The server may be there later.
        assert process_exception(raised.value) is None

    run(main())


def test_name_that_does_not_resolve(proxy: RunningProxy, run: Run) -> None:
    async def main() -> None:
        # With these schemes, names are looked up on this side.
        kind = OSError if proxy.scheme == "socks5" else ProxyError
        with pytest.raises(kind) as raised:
            await connect("ws://nowhere.invalid/", open_timeout=TIMEOUT, **proxy.options())
        assert process_exception(raised.value) is None

    run(main())


@pytest.mark.parametrize(("scheme", "start"), [("http", squid), ("socks5", dante), ("socks5h", dante)])
def test_server_that_is_forbidden(scheme: str, start: Start, certificates: Certificates, run: Run) -> None:
    async def main(port: int) -> None:
        # Within a loop, too: what is forbidden will be forbidden.
        async for _ in connect(f"ws://localhost:{FORBIDDEN}/", proxy=f"{scheme}://localhost:{port}"):
            pass

    with start(certificates.folder, False) as port, pytest.raises(ProxyError) as raised:
        run(main(port))
    if scheme == "http":
        assert isinstance(raised.value, InvalidProxyStatus)
        assert raised.value.response.status_code == 403
    else:
        assert getattr(raised.value.__cause__, "error_code", None) == 2


def test_connecting_again(proxy: RunningProxy, run: Run) -> None:
    """The server isn't there at first; then it goes away, and comes back."""

    async def main() -> None:
        port = free_port()
        seen = []
        async with asyncio.TaskGroup() as group:
            server = group.create_task(come_and_go(port))
            options: dict[str, Any] = proxy.options() | {"reconnect_delays": lambda: itertools.repeat(0.05)}
            async for connection in connect(f"ws://localhost:{port}/", **options):
                with contextlib.suppress(ConnectionClosed):
                    await connection.send("text")
                    assert await connection.recv() == "text"
                    await connection.recv()
                seen.append(connection.close_code)
                if len(seen) == 2:
                    break
            server.cancel()
        assert seen == [1012, 1012]

    async def come_and_go(port: int) -> None:
        while True:
            await asyncio.sleep(0.2)
            async with serve(echo, "localhost", port) as server:
                while not server.connections:  # noqa: ASYNC110  # what it waits for has no event
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                server.close(code=1012)

    run(main())


def test_proxy_that_restarts(certificates: Certificates, servers: Servers, run: Run) -> None:
    async def main() -> None:
        with contextlib.ExitStack() as first:
            port = first.enter_context(microsocks(certificates.folder, auth=False))
            attempts = connect(
                servers.plain, proxy=f"socks5h://localhost:{port}", reconnect_delays=lambda: itertools.repeat(0.05)
            )
            async for connection in attempts:
                await connection.send("text")
                assert await connection.recv() == "text"
                if again:
                    await connection.close()
                    break
                await asyncio.to_thread(first.close)
                await connection.wait_closed()
                assert connection.close_code == 1006
                asyncio.get_running_loop().call_later(0.3, restart, port)

    def restart(port: int) -> None:
        again.append(subprocess.Popen([program("microsocks"), "-i", "127.0.0.1", "-p", str(port)]))

    again: list[subprocess.Popen[bytes]] = []
    try:
        run(main())
    finally:
        assert len(again) == 1
        for process in again:
            process.kill()
            process.wait()


# The transport of a connection that is still closing says that it wasn't closed.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_program_that_ends_in_the_middle(proxy: RunningProxy, servers: Servers) -> None:
    """No task is left, so that asyncio doesn't say "Task was destroyed but it is pending"."""

    async def listen(opened: asyncio.Event) -> None:
        async for connection in connect(servers.plain, **proxy.options()):
            opened.set()
            async for _ in connection:
                pass

    async def main() -> None:
        opened = asyncio.Event()
        task = asyncio.create_task(listen(opened))
        await asyncio.wait_for(opened.wait(), TIMEOUT)
        task.cancel()

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        runner.run(main())
    assert asyncio.all_tasks(loop) == set()


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
