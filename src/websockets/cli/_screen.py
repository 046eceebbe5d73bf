"""Standard input and output: a prompt that messages don't disturb, and lines that are read while others are written.

May know: terminals, escape sequences, threads. Must not know: connections, the meaning of the lines.

Reading a line blocks. On some systems, the standard library has no way to read from a terminal with editing, from
a pipe and from a file without blocking. So a thread reads. It is a daemon thread: nothing can interrupt its read, but
the command must be able to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import unicodedata
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

__all__ = [
    "Screen",
    "Terminal",
    "above_prompt",
    "after_resize",
    "piped_lines",
    "read_lines",
    "standard_lines",
    "typed_lines",
    "width",
]

PROMPT = "> "

# Maximum number of lines that the thread may read in advance.
AHEAD = 64

READ_SIZE = 2**16

# Lines that the history keeps.
HISTORY_LENGTH = 1000

# A variable that a terminal sets which doesn't wrap lines anew when its width changes: xterm.
KEEPS_ROWS = "XTERM_VERSION"

# Seconds within which the thread normally shows the next prompt.
MOMENT = 0.5


# --------------------------------------------------------------------------------------------------------------- output


def width(text: str) -> int:
    """Return the columns of a terminal that a line needs; colours are its only control sequences."""
    return sum(_width(character) for character in _without_colours(text))


def _without_colours(text: str) -> str:
    first, *rest = text.split("\x1b[")
    return first + "".join(part.partition("m")[2] for part in rest)


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Me", "Mn", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def above_prompt(text: str, columns: int, typed: str = "") -> str:
    """Return the text that shows a line above the edited one, which stays unchanged (ECMA-48, DECSC and DECRC).

    Parameters:
        text: the line.
        columns: width of the terminal.
        typed: the edited text, with the cursor at its end; empty by default.
    """
    number = max(1, -(-width(text) // columns))
    rows_before = width(PROMPT + typed) // columns
    # Save the cursor; scroll if necessary; go up and insert lines; write; restore the cursor and move it down.
    moves = [number + rows_before, number, number]
    up, room, down = ("" if count == 1 else str(count) for count in moves)
    return "\x1b7" + "\n" * number + f"\x1b[{up}A\x1b[{room}L{text}\n\x1b8\x1b[{down}B"


def after_resize(typed: str, before: int, after: int) -> str:
    """Return the text that moves the cursor to where readline expects it after the width of a terminal changed.

    Terminals wrap long lines anew, so that the edited line has more rows or fewer above the cursor. But readline goes
    up by as many as there were, and writes the line again: it would leave rows of it, or overwrite those above.

    Parameters:
        typed: the edited text, with the cursor at its end.
        before: former width of the terminal.
        after: its width now.
    """
    more = width(PROMPT + typed) // after - width(PROMPT + typed) // before
    return f"\x1b[{more}A" if more > 0 else "\n" * -more


def columns() -> int:
    """Return the width of the terminal."""
    return max(shutil.get_terminal_size().columns, 1)


class Screen:
    """Standard output and error, with an optional prompt at the end of standard output.

    Parameters:
        out: standard output.
        err: standard error.
        prompt: whether there is a prompt with a line that the user edits; False by default.

    Attributes:
        typed: returns the text of that line.
    """

    def __init__(self, out: TextIO, err: TextIO, prompt: bool = False) -> None:
        self._out = out
        self._err = err
        self.prompt = prompt
        self.typed: Callable[[], str] = str
        self._columns = columns()

    def line(self, text: str) -> None:
        """Write a line to standard output, above the prompt if there is one."""
        if self.prompt:
            text = above_prompt(text, columns(), self.typed())
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
        """Show a line on standard error in place of the one before; an empty text removes it."""
        self._err.write(f"\r\x1b[K{text}")
        self._err.flush()

    def show_again(self) -> None:
        """Show the prompt and the text typed so far again, after other programs have written to the terminal."""
        if self.prompt:
            self._out.write(f"\r\x1b[K{PROMPT}{self.typed()}")
            self._out.flush()

    def resized(self) -> bool:
        """Adapt to the width of the terminal; return whether readline has to show the edited line again."""
        before, self._columns = self._columns, columns()
        if before == self._columns or not self.prompt:
            return False
        self._out.write(after_resize(self.typed(), before, self._columns))
        self._out.flush()
        return True

    def leave(self) -> None:
        """Remove the prompt."""
        if self.prompt:
            self.prompt = False
            self._out.write("\r\x1b[K")
            self._out.flush()


def terminal_settings() -> Any:
    """Return the settings of the terminal that standard input is; None if it is none."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import termios

        with contextlib.suppress(termios.error):  # it is none, or was closed
            return termios.tcgetattr(sys.stdin.fileno())
    return None


