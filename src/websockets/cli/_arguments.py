"""Options of the command line: their names, their help, and checks of single values.

May know: argparse. Must not know: the meaning of options in combination, connections, files.
"""

from __future__ import annotations

import argparse
import functools
import math
import re
import shutil
from typing import Any

__all__ = ["bench_parser", "client_parser", "place", "serve_parser"]

MAX_WIDTH = 100

FORMATS = ["text", "raw", "jsonl"]

USAGE = """websockets [option ...] URI
       websockets ping [option ...] URI
       websockets serve [option ...] [[HOST:]PORT]
       websockets bench [option ...] URI"""

INTRODUCTION = "Talk to a WebSocket server. A line is a message; Ctrl-D closes the connection."

STATUSES = "exit status: 0 closed normally; 1 not connected; 2 wrong usage; 3 anything else"


# --------------------------------------------------------------------------------------------------------------- values


def positive(text: str) -> float:
    """Return a number of seconds above zero."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, and finite: {text}")
    return value


def not_negative(text: str) -> float:
    """Return a number of seconds; 0 and "inf" are allowed."""
    value = float(text)
    if math.isnan(value) or value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative: {text}")
    return value


def counted(text: str) -> int:
    """Return an integer above zero."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be more than 0: {text}")
    return value


def size(text: str) -> int:
    """Return a number of bytes: an integer, also 0, with an optional K, M or G for powers of 1024."""
    powers = {"K": 2**10, "M": 2**20, "G": 2**30}
    unit = powers.get(text[-1:].upper())
    value = int(text) if unit is None else int(text[:-1]) * unit
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative: {text}")
    return value


def hexadecimal(text: str) -> bytes:
    """Return bytes, from two hexadecimal digits each; spaces between them are allowed."""
    return bytes.fromhex(text)


def place(text: str) -> tuple[str | None, int]:
    """Return host and port, from ``8765``, ``localhost:8765``, ``[::1]:8765``, or ``:8765`` for all interfaces."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise argparse.ArgumentTypeError(f"write an IPv6 address in brackets: {text}")
    if not (port.isascii() and port.isdigit() and int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"no port from 0 to 65535: {text}")
    return (host or None) if colon else "localhost", int(port)


def number(text: str) -> int:
    """Return an integer, also 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative: {text}")
    return value


# A host, which may be in brackets, and a port, or nothing for any.
Place = tuple[str, int | None]

split_place = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*):([0-9]{0,5})").match


def resolved(text: str) -> tuple[Place, Place]:
    """Return a host and a port, and an address and no port, from ``HOST:PORT:ADDRESS``."""
    match = split_place(text)
    address = text[match.end() + 1 :].strip("[]") if match else ""
    if not (match and match[1] and match[2] and text[match.end() :].startswith(":") and address):
        raise argparse.ArgumentTypeError(f"must look like HOST:PORT:ADDRESS: {text}")
    return _place(match), (address, None)


def diverted(text: str) -> tuple[Place, Place]:
    """Return two hosts, each with a port, from ``HOST1:PORT1:HOST2:PORT2``; any of the four may be empty."""
    first = split_place(text)
    second = split_place(text, first.end() + 1) if first and text[first.end() :].startswith(":") else None
    if not (first and second and second.end() == len(text)):
        raise argparse.ArgumentTypeError(f"must look like HOST1:PORT1:HOST2:PORT2: {text}")
    return _place(first), _place(second)


def _place(match: re.Match[str]) -> Place:
    return match[1].strip("[]"), int(match[2]) if match[2] else None


# The names of these types in errors of argparse.
for _function, _name in (
    (number, "number"),
    (positive, "number"),
    (not_negative, "number"),
    (counted, "number"),
    (size, "size"),
):
    _function.__name__ = _name


# -------------------------------------------------------------------------------------------------------------- parsers


class Messages(argparse.Action):
    """Collects the messages to send, in order, each with the kind of its option."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Called by argparse for each use of the option."""
        kind = self.option_strings[-1].lstrip("-")
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), (kind, values)])


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Formats the names of an option first and its value once after them, so that an option takes one line."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(action.option_strings)
        return names if action.nargs == 0 else f"{names} {self._format_args(action, str(action.metavar))}"


def formatter(width: int | None) -> Any:
    """Return a formatter for help of this width in columns; None for the width of the terminal."""
    columns = min(shutil.get_terminal_size().columns, MAX_WIDTH) if width is None else width
    return functools.partial(Formatter, max_help_position=27, width=columns)


