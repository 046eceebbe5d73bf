"""Who reads from a socket, and who writes to it: the hand-over between threads and the steward, as a table.

May know: the roles, and the steps from one to the next. Must not know: sockets, threads, locks, connections.

Each direction of a connection has a role. At most one party has it, and only that party calls the socket:

- A thread takes the role to receive or to send, in that call alone. When the call returns, the role is free, and nobody
  is told: a message costs no hand-over.
- The steward, one thread for all connections, watches the socket for reading if nobody has received for a while, so
  that pings are answered. It watches the socket for writing if somebody left bytes that the socket didn't take. When
  the socket is ready, the steward takes the role like any other thread, for a call that doesn't wait.
- A thread takes over what the steward watches at any time. While another thread has the role, it waits for a change.

All steps are made under the lock of the connection; calls of the socket are not.
"""

from __future__ import annotations

import enum
from typing import Final

from ..exceptions import InvalidState

__all__ = ["Role", "Step", "after", "may"]


class Role(enum.Enum):
    """Who has one direction of a connection."""

    FREE = "nobody calls the socket"
    TAKEN = "a thread calls the socket, or waits for it"
    WATCHED = "the steward watches the socket"

    # Each member is a single object, so its identity is a valid hash. Enum's own hash is slower Python code.
    __hash__ = object.__hash__


class Step(enum.Enum):
    """What happens to a role."""

    CLAIM = "a thread is about to call the socket"
    LEAVE = "the thread has nothing more to do"
    ENTRUST = "the steward is to watch the socket"
    DISMISS = "the steward has nothing more to watch for"

    __hash__ = object.__hash__


# None means that the step can't be made in this role. A thread whose claim isn't granted waits, and claims again.
ROLES: Final = {
    #              CLAIM    LEAVE   ENTRUST    DISMISS
    Role.FREE:    ("TAKEN", None,   "WATCHED", None),
    Role.TAKEN:   (None,    "FREE", "WATCHED", None),
    Role.WATCHED: ("TAKEN", None,   "WATCHED", "FREE"),
}  # fmt: skip

# The same table in the form that is used: one look-up for each step.
_AFTER: Final = {
    (role, step): None if name is None else Role[name]
    for role, names in ROLES.items()
    for step, name in zip(Step, names, strict=True)
}


def may(role: Role, step: Step) -> bool:
    """Return whether a step can be made."""
    return _AFTER[role, step] is not None


def after(role: Role, step: Step) -> Role:
    """Return the role after a step.

    Raises:
        InvalidState: the step can't be made.
    """
    result = _AFTER[role, step]
    if result is None:
        raise InvalidState(f"{step.value}, but {role.value}")
    return result
