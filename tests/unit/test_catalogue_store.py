"""Catalogue versions and the store's secret, as sagas over the memory store."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from balance.store import Transaction, Write
from ocs.charging.catalogue_store import (
    META_PARTITION,
    POINTER_KEY,
    CatalogueConflict,
    CataloguePointer,
    Secret,
    publish,
    read_pointer,
    read_texts,
    store_secret,
    switch,
)
from ocs.charging.operations import OperationRefused, Order
from ocs.charging.workspace import encode_document
from tests.support.charging_kit import CATALOGUE_PATH, Kit

TEXT = CATALOGUE_PATH.read_text()
_numbers = itertools.count(1)


def nonce() -> bytes:
    return next(_numbers).to_bytes(8, "big")


def published(kit: Kit, text: str, key: str | None = None) -> tuple[int, bool]:
    """(version, repeated)."""
    order = Order(key or f"key-{next(_numbers)}", "tester", "a test")
    found = kit.run(publish(kit.engine, order, text, "c.toml"))
    return found.version, found.repeated


def make_current(kit: Kit, text: str, at_us: int = 0) -> int:
    version, _ = published(kit, text)
    kit.run(switch(kit.engine, version, kit.now_us, at_us))
    return version


def pointer_of(kit: Kit) -> CataloguePointer:
    pointer: CataloguePointer = kit.run(read_pointer())[0]
    return pointer


def test_versions_count_up_and_all_stay_readable() -> None:
    kit = Kit()
    assert pointer_of(kit).current == 0
    assert [make_current(kit, TEXT), make_current(kit, TEXT + "# two\n")] == [1, 2]
    pointer = pointer_of(kit)
    assert (pointer.current, pointer.versions, pointer.published) == (2, (1, 2), 0)
    texts = kit.run(read_texts(pointer.versions))
    assert (texts[1].text, texts[2].text, texts[2].who) == (TEXT, TEXT + "# two\n", "tester")


def test_many_texts_are_read_some_at_a_time() -> None:
    kit = Kit()
    for number in range(40):
        published(kit, f"{TEXT}# {number}\n")
    texts = kit.run(read_texts(pointer_of(kit).versions))
    assert [texts[version].text for version in range(1, 41)] == [f"{TEXT}# {number}\n" for number in range(40)]


def test_what_is_published_is_not_current() -> None:
    kit = Kit()
    make_current(kit, TEXT)
    assert published(kit, TEXT + "# two\n") == (2, False)
    pointer = pointer_of(kit)
    assert (pointer.current, pointer.published, pointer.versions) == (1, 2, (1, 2))


def test_the_current_text_again_makes_no_version() -> None:
    kit = Kit()
    assert make_current(kit, TEXT) == 1
    assert published(kit, TEXT) == (1, False)
    assert pointer_of(kit) == CataloguePointer(1, (1,))


def test_a_published_text_again_goes_on_with_its_version() -> None:
    kit = Kit()
    make_current(kit, TEXT)
    assert [published(kit, TEXT + "# two\n"), published(kit, TEXT + "# two\n")] == [(2, False), (2, False)]
    assert pointer_of(kit).versions == (1, 2)


def test_a_repeat_under_its_key_makes_nothing_and_names_the_same_version() -> None:
    kit = Kit()
    assert published(kit, TEXT, "k") == (1, False)
    kit.run(switch(kit.engine, 1, kit.now_us, 0))
    make_current(kit, TEXT + "# two\n")
    assert published(kit, TEXT, "k") == (1, True)
    assert pointer_of(kit).versions == (1, 2)
    with pytest.raises(OperationRefused, match="'k' was used for another change"):
        published(kit, TEXT + "# three\n", "k")


def test_a_switch_counts_from_its_time() -> None:
    kit = Kit()
    make_current(kit, TEXT)
    make_current(kit, TEXT + "# two\n", kit.now_us + 1_000_000)
    pointer = pointer_of(kit)
    assert [pointer.current_at(kit.now_us + later) for later in (0, 999_999, 1_000_000)] == [1, 1, 2]
    # Another one before that time: until its own, what was current stays so.
    make_current(kit, TEXT + "# three\n", kit.now_us + 2_000_000)
    pointer = pointer_of(kit)
    assert [pointer.current_at(kit.now_us + later) for later in (0, 1_000_000, 2_000_000)] == [1, 1, 3]


def test_a_switch_again_changes_nothing() -> None:
    kit = Kit()
    make_current(kit, TEXT)
    before = kit.run(read_pointer())
    kit.run(switch(kit.engine, 1, kit.now_us, kit.now_us + 5))
    assert kit.run(read_pointer()) == before


def test_what_was_overtaken_by_another_publication_is_not_made_current() -> None:
    kit = Kit()
    make_current(kit, TEXT)
    published(kit, TEXT + "# two\n")
    published(kit, TEXT + "# three\n")
    with pytest.raises(CatalogueConflict, match="version 2 gave way to version 3"):
        kit.run(switch(kit.engine, 2, kit.now_us, 0))
    assert pointer_of(kit).current == 1


def interrupted(kit: Kit, saga: Any, meanwhile: str) -> None:
    """Drive a saga up to its commit by hand, let another activation win, then commit."""
    step = next(saga)
    while not hasattr(step, "transaction"):
        found: list[Any] = []
        kit.store.read(META_PARTITION, [key for _, key in step.wanted], found.append)
        step = saga.send(found[0])
    make_current(kit, meanwhile)
    verdicts: list[Any] = []
    kit.store.commit(step.partition, (step.transaction,), verdicts.append)
    saga.send(verdicts[0][0])


def test_of_two_publications_at_the_same_moment_one_is_refused() -> None:
    kit = Kit()
    make_current(kit, TEXT)
    saga = publish(kit.engine, kit.order(), TEXT + "# mine\n", "c.toml")
    with pytest.raises(CatalogueConflict, match="same moment"):
        interrupted(kit, saga, TEXT + "# theirs\n")
    pointer = pointer_of(kit)
    assert kit.run(read_texts((pointer.current,)))[pointer.current].text == TEXT + "# theirs\n"


def test_a_switch_and_a_publication_at_the_same_moment_do_not_mix() -> None:
    kit = Kit()
    make_current(kit, TEXT)
    version, _ = published(kit, TEXT + "# mine\n")
    with pytest.raises(CatalogueConflict, match="same moment"):
        interrupted(kit, switch(kit.engine, version, kit.now_us, 0), TEXT + "# theirs\n")
    pointer = pointer_of(kit)
    assert (pointer.current, pointer.published) == (3, 0)


def test_the_secret_is_made_once() -> None:
    kit = Kit()
    first, second = Secret(b"1" * 32, 100), Secret(b"2" * 32, 200)
    assert kit.run(store_secret(first, nonce())) == first
    assert kit.run(store_secret(second, nonce())) == first


def test_a_pointer_of_another_schema_is_not_read_as_one() -> None:
    kit = Kit()
    strange = encode_document(None, nonce(), 99, Secret(b"", 0))
    kit.store.commit(META_PARTITION, (Transaction((Write(POINTER_KEY, None, strange),)),), lambda outcome: None)
    with pytest.raises(Exception, match="schema 99, expected 21"):
        kit.run(read_pointer())
