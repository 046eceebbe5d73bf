"""The command as shells see it: output, status, pipes, signals; and its entry point in Python."""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import websockets
from _kit import wire
from _kit.platforms import SIGHUP, needs_reuse_port, needs_signals, needs_unix_sockets
from cli.commands import ENVIRONMENT, LIMIT, PEM, PROGRAM, Serving, call, run, serving
from cli.proxies import http_proxy, socks_proxy
from websockets.cli import main

# A server for all that can go wrong.
TROUBLE = """
async def trouble(connection):
    async for message in connection:
        match message:
            case "close": await connection.close(4001, "bye \\x1b[2J")
            case "drop": connection.transport.abort()
            case "fail": raise ValueError
            case "request": await connection.send(repr(dict(connection.request.headers.raw_items())))
            case "subprotocol": await connection.send(str(connection.subprotocol))
            case _: await connection.send(message)
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("handlers")
    (folder / "handlers.py").write_text(TROUBLE)
    options = ["--handler", "handlers:trouble", "-s", "chat"]
    # For all tests here, however slow the machine is.
    with serving("127.0.0.1:0", *options, folder=folder, limit=10 * LIMIT) as server:
        yield server.uri


def test_failure_to_connect_is_told_at_once() -> None:
    """The command doesn't wait for its limit, and nothing of it does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    status, out, _ = run(f"ws://127.0.0.1:{port}/", "--timeout", "3600")
    assert status == 1
    assert "is a server running there?" in out


# ---------------------------------------------------------------------------------------------------- what it is called


def test_version() -> None:
    status, out, err = run("--version")
    assert (status, err) == (0, "")
    first = rf"websockets {websockets.__version__} \((native|python) accelerator\)\n"
    assert re.fullmatch(first + r"compression: .+\nTLS with asyncio: .+\n", out)
    assert " (python accelerator)\n" in run("--version", WEBSOCKETS_ACCELERATOR="python")[1]
    plain = run("--version", WEBSOCKETS_DEFLATE="zlib")[1]
    assert "\ncompression: zlib to compress, zlib to inflate\n" in plain
    shown = run("--version", WEBSOCKETS_TLS="memory")[1]
    assert shown.endswith("\nTLS with asyncio: memory on its loops, memory on those of uvloop\n")


def test_wrong_environment() -> None:
    text = "websockets: error: WEBSOCKETS_ACCELERATOR must be native or python, not 'bogus'\n"
    for arguments in (["--version"], ["ws://host"], ["serve"], ["bench", "ws://host"]):
        assert run(*arguments, WEBSOCKETS_ACCELERATOR="bogus") == (2, "", text)
    text = "websockets: error: WEBSOCKETS_TLS must be loop, memory or aiofastnet, not 'bogus'\n"
    for arguments in (["--version"], ["ws://host"], ["serve"], ["bench", "ws://host"]):
        assert run(*arguments, WEBSOCKETS_TLS="bogus") == (2, "", text)


def test_faults_of_an_installation_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.cli._client", None)
    with pytest.raises(ImportError):
        main(["ws://host"])


def test_place_without_a_scheme(uri: str) -> None:
    place = uri.removeprefix("ws://")
    assert call("--expect", "1", "--format", "text", place, stdin="hello\n") == (
        0,
        f"Connected to {uri}.\n< hello\nConnection closed: 1000 (OK).\n",
        "",
    )


def test_the_end_says_why(uri: str) -> None:
    status, out, err = call("--max-size", "10", "--send", "x" * 11, "--expect", "1", uri)
    assert (status, out) == (3, "")
    # Whether the reason tells the size depends on how much has arrived.
    assert re.fullmatch(
        r"Connection closed: sent 1009 \(message too big\) frame (with 11 bytes )?exceeds limit of 10 bytes; "
        "no close frame received\\.\nHint: accept larger messages with --max-size\n",
        err,
    )
    status, out, _ = call("--max-size", "10", "--send", "x" * 11, "--expect", "1", "--format", "jsonl", uri)
    closed = json.loads(out.splitlines()[-1])
    assert (status, closed["code"], closed["hint"]) == (3, 1006, "accept larger messages with --max-size")


