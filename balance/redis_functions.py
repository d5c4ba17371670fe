"""The Lua functions of the store, as Redis is given them: a library of functions from Redis 7 on, else scripts.

A name carries a version and the digest of the text, so releases side by side each call their own, and what carries a
name is what we mean by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

from balance.resp import encode_command

VERSION = 1
"""Of the functions; the digest after it settles the rest."""

FLAGS = {"commit": "", "outbox": "'no-writes', 'allow-oom'", "trim": "'allow-oom'"}
"""The functions, with what Redis must know of them: a full Redis must still let its outbox be read and trimmed.

Scripts need no flags: what they may do is judged command by command, and removing is always allowed.
"""


class Functions(NamedTuple):
    """How to load the functions and how to call each."""

    kind: str
    """`function` or `evalsha`, for people."""
    loading: tuple[tuple[bytes, ...], ...]
    """Commands that load them; loading what is there already does no harm."""
    openings: Mapping[str, bytes]
    """For each function the two first arguments of a call, encoded."""
    calls: Mapping[str, tuple[bytes, bytes]]
    """The same as arguments."""


def _texts() -> dict[str, str]:
    folder = resources.files("balance") / "lua"
    return {name: (folder / f"{name}.lua").read_text(encoding="utf-8") for name in FLAGS}


def as_library() -> Functions:
    """For Redis 7 and later."""
    bodies = []
    for name, text in _texts().items():
        register = f"function_name='NAME_{name}', callback={name}, flags={{{FLAGS[name]}}}"
        bodies.append(f"local function {name}(KEYS, ARGV)\n{text}\nend\nredis.register_function{{{register}}}")
    body = "\n".join(bodies)
    library = f"tollgate_v{VERSION}_{hashlib.sha256(body.encode()).hexdigest()[:8]}"
    body = body.replace("'NAME_", f"'{library}_")
    loading = (b"FUNCTION", b"LOAD", f"#!lua name={library}\n{body}".encode())
    return _functions("function", (loading,), {name: (b"FCALL", f"{library}_{name}".encode()) for name in FLAGS})


def as_scripts() -> Functions:
    """For Redis 6, and where functions may not be loaded."""
    texts = _texts()
    loading = tuple((b"SCRIPT", b"LOAD", text.encode()) for text in texts.values())
    # SHA-1 is how Redis names scripts; nothing rests on its strength.
    digests = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in texts.items()}
    return _functions("evalsha", loading, {name: (b"EVALSHA", digests[name].encode()) for name in FLAGS})


def _functions(kind: str, loading: tuple[tuple[bytes, ...], ...], calls: dict[str, tuple[bytes, bytes]]) -> Functions:
    openings = {name: _without_count(encode_command(call)) for name, call in calls.items()}
    return Functions(kind, loading, openings, calls)


def _without_count(packed: bytes) -> bytes:
    return packed[packed.index(b"\n") + 1 :]
