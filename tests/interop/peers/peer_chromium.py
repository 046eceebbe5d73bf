"""Peer for the WebSocket of a browser: headless Chromium.

Charter: serves ``chromium.html`` to a Chromium of its own, passes scenarios from standard input to the page, and the
page's answers to standard output. Only a client. What a scenario means is implemented in the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).with_name("chromium.html")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever proxy the environment names, page and peers are on the loopback interface.
    "--no-proxy-server",
)


class PageServer(ThreadingHTTPServer):
    """Serves the page, and then one scenario for each answer that the page posts."""

    def __init__(self, uri: str) -> None:
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.uri = uri
        self.scenarios: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.finished = threading.Event()

    def read_scenarios(self) -> None:
        """Queue scenarios until standard input ends; even a page that hangs must not outlive that."""
        for line in sys.stdin:
            self.scenarios.put(line)
        self.finished.set()

    def watch(self, browser: subprocess.Popen[bytes]) -> None:
        """Finish if the browser ends before it is told to."""
        browser.wait()
        self.finished.set()


class PageHandler(BaseHTTPRequestHandler):
    """Answers the requests of the page."""

    @property
    def page_server(self) -> PageServer:
        """The server, with its type."""
        assert isinstance(self.server, PageServer)
        return self.server

    def do_GET(self) -> None:
        """Serve the page."""
        if self.path == "/":
            self.reply("text/html; charset=utf-8", PAGE.read_bytes())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Take an answer and give the next scenario, once there is one."""
        answer = self.rfile.read(int(self.headers["Content-Length"]))
        print(answer.decode(), flush=True)
        scenario = json.loads(self.page_server.scenarios.get())
        self.reply("application/json", json.dumps({"uri": self.page_server.uri, "scenario": scenario}).encode())

    def reply(self, kind: str, body: bytes) -> None:
        """Send a response."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def start(target: Callable[..., None], *args: object) -> None:
    """Run a function in a thread that does not keep the program alive."""
    threading.Thread(target=target, args=args, daemon=True).start()


def browse(server: PageServer, chromium: str, profile: str) -> None:
    """Show the page in a Chromium with a fresh profile until there are no more scenarios."""
    page = f"http://127.0.0.1:{server.server_port}/"
    command = (chromium, *FLAGS, f"--user-data-dir={profile}", page)
    # A session of its own: Chromium has many processes, and all must end.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as browser:
        try:
            start(server.watch, browser)
            server.finished.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)


def main() -> None:
    """Run as a client, the only role of a browser."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chromium", default="chromium", help="program to run (default: %(default)s)")
    parser.add_argument("role", choices=["client"])
    parser.add_argument("uri")
    arguments = parser.parse_args()
    # Chromium's last processes may still be writing to their profile when it is deleted.
    with (
        PageServer(arguments.uri) as server,
        tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile,
    ):
        start(server.serve_forever)
        start(server.read_scenarios)
        browse(server, arguments.chromium, profile)


if __name__ == "__main__":
    main()
