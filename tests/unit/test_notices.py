"""Changes that a gateway must hear of: committed with the change, handed to whom holds the peer, until heard."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from balance.account import AccountStatus
from ocs.charging import subscriber_operations
from ocs.charging.account_operations import adjust, set_status
from ocs.charging.notice_documents import NoticeKind
from ocs.charging.notices import LAST_RETRY_US, OUTSTANDING_US, retry_us
from ocs.charging.requests import Identity, Result
from ocs.charging.settings import ChargingSettings
from tests.support.books import audit
from tests.support.charging_kit import CENT, MIB, want
from tests.support.workers_kit import Worker, World, partitions_of

GATEWAY = "gw1.example.net"
ON = ChargingSettings(notices=True)
TOPPED_UP, CHANGED, ABORT = NoticeKind.TOPPED_UP, NoticeKind.CHANGED, NoticeKind.ABORT


def world_of(workers: int = 2, settings: ChargingSettings = ON) -> World:
    world = World(workers, settings)
    world.beat(2.2)
    return world


def denied(worker: Worker, name: str = "a", sessions: int = 1) -> Identity:
    """An account without money, and sessions that were denied quota and wait for a top-up."""
    who = worker.account(name, plan="d10-300s")
    for number in range(sessions):
        outcome = worker.initial(who, want(), session=f"{name}{number}")
        assert outcome.services[0].result is Result.CREDIT_LIMIT_REACHED
    return who


def told(world: World) -> list[list[tuple[str, NoticeKind]]]:
    return [worker.told for worker in world.workers]


def leftovers(world: World) -> list[bytes]:
    """Notices and inboxes in the store."""
    found = []
    for data in world.store._data:
        found += [key for key in data.documents if b":n:" in key]
        found += [member for member in data.due if b":n:" in member]
        found += [name for name, members in data.indexes.items() if name.startswith(b"inbox:") and members]
    return found


def holder_elsewhere(world: World) -> Worker:
    """The worker that does not sweep the account's partition."""
    return next(worker for worker in world.workers if 5 not in partitions_of(worker))


def test_a_top_up_is_told_by_the_worker_that_holds_the_peer() -> None:
    world = world_of(3)
    one, two, _ = world.workers
    denied(one)
    two.peers.opened(GATEWAY.upper())
    world.beat(1.2)
    one.top_up("a", 100)
    world.beat(3)
    assert told(world) == [[], [("a0", TOPPED_UP)], []]
    assert leftovers(world) == []
    audit(world.store)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_it_is_told_whether_the_holder_sweeps_or_another(elsewhere: bool) -> None:
    world = world_of(2)
    denied(world.workers[0])
    holder = holder_elsewhere(world)
    if not elsewhere:
        (holder,) = [worker for worker in world.workers if worker is not holder]
    holder.peers.opened(GATEWAY)
    world.beat(1.2)
    world.workers[0].top_up("a", 100)
    world.beat(3)
    assert holder.told == [("a0", TOPPED_UP)] and sum(map(len, told(world))) == 1
    assert leftovers(world) == []


def test_it_is_told_within_three_seconds() -> None:
    world = world_of(2)
    denied(world.workers[0])
    holder = holder_elsewhere(world)
    holder.peers.opened(GATEWAY)
    world.beat(2)
    for offset in range(5):
        world.beat(0.2 * offset)
        holder.told.clear()
        world.workers[0].top_up("a", 1)
        world.beat(3)
        assert len(holder.told) == 1
        # Denied again: the money does not last for a step.
        world.workers[0].update(offset + 1, want(), session="a0")


def test_a_thousand_unanswered_notices_do_not_stop_the_turns() -> None:
    world = world_of(2)
    denied(world.workers[0])
    holder = holder_elsewhere(world)
    holder.peers.opened(GATEWAY)
    holder.desk._delivering.update(b"{p001}:n:s:%d" % number for number in range(1000))
    world.beat(1.2)
    world.workers[0].top_up("a", 100)
    world.beat(3)
    assert holder.told == [("a0", TOPPED_UP)]


def test_ten_top_ups_in_a_second_are_one_notice() -> None:
    """CC-166."""
    world = world_of(2)
    one, two = world.workers
    denied(one)
    two.peers.opened(GATEWAY)
    world.beat(1.2)
    for _ in range(10):
        one.top_up("a", 1)
        world.beat(0.2 if _ % 3 == 0 else 0)
    world.beat(20)
    assert told(world) == [[], [("a0", TOPPED_UP)]]
    assert leftovers(world) == []


def test_at_most_one_is_outstanding_and_a_later_change_is_told_after_it() -> None:
    """CC-166."""
    world = world_of(2)
    one, two = world.workers
    denied(one)
    two.peers.opened(GATEWAY)
    two.unanswered = []
    world.beat(1.2)
    one.top_up("a", 1)
    world.beat(3)
    assert len(two.told) == 1
    one.top_up("a", 1)
    world.beat(4)
    assert len(two.told) == 1, "the first is outstanding"
    two.unanswered.pop()(True)
    world.beat(3)
    assert len(two.told) == 2
    two.unanswered.pop()(True)
    world.beat(30)
    assert len(two.told) == 2 and leftovers(world) == []


