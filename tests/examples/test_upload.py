"""Uploads: content and reports, one message or several, limits, what is left of files that never came whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import upload_client
import upload_server as uploads
from upload_server import MAX_FILE, PATIENCE, REFUSED, STEP, upload_server

from _kit import virtual
from examples.visits import hear, tell, uri
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

CONTENT = bytes(range(256)) * (4 * STEP // 256) + b"rest"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@contextlib.asynccontextmanager
async def sender(folder: Path, **announcement: Any) -> AsyncIterator[ClientConnection]:
    """A connection to a server; if something is announced, it was taken."""
    async with upload_server(folder, "127.0.0.1", 0) as server, connect(uri(server, "/upload")) as websocket:
        if announcement:
            await tell(websocket, announcement)
            assert await hear(websocket) == {"received": 0}
        yield websocket


async def refusal(websocket: ClientConnection) -> str:
    """Why the server ends the connection."""
    with pytest.raises(ConnectionClosedError):
        assert [message async for message in websocket] == []
    assert websocket.close_code == REFUSED
    assert websocket.close_reason is not None
    return websocket.close_reason


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("content", [CONTENT, b"x", b""], ids=len)
@virtual
async def test_client(content: bytes, tmp_path: Path) -> None:
    path, folder = tmp_path / "näme.bin", tmp_path / "uploads"
    path.write_bytes(content)
    reports: list[tuple[int, int]] = []
    async with upload_server(folder, "127.0.0.1", 0) as server:
        report = await upload_client.upload(uri(server, "/upload"), path, lambda *report: reports.append(report))
    assert contents(folder) == {"näme.bin": content}
    assert report == {"received": len(content), "saved": path.name, "sha256": hashlib.sha256(content).hexdigest()}
    assert len(reports) == len(content) // STEP + 1
    assert reports == sorted(reports)
    assert reports[-1] == (len(content), len(content))


@virtual
async def test_content_in_several_messages_and_fragments(tmp_path: Path) -> None:
    async with sender(tmp_path, name="a.bin", size=len(CONTENT)) as websocket:
        await websocket.send(CONTENT[:1000])
        await websocket.send(b"")
        await websocket.send([CONTENT[1000:2000], CONTENT[2000:5000]])
        await websocket.send([CONTENT[5000:10_000], b"", CONTENT[10_000 : 2 * STEP]])
        await websocket.send([CONTENT[2 * STEP : 3 * STEP], CONTENT[3 * STEP :]])
        report = {"received": 0}
        while "saved" not in report:
            report = await hear(websocket)
        assert report == {"received": len(CONTENT), "saved": "a.bin", "sha256": DIGEST}
        # The next one, of the same name, doesn't replace it.
        await tell(websocket, {"name": "a.bin", "size": 3})
        assert await hear(websocket) == {"received": 0}
        await websocket.send("abc")
        assert (await hear(websocket))["saved"] == "a (2).bin"
    assert contents(tmp_path) == {"a.bin": CONTENT, "a (2).bin": b"abc"}


ANNOUNCEMENTS: list[tuple[Any, str]] = [
    ("{", "that is no JSON"),
    ("[]", "a name and a size are needed first"),
    ('{"name": "a", "size": "1"}', "a name and a size are needed first"),
    ("x" * 2000, "a name and a size are needed first"),
    *(
        (json.dumps({"name": name, "size": 1}), "a file can't have that name here")
        for name in ("", ".", "..", ".hidden", "/etc/passwd", "../a", "a/b", "c:\\a", "a\0b", "a\n", "x" * 101)
    ),
    (json.dumps({"name": "a", "size": -1}), f"a file may have {MAX_FILE} bytes at most"),
    (json.dumps({"name": "a", "size": MAX_FILE + 1}), f"a file may have {MAX_FILE} bytes at most"),
]


@pytest.mark.parametrize(("text", "reason"), ANNOUNCEMENTS)
@virtual
async def test_refused(text: str, reason: str, tmp_path: Path) -> None:
    async with sender(tmp_path) as websocket:
        await websocket.send(text)
        assert await refusal(websocket) == reason
    assert contents(tmp_path) == {}


@virtual
async def test_more_than_announced(tmp_path: Path) -> None:
    async with sender(tmp_path, name="a", size=10) as websocket:
        await websocket.send(b"x" * 11)
        assert await refusal(websocket) == "the file was to have 10 bytes"
    assert contents(tmp_path) == {}


@virtual
async def test_no_progress(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with sender(tmp_path, name="a", size=10) as websocket:
        await asyncio.sleep(PATIENCE - 1)
        await websocket.send(b"x")
        last = loop.time()
        await asyncio.sleep(PATIENCE - 1)
        await websocket.send(b"")
        assert await refusal(websocket) == f"nothing came for {PATIENCE} seconds"
        assert loop.time() == last + PATIENCE
    assert contents(tmp_path) == {}


@virtual
async def test_lost_connection(tmp_path: Path) -> None:
    async with sender(tmp_path, name="a", size=10) as websocket:
        await websocket.send(b"x")
        websocket.transport.abort()
        await websocket.wait_closed()
    assert contents(tmp_path) == {}


@virtual
async def test_client_learns_of_a_refusal_while_it_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    path.write_bytes(CONTENT)
    folder = tmp_path / "uploads"

    async def refuse(*arguments: object) -> str:
        await asyncio.sleep(1)
        raise uploads.Refused("the disk is full")

    monkeypatch.setattr(uploads.Uploads, "receive", refuse)
    async with upload_server(folder, "127.0.0.1", 0) as server:
        with pytest.raises(ConnectionClosedError, match="the disk is full"):
            await upload_client.upload(uri(server, "/upload"), path, print)
