"""Checks of the values of options: small functions, one for each kind of value.

May know: values, and how the lower floors read them. Must not know: the table of options, front-ends, I/O.

A check takes a value and returns the value to use, which is nearly always the same. For a wrong value it raises
:exc:`Unfit`; ``option_table`` knows the name of the option and the allowed values, and makes an error from that. All
values that worked with 17.4 are accepted: numbers of any type that can be added to a float, lists in place of tuples.
"""

from __future__ import annotations

import dis
import functools
import inspect
import numbers
import operator
import os
import re
import types
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from inspect import CO_COROUTINE
from types import CoroutineType, FunctionType
from typing import Any, Final

from .._codec.proxy_protocol import TrustedProxies
from ..datastructures import Headers, is_value
from ..exceptions import InvalidHeader, InvalidHeaderValue, printable
from ..headers import validate_subprotocols
from .handshake import HostNames
from .lifecycle import State

__all__ = [
    "Check",
    "Unfit",
    "UnfitHeader",
    "awaited",
    "optional",
    "required_parameters",
    "shown",
    "strict",
    "takes_path",
]

Check = Callable[[Any], Any]

# The methods that a logger must have; there are loggers beside those of the standard library.
LOGGING: Final = ("isEnabledFor", "log")

# The methods that a stream of trio must have, and those of a listener.
STREAM: Final = ("receive_some", "send_all", "aclose")
LISTENER: Final = ("accept", "aclose")

# The members that a factory of extensions must have, on each side.
OFFERS: Final = ("name", "get_request_params", "process_response_params")
ACCEPTS: Final = ("name", "process_request_params")

# An origin that browsers send: a scheme, a host and perhaps a port, and nothing else (RFC 6454 section 6.2).
WEB_ORIGIN: Final = re.compile(r"(?:https?|wss?)://[^/?#@*\s]+", re.IGNORECASE).fullmatch
WEB_SCHEME: Final = re.compile(r"(?:https?|wss?):", re.IGNORECASE).match

LAST_PORT: Final = 65535

# Usual names of the second parameter of connection handlers in the oldest API.
PATH_NAME: Final = re.compile(r"\w*path\w*|ur[il]|_+", re.IGNORECASE).fullmatch


class Unfit(Exception):
    """The error for a value that isn't allowed.

    Parameters:
        kind: TypeError for a wrong type, ValueError for a wrong value.
        why: the reason, if it isn't clear from the text about allowed values.
        header: name and value of the header that can't be sent, if that is the reason.
    """

    def __init__(
        self, kind: type[TypeError | ValueError], why: str = "", header: tuple[str, str | None] | None = None
    ) -> None:
        super().__init__(kind, why)
        self.kind = kind
        self.why = why
        self.header = header


class UnfitHeader(InvalidHeaderValue, ValueError):
    """The error for a header that can't be sent; earlier releases raised the first base class when connecting."""

    def __init__(self, name: str, value: str | None, text: str) -> None:
        super().__init__(name, value)
        # Leave out the value: it may be a secret, and repr() and logs show the arguments of an exception.
        self.args = (name, None, text)
        self.text = text

    def __str__(self) -> str:
        return self.text


def anything(value: Any) -> Any:
    """Accept any value."""
    return value


def optional(check: Check) -> Check:
    """Make a check that accepts None, and all values that ``check`` accepts."""

    def checked(value: Any) -> Any:
        return None if value is None else check(value)

    return checked


def strict(check: Check) -> Check:
    """Make a check like ``check`` that refuses True and False, for options that 17.4 doesn't have."""

    def checked(value: Any) -> Any:
        if isinstance(value, bool):
            raise Unfit(TypeError)
        return check(value)

    return checked


# -------------------------------------------------------------------------------------------------------------- numbers


def seconds(value: Any) -> float:
    """Accept a number of seconds, 0 or more."""
    if type(value) is not float and type(value) is not int:
        if not isinstance(value, numbers.Real):
            raise Unfit(TypeError)
        value = _as_float(value)
    if not value >= 0:
        raise Unfit(ValueError)
    if type(value) is int:
        _as_float(value)
    number: float = value
    return number


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Unfit(ValueError) from None


