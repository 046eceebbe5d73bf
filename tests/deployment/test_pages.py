"""Programs of pages that need other packages or processes: each is run as it stands there, but at another port.

Charter: knows which programs belong together, and what they shall print; ``run by`` in a page names this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from _blocks.pages import Page
from deployment.programs import ROOT, TIMEOUT, Running, free_port, packages, running
from deployment.test_redis import redis
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

HERE = Path(__file__).relative_to(ROOT).as_posix()

ECHO = """
import asyncio
from websockets.asyncio.server import serve

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with serve(echo, "localhost", 8765) as server:
        await server.serve_forever()

asyncio.run(main())
"""


class Programs:
    """The programs of a page that this file runs, in a folder.

    Parameters:
        name: the page, without the ending.
        folder: where they are saved, and run.
    """

    def __init__(self, name: str, folder: Path) -> None:
        page = Page(ROOT / "docs" / "howto" / f"{name}.md")
        self.texts = [block.text for block in page.python if block.says.get("run by") == HERE]
        self.folder = folder
        self.port = free_port()
        self.other_ports: dict[str, int] = {}

    @property
    def uri(self) -> str:
        return f"ws://localhost:{self.port}"

    def save(self, text: str, name: str) -> Path:
        """Save a program, with other ports than those on the page."""
        for old, new in {"8765": self.port, **self.other_ports}.items():
            text = re.sub(rf"\b{old}\b", str(new), text)
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path

    @contextlib.contextmanager
    def server(
        self, text: str, *options: str, name: str = "server.py", env: dict[str, str] | None = None
    ) -> Iterator[Running]:
        """Run a server."""
        path = self.save(text, name)
        environment = {**packages(), **(env or {})}
        with running(sys.executable, *options, path, port=self.port, cwd=self.folder, env=environment) as run:
            yield run

    def client(self, text: str, *options: str) -> str:
        """What a client prints."""
        with running(sys.executable, *options, self.save(text, "client.py"), cwd=self.folder, env=packages()) as run:
            assert run.process.wait(TIMEOUT) == 0, run.output
            return run.output


def test_every_page_that_names_this_file_is_tested() -> None:
    text = Path(__file__).read_text("utf-8")
    naming = {path.stem for path in (ROOT / "docs").rglob("*.md") if HERE in path.read_text("utf-8")} - {"writing"}
    assert naming == set(re.findall(r'Programs\("([\w-]+)"', text))


def check_client_and_server(programs: Programs) -> None:
    """A client of another library understands our server, and its own."""
    client, server = programs.texts
    for other in (ECHO, server):
        with programs.server(other):
            assert programs.client(client) == "hello\nclosed with 1000\n"


def test_aiohttp(tmp_path: Path) -> None:
    check_client_and_server(Programs("migrating-aiohttp", tmp_path))


def test_picows(tmp_path: Path) -> None:
    check_client_and_server(Programs("migrating-picows", tmp_path))


def test_websocket_client(tmp_path: Path) -> None:
    programs = Programs("migrating-websocket-client", tmp_path)
    short, app = programs.texts
    with programs.server(ECHO):
        assert programs.client(short) == "hello\n"
        assert programs.client(app) == "hello\nclosed\n"


def with_old_imports(program: str) -> str:
    """A program of release 10 after the first step of the page: it says which API it means."""
    for name in ("client.connect", "server.serve", "server.broadcast"):
        program = program.replace(f"websockets.{name.partition('.')[2]}(", f"websockets.legacy.{name}(")
    return program.replace("import websockets\n", "import websockets.legacy.client\nimport websockets.legacy.server\n")


def test_release_10(tmp_path: Path) -> None:
    """The programs before the migration work with the old names, and print what those after it do."""
    programs = Programs("migrating-websockets", tmp_path)
    server, client = map(with_old_imports, programs.texts)
    with programs.server(server, "-Wignore::DeprecationWarning") as run:
        assert programs.client(client, "-Wignore::DeprecationWarning") == (
            "refused: 401\nnorth\n/room: hello\nFalse True 1000\nConnectionClosedOK 1000\n"
        )
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(TIMEOUT) == 0


async def test_threads(tmp_path: Path) -> None:
    programs = Programs("threads", tmp_path)
    (server,) = programs.texts
    with programs.server(server) as run:
        async with connect(programs.uri) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            run.process.terminate()
            await asyncio.wait_for(client.wait_closed(), TIMEOUT)
            assert client.close_code == 1001
        assert run.process.wait(TIMEOUT) == 0


def test_jwt(tmp_path: Path) -> None:
    programs = Programs("authentication", tmp_path)
    (find_user,) = programs.texts
    check = """
