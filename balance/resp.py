"""Redis' protocol: compiled, or with `OCS_PURE=1` in the environment its readable twin."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING or os.environ.get("OCS_PURE") == "1":
    from balance._resp_reference import Parser, encode_command, encode_commit
else:
    try:
        from cython_ext._resp import Parser, encode_command, encode_commit
    except ImportError as error:
        raise ImportError(
            "the compiled Redis protocol cython_ext._resp is missing: build it with `pip install -e .`, "
            "or set OCS_PURE=1 to run the slow readable twin"
        ) from error

__all__ = ["ErrorReply", "Parser", "encode_command", "encode_commit"]


class ErrorReply(NamedTuple):
    """What Redis answers when it refuses a command; the first word says why."""

    text: str
