"""The blocks of code in the documentation keep the rules: programs run, fragments and excerpts are what they seem."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from _blocks import run
from _blocks.names import problems
from _blocks.pages import NOT_HERE, ROOT, Block, Page, PageError, pages
from _kit.each import for_each

LANGUAGES = {
    *("python", "sh", "text", "json", "html", "css", "javascript", "mermaid"),
    *("ini", "toml", "yaml", "nginx", "haproxy", "dockerfile"),
}

# Of Sphinx: where pages are put together, which is no use to those who read the Markdown.
DIRECTIVES = {"docs/index.md": {"{toctree}"}, "docs/tutorial/index.md": {"{toctree}"}}
DIRECTIVES_OF_REFERENCE = {"{eval-rst}"}

# The programs of the README are run by test_readme, over real sockets.
README = "README.md"

BLOCKS = [(page, block) for page in pages() for block in page.blocks]
every_block = for_each(BLOCKS, lambda page, block: str(block))


def select(*blocks: tuple[Page, Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("page", "block"), blocks, ids=[str(block) for _, block in blocks])


class Runner:
    """The process that runs programs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", run.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def ask(self, page: Page, block: Block) -> dict[str, Any]:
        """Run a program; returns what it printed, and why it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        companions = [page.named(name) for name in block.companions if name != "echo"]
        request = {
            "parts": [dataclasses.asdict(part) for part in page.parts(block)],
            "beside": [[dataclasses.asdict(part) for part in page.parts(other)] for other in companions],
            "addresses": addresses(block.text) if "echo" in block.companions else [],
            "goes_on": "goes on" in block.says or "serve_forever()" in block.text,
        }
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


def addresses(text: str) -> list[tuple[str, int]]:
    """The addresses of the servers that a program connects to."""
    found = re.findall(r"\bws://([\w.-]+)(?::(\d+))?", text)
    return sorted({(host, int(port or 80)) for host, port in found})


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    process = Runner()
    yield process
    process.close()


# ------------------------------------------------------------------------------------------------------------ the rules


@every_block
def test_language(page: Page, block: Block) -> None:
    allowed = LANGUAGES | DIRECTIVES.get(page.name, set())
    if page.name.startswith("docs/reference/"):
        allowed |= DIRECTIVES_OF_REFERENCE
    assert block.language in allowed


@for_each(
    [(page, block) for page, block in BLOCKS if block.language == "python" and "file" not in block.says],
    lambda page, block: str(block),
)
def test_names(page: Page, block: Block) -> None:
    text = "\n".join(part.text for part in page.parts(block))
    assert problems(text, page.supposed(block)) == []


@select(*((page, block) for page, block in BLOCKS if block.runs and page.name != README))
def test_program(page: Page, block: Block, runner: Runner) -> None:
    answer = runner.ask(page, block)
    assert answer["failure"] is None, f"{answer['failure']}\n\n{answer['output']}"
    output = page.output(block)
    if output is not None:
        assert answer["output"] == output.text


@select(*((page, block) for page, block in BLOCKS if "file" in block.says))
def test_excerpt(page: Page, block: Block) -> None:
    path = ROOT / block.says["file"]
    assert path.is_relative_to(ROOT)
    lines = path.read_text("utf-8").splitlines()
    excerpt = block.text.rstrip("\n").split("\n")
    assert any(same(excerpt, lines[at : at + len(excerpt)]) for at in range(len(lines)))


def same(excerpt: list[str], lines: list[str]) -> bool:
    """Whether lines are the same but for an indentation that was taken off all of them."""
    widths = {len(line) - len(short) for short, line in zip(excerpt, lines, strict=False) if line}
    return (
        len(excerpt) == len(lines)
        and len(widths) <= 1
        and all(map(str.endswith, lines, excerpt))
        and all(not line[: len(line) - len(short)].strip() for short, line in zip(excerpt, lines, strict=True))
    )


@for_each([(page, block) for page, block in BLOCKS if block.says], lambda page, block: str(block))
def test_comment_fits_the_block(page: Page, block: Block) -> None:
    words = set(block.says)
    kinds = words & {"output", *NOT_HERE}
    assert len(kinds) <= 1
    if block.runs:
        assert all(page.named(name) for name in block.companions if name != "echo")
    else:
        assert words - kinds <= {"continues", "caption"}
    assert block.language == ("text" if "output" in words else "python") or words & {"file", "caption"}
    if "output" in words:
        assert any(page.output(program) == block for program in page.python if program.runs)


@for_each([(page, block) for page, block in BLOCKS if "run by" in block.says], lambda page, block: str(block))
def test_what_runs_it_knows_the_page(page: Page, block: Block) -> None:
    text = (ROOT / block.says["run by"]).read_text("utf-8")
    assert re.search(rf"\b{re.escape(Path(page.name).stem)}\b", text)


def test_every_program_is_run() -> None:
    """No page says that something isn't run: everything that can't be run here is run by some other test."""
    assert [str(block) for _, block in BLOCKS if "not run" in block.says] == []


# --------------------------------------------------------------------------------- the rules find what they should find


def page_of(text: str) -> Page:
    return Page(Path("page.md"), text)


def only(page: Page) -> tuple[Page, Block]:
    return page, page.python[-1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import websockets\nwebsockets.conect", ["websockets.conect: there is no such name"]),
        ("from websockets import conect", ["there is no module websockets.conect"]),
        ("import websockets.asincio", ["there is no module websockets.asincio"]),
        ("import nowhere.to.be.found", []),
        ("from websockets import *", []),
        ("from websockets.frames import CloseCode as Code\nCode.GONE", ["Code.GONE: there is no such name"]),
        ("async with connect('ws://x') as w: pass", ["connect is not defined"]),
        ("from websockets import connect\nconnect('ws://x', max_sice=1)", ["connect() has no argument max_sice"]),
        ("from websockets import connect\nconnect('ws://x', server_hostname='y', max_size=1)", []),
        ("from websockets import unix_connect\nunix_connect('x', max_size=1)", []),
        ("await websocket.sent('x')", ["websocket.sent: there is no such attribute"]),
        ("await websocket.recv(decod=True)", ["websocket.recv() has no argument decod"]),
        ("print(websocket.username, request.headers, response.body, server.sockets)", []),
        ("print(request.header)", ["request.header: there is no such attribute"]),
        ("request = {}\nrequest.header", []),
        ("def f(a, *b, **c):\n    for d in a: print(b, c, d)\n    return e", ["e is not defined"]),
        ("try: pass\nexcept OSError as exc: print(exc)", []),
        ("match 1:\n    case [x, *y]: print(x, y)\n    case {'a': 1, **z}: print(z)", []),
    ],
)  # fmt: skip
def test_problems_are_found(text: str, found: list[str]) -> None:
    assert problems(text) == found


@pytest.mark.parametrize("text", ["def f(:", "return 1", "await = 1", "'\\d'"])
def test_what_does_not_compile(text: str) -> None:
    with pytest.raises(SyntaxError):
        problems(text)


SERVER = """
<!-- name: server -->
```python
import asyncio
from websockets import serve
async def handler(websocket):
    await websocket.recv()
    await websocket.send("hello")
async def main():
    async with serve(handler, "localhost", 80) as server:
        await server.serve_forever()
asyncio.run(main())
```

