"""The load on a server: a process of its own that sends frames made beforehand and counts what comes back.

Charter: raw sockets and ``selectors``; must not import any WebSocket library. Run as ``python -m bench.load JOB``. It
prints a line of JSON when it is ready. Then, for each line ``{"amount": N}`` on standard input, it does so much, in
seconds, messages or connections according to the case, and prints what came of it, with the CPU time that it took.
Between two runs nothing is in flight.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.cases import Job
from bench.streams import Poll, Stream, allow_many_files, dial, read_until
from bench.wire import (
    CLOSE_FRAME,
    END_OF_HEADERS,
    FIN,
    MASK,
    RSV1,
    TEXT,
    ByteCounter,
    FrameCounter,
    Traffic,
    check_response,
    counter,
    frame,
    inflated,
    parse_frame,
    request,
)

clock = time.perf_counter

Result = dict[str, Any]
Run = Callable[[float], Result]


def result(count: int, seconds: float, round_trips: list[float]) -> Result:
    """What is told of a run: how much was done, in what time, how long one took."""
    median = statistics.median(round_trips) * 1e6 if round_trips else None
    return {"count": count, "seconds": seconds, "round_trip_us": median}


def opened(job: Job) -> socket.socket:
    """A new connection after its opening handshake."""
    sock = dial(job.port, job.case.tls)
    sock.sendall(request(job.port, job.case.deflate))
    check_response(read_until(sock, END_OF_HEADERS), job.case.deflate)
    return sock


def exchange_first(sock: socket.socket, traffic: Traffic) -> None:
    """Send the first message and make sure that it comes back as it was.

    Raises:
        ValueError: something else comes back.
    """
    sock.sendall(traffic.frames[0])
    have = b""
    while (found := parse_frame(have)) is None:
        more = sock.recv(1 << 18)
        if not more:
            raise ValueError(f"the server closed the connection after {have[:80]!r}")
        have += more
    first, payload = found
    if first & RSV1:
        payload = inflated(payload)
    if first & ~RSV1 != FIN | TEXT or payload != traffic.messages[0].encode():
        raise ValueError(f"the server answered {first:#x} and {len(payload)} bytes instead of an echo")


# ----------------------------------------------------------------------------------------------------------------- echo


class EchoLink:
    """One connection with a number of messages in flight.

    Parameters:
        echo: the load that it is a part of.
        sock: a connection after its opening handshake.
        counter: counts what comes back.
    """

    def __init__(self, echo: Echo, sock: socket.socket, counter: ByteCounter | FrameCounter) -> None:
        self.echo = echo
        self.feed = counter.feed
        self.stream = Stream(echo.poll, sock, self.on_readable)
        self.sent = self.answered = 0
        # The message whose round trip is being measured: its number, and when it was sent.
        self.timed, self.begun = 0, 0.0

    def start(self) -> None:
        """Put into flight as many messages as shall be there."""
        self.begun = clock()
        self.sent += self.echo.depth
        self.timed = self.sent
        self.stream.write(self.echo.traffic.take(self.echo.depth))

    def on_readable(self) -> None:
        whole = self.feed(self.stream.read())
        if not whole:
            return
        self.answered += whole
        echo = self.echo
        if echo.sending:
            self.sent += whole
            if self.answered >= self.timed:
                now = clock()
                echo.round_trips.append(now - self.begun)
                self.timed, self.begun = self.sent, now
            self.stream.write(echo.traffic.take(whole))


class Echo:
    """Messages that come back; each is followed by another one."""

    def __init__(self, job: Job) -> None:
        self.depth = job.case.depth
        self.poll = Poll()
        self.round_trips: list[float] = []
        self.sending = False
        self.traffic = Traffic(job.case, MASK)
        answers = Traffic(job.case, None).frames
        self.links = []
        for _ in range(job.case.connections):
            sock = opened(job)
            exchange_first(sock, self.traffic)
            self.links.append(EchoLink(self, sock, counter(job.case, answers)))

    def run(self, seconds: float) -> Result:
        """Keep messages in flight for so many seconds, and then wait for the last ones."""
        self.round_trips.clear()
        self.sending = True
        before = sum(link.answered for link in self.links)
        begun = clock()
        for link in self.links:
            link.start()
        while clock() - begun < seconds:
            self.poll.turn()
        self.sending = False
        while any(link.answered < link.sent for link in self.links):
            self.poll.turn()
        count = sum(link.answered for link in self.links) - before
        return result(count, clock() - begun, self.round_trips)


# -------------------------------------------------------------------------------------------------- opening and closing


class ShortLink:
    """A connection that is opened and closed again.

    Parameters:
        load: the load that it is a part of.
    """

    def __init__(self, load: OpenClose) -> None:
        self.load = load
        self.begun = clock()
        self.answer = b""
        self.stream = Stream(load.poll, dial(load.port, False), self.on_readable)
        self.stream.write(load.request)

    def on_readable(self) -> None:
        try:
            data = self.stream.read()
        except EOFError:
            self.stream.close()
            self.load.ended(self, clock() - self.begun)
            return
        opening = END_OF_HEADERS not in self.answer
        self.answer += data
        if opening and END_OF_HEADERS in self.answer:
            self.stream.write(CLOSE_FRAME)


class OpenClose:
    """Connections that are opened and at once closed, by the closing handshake; each is followed by another one."""

    def __init__(self, job: Job) -> None:
        self.port = job.port
        self.at_a_time = job.case.connections
        self.request = request(job.port)
        self.poll = Poll()
        self.sending = False
        self.active = 0
        self.durations: list[float] = []

    def ended(self, link: ShortLink, duration: float) -> None:
        check_response(link.answer)
        self.durations.append(duration)
        self.active -= 1
        if self.sending:
            self.begin()

    def begin(self) -> None:
        self.active += 1
        ShortLink(self)

    def run(self, seconds: float) -> Result:
        """Open and close for so many seconds, and then wait for the last ones."""
        self.durations.clear()
        self.sending = True
        begun = clock()
        for _ in range(self.at_a_time):
            self.begin()
        while clock() - begun < seconds:
            self.poll.turn()
        self.sending = False
        while self.active:
            self.poll.turn()
        return result(len(self.durations), clock() - begun, self.durations)


# ------------------------------------------------------------------------------------------------- broadcast and idling


class Listener:
    """A connection that waits for messages.

    Parameters:
        audience: the load that it is a part of.
        sock: a connection after its opening handshake.
    """

    def __init__(self, audience: Audience, sock: socket.socket) -> None:
        self.audience = audience
        self.stream = Stream(audience.poll, sock, self.on_readable)

    def on_readable(self) -> None:
        self.audience.missing -= len(self.stream.read())


class Audience:
    """Connections that receive what is broadcast."""

    def __init__(self, job: Job) -> None:
        allow_many_files()
        self.poll = Poll()
        self.size = len(frame(FIN | TEXT, bytes(job.case.size)))
        self.missing = 0  # bytes that are still to come
        self.listeners = [Listener(self, opened(job)) for _ in range(job.case.connections)]

    def run(self, messages: float) -> Result:
        """Wait until everybody has received so many messages."""
        begun = clock()
        count = int(messages) * len(self.listeners)
        self.missing += count * self.size
        while self.missing > 0:
            self.poll.turn()
        if self.missing:
            raise ValueError(f"received {-self.missing} bytes too many")
        return result(count, clock() - begun, [])


class Idle:
    """Connections that are open and do nothing."""

    def __init__(self, job: Job) -> None:
        allow_many_files()
        self.job = job
        self.traffic = Traffic(job.case, MASK)
        self.held: list[socket.socket] = []

    def run(self, connections: float) -> Result:
        """Open so many more."""
        begun = clock()
        for _ in range(int(connections)):
            sock = opened(self.job)
            if self.job.case.used:
                exchange_first(sock, self.traffic)
            self.held.append(sock)
        return result(int(connections), clock() - begun, [])


LOADS: dict[str, Callable[[Job], Echo | OpenClose | Audience | Idle]] = {
    "echo": Echo,
    "open-close": OpenClose,
    "broadcast": Audience,
    "idle": Idle,
}


def main() -> None:
    job = Job.from_json(sys.argv[1])
    load = LOADS[job.case.kind](job)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        used = time.process_time()
        outcome = load.run(json.loads(line)["amount"])
        print(json.dumps({**outcome, "load_cpu": time.process_time() - used}), flush=True)


if __name__ == "__main__":
    main()
