"""Negotiation of permessage-deflate: RFC 7692 section 7.1.

May know: the parameters of an extension, the codec that they configure. Must not know: connections, the header that
carries the parameters, frames.

A truth table for each side gives the result for a parameter, from the configuration of this side and the value from
the other side. The results configure a :class:`PerMessageDeflate`.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

from .._compat.deprecated import deprecated_names
from ..exceptions import DuplicateParameter, InvalidParameterName, InvalidParameterValue, NegotiationError
from ..typing import ExtensionParameter
from ._deflate import (
    MAX_BITS,
    MIN_BITS,
    MIN_ZLIB_BITS,
    NAME,
    PerMessageDeflate,
    check_bits,
    check_settings,
    check_threshold,
)
from .base import ClientExtensionFactory, Extension, ServerExtensionFactory

__all__ = [
    "ClientPerMessageDeflateFactory",
    "PerMessageDeflate",
    "ServerPerMessageDeflateFactory",
    "enable_client_permessage_deflate",
    "enable_server_permessage_deflate",
]

# Default size in bytes from which messages are compressed. For smaller ones, deflate saves little compared with the
# headers of TCP and IP, and takes longer than sending those bytes. It saves less if each message is compressed alone.
THRESHOLD, THRESHOLD_NO_CONTEXT = 64, 256

# The parameters, in the order in which they are written.
SERVER_NO_CONTEXT = "server_no_context_takeover"
CLIENT_NO_CONTEXT = "client_no_context_takeover"
SERVER_BITS = "server_max_window_bits"
CLIENT_BITS = "client_max_window_bits"

# The value of a parameter is a number of bits, or one of these: absent, or present without a value.
ABSENT, PRESENT = 0, 1
Values = tuple[tuple[str, int], ...]

# The valid values of each parameter. In an offer, client_max_window_bits without a value lets the server choose.
Grammar = Mapping[str, Mapping[str | None, int]]
_FLAG: dict[str | None, int] = {None: PRESENT}
_BITS: dict[str | None, int] = {str(bits): bits for bits in range(MIN_BITS, MAX_BITS + 1)}
RESPONSE: Grammar = {SERVER_NO_CONTEXT: _FLAG, CLIENT_NO_CONTEXT: _FLAG, SERVER_BITS: _BITS, CLIENT_BITS: _BITS}
REQUEST: Grammar = {**RESPONSE, CLIENT_BITS: _FLAG | _BITS}


def _read_params(params: Sequence[ExtensionParameter], grammar: Grammar) -> dict[str, int]:
    """Return the values of all parameters; raise if one is unknown, malformed or repeated."""
    values = dict.fromkeys(grammar, ABSENT)
    for name, value in params:
        if name not in grammar:
            raise InvalidParameterName(name)
        if values[name] != ABSENT:
            raise DuplicateParameter(name)
        if value not in grammar[name]:
            raise InvalidParameterValue(name, value)
        values[name] = grammar[name][value]
    return values


def _write_params(values: Mapping[str, int]) -> list[ExtensionParameter]:
    return [(name, None if value == PRESENT else str(value)) for name, value in values.items() if value != ABSENT]


# A rule is called with the name, the configuration of this side and the value from the other side. It returns the
# agreed value, or raises.
Rule = Callable[[str, int, int], int]


def _nothing(name: str, ours: int, theirs: int) -> int:
    return ABSENT


def _ours(name: str, ours: int, theirs: int) -> int:
    return ours


def _theirs(name: str, ours: int, theirs: int) -> int:
    return theirs


def _lesser(name: str, ours: int, theirs: int) -> int:
    return min(ours, theirs)


def _within(name: str, ours: int, theirs: int) -> int:
    if theirs > ours:
        raise NegotiationError(f"unsupported {name} = {theirs}, use at most {ours}")
    return theirs


def _refuse(reason: str) -> Rule:
    def rule(name: str, ours: int, theirs: int) -> NoReturn:
        raise NegotiationError(reason.format(name=name, theirs=theirs))

    return rule


_expected, _unexpected, _required = (_refuse(f"{why} {{name}}") for why in ("expected", "unexpected", "required"))

# The rows are the possible configurations of a parameter, the columns the possible values from the other side, and the
# cells the rules. "bits" is any number of bits. "must" is a server that requires client_max_window_bits.
Table = Mapping[str, Mapping[str, Mapping[str, Rule]]]

_EITHER = {
    "absent":  {"absent": _nothing,  "present": _theirs},
    "present": {"absent": _ours,     "present": _theirs},
}  # fmt: skip

SERVER_TABLE: Table = {
    SERVER_NO_CONTEXT: _EITHER,
    CLIENT_NO_CONTEXT: _EITHER,
    SERVER_BITS: {
        "absent":  {"absent": _nothing,  "bits": _theirs},
        "bits":    {"absent": _ours,     "bits": _lesser},
    },
    CLIENT_BITS: {
        "absent":  {"absent": _nothing,  "present": _nothing, "bits": _theirs},
        "bits":    {"absent": _nothing,  "present": _ours,    "bits": _lesser},
        "must":    {"absent": _required, "present": _ours,    "bits": _lesser},
    },
}  # fmt: skip

CLIENT_TABLE: Table = {
    SERVER_NO_CONTEXT: {
        "absent":  {"absent": _nothing,  "present": _theirs},
        "present": {"absent": _expected, "present": _theirs},
    },
    CLIENT_NO_CONTEXT: _EITHER,
    SERVER_BITS: {
        "absent":  {"absent": _nothing,  "bits": _theirs},
        "bits":    {"absent": _expected, "bits": _within},
    },
    CLIENT_BITS: {
        "absent":  {"absent": _nothing,  "bits": _unexpected},
        "present": {"absent": _nothing,  "bits": _theirs},
        "bits":    {"absent": _ours,     "bits": _within},
    },
}  # fmt: skip


def _kind(value: int) -> str:
    """Return the name of a value in the tables."""
    if value <= PRESENT:
        return "present" if value else "absent"
    return "bits"


class _Factory:
    """Configuration and negotiation, the same for both sides."""

    name = NAME
    table: Table
    own_bits: str
    require_client_max_window_bits = False

    def __init__(
        self,
        no_contexts: tuple[bool, bool],
        bits: tuple[int | None, int | None],
        settings: Any,
        threshold: int | None = None,
    ) -> None:
        self.server_no_context_takeover, self.client_no_context_takeover = no_contexts
        self.server_max_window_bits, self.client_max_window_bits = bits
        self.compress_settings: dict[str, Any] | None = settings
        self.threshold = threshold

    def _check(self) -> None:
        settings = self.compress_settings
        check_settings(settings, self.own_bits)
        check_threshold(self.threshold)
        try:
            # Invalid settings should raise here, and not with the first message.
            zlib.compressobj(wbits=-MIN_ZLIB_BITS, **settings or {})
        except (TypeError, ValueError) as exc:
            raise ValueError(f"unsupported compress_settings {settings}: {exc}") from exc

    def configured(self) -> dict[str, int]:
        return {name: int(getattr(self, name) or ABSENT) for name in self.table}

    def agree(self, theirs: Mapping[str, int]) -> Mapping[str, int]:
        """Return the agreed value of each parameter, by the table of this side."""
        side: Any = type(self)  # mypy doesn't see that a class has a hash
        ours = tuple(self.configured().items())
        return _agreed(side, self.require_client_max_window_bits, ours, tuple(theirs.items()))

    def _threshold(self, no_context: int) -> int:
        """Return the threshold in bytes, given whether this side compresses each message alone."""
        if self.threshold is not None:
            return self.threshold
        return THRESHOLD_NO_CONTEXT if no_context else THRESHOLD


@functools.lru_cache(maxsize=64)
def _agreed(side: type[_Factory], must: bool, ours: Values, theirs: Values) -> Mapping[str, int]:
    """Return what two sides agree on: mostly the same as in the handshake before, so it is found out only once."""
    offered, agreed = dict(theirs), {}
    for name, value in ours:
        row = side.table[name]["must" if must and name == CLIENT_BITS else _kind(value)]
        agreed[name] = row[_kind(offered[name])](name, value, offered[name])
    return agreed


def _refuse_duplicate(accepted_extensions: Sequence[Extension], verb: str) -> None:
    if any(extension.name == NAME for extension in accepted_extensions):
        raise NegotiationError(f"{verb} duplicate {NAME}")


class ClientPerMessageDeflateFactory(_Factory, ClientExtensionFactory):
    """The client's part in negotiating permessage-deflate (RFC 7692 section 7.1).

    Parameters:
        server_no_context_takeover: ask the server to compress each message without reference to earlier ones.
        client_no_context_takeover: compress each message without reference to earlier ones, which needs less memory and
            compresses less.
        server_max_window_bits: limit of the server's window, 8 to 15, as a power of two of bytes; None for no limit.
        client_max_window_bits: limit of the client's window, 8 to 15; True (the default) to let the server choose it;
            None to forbid the server to limit it.
        compress_settings: keyword arguments of :func:`zlib.compressobj`, without ``wbits``; None for its defaults.
        threshold: size in bytes from which messages are compressed; fragmented messages are always compressed. None
            (the default) for 64, or for 256 if this side compresses each message alone.

    Raises:
        ValueError: a window or the threshold is out of range, or zlib doesn't support ``compress_settings``.
    """

    table = CLIENT_TABLE
    own_bits = CLIENT_BITS

    def __init__(
        self,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int | None = True,
        compress_settings: dict[str, Any] | None = None,
        *,
        threshold: int | None = None,
    ) -> None:
        check_bits(SERVER_BITS, server_max_window_bits)
        if client_max_window_bits is not True:
            check_bits(CLIENT_BITS, client_max_window_bits)
        no_contexts = server_no_context_takeover, client_no_context_takeover
        bits = server_max_window_bits, client_max_window_bits
        super().__init__(no_contexts, bits, compress_settings, threshold)
        self._check()

    @classmethod
    def _default(cls) -> Self:
        """The one of ``connect()``. Nothing in it needs to be checked, which takes longer than all the rest."""
        self = cls.__new__(cls)
        _Factory.__init__(self, (False, False), (None, True), dict(DEFAULT_SETTINGS))
        return self

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        """Make an offer (RFC 7692 section 7.1); see :class:`ClientExtensionFactory`."""
        return _write_params(self.configured())

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> PerMessageDeflate:
        """Read the answer of the server (RFC 7692 section 7.1); see :class:`ClientExtensionFactory`."""
        _refuse_duplicate(accepted_extensions, "received")
        agreed = self.agree(_read_params(params, RESPONSE))
        return PerMessageDeflate(
            remote_no_context_takeover=bool(agreed[SERVER_NO_CONTEXT]),
            local_no_context_takeover=bool(agreed[CLIENT_NO_CONTEXT]),
            remote_max_window_bits=agreed[SERVER_BITS] or MAX_BITS,
            local_max_window_bits=agreed[CLIENT_BITS] or MAX_BITS,
            compress_settings=self.compress_settings,
            threshold=self._threshold(agreed[CLIENT_NO_CONTEXT]),
        )


class ServerPerMessageDeflateFactory(_Factory, ServerExtensionFactory):
    """The server's part in negotiating permessage-deflate (RFC 7692 section 7.1).

    Parameters:
        server_no_context_takeover: compress each message without reference to earlier ones, which needs less memory and
            compresses less.
        client_no_context_takeover: tell the client to compress each message without reference to earlier ones.
        server_max_window_bits: limit of the server's window, 8 to 15, as a power of two of bytes; None for no limit
            except the client's. The answer names it only if the client's offer does.
        client_max_window_bits: limit of the client's window, 8 to 15; None for no limit. It applies only to clients
            whose offer allows a limit.
        compress_settings: keyword arguments of :func:`zlib.compressobj`, without ``wbits``; None for its defaults.
        require_client_max_window_bits: decline offers that don't allow a limit of the client's window; False by
            default.
        threshold: size in bytes from which messages are compressed; fragmented messages are always compressed. None
            (the default) for 64, or for 256 if this side compresses each message alone.

    Raises:
        ValueError: a window or the threshold is out of range, zlib doesn't support ``compress_settings``, or a limit is
            required but ``client_max_window_bits`` is None.
    """

    table = SERVER_TABLE
    own_bits = SERVER_BITS

    def __init__(
        self,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int | None = None,
        compress_settings: dict[str, Any] | None = None,
        require_client_max_window_bits: bool = False,
        *,
        threshold: int | None = None,
    ) -> None:
        check_bits(SERVER_BITS, server_max_window_bits)
        check_bits(CLIENT_BITS, client_max_window_bits)
        if require_client_max_window_bits and client_max_window_bits is None:
            raise ValueError("require_client_max_window_bits is enabled, but client_max_window_bits isn't configured")
        no_contexts = server_no_context_takeover, client_no_context_takeover
        bits = server_max_window_bits, client_max_window_bits
        super().__init__(no_contexts, bits, compress_settings, threshold)
        self._check()
        self.require_client_max_window_bits = require_client_max_window_bits

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """Answer an offer of the client (RFC 7692 section 7.1); see :class:`ServerExtensionFactory`."""
        _refuse_duplicate(accepted_extensions, "skipped")
        offer = _read_params(params, REQUEST)
        agreed = self.agree(offer)
        # A server may use a smaller window than agreed without telling the client. Some clients refuse parameters in
        # the answer that weren't in their offer.
        answer = agreed if offer[SERVER_BITS] != ABSENT else {**agreed, SERVER_BITS: ABSENT}
        return _write_params(answer), PerMessageDeflate(
            remote_no_context_takeover=bool(agreed[CLIENT_NO_CONTEXT]),
            local_no_context_takeover=bool(agreed[SERVER_NO_CONTEXT]),
            remote_max_window_bits=agreed[CLIENT_BITS] or MAX_BITS,
            local_max_window_bits=agreed[SERVER_BITS] or MAX_BITS,
            compress_settings=self.compress_settings,
            threshold=self._threshold(agreed[SERVER_NO_CONTEXT]),
        )


# The defaults. A window of 4 KiB and a smaller hash table save most of the memory and lose little compression. Level 3
# is the last fast level of zlib: above it, a microsecond saves fewer than eight bytes (docs/compression.md).
DEFAULT_BITS = 12
DEFAULT_SETTINGS = {"level": 3, "memLevel": 5}


def enable_client_permessage_deflate(
    extensions: Sequence[ClientExtensionFactory] | None,
) -> Sequence[ClientExtensionFactory]:
    """Add permessage-deflate with its defaults to the extensions of a client: the server may limit its window.

    Parameters:
        extensions: the extensions so far; None for none.

    Returns:
        The extensions, with permessage-deflate last unless it was among them.
    """
    factories = list(extensions or ())
    if NAME not in [factory.name for factory in factories]:
        factories.append(ClientPerMessageDeflateFactory._default())
    return factories


def enable_server_permessage_deflate(
    extensions: Sequence[ServerExtensionFactory] | None,
) -> Sequence[ServerExtensionFactory]:
    """Add permessage-deflate with its defaults to the extensions of a server: windows of 4 KiB on both sides.

    Parameters:
        extensions: the extensions so far; None for none.

    Returns:
        The extensions, with permessage-deflate last unless it was among them.
    """
    factories = list(extensions or ())
    if NAME not in [factory.name for factory in factories]:
        factories.append(
            ServerPerMessageDeflateFactory(False, False, DEFAULT_BITS, DEFAULT_BITS, dict(DEFAULT_SETTINGS))
        )
    return factories


# Names from earlier releases.
if not TYPE_CHECKING:
    __getattr__ = deprecated_names(__name__)
