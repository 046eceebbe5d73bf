"""Certificates for tests of TLS, with any authority, name and date: X.509 (RFC 5280), PKCS #1 (RFC 8017).

The standard library can't make certificates, and not every system has the ``openssl`` command. A certificate is simple:
nested DER (X.690), and a signature, which is one ``pow()``. All share one RSA key, made of the two primes below. The
key is public, so it protects nothing.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

__all__ = ["AUTHORITY", "Certificate", "client_context", "server_context"]

P: Final = 3 * 2**1022 + 1037
Q: Final = 7 * 2**1021 + 309
N, E = P * Q, 65537
D: Final = pow(E, -1, (P - 1) * (Q - 1))

BOOLEAN, INTEGER, BITS, OCTETS, NULL, OID, UTF8, SEQUENCE, SET, UTC_TIME = (
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x30, 0x31, 0x17,
)  # fmt: skip

# Names of things, as the bytes of their object identifiers.
SHA256_WITH_RSA, RSA, SHA256 = "2a864886f70d01010b", "2a864886f70d010101", "608648016503040201"
COMMON_NAME, BASIC_CONSTRAINTS, KEY_USAGE, ALTERNATIVE_NAME = "550403", "551d13", "551d0f", "551d11"
SUBJECT_KEY, AUTHORITY_KEY = "551d0e", "551d23"


def der(tag: int, *contents: bytes) -> bytes:
    """One value: its tag, its length, its contents."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value: int) -> bytes:
    """A number that isn't negative."""
    return der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(identifier: str) -> bytes:
    """An object identifier, from its bytes in hexadecimal."""
    return der(OID, bytes.fromhex(identifier))


def bits(content: bytes, unused: int = 0) -> bytes:
    """A string of bits, of which the last few don't count."""
    return der(BITS, bytes([unused]), content)


def extension(identifier: str, value: bytes, *, critical: bool = False) -> bytes:
    """An extension of a certificate."""
    return der(SEQUENCE, oid(identifier), der(BOOLEAN, b"\xff") if critical else b"", der(OCTETS, value))


def sign(message: bytes) -> bytes:
    """A signature, RSASSA-PKCS1-v1_5 with SHA-256."""
    digest = der(SEQUENCE, der(SEQUENCE, oid(SHA256), der(NULL)), der(OCTETS, hashlib.sha256(message).digest()))
    padded = b"\x00\x01" + b"\xff" * (256 - 3 - len(digest)) + b"\x00" + digest
    # By the Chinese remainder theorem (RFC 8017 section 5.1.2), which takes a third of the time.
    number = int.from_bytes(padded, "big")
    of_p, of_q = pow(number, D % (P - 1), P), pow(number, D % (Q - 1), Q)
    return (of_q + (of_p - of_q) * pow(Q, -1, P) % P * Q).to_bytes(256, "big")


def pem(kind: str, content: bytes) -> str:
    """The same in letters."""
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(content).decode('ascii')}-----END {kind}-----\n"


PUBLIC: Final = der(SEQUENCE, integer(N), integer(E))
PRIVATE: Final = pem(
    "RSA PRIVATE KEY",
    der(SEQUENCE, *map(integer, [0, N, E, D, P, Q, D % (P - 1), D % (Q - 1), pow(Q, -1, P)])),
)
ALGORITHM: Final = der(SEQUENCE, oid(SHA256_WITH_RSA), der(NULL))


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A certificate.

    Parameters:
        name: the name of the host, or of whoever has it.
        issuer: the name of who signed it; the own one for a certificate that signs itself.
        days: days from now until it expires; negative when it did so already. It is valid from 90 days ago.
        authority: whether it may sign others.
        padding: bytes that make it longer than needed.
    """

    name: str
    issuer: str = "tests"
    days: int = 7
    authority: bool = False
    padding: int = 0

    @property
    def text(self) -> str:
        """The certificate in PEM."""
        return _signed(self)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make a context show this certificate."""
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(self.write(Path(folder)))

    def write(self, folder: Path) -> Path:
        """Write the certificate and its key to a file; returns its path."""
        path = folder / "certificate.pem"
        path.write_text(PRIVATE + self.text, "ascii")
        return path

    def _to_be_signed(self) -> bytes:
        now = datetime.now(UTC)
        dates = now - timedelta(days=90), now + timedelta(days=self.days)
        validity = [der(UTC_TIME, date.strftime("%y%m%d%H%M%SZ").encode()) for date in dates]
        return der(
            SEQUENCE,
            der(0xA0, integer(2)),  # version 3
            integer(int.from_bytes(hashlib.sha256(repr(self).encode()).digest()[:8], "big")),
            ALGORITHM,
            distinguished(self.issuer),
            der(SEQUENCE, *validity),
            distinguished(self.name),
            der(SEQUENCE, der(SEQUENCE, oid(RSA), der(NULL)), bits(PUBLIC)),
            der(0xA3, der(SEQUENCE, *self._extensions())),
        )

    def _extensions(self) -> list[bytes]:
        key = hashlib.sha1(PUBLIC).digest()
        # Certificates may be signed, or handshakes.
        usage = bits(b"\x06", 1) if self.authority else bits(b"\x80", 7)
        names = [der(0x82, self.name.encode("ascii"))] + [der(0x82, b"x" * 63)] * (self.padding // 65)
        return [
            extension(
                BASIC_CONSTRAINTS, der(SEQUENCE, der(BOOLEAN, b"\xff") if self.authority else b""), critical=True
            ),
            extension(KEY_USAGE, usage, critical=True),
            extension(ALTERNATIVE_NAME, der(SEQUENCE, *names)),
            extension(SUBJECT_KEY, der(OCTETS, key)),
            extension(AUTHORITY_KEY, der(SEQUENCE, der(0x80, key))),
        ]


@functools.cache
def _signed(certificate: Certificate) -> str:
    """The text of a certificate. Equal ones have the same, as a signature takes Python 20 ms."""
    signed = certificate._to_be_signed()
    return pem("CERTIFICATE", der(SEQUENCE, signed, ALGORITHM, bits(sign(signed))))


def distinguished(name: str) -> bytes:
    """A name that consists of nothing but this."""
    return der(SEQUENCE, der(SET, der(SEQUENCE, oid(COMMON_NAME), der(UTF8, name.encode()))))


AUTHORITY: Final = Certificate("tests", authority=True)

Version = Literal["TLSv1_2", "TLSv1_3"]


def server_context(certificate: Certificate | None = None, version: Version | None = None) -> ssl.SSLContext:
    """The context of a server that shows a certificate, of localhost if none is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (certificate or Certificate("localhost")).load_into(context)
    return _limited(context, version)


def client_context(certificate: Certificate | None = None, version: Version | None = None) -> ssl.SSLContext:
    """The context of a client that trusts our authority only; it may show a certificate."""
    context = ssl.create_default_context(cadata=AUTHORITY.text)
    if certificate is not None:
        certificate.load_into(context)
    return _limited(context, version)


def _limited(context: ssl.SSLContext, version: Version | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    return context
