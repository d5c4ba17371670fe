"""Many sessions at once against several workers that may die: asks, asks again, and keeps books of its own.

What an account must hold is summed here, from the prices of the scenarios' plan and from what was reported, never from
what the server says. Every answer to a repeat is compared with the first one.
"""

from __future__ import annotations

import random
import select
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from protocols.diameter.header import FLAG_RETRANSMIT
from tests.support.gy_client import INITIAL, MIB, TERMINATION, UPDATE, Answer, GyClient, Requests, mscc, units
from tests.support.server_process import Operator, connect

CENTS_PER_MIB = 10
SUCCESS = 2001
PASSING = {3004, 5012}
"""DIAMETER_TOO_BUSY and DIAMETER_UNABLE_TO_COMPLY: ask again. The only errors that a repeat may meet."""
ANSWER_TIMEOUT_S = 10.0


class Asked:
    """One request, as long as it lives: over all connections and repeats."""

    def __init__(self, octets: bytes, session: str, number: int, used_mib: int) -> None:
        self.octets = octets
        self.session = session
        self.number = number
        self.used_mib = used_mib
        self.first: Answer | None = None
        """The first answer of success."""
        self.errors: list[int] = []
        """Result-Codes of the answers that were errors."""
        self.told = 0
        """How often it was answered with success."""
        self.last_code = 0
        self.sent_at = 0.0
        self.longest_s = 0.0
        """Longest time that an answer took."""

    def accept(self, answer: Answer) -> None:
        """Keep a first success; what was told before must be told again."""
        self.longest_s = max(self.longest_s, time.monotonic() - self.sent_at)
        self.last_code = answer.code
        if answer.code != SUCCESS:
            assert self.first is None or answer.code in PASSING, f"{self.session} no. {self.number}: {answer.code}"
            self.errors.append(answer.code)
            return
        self.told += 1
        if self.first is None:
            self.first = answer
        else:
            told = f"{self.session} no. {self.number}: a repeat was told something else"
            assert answer.message.avps == self.first.message.avps, told


class Person:
    """One session of one account, which uses and reports."""

    def __init__(self, session: str, account: str, msisdn: str) -> None:
        self.session = session
        self.account = account
        self.msisdn = msisdn
        self.number = 0
        self.used_mib = 0


