"""What can be wrong with a catalogue's text.

CatalogueError
    carries every Problem that was found, in order of lines
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import NamedTuple

MAX_PROBLEMS = 1000
"""Problems reported at most; a text with more is not a catalogue gone slightly wrong."""

MAX_CANDIDATES = 500
"""Known words among which a mistyped one is looked for."""

MAX_SHOWN = 60
"""Characters of a value that a message repeats."""


class Problem(NamedTuple):
    """One thing that is wrong, and where."""

    file: str
    line: int
    """From 1."""
    what: str
    expected: str = ""
    """Empty if `what` says it already."""

    def __str__(self) -> str:
        """`file:line: what is wrong, expected what was expected`, on one line."""
        tail = f", expected {self.expected}" if self.expected else ""
        return f"{self.file}:{self.line}: {self.what}{tail}"


class CatalogueError(Exception):
    """The text is not a catalogue; `problems` says why, and is never empty."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems in order of their lines."""
        self.problems: list[Problem] = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def show(value: object) -> str:
    """Return a value as a message repeats it: on one line, printable, of bounded length, marked as a quotation."""
    text = value if isinstance(value, str) else _toml_word(value)
    text = text[: MAX_SHOWN + 1]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    if len(text) > MAX_SHOWN:
        text = text[:MAX_SHOWN] + "…"
    return f"`{text}`"


def _toml_word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{…}"
    if isinstance(value, list):
        return "[…]"
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits; such a one is wrong whatever its digits are.
        return str(value) if value.bit_length() < 256 else f"an integer of {value.bit_length()} bits"
    return str(value)


def one_of(known: Iterable[str]) -> str:
    """Return what was expected where one of a few words was."""
    return "one of " + ", ".join(f"`{word}`" for word in known)


def did_you_mean(word: str, known: Collection[str]) -> str | None:
    """Return the known word that is closest to a mistyped one, `None` if none is close or there are too many to try."""
    if len(word) > MAX_SHOWN or len(known) > MAX_CANDIDATES:
        return None
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)
