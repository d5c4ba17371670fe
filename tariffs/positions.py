"""Which line of a TOML text a value stands on.

`tomllib` tells no positions, so this scanner walks over a text that `tomllib` has already accepted, and notes the line of
each key, table header and array element. It decides nothing about validity: where it meets what it does not know it
stops, and what has no line of its own gets the line of the nearest thing around it.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import tomllib

Path = tuple[str | int, ...]
"""Keys and array indexes from the document's root."""

MAX_DEPTH = 8
"""Deeper values get the line of what holds them; a catalogue needs five levels."""

_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
# The longer delimiters come first; a closing triple may be preceded by two quotes that belong to the string.
_STRING = re.compile(
    r'"""[^"\\]*(?:(?:\\.|""?(?!"))[^"\\]*)*"""(?:""?(?!")|)'
    r"|'''.*?'''(?:''?(?!')|)"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)


class _Lost(Exception):
    """The scanner met something that it does not know."""


class Positions:
    """The lines of one text."""

    def __init__(self, text: str) -> None:
        """Scan a text with `\\n` line ends; `RecursionError` if its values are nested too deeply for Python."""
        scanner = _Scanner(text)
        with contextlib.suppress(_Lost):
            scanner.document()
        self.lines = scanner.lines

    def line(self, path: Path) -> int:
        """Return the line, from 1, of what `path` names, or else of the nearest thing that holds it."""
        for length in range(min(len(path), MAX_DEPTH), 0, -1):
            found = self.lines.get(path[:length])
            if found is not None:
                return found
        return 1


class _Scanner:
    """One pass over the text. `_at` is the offset of what comes next."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._line_ends = [found.start() for found in re.finditer("\n", text)]
        self._table: Path = ()
        self._elements: dict[Path, int] = {}

    def document(self) -> None:
        """Scan headers and pairs to the end of the text."""
        while True:
            self._skip(_BLANK_LINES)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                self._header()
            else:
                self._pair(self._table)

    def _header(self) -> None:
        line = self._line()
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        path: Path = ()
        keys = self._key()
        for place, key in enumerate(keys):
            path += (key,)
            self._note(path, line)
            if brackets == 2 and place == len(keys) - 1:
                self._elements[path] = self._elements.get(path, -1) + 1
            if path in self._elements:
                path += (self._elements[path],)
        # A header that comes after those of its own sub-tables is still the better place to point at.
        if len(path) <= MAX_DEPTH:
            self.lines[path] = line
        self._table = path
        self._expect("]" * brackets)

    def _pair(self, base: Path) -> None:
        line = self._line()
        path = base
        for key in self._key():
            path += (key,)
            self._note(path, line)
        self._expect("=")
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: Path) -> None:
        character = self._text[self._at : self._at + 1]
        if character in {'"', "'"}:
            self._string()
        elif character == "[":
            self._array(path)
        elif character == "{":
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        place = 0
        while not self._closed("]"):
            self._note((*path, place), self._line())
            self._value((*path, place))
            place += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while not self._closed("}"):
            self._pair(path)

    def _closed(self, bracket: str) -> bool:
        """Step over blanks and commas to the next member; whether the bracket came instead."""
        start = self._at
        self._skip(_BLANK_LINES)
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip(_BLANK_LINES)
        if self._text.startswith(bracket, self._at):
            self._at += 1
            return True
        if self._at >= len(self._text) or (self._at == start and self._text[start - 1] not in "[{"):
            raise _Lost
        return False

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_BLANK)
            if self._text[self._at : self._at + 1] in {'"', "'"}:
                keys.append(_unquote(self._string()))
            else:
                found = _BARE_KEY.match(self._text, self._at)
                if found is None:
                    raise _Lost
                self._at = found.end()
                keys.append(found.group())
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise _Lost
        self._at = found.end()
        return found.group()

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _expect(self, word: str) -> None:
        if not self._text.startswith(word, self._at):
            raise _Lost
        self._at += len(word)

    def _line(self) -> int:
        return bisect.bisect_left(self._line_ends, self._at) + 1

    def _note(self, path: Path, line: int) -> None:
        if len(path) <= MAX_DEPTH:
            self.lines.setdefault(path, line)


def _unquote(token: str) -> str:
    value = tomllib.loads(f"key = {token}")["key"]
    if not isinstance(value, str):
        raise _Lost
    return value
