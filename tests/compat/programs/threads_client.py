"""Clients in threads: a context manager, messages both ways, time-outs, a refusal, redirects, a proxy, reconnection."""

from __future__ import annotations

import contextlib
import http
import logging
import socket
import threading
import warnings
from collections.abc import Iterator

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect, reconnect
from websockets.sync.server import ServerConnection, serve

# How a server's log takes clients that leave isn't what this is about.
logging.getLogger("websockets.server").setLevel(logging.CRITICAL)


def handler(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    if websocket.request.path == "/bye":
        websocket.close(4000, "bye")
        return
    for message in websocket:
        websocket.send(message)


def process_request(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/secret":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "Not for you.\n")
    if request.path == "/old":
        response = connection.respond(http.HTTPStatus.FOUND, "Moved.\n")
        response.headers["Location"] = "/new"
        return response
    return None


def tunnel(listening: socket.socket) -> None:
    """An HTTP proxy for one connection."""
    client, _ = listening.accept()
    request = client.recv(4096).decode()
    print("proxy:", request.split()[0], request.split()[2])
    _, host, port, *_ = request.replace(":", " ").split()
    server = socket.create_connection((host, int(port)))
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=pump, args=(server, client))
    back.start()
    pump(client, server)
    back.join()
    client.close()
    server.close()


class Mine(ClientConnection):
    def shout(self, text: str) -> None:
        self.send(text.upper())


def delays() -> Iterator[float]:
    while True:
        yield 0


def main() -> None:
    with serve(handler, "127.0.0.1", 0, process_request=process_request) as server:
        threading.Thread(target=server.serve_forever).start()
        uri = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"

        with connect(uri, additional_headers={"X-Mine": "1"}, create_connection=Mine) as websocket:
            assert isinstance(websocket, Mine)
            websocket.shout("hello")
            print(websocket.recv())
            websocket.send(b"binary")
            print(websocket.recv(timeout=10))
            websocket.send(["in ", "three ", "pieces"])
            print(websocket.recv())
            assert websocket.request is not None
            print(websocket.request.headers["X-Mine"])
            with contextlib.suppress(TimeoutError):
                websocket.recv(timeout=0.01)
            print(websocket.ping().wait(10), websocket.latency > 0)
        print(websocket.close_code, websocket.state.name)

        websocket = connect(uri, legacy=True)
        websocket.send("without a block")
        print(next(iter(websocket)))
        websocket.close()
        try:
            websocket.send("too late")
        except ConnectionClosedOK as exc:
            print(exc)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            websocket = connect(uri)
            websocket.send("deprecated")
            print(websocket.recv())
            websocket.close()
        print(caught[0].category.__name__, caught[0].message)

        with connect(f"{uri}/bye") as websocket:
            try:
                websocket.recv()
            except ConnectionClosedError as closed:
                print(closed.rcvd)

        try:
            connect(f"{uri}/secret", legacy=True)
        except InvalidStatus as refusal:
            print(refusal, bytes(refusal.response.body))

        with connect(f"{uri}/old") as websocket:
            assert websocket.request is not None
            print(websocket.request.path)

        with socket.create_server(("127.0.0.1", 0)) as listening:
            proxy = threading.Thread(target=tunnel, args=(listening,))
            proxy.start()
            with connect(uri, proxy=f"http://127.0.0.1:{listening.getsockname()[1]}") as websocket:
                websocket.send("through a proxy")
                print(websocket.recv())
            proxy.join()

        for count, websocket in enumerate(reconnect(uri, reconnect_delays=delays), 1):
            websocket.send(f"connection {count}")
            print(websocket.recv())
            if count == 3:
                break

        with socket.create_server(("127.0.0.1", 0)) as listening:
            try:
                connect(f"ws://127.0.0.1:{listening.getsockname()[1]}", open_timeout=0.1, legacy=True)
            except TimeoutError as late:
                print(late)


main()