class Crowd:
    """Sessions, connections to the workers, and what is on its way."""

    def __init__(self, ports: Sequence[Callable[[], int]], seed: int) -> None:
        """`ports` tell each worker's Diameter port: a new one after a restart."""
        self.dice = random.Random(seed)
        self.requests = Requests()
        self.people: list[Person] = []
        self.cents: dict[str, int] = {}
        """What each account was given."""
        self.longest_s = 0.0
        """Longest time from a request to its answer."""
        self._ports = ports
        self._clients: list[GyClient | None] = [None] * len(ports)
        self._waiting: dict[int, tuple[int, Asked]] = {}
        """By Hop-by-Hop: to whom it was sent, and what."""

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            if client is not None:
                client.close()

    # Who charges what

    def settle(self, operator: Operator, accounts: int, sessions: int, cents: int, town: int = 0) -> None:
        """Accounts with money and one subscriber each, and sessions of each that are still to be opened.

        Crowds of several towns (below 100) may use one store.
        """
        for number in range(accounts):
            name, msisdn = f"crowd{town}-{number}", f"44770{town:02d}{number:05d}"
            operator.subscriber(cents, msisdn=msisdn, account=name)
            self.cents[name] = cents
            self.people += [Person(f"crowd;{name};{one}", name, msisdn) for one in range(sessions)]

    def openings(self) -> list[Asked]:
        """The INITIAL of every session."""
        return [
            self._asked(INITIAL, person, 0, mscc(100, requested=[]), msisdn=person.msisdn) for person in self.people
        ]

    def updates(self, each: int = 1) -> list[Asked]:
        """The next reports of every session, some MiB each."""
        found = []
        for _ in range(each):
            found += [self._update(person) for person in self.people]
        return found

    def _update(self, person: Person) -> Asked:
        used = self.dice.randint(1, 10)
        report = mscc(100, requested=[], used=[units(total=used * MIB)])
        return self._asked(UPDATE, person, used, report, msisdn=None)

    def endings(self) -> list[Asked]:
        """The TERMINATION of every session, without a report."""
        return [self._asked(TERMINATION, person, 0, msisdn=None) for person in self.people]

    def strangers(self, account: str, msisdn: str, number: int) -> list[Asked]:
        """Sessions of an account that this crowd keeps no books of, each with its INITIAL."""
        people = [Person(f"stranger;{account};{one}", account, msisdn) for one in range(number)]
        return [self._asked(INITIAL, person, 0, mscc(100, requested=[]), msisdn=msisdn) for person in people]

    def _asked(self, kind: int, person: Person, used_mib: int, *services: Any, msisdn: str | None) -> Asked:
        octets = self.requests.ccr(kind, person.number, person.session, *services, msisdn=msisdn)
        asked = Asked(octets, person.session, person.number, used_mib)
        person.number += 1
        person.used_mib += used_mib
        return asked

    def expected_cents(self) -> dict[str, int]:
        """What each account must have now, if every request was charged once: prices of plan `d10`."""
        left = dict(self.cents)
        for person in self.people:
            left[person.account] -= person.used_mib * CENTS_PER_MIB
        return left

    # Who talks to whom

    def connect(self, worker: int) -> GyClient:
        """The connection to a worker, made if it is not there."""
        client = self._clients[worker]
        if client is None:
            client = self._clients[worker] = connect(self._ports[worker](), self.requests)
        return client

    def leave(self, worker: int) -> None:
        """Close the connection to a worker; what it had not answered must be asked again."""
        client = self._clients[worker]
        if client is not None:
            client.close()
        self._clients[worker] = None
        self._waiting = {key: value for key, value in self._waiting.items() if value[0] != worker}

    def ask(self, asked: Iterable[Asked], workers: Sequence[int], again: bool = False) -> None:
        """Send requests, dealt out to workers in turn; `again` flags them as perhaps sent before."""
        parts: dict[int, list[bytes]] = {}
        for place, one in enumerate(asked):
            worker = workers[place % len(workers)]
            octets = one.octets
            if again:
                octets = octets[:4] + bytes([octets[4] | FLAG_RETRANSMIT]) + octets[5:]
            hop_by_hop = self._hop_by_hop()
            parts.setdefault(worker, []).append(octets[:12] + struct.pack(">I", hop_by_hop) + octets[16:])
            one.sent_at = time.monotonic()
            self._waiting[hop_by_hop] = (worker, one)
        for worker, part in parts.items():
            self.connect(worker).send(b"".join(part))

    _last_hop_by_hop = 1 << 20

    def _hop_by_hop(self) -> int:
        self._last_hop_by_hop += 1
        return self._last_hop_by_hop

    def receive(
        self, enough: Callable[[], bool] = lambda: False, seconds: float = ANSWER_TIMEOUT_S, patient: bool = False
    ) -> int:
        """Take answers until nothing is on its way, or it is enough; how many came.

        A worker that ends its connection is left; `AssertionError` if answers are missing after the time and nobody is
        `patient`.
        """
        end = time.monotonic() + seconds
        taken = 0
        while self._waiting and not enough():
            left = end - time.monotonic()
            if left <= 0 and patient:
                break
            assert left > 0, f"{len(self._waiting)} requests without an answer"
            taken += len(self._receive_some(min(left, 0.05)))
        return taken

    def _receive_some(self, seconds: float) -> list[Asked]:
        """What is answered by now, or within a time."""
        by_socket = {client: worker for worker, client in enumerate(self._clients) if client is not None}
        readable, _, _ = select.select(list(by_socket), [], [], seconds)
        return [one for client in readable for one in self._take(client, by_socket[client])]

    def _take(self, client: GyClient, worker: int) -> list[Asked]:
        taken: list[Asked] = []
        while not taken or client.has_message():
            try:
                answer = client.receive()
            except (ConnectionError, TimeoutError):
                self.leave(worker)
                return taken
            _, one = self._waiting.pop(answer.message.hop_by_hop)
            one.accept(answer)
            self.longest_s = max(self.longest_s, one.longest_s)
            taken.append(one)
        return taken

    def flow(self, enough: Callable[[], bool], workers: Sequence[int], repeated: float, seconds: float) -> int:
        """Every session reports, each time to any worker, as soon as its last report has a success; the reports' number.

        Errors are asked again elsewhere, and of the answered ones a share is `repeated`. Ends when it is enough and
        nothing is on its way; `AssertionError` if it is not enough after the time.
        """
        end = time.monotonic() + seconds
        reporting = {self._update(person): person for person in self.people}
        for one in reporting:
            self.ask([one], [self.dice.choice(workers)])
        reports = len(reporting)
        while reporting:
            assert time.monotonic() < end, f"it is not enough yet, {len(self._waiting)} requests wait for answers"
            for one in self._receive_some(0.05):
                if one.last_code != SUCCESS or self.dice.random() < repeated:
                    self.ask([one], [self.dice.choice(workers)], again=True)
                else:
                    person = reporting.pop(one)
                    if not enough():
                        following = self._update(person)
                        reporting[following] = person
                        reports += 1
                        self.ask([following], [self.dice.choice(workers)])
        return reports

    def insist(self, asked: Sequence[Asked], workers: Sequence[int], seconds: float = 20.0) -> int:
        """Ask for what has no success yet until all of it has; how many repeats that took."""
        return self._until(asked, lambda one: one.first is not None, workers, seconds)

    def repeat(self, asked: Sequence[Asked], workers: Sequence[int], seconds: float = 20.0) -> None:
        """Ask again for what was answered: the same must be told."""
        wanted = {one: one.told + 1 for one in asked}
        self._until(asked, lambda one: one.told >= wanted[one], workers, seconds)

    def _until(
        self, asked: Sequence[Asked], is_done: Callable[[Asked], bool], workers: Sequence[int], seconds: float
    ) -> int:
        end = time.monotonic() + seconds
        repeats = 0
        while missing := [one for one in asked if not is_done(one)]:
            assert time.monotonic() < end, f"no success for {missing[0].session}: {missing[0].errors[-3:]}"
            repeats += len(missing)
            self.ask(missing, workers, again=True)
            self.receive()
        return repeats
