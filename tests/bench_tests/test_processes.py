"""The parts of the benchmark that talk: processes, sockets, interpreters."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import certificates, children, contenders, load
from bench.cases import CASES, choose
from bench.children import Child, ChildFailed, processors
from bench.contenders import Contender, Unusable, child_environment, our_contenders, peer_contenders, probe
from bench.measure import measure
from bench.streams import Poll, Stream
from bench.wire import FIN, MASK, RSV1, TEXT, Traffic, compressed, frame

SOURCE = str(Path(__file__).parents[2] / "src")

# ------------------------------------------------------------------------------------------------------------- children


def child(program: str) -> Child:
    return Child([sys.executable, "-c", program], os.environ)


def test_child_answers() -> None:
    with child("while True: print('{\"said\": %s}' % input(), flush=True)") as process:
        assert process.ask(amount=2) == {"said": {"amount": 2}}
        assert process.ask() == {"said": {}}
        assert process.memory() > 1000


def test_child_whose_cpu_time_the_kernel_knows() -> None:
    with child("input(); sum(range(2000000)); print('{}', flush=True); input()") as process:
        before = process.cpu()
        process.ask()
        after = process.cpu()
    # Other systems don't have it, and then say so.
    expected = sys.platform == "linux"
    assert (before is not None and after is not None and after > before) is expected


def test_elsewhere_memory_comes_from_ps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(children, "PROC", tmp_path)
    with child("input()") as process:
        assert process.cpu() is None
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ChildFailed, match="does not tell how much memory"):
            process.memory()
        command = tmp_path / "ps"
        command.write_text('#!/bin/sh\necho "  2048"\n', "ascii")
        command.chmod(0o755)
        assert process.memory() == 2048


def test_elsewhere_a_server_tells_its_cpu_time_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    monkeypatch.setattr(children, "PROC", tmp_path)
    (case,) = choose(CASES, ["server-echo-256B"])
    ours = Contender("ours-python", "ours", "websockets", sys.executable)
    found = measure(ours, case, "asyncio", 0.02, sys.executable)
    assert found.cost > 0
    assert found.busy is not None
    assert 0 < found.busy < 1.1


def test_a_server_that_fails_tells_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The bare protocol cannot broadcast, and all that the other side sees is the end of the connection.
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    (case,) = choose(CASES, ["broadcast"])
    bare = Contender("bare", "bare", "bare", sys.executable)
    with pytest.raises(ChildFailed, match="EOFError: .*; the server: NotImplementedError$"):
        measure(bare, replace(case, connections=1), "asyncio", 1, sys.executable)


def test_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    for usable, expected in (({5, 2, 3}, (2, 5)), ({4}, (None, None))):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, usable=usable: usable, raising=False)
        assert processors() == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    assert processors() == (None, None)


def test_child_that_fails_tells_why() -> None:
    with child("import sys; sys.exit('no library here')") as process:
        with pytest.raises(ChildFailed, match="^no library here$"):
            process.ask(amount=1)


def test_child_that_ends_without_a_word() -> None:
    with child("raise SystemExit(3)") as process:
        with pytest.raises(ChildFailed, match="it ended with status 3 and without a word"):
            process.answer()


def test_child_that_babbles() -> None:
    with child("print('hello')") as process:
        with pytest.raises(ChildFailed, match="it printed 'hello'"):
            process.answer()


# -------------------------------------------------------------------------------------------------------------- streams


def test_stream_sends_later_what_does_not_fit() -> None:
    poll = Poll()
    left, right = socket.socketpair()
    received = bytearray()
    sender = Stream(poll, left, lambda: None)
    receiver = Stream(poll, right, lambda: received.extend(receiver.read()))
    # More than any socket buffers, and all of it different.
    first, second = (b"".join(number.to_bytes(4) for number in range(at, at + 1_000_000)) for at in (0, 1_000_000))
    sender.write(first)
    sender.write(second)
    assert sender.rest
    while len(received) < len(first) + len(second):
        poll.turn()
    assert received == first + second
    assert not sender.rest
    sender.close()
    with pytest.raises(EOFError):
        receiver.read()
    receiver.close()
    poll.selector.close()


# ----------------------------------------------------------------------------------------------------------------- load


@pytest.mark.parametrize("deflate", [False, True])
def test_load_wants_its_message_back(deflate: bool) -> None:
    (case,) = choose(CASES, ["server-json-1KB-*" if deflate else "server-echo-256B"])
    traffic = Traffic(case, MASK)
    left, right = socket.socketpair()
    with left, right:
        (payload,) = [message.encode() for message in traffic.messages[:1]]
        right.sendall(frame(FIN | RSV1 | TEXT, compressed(payload)) if deflate else frame(FIN | TEXT, payload))
        load.exchange_first(left, traffic)
        assert right.recv(1 << 16) == traffic.frames[0]


@pytest.mark.parametrize(
    "answer",
    [frame(FIN | TEXT, b"x" * 256), frame(FIN | TEXT, b"["), frame(FIN | 0x8, b"\x03\xf1"), b""],
    ids=["other text", "less", "Close", "nothing"],
)
def test_load_refuses_what_is_not_an_echo(answer: bytes) -> None:
    (case,) = choose(CASES, ["server-echo-256B"])
    left, right = socket.socketpair()
    with left, right:
        right.sendall(answer)
        right.shutdown(socket.SHUT_WR)
        with pytest.raises(ValueError, match="the server (answered|closed)"):
            load.exchange_first(left, Traffic(case, MASK))


# --------------------------------------------------------------------------------------------------------- interpreters


def test_probe_finds_this_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    found = probe(sys.executable)
    assert found["twin"] in ("native", "python")
    names = [contender.name for contender in our_contenders(sys.executable, found)]
    assert names == ["ours", "ours-python", "bare"][names[0] != "ours" :]
    # What is ours is no peer of ours.
    assert "websockets" not in [contender.name for contender in peer_contenders(sys.executable, found)]


def test_probe_of_what_is_no_interpreter(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="cannot be run"):
        probe(str(tmp_path / "python"))


def test_interpreter_without_this_library() -> None:
    with pytest.raises(Unusable, match="does not have this library: install it there"):
        list(our_contenders("python", {"packages": {"websockets": "17.4"}}))


def test_peers_of_an_interpreter() -> None:
    found = {"packages": {"websockets": "17.4", "picows": "2.3.1", "uvloop": "0.23.0"}}
    websockets, picows = peer_contenders("python", found)
    assert (websockets.label, websockets.loops) == ("websockets 17.4", ("asyncio", "uvloop", "threads"))
    echo, deflate = choose(CASES, ["server-echo-256B", "server-json-1KB-*"])
    assert websockets.can(deflate)
    assert picows.can(echo)
    assert not picows.can(deflate)


def test_peers_in_threads() -> None:
    found = {"packages": {"websocket-client": "1.9.0", "aiohttp": "3.14.5"}}
    aiohttp, client = peer_contenders("python", found)
    assert (aiohttp.loops, client.loops) == (("asyncio",), ("threads",))
    echo, sent, deflate = choose(CASES, ["server-echo-256B", "client-echo-256B", "client-json-1KB-*"])
    assert client.can(sent, "threads")
    assert not client.can(echo, "threads")
    assert not client.can(deflate, "threads")


@pytest.mark.parametrize("library", ["websockets", "bare"])
@pytest.mark.parametrize("role", ["server", "client"])
def test_threads_are_measured(library: str, role: str) -> None:
    (case,) = choose(CASES, [f"{role}-echo-256B"])
    found = measure(
        Contender("ours", "ours", library, sys.executable, ("threads",)), case, "threads", 0.05, sys.executable
    )
    assert found.cost > 0


def test_path_of_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "some/where")
    ours = child_environment({"WEBSOCKETS_ACCELERATOR": "python"})
    assert ours["PYTHONPATH"] == os.pathsep.join([str(contenders.TESTS), str(tmp_path / "some" / "where")])
    assert ours["WEBSOCKETS_ACCELERATOR"] == "python"
    # It would lead a peer's interpreter to our library.
    assert child_environment({}, keep_path=False)["PYTHONPATH"] == str(contenders.TESTS)


def test_no_certificate_without_openssl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(certificates.NoCertificate, match="there is no openssl command to make one"):
        certificates.make_certificate(tmp_path)
