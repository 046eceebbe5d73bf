"""What the README says is true: its commands have their form, its programs and the examples run.

Programs run as a reader would run them: each in a process of its own, over real sockets, on a free port.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from _kit.platforms import needs_signals
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text("utf-8")

COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python examples/quickstart.py\n",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest\n",
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python tests/bench/run.py --quick\n",
]

# No program here runs for more than a moment; the limit is for one that hangs.
LIMIT = 60

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}

# A mistake that only shows as a warning, such as a connection left open, fails a program that ends by itself.
STRICT = ("-W", "error")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def program(name: str) -> str:
    """The Python block of the README in which a name occurs."""
    (block,) = (block for block in blocks("python") if name in block)
    return block


def run(*arguments: str | Path) -> str:
    """What a program prints, which must end well and complain of nothing."""
    command = [sys.executable, *STRICT, *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextlib.contextmanager
def server(*arguments: str | Path) -> Iterator[str]:
    """Run a server; gives its port."""
    with server_process(*arguments) as (_, port):
        yield port


@contextlib.contextmanager
def server_process(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server; gives its process and its port, from the first line that it prints."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        listening = re.search(r"listening on (?:ws://)?127\.0\.0\.1:(\d+)(?:/ \(echo\)\.)?$", line, re.IGNORECASE)
        assert listening is not None, line
        yield process, listening[1]
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def test_commands() -> None:
    assert blocks("sh") == COMMANDS


def test_every_program_is_tested() -> None:
    assert blocks("python") == [program("serve("), program("connect("), program("basicConfig")]


@pytest.mark.parametrize("name", ["serve(", "connect("])
def test_programs_are_short(name: str) -> None:
    assert len(program(name).splitlines()) <= 15


def test_server_and_client_with_logs() -> None:
    # The server says where it listens only because the block about logs turns them on.
    listening = program("serve(").replace('"localhost", 8765', '"127.0.0.1", 0')
    with server("-c", program("basicConfig") + listening) as port:
        assert run("-c", program("connect(").replace("localhost:8765", f"127.0.0.1:{port}")) == "Hello!\n"


def test_echo_server_and_client() -> None:
    with server(EXAMPLES / "echo_server.py", "0") as port:
        assert run(EXAMPLES / "echo_client.py", f"ws://127.0.0.1:{port}") == "Hello!\n"


def test_server_and_clients_in_threads() -> None:
    with server(EXAMPLES / "threads_server.py", "0") as port:
        client = str(EXAMPLES / "threads_client.py")
        command = [sys.executable, *STRICT, client, f"ws://127.0.0.1:{port}"]
        clients = [
            subprocess.Popen(
                command,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            for _ in range(2)
        ]
        ada, grace = clients
        for speaker, text in (ada, "Is anybody there?"), (grace, "Hello, Ada!"):
            assert speaker.stdin is not None
            assert ada.stdout is not None
            speaker.stdin.write(f"{text}\n")
            speaker.stdin.flush()
            assert ada.stdout.readline() == f"{text}\n"
        assert ada.communicate(timeout=LIMIT) == ("", "")
        output, errors = grace.communicate(timeout=LIMIT)
        # She may have come after the question.
        assert output.endswith("Hello, Ada!\n")
        assert (errors, ada.returncode, grace.returncode) == ("", 0, 0)


@needs_signals
def test_one_signal_ends_the_server_in_threads() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with (
            server_process(EXAMPLES / "threads_server.py", "0") as (process, port),
            connect(f"ws://127.0.0.1:{port}") as websocket,
        ):
            process.send_signal(number)
            with pytest.raises(ConnectionClosedOK):
                websocket.recv(timeout=LIMIT)
            assert websocket.close_code == 1001
            assert process.wait(LIMIT) == 0


def test_commands_of_the_library() -> None:
    (block,) = blocks("text")
    serve, listening, ask, answer = block.splitlines()
    assert (serve, listening) == ("$ websockets serve &", "Listening on ws://127.0.0.1:8765/ (echo).")
    with server("-m", "websockets", "serve", "127.0.0.1:0") as port:
        prompt, name, *arguments = shlex.split(ask.replace("localhost:8765", f"127.0.0.1:{port}"))
        assert (prompt, name) == ("$", "websockets")
        assert run("-m", "websockets", *arguments) == f"{answer}\n"


def test_quickstart() -> None:
    expected = r"""
        server:     listening on ws://127\.0\.0\.1:\d+
        text:       sent and received 'Hello!'
        binary:     sent and received b'\\x00\\x01\\x02\\x03\\x04\\x05\\x06\\x07'
        fragmented: received whole 'one message, sent in fragments'
        (streaming:  received '[a-z.! ]+'
        )+ping:       pong after \d+\.\d\d ms
        close:      CLOSED with 1000 'that was all'
        broadcast:  client 1 received 'news for everybody'
        broadcast:  client 2 received 'news for everybody'
        broadcast:  client 3 received 'news for everybody'
        server:     closed
    """
    narration = run(EXAMPLES / "quickstart.py")
    pattern = "".join(f"{line.strip()}\n" for line in expected.strip().splitlines())
    assert re.fullmatch(pattern, narration), narration
    # Fragments may be joined on the way, but none is lost.
    assert "".join(re.findall(r"^streaming: .*'(.*)'$", narration, re.MULTILINE)) == "three... two... one... go!"
