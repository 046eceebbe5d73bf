"""The clients and servers that are measured in threads: the same ones in each library, and in bare sockets.

Charter: imports one library, as its users would, with its defaults but for two: compression is off, and a message may
have any size. Run as ``python -m bench.blocking LIBRARY JOB``, beside ``bench.answer`` for a client and ``bench.load``
for a server; it says and obeys what ``bench.clients`` and ``bench.servers`` do.
"""

# pyright: reportMissingImports=false
# What is measured is installed where it runs, not where types are checked.

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.cases import BLOCK, Job
from bench.clients import check, context_of, result, texts, uri
from bench.servers import context_of as server_context
from bench.streams import HOST, prepare, read_until
from bench.wire import END_OF_HEADERS, MASK, Traffic, check_response, request, response

clock = time.perf_counter

# Bytes that one read of a bare socket may bring; what the libraries read at once.
READ = 1 << 16

# What a client sends with, and what it receives with.
Ends = tuple[Callable[[str], Any], Callable[[], Any]]


# -------------------------------------------------------------------------------------------------------------- clients


def websockets_client(job: Job) -> Ends:
    """This library, and the published one."""
    from websockets.sync.client import connect

    options: dict[str, Any] = {} if job.certificate is None else {"ssl": context_of(job)}
    connection: Any = connect(uri(job), max_size=None, compression=None, proxy=None, legacy=True, **options)
    return connection.send, connection.recv


def websocket_client(job: Job) -> Ends:
    """The package websocket-client, which answers no ping while nobody receives."""
    import websocket

    options = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    connection = websocket.create_connection(uri(job), sslopt=options)
    return connection.send, connection.recv


def bare_client(job: Job) -> Ends:
    """No library at all: a frame that was made beforehand is sent, and as many bytes are received."""
    sock: socket.socket = socket.create_connection((HOST, job.port))
    prepare(sock)
    sock.settimeout(None)
    if (context := context_of(job)) is not None:
        sock = context.wrap_socket(sock)
    sock.sendall(request(job.port))
    check_response(read_until(sock, END_OF_HEADERS))
    (frame,) = Traffic(job.case, MASK).frames
    whole = whole_messages(sock, len(frame) - len(MASK))
    (text,) = texts(job)

    def receive() -> str:
        next(whole)
        return text

    return lambda text: sock.sendall(frame), receive


def whole_messages(sock: socket.socket, size: int) -> Iterator[None]:
    """Yield for each ``size`` bytes that a socket brings."""
    have = 0
    while data := sock.recv(READ):
        have += len(data)
        while have >= size:
            have -= size
            yield


CLIENTS = {"websockets": websockets_client, "websocket-client": websocket_client, "bare": bare_client}


def exchange(ends: Ends, text: str, depth: int, seconds: float) -> dict[str, Any]:
    """Keep messages in flight on one connection for so many seconds."""
    send, receive = ends
    round_trips: list[float] = []
    more = max(BLOCK - depth, 0)
    started = clock()
    for _ in range(depth):
        send(text)
    count = depth
    while (begun := clock()) < started + seconds:
        # The message that was sent last comes back after those before it.
        for _ in range(depth):
            receive()
            send(text)
        round_trips.append(clock() - begun)
        for _ in range(more):
            receive()
            send(text)
        count += depth + more
    for _ in range(depth):
        receive()
    return result(count, clock() - started, round_trips)


def be_client(library: str, job: Job) -> None:
    """Do what the lines on standard input say; between them nothing is in flight."""
    ends = CLIENTS[library](job)
    (text,) = texts(job)
    ends[0](text)
    check(ends[1](), text)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        used = time.process_time()
        outcome = exchange(ends, text, job.case.depth, json.loads(line)["amount"])
        print(json.dumps({**outcome, "cpu": time.process_time() - used}), flush=True)


# -------------------------------------------------------------------------------------------------------------- servers


def websockets_server(job: Job) -> int:
    """This library, and the published one."""
    from websockets.sync.server import serve

    def echo(connection: Any) -> None:
        for message in connection:
            connection.send(message)

    options: dict[str, Any] = {} if job.certificate is None else {"ssl": server_context(job)}
    server = serve(echo, HOST, 0, max_size=None, compression=None, **options)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port: int = server.socket.getsockname()[1]
    return port


def bare_server(job: Job) -> int:
    """No library at all: each message by its known size is answered by a frame that was made beforehand."""
    listener = socket.create_server((HOST, 0))
    (answer,) = Traffic(job.case, None).frames

    def serve() -> None:
        sock, _ = listener.accept()
        prepare(sock)
        sock.settimeout(None)
        if (context := server_context(job)) is not None:
            sock = context.wrap_socket(sock, server_side=True)
        sock.sendall(response(read_until(sock, END_OF_HEADERS)))
        for _ in whole_messages(sock, len(answer) + len(MASK)):
            sock.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


SERVERS = {"websockets": websockets_server, "bare": bare_server}


def be_server(library: str, job: Job) -> None:
    """Serve, and say how much CPU time was used when a line on standard input asks."""
    print(json.dumps({"port": SERVERS[library](job)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"cpu": time.process_time()}), flush=True)


def main() -> None:
    job = Job.from_json(sys.argv[2])
    (be_client if job.case.role == "client" else be_server)(sys.argv[1], job)
    # Closing would take its time, as the other side cannot tell a Close from a message.
    os._exit(0)


if __name__ == "__main__":
    main()
