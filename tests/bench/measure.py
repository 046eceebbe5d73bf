"""One measurement: a process for each side, a run to warm up, one that counts.

Charter: knows which processes a case takes and how its cost follows from what they say. Must not know the libraries.

CPU time is what the kernel charged to the process that is measured, between two moments at which it had nothing to do.
Unlike the time on the wall it holds on a machine that is busy with other things too.
"""

from __future__ import annotations

import time

from bench.cases import THREADS, Case, Job
from bench.children import Child, ChildFailed, processors
from bench.contenders import Contender, child_environment
from bench.stats import Measurement

MESSAGES = 40  # of a broadcast: they fit into the buffers of the kernel
FIRST_IDLE = 100  # connections after which whatever is made once has been made
SETTLING = 0.05  # seconds between two looks at memory


def start(module: str, contender: Contender, job: Job) -> Child:
    """Start the process that is measured."""
    ours = contender.library == "bare" or contender.name.startswith("ours")
    environment = child_environment(contender.environment, keep_path=ours)
    module = "blocking" if job.loop == THREADS else module
    command = [contender.python, "-m", f"bench.{module}", contender.library, job.to_json()]
    return Child(command, environment, processors()[0])


def start_other_side(module: str, python: str, job: Job) -> Child:
    """Start the raw side."""
    return Child([python, "-m", f"bench.{module}", job.to_json()], child_environment({}), processors()[1])


def measure(
    contender: Contender, case: Case, loop: str, seconds: float, python: str, certificate: str | None = None
) -> Measurement:
    """Measure one case once.

    Parameters:
        contender: what is measured.
        case: what it does.
        loop: the event loop that it runs on.
        seconds: how long the run takes that counts, for the cases that take time instead of a number.
        python: the interpreter of the other side.
        certificate: file with a certificate and its key, for TLS.

    Raises:
        ChildFailed: a process failed.
    """
    job = Job(case, loop, certificate=certificate if case.tls else None)
    if case.role == "client":
        return measure_client(contender, job, seconds, python)
    with start("servers", contender, job) as server:
        port = server.answer()["port"]
        try:
            with start_other_side("load", python, Job(case, port=port)) as load:
                load.answer()
                return measure_server(server, load, case, seconds, loop)
        except ChildFailed as exc:
            # What the other side saw is seldom the reason.
            reason = server.end()
            raise ChildFailed(f"{exc}; the server: {reason}" if reason else str(exc)) from exc


def measure_server(server: Child, load: Child, case: Case, seconds: float, loop: str) -> Measurement:
    """A server beside a raw load."""
    # The kernel tells of the main thread alone.
    used = used_by_threads if loop == THREADS else used_by
    if case.kind == "idle":
        return measure_memory(server, load, case)
    if case.kind == "broadcast":
        return measure_broadcast(server, load)
    load.ask(amount=warm_up(seconds))
    before = used(server)
    outcome = load.ask(amount=seconds)
    return measurement(outcome, used(server) - before, outcome["load_cpu"])


def measure_client(contender: Contender, job: Job, seconds: float, python: str) -> Measurement:
    """A client beside a raw server; it tells itself what it took."""
    with start_other_side("answer", python, job) as other:
        job = Job(job.case, job.loop, other.answer()["port"], job.certificate)
        with start("clients", contender, job) as client:
            client.answer()
            client.ask(amount=warm_up(seconds))
            before = other.cpu()
            outcome = client.ask(amount=seconds)
            after = other.cpu()
            load_cpu = None if before is None or after is None else after - before
            return measurement(outcome, outcome["cpu"], load_cpu)


def measure_broadcast(server: Child, load: Child) -> Measurement:
    """One server sends, everybody receives."""

    def once() -> dict[str, float]:
        load.tell(amount=MESSAGES)
        server.tell(broadcast=MESSAGES)
        return load.answer()

    once()  # to warm up
    before = used_by(server)
    outcome = once()
    return measurement(outcome, used_by(server) - before, outcome["load_cpu"])


def measure_memory(server: Child, load: Child, case: Case) -> Measurement:
    """By how much a server grows with each connection."""
    load.ask(amount=FIRST_IDLE)
    before = settled(server)
    load.ask(amount=case.connections)
    return Measurement((settled(server) - before) / case.connections)


def settled(child: Child) -> float:
    """KiB of memory that a process occupies once that no longer changes."""
    now = child.memory()
    for _ in range(100):
        time.sleep(SETTLING)
        before, now = now, child.memory()
        if now == before:
            break
    return now


def warm_up(seconds: float) -> float:
    """How long to run before the run that counts: buffers grow, and specializing interpreters specialize."""
    return min(0.2, seconds / 2)


def used_by(server: Child) -> float:
    """Seconds of CPU time that a server has used: the kernel says so, or else the server itself."""
    cpu = server.cpu()
    return used_by_threads(server) if cpu is None else cpu


def used_by_threads(server: Child) -> float:
    """The same of all its threads, from itself."""
    cpu: float = server.ask(cpu=True)["cpu"]
    return cpu


def measurement(outcome: dict[str, float], cpu: float, load_cpu: float | None) -> Measurement:
    """What a run of so many things comes to for one of them."""
    count, seconds = outcome["count"], outcome["seconds"]
    return Measurement(
        cost=cpu / count * 1e6,
        round_trip=outcome["round_trip_us"],
        rate=count / seconds,
        busy=cpu / seconds,
        load_busy=None if load_cpu is None else load_cpu / seconds,
    )