class Terminal:
    """A terminal at which a user types. The end of the ``with`` block restores its settings, even while the thread
    still edits a line.

    Parameters:
        commands: names that Tab completes after a slash; none by default.
        history: file that keeps the lines for the next time; None (the default) for none.

    Attributes:
        on_resize: called in the main thread when the size of the terminal may have changed.
        follows: whether the edited line can be shown again then.
    """

    def __init__(self, commands: Sequence[str] = (), history: Path | None = None) -> None:
        self._commands = [f"/{name}" for name in commands]
        self._history = history
        # Settings of the terminal: before the command, and while a line is edited.
        self._saved: Any = None
        self._editing: Any = None
        # Set when the prompt has been shown. readline shows it in the thread, some time after the line before.
        self._shown = threading.Event()
        self._buffer: Callable[[], str] | None = None
        # The thread that edits a line, unless it ended.
        self._editor: int | None = None
        self.follows = False
        self.on_resize: Callable[[], object] = bool

    def __enter__(self) -> Self:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")  # the user sees the replacement
        if "readline" not in sys.modules:
            # The handler of readline calls the one that was there before.
            with contextlib.suppress(AttributeError, ValueError):  # Windows; not the main thread
                signal.signal(signal.SIGWINCH, lambda number, frame: self.on_resize())
                self.follows = KEEPS_ROWS not in os.environ
        with contextlib.suppress(ImportError, AttributeError):
            import readline

            # Otherwise a terminal that is left in the middle of a line would stay in the mode of bracketed paste.
            readline.parse_and_bind("set enable-bracketed-paste off")
            readline.set_pre_input_hook(self._begin_line)
            self._buffer = readline.get_line_buffer
            self._complete(readline)
            self._remember(readline)
        self._saved = terminal_settings()
        if sys.platform == "win32":
            os.system("")  # makes the console understand escape sequences
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._keep()
        if self._saved is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._saved)

    def _begin_line(self) -> None:
        """Note that the prompt is shown; readline calls this when it has set the terminal for its needs."""
        self._editing = terminal_settings()
        self._shown.set()

    def resume(self) -> None:
        """Set the terminal for editing again after a stop: the shell has set it for its own needs."""
        if self._editing is not None and self._shown.is_set():
            import termios

            number = sys.stdin.fileno()
            with contextlib.suppress(OSError, termios.error):  # the terminal was closed
                # Whoever is in the background must not touch the terminal.
                if os.tcgetpgrp(number) == os.getpgrp():
                    termios.tcsetattr(number, termios.TCSANOW, self._editing)

    def _complete(self, readline: Any) -> None:
        """Let Tab complete commands; without commands, it is a character like others."""
        if not self._commands:
            return
        readline.set_completer_delims("")
        readline.set_completer(self._completion)
        editline = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")

    def _completion(self, text: str, number: int) -> str | None:
        """Return a completion of the line; readline calls this with 0, 1, 2, ... until there are no more."""
        found = [f"{name} " for name in self._commands if text and name.startswith(text)]
        return found[number] if number < len(found) else None

    def _remember(self, readline: Any) -> None:
        if self._history is not None:
            readline.set_history_length(HISTORY_LENGTH)
            with contextlib.suppress(OSError):  # there is none yet, or it can't be read
                readline.read_history_file(self._history)

    def _keep(self) -> None:
        """Write the history to its file, which nobody else may read: messages may be secret."""
        if self._history is None or self._buffer is None:
            return
        import readline

        with contextlib.suppress(OSError):  # the command works without
            self._history.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._history, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(self._history)

    def lines(self) -> Iterator[str]:
        """Yield the lines that a user types, with editing and history if there is readline; Ctrl-D ends them."""
        self._editor = threading.get_ident() if self.follows else None
        try:
            while True:
                line = input(PROMPT)
                self._shown.clear()
                yield line
        except EOFError:
            self._editor = None
            self._shown.set()

    def show_again(self) -> None:
        """Have readline show the edited line again, as wide as the terminal is now."""
        if self._editor is not None and self._shown.is_set():
            # The signal interrupts its wait for a key.
            signal.pthread_kill(self._editor, signal.SIGWINCH)

    def settle(self) -> None:
        """Wait for a prompt that will be shown in a moment, because it must not appear after the last line."""
        if self._buffer is not None:
            self._shown.wait(MOMENT)

    def typed(self) -> str:
        """Return the text typed so far in the next line; empty if it is unknown."""
        return self._buffer() if self._buffer is not None and self._shown.is_set() else ""