def positive_seconds(value: Any) -> float:
    """Accept a number of seconds above 0."""
    number = seconds(value)
    if number == 0:
        raise Unfit(ValueError)
    return number


def whole(value: Any) -> int:
    """Accept a whole number, also a float such as 1e6."""
    if type(value) is int or isinstance(value, numbers.Integral):
        return operator.index(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise Unfit(TypeError)


def size(value: Any) -> int:
    """Accept a number of bytes or frames, 0 or more."""
    number = whole(value)
    if number < 0:
        raise Unfit(ValueError)
    return number


def at_least_one(value: Any) -> int:
    """Accept a number, 1 or more."""
    number = whole(value)
    if number < 1:
        raise Unfit(ValueError)
    return number


def port(value: Any) -> Any:
    """Accept a TCP port: a number, also as a str, or the name of a service."""
    if isinstance(value, str | bytes):
        if not value.isdigit() or not value.isascii():
            return value
        number: Any = int(value[:100])  # int() raises for a str with thousands of digits
    elif isinstance(value, numbers.Real):
        number = value
    else:
        raise Unfit(TypeError)
    if not 0 <= number <= LAST_PORT:
        raise Unfit(ValueError)
    return value


def port_number(value: Any) -> int:
    """Accept a TCP port as a number, for functions that don't look up names of services."""
    number = whole(value)
    if not 0 <= number <= LAST_PORT:
        raise Unfit(ValueError)
    return number


# ------------------------------------------------------------------------------------------------------ pairs of limits


def _pair(value: Any) -> tuple[int | None, int | None]:
    if not isinstance(value, tuple | list):
        return size(value), None
    if len(value) != 2:
        raise Unfit(ValueError)
    first, second = value
    return None if first is None else size(first), None if second is None else size(second)


def sizes(value: Any) -> int | tuple[int | None, int | None]:
    """Accept a limit, or a tuple of the limits of a message and of a fragment, each of which may be None."""
    pair = _pair(value)
    return pair if isinstance(value, tuple | list) else pair[0]  # type: ignore[return-value]


def marks(value: Any) -> int | tuple[int | None, int | None]:
    """Accept the number above which something pauses, or a tuple of that and the number at which it resumes."""
    high, low = _pair(value)
    if high is not None and low is not None and low > high:
        raise Unfit(ValueError, "the second is above the first")
    return (high, low) if isinstance(value, tuple | list) else high  # type: ignore[return-value]


# ----------------------------------------------------------------------------------------------------- text and headers


def text(header: str) -> Check:
    """Make a check that accepts a value of this header."""

    def checked(value: Any) -> str:
        if not isinstance(value, str):
            raise Unfit(TypeError)
        if not is_value(value):
            raise Unfit(ValueError, header=(header, value))
        return value

    return checked


def headers(value: Any) -> Any:
    """Accept headers to send; an iterator isn't checked, because it can be read only once."""
    pairs: Iterable[Any]
    if isinstance(value, Mapping | Headers):
        pairs = value.items() if type(value) is dict else value.raw_items() if type(value) is Headers else ()
    elif isinstance(value, str | bytes) or not (isinstance(value, Iterable) or hasattr(value, "__getitem__")):
        # Objects without __iter__() must have __getitem__(): mappings with keys(), or old-style sequences.
        raise Unfit(TypeError)
    else:
        pairs = value if isinstance(value, list | tuple) else ()
    for pair in pairs:
        _check_header(pair)
    return value


def _check_header(pair: Any) -> None:
    if not isinstance(pair, tuple | list | str) and isinstance(pair, Iterable):
        if not isinstance(pair, Collection):
            return  # an iterator can be read only once
        pair = tuple(pair)
    if not isinstance(pair, tuple | list | str) or len(pair) != 2:
        # Don't show the value: it may be a secret.
        raise Unfit(ValueError, "there is something in it that is no pair of a name and a value")
    name, value = tuple(pair)
    if value is None or isinstance(value, bytes | bytearray | memoryview | list | tuple | dict | set):
        raise Unfit(TypeError, f"the value of {printable(str(name))} is {_named(value)}")
    try:
        Headers([(name, value)])
    except InvalidHeader as exc:
        # Show a wrong name but not a wrong value, because a header with any name may contain a key.
        why = f"invalid {printable(name)} header" if isinstance(exc, InvalidHeaderValue) else str(exc)
        raise Unfit(ValueError, why, (exc.name, exc.value)) from None
    except TypeError:
        raise Unfit(TypeError, f"{name!r} is no name") from None


def _named(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def headers_or_function(value: Any) -> Any:
    """Accept headers to send, or a function that returns them."""
    return value if callable(value) else headers(value)


def user_agent(value: Any) -> str | None:
    """Accept a value of ``User-Agent``; False means None."""
    return None if value is False else text("User-Agent")(value)


def string(value: Any) -> str:
    """Accept a ``str``."""
    if not isinstance(value, str):
        raise Unfit(TypeError)
    return value


def compression(value: Any) -> str | None:
    """Accept ``"deflate"`` or None."""
    if value != "deflate":
        # The same text as in earlier releases.
        raise ValueError(f"unsupported compression: {value}")
    return "deflate"


# --------------------------------------------------------------------------------------------------- functions, objects


def function(value: Any) -> Any:
    """Accept any callable."""
    if inspect.iscoroutine(value):
        raise Unfit(TypeError, f"give the function, {_closed(value)}, without calling it")
    if not callable(value):
        raise Unfit(TypeError)
    return value


def _closed(coroutine: types.CoroutineType[Any, Any, Any]) -> str:
    """Close a coroutine, so that Python doesn't warn that it was never awaited; return its name."""
    coroutine.close()
    return coroutine.__name__


def plain_function(value: Any) -> Any:
    """Accept a callable that isn't a coroutine function, because its result isn't awaited."""
    if type(value) is FunctionType and not value.__code__.co_flags & CO_COROUTINE:
        return value  # the usual case, tested first
    if inspect.iscoroutinefunction(function(value)):
        raise Unfit(TypeError)
    return value


def flag(value: Any) -> Any:
    """Accept True or False, and numbers, which earlier releases also accept."""
    if not isinstance(value, int):
        raise Unfit(TypeError)
    return value


def logger(value: Any) -> Any:
    """Accept a logger, or an object with the methods of one."""
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in LOGGING):
        raise Unfit(TypeError)
    return value


def state(value: Any) -> State:
    """Accept a state of a connection."""
    if not isinstance(value, State):
        raise Unfit(TypeError)
    return value


def tls(value: Any) -> Any:
    """Accept a TLS context; one that isn't from the standard library must have the same methods."""
    if not hasattr(value, "wrap_bio"):
        raise Unfit(TypeError)
    return value


def tls_of_client(value: Any) -> Any:
    """Accept a TLS context, or True for the default one; whether false values fit the URI is checked later."""
    return value if value is True or not value else tls(value)


def tls_of_server_behind(value: Any) -> Any:
    """Accept a TLS context, or True if a proxy in front of the server does TLS."""
    return value if value is True else tls(value)


def sock(value: Any) -> Any:
    """Accept a socket; one that isn't from the standard library must have the same methods."""
    if not callable(getattr(value, "fileno", None)):
        raise Unfit(TypeError)
    return value


def stream(value: Any) -> Any:
    """Accept a stream of trio, by its methods."""
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in STREAM):
        raise Unfit(TypeError)
    return value


