"""The log: structured lines on standard error, text for people or JSON for machines.

What identifies a subscriber never stands here in full (DB-143): lines carry codes and names of fields, and whoever must
log a message renders it with `protocols.diameter.describe`, which masks.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(level: str = "info", form: Literal["auto", "text", "json"] = "auto") -> None:
    """Set up the process's log; `auto`: text on a terminal, else one JSON object to a line."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if text else structlog.processors.JSONRenderer()
    )
    errors: list[structlog.typing.Processor] = [] if text else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *errors,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
