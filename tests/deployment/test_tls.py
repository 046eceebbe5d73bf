"""TLS of one's own: a certificate that is renewed under way, and one that the client shows."""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from deployment.programs import EXAMPLES, TIMEOUT, certificate, example, free_port
from websockets.asyncio.client import ClientConnection, connect

CLIENT = EXAMPLES / "tls" / "client.py"


def serial(client: ClientConnection) -> str:
    """Which certificate the server has shown."""
    shown = client.transport.get_extra_info("ssl_object").getpeercert()
    return str(shown["serialNumber"])


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cert)


async def test_certificate_is_renewed(tmp_path: Path) -> None:
    port = free_port()
    uri = f"wss://localhost:{port}"
    cert = certificate(tmp_path)
    with example("tls/server.py", str(cert), str(tmp_path / "key.pem"), str(port), port=port) as server:
        old = await connect(uri, ssl=trusting(cert))
        # While the files don't fit each other, the old certificate stays in use.
        good = cert.read_bytes()
        cert.write_bytes(b"")
        server.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(server.wait_until, lambda: "stays as it was" in server.output)
        cert.write_bytes(good)
        same = await connect(uri, ssl=trusting(cert))
        assert serial(same) == serial(old)

        certificate(tmp_path)
        server.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(server.wait_until, lambda: "certificate loaded" in server.output)
        new = await connect(uri, ssl=trusting(cert))
        assert serial(new) != serial(old)
        for client in (old, same, new):
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.close()
        assert server.stop() == 0


def test_client(tmp_path: Path) -> None:
    port = free_port()
    cert = certificate(tmp_path)
    with example("tls/server.py", str(cert), str(tmp_path / "key.pem"), str(port), port=port):
        done = subprocess.run(
            [sys.executable, CLIENT, f"wss://localhost:{port}", cert], capture_output=True, text=True, timeout=TIMEOUT
        )
        assert (done.stdout, done.stderr) == ("Hello!\nTLSv1.3\n", "")


async def test_client_that_trusts_somebody_else(tmp_path: Path) -> None:
    port = free_port()
    cert = certificate(tmp_path)
    with example("tls/server.py", str(cert), str(tmp_path / "key.pem"), str(port), port=port):
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(f"wss://localhost:{port}", ssl=trusting(certificate(tmp_path, stem="other-")))
