from collections.abc import Callable, Sequence
from typing import Any

from cython_ext._avp import Message

CODES: dict[str, int]

class Speaker:
    def __init__(
        self,
        by_group: bool,
        reduce_uris: bool,
        tgpp: bool | None,
        failures_decide: bool,
        places: dict[str, int],
        heads: dict[int, bytes],
    ) -> None: ...

class Asked:
    keys: list[Any]

class RegularCredit:
    def __init__(
        self,
        types: Sequence[Callable[..., Any]],
        request_kinds: dict[int, Any],
        identity_kinds: tuple[str, ...],
        reasons: dict[int, Any],
        no_reason: Any,
        normalise: Callable[[str, str, bool], Any],
        reason_of: Callable[[Sequence[int]], Any],
        contexts: dict[str, str],
        context_of: Callable[[str], str | None],
        speakers: dict[str, Speaker],
        speaker_of: Callable[[str], Speaker],
        success: Any,
        terminate: Any,
        denials: dict[Any, int],
    ) -> None: ...
    def read(self, message: Message) -> tuple[Any, Asked] | None: ...
    def answer(self, message: Message, asked: Asked, outcome: Any) -> bytes | None: ...

def digest_of(charged: list[tuple[int, int, Any]]) -> bytes: ...
