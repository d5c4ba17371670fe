"""Plain integers that a node counts for each peer (diameter-base.md §10); whoever exports them reads at leisure."""

from __future__ import annotations

from protocols.diameter import header

COUNTED_COMMANDS = frozenset(
    {
        header.CAPABILITIES_EXCHANGE,
        header.RE_AUTH,
        header.CREDIT_CONTROL,
        header.ABORT_SESSION,
        header.SESSION_TERMINATION,
        header.DEVICE_WATCHDOG,
        header.DISCONNECT_PEER,
        header.SPENDING_LIMIT,
        header.SPENDING_STATUS_NOTIFICATION,
    }
)
"""All others are counted as command 0, so that a peer cannot make counters without end."""


class PeerCounters:
    """Counters of one Origin-Host over all its connections since the start. Dictionary keys are small integers."""

    __slots__ = (
        "answers",
        "connections",
        "decode_errors",
        "dropped_answers",
        "error_bit_answers",
        "late_answers",
        "overloads",
        "received",
        "refused_answers",
        "sent",
        "tolerated_avps",
        "unmatched_answers",
        "watchdogs_missed",
        "watchdogs_sent",
    )

    def __init__(self) -> None:
        self.received: dict[int, int] = {}
        """Messages by `message_key`."""
        self.sent: dict[int, int] = {}
        """Messages by `message_key`."""
        self.answers: dict[int, int] = {}
        """Answers sent by Result-Code; 0: an answer without one."""
        self.error_bit_answers = 0
        """Answers sent with the E bit."""
        self.decode_errors: dict[int, int] = {}
        """Everything found wrong in received messages, by result code; more than is answered."""
        self.tolerated_avps = 0
        """Unknown mandatory AVPs let pass by the peer's settings (DB-051)."""
        self.unmatched_answers = 0
        """Answers received to no request of ours (DB-032)."""
        self.watchdogs_sent = 0
        self.watchdogs_missed = 0
        self.connections = 0
        """Connections opened with a CEA."""
        self.overloads = 0
        """Requests refused because too many were in flight (DB-127)."""
        self.late_answers = 0
        """Answers of the application after the deadline had been answered for it (DB-078)."""
        self.dropped_answers = 0
        """Answers whose connection was gone (DB-079)."""
        self.refused_answers = 0
        """Answers that took the place of one that could not be built."""


def message_key(command: int, is_request: int) -> int:
    """`command << 1 | R`; `is_request` is 0 or 1."""
    return _KEYS.get(command, 0) | is_request


_KEYS = {command: command << 1 for command in COUNTED_COMMANDS}


def add(counter: dict[int, int], key: int, amount: int = 1) -> None:
    """Count in one of the dictionaries above."""
    counter[key] = counter.get(key, 0) + amount
