"""What a client talks to while it is measured: a server that counts what arrives and sends frames made beforehand.

Charter: raw sockets and ``selectors``; must not import any WebSocket library. Run as ``python -m bench.answer JOB``. It
prints ``{"port": N}`` and serves until its standard input ends.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading

from bench.cases import Job
from bench.streams import HOST, Poll, Stream, prepare, read_until
from bench.wire import CLOSE_ANSWER, END_OF_HEADERS, MASK, Traffic, counter, response


class Echo:
    """A connection on which each message is answered by one that was made beforehand.

    Parameters:
        server: what accepted it.
        sock: a connection after its opening handshake.
    """

    def __init__(self, server: Server, sock: socket.socket) -> None:
        # Each with its own, as the frames of some cases take turns.
        self.traffic = Traffic(server.job.case, None)
        self.counter = counter(server.job.case, server.expected)
        self.stream = Stream(server.poll, sock, self.on_readable)

    def on_readable(self) -> None:
        try:
            whole = self.counter.feed(self.stream.read())
        except EOFError:
            self.stream.close()
            return
        if whole:
            self.stream.write(self.traffic.take(whole))


class Closing:
    """A connection whose client closes it at once.

    Parameters:
        server: what accepted it.
        sock: a connection, before its opening handshake.
    """

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.request = b""
        self.stream = Stream(server.poll, sock, self.on_readable)

    def on_readable(self) -> None:
        try:
            data = self.stream.read()
        except EOFError:
            self.stream.close()
            return
        if END_OF_HEADERS in self.request:
            # This can only be a Close.
            self.stream.write(CLOSE_ANSWER)
            self.stream.close()
            return
        self.request += data
        if END_OF_HEADERS in self.request:
            self.stream.write(response(self.request))


class Server:
    """Accepts connections and answers on them.

    Parameters:
        job: what its clients will do.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.expected = Traffic(job.case, MASK).frames
        self.poll = Poll()
        self.context: ssl.SSLContext | None = None
        if job.certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(job.certificate)
        self.listener = socket.create_server((HOST, 0), backlog=1024)
        self.stream = Stream(self.poll, self.listener, self.on_readable)

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def on_readable(self) -> None:
        """Accept a connection."""
        sock, _ = self.listener.accept()
        prepare(sock)
        if self.job.case.kind == "open-close":
            Closing(self, sock)
            return
        if self.context is not None:
            sock = self.context.wrap_socket(sock, server_side=True)
        sock.sendall(response(read_until(sock, END_OF_HEADERS), self.job.case.deflate))
        Echo(self, sock)

    def serve(self) -> None:
        """Serve for as long as there are clients."""
        while True:
            self.poll.turn()


def end_with_parent() -> None:
    """End this process when the one that started it is done with it, or gone."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    server = Server(Job.from_json(sys.argv[1]))
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(json.dumps({"port": server.port}), flush=True)
    server.serve()


if __name__ == "__main__":
    main()
