"""A catalogue version on its way into all workers: loaded by each, current for all at the same time (LEDGER §11)."""

from __future__ import annotations

from typing import Any

import pytest

from ocs.charging.catalogue_rollout import AHEAD_US, CatalogueBlocked, readiness
from ocs.charging.catalogue_store import publish, switch
from ocs.charging.pricing import CatalogueNotLoaded, Catalogues
from ocs.charging.registry import LEASE_S
from ocs.charging.requests import ChargingRequest, Outcome, RequestKind, Result
from tests.support.charging_kit import CATALOGUE_PATH, DATA, MIB, want
from tests.support.workers_kit import Worker, World

TEXT = CATALOGUE_PATH.read_text()
SECOND_TEXT = TEXT + "\n# two\n"


def publish_by(worker: Worker, text: str) -> int:
    version: int = worker.run(publish(worker.engine, worker.order(), text, "c.toml")).version
    return version


def ready_by(worker: Worker, version: int) -> list[str]:
    return [one.worker_id for one in readiness(worker.run(worker.registry.look()), version).ready]


def check(worker: Worker, version: int) -> bool:
    return readiness(worker.run(worker.registry.look()), version).check(version)


def versions(world: World) -> list[int]:
    return [worker.engine.catalogues.current.version for worker in world.workers if worker.alive]


def world_with_version_1(workers: int = 2) -> World:
    world = World(workers)
    for worker in world.workers:
        worker.follow_catalogues()
    publish_by(world.workers[0], TEXT)
    world.beat(1)
    world.workers[0].run(switch(world.workers[0].engine, 1, world.now_us, world.now_us))
    world.beat(1)
    assert versions(world) == [1] * workers
    return world


def test_what_is_published_is_loaded_by_all_and_used_by_none() -> None:
    world = world_with_version_1(3)
    version = publish_by(world.workers[0], SECOND_TEXT)
    assert ready_by(world.workers[0], version) == []
    world.beat(0.4)
    assert ready_by(world.workers[0], version) == ["worker0", "worker1", "worker2"]
    assert check(world.workers[0], version)
    assert versions(world) == [1, 1, 1]


def test_all_switch_at_the_time_that_was_set() -> None:
    world = world_with_version_1(3)
    version = publish_by(world.workers[0], SECOND_TEXT)
    world.beat(0.4)
    at_us = world.now_us + AHEAD_US
    world.workers[0].run(switch(world.workers[0].engine, version, world.now_us, at_us))
    told: list[tuple[int, list[int]]] = []
    world.beat(2, lambda: told.append((world.now_us, versions(world))))
    before = [seen for now_us, seen in told if now_us < at_us]
    after = [seen for now_us, seen in told if now_us >= at_us]
    assert len(before) >= 2 and before == [[1, 1, 1]] * len(before)
    assert len(after) >= 2 and after == [[2, 2, 2]] * len(after)
    assert [one.current for one in world.workers[0].registry.members] == [2, 2, 2]


def test_the_time_of_a_switch_to_come_is_known_beforehand() -> None:
    world = world_with_version_1(1)
    (worker,) = world.workers
    version = publish_by(worker, SECOND_TEXT)
    world.beat(0.2)
    worker.run(switch(worker.engine, version, world.now_us, world.now_us + AHEAD_US))
    world.beat(0.2)
    assert worker.follower is not None
    assert worker.follower.switches_in_us() == AHEAD_US - 200_000
    world.now_us += AHEAD_US
    worker.follower.adopt()
    assert (versions(world), worker.follower.switches_in_us()) == ([2], 0)


def test_a_worker_that_cannot_load_it_is_named_with_its_reason() -> None:
    world = world_with_version_1(2)
    world.workers[1].cannot_load = "unknown field `roaming`"
    version = publish_by(world.workers[0], SECOND_TEXT)
    world.beat(0.4)
    complaint = (
        r"version 2 is not activated: worker 1 \(process 1001 on host\) cannot load it: .*unknown field `roaming`"
    )
    with pytest.raises(CatalogueBlocked, match=complaint):
        check(world.workers[0], version)
    follower = world.workers[1].follower
    assert follower is not None
    (problem,) = follower.problems()
    assert "version 2 does not load" in problem and "roaming" in problem
    # It is not tried again and again, and something else can be activated.
    world.workers[1].cannot_load = ""
    version = publish_by(world.workers[0], TEXT + "\n# three\n")
    world.beat(0.4)
    assert check(world.workers[0], version)
    world.workers[0].run(switch(world.workers[0].engine, version, world.now_us, world.now_us))
    world.beat(0.2)
    assert versions(world) == [3, 3] and follower.problems() == []
    (warning,) = follower.warnings()
    assert "version 2 does not load" in warning


