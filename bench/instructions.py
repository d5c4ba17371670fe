"""Fixed workloads of the hot leaves, whose instructions `tools/check_speed.py` counts under callgrind.

    python -m bench.instructions N

runs each case of `CASES` N times and then 2N times; before, between and after it calls `os.getppid`, at which callgrind
is told to write its counters. The difference of the two runs has neither start-up nor warm-up in it. A case is one line:
what it is called, and a function that prepares it and returns the call that is counted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from functools import partial

from bench.message_path import GRANT, GY, LOCAL, MessagePath, update_of_a_gateway
from bench.micro.codec import CODECS, encode, initial_request, load_codec, update_answer
from bench.micro.documents import example_session
from bench.micro.rules import Update, account_with
from ocs.charging.session import SESSION_SCHEMA, Session
from ocs.charging.workspace import decode_document, encode_document
from ocs.servers.gy_regular import RegularGy
from protocols.diameter import header
from protocols.diameter.avp import decode_message, whole_messages

WARM_UP = 40
READ_MESSAGES = 8


def _codec_encode() -> Callable[[], object]:
    return partial(encode, load_codec(CODECS["compiled"]), 0, update_answer())


def _decode_initial() -> Callable[[], object]:
    codec = load_codec(CODECS["compiled"])
    return partial(codec.decode_message, encode(codec, header.FLAG_REQUEST, initial_request()))


def _gy_answer() -> Callable[[], object]:
    gy, message = RegularGy(GY, LOCAL), decode_message(update_of_a_gateway())
    found = gy.read(message)
    assert found is not None
    assert gy.answer(message, found[1], GRANT) is not None
    return partial(gy.answer, message, found[1], GRANT)


def _message_path() -> Callable[[], object]:
    path, data = MessagePath(), update_of_a_gateway() * READ_MESSAGES
    (written,) = path.exchange(data)
    assert len(whole_messages(written, 0, 1 << 20)[0]) == READ_MESSAGES
    return partial(path.exchange, data)


def _read_session() -> Callable[[], object]:
    data = encode_document(None, bytes(8), SESSION_SCHEMA, example_session())
    return partial(decode_document, data, Session, SESSION_SCHEMA)


CASES: dict[str, Callable[[], Callable[[], object]]] = {
    "codec: decode CCR-I": _decode_initial,
    "codec: decode CCR-U": lambda: partial(decode_message, update_of_a_gateway()),
    "codec: encode CCA-U": _codec_encode,
    "framing: cut 8 messages": lambda: partial(whole_messages, update_of_a_gateway() * READ_MESSAGES, 0, 1 << 20),
    "gy: CCR-U to request": lambda: partial(RegularGy(GY, LOCAL).read, decode_message(update_of_a_gateway())),
    "gy: outcome to CCA-U": _gy_answer,
    "server: 8 CCR-U, engine apart": _message_path,
    "rules: settle and reserve": lambda: Update(account_with(0)).step,
    "document: write a session": lambda: partial(encode_document, None, bytes(8), SESSION_SCHEMA, example_session()),
    "document: read a session": _read_session,
}
"""What is counted, by name. Prepared calls must do the same work each time."""


def repeat(call: Callable[[], object], times: int) -> None:
    """Call so many times."""
    for _ in range(times):
        call()


def main(times: int) -> None:
    """Run all cases with their marks."""
    gc.disable()
    for prepare in CASES.values():
        call = prepare()
        repeat(call, WARM_UP)
        gc.collect()
        os.getppid()
        repeat(call, times)
        os.getppid()
        repeat(call, 2 * times)
        os.getppid()


if __name__ == "__main__":
    main(int(sys.argv[1]))