@needs_unix_sockets
def test_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    status, out, _ = call("--unix", missing, "ws://localhost/")
    assert status == 1
    assert f": '{missing}'.\n" in out


def test_help() -> None:
    status, out, err = call("--help")
    assert (status, err) == (0, "")
    assert out.startswith("usage: websockets [option ...] URI\n")
    assert len(call("--help-all")[1]) > len(out)
    assert call("serve", "--help")[1].startswith("usage: websockets serve ")
    assert call("bench", "--help")[1].startswith("usage: websockets bench ")


def test_no_uri() -> None:
    status, out, err = call()
    assert (status, err) == (2, "")
    assert out.startswith("usage: websockets ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nonsense"], "websockets: error: unrecognized arguments: --nonsense\n"),
        (["ws://host", "more"], "websockets: error: unrecognized arguments: more\n"),
        (["-H", "x", "ws://host"], "websockets: error: a header must look like NAME: VALUE\n"),
        (["--send-file", "/does/not/exist", "ws://host"], "websockets: error: can't read /does/not/exist: "),
        (["--save", "/does/not/exist", "ws://host"], "websockets: error: can't write /does/not/exist: "),
        (["--ping", "--send", "x", "ws://host"], "websockets: error: --send has no effect with --ping\n"),
        (["--ping", "--send-hex", "00", "ws://host"], "websockets: error: --send-hex has no effect with --ping\n"),
        (["--count", "1", "ws://host"], "websockets: error: --count has no effect without --ping\n"),
        (["--hex", "--send", "x", "ws://host"], "websockets: error: --hex has no effect with --send, which replaces"),
        (["-k", "--ca", "x", "ws://host"], "websockets: error: --ca has no effect with --insecure\n"),
        (["--json", "--format", "jsonl", "ws://host"], "websockets: error: --json has no effect with --format jsonl\n"),
        (["serve", "--handler", "os:getcwd"], "websockets: error: handler must be an async function"),
        (["serve", "--handler", "x"], "websockets: error: no handler is called x"),
        (["serve", "x"], "websockets serve: error: argument [HOST:]PORT: no port from 0 to 65535: x\n"),
        (["bench"], "websockets bench: error: the following arguments are required: URI\n"),
        (["bench", "--proxy", "x", "--no-proxy", "ws://host"], "websockets: error: --proxy and --no-proxy contradict"),
    ],
)
def test_wrong_usage(arguments: list[str], text: str) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert text in err


def test_as_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) is None  # type: ignore[func-returns-value]
    assert capsys.readouterr().out.startswith("websockets ")
    with pytest.raises(SystemExit, match="^1$"):
        main(["http://host"])
    assert capsys.readouterr().out == (
        "Failed to connect to http://host: http://host isn't a valid URI: scheme isn't ws or wss.\n"
        "Hint: did you mean ws://host?\n"
    )


