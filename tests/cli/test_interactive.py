"""The interactive client on a terminal: what it shows is, to the byte, what release 17.4 shows."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.commands import ENVIRONMENT, LIMIT, PROGRAM, serving

# Editing and history are those of readline.
pytest.importorskip("readline", reason="lines are edited otherwise here")
termios: Any = pytest.importorskip("termios", reason="there are no such terminals here")

HANDLER = """
async def handler(connection):
    async for message in connection:
        match message:
            case "control": await connection.send("\\x1b[31m\\x00\\x9b\\n\\u202e")
            case "binary": await connection.send(b"\\x00\\xff")
            case "close": await connection.close(4001, "bye \\x07")
            case "long": await connection.send("x" * 100)
            case _: await connection.send(message)
"""

# What becomes of a process whose terminal is to be the one that Ctrl-C in it interrupts.
LEADER = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("handlers")
    (folder / "typed.py").write_text(HANDLER)
    with serving("127.0.0.1:0", "--handler", "typed:handler", folder=folder, limit=10 * LIMIT) as server:
        yield server.uri


class Session:
    """A terminal, and the command in it.

    Parameters:
        arguments: of the command.
        environ: more variables.
    """

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.ours, self.theirs = os.openpty()
        termios.tcsetwinsize(self.theirs, (24, 80))
        self.before: Any = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-c", LEADER, *PROGRAM, *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env={**ENVIRONMENT, "TERM": "vt100", "INPUTRC": os.devnull, **environ},
        )
        self.seen = b""

    def read(self, until: str) -> str:
        """What the command shows, up to and with some text."""
        deadline = time.monotonic() + LIMIT
        while until.encode() not in self.seen:
            ready, _, _ = select.select([self.ours], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {until!r} after {self.seen!r}"
            self.seen += os.read(self.ours, 65536)
        shown, _, self.seen = self.seen.partition(until.encode())
        return shown.decode() + until

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.ours, text.encode())

    def end(self) -> int:
        """Wait for the end of the command; gives its status."""
        return self.process.wait(LIMIT)

    def is_as_before(self) -> bool:
        """Whether the terminal echoes, and so on, as it did before the command."""
        return bool(termios.tcgetattr(self.theirs) == self.before)


@contextlib.contextmanager
def session(*arguments: str, **environ: str) -> Iterator[Session]:
    """The command in a terminal of its own."""
    opened = Session(*arguments, **environ)
    try:
        yield opened
    finally:
        if opened.process.poll() is None:
            opened.process.kill()
            opened.process.wait()
        os.close(opened.ours)
        os.close(opened.theirs)


def above(text: str) -> str:
    """What shows a line above the prompt, in the bytes that arrive from a terminal."""
    return f"\x1b7\r\n\x1b[A\x1b[L{text}\r\n\x1b8\x1b[B"


CLOSED = "\r\x1b[KConnection closed: 1000 (OK).\r\n"


def test_conversation(uri: str) -> None:
    with session(uri) as terminal:
        assert terminal.read("> ") == f"Connected to {uri}.\r\n> "
        for typed, shown in {
            "hello": "< hello",
            "": "< ",
            "back\\slash é": "< back\\slash é",
            "control": r"< \x1b[31m\x00\x9b\n\u202e",
            "binary": "< (binary) 00ff",
        }.items():
            terminal.type(f"{typed}\n")
            # The answer can be there before the thread that reads has shown the next prompt, or all of it.
            written = terminal.read("\x1b[B")
            assert written.endswith(above(shown))
            line, newline, prompt = written.removesuffix(above(shown)).partition("\r\n")
            assert (line, newline) == (typed, "\r\n")
            rest = "> ".removeprefix(prompt)
            assert prompt + rest == "> "
            if rest:
                assert terminal.read(rest) == rest
        terminal.type("\x04")
        assert terminal.read("OK).\r\n") == CLOSED
        assert terminal.end() == 0
        assert terminal.is_as_before()


def test_history(uri: str) -> None:
    with session(uri) as terminal:
        terminal.read("> ")
        for line in ("one", "two"):
            terminal.type(f"{line}\n")
            terminal.read(above(f"< {line}"))
        terminal.type("\x1b[A\x1b[A!\n")
        terminal.read(above("< one!"))


def test_long_messages_make_room_for_themselves(uri: str) -> None:
    with session(uri) as terminal:
        terminal.read("> ")
        terminal.type("long\n")
        terminal.read(f"\x1b7\r\n\r\n\x1b[2A\x1b[2L< {'x' * 100}\r\n\x1b8\x1b[2B")


def test_interrupt(uri: str) -> None:
    with session(uri) as terminal:
        terminal.read("> ")
        terminal.type("half a line")
        terminal.read("half a line")
        terminal.type("\x03")
        assert terminal.read("OK).\r\n").endswith(CLOSED)
        assert terminal.end() == 0
        assert terminal.is_as_before()


def test_the_server_closes_while_somebody_types(uri: str) -> None:
    with session(uri) as terminal:
        terminal.read("> ")
        terminal.type("close\n")
        assert terminal.read("x07.\r\n").endswith("\r\x1b[KConnection closed: 4001 (private use) bye \\x07.\r\n")
        assert terminal.end() == 3
        assert terminal.is_as_before()


def test_no_connection() -> None:
    with session("ws://127.0.0.1:1/") as terminal:
        assert terminal.read(".\r\n").startswith("Failed to connect to ws://127.0.0.1:1/: ")
        assert terminal.end() == 1


def test_logs_appear_above_the_prompt(uri: str) -> None:
    with session("-v", uri) as terminal:
        terminal.read(f"Connected to {uri}.\r\n")
        terminal.read("> ")
        terminal.type("hello\n")
        shown = terminal.read(above("< hello"))
        assert re.search(r"\x1b\[L> TEXT 'hello' \[5 bytes\]\r\n\x1b8", shown)


def test_commands(uri: str) -> None:
    with session("--slash", uri) as terminal:
        terminal.read("> ")
        terminal.type("/nothing\n")
        terminal.read(above("Not sent: there is no command /nothing; see /help."))
        terminal.type("/close\n")
        assert terminal.read("OK).\r\n").endswith(CLOSED)
        assert terminal.end() == 0


def test_tab_completes_commands(uri: str) -> None:
    with session("--slash", uri) as terminal:
        terminal.read("> ")
        terminal.type("/pi\tx\n")
        assert terminal.read("\r\n").endswith("/ping x\r\n")
        terminal.read(" ms\r\n")


def test_prompt_comes_back_after_a_stop(uri: str) -> None:
    with session(uri) as terminal:
        terminal.read("> ")
        terminal.type("half a line")
        terminal.read("half a line")
        editing = termios.tcgetattr(terminal.theirs)
        terminal.process.send_signal(signal.SIGSTOP)
        # A shell does this.
        termios.tcsetattr(terminal.theirs, termios.TCSANOW, terminal.before)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.read("\r\x1b[K> half a line")
        assert termios.tcgetattr(terminal.theirs) == editing
        terminal.type("!\n")
        terminal.read("< half a line!")


def test_history_lasts(uri: str, tmp_path: Path) -> None:
    history = tmp_path / "state" / "history"
    for line in ("one", "two"):
        with session(uri, WEBSOCKETS_HISTORY=str(history)) as terminal:
            terminal.read("> ")
            terminal.type(f"{line}\n")
            terminal.read(above(f"< {line}"))
            terminal.type("\x04")
            assert terminal.end() == 0
    assert history.stat().st_mode & 0o777 == 0o600
    with session(uri, WEBSOCKETS_HISTORY=str(history)) as terminal:
        terminal.read("> ")
        terminal.type("\x1b[A\x1b[A!\n")
        terminal.read(above("< one!"))


LONG = "long " * 28


def test_the_edited_line_follows_the_width_of_the_terminal(uri: str) -> None:
    """The terminal wraps the line anew; readline learns where its first row is now."""
    with session(uri) as terminal:
        terminal.read("> ")
        terminal.type(f"{LONG}.")
        terminal.read("long .")
        for width, moves in ((40, "\x1b[2A"), (100, "\r\n\r\n"), (80, "")):
            termios.tcsetwinsize(terminal.theirs, (24, width))
            # Without a key.
            assert terminal.read("> long").startswith(f"{moves}\r")
            terminal.read("long .")
        terminal.type("!\n")
        terminal.read(f"< {LONG}.!")


def test_a_resize_that_changes_no_width(uri: str) -> None:
    with session(uri) as terminal:
        terminal.read("> ")
        termios.tcsetwinsize(terminal.theirs, (10, 80))
        terminal.type("hello\n")
        terminal.read(above("< hello"))


def test_a_terminal_that_does_not_wrap_lines_anew(uri: str) -> None:
    with session(uri, XTERM_VERSION="XTerm(1)") as terminal:
        terminal.read("> ")
        terminal.type(f"{LONG}.")
        terminal.read("long .")
        termios.tcsetwinsize(terminal.theirs, (24, 40))
        terminal.type("!")
        assert "\x1b[2A" not in terminal.read("!")


@pytest.mark.parametrize(("environ", "key"), [({}, '\x1b[34m"a"\x1b[0m'), ({"NO_COLOR": "1"}, '"a"')])
def test_colours(uri: str, environ: dict[str, str], key: str) -> None:
    with session("--json", uri, **environ) as terminal:
        terminal.read("> ")
        terminal.type('{"a": null}\n')
        terminal.read(f"    {key}: ")


def test_raw_messages_are_escaped_on_a_terminal(uri: str) -> None:
    with session("--send", "control", "--expect", "1", uri) as terminal:
        assert terminal.read("\r\n") == "\\x1b[31m\\x00\\x9b\\n\\u202e\r\n"
        assert terminal.end() == 0


def test_password() -> None:
    with serving("127.0.0.1:0", "--auth", "me:secret") as server:
        with session("--auth", "me", "--send", "hello", "--expect", "1", server.uri) as terminal:
            assert terminal.read(": ") == "Password for me: "
            terminal.type("secret\n")
            assert terminal.read("hello\r\n") == "\r\nhello\r\n"
            assert terminal.end() == 0


def test_pings_until_interrupted(uri: str) -> None:
    with session("--ping", "--interval", "0.01", uri) as terminal:
        terminal.read("pong 2: ")
        terminal.type("\x03")
        assert "\r\x1b[K" in terminal.read(" pongs\r\n")
        terminal.read("Connection closed: 1000 (OK).\r\n")
        assert terminal.end() == 0


def test_progress_of_a_benchmark(uri: str, tmp_path: Path) -> None:
    with session("bench", uri, "--duration", "30", "-c", "1") as terminal:
        terminal.read("\r\x1b[K0.2 of 30 s   ")
        terminal.type("\x03")
        terminal.read(f"\r\x1b[K1 connection to {uri}, ")
        terminal.read("%\r\n")
        assert terminal.end() == 0
