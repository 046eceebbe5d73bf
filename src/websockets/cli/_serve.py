"""The command ``websockets serve``: a server in one or several processes.

May know: options, servers on asyncio, TLS. Must not know: how several processes are kept together.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import importlib
import logging
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..asyncio.server import Server, ServerConnection, basic_auth, broadcast, serve, unix_serve
from ..typing import Data, Subprotocol
from ._arguments import place
from ._client import run, set_up_logs, standard_screen
from ._format import escape
from ._screen import Screen
from ._status import ABNORMAL, OK, UsageError, check_unix
from ._target import asker, credentials
from ._workers import free_port, report, run_workers

__all__ = [
    "Broadcast",
    "Handler",
    "Printer",
    "Service",
    "addresses",
    "certificate",
    "echo",
    "handler_named",
    "run_server",
]

Handler = Callable[[ServerConnection], Awaitable[None]]
Announce = Callable[[list[str]], None]

DEFAULT_PLACE = ("localhost", 8765)

# Seconds that connections and handlers may take to end, a little longer than close_timeout. After that, handlers are
# cancelled, and the server waits two more seconds at most.
CLOSING = 12

# Days for which a certificate made for one run of the server is valid.
CERTIFICATE_DAYS = 30


# ------------------------------------------------------------------------------------------------------------- handlers


async def echo(connection: ServerConnection) -> None:
    """Send each message back."""
    async for message in connection:
        await connection.send(message)


class Broadcast:
    """Sends each message to every client, including its sender."""

    def __init__(self) -> None:
        self.connections: set[ServerConnection] = set()

    async def __call__(self, connection: ServerConnection) -> None:
        """Handle a connection."""
        self.connections.add(connection)
        try:
            async for message in connection:
                broadcast(self.connections, message)
        finally:
            self.connections.discard(connection)


class Printer:
    """Shows messages, and sends nothing.

    Parameters:
        write: writes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    async def __call__(self, connection: ServerConnection) -> None:
        """Handle a connection."""
        name = peer_name(connection.remote_address)
        async for message in connection:
            self.write(f"{name} < {shown(message)}")


def shown(message: Data) -> str:
    """Return a message as one line that is safe for a terminal."""
    return f"(binary) {message.hex()}" if isinstance(message, bytes) else escape(message)


def peer_name(address: Any) -> str:
    """Return the name of a client: its host and port, or a text for a client on this machine."""
    return host_port(*address[:2]) if isinstance(address, tuple) else "unix"