def listeners(value: Any) -> Any:
    """Accept listeners of trio, by their methods, which sockets don't have; the list that was given is returned."""
    if not isinstance(value, Sequence) or not all(
        callable(getattr(each, name, None)) for each in value for name in LISTENER
    ):
        raise Unfit(TypeError)
    if not value:
        raise Unfit(ValueError, "no client could connect")
    return value


def path(value: Any) -> Any:
    """Accept the path of a Unix socket."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise Unfit(TypeError)
    return os.fspath(value)


def host(value: Any) -> Any:
    """Accept a host: a name or an address that can be looked up."""
    if not isinstance(value, str | bytes):
        raise Unfit(TypeError)
    if isinstance(value, str):
        # socket.getaddrinfo() begins with this conversion, and raises UnicodeError if it fails.
        try:
            value.encode("idna")
        except UnicodeError:
            # Don't show the text of that error, because it differs between versions of Python.
            raise Unfit(ValueError, "a label of it is empty, too long, or can't be encoded") from None
    return value


def name_for_tls(value: Any) -> str:
    """Accept a name that TLS can send and check; an empty one turns the check off."""
    name = string(value)
    if "\0" in name:
        raise Unfit(ValueError)
    if name:
        host(name)
    return name


def hosts_to_listen_on(value: Any) -> Any:
    """Accept a name or an address, or several; None stands for all interfaces."""
    if isinstance(value, str):
        return value
    names = _collected(value)
    if not all(name is None or isinstance(name, str) for name in names):
        raise Unfit(TypeError)
    return names if isinstance(value, Iterator) else value


def address(value: Any) -> Any:
    """Accept the address of a socket."""
    if not isinstance(value, tuple | list) or len(value) < 2:
        raise Unfit(TypeError)
    if isinstance(value[0], str):
        host(value[0])
    if value[1] is not None:
        port(value[1])
    return value


# -------------------------------------------------------------------------------------------------------------- several


def _collected(value: Any) -> Any:
    """Accept an iterable, and return a collection that can be read several times."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Unfit(TypeError)
    return list(value) if isinstance(value, Iterator) else value


