from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

class Message:
    version: int
    length: int
    flags: int
    command: int
    application: int
    hop_by_hop: int
    end_to_end: int
    data: bytes
    avps: list[tuple[int, int, Any]]
    errors: list[Any]
    proxy_infos: list[bytes]
    faulty: list[int]
    tolerated: int
    @property
    def is_request(self) -> bool: ...
    @property
    def is_proxiable(self) -> bool: ...
    @property
    def is_error(self) -> bool: ...
    @property
    def is_retransmit(self) -> bool: ...

class Codec:
    def __init__(
        self, rows: Iterable[Any], avp_error: Callable[[int, bytes, str, str], Any], local_error: type[Exception]
    ) -> None: ...
    def decode_message(self, data: bytes, tolerated: Collection[int] = ...) -> Message: ...
    def encode_avp(self, key: int, value: Any, flags: int | None = None) -> bytes: ...
    def encode_message(
        self, command: int, application: int, flags: int, hop_by_hop: int, end_to_end: int, avps: Iterable[Any]
    ) -> bytes: ...
    def check_grammar(
        self,
        avps: Iterable[tuple[int, int, Any]],
        grammar: Mapping[int, tuple[int, int | None]],
        faulty: Collection[int] = (),
    ) -> list[Any]: ...

def first(avps: Sequence[tuple[int, int, Any]], key: int) -> Any: ...
def firsts(avps: Sequence[tuple[int, int, Any]], keys: Sequence[int]) -> list[Any]: ...
def every(avps: Sequence[tuple[int, int, Any]], key: int) -> list[Any]: ...
def whole_messages(octets: bytes | bytearray, start: int, limit: int) -> tuple[list[bytes], int]: ...
def result_code_of(answer: bytes) -> int: ...