def host_port(host: str, port: int) -> str:
    """Return a host and a port as in a URI (RFC 3986 section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def handler_named(name: str, screen: Screen) -> Handler:
    """Return a handler by its name: one of ours, or ``module:function``, searched in the current folder first.

    Raises:
        UsageError: there is no such handler.
    """
    if name == "echo":
        return echo
    if name == "broadcast":
        return Broadcast()
    if name == "print":
        return Printer(screen.line)
    module, colon, function = name.partition(":")
    if not colon or not module:
        raise UsageError(f"no handler is called {name}: there are echo, broadcast, print, and module:function")
    sys.path.insert(0, os.getcwd())
    try:
        handler: Any = importlib.import_module(module)
        for part in function.split("."):
            handler = getattr(handler, part)
    except (ModuleNotFoundError, AttributeError) as exc:
        raise UsageError(f"can't find {name}: {exc}") from exc
    except Exception as exc:
        # The program of the user doesn't parse, or raises; the end of the traceback says where.
        raise UsageError(f"can't import {module}: {import_error(exc)}") from exc
    if not callable(handler):
        raise UsageError(f"{name} isn't a function")
    return handler  # type: ignore[no-any-return]


def import_error(exc: Exception) -> str:
    """Return an exception as Python shows it at the end of a traceback, and where it was raised."""
    if isinstance(exc, SyntaxError):
        return f"{exc.filename}, line {exc.lineno}: {type(exc).__name__}: {exc.msg}"
    last = traceback.extract_tb(exc.__traceback__)[-1]
    text = traceback.format_exception_only(exc)[-1].strip()
    return f"{last.filename}, line {last.lineno}: {text}"


# -------------------------------------------------------------------------------------------------------------- service


@dataclasses.dataclass(frozen=True)
class Service:
    """Settings of a server, as plain values that can be sent to a worker.

    Parameters:
        handler: name of the handler.
        host: where to listen; None for all interfaces.
        port: TCP port; 0 for a free one.
        unix: path of a Unix socket, instead of host and port.
        files: files of the certificate and of its key; None for no TLS.
        credentials: the user and the password that clients must send; None for no authentication.
        subprotocols: accepted subprotocols; clients need not offer one.
        arguments: more keyword arguments of :func:`~websockets.asyncio.server.serve`.
        verbose: level of logging: 0 for errors, 1 for connections, 2 for frames.
    """

    handler: str
    host: str | None
    port: int
    unix: str | None = None
    files: tuple[str, str] | None = None
    credentials: tuple[str, str] | None = None
    subprotocols: list[Subprotocol] | None = None
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    verbose: int = 0

    def server(self, screen: Screen, **more: Any) -> Server:
        """Return the server, which doesn't listen yet.

        Raises:
            UsageError: there is no such handler.
        """
        arguments = {**self.arguments, **more}
        if self.subprotocols is not None:
            arguments.update(subprotocols=self.subprotocols, select_subprotocol=self._chosen)
        if self.files is not None:
            arguments["ssl"] = context_of(*self.files)
        if self.credentials is not None:
            arguments["process_request"] = basic_auth("websockets", self.credentials)
        handler = handler_named(self.handler, screen)
        try:
            if self.unix is not None:
                return unix_serve(handler, self.unix, **arguments)
            return serve(handler, self.host, self.port, **arguments)
        except TypeError as exc:
            raise UsageError(str(exc)) from exc

    def _chosen(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return next((name for name in self.subprotocols or () if name in offered), None)


async def keep_serving(server: Server, secure: bool, listening: Announce) -> int:
    """Listen until cancelled; then close each connection with 1001, and wait for that, CLOSING seconds at most.

    Parameters:
        server: the server.
        secure: whether it uses TLS.
        listening: called with the addresses when the server listens.

    Raises:
        OSError: listening failed.
    """
    async with server:
        listening(addresses(server.sockets, secure))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        server.close(timeout=CLOSING)
    return OK


def addresses(sockets: Any, secure: bool) -> list[str]:
    """Return the URIs of listening sockets; for Unix sockets, their paths."""
    scheme = "wss" if secure else "ws"
    names = [listening.getsockname() for listening in sockets]
    return [
        os.fsdecode(name) if isinstance(name, str | bytes) else f"{scheme}://{host_port(*name[:2])}/" for name in names
    ]


# ------------------------------------------------------------------------------------------------------------------ TLS


def context_of(cert: str, key: str) -> ssl.SSLContext:
    """Return the TLS context of a server.

    Raises:
        UsageError: the files can't be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except OSError as exc:  # SSLError is one
        raise UsageError(f"can't use {cert} and {key}: {exc}") from exc
    return context


@contextlib.contextmanager
def certificate(files: Sequence[str] | None) -> Iterator[tuple[str, str] | None]:
    """Provide the files of a certificate and its key: the given ones, or new ones for localhost, removed at the end.

    Raises:
        UsageError: there is only one file, or making the files failed.
    """
    if files is None:
        yield None
    elif files:
        if len(files) != 2:
            raise UsageError("--tls takes two files, of a certificate and of its key, or none")
        yield files[0], files[1]
    else:
        with tempfile.TemporaryDirectory(prefix="websockets-") as folder:
            yield make_certificate(Path(folder))