def url_map(value: Any) -> Any:
    """Accept a URL map, by its methods, because Werkzeug is optional."""
    if not callable(getattr(value, "iter_rules", None)):
        raise Unfit(TypeError)
    return value


def subprotocols(value: Any) -> Any:
    """Accept a sequence of subprotocols."""
    if isinstance(value, Sequence) and not all(isinstance(name, str) for name in value):
        raise Unfit(TypeError)
    validate_subprotocols(value)
    return value


def subprotocols_of_protocol(value: Any) -> Any:
    """Accept any iterable of subprotocols, because the protocols of 17.4 don't check the type."""
    return subprotocols(value if isinstance(value, str | bytes) or not isinstance(value, Iterable) else list(value))


def factories(methods: tuple[str, ...]) -> Check:
    """Make a check that accepts factories of extensions with these methods."""

    def checked(value: Any) -> Any:
        value = _collected(value)
        for factory in value:
            if isinstance(factory, type) and any(map(_is_method, map(factory.__dict__.get, methods))):
                raise Unfit(TypeError, f"{factory.__name__} is a class: make a factory of it, {factory.__name__}()")
            if not all(hasattr(factory, name) for name in methods):
                raise Unfit(TypeError, f"{shown(factory)} is none")
        return value

    return checked


def _is_method(value: object) -> bool:
    """Return whether a value is a method that needs an object; a class with static methods is a valid factory."""
    return isinstance(value, types.FunctionType | property)


def origins(value: Any) -> Any:
    """Accept strings, patterns and None; a str of any form, because a subclass may compare origins in its own way."""
    value = _collected(value)
    for origin in value:
        if not isinstance(origin, str | re.Pattern | None):
            raise Unfit(TypeError, f"{shown(origin)} is none")
    return value


def origins_of_browsers(value: Any) -> Any:
    """Accept origins if browsers can send at least one of them."""
    value = origins(value)
    if not value:
        raise Unfit(ValueError, "no client could connect")
    if not any(map(_is_sent, value)):
        raise Unfit(ValueError, "no browser sends that: an origin is a scheme, a host, and perhaps a port")
    return value


def _is_sent(origin: str | re.Pattern[str] | None) -> bool:
    """Return whether a browser may send this origin."""
    if not isinstance(origin, str):
        return True
    return "*" not in origin and (WEB_SCHEME(origin) is None or WEB_ORIGIN(origin) is not None)


def host_names(value: Any) -> HostNames:
    """Accept values of the ``Host`` header."""
    return HostNames.of(value)


