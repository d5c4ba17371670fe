"""What a Redis says of itself and of its keys: a blocking client of a few lines, over the product's protocol code."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from balance.resp import ErrorReply, Parser, encode_command

PIPELINED = 500
TIMEOUT_S = 60.0


class RedisFacts:
    """One connection over a unix socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(str(path))
        self._parser = Parser(ErrorReply)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Replies to commands that are sent together; `RuntimeError` if one is refused."""
        self._socket.sendall(b"".join(encode_command(command) for command in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            data = self._socket.recv(1 << 16)
            if not data:
                raise RuntimeError("Redis closed the connection")
            replies += self._parser.feed(data)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, ErrorReply):
                raise RuntimeError(f"Redis refuses {command[0].decode()}: {reply.text}")
        return replies

    def used_octets(self) -> int:
        """Memory that Redis has given out."""
        (text,) = self.ask([(b"INFO", b"memory")])
        fields = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        return int(fields["used_memory"])

    def keys(self) -> Iterator[bytes]:
        """Every key, each at least once."""
        cursor = b"0"
        while True:
            ((cursor, found),) = self.ask([(b"SCAN", cursor, b"COUNT", b"1000")])
            yield from found
            if cursor == b"0":
                return

    def octets_of(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Memory that each key takes with its value and its place in the tables; every element is counted."""
        for start in range(0, len(keys), PIPELINED):
            part = keys[start : start + PIPELINED]
            sizes = self.ask([(b"MEMORY", b"USAGE", key, b"SAMPLES", b"0") for key in part])
            yield from ((key, size) for key, size in zip(part, sizes, strict=True) if size is not None)
