"""Environment variables: each is read when its module is imported, and does what it says.

Each program runs as it is, all of them in one process, and with variables in a process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from websockets.version import version

ROOT = Path(__file__).parents[2]

# Without any variable of ours, nor a proxy.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("WEBSOCKETS_") and "proxy" not in name.lower()
} | {"PYTHONPATH": str(ROOT / "src")}

NAME = f"Python/{sys.version_info.major}.{sys.version_info.minor} websockets/{version}"

SERVER = """
from websockets.server import ServerProtocol
server = ServerProtocol()
def answer(data):
    server.receive_data(data)
    print(b"".join(server.data_to_send()).partition(b"\\r\\n")[0].decode(), "-", server.handshake_exc)
"""

CLIENT = """
from websockets.client import ClientProtocol
from websockets.uri import parse_uri
client = ClientProtocol(parse_uri("ws://localhost/"))
client.send_request(client.connect())
def answer(data):
    client.receive_data(data)
    client.receive_eof()
    print(type(client.handshake_exc).__name__, "-", client.handshake_exc.__cause__)
"""

# Nine frames of one message; the last one is empty.
FRAGMENTS = """
import asyncio
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

async def handler(connection):
    try:
        print(await connection.recv())
    except Exception as exc:
        print(exc, "-", exc.__cause__)

async def main():
    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as connection:
            await connection.send(iter("abcdefgh"))
            await connection.wait_closed()

asyncio.run(main())
"""

REDIRECTS = """
import asyncio, socket
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

def redirect(connection, request):
    response = connection.respond(302, "")
    response.headers["Location"] = "/" + "x" * len(request.path)
    return response

async def main():
    async with serve(None, "127.0.0.1", 0, process_request=redirect) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        try:
            await connect(f"ws://127.0.0.1:{port}/", proxy=None)
        except Exception as exc:
            print(type(exc).__name__, exc)

asyncio.run(main())
"""

BACKOFF = """
import itertools, random
random.random = lambda: 0.5
from websockets.client import backoff
print([round(delay, 3) for delay in itertools.islice(backoff(), 11)])
"""

HEADERS = """
import asyncio
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

async def handler(connection):
    print(repr(connection.request.headers.get("User-Agent")), repr(connection.response.headers.get("Server")))

async def main():
    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as connection:
            await connection.wait_closed()

