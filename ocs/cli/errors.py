"""How a command ends when it does not succeed: one line on standard error, and an exit status that scripts can rely on.

CommandError
    Refused (1): not found, exists, not in this state; nothing was changed
    BadInput (2): the command or a value cannot be meant; nothing was changed
    Unavailable (3): the store or the server cannot be used
"""

from __future__ import annotations

OK, REFUSED, BAD_INPUT, UNAVAILABLE = 0, 1, 2, 3


class CommandError(Exception):
    """Why a command failed; the text is what the operator reads."""

    status = REFUSED


class Refused(CommandError):
    """The system does not allow it."""


class BadInput(CommandError):
    """What was typed cannot be meant."""

    status = BAD_INPUT


class Unavailable(CommandError):
    """Nobody could be asked."""

    status = UNAVAILABLE
