"""Who reads and who writes: every step in every role."""

from __future__ import annotations

import pytest

from websockets.exceptions import InvalidState
from websockets.sync._roles import ROLES, Role, Step, after, may

LEGAL = {
    (Role.FREE, Step.CLAIM): Role.TAKEN,
    (Role.FREE, Step.ENTRUST): Role.WATCHED,
    (Role.TAKEN, Step.LEAVE): Role.FREE,
    (Role.TAKEN, Step.ENTRUST): Role.WATCHED,
    (Role.WATCHED, Step.CLAIM): Role.TAKEN,
    (Role.WATCHED, Step.ENTRUST): Role.WATCHED,
    (Role.WATCHED, Step.DISMISS): Role.FREE,
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("step", Step)
def test_each_step_in_each_role(role: Role, step: Step) -> None:
    expected = LEGAL.get((role, step))
    assert may(role, step) is (expected is not None)
    if expected is None:
        with pytest.raises(InvalidState, match=f"^{step.value}, but {role.value}$"):
            after(role, step)
    else:
        assert after(role, step) is expected


def test_only_a_role_that_nobody_has_can_be_claimed() -> None:
    assert {role for role in Role if may(role, Step.CLAIM)} == {Role.FREE, Role.WATCHED}


def test_the_table_has_all_steps() -> None:
    assert {len(row) for row in ROLES.values()} == {len(Step)}
    assert set(ROLES) == set(Role)