def test_nobody_else_is_asked_while_one_is_outstanding() -> None:
    world = world_of(2)
    one, two = world.workers
    denied(one)
    two.peers.opened(GATEWAY)
    two.unanswered = []
    world.beat(1.2)
    one.top_up("a", 1)
    world.beat(3)
    assert len(two.told) == 1
    two.peers.closed(GATEWAY)
    one.peers.opened(GATEWAY)
    world.beat(1.2)
    one.top_up("a", 1)
    world.beat(3)
    assert one.told == [], "the gateway may still answer the first"
    world.beat(OUTSTANDING_US / 1e6)
    assert one.told == [("a0", TOPPED_UP)]


def test_who_answers_twice_is_heard_once() -> None:
    world = world_of(1)
    (one,) = world.workers
    denied(one)
    one.peers.opened(GATEWAY)
    one.unanswered = []
    world.beat(1.2)
    one.top_up("a", 1)
    world.beat(3)
    (done,) = one.unanswered
    done(True)
    done(True)
    assert one.desk.delivered == 1


def test_a_gateway_that_does_not_answer_is_told_again_ever_more_seldom() -> None:
    world = world_of(1)
    (one,) = world.workers
    denied(one)
    one.peers.opened(GATEWAY)

    def silence(session_id: str, kind: NoticeKind, done: Callable[[bool], None]) -> None:
        one.told.append((session_id, kind))
        done(False)

    one.desk.deliver = silence
    world.beat(1.2)
    one.top_up("a", 1)
    times: list[float] = []
    world.beat(100, lambda: times.append(world.now_us / 1e6) if len(times) < len(one.told) else None)
    pauses = [round(b - a) for a, b in itertools.pairwise(times)]
    assert pauses == [10, 10, 10, 16, 32]
    # Its session ends, and so does this.
    one.terminate(1, session="a0")
    world.beat(70)
    assert len(one.told) == 6 and leftovers(world) == []


def test_nobody_holds_the_peer_until_it_comes_back() -> None:
    world = world_of(2)
    one, two = world.workers
    denied(one)
    one.top_up("a", 1)
    world.beat(30)
    assert told(world) == [[], []] and one.desk.homeless + two.desk.homeless == 4  # after 0, 2, 6 and 14 s
    two.peers.opened(GATEWAY)
    world.beat(10)
    assert told(world) == [[], [("a0", TOPPED_UP)]]
    assert leftovers(world) == []


def test_without_anybody_it_ends_with_the_session() -> None:
    world = world_of(1)
    (one,) = world.workers
    denied(one)
    one.top_up("a", 1)
    world.beat(5)
    assert leftovers(world)
    one.terminate(1, session="a0")
    world.beat(10)
    assert leftovers(world) == []


def test_a_worker_that_dies_with_a_notice_is_followed_by_another() -> None:
    world = world_of(2)
    denied(world.workers[0])
    holder = holder_elsewhere(world)
    (other,) = [worker for worker in world.workers if worker is not holder]
    holder.peers.opened(GATEWAY)
    world.beat(1.2)
    other.top_up("a", 1)
    while not any(name.startswith(b"inbox:") for name in world.store._data[0].indexes):
        other.beat()
        world.now_us += 200_000
    holder.alive = False
    other.peers.opened(GATEWAY)
    world.beat(OUTSTANDING_US / 1e6 + 2)
    assert (holder.told, other.told) == ([], [("a0", TOPPED_UP)])
    assert leftovers(world) == []


def test_healthy_quota_is_not_disturbed_by_a_top_up_but_by_a_change_of_plan() -> None:
    """CC-161."""
    world = world_of(1)
    (one,) = world.workers
    one.peers.opened(GATEWAY)
    who = one.account("rich", cents=10_000)
    one.initial(who, want(octets=MIB), session="r")
    one.top_up("rich", 100)
    world.beat(5)
    assert one.told == []
    change = subscriber_operations.change_subscriber(one.engine, one.order(), "sub-rich", plan="d10-300s")
    one.run(change)
    world.beat(5)
    assert one.told == [("r", CHANGED)]
    assert leftovers(world) == []


def suspend(worker: Worker) -> None:
    worker.run(set_status(worker.engine, worker.order(), "a", AccountStatus.SUSPENDED))


def suspend_subscriber(worker: Worker) -> None:
    order = worker.order()
    worker.run(subscriber_operations.change_subscriber(worker.engine, order, "sub-a", status=AccountStatus.SUSPENDED))


def remove(worker: Worker) -> None:
    worker.run(subscriber_operations.remove_subscriber(worker.engine, worker.order(), "sub-a"))


