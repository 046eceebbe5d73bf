"""The server of the command: handlers, where it listens, TLS, what contradicts; and the crew of its workers."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import pickle
import shutil
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from _kit import idle, virtual
from _kit.platforms import needs_reuse_port, needs_unix_sockets
from cli.commands import PEM
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import serve
from websockets.cli._arguments import serve_parser
from websockets.cli._screen import Screen
from websockets.cli._serve import (
    Broadcast,
    Printer,
    Service,
    addresses,
    announcement,
    certificate,
    check_workers,
    context_of,
    echo,
    handler_named,
    host_port,
    keep_serving,
    make_certificate,
    peer_name,
    serve_in_worker,
    service_of,
    sort_out_tls,
)
from websockets.cli._status import UsageError
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol


def screen() -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(out, io.StringIO()), out


def options(*arguments: str) -> argparse.Namespace:
    return serve_parser().parse_args(arguments)


# ------------------------------------------------------------------------------------------------------------- handlers


@virtual
async def test_echo() -> None:
    async with serve(echo, "localhost", 0) as server, connect(addresses(server.sockets, False)[0]) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


@virtual
async def test_broadcast() -> None:
    handler = Broadcast()
    async with serve(handler, "localhost", 0) as server:
        uri = addresses(server.sockets, False)[0]
        async with connect(uri) as one, connect(uri) as other:
            await idle()
            await one.send("news")
            assert (await one.recv(), await other.recv()) == ("news", "news")
        await idle()
        assert handler.connections == set()


@virtual
async def test_print() -> None:
    lines: list[str] = []
    async with serve(Printer(lines.append), "localhost", 0) as server:
        async with connect(addresses(server.sockets, False)[0]) as client:
            await client.send("hello \x1b[2J")
            await client.send(b"\x00\xff")
            host, port = client.local_address[:2]
    assert lines == [rf"{host_port(host, port)} < hello \x1b[2J", f"{host_port(host, port)} < (binary) 00ff"]


def test_names_of_peers() -> None:
    assert peer_name(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert peer_name(("::1", 80, 0, 0)) == "[::1]:80"
    assert peer_name("") == "unix"


def test_names_of_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_handler_of_a_test.py").write_text("class Space:\n    async def f(connection): pass\nnumber = 1\n")
    (tmp_path / "no_syntax_of_a_test.py").write_text("\ndef (\n")
    (tmp_path / "raises_of_a_test.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    where, out = screen()
    assert handler_named("echo", where) is echo
    assert isinstance(handler_named("broadcast", where), Broadcast)
    printer = handler_named("print", where)
    assert isinstance(printer, Printer)
    printer.write("shown")
    assert out.getvalue() == "shown\n"
    found: Any = handler_named("own_handler_of_a_test:Space.f", where)
    assert found.__qualname__ == "Space.f"
    for name, text in {
        "nothing": "no handler is called nothing",
        "no_such_module_at_all:f": "can't find no_such_module_at_all:f: No module named",
        "own_handler_of_a_test:g": "can't find own_handler_of_a_test:g: ",
        ":f": "no handler is called :f",
        "no_syntax_of_a_test:f": "can't import no_syntax_of_a_test: .*no_syntax_of_a_test.py, line 2: SyntaxError: ",
        "raises_of_a_test:f": "can't import raises_of_a_test: .*raises_of_a_test.py, line 1: ZeroDivisionError: ",
        "own_handler_of_a_test:number": "own_handler_of_a_test:number isn't a function",
    }.items():
        with pytest.raises(UsageError, match=f"^{text}"):
            handler_named(name, where)


# -------------------------------------------------------------------------------------------------------------- service


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"handler": "echo", "host": "localhost", "port": 8765, "unix": None, "files": None, "credentials": None}),
        ([":0"], {"host": None, "port": 0}),
        (["[::1]:80", "--handler", "a:b"], {"host": "::1", "port": 80, "handler": "a:b"}),
        (["--unix", "/run/socket"], {"unix": "/run/socket"}),
        (["--auth", "me:secret"], {"credentials": ("me", "secret")}),
    ],
)
def test_services(monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: dict[str, Any]) -> None:
    monkeypatch.setattr(socket, "AF_UNIX", 1, raising=False)
    service = service_of(options(*arguments), None)
    assert {name: getattr(service, name) for name in expected} == expected
    assert pickle.loads(pickle.dumps(service)) == service


def test_options_of_connections() -> None:
    given = options("-s", "chat", "--no-compression", "--max-size", "0")
    assert service_of(given, None).subprotocols == ["chat"]
    assert service_of(given, None).arguments == {"compression": None, "max_size": None}
    assert service_of(options(), None).arguments == {"compression": "deflate", "max_size": 2**20}


@virtual
async def test_subprotocols() -> None:
    service = Service("echo", "localhost", 0, subprotocols=[Subprotocol("a"), Subprotocol("b")])
    async with service.server(screen()[0]) as server:
        uri = addresses(server.sockets, False)[0]
        for offered, chosen in ((["c", "b", "a"], "a"), (["b"], "b"), (["c"], None), (None, None)):
            async with connect(uri, subprotocols=offered) as client:  # type: ignore[arg-type]
                assert client.subprotocol == chosen


@virtual
async def test_credentials() -> None:
    service = Service("echo", "localhost", 0, credentials=("me", "secret"))
    async with service.server(screen()[0]) as server:
        uri = addresses(server.sockets, False)[0]
        async with connect(uri.replace("ws://", "ws://me:secret@")) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        with pytest.raises(InvalidStatus, match="HTTP 401"):
            await connect(uri)


@virtual
async def test_serving_until_cancelled() -> None:
    told: list[list[str]] = []
    server = Service("echo", "localhost", 0).server(screen()[0])
    task = asyncio.create_task(keep_serving(server, False, told.append))
    await idle()
    async with connect(told[0][0]) as client:
        await client.send("hello")
        task.cancel()
        await client.wait_closed()
        assert client.close_code == 1001
    assert await task == 0
    assert len(told) == 1


@needs_unix_sockets
async def test_serving_at_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with Service("echo", None, 0, unix=path).server(screen()[0]) as server:
        assert addresses(server.sockets, False) == [path]
        async with unix_connect(path) as client:
            await client.send("hello")
            assert await client.recv() == "hello"


async def test_serving_with_tls() -> None:
    async with Service("echo", "127.0.0.1", 0, files=(PEM, PEM)).server(screen()[0]) as server:
        (uri,) = addresses(server.sockets, True)
        assert uri.startswith("wss://127.0.0.1:")
        async with connect(uri, ssl=ssl.create_default_context(cafile=PEM)) as client:
            await client.send("hello")
            assert await client.recv() == "hello"


def test_announcement() -> None:
    where, out = screen()
    announcement(where, Service("echo", None, 80), 1, ["ws://0.0.0.0:80/", "ws://[::]:80/"])
    announcement(where, Service("a:b", None, 80, files=("cert", "key")), 4, ["wss://0.0.0.0:80/"])
    assert out.getvalue().splitlines() == [
        "Listening on ws://0.0.0.0:80/ (echo).",
        "Listening on ws://[::]:80/ (echo).",
        "Listening on wss://0.0.0.0:80/ (a:b, 4 workers).",
        "Certificate: cert",
    ]


# ------------------------------------------------------------------------------------------------------------------ TLS


def test_files_of_certificates() -> None:
    with certificate(None) as files:
        assert files is None
    with certificate(["cert", "key"]) as files:
        assert files == ("cert", "key")
    with pytest.raises(UsageError, match="^--tls takes two files"), certificate(["a", "b", "c"]):
        pass
    with pytest.raises(UsageError, match="^can't use /no/cert and /no/key: "):
        context_of("/no/cert", "/no/key")


def test_certificate_that_is_made_up() -> None:
    if shutil.which("openssl") is None:
        with pytest.raises(UsageError, match="takes the program openssl"), certificate([]):
            pass
        return
    with certificate([]) as files:
        assert files is not None
        context_of(*files)
        assert ssl.create_default_context(cafile=files[0]).cert_store_stats()["x509"] == 1
    assert not Path(files[0]).exists()


def test_certificate_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="takes the program openssl"):
        make_certificate(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable)
    with pytest.raises(UsageError, match="^openssl can't make a certificate: .*req"):
        make_certificate(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "files", "place"),
    [
        (["80"], None, ("localhost", 80)),
        (["--tls"], [], None),
        (["--tls", "80"], [], ("localhost", 80)),
        (["--tls", "cert", "key"], ["cert", "key"], None),
        (["--tls", "cert", "key", ":80"], ["cert", "key"], (None, 80)),
        (["80", "--tls", "cert", "key"], ["cert", "key"], ("localhost", 80)),
        (["80", "--tls", "cert"], ["cert"], ("localhost", 80)),
    ],
)
def test_what_follows_tls(arguments: list[str], files: list[str] | None, place: tuple[str | None, int] | None) -> None:
    given = options(*arguments)
    sort_out_tls(given)
    assert (given.tls, given.place) == (files, place)


def test_what_follows_tls_and_is_no_place() -> None:
    with pytest.raises(UsageError, match="^no port from 0 to 65535: cert$"):
        sort_out_tls(options("--tls", "cert"))


# -------------------------------------------------------------------------------------------------------------- workers


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--unix", "/s"], "--workers and --unix contradict each other"),
        (["--handler", "broadcast"], "the workers don't know of each other's clients: broadcast takes one process"),
    ],
)
def test_what_workers_cannot_do(monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str) -> None:
    monkeypatch.setattr(socket, "SO_REUSEPORT", 15, raising=False)
    check_workers(options(*arguments))
    with pytest.raises(UsageError, match=f"^{text}$"):
        check_workers(options("--workers", "2", *arguments))


def test_workers_need_a_shared_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    with pytest.raises(UsageError, match="^--workers needs SO_REUSEPORT"):
        check_workers(options("--workers", "2"))


@needs_reuse_port
def test_worker_that_cannot_listen() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(SystemExit, match="^3$"):
            serve_in_worker(Service("echo", "127.0.0.1", taken.getsockname()[1]), theirs)
        assert json.loads(ours.recv_bytes()).startswith("Can't listen: ")


def test_unix_sockets_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with pytest.raises(UsageError, match="^--unix needs Unix sockets, which Python doesn't have on this system$"):
        service_of(options("--unix", "/s"), None)


@needs_reuse_port
def test_worker_that_can_tell_nobody_where_it_listens() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    ours.close()
    with theirs, pytest.raises(SystemExit, match="^3$"):
        serve_in_worker(Service("echo", "127.0.0.1", 0), theirs)


def test_two_places() -> None:
    with pytest.raises(UsageError, match="^--unix and a port contradict each other$"):
        service_of(options("--unix", "/s", "80"), None)
