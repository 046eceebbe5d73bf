"""From items to the fragments of one message, without a loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from _kit import wire
from websockets._session.fragments import Fragmenter, is_async
from websockets.exceptions import InvalidState, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import Protocol, Side


def sent(protocol: Protocol) -> list[tuple[int, bool, bytes]]:
    """The frames that a protocol has to send: opcode, whether it is the last of its message, payload."""
    rows, rest = wire.parse(b"".join(protocol.data_to_send()))
    assert rest == b""
    return [(row.opcode, row.fin, row.payload) for row in rows]


def send(
    protocol: Protocol, items: Iterable[Any], text: bool | None = None, compress: bool | None = None
) -> Fragmenter:
    """What a front-end for threads does."""
    first, *rest = items
    fragments = Fragmenter(protocol, first, text, compress)
    fragments.start()
    for item in rest:
        fragments.add(item)
    fragments.finish()
    return fragments


MESSAGES: list[tuple[list[Any], bool | None, int, list[bytes]]] = [
    (["one", "two"], None, wire.TEXT, [b"one", b"two", b""]),
    (["caf\xe9"], False, wire.BINARY, ["caf\xe9".encode(), b""]),
    ([b"one", bytearray(b"two"), memoryview(b"t-h-r")[::2]], None, wire.BINARY, [b"one", b"two", b"thr", b""]),
    ([b"one"], True, wire.TEXT, [b"one", b""]),
    (["", ""], None, wire.TEXT, [b"", b"", b""]),
]


@pytest.mark.parametrize(("items", "text", "opcode", "payloads"), MESSAGES, ids=range(len(MESSAGES)))
@pytest.mark.parametrize("side", Side)
def test_each_item_is_a_fragment(
    side: Side, items: list[Any], text: bool | None, opcode: int, payloads: list[bytes]
) -> None:
    protocol = Protocol(side)
    send(protocol, items, text)
    assert sent(protocol) == [
        (opcode if number == 0 else wire.CONT, number == len(payloads) - 1, payload)
        for number, payload in enumerate(payloads)
    ]
    # Another message may follow.
    protocol.send_text(b"next")


@pytest.mark.parametrize(("compress", "reserved"), [(None, 0x40), (True, 0x40), (False, 0)])
def test_compression(compress: bool | None, reserved: int) -> None:
    protocol = Protocol(Side.SERVER)
    protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    send(protocol, ["one" * 100, "two"], None, compress)
    assert protocol.data_to_send()[0][0] & 0x40 == reserved


@pytest.mark.parametrize("item", [None, 5, {"a": "b"}, ["nested"]])
def test_a_first_item_that_cannot_be_sent_changes_nothing(item: Any) -> None:
    protocol = Protocol(Side.CLIENT)
    with pytest.raises(TypeError, match=r"^iterable must contain bytes or str\n"):
        Fragmenter(protocol, item, None, None)
    assert sent(protocol) == []
    protocol.send_text(b"next")


@pytest.mark.parametrize(
    ("first", "item", "text"),
    [
        ("one", b"two", "iterable must contain uniform types"),
        (b"one", "two", "iterable must contain uniform types"),
        ("one", None, "iterable must contain bytes or str"),
    ],
)
def test_a_later_item_that_cannot_be_sent(first: Any, item: Any, text: str) -> None:
    protocol = Protocol(Side.SERVER)
    with pytest.raises(TypeError, match=rf"^{text}(\n|$)") as caught:
        send(protocol, [first, item], None)
    assert sent(protocol) == [(wire.TEXT if first == "one" else wire.BINARY, False, b"one")]
    fragments = Fragmenter(protocol, first, None, None)
    assert fragments.failure(caught.value) == (1011, "error in fragmented message", caught.value)


def test_the_type_is_that_of_the_first_item_whatever_is_sent() -> None:
    protocol = Protocol(Side.SERVER)
    with pytest.raises(TypeError, match=r"^iterable must contain uniform types$"):
        send(protocol, [b"one", "two"], True)


@pytest.mark.parametrize("state", ["closing", "closed"])
def test_a_connection_that_is_not_open(state: str) -> None:
    protocol = Protocol(Side.SERVER)
    fragments = Fragmenter(protocol, "one", None, None)
    fragments.start()
    if state == "closing":
        protocol.send_close(1000)
    else:
        protocol.receive_eof()
    later = Fragmenter(protocol, "two", None, None)
    for step in (later.start, lambda: fragments.add("two"), fragments.finish):
        with pytest.raises(InvalidState, match=f"^connection is {state}$"):
            step()


def test_one_message_at_a_time() -> None:
    protocol = Protocol(Side.SERVER)
    Fragmenter(protocol, "one", None, None).start()
    with pytest.raises(ProtocolError, match=r"^expected a continuation frame$"):
        Fragmenter(protocol, "other", None, None).start()


# ------------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize(
    ("exc", "cause"),
    [
        (LookupError("no more"), "LookupError('no more')"),
        (asyncio.CancelledError(), "ConnectionAbortedError('sending a fragmented message was cancelled')"),
        (GeneratorExit(), "ConnectionAbortedError('sending a fragmented message was cancelled')"),
    ],
)
def test_items_that_end_too_early(exc: BaseException, cause: str) -> None:
    protocol = Protocol(Side.SERVER)
    fragments = Fragmenter(protocol, "one", None, None)
    fragments.start()
    failure = fragments.failure(exc)
    assert failure is not None
    assert (failure.code, failure.reason, repr(failure.cause)) == (1011, "error in fragmented message", cause)
    # What the front-end does with it: the peer gets a Close in place of the rest.
    protocol.fail(failure.code, failure.reason)
    assert sent(protocol) == [
        (wire.TEXT, False, b"one"),
        (wire.CLOSE, True, (1011).to_bytes(2, "big") + b"error in fragmented message"),
    ]


def test_nothing_fails_before_the_first_fragment_or_after_the_last() -> None:
    protocol = Protocol(Side.SERVER)
    assert Fragmenter(protocol, "one", None, None).failure(LookupError()) is None
    fragments = send(protocol, ["one"])
    # The last may wait to be written.
    assert fragments.failure(LookupError()) is not None
    protocol.data_to_send()
    assert fragments.failure(LookupError()) is None


# ----------------------------------------------------------------------------------------------------- what is iterated


async def items() -> AsyncIterator[str]:
    yield "one"


class Both(list[str]):
    """Items that may be awaited, too."""

    def __aiter__(self) -> AsyncIterator[str]:
        return items()


def test_which_items_are_awaited() -> None:
    assert is_async(items())
    assert is_async(Both())
    assert not is_async(["one"])
    assert not is_async(iter("one"))
    assert not is_async(Both(), allowed=False)


@pytest.mark.parametrize(
    ("message", "allowed", "text"),
    [
        ({"a": "b"}, True, "data is a dict-like object"),
        ({"a": "b"}, False, "data is a dict-like object"),
        (5, True, "data must be str, bytes, iterable, or async iterable"),
        (None, False, "data must be str, bytes, or iterable"),
        (items(), False, "data must be str, bytes, or iterable"),
    ],
    ids=range(5),
)
def test_what_cannot_be_iterated(message: Any, allowed: bool, text: str) -> None:
    with pytest.raises(TypeError, match=rf"^{text}(\n|$)"):
        is_async(message, allowed=allowed)
