"""The states of one accepted connection and what each input does in them, as data (RFC 6733 §5.6, responder's half).

Deviations from RFC 6733 §5.6:

- Only the responder's half: this server accepts and opens no connection, so Wait-Conn-Ack, Wait-I-CEA, Wait-Conn-Ack/
  Elect, Wait-Returns, I-Open and the election are left out.
- Each connection has a machine of its own, where the RFC has one for each peer; that an Origin-Host may be connected
  once (R-Open + R-Conn-CER = reject) is a setting of the node (DB-095).
- WAIT_CER is a state: the RFC sees a connection only together with its CER.
- HELD is new: a second connection of an Origin-Host waits until the first one has proved that it lives (DB-096).
- Closing is CLOSING where we sent the DPR and DEPARTING where the peer did: a peer that departs still gets its answers.
- A CER in R-Open is answered without any effect (DB-088); the RFC of 2003 renegotiated.
- Requests that cross our DPR are answered with 3002, so that the client goes elsewhere at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple


class State(IntEnum):
    """Where a connection is."""

    WAIT_CER = 0
    HELD = 1
    OPEN = 2
    CLOSING = 3
    DEPARTING = 4
    CLOSED = 5


class Input(IntEnum):
    """What can happen to a connection: messages first, then what was found in them, then everything else."""

    CER = 0
    DWR = 1
    DWA = 2
    DPR = 3
    DPA = 4
    REQUEST = 5
    """Any other request."""
    ANSWER = 6
    """An answer that nobody waits for."""

    ADMITTED = 7
    """The CER opens the connection."""
    HELD_BACK = 8
    """The CER is good, but its Origin-Host has a connection already."""
    REFUSED = 9
    IDENTITY_CHANGED = 10
    """A CER on an open connection names another Origin-Host (DB-142)."""
    DPR_VALID = 11

    BROKEN = 12
    """The stream can no longer be cut into messages."""
    TIMER = 13
    GIVEN_UP = 14
    """The watchdog takes the peer for dead."""
    STOP = 15
    """The owner wants to part in order."""
    ABORT = 16
    """The owner gives the connection up."""
    LOST = 17
    """The transport is gone."""


class Step(NamedTuple):
    """One row of the table."""

    action: str
    """Method of `Peer`, called after the state has changed."""
    state: State


_OUTSIDE_MESSAGES = (Input.DWR, Input.DWA, Input.DPR, Input.DPA, Input.REQUEST, Input.ANSWER)
_ENDINGS = {
    Input.BROKEN: Step("hang_up", State.CLOSED),
    Input.GIVEN_UP: Step("cut", State.CLOSED),
    Input.IDENTITY_CHANGED: Step("cut", State.CLOSED),
    Input.ABORT: Step("cut", State.CLOSED),
    Input.LOST: Step("vanish", State.CLOSED),
}
_SERVED = {
    Input.CER: "answer_open_cer",
    Input.DWR: "answer_dwr",
    Input.DWA: "ignore",
    Input.DPR: "examine_dpr",
    Input.ANSWER: "discard_answer",
}


def _stranger(state: State) -> dict[tuple[State, Input], Step]:
    """Before the CEA nothing is answered: an ending for all that is not told otherwise (DB-014, DB-089)."""
    rows = {(state, heard): Step("turn_out", State.CLOSED) for heard in _OUTSIDE_MESSAGES}
    rows |= {(state, heard): step for heard, step in _ENDINGS.items()}
    rows[state, Input.ADMITTED] = Step("open", State.OPEN)
    rows[state, Input.REFUSED] = Step("refuse", State.CLOSED)
    rows[state, Input.STOP] = Step("cut", State.CLOSED)
    return rows


def _acquainted(state: State) -> dict[tuple[State, Input], Step]:
    rows = {(state, heard): Step(action, state) for heard, action in _SERVED.items()}
    return rows | {(state, heard): step for heard, step in _ENDINGS.items()}


TABLE: Mapping[tuple[State, Input], Step] = {
    **_stranger(State.WAIT_CER),
    (State.WAIT_CER, Input.CER): Step("examine_cer", State.WAIT_CER),
    (State.WAIT_CER, Input.HELD_BACK): Step("hold", State.HELD),
    (State.WAIT_CER, Input.TIMER): Step("cut", State.CLOSED),
    **_stranger(State.HELD),
    (State.HELD, Input.CER): Step("turn_out", State.CLOSED),
    (State.HELD, Input.TIMER): Step("take_over", State.HELD),
    **_acquainted(State.OPEN),
    (State.OPEN, Input.REQUEST): Step("deliver", State.OPEN),
    (State.OPEN, Input.DPA): Step("discard_answer", State.OPEN),
    (State.OPEN, Input.DPR_VALID): Step("depart", State.DEPARTING),
    (State.OPEN, Input.TIMER): Step("watch", State.OPEN),
    (State.OPEN, Input.STOP): Step("disconnect", State.CLOSING),
    **_acquainted(State.CLOSING),
    (State.CLOSING, Input.REQUEST): Step("turn_away", State.CLOSING),
    (State.CLOSING, Input.DPA): Step("finish", State.CLOSED),
    (State.CLOSING, Input.DPR_VALID): Step("answer_dpr", State.CLOSING),
    (State.CLOSING, Input.TIMER): Step("finish", State.CLOSED),
    (State.CLOSING, Input.STOP): Step("ignore", State.CLOSING),
    **_acquainted(State.DEPARTING),
    (State.DEPARTING, Input.REQUEST): Step("deliver", State.DEPARTING),
    (State.DEPARTING, Input.DPA): Step("discard_answer", State.DEPARTING),
    (State.DEPARTING, Input.DPR_VALID): Step("answer_dpr", State.DEPARTING),
    (State.DEPARTING, Input.TIMER): Step("finish", State.CLOSED),
    (State.DEPARTING, Input.STOP): Step("ignore", State.DEPARTING),
    **{(State.CLOSED, heard): Step("ignore", State.CLOSED) for heard in Input},
}
"""Pairs that are missing cannot happen; one that does is our bug (`LocalProtocolError`)."""