def make_certificate(folder: Path) -> tuple[str, str]:
    """Make a certificate for localhost with OpenSSL's command, because the standard library can't."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise UsageError("making a certificate takes the program openssl; or use --tls CERT KEY")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(CERTIFICATE_DAYS)]
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
    command += ["-subj", "/CN=localhost", "-addext", names, "-keyout", key, "-out", cert]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise UsageError(f"openssl can't make a certificate: {done.stderr.strip()}")
    return cert, key


# -------------------------------------------------------------------------------------------------------------- command


def sort_out_tls(options: argparse.Namespace) -> None:
    """Take the place from the values of ``--tls``: argparse adds it to them, which makes their number odd."""
    if options.tls and len(options.tls) % 2 and options.place is None:
        *options.tls, text = options.tls
        try:
            options.place = place(text)
        except argparse.ArgumentTypeError as exc:
            raise UsageError(str(exc)) from exc


def service_of(options: argparse.Namespace, files: tuple[str, str] | None) -> Service:
    """Return the settings of the server, from the options."""
    if options.unix is not None and options.place is not None:
        raise UsageError("--unix and a port contradict each other")
    check_unix(options.unix)
    host, port = options.place or DEFAULT_PLACE
    return Service(
        handler=options.handler,
        host=host,
        port=port,
        unix=options.unix,
        files=files,
        credentials=credentials(options.auth, dict(os.environ), asker()) if options.auth else None,
        subprotocols=options.subprotocol,
        arguments={
            "compression": None if options.no_compression else "deflate",
            "max_size": options.max_size or None,
        },
        verbose=options.verbose,
    )


def check_workers(options: argparse.Namespace) -> None:
    """Check that the options are possible with several processes.

    Raises:
        UsageError: they aren't.
    """
    if options.workers > 1:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise UsageError("--workers needs SO_REUSEPORT, which this system doesn't have")
        if options.unix is not None:
            raise UsageError("--workers and --unix contradict each other")
        if options.handler == "broadcast":
            raise UsageError("the workers don't know of each other's clients: broadcast takes one process")


def run_server(options: argparse.Namespace) -> int:
    """Run the command with these options, until Ctrl-C or SIGTERM.

    Returns:
        The status for the shell.

    Raises:
        UsageError: the options are invalid.
    """
    screen = standard_screen()
    set_up_logs(log_level(options.verbose), screen)
    sort_out_tls(options)
    check_workers(options)

    with certificate(options.tls) as files:
        service = service_of(options, files)
        announce = functools.partial(announcement, screen, service, options.workers)
        try:
            if options.workers > 1:
                status = serve_with_workers(options.workers, service, announce, screen)
            else:
                status = run(keep_serving(service.server(screen), files is not None, announce))
        except OSError as exc:
            screen.complain(f"Can't listen: {exc}.")
            return ABNORMAL
    if status == OK:
        screen.line("Stopped.")
    return status


def log_level(verbose: int) -> int:
    """Return the level of logging: by default errors, as ``logging`` does by itself; then connections, then frames."""
    return (0, logging.INFO, logging.DEBUG)[min(verbose, 2)]


def announcement(screen: Screen, service: Service, workers: int, uris: list[str]) -> None:
    """Report where the server listens."""
    what = f"{service.handler}, {workers} workers" if workers > 1 else service.handler
    for uri in uris:
        screen.line(f"Listening on {uri} ({what}).")
    if service.files is not None:
        screen.line(f"Certificate: {service.files[0]}")


# -------------------------------------------------------------------------------------------------------------- workers


def serve_with_workers(number: int, service: Service, announce: Announce, screen: Screen) -> int:
    """Serve in several processes, which share a port.

    Raises:
        UsageError: there is no such handler.
        OSError: the host has no address.
    """
    service.server(screen)  # report a wrong handler once, before any worker does
    with free_port(service.host, service.port) as port:
        work = functools.partial(serve_in_worker, dataclasses.replace(service, port=port))
        return run_workers(number, work, announce, screen.complain)


def serve_in_worker(service: Service, pipe: Connection) -> None:
    """Serve in a worker until SIGTERM, which may come twice: from the parent process, and to the whole group."""
    screen = standard_screen()
    set_up_logs(log_level(service.verbose), screen)
    try:
        server = service.server(screen, reuse_port=True)
        run(
            keep_serving(server, service.files is not None, functools.partial(report, pipe)),
            once=frozenset({"SIGTERM"}),
        )
    except OSError as exc:
        # If the pipe itself is broken, nobody can read the error.
        with contextlib.suppress(OSError):
            report(pipe, f"Can't listen: {exc}.")
        sys.exit(ABNORMAL)
