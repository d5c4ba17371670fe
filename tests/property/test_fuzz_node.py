"""The short fuzz run; `make soak` has the long one."""

from __future__ import annotations

import pytest

from ocs.servers.diameter_requests import Reply
from protocols.diameter.avp import Message
from protocols.diameter.events import PeerInfo
from tests.property.fuzz_node import Fuzzer

MESSAGES = 100_000


def test_db_144_mutated_messages_have_one_answer_each(capsys: pytest.CaptureFixture[str]) -> None:
    # DB-144: "mutated CCR/CER/DWR: no exception escapes, no memory growth, each decodable request has one answer."
    fuzzer = Fuzzer(seed=1)
    fuzzer.run(range(MESSAGES), MESSAGES)
    with capsys.disabled():
        print(f"\n{fuzzer.report()}")
    assert fuzzer.problems() == []
    assert fuzzer.count == MESSAGES
    assert {"2001", "3001", "3007", "3008", "5001", "5004", "5005", "5009", "5012", "5014"} <= set(fuzzer.histogram)


def test_db_144_the_fuzzer_finds_planted_bugs() -> None:
    # DB-144: a run that finds nothing is worth something only if it would.
    def silent(_message: Message, _peer: PeerInfo, _reply: Reply) -> None:
        pass

    def twice(_message: Message, _peer: PeerInfo, reply: Reply) -> None:
        reply(b"\1\0\0\x18\0\0\1\x10" + bytes(16))

    def fails(_message: Message, _peer: PeerInfo, _reply: Reply) -> None:
        raise RuntimeError("planted")

    for application in (silent, twice, fails):
        fuzzer = Fuzzer(2, application)
        fuzzer.run(range(500), 500)
        assert fuzzer.problems()
