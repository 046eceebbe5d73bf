"""Traces of OpenTelemetry, with its SDK: which span is below which, and what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployment.programs import EXAMPLES, TIMEOUT, packages

TRACED = Path(__file__).with_name("traced.py")
SERVER, CLIENT = (EXAMPLES / "tracing" / name for name in ("server.py", "client.py"))

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def spans(headers: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The spans of two conversations, in the order in which they ended."""
    command: list[str | Path] = [sys.executable, TRACED, SERVER, CLIENT, json.dumps(headers)]
    done = subprocess.run(command, env={**os.environ, **packages()}, capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    result: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_spans() -> None:
    message, *others, failed = spans([("traceparent", PARENT)])
    # The client's span ends when the server has answered its Close, or after the server's.
    conversation, connection = sorted(others, key=lambda span: span["name"], reverse=True)
    assert [span["name"] for span in (message, conversation, connection)] == ["message", "conversation", "connection"]
    # The context went through the headers of the opening handshake.
    assert connection["trace"] == conversation["trace"]
    assert connection["parent"] == conversation["id"]
    assert (connection["kind"], connection["status"]) == ("SERVER", "UNSET")
    assert connection["attributes"]["websocket.close_code"] == 1000
    # A message is a trace of its own, which tells the connection.
    assert message["parent"] is None
    assert message["trace"] != connection["trace"]
    assert message["links"] == [connection["id"]]
    assert message["attributes"] == {"messaging.message.body.size": len("Hello!")}

    assert f"00-{failed['trace']:032x}-{failed['parent']:016x}-01" == PARENT
    assert failed["status"] == "ERROR"
    assert failed["attributes"]["websocket.close_code"] == 4000


@pytest.mark.parametrize(
    "headers",
    [[], [("traceparent", "nonsense")], [("traceparent", "nonsense"), ("traceparent", "more of it")]],
    ids=["none", "nonsense", "twice"],
)
def test_no_context_from_the_client(headers: list[tuple[str, str]]) -> None:
    *_, connection = spans(headers)
    assert (connection["name"], connection["parent"]) == ("connection", None)
