"""The way of a CCR through the worker without its engine: octets of the socket to octets for the socket."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.message_path import MessagePath, update_of_a_gateway
from bench.micro.case import Case

AT_ONCE = 16


def measured() -> Iterator[Case]:
    """One by one, and several to a read."""
    update = update_of_a_gateway()
    for count in (1, AT_ONCE):
        path, data = MessagePath(), update * count
        if not path.exchange(data):
            raise RuntimeError("the server's way gave no answer")
        exchange = partial(path.exchange, data)
        yield Case("messages", f"CCR-U to CCA-U, {count} to a read", "", exchange, len(update), count)
