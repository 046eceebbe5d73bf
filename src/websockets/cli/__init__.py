"""The command ``websockets``, also ``python -m websockets``: a client, a server, a benchmark.

May know: the parts of the command, how it ends. Must not know: anything about connections. Parts are loaded when they
are needed, so that ``websockets --version`` is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from .._compat.environment import WrongVariable
from ._signals import loading
from ._status import ABNORMAL, INTERRUPTED, OK, USAGE, UsageError

__all__ = ["main"]


def main(argv: list[str] | None = None) -> None:
    """Run the command; return if it succeeds.

    Parameters:
        argv: arguments, without the name of the program; those of the process by default.

    Raises:
        SystemExit: the command failed. The status is 1 if there is no connection, 2 for wrong usage, 3 if the
            connection was closed abnormally or expected messages are missing, 130 for Ctrl-C before a connection.
    """
    _fill_in_standard_streams()
    status = _status(sys.argv[1:] if argv is None else argv)
    if status != OK:
        sys.exit(status)


def _fill_in_standard_streams() -> None:
    """Open standard streams that were closed at the start, as for some daemons; they lead to the null device.

    Each stream gets the lowest free file descriptor, which is its own. Otherwise a socket could get it, here or in
    a child process, and text for standard error would go to a client.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _status(arguments: Sequence[str]) -> int:
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except (UsageError, WrongVariable) as exc:
        print(f"websockets: error: {exc}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as exc:
        # Writing to standard output or a file failed. A reader that closes a pipe early is not an error to report.
        if not isinstance(exc, BrokenPipeError):
            # If the terminal was closed, writing to standard error fails, too.
            with contextlib.suppress(OSError):
                print(f"websockets: error: {exc}", file=sys.stderr)
        _give_up_output()
        return ABNORMAL
    return status


def _give_up_output() -> None:
    """Drop the buffered output, so that it doesn't fail again when the interpreter ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str]) -> int:
    match arguments:
        case ["serve", *rest]:
            return _as_server(rest)
        case ["bench", *rest]:
            return _as_benchmark(rest)
        case ["ping", *rest]:
            return _as_client(["--ping", *rest])
        case _:
            return _as_client(arguments)


def _as_client(arguments: Sequence[str]) -> int:
    with loading():
        from ._arguments import client_parser

    parser = client_parser()
    options = parser.parse_args(arguments)
    if options.help or options.help_all:
        client_parser(everything=options.help_all).print_help()
        return OK
    if options.version:
        _print_version()
        return OK
    if options.uri is None:
        parser.print_usage()
        return USAGE
    with loading():
        from ._client import run_client

    return run_client(options)


def _print_version() -> None:
    from .._codec import TWIN
    from .._rules.tls_transports import shown_choice
    from ..extensions._libraries import shown_libraries
    from ..version import version

    print(f"websockets {version} ({TWIN} accelerator)")
    print(f"compression: {shown_libraries()}")
    print(f"TLS with asyncio: {shown_choice()}")


def _as_server(arguments: Sequence[str]) -> int:
    with loading():
        from ._arguments import serve_parser
        from ._serve import run_server

    return run_server(serve_parser().parse_args(arguments))


def _as_benchmark(arguments: Sequence[str]) -> int:
    with loading():
        from ._arguments import bench_parser
        from ._bench import run_bench

    return run_bench(bench_parser().parse_args(arguments))
