"""Lines above a prompt, lines that a thread reads, and a terminal that is left as it was."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import os
import queue
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit.platforms import needs_signals
from websockets.cli import _screen
from websockets.cli._client import LogHandler
from websockets.cli._screen import (
    Screen,
    Terminal,
    above_prompt,
    after_resize,
    piped_lines,
    read_lines,
    standard_lines,
    typed_lines,
    width,
)

# --------------------------------------------------------------------------------------------------------------- output


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("0123456789", 10), ("日本語", 6), ("e\u0301\u200d", 1), ("\x1b[32mgreen\x1b[0m", 5)],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


class Emulator:
    """The least of a terminal that can show what is done with it: a screen, a cursor, a saved cursor."""

    def __init__(self, height: int, width: int) -> None:
        self.width = width
        self.screen = [""] * height
        self.row = self.column = 0
        self.saved = (0, 0)

    def feed(self, data: str) -> None:
        for escape, number, letter, character in re.findall(r"(\x1b)(?:\[(\d*))?([A-Z78])|(.|\n)", data):
            if escape:
                getattr(self, f"do_{letter}")(int(number or 1))
            elif character == "\n":
                self.line_feed()
                self.column = 0
            else:
                self.put(character)

    def put(self, character: str) -> None:
        self.wrap()
        line = self.screen[self.row].ljust(self.column)
        self.screen[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1

    def wrap(self) -> None:
        """What readline does at the margin, rather than to leave the cursor on the last column."""
        if self.column == self.width:
            self.line_feed()
            self.column = 0

    def line_feed(self) -> None:
        if self.row == len(self.screen) - 1:
            self.screen = [*self.screen[1:], ""]
        else:
            self.row += 1

    def do_7(self, _: int) -> None:
        self.saved = (self.row, self.column)

    def do_8(self, _: int) -> None:
        self.row, self.column = self.saved

    def do_A(self, number: int) -> None:
        self.row = max(self.row - number, 0)

    def do_B(self, number: int) -> None:
        self.row = min(self.row + number, len(self.screen) - 1)

    def do_L(self, number: int) -> None:
        height = len(self.screen)
        self.screen = [*self.screen[: self.row], *[""] * number, *self.screen[self.row :]][:height]


@given(
    above=st.integers(0, 12),
    typed=st.text("abc", max_size=25),
    messages=st.lists(st.text("xyz", min_size=1, max_size=35), min_size=1, max_size=4),
)
def test_messages_appear_above_the_prompt(above: int, typed: str, messages: list[str]) -> None:
    terminal = Emulator(height=10, width=10)
    terminal.feed("".join(f"line {number}\n" for number in range(above)) + f"> {typed}")
    terminal.wrap()
    before = (terminal.screen[terminal.row], terminal.column)
    for message in messages:
        terminal.feed(above_prompt(message, 10, typed))
    lines = [*(f"line {number}" for number in range(above)), *messages, f"> {typed}"]
    shown = [line[at : at + 10].rstrip() for line in lines for at in range(0, len(line), 10)]
    height = 10 if terminal.screen[terminal.row] else 9  # the cursor alone may have a row
    assert [line.rstrip() for line in terminal.screen if line] == shown[-height:]
    assert (terminal.screen[terminal.row], terminal.column) == before


def test_one_row_is_as_it_always_was() -> None:
    assert above_prompt("< hello", 80) == "\x1b7\n\x1b[A\x1b[L< hello\n\x1b8\x1b[B"


@given(typed=st.text("abc", max_size=60), before=st.integers(1, 20), after=st.integers(1, 20))
def test_readline_finds_the_first_row_of_its_line(typed: str, before: int, after: int) -> None:
    """From where the cursor is put, readline goes up by the rows there were, and writes the line again."""
    terminal = Emulator(height=200, width=after)
    terminal.feed("above\n" if after >= 5 else "a\n")
    first = terminal.row
    terminal.feed(f"> {typed}")
    terminal.wrap()
    terminal.feed(after_resize(typed, before, after))
    assert terminal.row - width(f"> {typed}") // before == first


def test_a_screen_follows_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen(out, io.StringIO(), prompt=True)
    screen.typed = lambda: "x" * 100
    assert not screen.resized()
    monkeypatch.setenv("COLUMNS", "20")
    assert screen.resized()
    assert not screen.resized()
    assert out.getvalue() == "\x1b[4A"
    screen.prompt = False
    monkeypatch.setenv("COLUMNS", "80")
    assert not screen.resized()


def test_nobody_edits_a_line() -> None:
    terminal = Terminal()
    terminal.show_again()
    terminal._editor = 0  # no thread has this number
    terminal.show_again()


@needs_signals
def test_the_thread_that_edits_a_line_is_told() -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGWINCH, lambda number, frame: told.append(number))
    try:
        terminal = Terminal()
        terminal._editor = threading.get_ident()
        terminal._shown.set()
        terminal.show_again()
    finally:
        signal.signal(signal.SIGWINCH, before)
    assert told == [signal.SIGWINCH]


def test_the_settings_of_the_terminal_stay_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    termios = pytest.importorskip("termios", reason="there are no such terminals here")
    told: list[Any] = []
    monkeypatch.setattr(termios, "tcsetattr", lambda *arguments: told.append(arguments))
    monkeypatch.setattr("sys.stdin", Numbered())
    monkeypatch.setattr("os.getpgrp", lambda: 7)
    monkeypatch.setattr(termios, "tcgetattr", lambda number: ["editing"])
    terminal = Terminal()
    terminal.resume()
    terminal._begin_line()
    for group in (8, 7):
        monkeypatch.setattr("os.tcgetpgrp", lambda number, group=group: group)
        terminal.resume()
    assert told == [(0, termios.TCSANOW, ["editing"])]


def test_settings_of_what_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("termios", reason="there are no such terminals here")
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert _screen.terminal_settings() is None


class Numbered(io.StringIO):
    """An input with a file descriptor that is no terminal's."""

    def fileno(self) -> int:
        return 0