<!-- beside: server -->
"""

CLIENT = """
import asyncio
from websockets import connect
async def main():
    async with connect("ws://localhost") as websocket:
        await websocket.send("x")
        print(await websocket.recv())
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (f"{SERVER}```python{CLIENT}```", "hello\n"),
        (f"<!-- beside: echo -->\n```python{CLIENT}```", "x\n"),
        ("```python\na = 1\n```\n<!-- continues -->\n```python\nprint(a)\n```", "1\n"),
        ("```python\nimport asyncio\nasyncio.run(asyncio.sleep(3600 * 24, 0)) if 0 else print(2)\n```", "2\n"),
        ("<!-- goes on -->\n```python\nimport asyncio\nasyncio.run(asyncio.sleep(3600))\nprint(3)\n```", ""),
        ("1. Item\n   ```python\n   print(4)\n   ```\n", "4\n"),
        ("````python\nprint('''\n```''')\n````\n", "\n```\n"),
    ],
)
def test_programs_run(text: str, output: str, runner: Runner) -> None:
    assert runner.ask(*only(page_of(text))) == {"failure": None, "output": output}


def test_programs_run_without_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.fork", raising=False)
    part = {"page": "page.md", "line": 1, "text": "print(1)\n1 / 0"}
    answer = run.answer({"parts": [part], "beside": [], "addresses": [], "goes_on": False})
    assert answer["output"] == "1\n"
    assert answer["failure"].startswith("ZeroDivisionError: division by zero\n  page.md:2, in <module>\n")


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("\n1 / 0", r"ZeroDivisionError: division by zero\n  page.md:3, in <module>\n"),
        ("assert 1 == 2", "AssertionError"),
        ("import sys; sys.exit(1)", "SystemExit: 1"),
        ("import os; os._exit(3)", "it ended with status"),
        ("async def f(): pass\nf()", "nobody got RuntimeWarning.*never awaited"),
        ("import asyncio; asyncio.run(asyncio.sleep(3600))", "it doesn't end by itself"),
        ("import logging; logging.getLogger('websockets.server').error('bad')", "logged: websockets.server: bad"),
        ("import warnings; warnings.warn('old')", "UserWarning: old"),
        (CLIENT.strip(), "ConnectionRefusedError"),
        ("from threading import Thread\nt = Thread(target=lambda: 1 / 0)\nt.start()\nt.join()", "a thread ended"),
        ("open('README.md')", "FileNotFoundError"),
    ],
)  # fmt: skip
def test_failures_are_found(code: str, failure: str, runner: Runner) -> None:
    answer = runner.ask(*only(page_of(f"```python\n{code}\n```")))
    assert re.match(failure, answer["failure"], re.DOTALL)


def test_a_failure_beside_is_found(runner: Runner) -> None:
    text = SERVER.replace('await websocket.send("hello")', "1 / 0") + f"```python{CLIENT}```"
    assert "ZeroDivisionError" in runner.ask(*only(page_of(text)))["failure"]


def test_a_goal_that_is_reached_too_early(runner: Runner) -> None:
    assert runner.ask(*only(page_of("<!-- goes on -->\n```python\n1\n```")))["failure"] == "it ends by itself"


@pytest.mark.parametrize("comment", ["continued", "continues: x", "name", "name:", "beside:", "file: ", "; x"])
def test_comments_that_make_no_sense(comment: str) -> None:
    with pytest.raises(PageError):
        page_of(f"<!-- {comment} -->\n```python\n```")


@pytest.mark.parametrize(
    ("excerpt", "same_as"),
    [
        (["a", "b"], True),
        (["  a", "  b"], True),
        (["  a", "    b"], False),
        (["x a", "x b"], False),
        (["a"], False),
        (["a", "c"], False),
    ],
)
def test_excerpts(excerpt: list[str], same_as: bool) -> None:
    assert same(["a", "b"], excerpt) is same_as
