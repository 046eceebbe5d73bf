"""Targets: what comes after the opening handshake. Frames, compressed payloads, Close, and what extensions agree on.

May know: the sans-I/O parts of the library, both twins of the accelerator, oracles. Must not know: asyncio, engines.
"""

from __future__ import annotations

import zlib
from typing import Any

from _kit import wire
from core._twins import TWINS, Rules, decode, oracle
from fuzz.target import Reader, Target, alike, chunkings, cut, outcome, require, shown
from websockets import exceptions, frames, headers
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.extensions import permessage_deflate as deflate
from websockets.extensions._deflate import TruncatedMessage
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

__all__ = ["FRAME_WORDS", "TARGETS"]

FRAME_WORDS = (
    b"\x81\x02hi",
    b"\x82\x00",
    b"\x01\x01a",
    b"\x00\x01b",
    b"\x80\x01c",
    b"\x89\x01p",
    b"\x8a\x00",
    b"\x89\x0clonger pings",
    b"\x89\x8c\x00\x00\x00\x00longer pings",
    b"\x88\x02\x03\xe8",
    b"\x88\x00",
    b"\x81\x82\x00\x00\x00\x00hi",
    b"\x82\x80\x01\x02\x03\x04",
    b"\x01\x81\x00\x00\x00\x00\xc3",
    b"\x80\x81\x00\x00\x00\x00\xa9",
    b"\x89\x81\x00\x00\x00\x00p",
    b"\x88\x82\x00\x00\x00\x00\x03\xe8",
    b"\x81\x7e\x00\x7e",
    b"\x82\xfe\x01\x00",
    b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
    b"\xc1\x07\xf2H\xcd\xc9\xc9\x07\x00",
    b"\xc1\x87\x00\x00\x00\x00\xf2H\xcd\xc9\xc9\x07\x00",
    # Text that ends in the middle of a character, and text in which one isn't finished.
    b"\x81\x03ab\xc3",
    b"\x81\x83\x00\x00\x00\x00ab\xc3",
    b"\x81\x05a\xe2\x82bc",
    b"\x81\x85\x00\x00\x00\x00a\xe2\x82bc",
    b"\x01\x01\xc3\x80\x01a",
    b"\x01\x81\x00\x00\x00\x00\xc3\x80\x81\x00\x00\x00\x00a",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f\x98\x80",
)

LIMITS = (-1, 0, 1, 5, 125, 126, 300)


# -------------------------------------------------------------------------------------------------------------- frames


def check_frames(data: bytes) -> None:
    """Both twins give what the oracle gives, at once and in pieces; what they write is what they read."""
    reader = Reader(data)
    settings, seed = reader.byte(), reader.byte()
    limits = reader.choose(LIMITS), reader.choose(LIMITS)
    rules = Rules(bool(settings & 1), (0, 0x40, 0x70)[settings >> 1 & 3 if settings & 6 != 6 else 0], *limits)
    rules = rules._replace(text=bool(settings & 8))
    data = reader.rest()
    expected = oracle(data, rules)
    for twin in TWINS.values():
        for chunks in chunkings(data, seed):
            verdict = decode(twin, rules, chunks)
            require(verdict == expected, twin.__name__, rules, verdict, expected)
        rewrite(twin, expected.frames, data[:4].ljust(4, b"x") if settings & 16 else None)


def rewrite(twin: Any, given: list[Any], mask: bytes | None) -> None:
    """Build the frames again that were read; the naive format must read them the same."""
    written = b""
    for head, payload in zip(given[::2], given[1::2], strict=True):
        written += twin.build_frame(head, payload.encode() if isinstance(payload, str) else payload, mask)
    rows, rest = wire.parse(written)
    require(rest == b"" and all(row.mask == mask for row in rows), rows, rest)
    payloads = [payload.encode() if isinstance(payload, str) else payload for payload in given[1::2]]
    heads = [row.fin << 7 | row.rsv << 4 | row.opcode for row in rows]
    require((heads, [row.payload for row in rows]) == (given[::2], payloads), given, rows)


# --------------------------------------------------------------------------------------------------------------- Close


# The codes at the edges of what may travel.
EDGES = (0, 999, 1000, 1003, 1004, 1005, 1006, 1007, 1014, 1015, 2999, 3000, 4999, 5000, 65535)