def test_screen_with_a_prompt() -> None:
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out, err)
    screen.line("first")
    screen.leave()
    screen.prompt = True
    screen.line("second")
    screen.complain("odd")
    screen.show_again()
    screen.leave()
    screen.leave()
    screen.show_again()
    screen.line("third")
    screen.complain("wrong")
    screen.progress("half")
    assert out.getvalue() == f"first\n{above_prompt('second', 80)}{above_prompt('odd', 80)}\r\x1b[K> \r\x1b[Kthird\n"
    assert err.getvalue() == "wrong\n\r\x1b[Khalf"


# ---------------------------------------------------------------------------------------------------------------- input


def reader(*pieces: bytes) -> Callable[[int], bytes]:
    rest = iter(pieces)
    return lambda size: next(rest, b"")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"\n\n", ["", ""]),
        (b"a\r\nb\n\nc", ["a", "b", "", "c"]),
        ("é\u2028日\x0b本\n".encode(), ["é\u2028日\x0b本"]),
    ],
)
def test_piped_lines(data: bytes, lines: list[str]) -> None:
    assert list(piped_lines(reader(*([data] if data else [])))) == lines
    assert list(piped_lines(reader(*(data[at : at + 1] for at in range(len(data)))))) == lines


def test_lines_come_before_what_is_wrong() -> None:
    lines = piped_lines(reader(b"good\n", b"\xff\n"))
    assert next(lines) == "good"
    with pytest.raises(UnicodeDecodeError):
        next(lines)


