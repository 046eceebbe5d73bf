"""Links: what the two ends see, and the faults between them."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import CAPACITY, START, FakeSocket, Link, MemorySocket, advance, idle, virtual


def link(delay: float = 0.0, chunk: int | Callable[[int], int] | None = None, capacity: int = CAPACITY) -> Link:
    return Link(asyncio.get_running_loop(), delay=delay, chunk=chunk, capacity=capacity)


def drain(sock: MemorySocket) -> list[bytes]:
    """Read until nothing is left, and return the reads."""
    reads = []
    while sock.readable and (data := sock.recv(100_000)):
        reads.append(data)
    return reads


def full(sock: MemorySocket) -> bool:
    return not sock.writable


class Watch:
    """Reads a socket whenever it is readable, and remembers when."""

    def __init__(self, sock: MemorySocket) -> None:
        self.sock = sock
        self.seen: list[tuple[float, bytes]] = []
        sock.add_reader(self.read)

    def read(self) -> None:
        data = self.sock.recv(100)
        self.seen.append((asyncio.get_running_loop().time() - START, data))
        if not data:
            self.sock.remove_reader()


# Without faults.


@virtual
async def test_bytes_arrive_at_once_and_in_order() -> None:
    ends = link()
    assert ends.client.send(b"hello ") == 6
    assert ends.client.send(memoryview(b"world")) == 5
    assert ends.server.recv(7) == b"hello w"
    assert ends.server.recv(100) == b"orld"
    with pytest.raises(BlockingIOError):
        ends.server.recv(100)


@virtual
async def test_several_buffers_are_sent_as_one() -> None:
    ends = link(capacity=5)
    assert ends.client.sendmsg([b"ab", memoryview(b"cd"), b"ef", b"gh"]) == 5
    assert ends.server.recv(100) == b"abcde"
    assert ends.client.sendmsg([]) == 0
    assert ends.client.send(b"") == 0


@virtual
async def test_buffers_are_finite() -> None:
    ends = link(capacity=10)
    assert ends.client.send(bytes(100)) == 10
    assert full(ends.client)
    with pytest.raises(BlockingIOError):
        ends.client.send(b"x")
    ends.server.recv(3)
    assert not full(ends.client)
    assert ends.client.send(bytes(100)) == 3
    assert ends.server.writable


@virtual
async def test_the_end_comes_after_the_data() -> None:
    ends = link()
    ends.client.send(b"x")
    ends.client.shutdown()
    ends.client.shutdown()
    assert ends.server.recv(100) == b"x"
    assert ends.server.recv(100) == b""
    assert ends.server.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        ends.client.send(b"y")
    assert ends.server.send(b"the other way") == 13
    assert ends.client.recv(100) == b"the other way"


@virtual
async def test_closing_both_ends() -> None:
    ends = link()
    ends.client.close()
    assert ends.server.recv(1) == b""
    states = [ends.closed]
    ends.server.close()
    states.append(ends.closed)
    assert states == [False, True]
    ends.client.close()
    ends.client.reset()
    with pytest.raises(BrokenPipeError):
        ends.client.send(b"x")


@virtual
async def test_closing_with_unread_data_resets() -> None:
    ends = link()
    ends.client.send(b"unread")
    ends.server.send(b"before")
    ends.server.close()
    assert ends.client.recv(100) == b"before"
    with pytest.raises(ConnectionResetError):
        ends.client.recv(100)
    assert ends.client.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        ends.client.send(b"x")
    with pytest.raises(OSError, match="not connected") as caught:
        ends.client.shutdown()
    assert caught.value.errno == errno.ENOTCONN


@virtual
async def test_a_reset_is_told_to_the_writer_if_it_asks_first() -> None:
    ends = link()
    ends.server.reset()
    with pytest.raises(ConnectionResetError):
        ends.client.send(b"x")
    assert ends.client.recv(100) == b""


@virtual
async def test_writing_to_a_closed_end_is_answered_with_a_reset() -> None:
    ends = link()
    ends.server.close()
    assert ends.client.send(b"accepted") == 8
    assert ends.client.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        ends.client.send(b"x")


# Readiness.


@virtual
async def test_a_reader_is_called_while_there_is_something() -> None:
    ends = link()
    calls: list[bytes] = []
    ends.server.add_reader(lambda: calls.append(ends.server.recv(2)))
    assert calls == []
    ends.client.send(b"abcde")
    await idle()
    assert calls == [b"ab", b"cd", b"e"]
    ends.server.remove_reader()
    ends.server.remove_reader()
    ends.client.send(b"x")
    await idle()
    assert len(calls) == 3


@virtual
async def test_a_reader_removed_in_time_is_not_called() -> None:
    ends = link()
    calls: list[bytes] = []
    ends.server.add_reader(lambda: calls.append(ends.server.recv(2)))
    ends.client.send(b"x")
    ends.server.remove_reader()
    await idle()
    assert calls == []


@virtual
async def test_a_writer_is_called_while_there_is_room() -> None:
    ends = link(capacity=4)
    left = [b"abcd", b"efgh", b"ij"]

    def write() -> None:
        ends.client.send(left.pop(0))
        if not left:
            ends.client.remove_writer()

    ends.client.add_writer(write)
    await idle()
    assert len(left) == 2
    watch = Watch(ends.server)
    await idle()
    assert b"".join(data for _, data in watch.seen) == b"abcdefghij"


# Faults.


@virtual
async def test_delay() -> None:
    ends = link(delay=1.5)
    watch = Watch(ends.server)
    ends.client.send(b"a")
    await advance(1)
    ends.client.send(b"b")
    ends.client.close()
    await advance(10)
    assert watch.seen == [(1.5, b"a"), (2.5, b"b"), (2.5, b"")]


@virtual
async def test_a_delay_finer_than_the_clock() -> None:
    ends = link(delay=0.2550690264)
    await advance(0.139863635)
    ends.client.send(b"a")
    await advance(1)
    assert ends.server.recv(10) == b"a"


@virtual
async def test_a_shorter_delay_does_not_overtake() -> None:
    ends = link()
    watch = Watch(ends.server)
    ends.slow(5)
    ends.client.send(b"a")
    ends.slow(1)
    ends.client.send(b"b")
    await advance(10)
    assert watch.seen == [(5, b"ab")]


@virtual
async def test_bytes_on_the_way_take_room() -> None:
    ends = link(delay=1, capacity=10)
    assert ends.client.send(bytes(100)) == 10
    assert full(ends.client)
    await advance(1)
    assert full(ends.client)
    ends.server.recv(4)
    assert ends.client.send(bytes(100)) == 4


@virtual
async def test_a_delayed_reset_comes_after_the_data_on_the_way() -> None:
    ends = link(delay=1)
    ends.client.send(b"x")
    ends.client.reset()
    assert not ends.server.readable
    await advance(1)
    assert ends.server.recv(100) == b"x"
    with pytest.raises(ConnectionResetError):
        ends.server.recv(100)


@virtual
async def test_what_arrives_at_a_closed_end_is_gone_and_frees_the_buffers() -> None:
    ends = link(delay=1, capacity=4)
    ends.client.send(b"abcd")
    ends.server.close()
    await advance(1)
    assert ends.to_server._room == 4
    assert ends.client.recv(1) == b""
    await advance(1)
    with pytest.raises(BrokenPipeError):
        ends.client.send(b"x")


CHUNKS = [
    pytest.param(None, [b"abcdefg"], id="no limit"),
    pytest.param(1, [b"a", b"b", b"c", b"d", b"e", b"f", b"g"], id="1"),
    pytest.param(3, [b"abc", b"def", b"g"], id="3"),
    pytest.param(lambda _: 0, [b"a", b"b", b"c", b"d", b"e", b"f", b"g"], id="never nothing"),
    pytest.param(lambda available: available - 2, [b"abcde", b"f", b"g"], id="function"),
]


@pytest.mark.parametrize(("chunk", "reads"), CHUNKS)
@virtual
async def test_chunks(chunk: int | Callable[[int], int] | None, reads: list[bytes]) -> None:
    ends = link(chunk=chunk)
    ends.client.send(b"abcdefg")
    assert drain(ends.server) == reads


@virtual
async def test_hold_and_release() -> None:
    ends = link(capacity=4)
    ends.hold()
    assert ends.client.send(b"abcdef") == 4
    assert full(ends.client)
    ends.client.close()
    await advance(100)
    assert not ends.server.readable
    ends.release()
    assert drain(ends.server) == [b"abcd"]
    assert ends.server.recv(1) == b""


@virtual
async def test_held_bytes_are_delayed_from_when_they_were_sent() -> None:
    ends = link(delay=10)
    watch = Watch(ends.server)
    ends.hold()
    ends.client.send(b"x")
    await advance(4)
    ends.release()
    await advance(10)
    assert watch.seen == [(10, b"x")]


@virtual
async def test_one_direction_can_be_held() -> None:
    ends = link()
    ends.to_client.hold()
    ends.client.send(b"a")
    ends.server.send(b"b")
    assert ends.server.recv(1) == b"a"
    assert not ends.client.readable


@virtual
async def test_drop_loses_what_has_not_arrived() -> None:
    ends = link(delay=1, capacity=4)
    ends.client.send(b"ab")
    await advance(1)
    ends.client.send(b"cd")
    ends.drop()
    assert not full(ends.client)
    assert ends.client.send(b"efgh") == 4
    assert ends.client.send(b"ijkl") == 4
    ends.client.close()
    await advance(100)
    assert ends.server.recv(100) == b"ab"
    assert not ends.server.readable


@virtual
async def test_reset_reaches_both_ends_at_once() -> None:
    ends = link(delay=1)
    ends.client.send(b"lost")
    ends.server.send(b"lost")
    ends.server.shutdown()
    ends.hold()
    ends.reset()
    for sock in (ends.client, ends.server):
        with pytest.raises(ConnectionResetError):
            sock.recv(100)
    await advance(5)
    assert ends.client.recv(100) == b""


@virtual
async def test_a_program_that_does_not_read() -> None:
    ends = link(capacity=4)
    watch = Watch(ends.server)
    ends.server.stop_reading()
    assert ends.client.send(b"abcdef") == 4
    await idle()
    assert watch.seen == []
    assert full(ends.client)
    ends.server.resume_reading()
    await idle()
    assert watch.seen == [(0, b"abcd")]
    assert not full(ends.client)


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=10), st.sampled_from([0.0, 0.5, 2.0])), max_size=10),
    st.integers(1, 5),
    st.integers(1, 8),
)
@virtual
async def test_whatever_the_network_does_the_stream_stays_the_same(
    writes: list[tuple[bytes, float]], chunk: int, capacity: int
) -> None:
    ends = link(chunk=chunk, capacity=capacity)
    watch = Watch(ends.server)
    for data, delay in writes:
        ends.slow(delay)
        while data:
            if not ends.client.writable:
                await advance(3)
            data = data[ends.client.send(data) :]
    ends.client.close()
    await advance(10)
    assert b"".join(data for _, data in watch.seen) == b"".join(data for data, _ in writes)
    assert watch.seen[-1][1] == b""
    assert all(len(data) <= chunk for _, data in watch.seen)


# What stands in for a socket object.

FAMILIES = [
    pytest.param(("127.0.0.1", 1), socket.AF_INET, id="IPv4"),
    pytest.param(("::1", 1, 0, 0), socket.AF_INET6, id="IPv6"),
    pytest.param("/path", getattr(socket, "AF_UNIX", 1), id="Unix"),
]


@pytest.mark.parametrize(("address", "family"), FAMILIES)
def test_families(address: tuple[str, int] | str, family: int) -> None:
    assert FakeSocket(address).family == family


def test_a_listening_socket_has_no_peer() -> None:
    sock = FakeSocket(("127.0.0.1", 80))
    assert sock.getsockname() == ("127.0.0.1", 80)
    assert sock.fileno() == -1
    with pytest.raises(OSError, match="not connected"):
        sock.getpeername()


def test_options_are_remembered() -> None:
    sock = FakeSocket(("127.0.0.1", 80))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    assert sock.options == {(socket.IPPROTO_TCP, socket.TCP_NODELAY): 1}


@virtual
async def test_representations_name_the_addresses() -> None:
    ends = link()
    assert repr(ends) == "<Link ('127.0.0.1', 50000) -> ('127.0.0.1', 80)>"
    assert repr(ends.server) == "<MemorySocket ('127.0.0.1', 80) -> ('127.0.0.1', 50000)>"
