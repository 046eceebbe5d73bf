"""Each program of the examples ends in order at Ctrl-C, and says in a line that it can't listen or connect.

Charter: runs each as a process, as a reader of ``examples/README.md`` would; knows the arguments that name its port.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deployment.programs import EXAMPLES, TIMEOUT, certificate, free_port, packages, running

STARLETTE = "starlette_app/starlette_app.py"

# Servers, with their arguments.
SERVERS = {
    "autoreload/server.py": "",
    "capacity/descriptors.py": "PORT",
    "chat/chat.py": "PORT",
    "containers/server.py": "",
    "counter/counter.py": "PORT",
    "drawing/drawing.py": "PORT",
    "echo_server.py": "PORT",
    "feed/feed_server.py": "PORT",
    "jsonrpc/rpc_server.py": "PORT",
    "nginx/server.py": "PORT",
    "processes/server.py": "PORT",
    "redis/server.py": "PORT",
    STARLETTE: "0 PORT",
    "supervisor/server.py": "",
    "systemd/server.py": "",
    "tested_app/auction.py": "PORT",
    "tested_app/poll.py": "PORT",
    "threads_server.py": "PORT",
    "tls/server.py": "CERT KEY PORT",
    "token_auth/token_server.py": "PORT",
    "tracing/server.py": "PORT",
    "tutorial/poll.py": "PORT",
    "tutorial/step1.py": "",
    "tutorial/step2.py": "",
    "tutorial/step3.py": "",
    "tutorial/step4.py": "",
    "upload/upload_server.py": "FOLDER PORT",
}

# Clients, with their arguments.
CLIENTS = {
    "capacity/measure.py": "1 URI 1",
    "echo_client.py": "URI",
    "jsonrpc/rpc_client.py": "URI",
    "threads_client.py": "URI",
    "tls/client.py": "wss://localhost:PORT CERT",
    "token_auth/token_client.py": "TOKEN URI",
    "tracing/client.py": "URI",
    "upload/upload_client.py": "FILE URI",
}

# Clients that try again until they are ended.
RECONNECTING = {"feed/feed_client.py": "URI", "tutorial/watch.py": "URI"}

# Those that end by themselves, need no port of the reader's, or are run by another program.
OTHERS = {
    *("asgi/app.py", "asgi/worker.py", "autoreload/reload.py", "quickstart.py", "race/race_trio.py"),
    *(
        "jsonrpc/rpc.py",
        "tested_app/test_auction.py",
        "tested_app/test_poll.py",
        "ticker/ticker_anyio.py",
        "token_auth/tokens.py",
    ),
}


def test_every_program_is_tested() -> None:
    found = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    assert {*SERVERS, *CLIENTS, *RECONNECTING, *OTHERS} == found


def command(name: str, arguments: str, port: int, folder: Path) -> list[str]:
    """The command that runs an example at a port; those that take none are changed."""
    path = EXAMPLES / name
    if "PORT" not in arguments and "URI" not in arguments:
        path = folder / path.name
        path.write_text(re.sub(r"\b8765\b", str(port), (EXAMPLES / name).read_text("utf-8")), "utf-8")
        for other in (EXAMPLES / name).parent.glob("*.html"):
            (folder / other.name).write_text(other.read_text("utf-8"), "utf-8")
    certificate(folder)
    words = {
        "URI": f"ws://localhost:{port}",
        "FOLDER": "files",
        "FILE": "cert.pem",
        "CERT": "cert.pem",
        "KEY": "key.pem",
    }
    line = re.sub(r"[A-Z]{3,}", lambda found: words.get(found[0], str(port)), arguments)
    return [sys.executable, str(path), *line.split()]


def check(output: str, status: int, wanted: int) -> None:
    """There is one line at most, and no traceback."""
    assert "Traceback" not in output, output
    assert status == wanted, output


@pytest.mark.parametrize("name", SERVERS)
def test_ctrl_c(name: str, tmp_path: Path) -> None:
    port = free_port()
    with running(*command(name, SERVERS[name], port, tmp_path), port=port, cwd=tmp_path, env=packages()) as run:
        if name == STARLETTE:
            run.wait_until(lambda: "startup complete" in run.output)
        before = len(run.output.splitlines())
        run.process.send_signal(signal.SIGINT)
        status = run.process.wait(TIMEOUT)
        after = run.output.splitlines()[before:]
        print(f"\n{name}: Ctrl-C: {after}")
        check(run.output, status, 0)
        # uvicorn has more to say.
        assert len(after) <= 1 or name == STARLETTE


@pytest.mark.parametrize("name", SERVERS)
def test_port_in_use(name: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(*command(name, SERVERS[name], port, tmp_path), cwd=tmp_path, env=packages()) as run:
            status = run.process.wait(TIMEOUT)
            print(f"\n{name}: in use: {run.output.strip()}")
            check(run.output, status, 1)
            *before, last = run.output.splitlines()
            assert re.search("address already in use", last, re.IGNORECASE)
            assert not before


@pytest.mark.parametrize("name", CLIENTS)
def test_no_server(name: str, tmp_path: Path) -> None:
    with running(*command(name, CLIENTS[name], free_port(), tmp_path), cwd=tmp_path, env=packages()) as run:
        status = run.process.wait(TIMEOUT)
        print(f"\n{name}: {run.output.strip()}")
        check(run.output, status, 1)
        assert len(run.output.splitlines()) == 1


@pytest.mark.parametrize("name", RECONNECTING)
def test_ctrl_c_while_reconnecting(name: str, tmp_path: Path) -> None:
    """A server that hangs up at once makes the client try again; Ctrl-C ends that."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(TIMEOUT)
        port = listening.getsockname()[1]
        arguments = RECONNECTING[name].replace("localhost", "127.0.0.1")
        with running(*command(name, arguments, port, tmp_path), cwd=tmp_path, env=packages()) as run:
            listening.accept()[0].close()
            run.process.send_signal(signal.SIGINT)
            check(run.output, run.process.wait(TIMEOUT), 0)
            assert len(run.output.splitlines()) <= 1, run.output


def test_tested_app(tmp_path: Path) -> None:
    """Its tests need pytest and nothing else, no setting of the repository either."""
    shutil.copytree(EXAMPLES / "tested_app", tmp_path / "tested_app")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tested_app"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d passed", done.stdout)
