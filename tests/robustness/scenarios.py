"""The scenarios: what a peer, or bad luck, may do, and what the library does about it.

Charter: the text of the table in docs/robustness.md, which ``python docs/make_robustness.py --write`` makes of this and
of the tests that are marked ``scenario``. Knows nothing but that.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SECTIONS", "Scenario"]


class Scenario(NamedTuple):
    """A row of the table.

    Attributes:
        what: What happens.
        defence: What the library does: a close code, a status, a limit, an exception.
        threads: What is different in threads; why there is no such thing, if no test shows it there.
    """

    what: str
    defence: str
    threads: str = ""


S = Scenario

SECTIONS: dict[str, dict[int, Scenario]] = {
    "Opening handshake, as a server": {
        1: S("A client connects and says nothing", "closed at `open_timeout`", threads="costs no thread"),
        2: S("A request comes a byte at a time", "`open_timeout` is one deadline for the whole handshake"),
        3: S("Two hundred such clients at once", "others are served without delay"),
        4: S("A request line that is too long", "414 beyond 8 KiB, before its end"),
        5: S("A header line that is too long", "431 beyond 8 KiB, before its end"),
        6: S("More headers than make sense", "431 beyond 128, before anything is looked up in them"),
        7: S("All headers as long as they may be", "at most 1 MiB, read in linear time however it arrives"),
        8: S("A header that never ends", "431 as soon as it is too long; no more than that is kept"),
        9: S("Another method than GET", "405 with `Allow: GET`"),
        10: S("HTTP/1.0, the preface of HTTP/2, TLS or SSH on the port", "505 for HTTP/1.0, 400 for the rest"),
        11: S("`Host` missing or repeated", "400"),
        12: S("No `Upgrade: websocket`, no `Connection: upgrade`", "426 with `Upgrade: websocket`"),
        13: S("`Sec-WebSocket-Key` missing, repeated, or not 16 bytes in base64", "400"),
        14: S(
            "`Sec-WebSocket-Version` other than 13, or repeated",
            "426 with `Sec-WebSocket-Version: 13`; 400 if it is missing or repeated",
        ),
        15: S("A blank before a colon, folded lines, bare CR or LF, control characters", "400"),
        16: S(
            "A request with a body, or with lengths that contradict each other",
            "400; bytes behind a request are frames after 101 and nothing otherwise",
        ),
        17: S(
            "Line breaks in a path, an origin, a subprotocol or an extension",
            "400; no value of the client gets into a head, none unescaped into a body. 500 if a hook chose them",
        ),
        18: S(
            "Subprotocols that the server doesn't have",
            "only what is offered is selected, from all headers together; 400 if nothing fits. What a "
            "`select_subprotocol` hook returns is taken as it is",
        ),
        19: S("Malformed lists, with characters beyond ASCII", "400, or 426 if no upgrade is left; never 500"),
        20: S("Headers made to make regular expressions slow", "all are linear: possessive quantifiers only"),
        21: S(
            "Offers of compression with wrong parameters",
            "declined, and the next one tried; the window agreed on is heeded",
        ),
        22: S("Hundreds of offers", "read once, answered once"),
        23: S(
            "A page of another site connects (cross-site WebSocket hijacking)",
            "`origins=`: 403 unless the origin equals one of them or matches a pattern in full; None for no origin",
        ),
        24: S(
            "Guessing a password, or reading it in a log",
            "all credentials compared in constant time; 401 with `WWW-Authenticate`; never logged",
        ),
        25: S(
            "Many handshakes that are never finished",
            "each costs a few KiB and no task, and ends at `open_timeout`; beyond `max_connections=` or "
            "`max_connections_per_host=` 503 with `Retry-After`, for the first 1000; the others are cut off",
            threads="a thread starts only with a complete request",
        ),
        26: S("A refused client that goes on", "`Connection: close`, and the socket is closed at `close_timeout`"),
        27: S("A hook that raises", "500 without details, which are in the log"),
        28: S("Frames in the segment of the request", "read once the connection is open"),
    },
    "Frames": {
        29: S("A client that doesn't mask, a server that does", "1002, before anything is delivered"),
        30: S("Reserved bits that no extension claims, or in the wrong place", "1002"),
        31: S("Unknown opcodes", "1002"),
        32: S("Control frames in fragments or beyond 125 bytes", "1002, by the first two bytes"),
        33: S("Continuation of nothing, a new message inside another", "1002"),
        34: S("A length with the highest of its 64 bits set", "1002"),
        35: S("A length beyond `max_size`", "1009, by the header; nothing is allocated for what is announced"),
        36: S("Fragments beyond `max_size` together", "1009, by the header; the sum can't overflow"),
        37: S("A length that isn't in its shortest form", "1002"),
        38: S("A message of exactly `max_size`", "delivered; control frames don't count"),
        39: S("A Close of one byte, or with a code that may not travel", "1002, and never echoed"),
        40: S("A Close without a code", "answered without a code; 1005 is only what `close_code` says"),
        41: S("A Close whose reason isn't UTF-8", "1007"),
        42: S("Data behind a Close", "ignored"),
        43: S("A Close inside a fragmented message", "answered with its own code"),
        44: S(
            "Text that isn't UTF-8",
            "1007 at the first wrong byte, inside a frame too; split characters are fine",
        ),
        45: S("Pings inside messages, pongs that nobody asked for", "answered with their payload; ignored"),
        46: S("Empty frames, empty fragments, floods of them", "delivered; joined while they wait"),
    },
    "Compression": {
        47: S(
            "A compression bomb: whole, in fragments, twenty at once",
            "1009; inflating stops a byte beyond `max_size`",
            threads="threads inflate all at once, each up to `max_size`",
        ),
        48: S("Inflated to exactly `max_size`, or a byte more", "delivered; 1009"),
        49: S("Data that can't be inflated", "1002, or 1007 if it is cut off; a `ProtocolError`"),
        50: S("A deflate stream that ends (BFINAL)", "delivered, and the next message is intact"),
        51: S("`server_no_context_takeover`, `client_no_context_takeover`", "honoured both ways"),
        52: S(
            "Thousands of silent connections with compression",
            "no state of zlib before a compressed message passes, nor after the end; windows are options",
        ),
        53: S("A hundred thousand empty blocks", "inflated in linear time; nothing is dropped"),
        54: S(
            "Messages that don't compress, or should not be compressed",
            "they grow by a fraction of a percent; `compression=None` for a connection. See "
            "[security](security.md#compression-and-secrets)",
        ),
    },
    "Flow control and resources": {
        55: S(
            "Pings without end from a peer that doesn't read",
            "one pong at most waits above `write_limit`; the last ping is answered",
        ),
        56: S(
            "Messages without end to an echo, from a peer that doesn't read",
            "`send` waits, so reading stops",
        ),
        57: S("Fragments without end", "joined while they wait; `max_size` bounds the message"),
        58: S(
            "Noisy connections beside a quiet one",
            "crowds of frames are read 4 KiB a turn; `recv` lets others run after 256 messages without a wait",
            threads="the system gives each thread its turn",
        ),
        59: S(
            "Messages that nobody reads",
            "reading pauses above `max_queue` frames",
            threads="who receives reads by itself, so nothing waits; the steward stops above `max_queue`",
        ),
        60: S("A peer that stops reading while `send` waits", "keepalive works meanwhile: dropped at `ping_timeout`"),
        61: S("A peer that is gone without a word", "dropped after `ping_interval` and `ping_timeout`"),
        62: S("A peer that stops in the middle of a message", "the same"),
        63: S("A peer that doesn't finish closing", "aborted at `close_timeout`; the socket is freed"),
        64: S(
            "Reset or end of stream in the middle of a message",
            "`ConnectionClosedError`, 1006; no part of a message is delivered",
        ),
        65: S(
            "No more file descriptors",
            "asyncio tries again after a second and reports it, uvloop turns connections away; open ones live",
            threads="accepting pauses for a second, and the log says so once",
        ),
        66: S("Connections that come and go, by the thousand", "nothing is left: descriptors, tasks, objects, memory"),
        67: S("Attacks that fill logs", "at most three lines a connection, at `INFO`, short, escaped, no traceback"),
    },
    "Opening handshake, as a client": {
        68: S("`Sec-WebSocket-Accept` wrong, missing or repeated", "`InvalidHeader`"),
        69: S("Extensions or subprotocols that weren't asked for", "`NegotiationError`; `InvalidHeader` for several"),
        70: S(
            "Anything but HTTP",
            "an `InvalidHandshake`, or `InvalidURI` for a redirect",
        ),
        71: S(
            "An answer without end, or one that drips",
            "the limits of a server's handshake, 16 interim responses, 1 MiB for a body; `open_timeout`. A refusal "
            "whose body isn't whole is an `InvalidStatus` with what came of it",
        ),
        72: S(
            "Redirects: in circles, to other origins, to no encryption",
            "ten attempts; `ws` and `wss` only, also written `http` and `https`; `SecurityError` from `wss` to `ws`; "
            "credentials stay with their origin",
        ),
        73: S("Credentials in a URI", "in no error, no log, no `repr`"),
        74: S(
            "A proxy that answers wrongly, listens, or poses as the server",
            "its credentials go to it alone; its answer has the limits of a handshake; TLS is verified end to end",
        ),
        75: S(
            "A certificate that isn't right",
            "verified with the name; no false value of `ssl` turns that off",
        ),
        76: S("Masks or keys that can be guessed", "from `os.urandom`, new for each frame, drawn afresh after a fork"),
        77: S("A server that doesn't finish closing, or doesn't stop sending", "over within `close_timeout`"),
    },
    "Concurrency": {
        78: S(
            "Cancellation at any step of anything",
            "no message lost, no half frame, the connection goes on",
            threads="threads can't be cancelled: a time-out or an interruption loses and tears nothing",
        ),
        79: S(
            "Two receivers; several senders",
            "`ConcurrencyError`; messages never get into another",
            threads="also of a send in fragments: `ConcurrencyError`",
        ),
        80: S("`close` from several tasks, while others wait", "all return, and who waits gets `ConnectionClosed`"),
        81: S("A handler that raises", "1011, and a traceback in the log"),
        82: S(
            "A server that is closed while connections open and close",
            "503, 1001, or the end under way; in time",
        ),
        83: S(
            "A loop that ends with connections open",
            "no complaint of tasks destroyed",
            threads="the program ends; open connections don't keep it",
        ),
        84: S(
            "Failures that nobody asks for",
            "no complaint of exceptions never retrieved",
            threads="no thread of the library ends by an exception",
        ),
        85: S("Threads and forks", "see [threads and processes](#threads-and-processes)"),
        86: S(
            "Any bytes in any pieces",
            "the same outcome however they are cut; long runs by [the fuzzer](fuzzing.md)",
        ),
        87: S(
            "Hours of everything on a network that fails",
            "nothing is left; long runs by [the soak](fuzzing.md#the-soak)",
        ),
    },
}