def test_a_worker_that_takes_its_time_is_waited_for_and_named() -> None:
    world = world_with_version_1(2)
    world.workers[1].loads = False
    version = publish_by(world.workers[0], SECOND_TEXT)
    world.beat(2)
    found = readiness(world.workers[0].run(world.workers[0].registry.look()), version)
    assert not found.check(version)
    assert "worker 1 (process 1001 on host) has not loaded it within 8 s" in str(found.refuse(version, 8))
    world.workers[1].loads = True
    world.beat(0.4)
    assert check(world.workers[0], version)


def test_a_dead_worker_is_waited_for_until_its_lease_ends() -> None:
    world = world_with_version_1(2)
    world.workers[1].alive = False
    version = publish_by(world.workers[0], SECOND_TEXT)
    waited = 0.0
    while not check(world.workers[0], version):
        world.beat(0.2)
        waited += 0.2
    assert LEASE_S - 2.2 <= waited <= LEASE_S + 0.2


def test_a_worker_that_starts_is_waited_for_from_its_entry_on() -> None:
    world = world_with_version_1(1)
    version = publish_by(world.workers[0], SECOND_TEXT)
    world.beat(0.4)
    assert check(world.workers[0], version)
    late = world.add()
    late.follow_catalogues()
    late.run(late.registry.renew())
    assert not check(world.workers[0], version), "it is there, and has loaded nothing yet"
    world.beat(0.4)
    assert check(world.workers[0], version)


def test_a_catalogue_of_a_later_release_sells_nothing_here() -> None:
    world = world_with_version_1(1)
    late = world.add()
    late.follow_catalogues()
    late.cannot_load = "unknown field"
    world.beat(0.4)
    assert versions(world) == [1, 0]


def charge(worker: Worker, kind: RequestKind, number: int, *services: Any, **more: Any) -> list[Any]:
    """Where the answer will be."""
    answers: list[Any] = []
    request = ChargingRequest("s", kind, number, "gw", "net", DATA, services, more.get("who", ()))
    worker.engine.charge(request, worker.monotonic() + 2, answers.append)
    return answers


def sessions_ahead() -> tuple[World, Worker]:
    """A session that one worker opened under a version that the other has not loaded; the one that has not."""
    world = world_with_version_1(2)
    one, two = world.workers
    who = one.account(cents=1000)
    two.loads = False
    publish_by(one, SECOND_TEXT)
    world.beat(0.4)
    # As if the other had come back after its lease had ended.
    one.run(switch(one.engine, 2, world.now_us, world.now_us))
    world.beat(0.2)
    assert versions(world) == [2, 1]
    opened = charge(one, RequestKind.INITIAL, 0, want(), who=(who,))
    assert opened[0].result is Result.SUCCESS
    return world, two


def test_a_session_of_a_version_that_is_not_loaded_waits_for_it() -> None:
    world, two = sessions_ahead()
    before = two.balance()
    answers = charge(two, RequestKind.UPDATE, 1, want(used=MIB))
    assert answers == [] and len(two.engine.parking) == 1
    assert two.balance() == before
    two.loads = True
    world.beat(0.2)
    assert [answer.result for answer in answers] == [Result.SUCCESS]
    assert two.balance() == (990, 100) and len(two.engine.parking) == 0
    # Known by now, the next one does not wait.
    (answer,) = charge(two, RequestKind.UPDATE, 2, want(used=MIB))
    assert isinstance(answer, Outcome)


def test_it_waits_at_most_until_the_deadline_and_nothing_is_changed() -> None:
    world, two = sessions_ahead()
    before = two.balance(), len(two.entries())
    answers = charge(two, RequestKind.UPDATE, 1, want(used=MIB))
    (timer,) = two.later
    world.now_us += 2_000_000
    timer()
    (error,) = answers
    assert isinstance(error, CatalogueNotLoaded) and str(error) == "catalogue version 2 is not loaded"
    assert (two.balance(), len(two.entries())) == before
    assert two.raised == [], "it is no bug, and nobody is woken"
    # Its number was not recorded: the repeat is processed.
    two.loads = True
    world.beat(0.2)
    assert len(answers) == 1
    (outcome,) = charge(two, RequestKind.UPDATE, 1, want(used=MIB))
    assert outcome.result is Result.SUCCESS and two.balance() == (990, 100)


def test_after_its_deadline_it_does_not_wait_at_all() -> None:
    world, two = sessions_ahead()
    answers = charge(two, RequestKind.UPDATE, 1, want(used=MIB))
    world.now_us += 2_000_000
    # Other catalogues, but not the one that it needs: tried again, and too late by now.
    two.engine.use_catalogues(Catalogues({1: two.catalogue}, 1))
    assert len(answers) == 1 and len(two.engine.parking) == 0
