"""Whatever goes wrong around a lane, each of its jobs is told, once: a job that nobody tells is a request that hangs."""

from __future__ import annotations

import msgspec

from balance.ledger import Event
from balance.store import MAX_LEASE_NAME_OCTETS
from ocs.charging import account_operations
from ocs.charging.account_operations import TopUp
from ocs.charging.conductor import MAX_JOBS_PER_COMMIT, Conductor, DeadlinePassed, JobFailed
from ocs.charging.workspace import Workspace
from tests.support.charging_kit import Kit
from tests.unit.test_batching import Turns, creation
from tests.unit.test_conductor import Add, House


def told(jobs: list[Add]) -> list[int]:
    return [len(job.results) for job in jobs]


def test_jobs_behind_a_full_commit_of_late_ones_are_still_done() -> None:
    house = House()
    late = [Add(1, deadline=1.0) for _ in range(MAX_JOBS_PER_COMMIT)]
    first, last = Add(1), Add(10)
    house.submit(first, *late, last)
    house.now = 2.0
    house.let()
    assert {type(job.results[0]) for job in late} == {DeadlinePassed} and told(late) == [1] * len(late)
    assert last.results == [11] and house.posted() == 11 and house.conductor.idle


def test_all_of_a_long_queue_are_told_that_they_are_late() -> None:
    house = House()
    late = [Add(1, deadline=1.0) for _ in range(5 * MAX_JOBS_PER_COMMIT + 3)]
    following = Add(100)
    late[0].then = lambda: house.submit(following)
    house.submit(Add(1), *late)
    house.now = 2.0
    house.let()
    assert told(late) == [1] * len(late) and following.results == [101] and house.conductor.idle


class Unwritable(Add):
    """Leaves an event that cannot be encoded, which shows only when the transaction is built."""

    def apply(self, workspace: Workspace, now_us: int) -> object:
        workspace.event(Event(account="a", at_us=2**80, kind="operation"))
        return super().apply(workspace, now_us)


def test_what_cannot_be_written_fails_its_job_alone() -> None:
    house = House()
    first, before, bad, after = Add(1), Add(10), Unwritable(1000), Add(100)
    house.submit(first, before, bad, after)
    house.let()
    assert (first.results, before.results, after.results) == ([1], [11], [111])
    assert isinstance(bad.results[0], JobFailed) and house.posted() == 111
    assert [type(error) for error in house.reported] == [OverflowError] and house.conductor.idle


def test_a_lone_job_that_cannot_be_written_fails() -> None:
    house, bad = House(), Unwritable(1)
    house.submit(bad)
    house.let()
    assert isinstance(bad.results[0], JobFailed) and house.posted() == 0 and house.conductor.idle


def test_one_that_is_told_and_raises_does_not_keep_the_others_of_its_call_waiting() -> None:
    turns = Turns()
    heard: list[object] = []

    def raising(_outcome: object) -> None:
        raise RuntimeError("a bug")

    turns.batcher.commit(1, creation(1, "a"), raising)
    turns.batcher.commit(1, creation(1, "b"), heard.append)
    turns.end()
    assert len(heard) == 1 and [str(error) for error in turns.reported] == ["a bug"]


def test_an_account_of_a_long_name_is_charged_where_there_are_leases() -> None:
    # 64 characters of four octets each are a valid name, and its key is longer than the name of a lease may be.
    house, job = House(), Add(1, account="\U00020000" * 64)
    assert len(job.account_key) > MAX_LEASE_NAME_OCTETS
    house.conductor = Conductor(
        house.store,
        lambda: 0,
        lambda: house.now,
        lambda _seconds, call: house.later.append(call),
        lambda _job, error: house.reported.append(error),
        lambda: b"nonce-01",
        holder=b"here",
    )
    house.submit(job)
    house.let()
    assert job.results == [1] and not house.reported


def test_an_operation_with_a_reason_that_is_no_text_is_refused_and_the_account_goes_on() -> None:
    kit = Kit()
    kit.account("a", 5)
    results: list[object] = []
    order = kit.order()
    bad = msgspec.structs.replace(order, reason="\udc80")
    kit.engine.run(account_operations.top_up(kit.engine, bad, "a", TopUp(10_000)), 1e12, results.append)
    assert len(results) == 1 and isinstance(results[0], JobFailed)
    kit.top_up("a", 1)
    assert kit.balance() == (6, 0)
