"""Options, checked once: marks of queues, extensions, TLS, places, and forms that older programs pass."""

from __future__ import annotations

import functools
import warnings
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from _kit.wrong_options import Whole
from websockets._rules import option_table as allowed
from websockets._rules.option_checks import takes_path
from websockets._session.options import (
    check_tls,
    client_extensions,
    connection_arguments,
    queue_marks,
    renamed_argument,
    server_extensions,
    shows_path,
    tls_times,
    write_marks,
)
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.uri import parse_uri

# ---------------------------------------------------------------------------------------------------------------- marks


@pytest.mark.parametrize(
    ("max_queue", "marks"),
    [
        (16, (16, 4)),
        (3, (3, 0)),
        (0, (0, 0)),
        (None, (None, 0)),
        ((None, None), (None, 0)),
        ((8, None), (8, 2)),
        ((8, 8), (8, 8)),
        ((8, 0), (8, 0)),
        ((None, 3), (12, 3)),
        ((None, 0), (0, 0)),
    ],
)
def test_queue_marks(max_queue: Any, marks: Any) -> None:
    assert queue_marks(max_queue) == marks


@pytest.mark.parametrize(
    ("write_limit", "marks"), [(32768, (32768, None)), ((10, 5), (10, 5)), ((10, None), (10, None))]
)
def test_write_marks(write_limit: Any, marks: Any) -> None:
    assert write_marks(write_limit) == marks


# ------------------------------------------------------------------------------------------ extensions and subprotocols

SIDES = [
    (client_extensions, ClientPerMessageDeflateFactory),
    (server_extensions, ServerPerMessageDeflateFactory),
]


@pytest.mark.parametrize(("choose", "factory"), SIDES)
def test_compression_is_added(choose: Any, factory: Any) -> None:
    (added,) = choose(None, "deflate")
    assert type(added) is factory
    other = SimpleNamespace(name="x-other")
    given = [other]
    first, second = choose(given, "deflate")
    assert first is other
    assert type(second) is factory
    assert given == [other]


@pytest.mark.parametrize(("choose", "factory"), SIDES)
def test_compression_is_added_once(choose: Any, factory: Any) -> None:
    mine = factory()
    (only,) = choose([mine], "deflate")
    assert only is mine


@pytest.mark.parametrize(("choose", "factory"), SIDES)
def test_no_compression(choose: Any, factory: Any) -> None:
    assert choose(None, None) is None
    given = [factory()]
    assert choose(given, None) is given


# ------------------------------------------------------------------------------------------------------------------ TLS

CONTEXT = object()


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        ({}, {}),
        ({"ssl": None, "backlog": 5}, {}),
        ({"ssl": CONTEXT}, {"ssl_handshake_timeout": 1, "ssl_shutdown_timeout": 2}),
        ({"ssl": CONTEXT, "ssl_handshake_timeout": 9}, {"ssl_shutdown_timeout": 2}),
        ({"ssl": CONTEXT, "ssl_shutdown_timeout": None}, {"ssl_handshake_timeout": 1}),
    ],
)
def test_tls_times(arguments: dict[str, Any], added: dict[str, Any]) -> None:
    before = dict(arguments)
    assert tls_times(arguments, 1, 2) == {**arguments, **added}
    assert arguments == before


@pytest.mark.parametrize("none", [None, 0, 0.0])
def test_tls_times_without_limits(none: float | None) -> None:
    assert tls_times({"ssl": CONTEXT}, none, none) == {"ssl": CONTEXT}


@pytest.mark.parametrize(
    ("uri", "arguments"),
    [
        ("ws://localhost/", {}),
        ("ws://localhost/", {"ssl": None}),
        ("wss://localhost/", {}),
        ("wss://localhost/", {"ssl": CONTEXT}),
        ("wss://localhost/", {"ssl": True}),
    ],
)
def test_tls_that_fits(uri: str, arguments: dict[str, Any]) -> None:
    before = dict(arguments)
    check_tls(parse_uri(uri), arguments)
    assert arguments == before


@pytest.mark.scenario(75)
@pytest.mark.parametrize(
    ("uri", "ssl", "error"),
    [
        ("wss://localhost/", None, "ssl=None is incompatible with a wss:// URI"),
        ("wss://localhost/", False, "ssl=False is incompatible with a wss:// URI"),
        ("wss://localhost/", 0, "ssl=0 is incompatible with a wss:// URI"),
        ("ws://localhost/", CONTEXT, "ssl argument is incompatible with a ws:// URI"),
        ("ws://localhost/", False, "ssl argument is incompatible with a ws:// URI"),
    ],
)
def test_tls_that_does_not(uri: str, ssl: Any, error: str) -> None:
    with pytest.raises(ValueError, match=f"^{error}$"):
        check_tls(parse_uri(uri), {"ssl": ssl})


# --------------------------------------------------------------------------------------------------------------- places

PLACE = {"host": "example.com", "port": 8000}
TLS = {"ssl": True, "server_hostname": "example.com"}