import time
now = time.time()
sign = lambda claims, key=KEY: jwt.encode(claims, key, algorithm="HS256")
good = {"sub": "anna", "exp": now + 60}
tokens = [sign(good), sign(good, "x" * 32), sign({"sub": "anna"}), sign({**good, "exp": now - 1}), "nonsense"]
tokens.append(jwt.encode(good, None, algorithm="none"))
print([find_user(token) for token in tokens])
"""
    assert programs.client(find_user + check) == "['anna', None, None, None, None, None]\n"


def test_trace_in_logs(tmp_path: Path) -> None:
    programs = Programs("logging-tracing", tmp_path)
    (filter_,) = programs.texts
    check = """
from opentelemetry.sdk.trace import TracerProvider
with TracerProvider().get_tracer("test").start_as_current_span("span") as span:
    logging.info("within")
print(f"{span.get_span_context().trace_id:032x}")
"""
    line, trace = programs.client(filter_ + check).splitlines()
    assert line.endswith(f" {trace} within")


async def test_fastapi(tmp_path: Path) -> None:
    programs = Programs("frameworks", tmp_path)
    app = programs.texts[0]
    programs.save(app, "app.py")
    port = free_port()
    command = sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--no-access-log"
    with running(*command, port=port, cwd=tmp_path, env=packages()) as run:
        async with connect(programs.uri) as client:

            def publish() -> bytes:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/news?text=rain", data=b"", timeout=TIMEOUT
                ) as answer:
                    return bytes(answer.read())

            assert await asyncio.to_thread(publish) == b'{"clients":1}'
            assert await client.recv() == "rain"
            run.process.terminate()
            await asyncio.wait_for(client.wait_closed(), TIMEOUT)
            assert client.close_code == 1001


SETTINGS = """
SECRET_KEY = "for a test"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
"""

TICKET = """
import django
django.setup()
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import call_command
from types import SimpleNamespace
from view import ticket
call_command("migrate", verbosity=0)
user = User.objects.create_user("anna", password="secret")
print(ticket(SimpleNamespace(user=AnonymousUser())).status_code)
print(ticket(SimpleNamespace(user=user)).content.decode())
"""


async def test_django(tmp_path: Path) -> None:
    """A view makes a ticket, and the server knows the user by it."""
    programs = Programs("frameworks", tmp_path)
    _, view, server = programs.texts
    (tmp_path / "settings.py").write_text(SETTINGS, "utf-8")
    programs.save(view, "view.py")
    path = programs.save(TICKET, "make_ticket.py")
    env = {**packages(), "DJANGO_SETTINGS_MODULE": "settings"}
    with running(sys.executable, path, cwd=tmp_path, env=env) as run:
        assert run.process.wait(TIMEOUT) == 0, run.output
        refused, answer = run.output.splitlines()
    assert refused == "403"
    (ticket,) = re.findall(r'^\{"ticket": "(.+)"\}$', answer)
    with programs.server(server, env={"DJANGO_SETTINGS_MODULE": "settings"}):
        async with connect(f"{programs.uri}/?ticket={ticket}") as client:
            assert await client.recv() == "Hello, anna!"
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            await connect(f"{programs.uri}/?ticket={ticket}x")


async def test_stream_of_redis(tmp_path: Path) -> None:
    """A client that asks for what came after an entry gets it."""
    programs = Programs("redis", tmp_path)
    (stream,) = programs.texts
    serving = """
import asyncio
from websockets.asyncio.server import serve

async def main():
    for text in ("one", "two"):
        await publish(text)
    async with serve(handler, "localhost", 8765) as server:
        await server.serve_forever()

asyncio.run(main())
"""
    store = free_port()
    # The address of Redis is the default of its package.
    text = stream.replace("redis.asyncio.Redis()", f"redis.asyncio.Redis(port={store})")
    with redis(store, tmp_path), programs.server(text + serving):
        async with connect(f"{programs.uri}/?after=0") as client:
            first = str(await client.recv())
            assert first.endswith(" one")
        async with connect(f"{programs.uri}/?after={first.partition(' ')[0]}") as client:
            assert str(await client.recv()).endswith(" two")


async def test_rooms_over_redis(tmp_path: Path) -> None:
    """Two processes have one room."""
    store = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(redis(store, tmp_path))
        uris = []
        for number in (1, 2):
            programs = Programs("rooms", tmp_path)
            programs.other_ports["6379"] = store
            (text,) = programs.texts
            stack.enter_context(programs.server(text, name=f"server{number}.py"))
            uris.append(f"{programs.uri}/room")
        async with connect(uris[0]) as anna, connect(uris[1]) as bert:
            await anna.send("hello")
            for client in (anna, bert):
                assert await asyncio.wait_for(client.recv(), TIMEOUT) == "hello"


def test_pytest_asyncio(tmp_path: Path) -> None:
    """With the hook of the page, a test of an hour takes no time."""
    programs = Programs("testing", tmp_path)
    (hook,) = programs.texts
    (tmp_path / "conftest.py").write_text(hook, "utf-8")
    (tmp_path / "test_hour.py").write_text(
        "import asyncio\n\nasync def test_hour():\n    await asyncio.sleep(3600)\n", "utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "."]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
