"""Feeds mutated messages to the Diameter node and its Gy edge, and counts what comes back (DB-144).

    python -m tests.property.fuzz_node --count 1000000 --seed 1

Prints a histogram of result codes and the share of messages that passed the header. Exit status 1 if an exception
escaped, a decodable request had not exactly one answer, an answer was not well-formed, or memory grew; each message has
a generator of its own, so `--only N` replays one.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ocs.servers.diameter_requests import ApplicationPort, Reply, RequestDesk
from ocs.servers.diameter_settings import credit_control
from ocs.servers.gy import GySettings, build_refusal, read_request, to_charging
from ocs.servers.gy_regular import RegularGy
from protocols.diameter import dictionary as d
from protocols.diameter.answers import base_avps, build_answer, is_protocol_error
from protocols.diameter.avp import Message, decode_message, every
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.events import PeerInfo, RequestReceived
from protocols.diameter.header import CAPABILITIES_EXCHANGE, FLAG_ERROR, FLAG_REQUEST, HEADER_OCTETS, parse_header
from protocols.diameter.node import Node
from protocols.diameter.peer import Peer
from protocols.diameter.peer_table import State
from protocols.diameter.settings import NodeSettings
from tests.support.codecs import encode, gy_update
from tests.support.diameter_kit import LOCAL, START_UTC_S
from tests.support.gy_client import EVENT, INITIAL, MIB, TERMINATION, UPDATE, Requests, mscc, proxy_info, units
from tests.support.mutations import header_passes, mutate

LEAST_SHARE = 0.30
"""Of messages that must pass the header, so that the run is about more than headers."""
GROWTH_BLOCKS = 100_000
"""Allocated blocks that may be added after the first tenth: counters of the Origin-Hosts that mutation invents."""
STRANGER_SHARE = 0.1
"""Of messages that meet a connection without a capabilities exchange."""

_GY = GySettings(service_contexts=frozenset({"32251@3gpp.org", "32274@3gpp.org"}))
_REGULAR = RegularGy(_GY, LOCAL)


def gy_edge(message: Message, _peer: PeerInfo, reply: Reply) -> None:
    """The Gy edge as in production, with a success for whatever it lets through; the short way must say the same."""
    short = _REGULAR.read(message)
    try:
        ccr, profile = read_request(message, _GY)
        request = to_charging(ccr, profile)
    except RemoteProtocolError as error:
        assert short is None, "the short way took what is refused"
        reply(build_refusal(message, error, LOCAL))
        return
    assert short is None or short[0] == request, "the short way read something else"
    reply(build_answer(message, base_avps(2001, LOCAL)))


def corpus() -> list[bytes]:
    """Right messages of every kind that a gateway sends."""
    requests = Requests(origin_state_id=7)
    quota = mscc(100, requested=[], used=[units(total=MIB, reason=3)])
    again = Requests(destination_host=LOCAL.origin_host)
    return [
        requests.ccr(INITIAL, 0, "s1", mscc(100, requested=units(total=10 * MIB)), mscc(200, requested=[])),
        requests.ccr(UPDATE, 1, "s1", quota, extra=[proxy_info("dra1.example.net", b"\x00\xff\x01")]),
        again.ccr(TERMINATION, 2, "s1", mscc(100, used=[units(input=5, output=7)], reason=2)),
        requests.ccr(EVENT, 0, "e1", context="32274@3gpp.org", action=0, extra=[(d.SERVICE_IDENTIFIER, 5)]),
        encode(item for item in gy_update() if item[0] not in (d.DESTINATION_HOST, d.DESTINATION_REALM)),
        requests.cer((4,), [(d.VENDOR_SPECIFIC_APPLICATION_ID, [(d.VENDOR_ID, 10415), (d.AUTH_APPLICATION_ID, 4)])]),
        requests.dwr(),
        requests.dpr(),
        requests.message(999, 4, 0xC0, [(d.SESSION_ID, "s1")]),
        requests.message(258, 4, 0x40, [(d.SESSION_ID, "s1"), (d.RESULT_CODE, 2002)]),
    ]


class Finding(NamedTuple):
    """Something that must not be."""

    number: int
    message: bytes
    what: str


class Fuzzer:
    """One run. Connections are used until they close."""

    def __init__(self, seed: int, application: ApplicationPort = gy_edge) -> None:
        self.seed = seed
        self.histogram: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self.passed = 0
        self.count = 0
        self.growth_blocks = 0
        self._corpus = corpus()
        self._cer = Requests().cer()
        settings = NodeSettings(LOCAL, (credit_control(),), max_message_octets=1 << 18)
        self._node = Node(settings, random.Random(seed), START_UTC_S)
        self._failures: list[Exception] = []
        self._desk = RequestDesk(self._node, application, failed=lambda _message, error: self._failures.append(error))
        self._peer: Peer | None = None
        self._now = 0.0

    def run(self, indexes: Iterable[int], total: int) -> None:
        """Feed the messages with these numbers."""
        baseline = 0
        for index in indexes:
            if self.count == total // 10:
                baseline = _blocks()
            try:
                self._one(index)
            except Exception:
                self._find(index, b"", traceback.format_exc())
                self._peer = None
            self.count += 1
            if len(self.findings) > 20:
                return
        self._drop()
        self.growth_blocks = _blocks() - baseline

    def message(self, index: int) -> tuple[bytes, bool]:
        """The message with a number, and whether a stranger sends it."""
        rng = random.Random(self.seed << 32 | index)
        return mutate(rng, rng.choice(self._corpus)), rng.random() < STRANGER_SHARE

    def _one(self, index: int) -> None:
        data, stranger = self.message(index)
        self._now += 0.001
        if stranger:
            self._drop()
        peer = self._peer if self._peer is not None else self._connect(opened=not stranger)
        self._peer = peer
        passes = header_passes(data)
        self.passed += passes
        answers = self._feed(peer, data)
        self._judge(index, data, passes, stranger, answers)
        if self._failures:
            self._find(index, data, "".join(traceback.format_exception(self._failures.pop())))
        # What waits for more octets, or was opened by a stranger's CER, is left: the next message starts clean.
        if stranger or not passes or peer.state is not State.OPEN:
            self._drop()

    def _connect(self, opened: bool) -> Peer:
        peer = self._node.accept("127.0.0.1", "127.0.0.1", self._now)
        assert peer is not None
        if opened:
            self._feed(peer, self._cer)
            assert peer.state is State.OPEN
        return peer

    def _drop(self) -> None:
        if self._peer is not None:
            self._peer.transport_lost("dropped", self._now)
            self._peer = None

    def _feed(self, peer: Peer, data: bytes) -> list[bytes]:
        for event in peer.receive_data(data, self._now):
            if isinstance(event, RequestReceived):
                self._desk.take(peer, event.message, self._now)
        return peer.data_to_send()

    def _judge(self, index: int, data: bytes, passes: bool, stranger: bool, answers: list[bytes]) -> None:
        for answer in answers:
            self._judge_answer(index, data, answer)
        if not answers:
            self.histogram["no answer"] += 1
        if not passes:
            return
        header = parse_header(data)
        is_request = bool(header.flags & FLAG_REQUEST)
        expected = 1 if is_request and (not stranger or header.command == CAPABILITIES_EXCHANGE) else 0
        # DB-142: a CER with another Origin-Host ends an open connection without an answer.
        silent = not stranger and header.command == CAPABILITIES_EXCHANGE and not answers
        if len(answers) != expected and not (silent and self._peer is not None and self._peer.state is State.CLOSED):
            self._find(index, data, f"{len(answers)} answers, expected {expected}")

    def _judge_answer(self, index: int, data: bytes, answer: bytes) -> None:
        message = decode_message(answer)
        codes = every(message.avps, d.RESULT_CODE)
        self.histogram[" ".join(str(code) for code in codes) or "none"] += 1
        if not _is_well_formed(answer) or len(codes) != 1:
            self._find(index, data, f"answer is not well-formed: {message.errors} {answer.hex()}")
        elif is_protocol_error(codes[0]) and not message.flags & FLAG_ERROR:
            self._find(index, data, f"{codes[0]} without the E bit")
        elif not is_protocol_error(codes[0]) and codes[0] < 5000 and message.flags & FLAG_ERROR:
            self._find(index, data, f"{codes[0]} with the E bit")
        # Otherwise the octets may have been several messages.
        if header_passes(data) and answer[12:HEADER_OCTETS] != data[12:HEADER_OCTETS]:
            self._find(index, data, "identifiers of the answer are not the request's")

    def _find(self, index: int, data: bytes, what: str) -> None:
        self.findings.append(Finding(index, data, what))

    def problems(self) -> list[str]:
        """Everything for which the run fails."""
        problems = [
            f"message {one.number} (replay: --seed {self.seed} --only {one.number}): {one.what}\n  {one.message.hex()}"
            for one in self.findings
        ]
        if self.count > 100 and self.passed < LEAST_SHARE * self.count:
            problems.append(f"{self.passed} of {self.count} messages passed the header, expected {LEAST_SHARE:.0%}")
        if self.growth_blocks > GROWTH_BLOCKS:
            problems.append(f"{self.growth_blocks} allocated blocks more than after the first tenth of the run")
        return problems

    def report(self) -> str:
        """The histogram for people."""
        lines = [f"{name:>10} {count:>9}" for name, count in sorted(self.histogram.items())]
        share = self.passed / max(self.count, 1)
        lines.append(f"{self.count} messages, {share:.0%} passed the header, memory {self.growth_blocks:+d} blocks")
        return "\n".join(lines)


def _is_well_formed(answer: bytes) -> bool:
    """Right lengths everywhere, and no error but what a Proxy-Info brought along, which is copied as it came."""
    message = decode_message(answer)
    if len(answer) != message.length or any(error.result_code == 5014 for error in message.errors):
        return False
    ours = answer[: len(answer) - sum(map(len, message.proxy_infos))]
    return decode_message(ours).errors == []


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def main() -> int:
    """The command line; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="feed only the message with this number")
    arguments = parser.parse_args()
    fuzzer = Fuzzer(arguments.seed)
    start = time.monotonic()
    indexes = range(arguments.count) if arguments.only is None else [arguments.only]
    fuzzer.run(indexes, len(indexes))
    print(fuzzer.report(), f"{time.monotonic() - start:.0f} s", sep="\n")
    problems = fuzzer.problems()
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