def check_close(data: bytes) -> None:
    """A payload of Close is what it was when it is written again, or must not travel; logs show it in one line."""
    check_one_close(data)
    for code in EDGES:
        check_one_close(code.to_bytes(2, "big") + data[2:])
    for opcode in frames.Opcode:
        line = str(frames.Frame(opcode, data, fin=len(data) % 2 == 0))
        require(line.isprintable() and len(line) < 150, "a log of more than one short line", line)


def check_one_close(data: bytes) -> None:
    kind, value = outcome((exceptions.ProtocolError, UnicodeDecodeError), frames.Close.parse, data)
    code = int.from_bytes(data[:2], "big")
    may_travel = code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000
    good = data == b"" or (len(data) >= 2 and may_travel and is_text(data[2:]))
    require(good == (kind == "returned"), value)
    if good and data:
        require(value.serialize() == data, value)
        require(frames.Close.parse(value.serialize()) == value, value)


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------------- inflate

DEFLATE_WORDS = (
    b"\x00\x00\xff\xff",
    b"\x00\x00\x00\xff\xff",
    b"\xf2H\xcd\xc9\xc9\x07\x00",
    b"\x03\x00",
    b"\x4b\x04\x00",
    b"\x01\x05\x00\xfa\xffHello",
    b"\xec\xc1\x01\x0d\x00\x00\x00\xc2\xa0\xf7\x4f\x6d\x0e\x37\xa0\x00",
    b"\x02\x00",
    b"\x05\xe0\x81\x08\x00\x00\x00\x00\x20\x7f\xeb\x0b",
    b"\x06",
)

INFLATE_ERRORS = (exceptions.ProtocolError, TruncatedMessage)


def check_inflate(data: bytes) -> None:
    """Messages of which any part may be wrong: bounded, typed, independent of how they are cut into fragments."""
    reader = Reader(data)
    settings, seed = reader.byte(), reader.byte()
    limit = reader.choose((None, 0, 1, 5, 1000, 70000))
    bits = 8 + (settings & 7)
    messages: list[bytes] = []
    while reader and len(messages) < 8:
        messages.append(reader.take(reader.number() % 600))
    forgets = bool(settings & 8)
    # A distance that is too long for a smaller window is seen by zlib only where it needs that window, so it depends on
    # how the input is cut whether it is. With the largest one, nothing does.
    results = alike(until_unsure([inflate_all(messages, forgets, 15, limit, way, seed) for way in range(3)]), limit)
    narrow = inflate_all(messages, forgets, bits, limit, seed % 3, seed)
    narrow, wide = until_unsure([narrow, results])
    require(narrow == wide or narrow[-1][0] == "wrong", "a smaller window", narrow, wide)
    for message, result in zip(messages[:1], results, strict=False):
        naive = naive_inflate(message, 15)
        if naive is not None and (limit is None or len(naive) <= limit):
            require(result == ("returned", naive), "zlib differs", result, naive)
    check_deflate(messages, bits, forgets, seed)


# What becomes of a message of which that isn't sure.
UNSURE = ("wrong", "or not")


def until_unsure(several: list[list[Any]]) -> list[list[Any]]:
    """Several results for the same messages, up to the first of which any isn't sure."""
    unsure = [results.index(UNSURE) for results in several if UNSURE in results]
    return [results[: min(unsure)] for results in several] if unsure else several


class Watched(deflate.PerMessageDeflate):
    """Tells whether a message had a block with BFINAL."""

    final = False

    def _end_stream(self, decompressor: Any, payload: bytes) -> bytes:
        self.final = True
        return super()._end_stream(decompressor, payload)


def inflate_all(messages: list[bytes], forgets: bool, bits: int, limit: int | None, way: int, seed: int) -> list[Any]:
    """What becomes of messages, cut into fragments in one of several ways; after an error the connection is over.

    So it is with BFINAL from a peer that didn't set it before: it may refer to what came before only by chance.
    """
    codec = Watched(forgets, False, bits, 15)
    results: list[Any] = []
    plain = False
    for message in messages:
        codec.final = False
        ways = [chunks or [b""] for chunks in chunkings(message, seed)]
        result = inflate(codec, ways[way % len(ways)], limit)
        if plain and codec.final:
            return [*results, UNSURE]
        plain = plain or not codec.final
        results.append(result)
        if result[0] == "wrong":
            break
    return results


