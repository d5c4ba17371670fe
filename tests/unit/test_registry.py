"""Who works on a store: entries with leases, fair shares of the sweep, take-over, and what the operator sees."""

from __future__ import annotations

import itertools

import pytest

from balance.store import IndexChange, StoreFailure, Transaction
from ocs.charging.conductor import StoreUnavailable
from ocs.charging.registry import (
    LEASE_S,
    META_PARTITION,
    WORKERS_INDEX,
    WorkerEntry,
    describe_workers,
    inbox_index,
    ranges,
    shares,
    worker_key,
)
from tests.support.workers_kit import Worker, World, partitions_of

PARTITIONS = 64


def seen(worker: Worker) -> list[str]:
    return [one.worker_id for one in worker.registry.members]


def meta(world: World) -> dict[str, set[bytes]]:
    return {name.decode(): members for name, members in world.store._data[0].indexes.items() if members}


def test_workers_see_each_other_within_two_seconds() -> None:
    world = World(3)
    world.beat(2)
    assert [seen(worker) for worker in world.workers] == [["worker0", "worker1", "worker2"]] * 3


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_every_partition_has_one_sweeper_and_all_have_the_same_number_of_them(count: int) -> None:
    world = World(count)
    world.beat(2.2)
    owned = [partitions_of(worker) for worker in world.workers]
    assert sorted(itertools.chain(*owned)) == list(range(PARTITIONS))
    most = -(-PARTITIONS // count)
    assert max(map(len, owned)) == most


def test_a_worker_that_starts_gets_its_share_within_seconds() -> None:
    world = World(2)
    world.beat(5)
    late = world.add()
    world.beat(2.2)
    owned = [partitions_of(worker) for worker in world.workers]
    assert sorted(itertools.chain(*owned)) == list(range(PARTITIONS))
    assert len(partitions_of(late)) >= PARTITIONS - 2 * 22


def test_a_dead_worker_is_followed_within_its_lease() -> None:
    world = World(2)
    world.beat(5)
    one, two = world.workers
    two.alive = False
    world.beat(LEASE_S + 1.2)
    assert partitions_of(one) == list(range(PARTITIONS))
    # It stopped by itself before the other began.
    assert partitions_of(two) == []
    assert meta(world)["workers"] == {b"worker0"}


def test_a_worker_that_leaves_is_followed_at_once() -> None:
    world = World(2)
    world.beat(5)
    one, two = world.workers
    two.alive = False
    two.run(two.registry.leave())
    assert partitions_of(two) == []
    world.beat(1.2)
    assert partitions_of(one) == list(range(PARTITIONS))


def test_who_does_not_trust_its_clock_leaves_the_sweep_to_others() -> None:
    world = World(2)
    world.beat(5)
    one, two = world.workers
    two.sweeping = False
    two.registry.note_change()
    world.beat(1.2)
    assert (partitions_of(one), partitions_of(two)) == (list(range(PARTITIONS)), [])
    assert [entry.serving for entry in one.registry.members] == [True, True]


def test_who_cannot_renew_stops_before_others_take_over() -> None:
    """Never does a partition have two sweepers while one of them is cut off: what follows is checked at each step."""
    world = World(2)
    world.beat(5)
    one, two = world.workers
    two.alive = False  # it sweeps on, but its renewals are lost

    def check() -> None:
        assert not set(partitions_of(one)) & set(partitions_of(two))

    world.beat(10, check)
    assert partitions_of(one) == list(range(PARTITIONS))
    two.alive = True
    world.beat(3)
    assert len(partitions_of(one)) == len(partitions_of(two)) == PARTITIONS // 2


def test_a_lease_that_ended_while_the_worker_lived_is_taken_anew() -> None:
    world = World(2)
    world.beat(3)
    world.now_us += 60_000_000
    world.beat(2.2)
    assert [seen(worker) for worker in world.workers] == [["worker0", "worker1"]] * 2
    assert sorted(partitions_of(world.workers[0]) + partitions_of(world.workers[1])) == list(range(PARTITIONS))


def test_a_renewal_of_unknown_outcome_is_made_good_by_the_next() -> None:
    world = World(1)
    (worker,) = world.workers
    world.beat(1)
    saga = worker.registry.renew()
    request = next(saga)
    # It is committed, but the answer is lost.
    worker.store.commit(META_PARTITION, (request.transaction,), lambda outcome: None)  # type: ignore[union-attr]
    with pytest.raises(StoreUnavailable):
        saga.throw(StoreUnavailable(StoreFailure("gone", True).detail))
    assert worker.registry.changed, "the next turn tries again"
    world.beat(0.2)
    assert worker.registry.held() and not worker.registry.changed


def test_idle_workers_commit_little() -> None:
    world = World(2)
    world.beat(5)
    commits: list[int] = []
    commit = world.store.commit

    def count(partition: int, transactions: object, done: object) -> None:
        commits.append(partition)
        commit(partition, transactions, done)  # type: ignore[arg-type]

    world.store.commit = count  # type: ignore[method-assign]
    world.beat(60)
    assert set(commits) == {META_PARTITION}
    assert len(commits) == 60  # two workers, each every two seconds


def test_peers_are_listed_with_their_connections_and_changes_are_seen_at_once() -> None:
    world = World(2)
    world.beat(3)
    one, two = world.workers
    for worker, host in ((one, "GW1.example.net"), (one, "gw1.example.net"), (two, "gw1.example.net"), (two, "gw2")):
        worker.peers.opened(host)
    world.beat(1.2)
    assert one.registry.holders("gw1.EXAMPLE.net") == ["worker0", "worker1"]
    assert one.registry.holders("gw2") == ["worker1"]
    one.peers.closed("gw1.example.net")
    two.peers.closed("gw1.example.net")
    world.beat(1.2)
    assert (one.registry.holders("gw1.example.net"), two.registry.holders("gw2")) == (["worker0"], ["worker1"])
    shown = describe_workers(one.run(one.registry.look()))
    assert shown["peers"] == [
        {"origin_host": "gw1.example.net", "workers": [{"worker": 0, "worker_id": "worker0", "connections": 1}]},
        {"origin_host": "gw2", "workers": [{"worker": 1, "worker_id": "worker1", "connections": 1}]},
    ]
    assert [(one["worker"], one["pid"], one["serving"]) for one in shown["workers"]] == [
        (0, 1000, True),
        (1, 1001, True),
    ]


def test_the_inbox_of_a_dead_worker_goes_with_it() -> None:
    world = World(2)
    world.beat(3)
    members = tuple(IndexChange(inbox_index("worker1"), b"{p005}:n:s:%03d" % n, True) for n in range(300))
    world.store.commit(META_PARTITION, (Transaction((), indexes=members),), lambda outcome: None)
    world.workers[1].alive = False
    world.beat(10)
    assert meta(world) == {"workers": {b"worker0"}}


def test_alone_nothing_is_written() -> None:
    world = World(0)
    worker = Worker(world, 0)
    worker.registry.alone = True
    worker.run(worker.registry.turn())
    assert seen(worker) == ["worker0"]
    assert partitions_of(worker) == list(range(PARTITIONS))
    assert meta(world) == {} and worker_key("worker0") not in world.store._data[0].documents
    assert WORKERS_INDEX not in world.store._data[0].indexes


def test_without_workers_nobody_sweeps() -> None:
    assert shares([], 3) == ["", "", ""]


def test_when_a_worker_goes_most_partitions_stay_where_they_are() -> None:
    names = [f"w{n}" for n in range(8)]
    before, after = shares(names, PARTITIONS), shares(names[:-1], PARTITIONS)
    moved = [n for n in range(PARTITIONS) if before[n] != after[n] and before[n] != "w7"]
    assert len(moved) <= PARTITIONS // 4


def test_versions_are_told_as_ranges() -> None:
    assert ranges([3, 1, 2, 7, 0]) == ((0, 3), (7, 7))
    entry = WorkerEntry("w", 0, "h", 1, 2, loaded=((0, 3), (7, 7)), failed=((5, "no"),))
    assert [entry.has_loaded(version) for version in (0, 3, 4, 7)] == [True, True, False, True]
    assert (entry.failure(5), entry.failure(4)) == ("no", "")
