"""What the logger of a connection adds to the lines of the protocol."""

from __future__ import annotations

import logging
import re
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from websockets._session.log_lines import ConnectionLogger
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Close


class Connection:
    """A connection as the log sees it."""

    id = "6f"

    def __init__(self, address: Any, path: str | None = "/100%") -> None:
        self.remote_address = address
        self.request = None if path is None else SimpleNamespace(path=path, method="PUT")
        self.statistics = SimpleNamespace(messages_received=3, messages_sent=4)
        self.close_exc = ConnectionClosedOK(Close(1000, "100%"), Close(1000, ""), True)


def logger_of(connection: Connection) -> ConnectionLogger:
    return ConnectionLogger(logging.getLogger("test"), weakref.proxy(connection))


REFUSED = [
    ("connection rejected (%d %s)", (403, "Forbidden"), "connection rejected (403 Forbidden)"),
    ("HTTP response sent (%d %s)", (200, "OK"), "HTTP response sent (200 OK)"),
    ("opening handshake failed: %s", ("too late",), "opening handshake failed: too late"),
]


@pytest.mark.parametrize(("line", "arguments", "begin"), REFUSED)
def test_refused(line: str, arguments: Any, begin: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test")
    for connection, end in (
        (Connection(("::1", 80, 0, 0)), "[::1]:80 PUT /100%, id 6f"),
        (Connection("", None), "unix no valid request, id 6f"),
        (Connection(None), "unknown PUT /100%, id 6f"),
    ):
        logger_of(connection).info(line, *arguments)
        assert caplog.messages.pop() == f"{begin}: {end}"


def test_opened_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test")
    connection = Connection(("127.0.0.1", 80))
    logger = logger_of(connection)
    story = "received 1000 (OK) 100%; then sent 1000 (OK)"
    logger.info("connection closed")
    assert caplog.messages[-1] == f"connection closed: 127.0.0.1:80, {story}, messages: 3 received, 4 sent, id 6f"
    logger.info("connection open")
    assert caplog.messages[-1] == "connection open: 127.0.0.1:80 /100%, id 6f"
    logger.info("connection closed")
    assert re.search(r", \d+\.\d s, messages: 3 received", caplog.messages[-1])
    assert vars(caplog.records[-1])["websocket"].id == "6f"


def test_other_lines_and_connections_that_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test")
    connection = Connection(("127.0.0.1", 80))
    logger = logger_of(connection)
    logger.info("mine %s", 1)
    del connection
    logger.info("connection open")
    assert caplog.messages == ["mine 1", "connection open"]


def test_adapters_of_programs_get_the_lines_that_they_know(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "test")
    connection = Connection(None)
    adapter = logging.LoggerAdapter(logging.getLogger("test"), {})
    ConnectionLogger(adapter, weakref.proxy(connection)).info("connection open")
    assert caplog.messages == ["connection open"]


def test_lines_that_are_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """Programs may log objects through the logger of a connection."""
    caplog.set_level(logging.INFO, "test")
    connection = Connection(None)
    logger_of(connection).info({"unhashable": 1})
    assert caplog.messages == ["{'unhashable': 1}"]
