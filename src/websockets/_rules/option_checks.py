"""What a value of an option may be: small functions, one for each kind of value.

May know: values, and how the lower floors read them. Must not know: which options there are, front-ends, I/O.

Such a function takes a value and returns the one to use, which is nearly always the same. Otherwise it raises
:exc:`Unfit`; the table in ``_allowed`` knows the name of the option and what is allowed, and makes an error of it.
What 17.4 took and could use is taken here: numbers of any kind that adds up with floats, lists in place of tuples.
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
from types import FunctionType
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

# What a factory of extensions must have, on each side.
OFFERS: Final = ("name", "get_request_params", "process_response_params")
ACCEPTS: Final = ("name", "process_request_params")

# Beginnings of origins that browsers send; after them comes a host and perhaps a port, and nothing else (RFC 6454
# section 6.2).
WEB_ORIGIN: Final = re.compile(r"(?:https?|wss?)://[^/?#@*\s]+", re.IGNORECASE).fullmatch
WEB_SCHEME: Final = re.compile(r"(?:https?|wss?):", re.IGNORECASE).match

LAST_PORT: Final = 65535

# What the second parameter of the oldest connection handlers is called.
PATH_NAME: Final = re.compile(r"\w*path\w*|ur[il]|_+", re.IGNORECASE).fullmatch


class Unfit(Exception):
    """A value that an option may not have.

    Parameters:
        kind: TypeError for a wrong type, ValueError for a wrong value.
        why: what is wrong, where that isn't clear from what is allowed.
        header: name and value of the header that can't be sent, if it is that.
    """

    def __init__(
        self, kind: type[TypeError | ValueError], why: str = "", header: tuple[str, str | None] | None = None
    ) -> None:
        super().__init__(kind, why)
        self.kind = kind
        self.why = why
        self.header = header


class UnfitHeader(InvalidHeaderValue, ValueError):
    """A header to send that can't be sent; of two classes, as such errors once came in the opening handshake only."""

    def __init__(self, name: str, value: str | None, text: str) -> None:
        super().__init__(name, value)
        # Not the value: it may be a secret, and a repr() or a log shows arguments.
        self.args = (name, None, text)
        self.text = text

    def __str__(self) -> str:
        return self.text


def anything(value: Any) -> Any:
    """Any value."""
    return value


def optional(check: Check) -> Check:
    """None, or what ``check`` takes."""

    def checked(value: Any) -> Any:
        return None if value is None else check(value)

    return checked


def strict(check: Check) -> Check:
    """What ``check`` takes, but neither True nor False: for options that no program of 17.4 has."""

    def checked(value: Any) -> Any:
        if isinstance(value, bool):
            raise Unfit(TypeError)
        return check(value)

    return checked


# -------------------------------------------------------------------------------------------------------------- numbers


def seconds(value: Any) -> float:
    """A length of time, perhaps no time at all."""
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
    """A length of time."""
    number = seconds(value)
    if number == 0:
        raise Unfit(ValueError)
    return number


