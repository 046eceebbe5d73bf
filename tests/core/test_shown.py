"""What debuggers show: the texts of objects, and of exceptions that advise."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from websockets._rules.addresses import naming_path
from websockets._session.properties import ConnectionProperties, later
from websockets._session.registry import Registry
from websockets.exceptions import ProtocolError, advised
from websockets.frames import Close, serialize_close
from websockets.protocol import State

ID = uuid.UUID(int=1)


class Connection(ConnectionProperties):
    """A connection, as far as its text goes."""

    def __init__(self, path: str | None, **ends: Any) -> None:
        request = None if path is None else SimpleNamespace(path=path)
        self.protocol: Any = SimpleNamespace(state=State.OPEN, id=ID)
        self._ws_session: Any = SimpleNamespace(request=request, proxied=None)
        self._ends = ends

    def _ws_address(self, name: str) -> Any:
        return self._ends[name]


@pytest.mark.parametrize(
    ("connection", "shown"),
    [
        (
            Connection("/a?b", sockname=("127.0.0.1", 80), peername=("::1", 90, 0, 0)),
            f"<Connection OPEN, local 127.0.0.1:80, remote [::1]:90, path '/a?b', id {ID}>",
        ),
        (Connection(None, sockname="/run/x", peername=""), f"<Connection OPEN, local /run/x, remote unnamed, id {ID}>"),
        (Connection(None), f"<Connection OPEN, local unknown, remote unknown, id {ID}>"),
        (Connection.__new__(Connection), "<Connection>"),
    ],
)
def test_connections(connection: Connection, shown: str) -> None:
    assert repr(connection) == shown


def test_servers() -> None:
    registry: Registry[Any, Any] = Registry()
    assert registry.shown("Server", []) == "<Server, 0 connections>"
    registry.all.add(object())
    addresses = [("127.0.0.1", 80), ("::1", 80, 0, 0), "/run/x", ""]
    assert registry.shown("Server", addresses) == (
        "<Server at 127.0.0.1:80 and [::1]:80 and /run/x and an unnamed socket, 1 connection>"
    )
    registry.closing = True
    assert registry.shown("Server", []) == "<Server, 1 connection, closing>"


def test_paths_in_errors() -> None:
    for error, path, shown in (
        (FileNotFoundError(2, "none"), "/run/x", "[Errno 2] none: '/run/x'"),
        (FileNotFoundError(2, "none"), b"/run/x", "[Errno 2] none: '/run/x'"),
        (FileNotFoundError(2, "none"), None, "[Errno 2] none"),
        (FileNotFoundError(2, "none", "other"), "/run/x", "[Errno 2] none: 'other'"),
        (TimeoutError("late"), "/run/x", "late"),
    ):
        with pytest.raises(OSError) as caught, naming_path(path):  # noqa: PT011
            raise error
        assert str(caught.value) == shown


class Later:
    """It has a name after somebody has set it."""

    name = later("something sets it")


def test_attributes_that_come_later() -> None:
    thing: Any = Later()
    assert not hasattr(thing, "name")
    with pytest.raises(AttributeError, match="^'Later' object has no attribute 'name': something sets it$"):
        print(thing.name)
    thing.name = "x"
    assert thing.name == "x"


def notes(*arguments: Any) -> list[str]:
    with pytest.raises(ProtocolError) as caught:
        serialize_close(*arguments)
    return caught.value.__notes__


def test_advice() -> None:
    error = ValueError("text")
    assert advised(error, "advice") is error
    assert (str(error), error.__notes__) == ("text", ["advice"])
    codes = "send one from 1000 to 1003 or 1007 to 1014, or from 3000 to 4999 for codes of your own"
    assert notes(1006, "") == [f"close code 1006 can't be sent; {codes}"]
    assert notes(1000, "é" * 62) == ["the reason has 124 bytes in UTF-8; at most 123 can be sent"]
    for code in (*range(1000, 1004), *range(1007, 1015), 3000, 4999):
        Close(code, "").check()
