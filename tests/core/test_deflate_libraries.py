"""The libraries that may take the place of zlib: which is chosen for what, and that all of them do the same."""

from __future__ import annotations

import importlib
import importlib.util
import random
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _kit import examples
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import _libraries
from websockets.extensions._libraries import LARGE_FROM
from websockets.extensions.permessage_deflate import PerMessageDeflate

TAIL = b"\x00\x00\xff\xff"
FAST = {"level": 3, "memLevel": 5}


def installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


ISAL, ZLIB_NG = installed("isal.isal_zlib"), installed("zlib_ng.zlib_ng")

with_isal = pytest.mark.skipif(ISAL is None, reason="isal isn't installed")

INFLATERS = {name: library for name, library in {"zlib": zlib, "zlib-ng": ZLIB_NG}.items() if library}
every_inflater = pytest.mark.parametrize("inflates", INFLATERS.values(), ids=INFLATERS)


def text(size: int, seed: int = 1) -> bytes:
    rand = random.Random(seed)
    words = [bytes(rand.choices(b"abcdefgh", k=rand.randint(2, 9))) for _ in range(80)]
    return b" ".join(rand.choices(words, k=size // 3))[:size]


def end(**changes: Any) -> PerMessageDeflate:
    options: dict[str, Any] = {"compress_settings": FAST, **changes}
    return PerMessageDeflate(
        options.pop("remote_no_context_takeover", False),
        options.pop("local_no_context_takeover", False),
        options.pop("remote_max_window_bits", 15),
        options.pop("local_max_window_bits", 12),
        **options,
    )


class Recorder:
    """A library that notes what it is asked for, and compresses with zlib."""

    def __init__(self) -> None:
        self.made: list[dict[str, int]] = []

    def compressobj(self, **settings: Any) -> Any:
        self.made.append(settings)
        return zlib.compressobj(**settings)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(_libraries, "COMPRESSES", recorder)
    return recorder


# -------------------------------------------------------------------------------------------------------------- choice


def again(monkeypatch: pytest.MonkeyPatch, modules: dict[str, Any]) -> Any:
    """The module, as if these were installed."""

    def find(name: str) -> Any:
        if name not in modules:
            raise ImportError(name)
        return modules[name]

    monkeypatch.setattr(importlib, "import_module", find)
    spec = importlib.util.spec_from_file_location("websockets.extensions._libraries_again", _libraries.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class OtherError(Exception):
    """What another library raises."""


def test_what_is_installed_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCKETS_DEFLATE", raising=False)
    isal, other = object(), SimpleNamespace(error=OtherError)
    alone = again(monkeypatch, {})
    assert alone.COMPRESSES is None
    assert alone.INFLATES is zlib
    assert list(alone.ERRORS) == [zlib.error]
    assert alone.shown_libraries() == "zlib to compress, zlib to inflate"
    both = again(monkeypatch, {"isal.isal_zlib": isal, "zlib_ng.zlib_ng": other})
    assert (both.COMPRESSES, both.INFLATES, set(both.ERRORS)) == (isal, other, {zlib.error, OtherError})
    assert both.shown_libraries() == "ISA-L and zlib to compress, zlib-ng to inflate"
    monkeypatch.setenv("WEBSOCKETS_DEFLATE", "zlib")
    refused = again(monkeypatch, {"isal.isal_zlib": isal, "zlib_ng.zlib_ng": other})
    assert refused.COMPRESSES is None
    assert refused.INFLATES is zlib


def test_large_messages_have_a_compressor_of_their_own(recorder: Recorder) -> None:
    extension = end()
    extension.compress(text(LARGE_FROM - 1))
    assert recorder.made == []
    extension.compress(text(LARGE_FROM))
    assert recorder.made == [{"level": 1, "wbits": -12, "memLevel": 5}]
    # And it stays, whatever comes then.
    for size in (1, 5000, LARGE_FROM):
        extension.compress(text(size))
    assert len(recorder.made) == 1


def test_fragments_may_grow(recorder: Recorder) -> None:
    extension = end()
    parts = [text(size, size) for size in (10, 600, 20, 700)]
    payload = b"".join(extension.compress(part, False) for part in parts) + extension.compress(b"", True)
    assert len(recorder.made) == 1
    assert zlib.decompressobj(-12).decompress(payload + TAIL) == b"".join(parts)


def test_without_context_each_message_has_what_fits(recorder: Recorder) -> None:
    extension = end(local_no_context_takeover=True)
    for size in (600, 10, 700, 20):
        extension.compress(text(size))
    assert len(recorder.made) == 2
    extension._pack_alone(0x81, text(10))
    extension._pack_alone(0x81, text(600))
    assert len(recorder.made) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"compress_settings": {"level": 6}},
        {"compress_settings": {"level": 0}},
        {"compress_settings": None},
        {"compress_settings": {"level": 1, "strategy": zlib.Z_FILTERED}},
        {"local_max_window_bits": 8},
    ],
)
def test_what_isal_has_no_equivalent_of(recorder: Recorder, changes: dict[str, Any]) -> None:
    extension = end(**changes)
    plain = zlib.compressobj(wbits=-max(extension.local_max_window_bits, 9), **extension.compress_settings)
    for size in (100, 1000, 1000):
        expected = plain.compress(text(size)) + plain.flush(zlib.Z_SYNC_FLUSH)
        assert extension.compress(text(size)) + TAIL == expected
    assert recorder.made == []