def inflate(codec: Any, fragments: list[bytes], limit: int | None) -> Any:
    """A message in fragments, each with the room that is left; which error it is may depend on what comes first."""
    content = b""
    for index, fragment in enumerate(fragments):
        room = None if limit is None else limit - len(content)
        try:
            piece = codec.decompress(fragment, index == len(fragments) - 1, room)
        except INFLATE_ERRORS as exc:
            return "wrong", shown(exc) if limit is None else "wrong or too big"
        except exceptions.PayloadTooBig:
            require(limit is not None, "too big, and there is no limit")
            return "wrong", "wrong or too big"
        require(room is None or len(piece) <= room, "more than the limit", len(piece), room)
        content += piece
    return "returned", content


def naive_inflate(message: bytes, bits: int) -> bytes | None:
    """Decompress a message by zlib alone; None if it is wrong, cut off, or ends the stream."""
    stream = zlib.decompressobj(-max(bits, 9))
    try:
        content = stream.decompress(message)
        # What the sender removed is the end of an empty block: nothing comes out of it.
        if stream.decompress(b"\x00\x00\xff\xff"):
            return None
        # Between two blocks, one in plain bytes and one more give just those.
        more = b"" if not message else stream.decompress(b"\x00\x01\x00\xfe\xff!" + b"\x00\x01\x00\xfe\xff?")
    except zlib.error:
        return None
    return content if not stream.eof and (more == b"!?" or not message) else None


