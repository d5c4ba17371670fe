"""Who works on this store: each worker's entry, its lease, and what follows from all of them (LEDGER §8, §10, §11).

An entry is a document that lives as long as its lease: it is written anew every two seconds, and the store forgets it
when that stops. So one clock judges all leases, the store's, and how far the clocks of the workers differ does not
matter. What follows from the entries, such as who sweeps which partition, every worker computes by itself from what it
read last; two may differ for a second, so nothing that rests on it may need more than economy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from balance.documents import VERSION_OCTETS, partition_tag
from balance.integers import div_ceil
from balance.store import Conflict, IndexChange, Transaction, Write
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.saga import Commit, Read, Saga, Scan
from ocs.charging.workspace import decode_document, encode_document

WORKER_SCHEMA = 24

META_PARTITION = 0
WORKERS_INDEX = b"workers"

LEASE_S = 6
"""How long an entry outlives its worker."""

HELD_S = LEASE_S - 0.5
"""How long a worker believes in its own lease, counted from before it asked: it stops before others take over."""

RENEW_EVERY_S = 2.0
LOOK_EVERY_S = 1.0

MAX_WORKERS = 256
"""Workers of one store that see each other."""

MAX_PEERS = 1000
"""Peers that an entry names."""

INBOX_PAGE = 256


class WorkerEntry(msgspec.Struct, array_like=True, frozen=True):
    """One worker, as it describes itself."""

    worker_id: str
    """Names one start of one process."""
    number: int
    host: str
    pid: int
    started_s: int
    """UTC seconds."""
    listeners: tuple[tuple[str, str], ...] = ()
    """(name, address)."""
    peers: tuple[tuple[str, int], ...] = ()
    """(Origin-Host in lower case, open connections)."""
    loaded: tuple[tuple[int, int], ...] = ()
    """Catalogue versions that it can rate under, as ranges."""
    failed: tuple[tuple[int, str], ...] = ()
    """Catalogue versions that it cannot compile, with the reason."""
    current: int = 0
    """The catalogue version that it opens sessions under."""
    serving: bool = False
    """It listens."""
    sweeping: bool = False
    """It takes its share of the sweep."""

    def has_loaded(self, version: int) -> bool:
        """Whether it can rate under a version of the catalogue."""
        return any(low <= version <= high for low, high in self.loaded)

    def failure(self, version: int) -> str:
        """Why it cannot compile a version; empty if nothing is known."""
        return dict(self.failed).get(version, "")

    @property
    def shown(self) -> str:
        """For messages to people."""
        return f"worker {self.number} (process {self.pid} on {self.host})"


def ranges(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Numbers as (low, high) ranges."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def worker_key(worker_id: str) -> bytes:
    """Key of a worker's entry."""
    return partition_tag(META_PARTITION) + b"m:worker:" + worker_id.encode()


def inbox_index(worker_id: str) -> bytes:
    """Index of what is handed to a worker (`ocs.charging.notices`)."""
    return b"inbox:" + worker_id.encode()


class PeersHeld:
    """The Diameter peers of this process and their open connections; several for one Origin-Host are allowed."""

    def __init__(self) -> None:
        self._connections: dict[str, int] = {}
        self.changed: Callable[[], None] = lambda: None
        """Set by the owner."""

    def opened(self, origin_host: str) -> None:
        """A connection of a peer is open."""
        name = origin_host.lower()
        self._connections[name] = self._connections.get(name, 0) + 1
        self.changed()

    def closed(self, origin_host: str) -> None:
        """A connection of a peer is gone."""
        name = origin_host.lower()
        left = self._connections.get(name, 0) - 1
        if left > 0:
            self._connections[name] = left
        else:
            self._connections.pop(name, None)
        self.changed()

    def listed(self) -> tuple[tuple[str, int], ...]:
        """For the entry."""
        return tuple(sorted(self._connections.items())[:MAX_PEERS])


