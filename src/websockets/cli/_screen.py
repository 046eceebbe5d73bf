"""Standard input and output: a prompt that messages don't disturb, and lines that are read while others are written.

May know: terminals, escape sequences, threads. Must not know: connections, what the lines say.

Reading a line blocks, and nothing in the standard library reads from a terminal with editing, from a pipe and from a
file without blocking, on every system. So a thread reads. It is a daemon: nothing makes it return from a read that
nobody will answer, and the command must end all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import sys
import threading
import unicodedata
from collections.abc import AsyncGenerator, Callable, Iterator
from types import TracebackType
from typing import Any, Self, TextIO

__all__ = [
    "Screen",
    "Terminal",
    "above_prompt",
    "piped_lines",
    "read_lines",
    "standard_lines",
    "typed_lines",
    "width",
]

PROMPT = "> "

# Lines that the thread may be ahead of whoever takes them.
AHEAD = 64

READ_SIZE = 2**16

# Seconds within which a thread that isn't hindered shows the next prompt.
MOMENT = 0.5


# --------------------------------------------------------------------------------------------------------------- output


def width(text: str) -> int:
    """How many columns of a terminal a line takes; its control characters must have been escaped, but for colours."""
    return sum(_width(character) for character in _without_colours(text))


def _without_colours(text: str) -> str:
    first, *rest = text.split("\x1b[")
    return first + "".join(part.partition("m")[2] for part in rest)


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Me", "Mn", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def above_prompt(text: str, columns: int, typed: str = "") -> str:
    """What shows a line above the one that is being edited, and leaves that as it is (ECMA-48, DECSC and DECRC).

    Parameters:
        text: the line.
        columns: those of the terminal.
        typed: what is being edited; the cursor is taken to be at its end.
    """
    number = max(1, -(-width(text) // columns))
    rows_before = width(PROMPT + typed) // columns
    # Save the cursor; scroll if need be; go back and make room; write; restore, and follow what moved down.
    moves = [number + rows_before, number, number]
    up, room, down = ("" if count == 1 else str(count) for count in moves)
    return "\x1b7" + "\n" * number + f"\x1b[{up}A\x1b[{room}L{text}\n\x1b8\x1b[{down}B"


class Screen:
    """Standard output and error, and perhaps a prompt at the end of the former.

    Parameters:
        out: standard output.
        err: standard error.
        prompt: whether there is a line that is being edited.

    Attributes:
        typed: tells what that line has in it.
    """

    def __init__(self, out: TextIO, err: TextIO, prompt: bool = False) -> None:
        self._out = out
        self._err = err
        self.prompt = prompt
        self.typed: Callable[[], str] = str

    def line(self, text: str) -> None:
        """Write a line to standard output, above the prompt if there is one."""
        if self.prompt:
            text = above_prompt(text, max(shutil.get_terminal_size().columns, 1), self.typed())
        else:
            text += "\n"
        self._out.write(text)
        self._out.flush()

    def complain(self, text: str) -> None:
        """Write a line to standard error; above the prompt if there is one."""
        if self.prompt:
            self.line(text)
            return
        self._err.write(text + "\n")
        self._err.flush()

    def progress(self, text: str) -> None:
        """Show a line on standard error in the place of the one before; none if it is empty."""
        self._err.write(f"\r\x1b[K{text}")
        self._err.flush()

    def leave(self) -> None:
        """Take the prompt away."""
        if self.prompt:
            self.prompt = False
            self._out.write("\r\x1b[K")
            self._out.flush()


class Terminal:
    """A terminal at which somebody types. Leaving it leaves it as it was, though the thread that edits a line may be
    in the middle of one.
    """

    def __init__(self) -> None:
        self._saved: Any = None
        # Whether the prompt has been shown: by readline, in the thread, some time after the line before was taken.
        self._shown = threading.Event()
        self._buffer: Callable[[], str] | None = None

    def __enter__(self) -> Self:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")  # who types it sees it
        with contextlib.suppress(ImportError, AttributeError):
            import readline

            # A terminal that is left in the middle of a line would go on marking what is pasted.
            readline.parse_and_bind("set enable-bracketed-paste off")
            readline.set_pre_input_hook(self._shown.set)
            self._buffer = readline.get_line_buffer
        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios

            self._saved = termios.tcgetattr(sys.stdin.fileno())
        if sys.platform == "win32":
            os.system("")  # makes the console understand escape sequences
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._saved)

    def lines(self) -> Iterator[str]:
        """Lines that somebody types, with editing and history where readline is there; Ctrl-D ends them."""
        try:
            while True:
                line = input(PROMPT)
                self._shown.clear()
                yield line
        except EOFError:
            self._shown.set()

    def settle(self) -> None:
        """Wait a moment for a prompt that is about to be shown: it mustn't come after the last line."""
        if self._buffer is not None:
            self._shown.wait(MOMENT)

    def typed(self) -> str:
        """What has been typed of the next line; nothing if that can't be known."""
        return self._buffer() if self._buffer is not None and self._shown.is_set() else ""


# ---------------------------------------------------------------------------------------------------------------- input


def piped_lines(read: Callable[[int], bytes]) -> Iterator[str]:
    """Lines in UTF-8, as they arrive, without their ends.

    Parameters:
        read: gives at most so many bytes, as soon as there are any; none at the end.

    Raises:
        UnicodeDecodeError: a line isn't UTF-8.
    """
    rest = b""
    while data := read(READ_SIZE):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode()
    if rest:
        yield rest.removesuffix(b"\r").decode()


def standard_lines(stream: TextIO) -> Iterator[str]:
    """Lines from standard input, or from what stands in for it."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return (line.rstrip("\r\n") for line in stream)
    # Not through its buffer, which a thread that never returns would keep locked.
    return piped_lines(lambda size: os.read(number, size))


class _Reader:
    """A thread that reads lines, and a queue from which a task takes them; made in a running loop.

    Parameters:
        lines: gives the next line, however long that takes.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.room = threading.Semaphore(AHEAD)
        threading.Thread(target=self.read, name="websockets-input", daemon=True).start()

    def read(self) -> None:
        """The thread."""
        end: Exception | None = None
        try:
            for line in self.lines:
                self.hand_over(line)
        except (OSError, ValueError) as exc:  # UnicodeDecodeError is a ValueError
            end = exc
        self.hand_over(end)

    def hand_over(self, item: str | Exception | None) -> None:
        """Put a line, an error or the end into the queue."""
        self.room.acquire()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self.loop.call_soon_threadsafe(self.queue.put_nowait, item)

    async def take(self) -> str | None:
        """The next line; None at the end."""
        item = await self.queue.get()
        self.room.release()
        if isinstance(item, Exception):
            raise item
        return item


async def read_lines(lines: Iterator[str]) -> AsyncGenerator[str, None]:
    """Lines that are read by a thread, which begins with the first one that is asked for.

    Parameters:
        lines: gives the next line, however long that takes.

    Raises:
        OSError: what ``lines`` raises.
        ValueError: the same.
    """
    reader = _Reader(lines)
    while (line := await reader.take()) is not None:
        yield line


async def typed_lines(screen: Screen, terminal: Terminal) -> AsyncGenerator[str, None]:
    """Lines that somebody types at the prompt of a screen, which is there as long as they are asked for."""
    screen.prompt, screen.typed = True, terminal.typed
    try:
        async for line in read_lines(terminal.lines()):
            yield line
    finally:
        terminal.settle()
        screen.leave()
