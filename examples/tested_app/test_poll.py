"""Tests of the poll, in threads: no socket is opened."""

import json
import threading

from poll import Poll, server

from websockets.sync.client import connect
from websockets.testing.threads import link_of, run, serve_in_memory


def test_everybody_sees_every_vote() -> None:
    with serve_in_memory(Poll().handle) as app, app.connect() as anna, app.connect() as bob:
        assert json.loads(anna.recv(timeout=10)) == json.loads(bob.recv(timeout=10)) == {}
        anna.send("tea")
        assert json.loads(anna.recv(timeout=10)) == json.loads(bob.recv(timeout=10)) == {"tea": 1}


def test_who_vanishes_is_forgotten() -> None:
    poll = Poll()
    with serve_in_memory(poll.handle, ping_interval=0.05, ping_timeout=0.05) as app:
        anna = app.connect().connect()
        anna.recv(timeout=10)
        (theirs,) = poll.present
        link_of(anna).drop()  # nothing arrives any more, and no end gets an error
        assert theirs.wait_closed(timeout=10)
    assert poll.present == set()


def test_the_whole_program() -> None:
    def main() -> None:
        with server(80) as running:
            thread = threading.Thread(target=running.serve_forever)
            thread.start()
            with connect("ws://127.0.0.1") as websocket:
                assert websocket.recv(timeout=10) == "{}"
            running.shutdown()
            thread.join()

    run(main)