def keyboard(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Somebody who types lines, and then Ctrl-D."""
    typed = iter(lines)

    def ask(prompt: str) -> str:
        assert prompt == "> "
        for line in typed:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", ask)


def test_lines_that_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard(monkeypatch, "one", "", "two")
    assert list(Terminal().lines()) == ["one", "", "two"]


def test_standard_input_that_is_no_file() -> None:
    assert list(standard_lines(io.StringIO("one\ntwo"))) == ["one", "two"]


async def test_lines_are_read_by_a_thread() -> None:
    lines = [str(number) for number in range(500)]
    assert [line async for line in read_lines(iter(lines))] == lines


async def test_the_thread_is_only_so_far_ahead() -> None:
    taken: list[int] = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield str(number)

    lines = read_lines(endless())
    for number in range(200):
        assert await anext(lines) == str(number)
        assert len(taken) <= number + _screen.AHEAD + 2
    await lines.aclose()


@pytest.mark.parametrize("error", [OSError("no"), ValueError("no")])
async def test_what_reading_raises(error: Exception) -> None:
    def broken() -> Iterator[str]:
        yield "one"
        raise error

    lines = read_lines(broken())
    assert await anext(lines) == "one"
    with pytest.raises(type(error), match="^no$"):
        await anext(lines)


@pytest.mark.parametrize(("platform", "commands"), [("linux", []), ("win32", [""])])
def test_a_terminal_that_is_none(platform: str, commands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nothing to set up, nothing is, and nothing is put back."""
    called: list[str] = []
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("os.system", called.append)
    with Terminal() as terminal:
        assert terminal._saved is None
    assert called == commands


def test_completion() -> None:
    terminal = Terminal(["ping", "pong", "close"])
    assert [terminal._completion("/p", number) for number in range(3)] == ["/ping ", "/pong ", None]
    assert terminal._completion("/close", 0) == "/close "
    assert terminal._completion("", 0) is None
    assert terminal._completion("ping", 0) is None


class Readline:
    """What the command asks of readline, and what it was told."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc
        self.told: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self.told.append((name, *args))


@pytest.mark.parametrize(
    ("doc", "key"), [("GNU readline", "tab: complete"), ("libedit readline", "bind ^I rl_complete")]
)
def test_readlines_of_two_kinds(doc: str, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readline: Any = Readline(doc)
    monkeypatch.setitem(sys.modules, "readline", readline)
    history = tmp_path / "a" / "history"
    with Terminal(["ping"], history):
        assert ("parse_and_bind", key) in readline.told
        assert ("read_history_file", history) in readline.told
    assert readline.told[-1] == ("write_history_file", history)
    # A folder that can't be made.
    history.parent.joinpath("file").touch()
    with Terminal((), history.parent / "file" / "history"):
        pass
    assert not [told for told in readline.told if "file/history" in str(told) and told[0] == "write_history_file"]


async def test_typed_lines_have_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard(monkeypatch, "one", "two")
    out = io.StringIO()
    screen = Screen(out, io.StringIO())
    lines = typed_lines(screen, Terminal())
    assert not screen.prompt
    assert await anext(lines) == "one"
    assert screen.prompt
    await lines.aclose()
    assert not screen.prompt
    assert out.getvalue() == "\r\x1b[K"


class Shown:
    """A screen and a terminal, which note what they are told."""

    prompt = follows = True
    on_resize: Any = None
    typed = None

    def __init__(self, *answers: bool) -> None:
        self.told: list[str] = []
        self.again = asyncio.Event()
        self._answers = [*answers]
        self._more = queue.SimpleQueue[str]()

    def lines(self) -> Iterator[str]:
        yield self._more.get()

    def end(self) -> None:
        self._more.put("line")

    def resume(self) -> None:
        self.told.append("settings of the terminal")

    def show_again(self) -> None:
        self.told.append("line again")
        self.again.set()

    def resized(self) -> bool:
        return self._answers.pop(0)

    def settle(self) -> None:
        self.told.append("settled")

    def leave(self) -> None:
        self.told.append("left")


@needs_signals
async def test_the_line_that_is_edited_is_shown_again() -> None:
    shown: Any = Shown(False, True)
    lines = typed_lines(shown, shown)
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGCONT)
    await shown.again.wait()
    # The terminal has another width: twice, of which the first changes nothing.
    shown.told.clear()
    shown.again.clear()
    shown.on_resize()
    shown.on_resize()
    await shown.again.wait()
    assert shown.told == ["line again"]
    shown.end()
    assert await first == "line"
    await lines.aclose()


def test_a_loop_that_is_closed_needs_no_lines() -> None:
    async def start() -> _screen._Reader:
        return _screen._Reader(iter(()))

    thread_is_done: Any = asyncio.run(start())
    thread_is_done.hand_over("too late")


def test_logs_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was closed, which isn't the fault of the code that logs."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stderr", Closed())
    handler = LogHandler(Screen(Closed(), Closed()))
    handler.handle(logging.makeLogRecord({"msg": "connection open"}))
