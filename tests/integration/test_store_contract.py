"""Every store obeys one contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from balance.memory_store import MemoryStore
from balance.sqlite_store import SqliteStore
from tests.support.faulty_store import FaultyStore
from tests.support.store_kit import StoreKit


@pytest.fixture
def clock() -> list[int]:
    return [1_772_450_000_000_000]


class TestMemoryStore(StoreKit):
    @pytest.fixture
    def store(self, clock: list[int]) -> MemoryStore:
        return MemoryStore(now_us=lambda: clock[0])


class TestFaultyStoreWithoutFaults(StoreKit):
    @pytest.fixture
    def store(self, clock: list[int]) -> FaultyStore:
        return FaultyStore(MemoryStore(now_us=lambda: clock[0]))


class TestSqliteStore(StoreKit):
    @pytest.fixture
    def store(self, clock: list[int], tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(tmp_path / "store", lambda: clock[0])
        yield store
        store.close()
