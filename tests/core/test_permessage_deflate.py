"""permessage-deflate, RFC 7692: what it makes of messages, what it refuses, and how it is negotiated."""

from __future__ import annotations

import gc
import itertools
import json
import random
import re
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import websockets.extensions
from _kit import wire
from websockets.exceptions import (
    DuplicateParameter,
    InvalidParameterName,
    InvalidParameterValue,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
)
from websockets.extensions import _libraries
from websockets.extensions._deflate import MESSAGE_END
from websockets.extensions.base import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
    enable_client_permessage_deflate,
    enable_server_permessage_deflate,
)
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

# Each choice of libraries: what compresses large messages, and what inflates.
CHOICES: dict[str, tuple[Any, Any]] = {"zlib": (None, zlib)}
if _libraries.INFLATES is not zlib or _libraries.COMPRESSES is not None:
    CHOICES["others"] = _libraries.COMPRESSES, _libraries.INFLATES


@pytest.fixture(scope="module", autouse=True, params=[*CHOICES.values()], ids=[*CHOICES])
def choice(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything holds with each choice, whichever are installed."""
    with pytest.MonkeyPatch.context() as patching:
        for name, library in zip(("COMPRESSES", "INFLATES"), request.param, strict=True):
            patching.setattr(_libraries, name, library)
        yield


TAIL = b"\x00\x00\xff\xff"
CUT_OFF = "compressed message is cut off in the middle of a block"


def deflate(**changes: Any) -> PerMessageDeflate:
    """An extension that remembers both ways, with windows of 32 KiB, but for the changes."""
    parameters: dict[str, Any] = {
        "remote_no_context_takeover": False,
        "local_no_context_takeover": False,
        "remote_max_window_bits": 15,
        "local_max_window_bits": 15,
    }
    return PerMessageDeflate(**parameters | changes)


def compressed(*parts: bytes, flush: int = zlib.Z_SYNC_FLUSH, **settings: Any) -> bytes:
    """The output of plain zlib, before a peer cuts off the tail; a block or more for each part."""
    settings.setdefault("wbits", -15)
    compressor = zlib.compressobj(**settings)
    start = b"".join(compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH) for part in parts[:-1])
    return start + compressor.compress(parts[-1]) + compressor.flush(flush)


def message(*parts: bytes, **settings: Any) -> bytes:
    """The same as it travels."""
    return compressed(*parts, **settings).removesuffix(TAIL)


def stored(data: bytes, final: bool = False) -> bytes:
    """A block without compression."""
    return bytes([final]) + len(data).to_bytes(2, "little") + (len(data) ^ 0xFFFF).to_bytes(2, "little") + data


def inflate(extension: PerMessageDeflate, fragments: Iterable[bytes], max_size: int | None = None) -> bytes:
    """The content of a message that arrives in these fragments."""
    *first, last = fragments
    content = b"".join(extension.decompress(fragment, False, max_size) for fragment in first)
    return content + extension.decompress(last, True, max_size)


def held(extension: PerMessageDeflate) -> list[object]:
    """What the extension keeps in memory because of messages."""
    parts = (extension._compressor, extension._decompressor, extension._window)
    return [part for part in parts if part is not None]


def whole(payload: bytes) -> list[bytes]:
    return [payload]


def bytewise(payload: bytes) -> list[bytes]:
    return [payload[i : i + 1] for i in range(len(payload))] or [b""]


def apart(payload: bytes) -> list[bytes]:
    return [b"", payload[:3], b"", payload[3:], b""]


CHUNKINGS = [whole, bytewise, apart]


def text(size: int, seed: int = 0) -> bytes:
    """JSON such as people send, of about this size."""
    rand = random.Random(seed)
    records = ({"id": rand.randrange(10**6), "value": rand.random()} for _ in range(size // 40))
    return json.dumps(list(records)).encode()


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


# What RFC 7692 section 7.2.3 shows, and a few more: the payloads, and the contents.


RFC_EXAMPLES: dict[str, list[tuple[str, bytes]]] = {
    "7.2.3.1, one block": [("f2 48 cd c9 c9 07 00", b"Hello")],
    "7.2.3.2, sharing the window": [("f2 48 cd c9 c9 07 00", b"Hello"), ("f2 00 11 00 00", b"Hello")],
    "7.2.3.3, no compression": [("00 05 00 fa ff 48 65 6c 6c 6f 00", b"Hello")],
    "7.2.3.4, BFINAL": [("f3 48 cd c9 c9 07 00 00", b"Hello")],
    "7.2.3.5, two blocks": [("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", b"Hello")],
    "7.2.3.6, nothing": [("00", b"")],
    "nothing, in a block with fixed codes": [("02 00", b"")],
    "nothing at all": [("", b"")],
}


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("messages", RFC_EXAMPLES.values(), ids=RFC_EXAMPLES)
def test_examples_of_the_rfc_are_read(
    messages: list[tuple[str, bytes]], chunking: Callable[[bytes], list[bytes]]
) -> None:
    extension = deflate()
    for payload, content in messages:
        assert inflate(extension, chunking(bytes.fromhex(payload))) == content
    # And the next message, whatever the one before was like.
    assert inflate(extension, chunking(message(b"and so on"))) == b"and so on"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("7.2.3.1, one block", {}),
        ("7.2.3.2, sharing the window", {}),
        ("7.2.3.3, no compression", {"compress_settings": {"level": 0}}),
        ("7.2.3.6, nothing", {}),
    ],
)
def test_examples_of_the_rfc_are_written(name: str, parameters: dict[str, Any]) -> None:
    extension = deflate(**parameters)
    for payload, content in RFC_EXAMPLES[name]:
        assert extension.compress(content).hex(" ") == payload


def test_a_peer_that_forgets_is_sent_the_same_again() -> None:
    extension = deflate(local_no_context_takeover=True)
    assert [extension.compress(b"Hello").hex(" ") for _ in range(2)] == ["f2 48 cd c9 c9 07 00"] * 2


def test_messages_without_content_take_a_byte_each() -> None:
    sender, receiver = deflate(), deflate()
    for content in (b"", b"", b"Hello", b"", b""):
        payload = sender.compress(content)
        assert (payload == b"\x00") == (content == b"")
        assert receiver.decompress(payload) == content
        # Some senders don't even send the byte.
        assert receiver.decompress(b"") == b""


def test_fragments_end_with_a_flush_and_the_last_one_without_its_tail() -> None:
    sender, receiver = deflate(), deflate()
    first, second, last = sender.compress(b"Hel", False), sender.compress(b"lo", False), sender.compress(b"")
    assert first.endswith(TAIL)
    assert second.endswith(TAIL)
    assert last == b"\x00"
    # Each fragment can be used as soon as it is there.
    assert receiver.decompress(first, False) == b"Hel"
    assert receiver.decompress(second, False) == b"lo"
    assert receiver.decompress(last, True) == b""


# Laws.


window_bits = st.integers(9, 15)
contents = st.one_of(
    st.binary(max_size=100),
    st.builds(text, st.integers(0, 4000), st.integers(0, 3)),
    st.builds(noise, st.integers(0, 40_000), st.integers(0, 3)),
    st.builds(bytes, st.integers(0, 70_000)),
)
settings_of_zlib = st.fixed_dictionaries(
    {}, optional={"level": st.integers(0, 9), "memLevel": st.integers(1, 9), "strategy": st.integers(0, 4)}
)


def split(payload: bytes, cuts: list[int]) -> list[bytes]:
    """The payload in fragments."""
    places = [0, *sorted(cut % (len(payload) + 1) for cut in cuts), len(payload)]
    return [payload[start:stop] for start, stop in itertools.pairwise(places)]


cuts = st.lists(st.integers(0, 100_000), max_size=4)


@given(
    messages=st.lists(st.tuples(st.lists(contents, min_size=1, max_size=3), cuts), max_size=5),
    bits=window_bits,
    forget=st.booleans(),
    settings=settings_of_zlib,
)
def test_what_one_side_compresses_the_other_inflates(
    messages: list[tuple[list[bytes], list[int]]], bits: int, forget: bool, settings: dict[str, int]
) -> None:
    sender = deflate(local_no_context_takeover=forget, local_max_window_bits=bits, compress_settings=settings)
    receiver = deflate(remote_no_context_takeover=forget, remote_max_window_bits=bits)
    for parts, where in messages:
        fragments = [sender.compress(part, False) for part in parts[:-1]] + [sender.compress(parts[-1])]
        content = b"".join(parts)
        # Boundaries of fragments mean nothing to the stream: anything between may have moved them.
        assert inflate(receiver, split(b"".join(fragments), where), len(content)) == content


@given(messages=st.lists(contents, max_size=4), bits=window_bits, forget=st.booleans(), settings=settings_of_zlib)
def test_what_is_compressed_is_what_zlib_reads_in_one_go(
    messages: list[bytes], bits: int, forget: bool, settings: dict[str, int]
) -> None:
    sender = deflate(local_no_context_takeover=forget, local_max_window_bits=bits, compress_settings=settings)
    payloads = [sender.compress(content) + TAIL for content in messages]
    if forget:
        assert [zlib.decompressobj(-bits).decompress(payload) for payload in payloads] == messages
    else:
        assert zlib.decompressobj(-bits).decompress(b"".join(payloads)) == b"".join(messages)


@given(parts=st.lists(contents, min_size=1, max_size=4), where=cuts, settings=settings_of_zlib)
def test_what_zlib_compresses_in_one_go_is_inflated(
    parts: list[bytes], where: list[int], settings: dict[str, int]
) -> None:
    payload = message(*parts, **settings) or b"\x00"
    assert inflate(deflate(), split(payload, where)) == b"".join(parts)


@given(payloads=st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=4), limit=st.integers(0, 500))
@example(payloads=[(b"\x05", True)], limit=10)
def test_whatever_arrives_is_inflated_within_the_limit_or_refused(
    payloads: list[tuple[bytes, bool]], limit: int
) -> None:
    extension = deflate()
    for payload, fin in payloads:
        try:
            assert len(extension.decompress(payload, fin, limit)) <= limit
        except (ProtocolError, PayloadTooBig):
            assert extension._decompressor is None


def outcome(extension: PerMessageDeflate, payload: bytes, fin: bool, limit: int | None) -> tuple[object, ...]:
    """The content of a payload, or how it is refused; and the window that is kept because of it."""
    try:
        result: tuple[object, ...] = (extension.decompress(payload, fin, limit),)
    except (ProtocolError, PayloadTooBig) as exc:
        result = type(exc), str(exc), getattr(exc, "close_code", None), str(exc.__cause__)
    return *result, extension._decompressor is None, extension._window, extension._pending, extension._finished


@st.composite
def payloads_of_a_peer(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """Payloads of a peer that flushes in any way, some of them cut off or spoilt."""
    sender = zlib.compressobj(wbits=-15)
    payloads = []
    for content, finish, spoil in draw(st.lists(st.tuples(contents, st.booleans(), st.integers(0, 5)), max_size=6)):
        payload = sender.compress(content) + sender.flush(zlib.Z_FINISH if finish else zlib.Z_SYNC_FLUSH)
        payload = payload.removesuffix(TAIL)
        sender = zlib.compressobj(wbits=-15) if finish else sender
        place = draw(st.integers(0, len(payload)))
        if spoil == 1:
            payload = payload[:place]
        elif spoil == 2:
            payload = payload[:place] + b"\x05" + payload[place + 1 :]
        elif spoil == 3:
            payload += stored(b"", final=True)[:place]
        payloads.append((payload, draw(st.sampled_from([True, True, True, False]))))
    return payloads


@given(payloads=payloads_of_a_peer(), limit=st.sampled_from([None, 0, 1, 100, 5000, 2**20, sys.maxsize]))
@example(payloads=[(b"\x00", True), (b"\x01", True), (b"\x03\x00", True), (b"\x05", True)], limit=1)
@example(payloads=[(b"\x00", True), (stored(b"a"), False), (b"\x00", True)], limit=1)
def test_the_path_of_most_messages_leads_where_the_general_one_does(
    payloads: list[tuple[bytes, bool]], limit: int | None
) -> None:
    plain, roundabout = deflate(), deflate()
    for payload, fin in payloads:
        if roundabout._decompressor is not None and roundabout._window is None and fin:
            # A peer that keeps a window, even an empty one, takes the general path.
            roundabout._window = bytearray()
        assert outcome(plain, payload, fin, limit) == outcome(roundabout, payload, fin, limit)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_will_do(kind: Callable[[bytes], bytes]) -> None:
    sender, receiver = deflate(), deflate()
    for content in (b"Hello", b"", text(5000)):
        payload = sender.compress(kind(content))
        assert type(payload) is bytes
        inflated = receiver.decompress(kind(payload))
        assert type(inflated) is bytes
        assert inflated == content


# Windows.


def strictly(payload: bytes, bits: int) -> bytes:
    """Inflate in a window of exactly so many bits.

    zlib looks at its window only for what isn't in the output that it writes. A byte at a time, it has nothing else.
    """
    stream = zlib.decompressobj(-bits)
    content = [stream.decompress(payload, 1)]
    while content[-1]:
        content.append(stream.decompress(stream.unconsumed_tail, 1))
    return b"".join(content)


def repeating(bits: int) -> list[bytes]:
    """Messages that tempt a compressor to look back as far as its window reaches, and beyond."""
    size = 2**bits
    periods = [noise(period, seed=period) * 4 for period in (size - 17, size - 7, size - 6, size - 5, size, size + 1)]
    return [*periods, noise(100) + noise(size, 1) + noise(100), text(2000), bytes(1000), b"ab" * 700]


@pytest.mark.scenario(21)
@pytest.mark.parametrize("bits", range(8, 16))
def test_nothing_refers_beyond_the_agreed_window(bits: int) -> None:
    sender, strict = deflate(local_max_window_bits=bits), zlib.decompressobj(-bits)
    block = noise(100, seed=bits)
    for gap in (0, 200, 2**bits, 2**bits + 1000):
        content = block + noise(gap, seed=gap)
        assert strict.decompress(sender.compress(content) + TAIL) == content


@pytest.mark.scenario(21)
@pytest.mark.parametrize("bits", range(8, 12))
def test_nor_where_it_would_be_worth_while(bits: int) -> None:
    sender, content = deflate(local_max_window_bits=bits), repeating(bits)
    payload = b"".join(sender.compress(part) + TAIL for part in content)
    assert strictly(payload, bits) == b"".join(content)


@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_RLE, zlib.Z_FIXED])
@pytest.mark.parametrize("level", range(1, 10))
def test_a_window_of_8_bits_holds_for_any_settings(level: int, strategy: int) -> None:
    for memory in (1, 9):
        settings = {"level": level, "memLevel": memory, "strategy": strategy}
        sender = deflate(local_max_window_bits=8, compress_settings=settings)
        parts = repeating(8)[:7]
        payload = b"".join(sender.compress(part) + TAIL for part in parts)
        assert strictly(payload, 8) == b"".join(parts)


def test_what_refers_beyond_a_window_would_show() -> None:
    payload = stored(noise(512)) + copy_of_three(385)
    assert strictly(payload, 9) == noise(512) + noise(512)[127:130]
    with pytest.raises(zlib.error, match="too far back"):
        strictly(payload, 8)


def copy_of_three(distance: int, final: bool = False) -> bytes:
    """A block that repeats three bytes from 385 to 512 bytes ago, and what goes before a tail.

    zlib itself never goes back as far as its window reaches.
    """
    fixed = "1" * final + "0" * (not final) + "10"
    end_of_block, empty_block = "0000000", "000"
    distance_code = "10001" + format(distance - 385, "07b")[::-1]
    bits = fixed + "0000001" + distance_code + end_of_block + (empty_block if not final else "")
    return int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


@pytest.mark.parametrize("bits", [8, 9])
def test_a_window_of_8_bits_is_given_9(bits: int) -> None:
    """Some peers take 9 when told 8, as zlib itself did."""
    extension = deflate(remote_max_window_bits=bits)
    content = noise(512)
    assert extension.decompress(message(content)) == content
    assert extension.decompress(copy_of_three(512)) == content[:3]


@pytest.mark.parametrize(
    "sizes", [[512], [400, 112], [1024], [700, 400], [5000], *([size] * 60 for size in range(15, 24))]
)
def test_a_window_reaches_back_over_bfinal_as_far_as_agreed(sizes: list[int]) -> None:
    extension = deflate(remote_max_window_bits=9)
    content = b""
    for seed, size in enumerate(sizes):
        part = noise(size, seed)
        assert extension.decompress(stored(part, final=True)) == part
        content += part
        if len(content) >= 512:
            repeated = content[-512:][:3]
            assert extension.decompress(copy_of_three(512, final=True)) == repeated
            content += repeated


@pytest.mark.parametrize("forget", [False, True])
def test_the_context_of_the_peer_is_kept_only_if_agreed(forget: bool) -> None:
    extension = deflate(remote_no_context_takeover=forget)
    assert extension.decompress(bytes.fromhex("f2 48 cd c9 c9 07 00")) == b"Hello"
    second = bytes.fromhex("f2 00 11 00 00")
    if forget:
        with pytest.raises(ProtocolError, match=r"^decompression failed$"):
            extension.decompress(second)
    else:
        assert extension.decompress(second) == b"Hello"


# Limits.


def under_way() -> PerMessageDeflate:
    """An extension whose stream is there and has no window to keep, as after most messages."""
    extension = deflate()
    assert extension.decompress(message(b"first")) == b"first"
    return extension


@pytest.mark.scenario(48)
@pytest.mark.parametrize("content", [b"", b"x", b"Hello", text(5000), noise(70_000), bytes(1_000_000)])
@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH])
def test_exactly_the_limit_is_accepted_and_a_byte_more_is_not(content: bytes, flush: int) -> None:
    payload = message(content, flush=flush)
    for limit in (len(content), len(content) + 1, sys.maxsize - 1, sys.maxsize, sys.maxsize + 1, None):
        for extension in (deflate(), under_way()):
            assert extension.decompress(payload, True, limit) == content
            # Nothing was left behind.
            assert extension.decompress(message(b"next"), True, 4) == b"next"
    for extension in (deflate(), under_way()):
        with pytest.raises(PayloadTooBig) as caught:
            extension.decompress(payload, True, len(content) - 1)
        assert str(caught.value) == f"frame exceeds limit of {len(content) - 1} bytes"
        assert caught.value.size is None


@pytest.mark.parametrize("size", [1, 100, 2**20])
def test_the_limit_counts_what_comes_after_bfinal_too(size: int) -> None:
    payload = message(bytes(size), flush=zlib.Z_FINISH) + message(bytes(size), flush=zlib.Z_FINISH) + b"\x00"
    assert deflate().decompress(payload, True, 2 * size) == bytes(2 * size)
    for limit in (2 * size - 1, size, size - 1):
        with pytest.raises(PayloadTooBig):
            deflate().decompress(payload, True, limit)


def traced(action: Callable[[], object]) -> int:
    """How much memory an action takes, at most, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# A quarter of a gigabyte in a quarter of a megabyte.
BOMB = message(*[bytes(2**20)] * 256)
BOMB_FINISHED = message(bytes(2**20), flush=zlib.Z_FINISH) * 256
LIMIT = 2**16


@pytest.mark.scenario(47)
@pytest.mark.parametrize("bomb", [BOMB, BOMB_FINISHED], ids=["one stream", "256 streams"])
@pytest.mark.parametrize("limit", [LIMIT, 0, -1])
@pytest.mark.parametrize("make", [deflate, under_way])
def test_a_bomb_takes_little_more_than_the_limit(
    make: Callable[[], PerMessageDeflate], bomb: bytes, limit: int
) -> None:
    extension = make()

    def explode() -> None:
        with pytest.raises(PayloadTooBig):
            extension.decompress(bomb, True, limit)

    # zlib keeps its own copy of the input that it has no room for.
    assert traced(explode) < len(bomb) + 8 * LIMIT
    assert held(extension) == []


@pytest.mark.scenario(47)
def test_a_bomb_in_fragments_takes_little_more_than_the_limit() -> None:
    extension = deflate()
    fragments = split(BOMB, list(range(0, len(BOMB), 40)))

    def explode() -> None:
        room = LIMIT
        for fragment in fragments:
            room -= len(extension.decompress(fragment, False, room))

    def refuse() -> None:
        with pytest.raises(PayloadTooBig):
            explode()

    assert traced(refuse) < 8 * LIMIT
    assert held(extension) == []


# Data that is corrupt or cut off.


@pytest.mark.parametrize(
    "payload",
    ["ff ff", "06", "07", "00 05 00 00 00", "f2 00 11 00 00", "04 00 fe ff"],
    ids=["block type", "block type, the shortest", "block type, BFINAL", "stored length", "distance", "dynamic codes"],
)
@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_corrupt_data_is_a_protocol_error(payload: str, chunking: Callable[[bytes], list[bytes]]) -> None:
    extension = deflate()
    with pytest.raises(ProtocolError) as caught:
        inflate(extension, chunking(bytes.fromhex(payload)))
    assert str(caught.value) == "decompression failed"
    assert isinstance(caught.value.__cause__, _libraries.INFLATES.error)
    assert not hasattr(caught.value, "close_code")
    assert held(extension) == []


def ends_between_blocks(payload: bytes) -> bool:
    """Whether the payload is complete, by means of a last block: zlib says whether it found that one."""
    inflater = zlib.decompressobj(-15)
    inflater.decompress(payload)
    try:
        excess = inflater.decompress(TAIL) + inflater.decompress(b"\x03\x00")
    except zlib.error:
        return False
    return inflater.eof and not excess and not inflater.unused_data


CUT_MESSAGES: dict[str, bytes] = {
    "fixed codes": message(b"Hello, Hello, World!"),
    "dynamic codes": message(text(1000)),
    "dynamic codes, long header": message(text(200), bytes(range(256)) * 2 + text(200), strategy=zlib.Z_HUFFMAN_ONLY),
    "stored": message(noise(100)),
    "several flushes": message(b"Hello", text(400), noise(30), b"", b"Hello"),
    "fixed strategy": message(text(300), strategy=zlib.Z_FIXED),
    "8 bits of code": message(bytes(i for i in range(256) for _ in range(i // 32 + 1))),
}


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("payload", CUT_MESSAGES.values(), ids=CUT_MESSAGES)
def test_a_message_cut_off_in_a_block_is_refused_wherever_it_is_cut(
    payload: bytes, chunking: Callable[[bytes], list[bytes]]
) -> None:
    refused = 0
    for cut in range(1, len(payload)):
        extension = deflate()
        start = payload[:cut]
        if ends_between_blocks(start):
            assert inflate(extension, chunking(start)) == zlib.decompressobj(-15).decompress(start)
            assert extension.decompress(message(b"next")) == b"next"
            continue
        with pytest.raises(ProtocolError, match=CUT_OFF) as caught:
            inflate(extension, chunking(start))
        assert getattr(caught.value, "close_code", None) == 1007
        assert extension._decompressor is None
        refused += 1
    assert refused > len(payload) * 3 // 4


@pytest.mark.parametrize("payload", CUT_MESSAGES.values(), ids=CUT_MESSAGES)
def test_so_is_one_that_comes_after_others(payload: bytes) -> None:
    for cut in range(1, len(payload)):
        start, extension = payload[:cut], under_way()
        if ends_between_blocks(start):
            assert extension.decompress(start) == zlib.decompressobj(-15).decompress(start)
            continue
        with pytest.raises(ProtocolError, match=CUT_OFF):
            extension.decompress(start)


@pytest.mark.parametrize(
    "payload",
    [
        stored(b"0123456789")[:-4],
        compressed(b"Hello"),
        stored(b"Hello"),
        message(b"Hello", flush=zlib.Z_FINISH)[:-1],
        stored(b"Hello", final=True)[:-2],
        stored(b"Hello", final=True)[:-4],
        message(b"Hello", flush=zlib.Z_FINISH) + b"\x00\x00",
    ],
    ids=[
        "stored block, four bytes missing",
        "tail not removed",
        "last block not empty",
        "BFINAL, a byte missing",
        "BFINAL, ends in the tail",
        "BFINAL, ends with the tail",
        "BFINAL, then half a block",
    ],
)
def test_a_tail_that_does_not_fit_is_found_out(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match=CUT_OFF) as caught:
        deflate().decompress(payload)
    assert getattr(caught.value, "close_code", None) == 1007


# Blocks with BFINAL.


def finishing(messages: Iterable[bytes], slide: bool, end: bytes, bits: int = 15) -> Iterator[bytes]:
    """A peer that ends each message with BFINAL and either starts afresh or refers to what it sent before."""
    sent = b""
    for content in messages:
        window = {"zdict": sent[-(2**bits) :]} if slide and sent else {}
        yield message(content, flush=zlib.Z_FINISH, wbits=-bits, **window) + end
        sent += content


@pytest.mark.scenario(50)
@pytest.mark.parametrize("end", [b"", b"\x00"], ids=["bare", "as in 7.2.3.4"])
@pytest.mark.parametrize("slide", [False, True])
@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_the_message_after_bfinal_is_intact(
    end: bytes, slide: bool, forget: bool, bits: int, chunking: Callable[[bytes], list[bytes]]
) -> None:
    extension = deflate(remote_no_context_takeover=forget, remote_max_window_bits=bits)
    messages = [b"Hello", b"Hello", b"", text(500), text(500), b"Hello", noise(2**bits // 2), noise(2**bits // 2)]
    for content, payload in zip(messages, finishing(messages, slide and not forget, end, bits), strict=True):
        assert inflate(extension, chunking(payload), len(content)) == content


def test_a_window_is_slid_over_many_messages_with_bfinal() -> None:
    """More than twice its size, so that what is kept gets cut."""
    extension = deflate(remote_max_window_bits=9)
    messages = [text(200, seed) for seed in range(40)] * 2
    for content, payload in zip(messages, finishing(messages, True, b"\x00", 9), strict=True):
        assert extension.decompress(payload) == content
        assert extension._window is not None
        assert len(extension._window) <= 2 * 512


@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_bfinal_in_the_block_that_the_tail_completes(chunking: Callable[[bytes], list[bytes]]) -> None:
    extension = deflate()
    assert inflate(extension, chunking(bytes.fromhex("f2 48 cd c9 c9 07 04"))) == b"Hello"
    assert inflate(extension, chunking(b"\x01")) == b""
    assert inflate(extension, chunking(message(b"Hello", zdict=b"Hello"))) == b"Hello"


@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_blocks_with_and_without_bfinal_in_one_message(chunking: Callable[[bytes], list[bytes]]) -> None:
    """The next block begins at the next byte and may refer to what came before (RFC 7692 section 7.2.1)."""
    parts = [text(300, 1), text(300, 1), text(3000, 2), text(300, 1), text(3000, 2)]
    payload = b"".join(
        compressed(part, flush=flush, **({"zdict": b"".join(parts[:i])} if i else {}))
        for i, (part, flush) in enumerate(zip(parts, [4, 2, 4, 4, 2], strict=True))
    ).removesuffix(TAIL)
    extension = deflate()
    content = b"".join(parts)
    assert inflate(extension, chunking(payload), len(content)) == content
    assert extension.decompress(message(parts[0], zdict=content)) == parts[0]


@given(
    parts=st.lists(st.tuples(contents, st.booleans()), min_size=1, max_size=6),
    where=cuts,
    bits=window_bits,
)
def test_any_mixture_of_blocks_in_a_first_message_is_inflated(
    parts: list[tuple[bytes, bool]], where: list[int], bits: int
) -> None:
    content, payload = b"", b""
    for part, finish in parts:
        window = {"zdict": content[-(2**bits) :]} if content else {}
        payload += compressed(part, flush=zlib.Z_FINISH if finish else zlib.Z_SYNC_FLUSH, wbits=-bits, **window)
        content += part
    payload = payload if parts[-1][1] else payload.removesuffix(TAIL)
    extension = deflate(remote_max_window_bits=bits)
    assert inflate(extension, split(payload, where), len(content)) == content
    window = {"zdict": content[-(2**bits) :]} if content else {}
    assert extension.decompress(message(b"Hello" + content[-20:], wbits=-bits, **window)) == b"Hello" + content[-20:]


def test_peers_that_never_set_bfinal_pay_nothing_for_it() -> None:
    extension = deflate()
    sender = deflate()
    for content in (b"Hello", text(5000)):
        assert extension.decompress(sender.compress(content)) == content
        assert extension._window is None


def test_bfinal_from_a_peer_that_did_without_before() -> None:
    """It can start afresh; to refer to what came before would have taken setting BFINAL from the first message on."""
    extension = deflate()
    sender = deflate()
    assert extension.decompress(sender.compress(b"before")) == b"before"
    assert extension.decompress(message(b"Hello", flush=zlib.Z_FINISH)) == b"Hello"
    assert extension.decompress(message(b"Hello", zdict=b"Hello")) == b"Hello"
    # From here on it does without again.
    assert extension._window is None
    assert extension.decompress(message(b"last", flush=zlib.Z_FINISH)) == b"last"
    with pytest.raises(ProtocolError, match=r"^decompression failed$"):
        extension.decompress(message(b"before, before", zdict=b"before, before" + b"last"))


def test_a_final_fragment_without_payload_after_bfinal() -> None:
    extension = deflate(remote_no_context_takeover=True)
    assert extension.decompress(message(b"Hello", flush=zlib.Z_FINISH), False) == b"Hello"
    assert extension.decompress(b"", True) == b""
    assert extension._window is None
    assert extension.decompress(message(b"next")) == b"next"


@pytest.mark.scenario(47)
def test_what_was_inflated_and_refused_is_not_kept_by_the_exception() -> None:
    payload = message(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooBig) as caught:
            deflate().decompress(payload, True, 2**20 - 1)
        assert tracemalloc.get_traced_memory()[0] < 2**18
    finally:
        tracemalloc.stop()
    assert caught.value.__traceback__ is not None


# Time.


class Meter:
    """Streams that count the calls, the bytes that zlib is given or copies, and those that it gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = self.bytes = self.output = 0
        make = _libraries.INFLATES.decompressobj
        meter = self

        class Metered:
            def __init__(self, *args: Any) -> None:
                self.stream = make(*args)

            def decompress(self, data: bytes, max_length: int) -> bytes:
                meter.calls += 1
                meter.bytes += len(data)
                output = self.stream.decompress(data, max_length)
                meter.output += len(output)
                return bytes(output)

            @property
            def eof(self) -> bool:
                return bool(self.stream.eof)

            @property
            def unused_data(self) -> bytes:
                meter.bytes += len(self.stream.unused_data)
                return bytes(self.stream.unused_data)

        monkeypatch.setattr(_libraries, "INFLATES", SimpleNamespace(decompressobj=Metered))


EMPTY_BLOCKS: dict[str, bytes] = {
    "stored": stored(b""),
    "fixed codes": bytes.fromhex("02 08 20 80 00"),
    "stored, BFINAL": stored(b"", final=True),
    "fixed codes, BFINAL": b"\x03\x00",
    "a byte, BFINAL": stored(b"x", final=True),
    "large and empty by turns, BFINAL": stored(noise(4000), final=True) + b"\x03\x00",
}


@pytest.mark.scenario(53)
@pytest.mark.parametrize("block", EMPTY_BLOCKS.values(), ids=EMPTY_BLOCKS)
def test_a_hundred_thousand_empty_blocks_cost_linear_time(block: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = block * (200_000 // len(block)) + b"\x00"
    expected = deflate(remote_max_window_bits=9).decompress(payload)
    meter = Meter(monkeypatch)
    assert deflate(remote_max_window_bits=9).decompress(payload, True, len(expected)) == expected
    # In the worst case, 64 bytes are given to zlib, and nearly as many given back, to get on by the two of a block.
    assert meter.bytes < (2 * 64 + 10) * len(payload) // min(len(block), 100) + 4 * len(payload)
    assert meter.calls <= len(payload) // len(block) * 8 + 2


def test_an_ordinary_message_is_given_to_zlib_once(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(monkeypatch)
    extension, payload = deflate(), message(text(100_000))
    for count in (1, 2, 3):
        assert extension.decompress(payload, True, 2**20) == text(100_000)
        assert (meter.calls, meter.bytes) == (2 * count, (len(payload) + len(MESSAGE_END)) * count)


@pytest.mark.parametrize("limit", [0, 1000, 1500, 99_999])
def test_inflation_stops_a_byte_beyond_the_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(monkeypatch)
    for payload in ((stored(bytes(900), final=True) + b"\x03\x00") * 1000, message(bytes(900_000))):
        for extension in (deflate(), under_way()):
            meter.output = 0
            with pytest.raises(PayloadTooBig):
                extension.decompress(payload, True, limit)
            assert meter.output == limit + 1


def test_what_is_cut_off_gives_no_more_than_a_byte_of_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(monkeypatch)
    with pytest.raises(ProtocolError, match=CUT_OFF):
        deflate().decompress(stored(bytes(1000))[:-500])
    assert meter.output == 501


def test_many_blocks_with_bfinal_take_no_more_memory_than_their_content() -> None:
    payload = stored(b"ab", final=True) * 20_000
    extension = deflate(remote_max_window_bits=9)
    assert traced(lambda: extension.decompress(payload, True, 40_000)) < 3 * len(payload)


# Memory.


@pytest.mark.scenario(52)
def test_nothing_of_zlib_is_held_until_a_compressed_message_passes() -> None:
    extensions = [deflate() for _ in range(1000)]

    def make() -> None:
        extensions[:] = [deflate() for _ in range(1000)]

    # An object with twelve slots, its empty settings, and its place in the list.
    assert traced(make) < 1000 * 300
    for extension in extensions:
        assert extension.decode(Frame(Opcode.TEXT, b"plain")).data == b"plain"
        assert extension.encode(Frame(Opcode.PING, b"")).data == b""
        assert extension.decompress(b"") == b""
        assert held(extension) == []
        assert not hasattr(extension, "__dict__")


def test_a_direction_in_use_leaves_the_other_without_zlib() -> None:
    sender, receiver = deflate(), deflate()
    receiver.decompress(sender.compress(b"Hello"))
    assert sender._decompressor is None
    assert receiver._compressor is None


def test_without_context_takeover_nothing_outlives_a_message() -> None:
    extension = deflate(remote_no_context_takeover=True, local_no_context_takeover=True)
    first, last = extension.compress(b"Hel", False), extension.compress(b"lo")
    assert extension.decompress(first, False) == b"Hel"
    assert extension._decompressor is not None
    assert extension.decompress(last) == b"lo"
    assert held(extension) == []


def test_release_frees_both_directions_and_starts_afresh() -> None:
    extension = deflate()
    extension.decompress(message(b"Hello"), False)
    extension.compress(b"Hello", False)
    extension.release()
    assert held(extension) == []
    assert extension.compress(b"Hello").hex(" ") == "f2 48 cd c9 c9 07 00"
    assert extension.decompress(bytes.fromhex("f2 48 cd c9 c9 07 00")) == b"Hello"


@pytest.mark.scenario(52)
def test_the_window_and_the_memory_level_say_how_much_memory_is_used() -> None:
    def used(bits: int, level: int) -> int:
        sender = deflate(local_max_window_bits=bits, compress_settings={"memLevel": level})
        return traced(lambda: sender.compress(b"Hello", False))

    # The difference is what matters: at most 32 KiB of it are a buffer that zlib gives back at once.
    assert used(9, 1) < used(12, 5) < used(15, 8) - 100_000


# Frames.


def test_rsv1_marks_the_first_frame_of_a_message() -> None:
    sender, receiver = deflate(), deflate()
    frames = [
        Frame(Opcode.TEXT, b"Hello"),
        Frame(Opcode.BINARY, b"Hel", fin=False),
        Frame(Opcode.CONT, b"lo", fin=False),
        Frame(Opcode.CONT, b""),
        Frame(Opcode.BINARY, b""),
    ]
    sent = [sender.encode(frame) for frame in frames]
    assert [frame.rsv1 for frame in sent] == [True, True, False, False, True]
    assert [(frame.opcode, frame.fin) for frame in sent] == [(frame.opcode, frame.fin) for frame in frames]
    assert [receiver.decode(frame) for frame in sent] == frames


def test_messages_below_the_threshold_are_sent_as_they_are() -> None:
    sender, receiver = deflate(threshold=5), deflate()
    frames = [Frame(Opcode.TEXT, data) for data in (b"Hello", b"Hell", b"", b"Hello", b"Hello!")]
    sent = [sender.encode(frame) for frame in frames]
    assert [frame.rsv1 for frame in sent] == [True, False, False, True, True]
    assert all(after is before for before, after in zip(frames, sent, strict=True) if not after.rsv1)
    # The context of those that are compressed spans the others.
    assert sent[3].data == bytes.fromhex("f2 00 11 00 00")
    assert [receiver.decode(frame) for frame in sent] == frames


def test_fragments_are_compressed_however_small() -> None:
    """Nobody knows how many are to follow; and after RSV1 on the first there is no way back."""
    sender, receiver = deflate(threshold=1000), deflate()
    frames = [Frame(Opcode.BINARY, b"a", fin=False), Frame(Opcode.CONT, b"b", fin=False), Frame(Opcode.CONT, b"c")]
    sent = [sender.encode(frame) for frame in frames]
    assert [frame.rsv1 for frame in sent] == [True, False, False]
    assert [receiver.decode(frame) for frame in sent] == frames
    assert all(len(after.data) > len(before.data) for before, after in zip(frames, sent, strict=True))


@given(
    frames=st.lists(
        st.builds(
            Frame,
            opcode=st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.CLOSE]),
            data=st.binary(max_size=20),
            fin=st.booleans(),
            rsv2=st.booleans(),
        ),
        max_size=6,
    ),
    threshold=st.integers(0, 20),
)
def test_frames_are_packed_as_they_are_encoded(frames: list[Frame], threshold: int) -> None:
    with_frames, without = deflate(threshold=threshold), deflate(threshold=threshold)
    for frame in frames:
        encoded = with_frames.encode(frame)
        assert without.pack(frame.head, frame.data) == (encoded.head, encoded.data)


def test_frames_given_are_left_as_they_are() -> None:
    """One frame may be sent to many."""
    frame = Frame(Opcode.TEXT, b"Hello")
    sent = deflate().encode(frame)
    assert frame == Frame(Opcode.TEXT, b"Hello")
    deflate().decode(sent)
    assert sent == Frame(Opcode.TEXT, bytes.fromhex("f2 48 cd c9 c9 07 00"), rsv1=True)


@pytest.mark.parametrize("opcode", [Opcode.CLOSE, Opcode.PING, Opcode.PONG])
def test_control_frames_pass_unchanged(opcode: Opcode) -> None:
    extension = deflate()
    extension.decompress(message(b"Hel"), False)
    frame = Frame(opcode, b"Hello")
    assert extension.encode(frame) is frame
    assert extension.decode(frame) is frame
    # RSV1 stays there to be refused by the rule for control frames.
    marked = Frame(opcode, b"Hello", rsv1=True)
    assert extension.decode(marked) is marked


def test_control_frames_may_come_between_fragments() -> None:
    sender, receiver = deflate(), deflate()
    frames = [Frame(Opcode.TEXT, b"Hel", fin=False), Frame(Opcode.PING, b"!"), Frame(Opcode.CONT, b"lo")]
    assert [receiver.decode(sender.encode(frame)) for frame in frames] == frames


def test_a_message_without_rsv1_passes_beside_the_context() -> None:
    extension = deflate()
    assert extension.decode(Frame(Opcode.TEXT, bytes.fromhex("f2 48 cd c9 c9 07 00"), rsv1=True)).data == b"Hello"
    for frame in (
        Frame(Opcode.BINARY, noise(100)),
        Frame(Opcode.TEXT, b"un", fin=False),
        Frame(Opcode.CONT, b"compressed", fin=False),
        Frame(Opcode.CONT, b""),
    ):
        assert extension.decode(frame, max_size=1) is frame
    assert extension.decode(Frame(Opcode.TEXT, bytes.fromhex("f2 00 11 00 00"), rsv1=True)).data == b"Hello"


@pytest.mark.parametrize("compressed_message", [False, True])
def test_rsv1_on_a_continuation_is_a_protocol_error(compressed_message: bool) -> None:
    extension = deflate()
    extension.decode(Frame(Opcode.TEXT, b"\x00", fin=False, rsv1=compressed_message))
    with pytest.raises(ProtocolError, match=r"^reserved bits must be 0$"):
        extension.decode(Frame(Opcode.CONT, b"\x00", rsv1=True))


def test_reserved_bits_of_other_extensions_are_left_alone() -> None:
    frame = Frame(Opcode.TEXT, b"Hello", rsv2=True, rsv3=True)
    sent = deflate().encode(frame)
    assert (sent.rsv1, sent.rsv2, sent.rsv3) == (True, True, True)
    assert deflate().decode(sent) == frame


def test_decode_heeds_the_limit() -> None:
    frame = Frame(Opcode.TEXT, bytes.fromhex("f2 48 cd c9 c9 07 00"), rsv1=True)
    assert deflate().decode(frame, max_size=5).data == b"Hello"
    with pytest.raises(PayloadTooBig, match=r"^frame exceeds limit of 4 bytes$"):
        deflate().decode(frame, max_size=4)


def test_an_extension_shows_its_parameters() -> None:
    assert repr(PerMessageDeflate(True, False, 8, 12, {"memLevel": 5})) == (
        "PerMessageDeflate(remote_no_context_takeover=True, local_no_context_takeover=False, "
        "remote_max_window_bits=8, local_max_window_bits=12)"
    )


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"remote_max_window_bits": 7}, "remote_max_window_bits must be between 8 and 15, not 7"),
        ({"remote_max_window_bits": 16}, "remote_max_window_bits must be between 8 and 15, not 16"),
        ({"local_max_window_bits": 7}, "local_max_window_bits must be between 8 and 15, not 7"),
        ({"local_max_window_bits": 16}, "local_max_window_bits must be between 8 and 15, not 16"),
        (
            {"compress_settings": {"wbits": 9}},
            "compress_settings must not include wbits, set local_max_window_bits instead",
        ),
        ({"threshold": -1}, "threshold must not be negative, not -1"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=f"^{error}$"):
        deflate(**parameters)


# Negotiation. In these tables, parameters are written as they are in the header.


def params(header: str) -> list[tuple[str, str | None]]:
    pairs = (item.strip().partition("=") for item in header.split(";") if item.strip())
    names = {"snct": "server_no_context_takeover", "cnct": "client_no_context_takeover"}
    names |= {"smwb": "server_max_window_bits", "cmwb": "client_max_window_bits"}
    return [(names.get(name, name), value if equals else None) for name, equals, value in pairs]


def configure(factory: Callable[..., Any], configuration: str) -> Any:
    """A factory configured as the header would say it."""
    values: dict[str, int | None] = {}
    if factory is ClientPerMessageDeflateFactory:
        values["client_max_window_bits"] = None
    values |= {name: True if value is None else int(value) for name, value in params(configuration)}
    return factory(**values)


def agreed(extension: PerMessageDeflate) -> tuple[bool, bool, int, int]:
    return (
        extension.remote_no_context_takeover,
        extension.local_no_context_takeover,
        extension.remote_max_window_bits,
        extension.local_max_window_bits,
    )


MALFORMED = [
    ("foo", InvalidParameterName, "invalid parameter name: foo"),
    ("foo=10", InvalidParameterName, "invalid parameter name: foo"),
    ("snct; snct", DuplicateParameter, "duplicate parameter: server_no_context_takeover"),
    ("cnct; cnct=x", DuplicateParameter, "duplicate parameter: client_no_context_takeover"),
    ("smwb=10; smwb=10", DuplicateParameter, "duplicate parameter: server_max_window_bits"),
    ("cmwb=10; cmwb=11", DuplicateParameter, "duplicate parameter: client_max_window_bits"),
    ("snct=", InvalidParameterValue, "empty value for parameter server_no_context_takeover"),
    ("cnct=true", InvalidParameterValue, "invalid value for parameter client_no_context_takeover: true"),
    ("smwb", InvalidParameterValue, "missing value for parameter server_max_window_bits"),
    ("smwb=", InvalidParameterValue, "empty value for parameter server_max_window_bits"),
    *(
        (f"{short}={value}", InvalidParameterValue, f"invalid value for parameter {long}: {value}")
        for short, long in (("smwb", "server_max_window_bits"), ("cmwb", "client_max_window_bits"))
        for value in ("7", "16", "08", "010", "+9", "-9", "1_0", "0x9", "9.0", "١٠", "99999999999")
    ),
]


@pytest.mark.scenario(21)
@pytest.mark.parametrize(("header", "error", "words"), MALFORMED)
def test_malformed_parameters_are_refused_on_both_sides(header: str, error: type[NegotiationError], words: str) -> None:
    for process in (
        ServerPerMessageDeflateFactory().process_request_params,
        ClientPerMessageDeflateFactory().process_response_params,
    ):
        with pytest.raises(error) as caught:
            process(params(header), [])
        assert str(caught.value) == words


# How the server is configured, what the client offers, what the server answers; then what is agreed, as the server's
# (remote forgets, local forgets, remote bits, local bits).
SERVER_ROWS: list[tuple[str, str, str, tuple[bool, bool, int, int]]] = [
    ("", "", "", (False, False, 15, 15)),
    ("", "snct", "snct", (False, True, 15, 15)),
    ("snct", "", "snct", (False, True, 15, 15)),
    ("snct", "snct", "snct", (False, True, 15, 15)),
    ("", "cnct", "cnct", (True, False, 15, 15)),
    ("cnct", "", "cnct", (True, False, 15, 15)),
    ("cnct", "cnct", "cnct", (True, False, 15, 15)),
    ("", "smwb=8", "smwb=8", (False, False, 15, 8)),
    ("", "smwb=9", "smwb=9", (False, False, 15, 9)),
    ("", "smwb=15", "smwb=15", (False, False, 15, 15)),
    # Who doesn't offer to hear of the server's window isn't told.
    ("smwb=12", "", "", (False, False, 15, 12)),
    ("smwb=8", "snct", "snct", (False, True, 15, 8)),
    ("smwb=12; cmwb=12", "cmwb", "cmwb=12", (False, False, 12, 12)),
    ("smwb=12", "smwb=8", "smwb=8", (False, False, 15, 8)),
    ("smwb=12", "smwb=10", "smwb=10", (False, False, 15, 10)),
    ("smwb=12", "smwb=12", "smwb=12", (False, False, 15, 12)),
    ("smwb=12", "smwb=15", "smwb=12", (False, False, 15, 12)),
    ("", "cmwb", "", (False, False, 15, 15)),
    ("", "cmwb=8", "cmwb=8", (False, False, 8, 15)),
    ("", "cmwb=10", "cmwb=10", (False, False, 10, 15)),
    ("cmwb=12", "", "", (False, False, 15, 15)),
    ("cmwb=12", "cmwb", "cmwb=12", (False, False, 12, 15)),
    ("cmwb=8", "cmwb", "cmwb=8", (False, False, 8, 15)),
    ("cmwb=12", "cmwb=10", "cmwb=10", (False, False, 10, 15)),
    ("cmwb=12", "cmwb=15", "cmwb=12", (False, False, 12, 15)),
    ("cmwb=12; require_client_max_window_bits", "cmwb", "cmwb=12", (False, False, 12, 15)),
    ("cmwb=12; require_client_max_window_bits", "cmwb=10", "cmwb=10", (False, False, 10, 15)),
    ("cmwb=12; require_client_max_window_bits", "cmwb=8", "cmwb=8", (False, False, 8, 15)),
    (
        "snct; cnct; smwb=12; cmwb=12",
        "cmwb; smwb=10; cnct; snct",
        "snct; cnct; smwb=10; cmwb=12",
        (True, True, 12, 10),
    ),
]

SERVER_REFUSALS: list[tuple[str, str, str]] = [
    ("cmwb=12; require_client_max_window_bits", "", "required client_max_window_bits"),
    ("cmwb=12; require_client_max_window_bits", "snct; cnct; smwb=15", "required client_max_window_bits"),
]


@pytest.mark.parametrize(("configuration", "offer", "answer", "outcome"), SERVER_ROWS)
def test_offers_that_the_server_accepts(
    configuration: str, offer: str, answer: str, outcome: tuple[bool, bool, int, int]
) -> None:
    factory = configure(ServerPerMessageDeflateFactory, configuration)
    answered, extension = factory.process_request_params(params(offer), [])
    assert answered == params(answer)
    assert agreed(extension) == outcome


@pytest.mark.scenario(21)
@pytest.mark.parametrize(("configuration", "offer", "error"), SERVER_REFUSALS)
def test_offers_that_the_server_declines(configuration: str, offer: str, error: str) -> None:
    factory = configure(ServerPerMessageDeflateFactory, configuration)
    with pytest.raises(NegotiationError) as caught:
        factory.process_request_params(params(offer), [])
    assert str(caught.value) == error


def test_a_factory_that_changed_agrees_on_something_else() -> None:
    factory = ServerPerMessageDeflateFactory(client_max_window_bits=12)
    for bits in 12, 10, 12:
        factory.client_max_window_bits = bits
        assert factory.process_request_params(params("cmwb"), [])[0] == params(f"cmwb={bits}")
    factory.client_max_window_bits = None
    assert factory.process_request_params(params("cmwb"), [])[0] == []


# How the client is configured, which is also what it offers, what the server answers, and what is agreed.
CLIENT_ROWS: list[tuple[str, str, tuple[bool, bool, int, int]]] = [
    ("", "", (False, False, 15, 15)),
    ("", "snct", (True, False, 15, 15)),
    ("snct", "snct", (True, False, 15, 15)),
    ("", "cnct", (False, True, 15, 15)),
    ("cnct", "", (False, True, 15, 15)),
    ("cnct", "cnct", (False, True, 15, 15)),
    ("", "smwb=8", (False, False, 8, 15)),
    ("", "smwb=15", (False, False, 15, 15)),
    ("smwb=12", "smwb=12", (False, False, 12, 15)),
    ("smwb=12", "smwb=8", (False, False, 8, 15)),
    ("cmwb", "", (False, False, 15, 15)),
    ("cmwb", "cmwb=8", (False, False, 15, 8)),
    ("cmwb", "cmwb=9", (False, False, 15, 9)),
    ("cmwb", "cmwb=15", (False, False, 15, 15)),
    ("cmwb=12", "", (False, False, 15, 12)),
    ("cmwb=8", "cmwb=8", (False, False, 15, 8)),
    ("cmwb=12", "cmwb=8", (False, False, 15, 8)),
    ("cmwb=12", "cmwb=10", (False, False, 15, 10)),
    ("cmwb=12", "cmwb=12", (False, False, 15, 12)),
    ("snct; cnct; smwb=12; cmwb=12", "cmwb=9; smwb=11; cnct; snct", (True, True, 11, 9)),
]

CLIENT_REFUSALS: list[tuple[str, str, str]] = [
    ("snct", "", "expected server_no_context_takeover"),
    ("smwb=12", "", "expected server_max_window_bits"),
    ("smwb=12", "smwb=13", "unsupported server_max_window_bits = 13, use at most 12"),
    ("", "cmwb=12", "unexpected client_max_window_bits"),
    ("", "cmwb=8", "unexpected client_max_window_bits"),
    ("cmwb", "cmwb", "missing value for parameter client_max_window_bits"),
    ("cmwb=12", "cmwb=13", "unsupported client_max_window_bits = 13, use at most 12"),
]


@pytest.mark.parametrize(("configuration", "answer", "outcome"), CLIENT_ROWS)
def test_answers_that_the_client_accepts(configuration: str, answer: str, outcome: tuple[bool, bool, int, int]) -> None:
    factory = configure(ClientPerMessageDeflateFactory, configuration)
    assert factory.get_request_params() == params(configuration)
    assert agreed(factory.process_response_params(params(answer), [])) == outcome


@pytest.mark.parametrize(("configuration", "answer", "error"), CLIENT_REFUSALS)
def test_answers_that_the_client_refuses(configuration: str, answer: str, error: str) -> None:
    factory = configure(ClientPerMessageDeflateFactory, configuration)
    with pytest.raises(NegotiationError) as caught:
        factory.process_response_params(params(answer), [])
    assert str(caught.value) == error


CLIENTS = st.builds(
    ClientPerMessageDeflateFactory,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.none() | st.integers(8, 15),
    client_max_window_bits=st.none() | st.just(True) | st.integers(8, 15),
)
SERVERS = st.builds(
    ServerPerMessageDeflateFactory,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.none() | st.integers(8, 15),
    client_max_window_bits=st.integers(8, 15),
    require_client_max_window_bits=st.booleans(),
)


@given(client=CLIENTS, server=SERVERS)
def test_both_sides_agree_on_the_same_and_can_talk(
    client: ClientPerMessageDeflateFactory, server: ServerPerMessageDeflateFactory
) -> None:
    try:
        answer, ours = server.process_request_params(client.get_request_params(), [])
        theirs = client.process_response_params(answer, [])
    except NegotiationError:
        # Nothing but what was required is in the way.
        assert server.require_client_max_window_bits
        assert client.client_max_window_bits is None
        return
    # Of the server's window, a client knows what it asked for.
    known = client.server_max_window_bits and ours.local_max_window_bits
    expected = (*agreed(ours)[1::-1], known or 15, ours.remote_max_window_bits)
    assert agreed(theirs) in (expected, (*expected[:3], client.client_max_window_bits))
    assert ours.local_max_window_bits <= min(client.server_max_window_bits or 15, server.server_max_window_bits or 15)
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        for content in (b"Hello", text(40_000), b"Hello", noise(100) * 300):
            assert receiver.decompress(sender.compress(content)) == content


def test_the_extension_is_negotiated_once() -> None:
    with pytest.raises(NegotiationError, match=r"^received duplicate permessage-deflate$"):
        ClientPerMessageDeflateFactory().process_response_params([], [deflate()])
    with pytest.raises(NegotiationError, match=r"^skipped duplicate permessage-deflate$"):
        ServerPerMessageDeflateFactory().process_request_params([], [deflate()])


class OtherExtension(Extension):
    name = websockets.typing.ExtensionName("x-other")


def test_other_extensions_are_no_hindrance() -> None:
    others = [OtherExtension()]
    assert agreed(ClientPerMessageDeflateFactory().process_response_params([], others)) == (False, False, 15, 15)
    assert agreed(ServerPerMessageDeflateFactory().process_request_params([], others)[1]) == (False, False, 15, 15)


OUT_OF_RANGE = [
    (factory, {name: bits}, f"{name} must be between {least} and 15, not {bits}")
    for factory, name, least in (
        (ClientPerMessageDeflateFactory, "server_max_window_bits", 8),
        (ClientPerMessageDeflateFactory, "client_max_window_bits", 8),
        (ServerPerMessageDeflateFactory, "server_max_window_bits", 8),
        (ServerPerMessageDeflateFactory, "client_max_window_bits", 8),
    )
    for bits in (False, 0, least - 1, 16)
]
UNSUPPORTED = [
    (factory, {"compress_settings": settings}, error)
    for factory, bits_name in (
        (ClientPerMessageDeflateFactory, "client_max_window_bits"),
        (ServerPerMessageDeflateFactory, "server_max_window_bits"),
    )
    for settings, error in (
        ({"wbits": 12}, f"compress_settings must not include wbits, set {bits_name} instead"),
        ({"foo": 1}, "unsupported compress_settings {'foo': 1}: "),
        ({"level": 11}, "unsupported compress_settings {'level': 11}: "),
    )
]
INCOMPLETE = "require_client_max_window_bits is enabled, but client_max_window_bits isn't configured"


@pytest.mark.parametrize(
    ("factory", "parameters", "error"),
    [
        *OUT_OF_RANGE,
        *UNSUPPORTED,
        (ClientPerMessageDeflateFactory, {"threshold": -1}, "threshold must not be negative, not -1"),
        (ServerPerMessageDeflateFactory, {"threshold": -1}, "threshold must not be negative, not -1"),
        (ServerPerMessageDeflateFactory, {"client_max_window_bits": True}, "client_max_window_bits must be between 8"),
        (ServerPerMessageDeflateFactory, {"require_client_max_window_bits": True}, INCOMPLETE),
    ],
)
def test_configurations_that_are_refused(factory: Callable[..., Any], parameters: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(error)}"):
        factory(**parameters)


@pytest.mark.parametrize("settings", [None, {}, {"level": 1, "memLevel": 9}])
def test_settings_of_zlib_reach_the_extension(settings: dict[str, int] | None) -> None:
    client = ClientPerMessageDeflateFactory(compress_settings=settings)
    server = ServerPerMessageDeflateFactory(compress_settings=settings)
    assert client.process_response_params([], []).compress_settings == (settings or {})
    assert server.process_request_params([], [])[1].compress_settings == (settings or {})


# What is configured and said by the other side, and from how many bytes on this side then compresses: what counts is
# whether it forgets, not whether the other one does.
THRESHOLDS = [
    ({}, "", 64),
    ({}, "own", 256),
    ({}, "other", 64),
    ({"threshold": 0}, "", 0),
    ({"threshold": 0}, "own", 0),
    ({"threshold": 1000}, "", 1000),
    ({"threshold": 1000}, "own", 1000),
]


@pytest.mark.parametrize(("configuration", "forgetting", "threshold"), THRESHOLDS)
def test_the_threshold_goes_by_what_this_side_remembers(
    configuration: dict[str, Any], forgetting: str, threshold: int
) -> None:
    client, server = ClientPerMessageDeflateFactory(**configuration), ServerPerMessageDeflateFactory(**configuration)
    told = {"own": "cnct", "other": "snct"}.get(forgetting, "")
    assert client.process_response_params(params(told), []).threshold == threshold
    told = {"own": "snct", "other": "cnct"}.get(forgetting, "")
    assert server.process_request_params(params(told), [])[1].threshold == threshold


def test_an_extension_made_by_hand_compresses_everything() -> None:
    """As one of release 17.4 does."""
    assert [deflate().encode(Frame(Opcode.TEXT, data)).rsv1 for data in (b"", b"x")] == [True, True]


def test_defaults_of_a_client() -> None:
    (factory,) = enable_client_permessage_deflate(None)
    assert isinstance(factory, ClientPerMessageDeflateFactory)
    assert factory.get_request_params() == [("client_max_window_bits", None)]
    assert factory.compress_settings == {"level": 3, "memLevel": 5}
    assert factory.threshold is None


def test_defaults_of_a_client_are_as_if_they_were_checked() -> None:
    factory, other = (enable_client_permessage_deflate(None)[0] for _ in range(2))
    checked = ClientPerMessageDeflateFactory(compress_settings={"level": 3, "memLevel": 5})
    assert type(factory) is type(checked)
    assert vars(factory) == vars(checked)
    # A change of one doesn't change another.
    vars(factory)["compress_settings"]["level"] = 9
    assert vars(other) == vars(checked)


def test_defaults_of_a_server() -> None:
    (factory,) = enable_server_permessage_deflate(None)
    assert isinstance(factory, ServerPerMessageDeflateFactory)
    answer, extension = factory.process_request_params(params("cmwb"), [])
    assert answer == params("cmwb=12")
    assert agreed(extension) == (False, False, 12, 12)
    assert extension.compress_settings == {"level": 3, "memLevel": 5}


def test_defaults_are_added_to_other_extensions_but_not_twice() -> None:
    class OtherClient(ClientExtensionFactory):
        name = OtherExtension.name

    class OtherServer(ServerExtensionFactory):
        name = OtherExtension.name

    other_client, other_server = OtherClient(), OtherServer()
    given_clients: list[ClientExtensionFactory] = [other_client]
    given_servers: list[ServerExtensionFactory] = [other_server]
    clients, servers = enable_client_permessage_deflate(given_clients), enable_server_permessage_deflate(given_servers)
    assert [factory.name for factory in clients] == ["x-other", "permessage-deflate"]
    assert [factory.name for factory in servers] == ["x-other", "permessage-deflate"]
    assert (given_clients, given_servers) == ([other_client], [other_server])
    assert list(enable_client_permessage_deflate(clients)) == list(clients)
    assert list(enable_server_permessage_deflate(servers)) == list(servers)


# The interface.


def test_the_interface_is_to_be_derived_from() -> None:
    frame = Frame(Opcode.TEXT, b"")
    for unfinished in (
        lambda: Extension().encode(frame),
        lambda: Extension().decode(frame, max_size=1),
        lambda: ClientExtensionFactory().get_request_params(),
        lambda: ClientExtensionFactory().process_response_params([], []),
        lambda: ServerExtensionFactory().process_request_params([], []),
    ):
        with pytest.raises(NotImplementedError):
            unfinished()


def test_the_package_exports_the_interface() -> None:
    for name in websockets.extensions.__all__:
        assert getattr(websockets.extensions, name) is getattr(websockets.extensions.base, name)
    for named in (PerMessageDeflate, ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory):
        assert named.name == "permessage-deflate"


# ----------------------------------------------------------------------------------------------------- interruptions


class Interrupted:
    """A compressor during whose work something else happens, as when a signal handler runs."""

    def __init__(self, compressor: Any, happen: Callable[[], object]) -> None:
        self.compressor, self.happen = compressor, happen

    def compress(self, data: Any) -> bytes:
        made: bytes = self.compressor.compress(data)
        happen, self.happen = self.happen, int
        happen()
        return made

    def flush(self, mode: int) -> bytes:
        made: bytes = self.compressor.flush(mode)
        return made


@pytest.mark.parametrize("what", ["a message", "one compressed alone", "an exception"])
def test_something_happens_while_a_message_is_compressed(what: str) -> None:
    """The peer gets what was sent meanwhile first, and can inflate everything."""
    ours, theirs = PerMessageDeflate(False, False, 15, 15), PerMessageDeflate(False, False, 15, 15)
    text = b"so it goes, and so it went " * 10
    wire = [ours.compress(text)]

    def happen() -> None:
        if what == "a message":
            wire.append(ours.compress(text + b"meanwhile"))
        elif what == "one compressed alone":
            wire.append(bytes(ours._pack_alone(0x81, text + b"meanwhile")[1]))
            ours._start_anew()
        else:
            raise InterruptedError

    ours._compressor = Interrupted(ours._compressor, happen)  # type: ignore[assignment]
    expected = [text, text + b"meanwhile", text + b"interrupted", text + b"after"]
    if what == "an exception":
        with pytest.raises(InterruptedError):
            ours.compress(text + b"interrupted")
        del expected[1:3]
    else:
        wire.append(ours.compress(text + b"interrupted"))
    wire.append(ours.compress(text + b"after"))
    assert [theirs.decompress(data) for data in wire] == expected


class Full(list[bytes]):
    """A list that takes nothing more, as without memory."""

    def append(self, item: bytes) -> None:
        raise MemoryError


@pytest.mark.parametrize("where", ["frame", "list"])
def test_a_message_that_was_compressed_and_is_not_sent(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one doesn't refer to it: the peer never saw it."""
    ours, theirs = ServerProtocol(state=State.OPEN), PerMessageDeflate(False, False, 15, 15)
    ours.extensions = [PerMessageDeflate(False, False, 15, 15)]
    lost = b"so it goes, and so it went " * 10

    def fail(*arguments: object) -> bytes:
        raise MemoryError

    if where == "frame":
        monkeypatch.setattr("websockets.protocol.build_frame", fail)
    else:
        ours.writes = Full()
    with pytest.raises(MemoryError):
        ours.send_text(lost)
    monkeypatch.undo()
    ours.writes = []
    ours.send_text(lost + b"again")
    (frame,) = ours.data_to_send()
    (row,), _ = wire.parse(frame)
    assert theirs.decompress(row.payload) == lost + b"again"


def test_a_message_that_is_not_sent_without_compression() -> None:
    ours = ServerProtocol(state=State.OPEN)
    ours.writes = Full()
    with pytest.raises(MemoryError):
        ours.send_text(b"text")
