"""Make the tables of options from the table that the library uses to check them.

``python docs/make_options.py`` prints them; with ``--write`` they are written to ``reference/options.md``, between the
two marks. ``tests/docs/test_options_page.py`` fails if the page differs.

May know: the rows of the table, the marks in the page. Must not know: the purpose of an option, which its docstring
explains.
"""

from __future__ import annotations

from collections.abc import Iterator

from regions import Region
from websockets._rules import option_table as allowed
from websockets.http11 import SERVER, USER_AGENT

# The names under which users know the functions that take an option.
CALLED = {
    allowed.CONNECT: "`connect`",
    allowed.SERVE: "`serve`",
    allowed.ROUTE: "`route`",
    allowed.RUN: "`serve` without `process_request`",
    allowed.CONNECTION: "`Connection`",
    allowed.TRIO_CONNECT: "trio `connect`",
    allowed.TRIO_SERVE: "trio `serve`",
    allowed.TRIO_CONNECTION: "trio `Connection`",
    allowed.CLIENT_PROTOCOL: "`ClientProtocol`",
    allowed.SERVER_PROTOCOL: "`ServerProtocol`",
    allowed.CLOSE: "`close`",
    allowed.BROADCAST: "`broadcast`",
    allowed.BASIC_AUTH: "`basic_auth`",
    allowed.LEGACY_CONNECT: "legacy `connect`",
    allowed.LEGACY_SERVE: "legacy `serve`",
    allowed.LEGACY_CONNECTION: "legacy connections",
    allowed.LEGACY_BASIC_AUTH: "legacy `basic_auth_protocol_factory`",
    allowed.TCP_CLIENT: "`connect`",
    allowed.UNIX_CLIENT: "`unix_connect`",
    allowed.TCP_SERVER: "`serve`",
    allowed.UNIX_SERVER: "`unix_serve`",
    allowed.SYNC_CONNECT: "`connect` for threads",
    allowed.SYNC_LEGACY: "`connect` for threads",
    allowed.SYNC_TCP_CLIENT: "`connect` for threads",
    allowed.SYNC_UNIX_CLIENT: "`unix_connect` for threads",
    allowed.SYNC_SERVE: "`serve` for threads",
    allowed.SYNC_RUN: "`serve` for threads without `process_request`",
    allowed.SYNC_ROUTE: "`route` for threads",
    allowed.SYNC_BASIC_AUTH: "`basic_auth` for threads",
    allowed.SYNC_TCP_SERVER: "`serve` for threads",
    allowed.SYNC_UNIX_SERVER: "`unix_serve` for threads",
    allowed.TRIO_TCP_CLIENT: "trio `connect`",
    allowed.TRIO_UNIX_CLIENT: "trio `unix_connect`",
}
LOOPS = {
    *(*allowed.CLIENT_LOOPS, *allowed.SERVER_LOOPS),
    *(*allowed.SYNC_CLIENTS, *allowed.SYNC_LISTENERS),
    *allowed.TRIO_CLIENTS,
}

# Texts for defaults that depend on the machine, and for values that mean "no value".
SHOWN = {USER_AGENT: "versions", SERVER: "versions"}
NONE = {id(allowed.REQUIRED): "required", id(allowed.UNSET): ""}


def tables() -> list[str]:
    """Return a table of our own options, and one of those that are passed to the event loop or to trio."""
    ours = [option for option in allowed.OPTIONS if LOOPS.isdisjoint(option.takers)]
    loops = [option for option in allowed.OPTIONS if not LOOPS.isdisjoint(option.takers)]
    return [
        "## Options of this library",
        "\n".join(["| option | default | what it must be | taken by |", "| --- | --- | --- | --- |", *_rows(ours)]),
        "## Options of the event loop, or of trio",
        "\n".join(["| option | what it must be | taken by |", "| --- | --- | --- |", *_rows(loops, default=False)]),
    ]


def _rows(options: list[allowed.Option], default: bool = True) -> Iterator[str]:
    for option in options:
        cells = [f"`{option.name}`", option.allowed, ", ".join(dict.fromkeys(CALLED[name] for name in option.takers))]
        if default:
            cells.insert(1, _default(option))
        yield f"| {' | '.join(cells)} |"


def _default(option: allowed.Option) -> str:
    if id(option.default) in NONE:
        return NONE[id(option.default)]
    return SHOWN.get(option.default) or f"`{option.default!r}`"


REGION = Region("reference/options.md", "options", tables)

if __name__ == "__main__":
    REGION.main()