def test_without_isal_no_compressor_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_libraries, "COMPRESSES", None)
    extension, plain = end(), zlib.compressobj(wbits=-12, level=3, memLevel=5)
    for size in (100, 600, 100, 600):
        expected = plain.compress(text(size)) + plain.flush(zlib.Z_SYNC_FLUSH)
        assert extension.compress(text(size)) + TAIL == expected


# ------------------------------------------------------------------------------------------------------ each is as zlib

SIZES = st.sampled_from([0, 1, 5, 100, LARGE_FROM - 1, LARGE_FROM, 700, 3000, 70_000])


@with_isal
@pytest.mark.parametrize("forget", [False, True])
@given(
    sizes=st.lists(st.tuples(SIZES, st.integers(0, 3), st.booleans()), max_size=6),
    bits=st.integers(8, 15),
    memory=st.integers(1, 9),
    level=st.integers(1, 3),
)
@examples(40)
def test_zlib_inflates_what_isal_compresses(
    forget: bool, sizes: list[tuple[int, int, bool]], bits: int, memory: int, level: int
) -> None:
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(_libraries, "COMPRESSES", ISAL)
        settings = {"level": level, "memLevel": memory}
        sender = end(local_no_context_takeover=forget, local_max_window_bits=bits, compress_settings=settings)
        stream = zlib.decompressobj(-15)
        for size, seed, random_bytes in sizes:
            content = random.Random(seed).randbytes(size) if random_bytes else text(size, seed)
            payload = sender.compress(content)
            assert not payload.endswith(TAIL)
            stream = zlib.decompressobj(-15) if forget else stream
            assert stream.decompress(payload + TAIL) == content
            assert (stream.eof, stream.unconsumed_tail) == (False, b"")


@with_isal
@pytest.mark.parametrize("bits", range(8, 16))
def test_isal_keeps_to_the_window(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib looks at its window only for what isn't in the output that it writes: a byte at a time, nothing is."""
    monkeypatch.setattr(_libraries, "COMPRESSES", ISAL)
    sender, strict = end(local_max_window_bits=bits), zlib.decompressobj(-max(bits, 9))
    for size in (600, 5000, 40_000, 700):
        content, data, output = text(size, size), sender.compress(text(size, size)) + TAIL, bytearray()
        while piece := strict.decompress(data, 1):
            output += piece
            data = strict.unconsumed_tail
        assert output == content


def outcome(inflates: Any, payloads: list[bytes], limit: int, forget: bool) -> list[Any]:
    """What becomes of each message, until one is refused."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(_libraries, "INFLATES", inflates)
        receiver, results = end(remote_no_context_takeover=forget), list[Any]()
        for payload in payloads:
            try:
                results.append(receiver.decompress(payload, True, limit))
            except (PayloadTooBig, ProtocolError) as exc:
                return [*results, type(exc), str(exc)]
        return results


def compressed(sizes: list[int], finish: bool) -> list[bytes]:
    sender, payloads = zlib.compressobj(6, wbits=-15), []
    for size in sizes:
        payload = sender.compress(text(size, size))
        payload += sender.flush(zlib.Z_FINISH if finish else zlib.Z_SYNC_FLUSH).removesuffix(TAIL)
        sender = zlib.compressobj(6, wbits=-15) if finish else sender
        payloads.append(payload + b"\x00" if finish else payload)
    return payloads


@pytest.mark.skipif(ZLIB_NG is None, reason="zlib-ng isn't installed")
@given(
    sizes=st.lists(SIZES, min_size=1, max_size=4),
    finish=st.booleans(),
    forget=st.booleans(),
    limit=st.sampled_from([1, 99, 100, 699, 700, 2**20]),
    cut=st.integers(0, 60),
    flip=st.integers(0, 2000),
)
@examples(200)
def test_what_inflates_does_not_matter(
    sizes: list[int], finish: bool, forget: bool, limit: int, cut: int, flip: int
) -> None:
    payloads = compressed(sizes, finish)
    last = bytearray(payloads[-1][: len(payloads[-1]) - cut % 30 if cut > 30 else None])
    if flip < len(last):
        last[flip] ^= 1 << flip % 8
    payloads[-1] = bytes(last)
    assert outcome(ZLIB_NG, payloads, limit, forget) == outcome(zlib, payloads, limit, forget)


@every_inflater
def test_bombs_stay_bounded(inflates: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a byte more than one beyond the limit is made, of whatever the peer sends."""
    made: list[int] = []

    class Counting:
        error = inflates.error

        @staticmethod
        def decompressobj(*arguments: Any) -> Any:
            stream = inflates.decompressobj(*arguments)

            class Stream:
                eof = property(lambda self: stream.eof)
                unused_data = property(lambda self: stream.unused_data)

                def decompress(self, data: bytes, limit: int) -> bytes:
                    made.append(len(result := stream.decompress(data, limit)))
                    return bytes(result)

            return Stream()

    monkeypatch.setattr(_libraries, "INFLATES", Counting)
    for finish in (False, True):
        bomb = zlib.compressobj(9, wbits=-15)
        payload = bomb.compress(bytes(10**8)) + bomb.flush(zlib.Z_FINISH if finish else zlib.Z_SYNC_FLUSH)
        for limit in (1, 1000, 2**20):
            made.clear()
            with pytest.raises(PayloadTooBig):
                end().decompress(payload, True, limit)
            assert sum(made) == limit + 1