class Options:
    """Adds options to a parser; rare options get help only if everything is shown."""

    def __init__(self, parser: argparse.ArgumentParser, everything: bool) -> None:
        self.parser = parser
        self.everything = everything
        self.group: Any = parser

    def titled(self, title: str) -> None:
        """Begin a group with a title, if everything is shown."""
        self.group = self.parser.add_argument_group(title) if self.everything else self.parser

    def often(self, *names: str, help: str, **kwargs: Any) -> None:
        """Add an option that every user should know."""
        self.group.add_argument(*names, help=help, **kwargs)

    def rarely(self, *names: str, help: str, **kwargs: Any) -> None:
        """Add an option that users look up when they need it."""
        self.group.add_argument(*names, help=help if self.everything else argparse.SUPPRESS, **kwargs)


def parser(prog: str, usage: str, width: int | None, **kwargs: Any) -> argparse.ArgumentParser:
    """Return a parser with the common layout of help."""
    return argparse.ArgumentParser(prog=prog, usage=usage, formatter_class=formatter(width), add_help=False, **kwargs)


def client_parser(everything: bool = False, width: int | None = None) -> argparse.ArgumentParser:
    """Return the parser of ``websockets URI``.

    Parameters:
        everything: whether its help shows all options, and not only the most common ones; False by default.
        width: columns of the help; None (the default) for the width of the terminal.
    """
    result = parser("websockets", USAGE, width, description=INTRODUCTION, epilog=STATUSES)
    options = Options(result, everything)
    result.add_argument("uri", metavar="URI", nargs="?", help=argparse.SUPPRESS)
    options.often("-h", "--help", action="store_true", help="show this help and exit")
    options.often("--help-all", action="store_true", help="show all options and exit")
    options.often("--version", action="store_true", help="show the version, and which accelerator is used")
    add_reaching(options)
    options.often("--timeout", type=positive, metavar="SEC", help="give up after this total time")
    add_messages(options)
    add_showing(options)
    options.titled("latency")
    options.rarely("--ping", action="store_true", help="ping the server and show the latency")
    options.rarely("--count", type=counted, metavar="N", help="number of pings; without it, ping until Ctrl-C")
    options.rarely("--interval", type=not_negative, metavar="SEC", help="time between pings (1)")
    return result


def add_reaching(options: Options) -> None:
    """Add options for reaching the server, and for authentication."""
    options.titled("request")
    options.often(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="send this header; @FILE reads headers from a file",
    )
    options.often(
        "-s", "--subprotocol", action="append", metavar="NAME", help="offer this subprotocol; may be repeated"
    )
    options.rarely("-o", "--origin", metavar="ORIGIN", help="send this Origin header")
    options.often("--auth", metavar="USER[:PASS]", help="basic authentication; @FILE reads it from a file")
    options.rarely("--no-compression", action="store_true", help="don't offer permessage-deflate")
    options.rarely(
        "--max-size", type=size, metavar="BYTES", default=2**20, help="accept messages up to this size; 0 for any (1M)"
    )
    options.titled("network")
    options.often("-k", "--insecure", action="store_true", help="don't verify the server's certificate")
    options.rarely("--ca", metavar="FILE", help="trust the certificates in this file, and no others")
    options.rarely("--cert", metavar="FILE", help="identify with this certificate")
    options.rarely("--key", metavar="FILE", help="private key of --cert, if it isn't in the same file")
    options.rarely("--passphrase", metavar="TEXT", help="passphrase of the private key; @FILE reads it from a file")
    options.rarely(
        "--resolve",
        type=resolved,
        action="append",
        metavar="HOST:PORT:ADDRESS",
        help="use this address for HOST:PORT instead of looking up the name",
    )
    options.rarely(
        "--connect-to",
        type=diverted,
        action="append",
        metavar="HOST1:PORT1:HOST2:PORT2",
        help="connect to HOST2:PORT2 instead of HOST1:PORT1; each may be empty",
    )
    options.rarely("--max-redirects", type=number, metavar="N", help="follow N redirects at most (9)")
    options.rarely("--proxy", metavar="URI", help="use this proxy instead of the system's")
    options.rarely("--no-proxy", action="store_true", help="use no proxy")
    options.rarely("--unix", metavar="PATH", help="connect to this Unix socket")
    options.often("-v", "--verbose", action="store_true", help="show requests, responses and frames on standard error")