def check_deflate(messages: list[bytes], bits: int, forgets: bool, seed: int) -> None:
    """What is compressed, in whatever fragments, is inflated by ours and by zlib."""
    sender = deflate.PerMessageDeflate(False, forgets, 15, max(bits, 9))
    receiver = deflate.PerMessageDeflate(forgets, False, bits, 15)
    for message in messages:
        fragments = cut(message, seed) or [b""]
        last = len(fragments) - 1
        sent = [sender.compress(fragment, index == last) for index, fragment in enumerate(fragments)]
        got = [receiver.decompress(payload, index == last, len(message)) for index, payload in enumerate(sent)]
        require(got == fragments, "not what was compressed", got, fragments)
        overhead = sum(len(payload) for payload in sent) - len(message)
        require(overhead <= 20 * len(fragments) + len(message) // 8, "grew", overhead)


# --------------------------------------------------------------------------------------------------------- negotiation

NEGOTIATION_WORDS = (
    b"permessage-deflate",
    b"; server_no_context_takeover",
    b"; client_no_context_takeover",
    b"; server_max_window_bits=8",
    b"; server_max_window_bits=9",
    b"; server_max_window_bits=15",
    b"; client_max_window_bits",
    b"; client_max_window_bits=8",
    b'; client_max_window_bits="10"',
    b"; client_max_window_bits=015",
    b"=16",
    b", permessage-deflate",
    b", x-other; a=b",
    b"; a",
)

NEGOTIATION_ERRORS = (
    exceptions.NegotiationError,
    exceptions.DuplicateParameter,
    exceptions.InvalidParameterName,
    exceptions.InvalidParameterValue,
    exceptions.InvalidHeaderFormat,
)


def check_negotiation(data: bytes) -> None:
    """For any offer and answer, both ends agree only on what RFC 7692 allows, and then they can talk."""
    reader = Reader(data)
    flags, bits = reader.byte(), reader.byte()
    text = reader.rest().decode("latin-1")
    if not Headers.__contains__(sent := received(text), "Sec-WebSocket-Extensions"):
        return
    if flags & 1:
        check_server(sent, flags, bits)
    else:
        check_client(sent, flags, bits)


def received(text: str) -> Headers:
    """The header as it may arrive; none if it can't."""
    sent = Headers()
    outcome((exceptions.InvalidHeaderValue,), sent.__setitem__, "Sec-WebSocket-Extensions", text)
    return sent


def configured_bits(choice: int) -> int | None:
    choices: tuple[int | None, ...] = (None, *range(8, 16))
    return choices[choice % len(choices)]


def check_server(sent: Headers, flags: int, bits: int) -> None:
    client_bits = configured_bits(bits & 15)
    must = bool(flags & 8) and client_bits is not None
    factory = deflate.ServerPerMessageDeflateFactory(
        bool(flags & 2), bool(flags & 4), configured_bits(bits >> 4), client_bits, None, must
    )
    server = ServerProtocol(extensions=[factory])
    kind, value = outcome(NEGOTIATION_ERRORS, server.process_extensions, sent)
    if kind == "raised":
        require(value[0] == "InvalidHeaderFormat", "an offer may be declined, not refused", value)
        return
    answer, extensions = value
    require((answer is None) == (not extensions) and len(extensions) <= 1, value)
    if answer is None:
        return
    (name, agreed), *others = headers.parse_extension(answer)
    require(name == "permessage-deflate" and not others, answer)
    offers = headers.parse_extension(sent["Sec-WebSocket-Extensions"])
    require(any(fits(offer, agreed, factory) for offer in offers), "an answer to nothing", answer, offers)
    said = dict(agreed)
    talk(extensions[0], far_end(extensions[0]))
    # What wasn't asked isn't said; then the window is as configured.
    own = int(said.get("server_max_window_bits") or factory.server_max_window_bits or 15)
    require(extensions[0].local_max_window_bits == own, answer)
    require(extensions[0].remote_max_window_bits == int(said.get("client_max_window_bits") or 15), answer)


def fits(offer: Any, agreed: Any, factory: Any) -> bool:
    """Whether RFC 7692 section 7.1 allows this answer to an offer."""
    name, parameters = offer
    offered, answer = dict(parameters), dict(agreed)
    bits = {str(number) for number in range(8, 16)}
    window, own = offered.get("client_max_window_bits", ""), offered.get("server_max_window_bits", "")
    return (
        name == "permessage-deflate"
        and len(offered) == len(parameters)
        and offered.keys() <= deflate.REQUEST.keys()
        and all(offered.get(flag) is None for flag in ("server_no_context_takeover", "client_no_context_takeover"))
        and window in {None, "", *bits}
        and own in {"", *bits}
        # What the client asks of the server must be in the answer; what it doesn't offer to heed must not.
        and ("server_no_context_takeover" not in offered or "server_no_context_takeover" in answer)
        and (not own or int(answer.get("server_max_window_bits", 99)) <= int(own))
        and (own != "" or "server_max_window_bits" not in answer)
        and (window != "" or "client_max_window_bits" not in answer)
        and (not window or int(answer.get("client_max_window_bits", 99)) <= int(window))
        and (not factory.server_no_context_takeover or "server_no_context_takeover" in answer)
    )


def check_client(sent: Headers, flags: int, bits: int) -> None:
    client_bits = True if flags & 8 else configured_bits(bits >> 4)
    factory = deflate.ClientPerMessageDeflateFactory(
        bool(flags & 2), bool(flags & 4), configured_bits(bits & 15), client_bits
    )
    offered = dict(factory.get_request_params())
    client = ClientProtocol(parse_uri("ws://localhost/"), extensions=[factory])
    kind, value = outcome(NEGOTIATION_ERRORS, client.process_extensions, sent)
    if kind == "raised":
        return
    require(len(value) == 1, value)
    ((_, parameters),) = headers.parse_extension(sent["Sec-WebSocket-Extensions"])
    said: dict[str, Any] = dict(parameters)
    require(len(said) == len(parameters) and said.keys() <= deflate.RESPONSE.keys(), said)
    require("client_max_window_bits" in offered or "client_max_window_bits" not in said, offered, said)
    for name in ("server_no_context_takeover", "server_max_window_bits"):
        require(name in said or name not in offered, "accepted though it ignores the offer", offered, said)
    require(int(said.get("server_max_window_bits", 0)) <= int(offered.get("server_max_window_bits") or 15), said)
    require(value[0].remote_max_window_bits == int(said.get("server_max_window_bits", 15)), said)
    require(value[0].local_max_window_bits <= int(said.get("client_max_window_bits", 15)), said)
    talk(value[0], far_end(value[0]))


def far_end(end: deflate.PerMessageDeflate) -> deflate.PerMessageDeflate:
    """The other end, by what was agreed."""
    return deflate.PerMessageDeflate(
        end.local_no_context_takeover,
        end.remote_no_context_takeover,
        end.local_max_window_bits,
        max(end.remote_max_window_bits, 9),
    )


def talk(end: deflate.PerMessageDeflate, other: deflate.PerMessageDeflate) -> None:
    """Let both ends say something that needs a window."""
    for message in (b"a window " * 40, bytes(range(256)) * 3, b""):
        require(other.decompress(end.compress(message)) == message, "not understood", end)
        require(end.decompress(other.compress(message)) == message, "not understood", end)


TARGETS = [
    Target("frames", check_frames, FRAME_WORDS, 1000, 4),
    Target("close", check_close, (b"\x03\xe8", b"reason", b"\xc3\xa9", b"\xed\xa0\x80", b"\x1b["), 125),
    Target("inflate", check_inflate, DEFLATE_WORDS, 3000, 3),
    Target("negotiation", check_negotiation, NEGOTIATION_WORDS, 400, 2),
]