asyncio.run(main())
"""

LOG = """
from websockets.frames import Frame, Opcode
print(Frame(Opcode.TEXT, b"0123456789" * 10))
"""

LINE = "answer(b'GET /' + b'x' * 200 + b' HTTP/1.1\\r\\n')"
STATUS_LINE = "answer(b'HTTP/1.1 200 ' + b'x' * 200 + b'\\r\\n\\r\\n')"
HEADER_LINE = "answer(b'GET / HTTP/1.1\\r\\nX: ' + b'x' * 200 + b'\\r\\n')"
MANY_HEADERS = "answer(b'GET / HTTP/1.1\\r\\n' + b'A: b\\r\\n' * 20)"
BODY = "answer(b'HTTP/1.1 404 Not Found\\r\\nContent-Length: 200\\r\\n\\r\\n' + b'x' * 200)"

# A program, what it prints, variables, and what it prints then.
CASES = {
    "request line": (
        SERVER + LINE,
        " - None",
        {"WEBSOCKETS_MAX_LINE_LENGTH": "100"},
        r"HTTP/1.1 414 .* - .*100.*",
    ),
    "header line": (
        SERVER + HEADER_LINE,
        " - None",
        {"WEBSOCKETS_MAX_LINE_LENGTH": "100"},
        r"HTTP/1.1 431 .* - .*100.*",
    ),
    "status line": (
        CLIENT + STATUS_LINE,
        "InvalidStatus - None",
        {"WEBSOCKETS_MAX_LINE_LENGTH": "100"},
        "StatusLineTooLong - None",
    ),
    "headers": (
        SERVER + MANY_HEADERS,
        " - None",
        {"WEBSOCKETS_MAX_NUM_HEADERS": "10"},
        r"HTTP/1.1 431 .* - .*10.*",
    ),
    "body": (
        CLIENT + BODY,
        "InvalidStatus - None",
        {"WEBSOCKETS_MAX_BODY_SIZE": "100"},
        r"InvalidStatus - .*100.*",
    ),
    "redirects": (
        REDIRECTS,
        "SecurityError more than 10 redirects",
        {"WEBSOCKETS_MAX_REDIRECTS": "3"},
        "SecurityError more than 3 redirects",
    ),
    "fragments": (
        FRAGMENTS,
        "abcdefgh",
        {"WEBSOCKETS_MAX_FRAGMENTS": "5"},
        r"sent 1009 \(message too big\) too many fragments; .* - fragmented message exceeds limit of 5 frames",
    ),
    "size of logs": (
        LOG,
        r"TEXT '0123456.{0,70}\.\.\..*' \[100 bytes\]",
        {"WEBSOCKETS_MAX_LOG_SIZE": "1000"},
        rf"TEXT '{'0123456789' * 10}' \[100 bytes\]",
    ),
    "back-off": (
        BACKOFF,
        re.escape("[2.5, 3.1, 5.016, 8.116, 13.131, 21.246, 34.376, 55.62, 89.994, 90.0, 90.0]"),
        {
            "WEBSOCKETS_BACKOFF_INITIAL_DELAY": "1",
            "WEBSOCKETS_BACKOFF_MIN_DELAY": "2",
            "WEBSOCKETS_BACKOFF_MAX_DELAY": "9.5",
            "WEBSOCKETS_BACKOFF_FACTOR": "2",
        },
        re.escape("[0.5, 2.0, 4.0, 8.0, 9.5, 9.5, 9.5, 9.5, 9.5, 9.5, 9.5]"),
    ),
    "names": (
        HEADERS,
        re.escape(f"'{NAME}' '{NAME}'"),
        {"WEBSOCKETS_USER_AGENT": "the client", "WEBSOCKETS_SERVER": "the server"},
        "'the client' 'the server'",
    ),
    "no names": (
        HEADERS,
        re.escape(f"'{NAME}' '{NAME}'"),
        {"WEBSOCKETS_USER_AGENT": "", "WEBSOCKETS_SERVER": ""},
        "None None",
    ),
}


def run(program: str, variables: dict[str, str]) -> str:
    """What a program prints."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, env=ENVIRONMENT | variables, capture_output=True, encoding="utf-8", timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.removesuffix("\n")


@pytest.fixture(scope="module")
def without_variables() -> dict[str, str]:
    """What each program prints as it is."""
    # The last one changes what is random for the others.
    names = sorted(CASES, key=lambda name: CASES[name][0] is BACKOFF)
    parts = [f"exec({CASES[name][0]!r}, {{}})\nprint(end='\\0')" for name in names]
    return dict(zip(names, run("\n".join(parts), {}).split("\n\0"), strict=False))


@pytest.mark.parametrize("name", CASES)
def test_variable(name: str, without_variables: dict[str, str]) -> None:
    program, before, variables, after = CASES[name]
    assert re.fullmatch(before, without_variables[name])
    assert re.fullmatch(after, run(program, variables))


def test_every_variable_is_tested() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    read = set(re.findall(r'os\.environ(?:\.get\(|\[)\s*"(WEBSOCKETS_\w+)"', source))
    # The twins of the accelerator, libraries for deflate, and transports for TLS have tests of their own.
    assert {name for case in CASES.values() for name in case[2]} == read - {
        "WEBSOCKETS_ACCELERATOR",
        "WEBSOCKETS_DEFLATE",
        "WEBSOCKETS_REQUIRE_NATIVE",
        "WEBSOCKETS_TLS",
    }
