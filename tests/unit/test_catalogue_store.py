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
    Secret,
    activate,
    load,
    read_texts,
    store_secret,
)
from ocs.charging.workspace import encode_document
from tariffs.loader import load as compile_text
from tests.support.charging_kit import CATALOGUE_PATH, Kit

TEXT = CATALOGUE_PATH.read_text()
_numbers = itertools.count(1)


def nonce() -> bytes:
    return next(_numbers).to_bytes(8, "big")


def make_current(kit: Kit, text: str) -> int:
    version: int = kit.run(activate(text, "c.toml", nonce, 7, "tester", "a test"))
    return version


def test_versions_count_up_and_all_stay_readable() -> None:
    kit = Kit()
    assert kit.run(read_texts())[0].current == 0
    assert [make_current(kit, TEXT), make_current(kit, TEXT + "# two\n")] == [1, 2]
    pointer, texts = kit.run(read_texts())
    assert (pointer.current, pointer.versions) == (2, (1, 2))
    assert (texts[1].text, texts[2].text, texts[2].who) == (TEXT, TEXT + "# two\n", "tester")
    catalogues = load(compile_text, texts, pointer.current)
    assert (catalogues.current.version, catalogues.version(1).version) == (2, 1)


def test_the_current_text_again_makes_no_version() -> None:
    kit = Kit()
    assert [make_current(kit, TEXT), make_current(kit, TEXT)] == [1, 1]
    assert kit.run(read_texts())[0].versions == (1,)


def test_of_two_activations_at_the_same_moment_one_is_refused() -> None:
    kit = Kit()
    make_current(kit, TEXT)
    saga: Any = activate(TEXT + "# mine\n", "c.toml", nonce, 7, "tester", "a test")
    # Drive it up to its commit by hand, let another one win, then commit.
    step = next(saga)
    while not hasattr(step, "transaction"):
        found: list[Any] = []
        kit.store.read(step.wanted[0][0], [key for _, key in step.wanted], found.append)
        step = saga.send(found[0])
    make_current(kit, TEXT + "# theirs\n")
    verdicts: list[Any] = []
    kit.store.commit(step.partition, (step.transaction,), verdicts.append)
    with pytest.raises(CatalogueConflict, match="same moment"):
        saga.send(verdicts[0][0])
    pointer, texts = kit.run(read_texts())
    assert texts[pointer.current].text == TEXT + "# theirs\n"


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
        kit.run(read_texts())