def add_messages(options: Options) -> None:
    """Add options for messages to send and to wait for."""
    options.titled("messages")
    options.often(
        "--send",
        action=Messages,
        dest="messages",
        metavar="TEXT",
        help="send this instead of typed lines; may be repeated",
    )
    options.rarely(
        "--send-hex",
        action=Messages,
        dest="messages",
        type=hexadecimal,
        metavar="HEX",
        help="send this binary message, in hexadecimal",
    )
    options.rarely(
        "--send-file", action=Messages, dest="messages", metavar="FILE", help="send a file as a binary message"
    )
    options.often("--expect", type=counted, metavar="N", help="end after receiving N messages")
    options.rarely(
        "--wait",
        type=not_negative,
        metavar="SEC",
        help="finally receive until SEC pass without a message (1)",
    )
    options.rarely(
        "--replay", metavar="FILE", help="send what --format jsonl recorded in this file, with the same pauses"
    )
    options.rarely("--reconnect", action="store_true", help="connect again when the connection ends")
    options.rarely("--hex", action="store_true", help="read lines as hexadecimal, for binary messages")
    options.rarely("--slash", action="store_true", help="lines may be commands; /help lists them")


def add_showing(options: Options) -> None:
    """Add options for the output."""
    options.titled("output")
    options.often("--format", choices=FORMATS, metavar="NAME", help="text, raw (bare messages) or jsonl (JSON Lines)")
    options.often("--json", action="store_true", help="indent JSON in messages")
    options.rarely("-i", "--include", action="store_true", help="show the head of the server's response")
    options.rarely("--show-pings", action="store_true", help="show pings and pongs of both sides")
    options.rarely("-t", "--timestamps", action="store_true", help="put the time before each message")
    options.rarely("--save", metavar="FILE", help="append binary messages to this file, unchanged")


def serve_parser(width: int | None = None) -> argparse.ArgumentParser:
    """Return the parser of ``websockets serve``.

    Parameters:
        width: columns of the help; None (the default) for the width of the terminal.
    """
    result = parser(
        "websockets serve",
        "websockets serve [option ...] [[HOST:]PORT]",
        width,
        description="Run a WebSocket server until Ctrl-C or SIGTERM.",
        epilog="exit status: 0 stopped as asked; 2 wrong usage; 3 anything else",
    )
    add = result.add_argument
    add(
        "place",
        metavar="[HOST:]PORT",
        nargs="?",
        type=place,
        help="where to listen (localhost:8765); :PORT for all interfaces",
    )
    add("-h", "--help", action="help", help="show this help and exit")
    add("--handler", metavar="NAME", default="echo", help="echo, broadcast, print, or module:function (echo)")
    add(
        "--tls",
        nargs="*",
        metavar="FILE",
        help="use TLS, with the files of a certificate and its key, or with a temporary certificate for localhost",
    )
    add("--unix", metavar="PATH", help="listen on this Unix socket instead")
    add("--workers", type=counted, metavar="N", default=1, help="number of worker processes (1)")
    add("--auth", metavar="USER[:PASS]", help="require this of clients; @FILE reads it from a file")
    add("-s", "--subprotocol", action="append", metavar="NAME", help="accept this subprotocol; may be repeated")
    add("--no-compression", action="store_true", help="don't accept permessage-deflate")
    add("--max-size", type=size, metavar="BYTES", default=2**20, help="accept messages up to this size; 0 for any (1M)")
    add("-v", "--verbose", action="count", default=0, help="log connections on standard error; -vv for frames")
    return result


def bench_parser(width: int | None = None) -> argparse.ArgumentParser:
    """Return the parser of ``websockets bench``.

    Parameters:
        width: columns of the help; None (the default) for the width of the terminal.
    """
    result = parser(
        "websockets bench",
        "websockets bench [option ...] URI",
        width,
        description="Measure a server that sends each message back.",
        epilog="exit status: 0 measured; 1 not connected; 2 wrong usage; 3 anything else",
    )
    result.add_argument("uri", metavar="URI", help="the server")
    options = Options(result, everything=True)
    options.often("-h", "--help", action="help", help="show this help and exit")
    options.titled("load")
    options.often("-c", "--connections", type=counted, metavar="N", default=10, help="connections (10)")
    options.often(
        "-d", "--depth", type=counted, metavar="N", default=1, help="messages in flight on each connection (1)"
    )
    options.often("--size", type=size, metavar="BYTES", default=64, help="size of a message (64)")
    options.often("--binary", action="store_true", help="send binary messages, not text")
    options.often("--duration", type=positive, metavar="SEC", default=5.0, help="time to measure (5)")
    options.often("-n", "--count", type=counted, metavar="N", help="end after N messages in all")
    options.often(
        "--format", choices=["text", "jsonl"], metavar="NAME", default="text", help="text or jsonl (JSON Lines)"
    )
    add_reaching(options)
    result.set_defaults(timeout=None)
    return result