def test_as_a_function_with_another_output(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    main(["--expect", "1", "--format", "text", uri])
    assert out.getvalue() == f"Connected to {uri}.\n< hello\nConnection closed: 1000 (OK).\n"


def test_as_a_function_without_any_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program without a console."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    main(["--version"])
    for name in ("stdin", "stdout", "stderr"):
        number = getattr(sys, name).fileno()
        assert os.get_inheritable(number)
        os.close(number)


def test_importing_the_module_that_is_run_does_not_run_it(capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("websockets.__main__", None)
    importlib.import_module("websockets.__main__")
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------------------------- pipes


def test_lines_to_messages_and_back(uri: str) -> None:
    assert run("--expect", "3", "--format", "text", uri, stdin="one\r\n\ntwo é") == (
        0,
        f"Connected to {uri}.\n< one\n< \n< two é\nConnection closed: 1000 (OK).\n",
        "",
    )


def test_old_options_alone_look_as_they_did(uri: str) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "--insecure", uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"Connected to {uri}.\n"
    assert process.stdout.readline() == "< hello\n"
    out, _ = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (0, "Connection closed: 1000 (OK).\n")


def test_raw_messages(uri: str) -> None:
    assert call("--expect", "2", uri, stdin="\x1b[2J\ntwo\n") == (0, "\x1b[2J\ntwo\n", "")


def test_many_lines(uri: str) -> None:
    lines = [str(number) for number in range(5000)]
    assert run("--expect", "5000", uri, stdin="\n".join(lines)) == (0, "\n".join(lines) + "\n", "")


def test_one_message_and_out(uri: str) -> None:
    assert call("--send", "hello", "--expect", "1", uri) == (0, "hello\n", "")


def test_binary_messages(uri: str, tmp_path: Path) -> None:
    data = bytes(range(256))
    given, got = tmp_path / "given", tmp_path / "got"
    given.write_bytes(data)
    arguments = ["--send-file", str(given), "--send-hex", "00 ff", "--expect", "2", "--save", str(got), uri]
    assert call(*arguments) == (0, "", "")
    assert got.read_bytes() == data + b"\x00\xff"
    assert call("--send-hex", "41 0a 42", "--expect", "1", "--save", "-", uri) == (0, "A\nB", "")
    assert call("--hex", "--expect", "1", uri, stdin="0a\n") == (0, "0a\n", "")


def test_file_from_standard_input(uri: str) -> None:
    assert run("--send-file", "-", "--expect", "1", uri, stdin=b"\x00\n\xff") == (0, "000aff\n", "")


def test_json_lines(uri: str) -> None:
    status, out, err = call("--format", "jsonl", "--send", "hello", "--expect", "1", "-s", "chat", uri)
    assert (status, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["open", "sent", "received", "closed"]
    assert (events[0]["uri"], events[0]["subprotocol"]) == (uri, "chat")
    assert (events[2]["text"], events[3]["code"], events[3]["status"]) == ("hello", 1000, 0)


def test_json_lines_of_a_failure() -> None:
    status, out, err = call("--format", "jsonl", "http://host")
    (event,) = [json.loads(line) for line in out.splitlines()]
    assert (status, err, event["event"], event["error"]) == (1, "", "failed", "InvalidURI")


def test_output_that_nobody_reads(uri: str) -> None:
    first, second = os.pipe()
    os.close(first)
    process = subprocess.Popen(
        [*PROGRAM, "--format", "raw", "--wait", "inf", uri],
        stdin=subprocess.PIPE,
        stdout=second,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": ""},
    )
    os.close(second)
    _, err = process.communicate(b"hello\n", timeout=LIMIT)
    assert (process.returncode, err) == (3, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")
def test_output_that_cannot_be_written(uri: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "--send", "hello", "--expect", "1", uri],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            timeout=LIMIT,
        )
    assert done.returncode == 3
    assert re.fullmatch(rb"websockets: error: \[Errno 28\] .*\n", done.stderr)


def test_input_that_is_not_text(uri: str) -> None:
    status, out, err = run("--expect", "9", uri, stdin=b"good\n\xff\n")
    assert (status, err) == (2, "websockets: error: line 2 of the input isn't UTF-8\n")
    assert out in ("", "good\n")


# --------------------------------------------------------------------------------------------------------------- status


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("close", r"4001 (private use) bye \x1b[2J"),
        ("drop", "no close frame received or sent: unexpected end of stream"),
        ("fail", "1011 (internal error)"),
    ],
)
def test_status_of_an_abnormal_end(uri: str, message: str, text: str) -> None:
    told = f"Connected to {uri}.\nConnection closed: {text}.\n"
    assert call("--format", "text", "--send", message, "--wait", "inf", uri) == (3, told, "")
    assert call("--send", message, "--wait", "inf", uri) == (3, "", f"Connection closed: {text}.\n")


def test_nothing_is_there() -> None:
    with serving("127.0.0.1:0") as server:
        uri = server.uri
    status, out, err = run(uri)
    assert (status, err) == (1, "")
    assert out.startswith(f"Failed to connect to {uri}: ")
    status, out, err = call("--send", "x", uri)
    assert (status, out) == (1, "")
    assert err.startswith(f"Failed to connect to {uri}: ")


def test_credentials_are_not_shown() -> None:
    status, out, err = call("ws://me:secret@127.0.0.1:1/")
    assert (status, err) == (1, "")
    assert "secret" not in out
    assert out.startswith("Failed to connect to ws://***@127.0.0.1:1/: ")


def test_proxy_that_is_not_there() -> None:
    status, out, err = call("--proxy", "http://me:secret@127.0.0.1:1", "ws://example.com/")
    assert (status, err) == (1, "")
    assert out.startswith("Failed to connect to ws://example.com/: ")
    way = "The connection to example.com port 80 goes through the proxy http://127.0.0.1:1"
    hint = "Hint: is the proxy right? --no-proxy goes without one"
    assert out.endswith(f".\n  {way}; it failed while reaching the proxy\n{hint}\n")


def test_what_was_expected_does_not_come(uri: str) -> None:
    assert call("--send", "hello", "--expect", "2", "--timeout", "0.5", uri) == (
        3,
        "hello\n",
        "Timed out after 0.5 seconds.\nConnection closed: 1000 (OK).\n",
    )


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_close_the_connection(uri: str, number: int) -> None:
    process = subprocess.Popen(
        [*PROGRAM, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"Connected to {uri}.\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (0, "Connection closed: 1000 (OK).\n")


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_an_attempt_to_connect(number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LIMIT)
        uri = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
        process = subprocess.Popen(
            [*PROGRAM, uri], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1) == b"G"
            process.send_signal(number)
            out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err) == (130, b"", b"")


# ------------------------------------------------------------------------------------------------------------- request


def test_headers_and_subprotocol(uri: str) -> None:
    arguments = ["-H", "X-One: 1", "-o", "https://site", "-s", "chat", "--send", "request", "--send", "subprotocol"]
    status, out, err = call(*arguments, "--expect", "2", uri)
    headers, subprotocol = out.splitlines()
    assert (status, err, subprotocol) == (0, "", "chat")
    assert "'X-One': '1'" in headers
    assert "'Origin': 'https://site'" in headers


def test_credentials_from_the_environment(uri: str) -> None:
    arguments = ["--auth", "me", "--send", "request", "--expect", "1", uri]
    status, out, err = call(*arguments, WEBSOCKETS_PASSWORD="secret")
    assert (status, err) == (0, "")
    assert base64.b64encode(b"me:secret").decode() in out
    assert call(*arguments)[0::2] == (
        2,
        "websockets: error: --auth needs a password: as USER:PASSWORD, in @FILE, or in WEBSOCKETS_PASSWORD\n",
    )


def test_ping(uri: str) -> None:
    status, out, err = call("ping", "--count", "3", "--interval", "0", uri)
    assert (status, err) == (0, "")
    assert re.fullmatch(
        r"Connected to ws://127\.0\.0\.1:\d+/\.\n(pong \d: [\d.]+ ms\n){3}3 pings, 3 pongs\n"
        r"round trip: min [\d.]+  mean [\d.]+  p50 [\d.]+  p99 [\d.]+  max [\d.]+ ms\n"
        r"Connection closed: 1000 \(OK\)\.\n",
        out,
    )


def test_logs(uri: str) -> None:
    status, out, err = run("-v", "--auth", "me:secret", "--send", "hello", "--expect", "1", uri)
    assert (status, out) == (0, "hello\n")
    assert err.startswith("= connection is CONNECTING\n")
    assert "\n> GET / HTTP/1.1\n" in err
    assert f"\n* Connected to {uri.removeprefix('ws://').removesuffix('/')}\n" in err
    assert "\n> TEXT 'hello' [5 bytes]\n" in err
    assert base64.b64encode(b"me:secret").decode() not in err


def test_logs_tell_of_an_http_proxy(uri: str) -> None:
    with http_proxy(b"HTTP/1.1 200 Connection established\r\n\r\n") as port:
        proxy = f"http://me:secret@127.0.0.1:{port}"
        status, out, err = run("-v", "--proxy", proxy, "--send", "hello", "--expect", "1", uri)
    assert (status, out) == (0, "hello\n")
    server = uri.removeprefix("ws://").removesuffix("/")
    assert err.startswith(
        f"= connecting to 127.0.0.1 port {server.partition(':')[2]} through the proxy http://127.0.0.1:{port}\n"
        f"= connected to the proxy at 127.0.0.1:{port}\n> CONNECT {server} HTTP/1.1\n> Host: {server}\n> User-Agent: "
    )
    assert "\n> Proxy-Authorization: [redacted]\n< HTTP/1.1 200 Connection established\n= connection is CON" in err
    assert "secret" not in err


def test_logs_tell_of_a_proxy_that_refuses(uri: str) -> None:
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with http_proxy(answer) as port:
        status, _, err = run("-v", "--proxy", f"http://127.0.0.1:{port}", "--send", "hello", uri)
    assert status == 1
    assert "\n< HTTP/1.1 403 Forbidden\n< Content-Length: 0\n" in err


def test_logs_tell_of_tls_with_the_proxy(uri: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    with http_proxy(b"HTTP/1.1 200 OK\r\n\r\n", context) as port:
        proxy = f"https://localhost:{port}"
        status, out, err = run(
            "-v", "--proxy", proxy, "--send", "hello", "--expect", "1", uri, SSL_CERT_FILE=PEM, WEBSOCKETS_TLS="memory"
        )
    assert (status, out) == (0, "hello\n")
    assert re.search(
        rf"^= connected to the proxy at .*:{port}\n= TLS with the proxy: TLSv1\.[23], \w+\n> CONNECT ", err, re.M
    )


def test_logs_tell_of_a_socks_proxy(uri: str) -> None:
    with socks_proxy() as port:
        proxy = f"socks5h://127.0.0.1:{port}"
        status, out, err = run("-v", "--proxy", proxy, "--send", "hello", "--expect", "1", uri)
    assert (status, out) == (0, "hello\n")
    assert re.match(
        rf"= connecting to 127\.0\.0\.1 port \d+ through the proxy {proxy}\n"
        rf"= the tunnel is open, by the proxy at 127\.0\.0\.1:{port}\n= connection is CONNECTING\n",
        err,
    )


def test_head_of_the_response(uri: str) -> None:
    status, out, err = call("-i", "--send", "hello", "--expect", "1", uri)
    head, _, rest = out.partition("\n\n")
    assert (status, rest, err) == (0, "hello\n", "")
    first, *headers = head.splitlines()
    assert first == "HTTP/1.1 101 Switching Protocols"
    assert "Upgrade: websocket" in headers
    status, out, err = call("-i", "--format", "jsonl", "--send", "hello", "--expect", "1", uri)
    event = json.loads(out.splitlines()[1])
    assert event["event"] == "response"
    assert ["Upgrade", "websocket"] in event["headers"]


def test_pings_are_shown(uri: str) -> None:
    status, out, err = call(
        "--show-pings", "--slash", "--format", "text", "--wait", "0.1", uri, stdin="/ping x\n/pong y\n"
    )
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"Connected to {uri}."
    # The pong may come before the next line is read.
    assert sorted(line for line in lines if line[0] in "<>") == [
        "< PONG 'x' [text, 1 byte]",
        "> PING 'x' [text, 1 byte]",
        "> PONG 'y' [text, 1 byte]",
    ]


def test_record_and_replay(uri: str, tmp_path: Path) -> None:
    status, record, _ = call("--send", "hello", "--send-hex", "00ff", "--expect", "2", "--format", "jsonl", uri)
    assert status == 0
    file = tmp_path / "record.jsonl"
    file.write_text(record)
    assert call("--replay", str(file), "--expect", "2", uri) == (0, "hello\n00ff\n", "")
    file.write_text(record + "{}\n")
    text = f"websockets: error: line {len(record.splitlines()) + 1} of {file} isn't a line from --format jsonl\n"
    assert call("--replay", str(file), uri) == (2, "", text)
    status, out, err = call("--replay", str(tmp_path / "none"), uri)
    assert (status, out) == (2, "")
    assert err.startswith("websockets: error: can't read ")


def test_another_address(uri: str) -> None:
    port = uri.rpartition(":")[2].strip("/")
    for option in (f"nowhere.example:{port}:127.0.0.1", f"nowhere.example:{port}:127.0.0.1:"):
        name = "--resolve" if option.endswith("1") else "--connect-to"
        there = f"ws://nowhere.example:{port}/"
        assert call(name, option, "--send", "hello", "--expect", "1", there) == (0, "hello\n", "")


def test_no_need_to_connect_again(uri: str) -> None:
    assert call("--reconnect", "--send", "hello", "--expect", "1", uri) == (0, "hello\n", "")
    assert call("--reconnect", "--expect", "1", uri, stdin="hello\n") == (0, "hello\n", "")


def test_logs_of_the_server() -> None:
    for option, level in (("-v", "INFO"), ("-vv", "DEBUG")):
        with serving("127.0.0.1:0", option) as server:
            assert call("--send", "hello", "--expect", "1", server.uri)[0] == 0
            _, _, err = server.stop()
        assert " websockets.server INFO server listening on 127.0.0.1:" in err
        assert set(re.findall(r" websockets\.server ([A-Z]+) ", err)) == {"INFO", level}


# ---------------------------------------------------------------------------------------------------------------- serve


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, SIGHUP])
def test_server_stops_when_asked(number: int) -> None:
    with serving("127.0.0.1:0") as server:
        client = subprocess.Popen(
            [*PROGRAM, "--wait", "inf", server.uri], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        assert client.stdout is not None
        assert client.stdout.readline().startswith(b"Connected")
        assert server.stop(number) == (0, "Stopped.\n", "")
        out, _ = client.communicate(timeout=LIMIT)
        assert (client.returncode, out) == (0, b"Connection closed: 1001 (going away).\n")


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_that_is_asked_twice_does_not_wait_for_its_clients(number: int) -> None:
    with serving("127.0.0.1:0") as server, socket.socket() as client:
        client.settimeout(LIMIT)
        host, port = server.uri.removeprefix("ws://").removesuffix("/").split(":")
        client.connect((host, int(port)))
        client.sendall(wire.request())
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(4096)
        server.process.send_signal(number)
        # The server's Close, which isn't answered.
        assert client.recv(4096) == wire.close(1001)
        assert server.stop(number) == (130, "", "")


def test_logs_tell_of_tls() -> None:
    with serving("127.0.0.1:0", "--tls", PEM, PEM) as server:
        uri = server.uri.replace("127.0.0.1", "localhost")
        status, out, err = run("-v", "--ca", PEM, "--send", "hello", "--expect", "1", uri)
    assert (status, out) == (0, "hello\n")
    assert re.search(
        r"^\* TLSv1\.[23], \w+\n\* Certificate: .*DNS:localhost.*\n\*   issued by .*, valid until ", err, re.M
    )


def test_server_with_tls() -> None:
    with serving("127.0.0.1:0", "--tls", PEM, PEM) as server:
        assert server.line() == f"Certificate: {PEM}\n"
        assert call("--ca", PEM, "--send", "hello", "--expect", "1", server.uri) == (0, "hello\n", "")
        assert call("--insecure", "--send", "hello", "--expect", "1", server.uri) == (0, "hello\n", "")
        status, out, err = call("--send", "hello", server.uri)
        assert (status, out) == (1, "")
        assert "CERTIFICATE_VERIFY_FAILED" in err


@needs_unix_sockets
def test_server_at_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with serving("--unix", path) as server:
        assert server.lines == [f"Listening on {path} (echo).\n"]
        assert call("--unix", path, "--send", "hello", "--expect", "1", "ws://localhost/") == (0, "hello\n", "")
        assert server.stop() == (0, "Stopped.\n", "")


def test_server_that_prints() -> None:
    with serving("127.0.0.1:0", "--handler", "print") as server:
        assert call("--send", "hello \x1b[2J", "--wait", "0", server.uri)[0] == 0
        assert re.fullmatch(r"127\.0\.0\.1:\d+ < hello \\x1b\[2J\n", server.line())


def test_server_that_wants_credentials() -> None:
    with serving("127.0.0.1:0", "--auth", "me:secret") as server:
        assert call("--auth", "me:secret", "--send", "hello", "--expect", "1", server.uri) == (0, "hello\n", "")
        status, _, err = call("--auth", "me:wrong", "--send", "hello", server.uri)
        assert (status, err) == (
            1,
            f"Failed to connect to {server.uri}: server rejected WebSocket connection: HTTP 401 Unauthorized.\n"
            '  WWW-Authenticate: Basic realm="websockets", charset="UTF-8"\n'
            "  Invalid credentials\n"
            "Hint: give a user and a password with --auth, or a token with --header\n",
        )


def test_place_that_is_taken() -> None:
    with serving("127.0.0.1:0") as server:
        place = server.uri.removeprefix("ws://").removesuffix("/")
        for more in ([], ["--workers", "2"]) if hasattr(socket, "SO_REUSEPORT") else ([],):
            status, out, err = call("serve", place, *more)
            assert (status, out) == (3, "")
            assert err.startswith("Can't listen: ")
            assert len(err.splitlines()) == 1


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Serving]:
    (tmp_path / "own.py").write_text(
        "import os\n\n\nasync def handler(connection):\n"
        "    async for message in connection:\n"
        "        if message == 'die':\n            os._exit(7)\n"
        "        await connection.send(str(os.getpid()))\n"
    )
    with serving("127.0.0.1:0", "--workers", "2", "--handler", "own:handler", folder=tmp_path) as server:
        yield server


@needs_reuse_port
def test_workers(workers: Serving) -> None:
    assert re.fullmatch(r"Listening on ws://127\.0\.0\.1:\d+/ \(own:handler, 2 workers\)\.\n", workers.lines[0])
    status, out, err = call("--send", "who", "--expect", "1", workers.uri)
    assert (status, err) == (0, "")
    assert int(out) != workers.process.pid
    assert workers.stop() == (0, "Stopped.\n", "")


@needs_reuse_port
def test_clients_of_workers_whose_parent_is_killed(workers: Serving) -> None:
    client = subprocess.Popen(
        [*PROGRAM, "--wait", "inf", workers.uri], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    assert client.stdout is not None
    assert client.stdout.readline().startswith(b"Connected")
    # It ends when nobody is left who could print anything.
    assert workers.stop(signal.SIGKILL) == (-9, "", "")
    out, _ = client.communicate(timeout=LIMIT)
    assert (client.returncode, out) == (0, b"Connection closed: 1001 (going away).\n")


@needs_reuse_port
def test_worker_that_dies(workers: Serving) -> None:
    assert run("--send", "die", "--wait", "inf", workers.uri)[0] == 3
    out, err = workers.process.communicate(timeout=LIMIT)
    assert (workers.process.returncode, out, err) == (3, "", "A worker ended with status 7.\n")


# ---------------------------------------------------------------------------------------------------------------- bench


def test_bench(uri: str) -> None:
    status, out, err = call("bench", uri, "-n", "200", "-c", "2", "-d", "3", "--size", "100")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"2 connections to {uri}, 3 in flight on each, 100 bytes of text"
    assert re.fullmatch(r"messages  200 in \d+\.\d\d s", lines[2])
    assert lines[-1].endswith("%")


def test_bench_for_programs(uri: str) -> None:
    status, out, err = call("bench", uri, "-n", "50", "--binary", "--size", "2M", "--format", "jsonl", "-c", "1")
    assert (status, err) == (3, "")
    (event,) = [json.loads(line) for line in out.splitlines()]
    assert (event["event"], event["size"], event["messages"]) == ("bench", 2**21, 0)
    assert "1009" in event["failures"][0]


def test_bench_without_a_server() -> None:
    status, out, _ = call("bench", "ws://127.0.0.1:1/")
    assert status == 1
    assert out.startswith("Failed to connect to ws://127.0.0.1:1/: ")
    assert call("bench", "http://host")[0] == 1


# -------------------------------------------------------------------------------------------------------------- startup


def test_the_version_is_told_without_loading_the_rest() -> None:
    program = "import sys; from websockets.cli import main; main(['--version']); print('asyncio' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, timeout=LIMIT
    )
    assert done.stdout.endswith("\nFalse\n")


@needs_signals
def test_input_from_a_thread_does_not_keep_the_command() -> None:
    """The thread that reads waits for ever, and its pipe stays open."""
    with serving("127.0.0.1:0") as server:
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [*PROGRAM, server.uri], stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"Connected")
        server.stop()
        out, err = process.communicate()
        watchdog.cancel()
        os.close(reading)
        os.close(writing)
        assert (process.returncode, out, err) == (0, b"Connection closed: 1001 (going away).\n", b"")