class Registry:
    """One process's place among the workers, and its view of them."""

    def __init__(
        self,
        describe: Callable[[], WorkerEntry],
        nonce: Callable[[], bytes],
        monotonic: Callable[[], float],
        alone: bool = False,
        is_member: bool = True,
    ) -> None:
        """`alone`: the store admits one process only, so that nothing has to be written.

        Off, `is_member` says that this process is no worker: it only looks.
        """
        self._describe = describe
        self._nonce = nonce
        self._monotonic = monotonic
        self.alone = alone
        self._is_member = is_member
        self.worker_id = describe().worker_id
        self.members: tuple[WorkerEntry, ...] = ()
        """Those that lived when it was looked last, in the order of their ids."""
        self.changed = True
        """Something that the entry tells has changed since it was written."""
        self._version: bytes | None = None
        self._written = b""
        self._held_until = 0.0
        self._renewed = self._looked = float("-inf")
        self._sharing: tuple[tuple[str, ...], int] = ((), 0)
        self._shares: frozenset[int] = frozenset()

    def note_change(self) -> None:
        """Write the entry anew at the next turn."""
        self.changed = True

    def held(self) -> bool:
        """Whether this process's lease stands: nobody has taken over from it."""
        return self.alone or self._monotonic() < self._held_until

    def turn(self) -> Saga[None]:
        """Renew and look, each when it is time."""
        now = self._monotonic()
        if self.changed or now - self._renewed >= RENEW_EVERY_S:
            yield from self.renew()
        if now - self._looked >= LOOK_EVERY_S:
            yield from self.look()

    def renew(self) -> Saga[None]:
        """Write the entry and with it the lease."""
        if self.alone:
            yield from self.look()
            self.changed = False
            return
        asked = self._monotonic()
        self.changed = False
        entry = self._describe()
        try:
            verdict = yield self._write(entry)
            if isinstance(verdict, Conflict):
                # The lease had ended, or a renewal of unknown outcome was made: the entry is this worker's all the same.
                data = verdict.documents[worker_key(entry.worker_id)]
                self._version = None if data is None else data[:VERSION_OCTETS]
                verdict = yield self._write(entry)
        except StoreUnavailable:
            self.changed = True
            raise
        if isinstance(verdict, Conflict):
            self._version, self.changed = None, True
            return
        self._version = self._written
        self._held_until, self._renewed = asked + HELD_S, asked

    def leave(self) -> Saga[None]:
        """Give the lease back, so that others take over at once."""
        self._held_until = 0.0
        version, self._version = self._version, None
        if version is not None:
            key = worker_key(self.worker_id)
            gone = IndexChange(WORKERS_INDEX, self.worker_id.encode(), False)
            yield Commit(META_PARTITION, Transaction((Write(key, version, None),), indexes=(gone,)))
            yield from self._bury(self.worker_id.encode())

    def look(self) -> Saga[tuple[WorkerEntry, ...]]:
        """Read who lives; whose lease ended is taken out of the index, and its inbox emptied."""
        if self.alone:
            self.members = (self._describe(),) if self._is_member else ()
            return self.members
        asked = self._monotonic()
        names: Sequence[bytes] = yield Scan(META_PARTITION, WORKERS_INDEX, b"", MAX_WORKERS)
        keys = {name: worker_key(name.decode()) for name in names}
        documents = yield Read(tuple((META_PARTITION, key) for key in keys.values()))
        found = []
        for name, key in keys.items():
            data = documents[key]
            if data is not None:
                found.append(decode_document(data, WorkerEntry, WORKER_SCHEMA))
            elif name != self.worker_id.encode():
                yield from self._bury(name)
        self.members, self._looked = tuple(found), asked
        return self.members

    def sweeps(self, partition: int, partitions: int) -> bool:
        """Whether this process is the one that sweeps a partition."""
        return self.alone or (self.held() and partition in self._swept_here(partitions))

    def share(self, partitions: int) -> int:
        """How many partitions this process sweeps now."""
        if self.alone:
            return partitions
        return len(self._swept_here(partitions)) if self.held() else 0

    def _swept_here(self, partitions: int) -> frozenset[int]:
        sharing = (tuple(one.worker_id for one in self.members if one.sweeping), partitions)
        if sharing != self._sharing:
            sweepers = shares(*sharing)
            self._sharing = sharing
            self._shares = frozenset(n for n, sweeper in enumerate(sweepers) if sweeper == self.worker_id)
        return self._shares

    def holders(self, origin_host: str) -> list[str]:
        """Workers that hold a connection of a peer."""
        name = origin_host.lower()
        if self.alone:
            # Nobody looks at regular times.
            return [self.worker_id] if any(name == peer for peer, _ in self._describe().peers) else []
        return [one.worker_id for one in self.members if any(name == peer for peer, _ in one.peers)]

    def _write(self, entry: WorkerEntry) -> Commit:
        data = encode_document(self._version, self._nonce(), WORKER_SCHEMA, entry)
        self._written = data[:VERSION_OCTETS]
        write = Write(worker_key(entry.worker_id), self._version, data, LEASE_S)
        present = IndexChange(WORKERS_INDEX, entry.worker_id.encode(), True)
        return Commit(META_PARTITION, Transaction((write,), indexes=(present,)))

    def _bury(self, name: bytes) -> Saga[None]:
        """Forget a worker. What its inbox holds is handed over anew when its time comes."""
        inbox = b"inbox:" + name
        members: Sequence[bytes] = yield Scan(META_PARTITION, inbox, b"", INBOX_PAGE)
        gone = [IndexChange(inbox, member, False) for member in members]
        if len(members) < INBOX_PAGE:
            gone.append(IndexChange(WORKERS_INDEX, name, False))
        yield Commit(META_PARTITION, Transaction((), indexes=tuple(gone)))