def give(worker: Worker) -> None:
    worker.run(adjust(worker.engine, worker.order(), "a", 0, 5 * CENT))


@pytest.mark.parametrize(
    ("change", "kind"),
    [(suspend, CHANGED), (suspend_subscriber, CHANGED), (remove, ABORT), (give, TOPPED_UP)],
)
def test_what_is_told(change: Callable[[Worker], None], kind: NoticeKind) -> None:
    world = world_of(1)
    (one,) = world.workers
    one.peers.opened(GATEWAY)
    denied(one)
    change(one)
    world.beat(5)
    assert one.told == [("a0", kind)] and leftovers(world) == []


def test_the_sessions_of_another_subscriber_of_the_account_are_left_alone() -> None:
    world = world_of(1)
    (one,) = world.workers
    one.peers.opened(GATEWAY)
    denied(one)
    other = Identity("e164", "447700909999")
    one.run(subscriber_operations.add_subscriber(one.engine, one.order(), "second", "a", "d10", [other]))
    one.initial(other, want(), session="theirs")
    suspend_subscriber(one)
    world.beat(5)
    assert one.told == [("a0", CHANGED)]
    # Changes of both within a second concern all.
    one.told.clear()
    change = subscriber_operations.change_subscriber
    for name in ("sub-a", "second"):
        one.run(change(one.engine, one.order(), name, plan="d10-300s"))
    world.beat(5)
    assert sorted(one.told) == [("a0", CHANGED), ("theirs", CHANGED)]


def test_an_account_with_many_sessions_is_walked_page_by_page() -> None:
    world = world_of(2)
    one, two = world.workers
    two.peers.opened(GATEWAY)
    denied(one, sessions=150)
    one.top_up("a", 1)
    world.beat(10)
    assert sorted(two.told) == sorted((f"a{number}", TOPPED_UP) for number in range(150))
    assert leftovers(world) == []


def test_a_change_during_the_walk_begins_it_anew() -> None:
    world = world_of(1)
    (one,) = world.workers
    one.peers.opened(GATEWAY)
    denied(one, sessions=100)
    one.top_up("a", 1)
    world.now_us += 1_000_000
    key = b"{p005}:n:a:a"
    one.run(one.desk.handle(5, key))
    suspend(one)
    world.beat(5)
    assert sorted(session for session, kind in one.told if kind is CHANGED) == sorted(f"a{n}" for n in range(100))
    assert leftovers(world) == []


def test_a_closed_session_hears_nothing() -> None:
    """CC-166."""
    world = world_of(1)
    (one,) = world.workers
    one.peers.opened(GATEWAY)
    denied(one, sessions=2)
    one.top_up("a", 1)
    one.terminate(1, session="a0")
    world.beat(5)
    assert one.told == [("a1", TOPPED_UP)] and leftovers(world) == []


def test_an_account_without_sessions_leaves_nothing_to_do() -> None:
    world = world_of(1)
    one = world.workers[0]
    one.account(cents=5)
    one.top_up("a", 1)
    assert leftovers(world) == []


def test_switched_off_nothing_is_written_and_what_was_is_cleared() -> None:
    world = world_of(1)
    (one,) = world.workers
    one.peers.opened(GATEWAY)
    denied(one)
    one.top_up("a", 1)
    assert leftovers(world)
    one.engine.settings = ChargingSettings()
    one.top_up("a", 1)
    world.beat(5)
    assert leftovers(world) == [] and one.told == []


def test_a_port_that_raises_stops_nothing() -> None:
    world = world_of(1)
    (one,) = world.workers
    one.peers.opened(GATEWAY)
    denied(one, sessions=2)

    def fail(session_id: str, kind: NoticeKind, done: Callable[[bool], None]) -> None:
        if session_id == "a0":
            raise RuntimeError("a bug")
        Worker.deliver(one, session_id, kind, done)

    one.desk.deliver = fail
    one.top_up("a", 1)
    world.beat(4)
    assert one.told == [("a1", TOPPED_UP)]
    assert [str(error) for error in one.raised] == ["a bug"]
    one.desk.deliver = one.deliver
    world.beat(12)
    assert one.told == [("a1", TOPPED_UP), ("a0", TOPPED_UP)]


def test_pauses_grow_to_a_limit() -> None:
    assert [retry_us(tries) // 1_000_000 for tries in (0, 1, 2, 8, 9, 1000)] == [1, 2, 4, 256, 300, 300]
    assert LAST_RETRY_US == 300_000_000


def test_two_sweepers_of_one_partition_hand_over_once() -> None:
    world = world_of(2)
    one, two = world.workers
    denied(one)
    one.peers.opened(GATEWAY)
    world.beat(1.2)
    one.unanswered = []
    one.top_up("a", 1)
    world.now_us += 1_000_000
    for worker in (one, two, one, two):
        handled: list[int] = []
        worker.sweeper.sweep(handled.append)
    world.beat(0.2)
    assert told(world) == [[("a0", TOPPED_UP)], []]
