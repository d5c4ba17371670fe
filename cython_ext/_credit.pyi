from collections.abc import Iterable
from typing import Any

from cython_ext._avp import Message

CODES: dict[str, int]

def read_ccr(message: Message) -> tuple[Any, ...] | None: ...
def write_cca(
    message: Message, session_id: str, head: bytes, request_number: int, services: Iterable[tuple[Any, ...]]
) -> bytes | None: ...