def shares(workers: Sequence[str], partitions: int) -> list[str]:
    """The sweeper of each partition: each worker gets as many as any other, give or take one, and few change hands.

    Each partition goes to the worker that it likes best of those that are not full yet (rendezvous hashing with a
    limit), so all who know the same workers come to the same shares. Without workers, nobody sweeps.
    """
    if not workers:
        return [""] * partitions
    most = div_ceil(partitions, len(workers))
    load = dict.fromkeys(workers, 0)
    found = []
    for partition in range(partitions):
        open_ones = [worker for worker in workers if load[worker] < most]
        chosen = liked_best(str(partition), open_ones)
        load[chosen] += 1
        found.append(chosen)
    return found


def liked_best(name: str, workers: Sequence[str]) -> str:
    """One of some workers, the same for everybody who asks for the same name."""
    return min(workers, key=lambda one: hashlib.blake2b(f"{name}\0{one}".encode(), digest_size=8).digest())


def in_order(members: Iterable[WorkerEntry]) -> list[WorkerEntry]:
    """Workers as people count them."""
    return sorted(members, key=lambda one: (one.host, one.number, one.started_s))


def describe_workers(members: Sequence[WorkerEntry]) -> dict[str, Any]:
    """The workers and the peers of the whole store, as JSON."""
    peers: dict[str, list[dict[str, Any]]] = {}
    for one in members:
        for origin_host, connections in one.peers:
            held = {"worker": one.number, "worker_id": one.worker_id, "connections": connections}
            peers.setdefault(origin_host, []).append(held)
    return {
        "workers": [describe_worker(one) for one in in_order(members)],
        "peers": [{"origin_host": name, "workers": held} for name, held in sorted(peers.items())],
    }


def describe_worker(entry: WorkerEntry) -> dict[str, Any]:
    """One worker as JSON."""
    return {
        "worker": entry.number,
        "worker_id": entry.worker_id,
        "host": entry.host,
        "pid": entry.pid,
        "started_s": entry.started_s,
        "serving": entry.serving,
        "sweeping": entry.sweeping,
        "listeners": [{"name": name, "address": address} for name, address in entry.listeners],
        "peers": [{"origin_host": name, "connections": connections} for name, connections in entry.peers],
        "catalogue": {
            "current": entry.current,
            "loaded": [list(one) for one in entry.loaded],
            "failed": [{"version": version, "why": why} for version, why in entry.failed],
        },
    }
