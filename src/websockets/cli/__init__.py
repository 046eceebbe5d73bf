"""The command ``websockets``, also to be had as ``python -m websockets``: a client, a server, a benchmark.

May know: which part does what, how the command ends. Must not know: anything about connections. Parts are loaded when
they are needed, so that ``websockets --version`` is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from ._status import ABNORMAL, INTERRUPTED, OK, USAGE, UsageError

__all__ = ["main"]


def main(argv: list[str] | None = None) -> None:
    """Run the command; return when all went well.

    Parameters:
        argv: arguments, without the name of the program; those of the process by default.

    Raises:
        SystemExit: the status isn't 0, but 1 if there is no connection, 2 for wrong usage, 3 if the connection was
            closed abnormally or not all that was expected came, 130 for Ctrl-C before there was anything to end.
    """
    _fill_in_standard_streams()
    status = _status(sys.argv[1:] if argv is None else argv)
    if status != OK:
        sys.exit(status)


def _fill_in_standard_streams() -> None:
    """Open those that were closed when the program was started, as some daemons are: they lead nowhere.

    Each gets the lowest number that is free, which is its own. Otherwise a socket could, in this process or in one that
    it starts, and what is written to standard error would go to a client.
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
    except UsageError as exc:
        print(f"websockets: error: {exc}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as exc:
        # Standard output, or a file, takes no more; that nobody reads a pipe to its end is no reason to complain.
        if not isinstance(exc, BrokenPipeError):
            # If it is a terminal that was closed, standard error is gone with it.
            with contextlib.suppress(OSError):
                print(f"websockets: error: {exc}", file=sys.stderr)
        _give_up_output()
        return ABNORMAL
    return status


def _give_up_output() -> None:
    """Let what is left in the buffer not fail again when the interpreter ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str]) -> int:
    match arguments:
        case ["serve", *rest]:
            return _as_server(rest)
        case ["bench", *rest]:
            return _as_benchmark(rest)
        case _:
            return _as_client(arguments)


def _as_client(arguments: Sequence[str]) -> int:
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
    from ._client import run_client

    return run_client(options)


def _print_version() -> None:
    from .._codec import TWIN
    from ..version import version

    print(f"websockets {version} ({TWIN} accelerator)")


def _as_server(arguments: Sequence[str]) -> int:
    from ._arguments import serve_parser
    from ._serve import run_server

    return run_server(serve_parser().parse_args(arguments))


def _as_benchmark(arguments: Sequence[str]) -> int:
    from ._arguments import bench_parser
    from ._bench import run_bench

    return run_bench(bench_parser().parse_args(arguments))
