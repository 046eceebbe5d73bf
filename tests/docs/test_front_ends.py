"""A front-end only waits: what decides belongs below, where all front-ends share it.

A function waits if it awaits, if it names something that waits, or if it calls a function of its front-end that does.
One or two lines that only hand on what they got are the joint between the front-end and what is below. For each of the
other functions there is a reason here.

Everything here reads the source with ``ast``; nothing is imported from it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "websockets"
FRONT_ENDS = ["asyncio", "sync", "trio"]

# Names of what a front-end waits for, or waits with. ``self._closing_task`` and ``reader_threads`` count, too.
WAITING = {
    "asyncio", "condition", "future", "handle", "lock", "loop", "nursery", "scope", "select", "server", "sock",
    "socket", "ssl", "stream", "task", "thread", "threading", "timer", "transport", "trio", "waiter",
    # In threads: what one waits with, the roles of those who call the socket, and until when one waits.
    "claimant", "deadline", "free", "line", "role", "selector", "steward", "step", "system", "taken", "waker",
    "watched", "wire",
}  # fmt: skip

# The twins of the path of a message decide nothing: they are a shortcut past what is below.
FAST_PATHS = {"asyncio/_fastpath/_readable.py", "sync/_fastpath/_readable.py"}

# Functions that don't wait, and stand in a front-end all the same: why.
REASONS: dict[str, str] = {
    "asyncio._internals._of": "looks at a function of asyncio's",
    "asyncio._secure._default_context": "imports what some interpreters don't have",
    "asyncio._proxy.Tunnel.connection_lost": "the loop calls it",
    "asyncio._session_transport.SessionTransport._ws_choose_path": "sets what the compiled path reads",
    "asyncio._session_transport.SessionTransport._ws_take_rest": "the end of reading, in the order that asyncio has",
    "asyncio._session_transport._with_turns": "counts what is sent between two turns of the loop",
    "asyncio._session_transport._Stream.__init__": "what asyncio's TLS calls",
    "asyncio.client._Connections.__init__": "an iterator that waits",
    "asyncio.client.connect.__init__": "the signature that programs call",
    "asyncio.connection.Connection._ws_get": "the other half of what the compiled path does",
    "sync._line.Line.unread": "what was read too early is read again",
    "sync._session_socket.SessionSocket._ws_choose_path": "sets what the fast path of a message reads",
    "sync._session_socket.SessionSocket._ws_receive_bytes": "the way from the socket to the session, also with TLS",
    "sync._session_socket.SessionSocket._ws_receive_channel": "TLS over memory, which asyncio does itself",
    "sync.client.ClientConnection._ws_expect_no_block": "the warning that a block is expected",
    "sync.client._used_first": "the warning that a block is expected",
    "sync.client.reconnect.__exit__": "leaves the block of a connection, which waits",
    "sync.connection.Connection._ws_put_message": "counts a message that the fast path didn't send",
    "sync._listening.Listener._log_failure": "the log of a loop that waits",
    "sync._listening._identity": "looks at the file of a socket",
    "sync._shutdown.Shutdown._check": "ends the wait of threads",
    "trio._server_connection.ServerConnection._ws_abort": "a line in the log before the connection is aborted",
    "trio._session_stream.SessionStream.abort": "what users call",
    "trio._wire.TLSStream.__getattr__": "methods that streams with TLS have",
    "trio.connection.Connection._ws_count": "messages in one frame don't go through the protocol",
    "trio.connection.Connection._ws_get": "takes a message, and resumes reading",
    "trio.connection._Each.__anext__": "an iterator that waits",
    "trio.connection._MayBeLeft.__init__": "the attributes that inspect looks at",
}

MAX_LINES = 60
JOINT = 2

Function = ast.FunctionDef | ast.AsyncFunctionDef


def waits(function: Function) -> bool:
    """Whether a function awaits, yields, or names something that waits."""
    for node in ast.walk(function):
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith | ast.Yield):
            return True
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        last = name.lower().rstrip("_").rpartition("_")[2]
        if last in WAITING or last.removesuffix("s") in WAITING:
            return True
    return False


def called(function: Function) -> set[str]:
    """The names of the functions that a function calls."""
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {call.attr if isinstance(call, ast.Attribute) else ast.unparse(call) for call in calls}


def lines(function: Function) -> int:
    """The length of a body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    """The functions in a module, with their full names; not those for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, Function):
            if not any(ast.unparse(each).endswith("overload") for each in child.decorator_list):
                yield f"{prefix}.{child.name}", child
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}.{child.name}")
        else:
            yield from functions(child, prefix)


def idle(front_end: str) -> dict[str, int]:
    """The functions of a front-end that neither wait nor are joints, and how long each is."""
    found: dict[str, Function] = {}
    for path in sorted((SOURCE / front_end).rglob("*.py")):
        name = path.relative_to(SOURCE)
        if name.as_posix() not in FAST_PATHS:
            found.update(functions(ast.parse(path.read_text("utf-8")), ".".join(name.with_suffix("").parts)))
    # Each class overrides some; a name stands for all of its functions.
    waiting = {name.rpartition(".")[2] for name, function in found.items() if waits(function)} - {"__init__"}
    return {
        name: lines(function)
        for name, function in found.items()
        if lines(function) > JOINT and not waits(function) and not called(function) & waiting
    }


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_front_end_only_waits(front_end: str) -> None:
    found = idle(front_end)
    assert set(found) == {name for name in REASONS if name.startswith(f"{front_end}.")}
    assert sum(found.values()) < MAX_LINES


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("await x", True),
        ("async for x in y: pass", True),
        ("yield", True),
        ("self.transport.write(x)", True),
        ("self._write_waiters.popleft()", True),
        ("sock = x", True),
        ("self.protocol.send(x)", False),
        ("return self.session.closed", False),
        ("self.unlocked = self.restart", False),
    ],
)
def test_the_checker(body: str, expected: bool) -> None:
    ((_, function),) = functions(
        ast.parse(f"class C:\n    async def f(self):\n        '''Doc.'''\n        {body}\n"), "m"
    )
    assert waits(function) is expected
    assert lines(function) == 1


if __name__ == "__main__":
    for one in FRONT_ENDS:
        for name, length in sorted(idle(one).items(), key=lambda item: -item[1]):
            print(f"{length:3} {name}")
