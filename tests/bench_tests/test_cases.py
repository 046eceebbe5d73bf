"""The cases of the benchmark: their names, choosing them, telling a process about them."""

from __future__ import annotations

import pytest

from bench.cases import CASES, QUICK, TLS_CASES, Job, choose, sized

EVERY = CASES + TLS_CASES


def test_names_are_unique() -> None:
    names = [case.name for case in EVERY]
    assert len({*names}) == len(names)


def test_titles_are_unique_in_a_table() -> None:
    titles = [(case.group, case.title) for case in EVERY]
    assert len({*titles}) == len(titles)


def loads(role: str) -> list[tuple[object, ...]]:
    return [(case.size, case.connections, case.depth, case.deflate, case.tls) for case in EVERY if case.group == role]


def test_both_sides_have_the_same_load() -> None:
    assert loads("server") == loads("client") != []


@pytest.mark.parametrize("size", [32, 256, 8192, 102400, 1 << 20])
@pytest.mark.parametrize("role", ["server", "client"])
def test_each_size_is_measured_alone(role: str, size: int) -> None:
    (case,) = choose(CASES, [f"{role}-echo-{sized(size).replace(' ', '')}"])
    assert (case.role, case.size, case.connections, case.depth) == (role, size, 1, 1)


def test_choose_keeps_the_order_and_takes_each_once() -> None:
    chosen = choose(CASES, ["idle*", "server-echo-32B", "idle"])
    assert [case.name for case in chosen] == ["server-echo-32B", "idle", "idle-deflate", "idle-deflate-used"]


def test_choose_refuses_what_does_not_exist() -> None:
    with pytest.raises(ValueError, match="no case is called idel; there are server-echo-32B, "):
        choose(CASES, ["idle", "idel"])


def test_quick_cases_exist() -> None:
    chosen = choose(CASES, QUICK)
    assert len(chosen) == len(QUICK)
    assert {case.group for case in chosen} == {"server", "client", "connections"}


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_job_survives_the_command_line(case: object) -> None:
    (same,) = (one for one in EVERY if one is case)
    job = Job(same, "uvloop", 1234, "cert.pem")
    assert Job.from_json(job.to_json()) == job
