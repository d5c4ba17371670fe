"""The store's contract, executable: one kit for every engine (`balance.store`, LEDGER §1, §2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from balance.documents import partition_tag, seal, version_of
from balance.store import (
    MAX_LEASE_MS,
    MAX_PAGE,
    MAX_TRANSACTIONS_PER_COMMIT,
    Committed,
    Conflict,
    DueChange,
    DueItem,
    IndexChange,
    Lease,
    Leased,
    OutboxItem,
    Store,
    StoreFailure,
    Transaction,
    Write,
)
from tests.support.blocking_store import BlockingStore

PARTITION = 1
SECOND_US = 1_000_000


def key(name: str, partition: int = PARTITION) -> bytes:
    """A key of the partition."""
    return partition_tag(partition) + name.encode()


def create(name: str, body: bytes = b"body", ttl_s: int = 0, partition: int = PARTITION) -> Write:
    """Create-if-absent."""
    return Write(key(name, partition), None, seal(None, b"writer-1", 1, body), ttl_s)


def update(document: bytes, name: str, body: bytes | None, nonce: bytes = b"writer-1", ttl_s: int = 0) -> Write:
    """Write over a document that was read; `None`: delete it."""
    version = version_of(document)
    return Write(key(name), version, None if body is None else seal(version, nonce, 1, body), ttl_s)


class Calls(BlockingStore):
    """Blocking calls of one partition, in the shortest form; a `StoreFailure` where none is expected fails the test."""

    def get(self, name: str, partition: int = PARTITION) -> bytes | None:
        """One document."""
        outcome = self.read(partition, [key(name, partition)])
        assert not isinstance(outcome, StoreFailure), outcome
        assert list(outcome) == [key(name, partition)]
        return outcome[key(name, partition)]

    def write(self, *writes: Write, partition: int = PARTITION, **more: Any) -> Committed | Conflict | Leased:
        """Commit one transaction."""
        outcome = self.commit(partition, [Transaction(writes, **more)])
        assert not isinstance(outcome, StoreFailure), outcome
        assert len(outcome) == 1
        return outcome[0]

    def put(self, name: str, body: bytes, nonce: bytes = b"writer-1", ttl_s: int = 0) -> bytes:
        """Write a document whatever it was; gives it back with its header."""
        previous = self.get(name)
        write = create(name, body, ttl_s) if previous is None else update(previous, name, body, nonce, ttl_s)
        assert self.write(write) == Committed()
        assert write.data is not None
        return write.data

    def events(self, after: int = 0, limit: int = MAX_PAGE, partition: int = PARTITION) -> list[OutboxItem]:
        """A page of the outbox."""
        outcome = self.outbox(partition, after, limit)
        assert not isinstance(outcome, StoreFailure), outcome
        return list(outcome)

    def ripe(self, now_us: int, limit: int = MAX_PAGE, partition: int = PARTITION) -> list[DueItem]:
        """What is due."""
        outcome = self.due(partition, now_us, limit)
        assert not isinstance(outcome, StoreFailure), outcome
        return list(outcome)

    def members(
        self, index: bytes, after: bytes = b"", limit: int = MAX_PAGE, partition: int = PARTITION
    ) -> list[bytes]:
        """A page of an index."""
        outcome = self.scan(partition, index, after, limit)
        assert not isinstance(outcome, StoreFailure), outcome
        return list(outcome)


def never(outcome: object) -> None:
    """The callback of a call that must be refused."""
    raise AssertionError(f"a refused call completed with {outcome!r}")


BROKEN: dict[str, tuple[list[Transaction], str]] = {
    "none": ([], "0 transactions"),
    "too many": ([Transaction(())] * (MAX_TRANSACTIONS_PER_COMMIT + 1), "65 transactions"),
    "one key twice": ([Transaction((create("k"), create("k")))], "one key twice"),
    "key of another partition": ([Transaction((create("k", partition=2),))], "partition"),
    "no header": ([Transaction((Write(key("k"), None, b"short"),))], "document of 5 octets"),
    "short version": ([Transaction((Write(key("k"), b"1", None),))], "version of 1 octets"),
    "version unchanged": (
        [Transaction((Write(key("k"), seal(None, b"writer-1", 1, b"")[:16], seal(None, b"writer-1", 1, b"x")),))],
        "does not change the version",
    ),
    "negative time to live": ([Transaction((create("k", ttl_s=-1),))], "time to live"),
    "negative lease": ([Transaction((), lease=Lease(b"r", b"h", -1))], "lease of -1 ms"),
    "endless lease": ([Transaction((), lease=Lease(b"r", b"h", MAX_LEASE_MS + 1))], "lease of 10001 ms"),
    "lease on nothing": ([Transaction((), lease=Lease(b"", b"h"))], "name of 0 octets"),
    "lease of nobody": ([Transaction((), lease=Lease(b"r", b""))], "name of 0 octets"),
    "lease on a long root": ([Transaction((), lease=Lease(b"r" * 256, b"h"))], "name of 256 octets"),
}


class StoreKit:
    """Tests; a subclass gives the fixtures `store` and `clock` (a list of one: UTC microseconds)."""

    grain_us = 1
    """How finely the store's clock can be moved by the test; what must last, lasts until so long before its end."""

    @pytest.fixture
    def calls(self, store: Store) -> Calls:
        return Calls(store)

    # Documents and versions (LEDGER §1)

    def test_absent_documents_read_as_none(self, calls: Calls) -> None:
        assert calls.read(1, [key("a"), key("b")]) == {key("a"): None, key("b"): None}
        assert calls.read(1, []) == {}

    def test_create_if_absent_wins_once_and_the_loser_gets_the_document(self, calls: Calls) -> None:
        first = create("k", b"one")
        assert calls.write(first) == Committed()
        assert calls.write(create("k", b"two")) == Conflict({key("k"): first.data})
        assert calls.get("k") == first.data

    def test_an_update_of_what_is_not_there_loses(self, calls: Calls) -> None:
        assert calls.write(update(seal(None, b"writer-1", 1, b""), "k", b"two")) == Conflict({key("k"): None})
        assert calls.get("k") is None

    @pytest.mark.parametrize(
        "foreign",
        [
            pytest.param(lambda own: own[:8] + b"another!", id="same counter, other nonce"),
            pytest.param(lambda own: (9).to_bytes(8, "big") + own[8:], id="same nonce, other counter"),
        ],
    )
    def test_a_version_is_compared_whole(self, calls: Calls, foreign: Callable[[bytes], bytes]) -> None:
        data = calls.put("k", b"one")
        other = foreign(version_of(data)) + data[16:]
        assert calls.write(update(other, "k", b"two")) == Conflict({key("k"): data})
        assert calls.write(update(data, "k", b"two", nonce=b"writer-2")) == Committed()
        assert (calls.get("k") or b"")[18:] == b"two"

    def test_an_old_version_loses(self, calls: Calls) -> None:
        old = calls.put("k", b"one")
        new = calls.put("k", b"two")
        assert calls.write(update(old, "k", b"three")) == Conflict({key("k"): new})

    def test_a_delete_compares_too(self, calls: Calls) -> None:
        old = calls.put("k", b"one")
        data = calls.put("k", b"two")
        assert calls.write(Write(key("k"), None, None)) == Conflict({key("k"): data})
        assert calls.write(update(old, "k", None)) == Conflict({key("k"): data})
        assert calls.write(update(data, "k", None)) == Committed()
        assert calls.get("k") is None
        assert calls.write(create("k", b"again")) == Committed()

    def test_documents_are_kept_to_the_octet(self, calls: Calls) -> None:
        body = bytes(range(256)) * 40
        assert calls.put("k", body)[18:] == body
        assert (calls.get("k") or b"")[18:] == body
        assert calls.put("empty", b"") == calls.get("empty")

    # Transactions (LEDGER §2)

    def test_a_loser_changes_nothing_and_gets_all_its_documents(self, calls: Calls) -> None:
        old, kept = calls.put("old", b"one"), calls.put("kept", b"two")
        loser = (create("new"), update(kept, "kept", b"three"), create("old"))
        changes: dict[str, Any] = {
            "events": (b"event",),
            "due": (DueChange(b"m", 5),),
            "indexes": (IndexChange(b"i", b"m", True),),
        }
        assert calls.write(*loser, **changes) == Conflict({key("new"): None, key("kept"): kept, key("old"): old})
        assert (calls.get("new"), calls.get("kept"), calls.get("old")) == (None, kept, old)
        assert (calls.events(), calls.ripe(10), calls.members(b"i")) == ([], [], [])

    def test_a_loser_removes_nothing_either(self, calls: Calls) -> None:
        data = calls.put("k", b"one")
        calls.write(due=(DueChange(b"m", 5),), indexes=(IndexChange(b"i", b"m", True),))
        removed: dict[str, Any] = {"due": (DueChange(b"m", None),), "indexes": (IndexChange(b"i", b"m", False),)}
        assert isinstance(calls.write(update(data, "k", None), create("k2"), create("k3"), **removed), Committed)
        calls.write(due=(DueChange(b"m", 5),), indexes=(IndexChange(b"i", b"m", True),))
        assert isinstance(calls.write(create("k2"), **removed), Conflict)
        assert (calls.ripe(10), calls.members(b"i")) == ([DueItem(b"m", 5)], [b"m"])

    def test_each_transaction_of_a_call_wins_or_loses_alone(self, calls: Calls) -> None:
        outcome = calls.commit(
            1,
            [
                Transaction((create("a"),), events=(b"a1", b"a2")),
                Transaction((create("a"), create("c")), events=(b"again",)),
                Transaction((create("b"),), events=(b"b",)),
            ],
        )
        assert outcome == [Committed(), Conflict({key("a"): create("a").data, key("c"): None}), Committed()]
        assert calls.get("c") is None
        assert calls.events() == [OutboxItem(1, b"a1"), OutboxItem(2, b"a2"), OutboxItem(3, b"b")]

    def test_later_transactions_of_a_call_see_earlier_ones(self, calls: Calls) -> None:
        first = create("a", b"one")
        assert first.data is not None
        second = update(first.data, "a", b"two")
        assert second.data is not None
        gone = update(second.data, "a", None)
        batch = [Transaction((write,)) for write in (first, second, second, gone, create("a", b"new"))]
        assert calls.commit(1, batch) == [
            Committed(),
            Committed(),
            Conflict({key("a"): second.data}),
            Committed(),
            Committed(),
        ]
        assert (calls.get("a") or b"")[18:] == b"new"

    def test_a_full_call_of_transactions(self, calls: Calls) -> None:
        names = [f"k{number}" for number in range(MAX_TRANSACTIONS_PER_COMMIT)]
        taken = calls.put("k7", b"taken")
        outcome = calls.commit(1, [Transaction((create(name),), events=(name.encode(),)) for name in names])
        wanted = [Conflict({key(name): taken}) if name == "k7" else Committed() for name in names]
        assert outcome == wanted
        assert [item.event.decode() for item in calls.events()] == [name for name in names if name != "k7"]

    def test_a_transaction_without_writes_wins(self, calls: Calls) -> None:
        assert calls.write(events=(b"e",)) == Committed()
        assert calls.write() == Committed()
        assert calls.events() == [OutboxItem(1, b"e")]

    def test_calls_take_effect_in_their_order(self, store: Store, calls: Calls) -> None:
        outcomes: list[object] = []
        first = create("a", b"one")
        assert first.data is not None
        store.commit(1, [Transaction((first,))], outcomes.append)
        store.read(1, [key("a")], outcomes.append)
        store.commit(1, [Transaction((update(first.data, "a", None),))], outcomes.append)
        assert calls.get("a") is None
        assert outcomes == [[Committed()], {key("a"): first.data}, [Committed()]]

    def test_partitions_do_not_share_documents_events_due_items_or_indexes(self, calls: Calls) -> None:
        calls.write(create("k"), events=(b"e",), due=(DueChange(b"m", 5),), indexes=(IndexChange(b"i", b"m", True),))
        assert calls.get("k", partition=2) is None
        assert (calls.events(partition=2), calls.ripe(10, partition=2)) == ([], [])
        assert calls.members(b"i", partition=2) == []
        calls.write(create("k", partition=2), partition=2, events=(b"two",))
        assert calls.events(partition=2) == [OutboxItem(1, b"two")]
        assert calls.trim(2, 1) is None
        assert calls.events() == [OutboxItem(1, b"e")]

    def test_the_last_partition_is_one(self, store: Store, calls: Calls) -> None:
        last = store.partitions - 1
        assert calls.write(create("k", partition=last), partition=last) == Committed()
        assert calls.get("k", partition=last) is not None

    # Time to live

    def test_a_document_past_its_time_to_live_is_absent(self, calls: Calls, clock: list[int]) -> None:
        data = calls.put("k", b"one", ttl_s=10)
        clock[0] += 10 * SECOND_US - self.grain_us
        assert calls.get("k") == data
        clock[0] += self.grain_us
        assert calls.get("k") is None

    def test_an_expired_document_compares_as_absent(self, calls: Calls, clock: list[int]) -> None:
        data = calls.put("k", b"one", ttl_s=10)
        clock[0] += 10 * SECOND_US
        assert calls.write(update(data, "k", b"two")) == Conflict({key("k"): None})
        assert calls.write(create("k", b"new")) == Committed()
        assert (calls.get("k") or b"")[18:] == b"new"

    def test_writing_again_sets_the_time_to_live_anew(self, calls: Calls, clock: list[int]) -> None:
        calls.put("forever", b"one", ttl_s=10)
        calls.put("forever", b"two")
        calls.put("longer", b"one", ttl_s=10)
        calls.put("longer", b"two", ttl_s=30)
        clock[0] += 29 * SECOND_US
        assert calls.get("forever") is not None
        assert calls.get("longer") is not None
        clock[0] += SECOND_US
        assert calls.get("forever") is not None
        assert calls.get("longer") is None

    # Leases (LEDGER §6)

    def test_a_lease_refuses_other_holders_and_changes_nothing(self, calls: Calls) -> None:
        assert calls.write(create("a"), lease=Lease(b"root", b"one", 5000)) == Committed()
        changes: dict[str, Any] = {
            "events": (b"event",),
            "due": (DueChange(b"m", 5),),
            "indexes": (IndexChange(b"i", b"m", True),),
        }
        for take_ms in (0, 5000):
            refused = calls.write(create("b"), lease=Lease(b"root", b"two", take_ms), **changes)
            assert isinstance(refused, Leased)
            assert 0 < refused.wait_ms <= 5000
        assert calls.get("b") is None
        assert (calls.events(), calls.ripe(10), calls.members(b"i")) == ([], [], [])

    def test_a_lease_stands_on_its_root_in_its_partition_for_those_who_ask(self, calls: Calls) -> None:
        calls.write(lease=Lease(b"root", b"one", 5000))
        assert calls.write(create("own"), lease=Lease(b"root", b"one")) == Committed()
        assert calls.write(create("other root"), lease=Lease(b"roo", b"two")) == Committed()
        assert calls.write(create("more root"), lease=Lease(b"root2", b"two", 5000)) == Committed()
        assert calls.write(create("does not ask")) == Committed()
        assert calls.write(create("k", partition=2), partition=2, lease=Lease(b"root", b"two")) == Committed()
        assert isinstance(calls.write(lease=Lease(b"root", b"two")), Leased)
        assert isinstance(calls.write(lease=Lease(b"root2", b"one")), Leased)

    def test_asking_takes_no_lease(self, calls: Calls) -> None:
        assert calls.write(lease=Lease(b"root", b"one")) == Committed()
        assert calls.write(lease=Lease(b"root", b"two")) == Committed()

    def test_a_lease_is_taken_by_who_conflicts_so_that_the_retry_wins(self, calls: Calls) -> None:
        old = calls.put("a", b"one")
        new = calls.put("a", b"two")
        assert calls.write(update(old, "a", b"x"), lease=Lease(b"root", b"one", 5000)) == Conflict({key("a"): new})
        assert isinstance(calls.write(update(new, "a", b"y", b"writer-2"), lease=Lease(b"root", b"two")), Leased)
        assert calls.write(update(new, "a", b"x"), lease=Lease(b"root", b"one")) == Committed()

    def test_a_lease_ends(self, calls: Calls, clock: list[int]) -> None:
        calls.write(lease=Lease(b"root", b"one", 5000))
        clock[0] += 5 * SECOND_US - self.grain_us
        refused = calls.write(create("a"), lease=Lease(b"root", b"two"))
        assert isinstance(refused, Leased)
        assert 1 <= refused.wait_ms <= -(-self.grain_us // 1000)
        clock[0] += self.grain_us
        assert calls.write(create("a"), lease=Lease(b"root", b"two", 5000)) == Committed()
        assert isinstance(calls.write(lease=Lease(b"root", b"one")), Leased)

    def test_a_holder_prolongs_its_lease_and_never_shortens_it(self, calls: Calls, clock: list[int]) -> None:
        calls.write(lease=Lease(b"root", b"one", 5000))
        clock[0] += 3 * SECOND_US
        calls.write(lease=Lease(b"root", b"one", 8000))
        calls.write(lease=Lease(b"root", b"one", 10))
        clock[0] += 8 * SECOND_US - self.grain_us
        assert isinstance(calls.write(lease=Lease(b"root", b"two")), Leased)
        clock[0] += self.grain_us
        assert calls.write(lease=Lease(b"root", b"two")) == Committed()

    def test_a_shorter_lease_on_another_root_ends_no_longer_one(self, calls: Calls, clock: list[int]) -> None:
        calls.write(lease=Lease(b"long", b"one", 8000))
        calls.write(lease=Lease(b"short", b"one", 2000))
        clock[0] += 3 * SECOND_US
        assert calls.write(lease=Lease(b"short", b"two")) == Committed()
        assert isinstance(calls.write(lease=Lease(b"long", b"two")), Leased)

    def test_a_lease_binds_later_transactions_of_its_call(self, calls: Calls) -> None:
        first, second, third, fourth = create("a"), create("b"), create("c"), create("d")
        outcome = calls.commit(
            1,
            [
                Transaction((first,), events=(b"a",), lease=Lease(b"root", b"one", 5000)),
                Transaction((second,), events=(b"b",), lease=Lease(b"root", b"two")),
                Transaction((third,), events=(b"c",), lease=Lease(b"root", b"one")),
                Transaction((fourth,), events=(b"d",)),
            ],
        )
        assert not isinstance(outcome, StoreFailure)
        assert [type(one) for one in outcome] == [Committed, Leased, Committed, Committed]
        assert calls.get("b") is None
        assert [item.event for item in calls.events()] == [b"a", b"c", b"d"]

    # Due set

    def test_due_has_one_time_for_a_member(self, calls: Calls) -> None:
        def change(member: bytes, at_us: int | None) -> None:
            calls.write(due=(DueChange(member, at_us),))

        change(b"a", 30)
        change(b"b", 20)
        change(b"c", 40)
        assert calls.ripe(19) == []
        assert calls.ripe(30) == [DueItem(b"b", 20), DueItem(b"a", 30)]
        assert calls.ripe(30) == [DueItem(b"b", 20), DueItem(b"a", 30)], "asking must remove nothing"
        change(b"a", 10)
        assert calls.ripe(30) == [DueItem(b"a", 10), DueItem(b"b", 20)]
        assert calls.ripe(30, limit=1) == [DueItem(b"a", 10)]
        change(b"b", 50)
        assert calls.ripe(100) == [DueItem(b"a", 10), DueItem(b"c", 40), DueItem(b"b", 50)]
        change(b"a", None)
        change(b"never there", None)
        assert calls.ripe(100) == [DueItem(b"c", 40), DueItem(b"b", 50)]

    def test_the_last_of_a_transactions_changes_of_one_member_holds(self, calls: Calls) -> None:
        calls.write(due=(DueChange(b"a", 10), DueChange(b"a", 20), DueChange(b"b", 10), DueChange(b"b", None)))
        changes = [(b"a", True), (b"a", False), (b"b", False), (b"b", True)]
        calls.write(indexes=tuple(IndexChange(b"i", member, present) for member, present in changes))
        assert calls.ripe(100) == [DueItem(b"a", 20)]
        assert calls.members(b"i") == [b"b"]

    def test_due_times_reach_over_centuries(self, calls: Calls) -> None:
        far_us = 253_402_300_799_999_999  # the last microsecond of the year 9999
        calls.write(due=(DueChange(b"far", far_us), DueChange(b"zero", 0)))
        assert calls.ripe(far_us - 1) == [DueItem(b"zero", 0)]
        assert calls.ripe(far_us) == [DueItem(b"zero", 0), DueItem(b"far", far_us)]

    # Indexes

    def test_an_index_is_paged_in_octet_order(self, calls: Calls) -> None:
        members = [b"\xff", b"b", b"a", b"ba", b"\x00"]
        calls.write(indexes=tuple(IndexChange(b"i", member, True) for member in members))
        calls.write(indexes=(IndexChange(b"i", b"a", True), IndexChange(b"j", b"x", True)))
        assert calls.members(b"i", limit=2) == [b"\x00", b"a"]
        assert calls.members(b"i", after=b"a", limit=2) == [b"b", b"ba"]
        assert calls.members(b"i", after=b"b") == [b"ba", b"\xff"]
        assert calls.members(b"i", after=b"aa") == [b"b", b"ba", b"\xff"], "`after` need not be a member"
        assert calls.members(b"i", after=b"\xff") == []
        assert calls.members(b"unknown") == []

    def test_index_changes_may_be_repeated(self, calls: Calls) -> None:
        for present, members in ((True, [b"a"]), (True, [b"a"]), (False, []), (False, [])):
            calls.write(indexes=(IndexChange(b"i", b"a", present),))
            assert calls.members(b"i") == members

    # Outbox (LEDGER §9)

    def test_the_outbox_is_paged_in_order(self, calls: Calls) -> None:
        calls.write(events=(b"1", b"2"))
        calls.write(events=(b"3",))
        assert calls.events() == [OutboxItem(1, b"1"), OutboxItem(2, b"2"), OutboxItem(3, b"3")]
        assert calls.events(after=1, limit=1) == [OutboxItem(2, b"2")]
        assert calls.events(after=3) == []

    def test_the_length_of_the_outbox_counts_what_waits_in_all_partitions(self, calls: Calls) -> None:
        assert calls.outbox_length() == 0
        calls.commit(PARTITION, [Transaction((), (b"1", b"2", b"3"))])
        calls.commit(PARTITION + 1, [Transaction((), (b"4",))])
        assert calls.outbox_length() == 4
        calls.trim(PARTITION, 2)
        assert calls.outbox_length() == 2
        calls.trim(PARTITION, 3)
        calls.trim(PARTITION + 1, 1)
        assert calls.outbox_length() == 0

    def test_a_trim_forgets_up_to_and_including(self, calls: Calls) -> None:
        calls.write(events=(b"1", b"2", b"3"))
        assert calls.trim(1, 2) is None
        assert calls.events() == [OutboxItem(3, b"3")]
        assert calls.trim(1, 2) is None
        assert calls.trim(1, 0) is None
        assert calls.events() == [OutboxItem(3, b"3")]

    def test_a_sequence_number_is_never_used_again(self, calls: Calls) -> None:
        calls.write(events=(b"1", b"2", b"3"))
        assert calls.trim(1, 1000) is None
        assert calls.events() == []
        calls.write(events=(b"4",))
        assert calls.events() == [OutboxItem(4, b"4")]

    # Calls that break the contract are our bug: they raise, complete never, and leave nothing queued

    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_commit_raises_and_applies_nothing(self, store: Store, calls: Calls, name: str) -> None:
        broken, message = BROKEN[name]
        good = [Transaction((create("good"),))] if 0 < len(broken) < MAX_TRANSACTIONS_PER_COMMIT else []
        with pytest.raises(ValueError, match=message):
            store.commit(1, [*good, *broken], never)
        assert calls.get("good") is None

    def test_a_page_has_a_largest_size(self, store: Store) -> None:
        for limit in (0, MAX_PAGE + 1):
            with pytest.raises(ValueError, match=f"page of {limit}"):
                store.scan(1, b"i", b"", limit, never)
            with pytest.raises(ValueError, match=f"page of {limit}"):
                store.due(1, 0, limit, never)
            with pytest.raises(ValueError, match=f"page of {limit}"):
                store.outbox(1, 0, limit, never)
        with pytest.raises(ValueError, match="read of 1001 keys"):
            store.read(1, [key("k")] * (MAX_PAGE + 1), never)

    @pytest.mark.parametrize("partition", [-1, 64])
    def test_a_partition_that_is_not_there_is_refused(self, store: Store, partition: int) -> None:
        refused: list[Callable[[], None]] = [
            lambda: store.read(partition, [], never),
            lambda: store.commit(partition, [Transaction(())], never),
            lambda: store.scan(partition, b"i", b"", 1, never),
            lambda: store.due(partition, 0, 1, never),
            lambda: store.outbox(partition, 0, 1, never),
            lambda: store.trim(partition, 0, never),
        ]
        for call in refused:
            with pytest.raises(ValueError, match=f"partition {partition}"):
                call()

    def test_a_key_of_another_partition_is_not_read(self, store: Store) -> None:
        with pytest.raises(ValueError, match="not of partition 1"):
            store.read(1, [key("k"), key("k", partition=2)], never)