@pytest.mark.parametrize(
    ("scheme", "arguments", "expected"),
    [
        ("ws", {}, PLACE),
        ("wss", {}, PLACE | TLS),
        ("ws", {"family": 2}, PLACE | {"family": 2}),
        ("wss", {"ssl": CONTEXT}, PLACE | TLS | {"ssl": CONTEXT}),
        # Another place, but the same name in TLS unless that is given as well.
        ("wss", {"host": "there", "port": 1}, TLS | {"host": "there", "port": 1}),
        ("wss", {"server_hostname": "there"}, PLACE | TLS | {"server_hostname": "there"}),
        ("ws", {"sock": CONTEXT}, {"sock": CONTEXT}),
        ("wss", {"sock": CONTEXT}, TLS | {"sock": CONTEXT}),
        ("ws", {"sock": None}, PLACE | {"sock": None}),
        ("ws", {"unix": True, "path": "/socket"}, {"unix": True, "path": "/socket"}),
        ("ws", {"unix": False}, PLACE | {"unix": False}),
    ],
)
def test_connection_arguments(scheme: str, arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    before = dict(arguments)
    assert connection_arguments(parse_uri(f"{scheme}://example.com:8000/"), arguments) == expected
    assert arguments == before


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.com.", "example.com"),
        ("[fe80::1%25eth0]", "fe80::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_name_that_tls_checks(host: str, name: str) -> None:
    uri = parse_uri(f"wss://{host}/")
    # The resolver gets it all.
    assert connection_arguments(uri, {}) == {"host": uri.host, "port": 443, "ssl": True, "server_hostname": name}
    assert connection_arguments(uri, {"server_hostname": "a."})["server_hostname"] == "a."


@pytest.mark.parametrize(("host", "name"), [("example.com", "given"), ("example.com.", "given"), ("other", "other")])
def test_name_for_tls_is_that_of_one_server(host: str, name: str) -> None:
    first, arguments = parse_uri("wss://example.com/"), {"server_hostname": "given"}
    after_redirect = connection_arguments(parse_uri(f"wss://{host}:8000/"), arguments, first)
    assert after_redirect["server_hostname"] == name
    assert arguments == {"server_hostname": "given"}


def test_localhost_is_this_machine_also_with_a_dot() -> None:
    arguments = connection_arguments(parse_uri("wss://localhost.:8000/"), {})
    assert arguments == {"host": "localhost", "port": 8000, "ssl": True, "server_hostname": "localhost"}


# ------------------------------------------------------------------------------------------------------- older programs


class Handlers:
    async def new(self, connection: Any) -> None: ...

    async def old(self, connection: Any, path: str) -> None: ...

    def __call__(self, connection: Any, path: str) -> None: ...

    @staticmethod
    def static(connection: Any, path: str) -> None: ...

    @classmethod
    def of_class(cls, connection: Any) -> None: ...


class Unreadable:
    """A callable that doesn't tell what it takes."""

    __signature__ = "nonsense"

    def __call__(self, connection: Any, path: str) -> None: ...


@pytest.mark.parametrize(
    ("handler", "path"),
    [
        (lambda connection: None, False),
        (lambda connection, path: None, True),
        (lambda connection, path, /: None, True),
        (lambda connection, option=None: None, False),
        (lambda connection, path, option=None: None, True),
        (lambda connection, path, more: None, False),
        (lambda connection, *, path: None, False),
        (lambda *arguments: None, False),
        (lambda connection, **options: None, False),
        (Handlers().new, False),
        (Handlers().old, True),
        (Handlers(), True),
        (Handlers.static, True),
        (Handlers.of_class, False),
        (functools.partial(lambda option, connection: None, 1), False),
        (functools.partial(lambda option, connection, path: None, 1), True),
        (Unreadable(), False),
        (type, False),
        (42, False),
    ],
)
def test_takes_path(handler: Any, path: bool) -> None:
    assert takes_path(handler) is path
    assert shows_path(handler) is path


def connect(new: Any = None, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    """A public function with an argument that had another name once."""
    return renamed_argument(arguments, "old", "new", new), arguments


def test_argument_under_its_name_of_today() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert connect(new=1, x=2) == (1, {"x": 2})
        assert connect() == (None, {})


@pytest.mark.parametrize(
    ("arguments", "value"), [({"old": 1}, 1), ({"old": 1, "new": 2}, 2), ({"old": 0, "x": 3}, 0), ({"old": None}, None)]
)
def test_argument_under_its_name_of_old(arguments: dict[str, Any], value: Any) -> None:
    call = compile("connect(**arguments)", "caller.py", "eval")
    with pytest.warns(DeprecationWarning, match=r"^old was renamed to new$") as caught:
        result = eval(call, {"connect": connect, "arguments": arguments})
    assert result == (value, {name: arguments[name] for name in arguments if name == "x"})
    # It is the caller who must change.
    assert [warning.filename for warning in caught] == ["caller.py"]


# ------------------------------------------------------------------------------------------------------- the table


def test_numbers_of_other_kinds_become_plain() -> None:
    options = {"ping_interval": Fraction(1, 2), "ping_timeout": True, "max_queue": [8, 2]}
    allowed.check_all(options, allowed.CONNECTION)
    assert options == {"ping_interval": 0.5, "ping_timeout": 1.0, "max_queue": (8, 2)}
    assert type(options["ping_interval"]) is type(options["ping_timeout"]) is float


def test_whole_numbers_of_others() -> None:
    assert allowed.check("max_queue", Whole(3)) == 3
    assert allowed.check("write_limit", (Whole(8), Whole(2))) == (8, 2)
    assert type(allowed.check("max_queue", Whole(3))) is int


def test_one_option_alone() -> None:
    assert allowed.check("close_timeout", 5) == 5
    with pytest.raises(ValueError, match=r"^ping_interval must be a number of seconds, 0 or more, .*, not -1$"):
        allowed.check("ping_interval", -1)
    with pytest.raises(ValueError, match=r"^ping_interval must be a positive number of seconds, .*, not 0$"):
        allowed.check("ping_interval", 0, allowed.SERVE)