# ---------------------------------------------------------------------------------------------------------------- input


def piped_lines(read: Callable[[int], bytes]) -> Iterator[str]:
    """Yield lines in UTF-8, as they arrive, without their ends.

    Parameters:
        read: called with a maximum number of bytes; returns bytes as soon as there are any, and none at the end.

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
    """Return lines from standard input, or from an object in its place."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return (line.rstrip("\r\n") for line in stream)
    # Don't use the buffer of the stream: a thread that never returns would keep it locked.
    return piped_lines(lambda size: os.read(number, size))


class _Reader:
    """A thread that reads lines, and a queue from which a task takes them. Create it in a running loop.

    Parameters:
        lines: gives the next line, and may block.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.room = threading.Semaphore(AHEAD)
        threading.Thread(target=self.read, name="websockets-input", daemon=True).start()

    def read(self) -> None:
        """Read all lines; this runs in the thread."""
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
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing needs the line
            self.loop.call_soon_threadsafe(self.queue.put_nowait, item)

    async def take(self) -> str | None:
        """Return the next line; None at the end."""
        item = await self.queue.get()
        self.room.release()
        if isinstance(item, Exception):
            raise item
        return item


async def read_lines(lines: Iterator[str]) -> AsyncGenerator[str, None]:
    """Yield lines from a thread, which starts with the first request for a line.

    Parameters:
        lines: gives the next line, and may block.

    Raises:
        OSError: raised by ``lines``.
        ValueError: raised by ``lines``.
    """
    reader = _Reader(lines)
    while (line := await reader.take()) is not None:
        yield line


async def typed_lines(screen: Screen, terminal: Terminal) -> AsyncGenerator[str, None]:
    """Yield lines that a user types at the prompt of a screen, and remove the prompt at the end."""
    screen.prompt, screen.typed = True, terminal.typed
    loop = asyncio.get_running_loop()

    def go_on() -> None:
        # After Ctrl-Z and fg, readline doesn't do this by itself.
        terminal.resume()
        screen.show_again()

    # There is no such signal on Windows.
    with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGCONT, go_on)

    def follow() -> None:
        if terminal.follows and screen.resized():
            terminal.show_again()

    terminal.on_resize = lambda: loop.call_soon_threadsafe(follow)
    try:
        async for line in read_lines(terminal.lines()):
            yield line
    finally:
        with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGCONT)
        terminal.on_resize = bool
        terminal.settle()
        screen.leave()
