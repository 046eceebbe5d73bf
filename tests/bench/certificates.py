"""A certificate for measuring TLS.

Charter: calls the ``openssl`` command, as the standard library can't make certificates.
"""

from __future__ import annotations

import subprocess
from pathlib import Path


class NoCertificate(Exception):
    """There is no certificate, and so no TLS."""


def make_certificate(folder: Path) -> str:
    """Make a certificate that signs itself, and its key; returns the file that has both.

    Raises:
        NoCertificate: the command is missing, or fails.
    """
    key, certificate, both = (folder / name for name in ("key.pem", "certificate.pem", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError as exc:
        raise NoCertificate("TLS needs a certificate, and there is no openssl command to make one") from exc
    except subprocess.CalledProcessError as exc:
        reason = exc.stderr.decode(errors="replace").strip()
        raise NoCertificate(f"TLS needs a certificate, and the openssl command failed: {reason}") from exc
    both.write_text(key.read_text("ascii") + certificate.read_text("ascii"), "ascii")
    return str(both)