def proxies(value: Any) -> TrustedProxies:
    """Accept addresses and networks of proxies."""
    return TrustedProxies.of(value)


# -------------------------------------------------------------------------------------------------- connection handlers


def handler(value: Any) -> Any:
    """Accept a connection handler: a callable that returns an awaitable."""
    called = _called(function(value))
    if inspect.isasyncgenfunction(called) or _yields(called):
        raise Unfit(TypeError, "a function with yield gives nothing to wait for")
    if _never_returns_anything(called):
        raise Unfit(TypeError, "it isn't async, and returns nothing to wait for")
    if not _takes(value, 1) and not _takes(value, 2):
        raise Unfit(TypeError, "it can't be called with a connection alone")
    return value


def _called(value: Any) -> Any:
    """Return the Python function that runs when a handler is called, if there is one."""
    while isinstance(value, functools.partial | types.MethodType):
        value = value.func if isinstance(value, functools.partial) else value.__func__
    return (
        value if isinstance(value, types.FunctionType | type) else inspect.getattr_static(type(value), "__call__", None)
    )


def _yields(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) and not function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE


def _never_returns_anything(function: Any) -> bool:
    """Return whether a function isn't async and never returns a value."""
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & (
        inspect.CO_COROUTINE | inspect.CO_GENERATOR
    ):
        return False
    ends, before = [], None
    for instruction in dis.get_instructions(function):
        if instruction.opname == "RETURN_CONST":
            ends.append(instruction.argval is None)
        elif instruction.opname == "RETURN_VALUE":
            nothing = before is not None and before.opname == "LOAD_CONST" and before.argval is None
            ends.append(nothing and not instruction.is_jump_target)
        before = instruction
    return bool(ends) and all(ends)


def _takes(handler: Any, count: int) -> bool:
    """Return whether a handler can be called with ``count`` arguments; True if that isn't known."""
    try:
        signature = _own_signature(handler)
    except Exception:  # objects of a program may raise anything
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _own_signature(handler: Any) -> inspect.Signature:
    """Return the real signature of a function, ignoring ``__wrapped__`` and ``__signature__`` from a decorator."""
    function = handler.__func__ if isinstance(handler, types.MethodType) else handler
    if isinstance(function, types.FunctionType) and hasattr(function, "__signature__"):
        bare = types.FunctionType(function.__code__, {}, None, function.__defaults__, function.__closure__)
        bare.__kwdefaults__ = function.__kwdefaults__
        handler = bare if function is handler else types.MethodType(bare, handler.__self__)
    return inspect.signature(handler, follow_wrapped=False)


def takes_path(handler: Any) -> bool:
    """Return whether a connection handler also takes the path of the request, as in the oldest API.

    A decorated handler may take any arguments. If its signature has two parameters, the decorator may pass on the path,
    or pass an argument of its own, as modern programs do: then the name of the second parameter decides.
    """
    if not _takes(handler, 2):
        return False
    if not _takes(handler, 1):
        return True
    shown = required_parameters(handler)
    return len(shown) == 2 and PATH_NAME(shown[1]) is not None


def required_parameters(handler: Any) -> list[str]:
    """Return the positional parameters without a default in a callable's signature; none without a signature."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except Exception:  # some callables have no signature, and objects of a program may raise anything
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional and p.default is p.empty]


def awaited(handler: object, given: Any) -> Awaitable[Any]:
    """Return the result of a connection handler, which must be awaitable.

    Raises:
        TypeError: it isn't awaitable.
    """
    # Nearly all are coroutines, and the whole check is slow.
    if not isinstance(given, CoroutineType) and not inspect.isawaitable(given):
        raise TypeError(f"a connection handler must be an async function: {shown(handler)} returned {shown(given)}")
    return given


def shown(value: object) -> str:
    """Return a short text about a value, for an error."""
    try:
        shown = repr(value)
    except Exception:  # from a class of a program, or for a number with thousands of digits
        shown = f"<{type(value).__name__}>"
    return shown if len(shown) <= 100 else shown[:97] + "..."