def whole(value: Any) -> int:
    """A whole number; one like 1e6, too, as calculations give them."""
    if type(value) is int or isinstance(value, numbers.Integral):
        return operator.index(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise Unfit(TypeError)


def size(value: Any) -> int:
    """A number of bytes or frames, perhaps zero."""
    number = whole(value)
    if number < 0:
        raise Unfit(ValueError)
    return number


def at_least_one(value: Any) -> int:
    """A number of things, of which there must be one."""
    number = whole(value)
    if number < 1:
        raise Unfit(ValueError)
    return number


def port(value: Any) -> Any:
    """A port of TCP: a number, in digits too, or the name of a service, which only the system knows."""
    if isinstance(value, str | bytes):
        if not value.isdigit() or not value.isascii():
            return value
        number: Any = int(value[:100])  # Python reads no more than some thousand digits
    elif isinstance(value, numbers.Real):
        number = value
    else:
        raise Unfit(TypeError)
    if not 0 <= number <= LAST_PORT:
        raise Unfit(ValueError)
    return value


# ------------------------------------------------------------------------------------------------------ pairs of limits


def _pair(value: Any) -> tuple[int | None, int | None]:
    if not isinstance(value, tuple | list):
        return size(value), None
    if len(value) != 2:
        raise Unfit(ValueError)
    first, second = value
    return None if first is None else size(first), None if second is None else size(second)


def sizes(value: Any) -> int | tuple[int | None, int | None]:
    """A limit, or those of a whole and a part of it, of which each may be None."""
    pair = _pair(value)
    return pair if isinstance(value, tuple | list) else pair[0]  # type: ignore[return-value]


def marks(value: Any) -> int | tuple[int | None, int | None]:
    """The number above which something pauses, or that and the one at which it goes on."""
    high, low = _pair(value)
    if high is not None and low is not None and low > high:
        raise Unfit(ValueError, "the second is above the first")
    return (high, low) if isinstance(value, tuple | list) else high  # type: ignore[return-value]


# ----------------------------------------------------------------------------------------------------- text and headers


def text(header: str) -> Check:
    """The value of a header that we send."""

    def checked(value: Any) -> str:
        if not isinstance(value, str):
            raise Unfit(TypeError)
        if not is_value(value):
            raise Unfit(ValueError, header=(header, value))
        return value

    return checked


def headers(value: Any) -> Any:
    """Headers to send; only what can be looked at twice is looked at."""
    pairs: Iterable[Any]
    if isinstance(value, Mapping | Headers):
        pairs = value.items() if type(value) is dict else value.raw_items() if type(value) is Headers else ()
    elif isinstance(value, str | bytes) or not (isinstance(value, Iterable) or hasattr(value, "__getitem__")):
        # Old protocols will do: something with keys() and __getitem__(), or a sequence with nothing else.
        raise Unfit(TypeError)
    else:
        pairs = value if isinstance(value, list | tuple) else ()
    for pair in pairs:
        _check_header(pair)
    return value


def _check_header(pair: Any) -> None:
    if not isinstance(pair, tuple | list | str) and isinstance(pair, Iterable):
        if not isinstance(pair, Collection):
            return  # it may be read once
        pair = tuple(pair)
    if not isinstance(pair, tuple | list | str) or len(pair) != 2:
        # Not the value: it may be a secret.
        raise Unfit(ValueError, "there is something in it that is no pair of a name and a value")
    name, value = tuple(pair)
    if value is None or isinstance(value, bytes | bytearray | memoryview | list | tuple | dict | set):
        raise Unfit(TypeError, f"the value of {printable(str(name))} is {_named(value)}")
    try:
        Headers([(name, value)])
    except InvalidHeader as exc:
        # A wrong name is shown, a wrong value is not: keys of services come in headers of any name.
        why = f"invalid {printable(name)} header" if isinstance(exc, InvalidHeaderValue) else str(exc)
        raise Unfit(ValueError, why, (exc.name, exc.value)) from None
    except TypeError:
        raise Unfit(TypeError, f"{name!r} is no name") from None


def _named(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def headers_or_function(value: Any) -> Any:
    """Headers to send, or a function that makes them."""
    return value if callable(value) else headers(value)


def user_agent(value: Any) -> str | None:
    """``User-Agent``: text, or nothing."""
    return None if value is False else text("User-Agent")(value)


def string(value: Any) -> str:
    """A ``str``."""
    if not isinstance(value, str):
        raise Unfit(TypeError)
    return value


def compression(value: Any) -> str | None:
    """``"deflate"`` or None."""
    if value != "deflate":
        # As releases before said it.
        raise ValueError(f"unsupported compression: {value}")
    return "deflate"


# --------------------------------------------------------------------------------------------------- functions, objects


def function(value: Any) -> Any:
    """Anything that can be called."""
    if inspect.iscoroutine(value):
        raise Unfit(TypeError, f"give the function, {_closed(value)}, without calling it")
    if not callable(value):
        raise Unfit(TypeError)
    return value


def _closed(coroutine: types.CoroutineType[Any, Any, Any]) -> str:
    """The name of a coroutine that nobody is going to await. Python would warn of that, as if it were to be done."""
    coroutine.close()
    return coroutine.__name__


def plain_function(value: Any) -> Any:
    """Anything that can be called where nobody waits for what it gives."""
    if type(value) is FunctionType and not value.__code__.co_flags & CO_COROUTINE:
        return value  # nearly always
    if inspect.iscoroutinefunction(function(value)):
        raise Unfit(TypeError)
    return value


def flag(value: Any) -> Any:
    """True or False; numbers were always taken, too."""
    if not isinstance(value, int):
        raise Unfit(TypeError)
    return value


def logger(value: Any) -> Any:
    """A logger, or what has the methods of one."""
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in LOGGING):
        raise Unfit(TypeError)
    return value


def state(value: Any) -> State:
    """A state of a connection."""
    if not isinstance(value, State):
        raise Unfit(TypeError)
    return value


def tls(value: Any) -> Any:
    """What makes TLS of a connection. Contexts of others than the standard library count by what they can do."""
    if not hasattr(value, "wrap_bio"):
        raise Unfit(TypeError)
    return value


def tls_of_client(value: Any) -> Any:
    """The same, or True for the usual one. Whether False and the like fit the URI is asked later."""
    return value if value is True or not value else tls(value)


def tls_of_server_behind(value: Any) -> Any:
    """What makes TLS of a connection, or True if something in front of the server does that."""
    return value if value is True else tls(value)


def sock(value: Any) -> Any:
    """A socket; those of others than the standard library count by what they can do."""
    if not callable(getattr(value, "fileno", None)):
        raise Unfit(TypeError)
    return value


def path(value: Any) -> Any:
    """The path of a Unix socket."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise Unfit(TypeError)
    return os.fspath(value)


def host(value: Any) -> Any:
    """A name or an address, which can be looked up."""
    if not isinstance(value, str | bytes):
        raise Unfit(TypeError)
    if isinstance(value, str):
        # Resolvers begin so, and have no other error for it.
        try:
            value.encode("idna")
        except UnicodeError:
            # The text of that error is another one in each version of Python.
            raise Unfit(ValueError, "a label of it is empty, too long, or can't be encoded") from None
    return value


def name_for_tls(value: Any) -> str:
    """A name that TLS can send and check; an empty one turns that off."""
    name = string(value)
    if "\0" in name:
        raise Unfit(ValueError)
    if name:
        host(name)
    return name


def hosts_to_listen_on(value: Any) -> Any:
    """A name or an address, or several; None among them for all."""
    if isinstance(value, str):
        return value
    names = _collected(value)
    if not all(name is None or isinstance(name, str) for name in names):
        raise Unfit(TypeError)
    return names if isinstance(value, Iterator) else value


def address(value: Any) -> Any:
    """An address of a socket."""
    if not isinstance(value, tuple | list) or len(value) < 2:
        raise Unfit(TypeError)
    if isinstance(value[0], str):
        host(value[0])
    if value[1] is not None:
        port(value[1])
    return value


# -------------------------------------------------------------------------------------------------------------- several


def _collected(value: Any) -> Any:
    """Several things, in something that can be looked at again and again."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise Unfit(TypeError)
    return list(value) if isinstance(value, Iterator) else value


def url_map(value: Any) -> Any:
    """A URL map, by what it can do: Werkzeug is optional."""
    if not callable(getattr(value, "iter_rules", None)):
        raise Unfit(TypeError)
    return value


def subprotocols(value: Any) -> Any:
    """Names of subprotocols, in an order."""
    if isinstance(value, Sequence) and not all(isinstance(name, str) for name in value):
        raise Unfit(TypeError)
    validate_subprotocols(value)
    return value


def subprotocols_of_protocol(value: Any) -> Any:
    """The same, in anything that gives them one by one: 17.4 didn't look, without front-end."""
    return subprotocols(value if isinstance(value, str | bytes) or not isinstance(value, Iterable) else list(value))


def factories(methods: tuple[str, ...]) -> Check:
    """Factories of extensions, which have these methods."""

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
    """Whether it can't be called without an object; a class with static methods is a factory as well as any object."""
    return isinstance(value, types.FunctionType | property)


def origins(value: Any) -> Any:
    """Origins; those who derive classes may compare them in ways of their own."""
    value = _collected(value)
    for origin in value:
        if not isinstance(origin, str | re.Pattern | None):
            raise Unfit(TypeError, f"{shown(origin)} is none")
    return value


def origins_of_browsers(value: Any) -> Any:
    """Origins, of which a browser can send one at least."""
    value = origins(value)
    if not value:
        raise Unfit(ValueError, "no client could connect")
    if not any(map(_is_sent, value)):
        raise Unfit(ValueError, "no browser sends that: an origin is a scheme, a host, and perhaps a port")
    return value


def _is_sent(origin: str | re.Pattern[str] | None) -> bool:
    """Whether a client may send it, as far as anybody knows."""
    if not isinstance(origin, str):
        return True
    return "*" not in origin and (WEB_SCHEME(origin) is None or WEB_ORIGIN(origin) is not None)


def host_names(value: Any) -> HostNames:
    """Names that a server answers to."""
    return HostNames.of(value)


def proxies(value: Any) -> TrustedProxies:
    """Addresses and networks of proxies."""
    return TrustedProxies.of(value)


# -------------------------------------------------------------------------------------------------- connection handlers


def handler(value: Any) -> Any:
    """What is called with each connection, and gives something to wait for."""
    called = _called(function(value))
    if inspect.isasyncgenfunction(called) or _yields(called):
        raise Unfit(TypeError, "a function with yield gives nothing to wait for")
    if _never_returns_anything(called):
        raise Unfit(TypeError, "it isn't async, and returns nothing to wait for")
    if not _takes(value, 1) and not _takes(value, 2):
        raise Unfit(TypeError, "it can't be called with a connection alone")
    return value


def _called(value: Any) -> Any:
    """The function that runs when a handler is called, if it is one in Python."""
    while isinstance(value, functools.partial | types.MethodType):
        value = value.func if isinstance(value, functools.partial) else value.__func__
    return (
        value if isinstance(value, types.FunctionType | type) else inspect.getattr_static(type(value), "__call__", None)
    )


def _yields(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) and not function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE


def _never_returns_anything(function: Any) -> bool:
    """Whether a function that isn't async ends, wherever it ends, by ``return`` or without it."""
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
    """Whether it can be called with so many arguments; True where that isn't known."""
    try:
        signature = _own_signature(handler)
    except Exception:  # objects of somebody's may raise anything
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _own_signature(handler: Any) -> inspect.Signature:
    """What a function takes: what its decorator shows, in ``__wrapped__`` or ``__signature__``, is not that."""
    function = handler.__func__ if isinstance(handler, types.MethodType) else handler
    if isinstance(function, types.FunctionType) and hasattr(function, "__signature__"):
        bare = types.FunctionType(function.__code__, {}, None, function.__defaults__, function.__closure__)
        bare.__kwdefaults__ = function.__kwdefaults__
        handler = bare if function is handler else types.MethodType(bare, handler.__self__)
    return inspect.signature(handler, follow_wrapped=False)


def takes_path(handler: Any) -> bool:
    """Whether a connection handler is one of the oldest, which take the path of the request beside the connection.

    A decorated handler may take anything. If it shows two parameters, the decorator passes on the path, or has
    something of its own for the second one, as programs of today do: then the name decides.
    """
    if not _takes(handler, 2):
        return False
    if not _takes(handler, 1):
        return True
    shown = required_parameters(handler)
    return len(shown) == 2 and PATH_NAME(shown[1]) is not None


def required_parameters(handler: Any) -> list[str]:
    """The positional parameters without a default that a callable shows; none if it shows nothing."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except Exception:  # some callables don't tell, and objects of somebody's may raise anything
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional and p.default is p.empty]


def awaited(handler: object, given: Any) -> Awaitable[Any]:
    """What a connection handler gave, which somebody is going to wait for.

    Raises:
        TypeError: nobody can.
    """
    if not inspect.isawaitable(given):
        raise TypeError(f"a connection handler must be an async function: {shown(handler)} returned {shown(given)}")
    return given


def shown(value: object) -> str:
    """A value for an error, not too long."""
    try:
        shown = repr(value)
    except Exception:  # of a class of somebody's, or a number with thousands of digits
        shown = f"<{type(value).__name__}>"
    return shown if len(shown) <= 100 else shown[:97] + "..."
