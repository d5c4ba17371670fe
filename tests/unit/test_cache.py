"""The cache of documents: a group agrees with one version of its account, or it is not there (LEDGER §1)."""

from __future__ import annotations

from balance.documents import account_key, operation_key, seal, session_key, subscriber_key
from balance.store import Write
from ocs.charging import cache as module
from ocs.charging.cache import DocumentCache, LocatorCache

ACCOUNT, SUBSCRIBER, SESSION = account_key(3, "a"), subscriber_key(3, "u"), session_key(3, "s")
ONE, TWO = b"writer-1", b"writer-2"


def document(nonce: bytes, counter: int, body: bytes = b"\x90") -> bytes:
    return seal(counter.to_bytes(8, "big") + b"previous", nonce, 1, body)


def filled() -> DocumentCache:
    cache = DocumentCache(10)
    cache.read(ACCOUNT, {ACCOUNT: document(ONE, 1), SUBSCRIBER: document(ONE, 5)})
    return cache


def test_what_was_read_is_kept_and_what_is_absent_is_not() -> None:
    cache = DocumentCache(10)
    cache.read(ACCOUNT, {ACCOUNT: document(ONE, 1), SESSION: None})
    assert cache.get(ACCOUNT) == {ACCOUNT: document(ONE, 1)} and cache.documents == 1


def test_reads_at_one_version_of_the_account_add_up() -> None:
    cache = filled()
    cache.read(ACCOUNT, {ACCOUNT: document(ONE, 1), SESSION: document(TWO, 9)})
    assert cache.get(ACCOUNT) == {
        ACCOUNT: document(ONE, 1),
        SUBSCRIBER: document(ONE, 5),
        SESSION: document(TWO, 9),
    }
    assert cache.documents == 3


def test_another_version_of_the_account_drops_what_was_known() -> None:
    # A change of the subscriber bumps the account; who then reads the account without the subscriber must not go on
    # with the old subscriber. Same counter, another writer: another history all the same.
    cache = filled()
    cache.read(ACCOUNT, {ACCOUNT: document(TWO, 1)})
    assert cache.get(ACCOUNT) == {ACCOUNT: document(TWO, 1)} and cache.documents == 1


def test_an_account_that_is_gone_leaves_nothing() -> None:
    cache = filled()
    cache.read(ACCOUNT, {ACCOUNT: None, SUBSCRIBER: document(ONE, 5)})
    assert cache.get(ACCOUNT) is None and cache.documents == 0


def test_a_commit_of_ours_is_taken_over() -> None:
    cache = filled()
    basis = dict(cache.get(ACCOUNT) or {})
    writes = (
        Write(ACCOUNT, basis[ACCOUNT][:16], document(ONE, 2)),
        Write(SESSION, None, document(ONE, 1)),
    )
    cache.wrote(ACCOUNT, basis, writes)
    assert cache.get(ACCOUNT) == {ACCOUNT: document(ONE, 2), SUBSCRIBER: document(ONE, 5), SESSION: document(ONE, 1)}
    assert cache.documents == 3


def test_deleted_documents_and_tombstones_leave_and_operations_never_enter() -> None:
    cache = filled()
    operation = operation_key(3, "o")
    cache.read(ACCOUNT, {ACCOUNT: document(ONE, 1), SESSION: document(ONE, 7), operation: document(ONE, 1)})
    basis = dict(cache.get(ACCOUNT) or {})
    assert operation not in basis
    writes = (
        Write(ACCOUNT, basis[ACCOUNT][:16], document(ONE, 2)),
        Write(SESSION, basis[SESSION][:16], document(ONE, 8), 3600),
        Write(SUBSCRIBER, basis[SUBSCRIBER][:16], None),
        Write(operation, None, document(ONE, 1), 3600),
    )
    cache.wrote(ACCOUNT, basis, writes)
    assert cache.get(ACCOUNT) == {ACCOUNT: document(ONE, 2)} and cache.documents == 1


def test_a_commit_is_not_taken_over_when_the_group_has_changed_meanwhile() -> None:
    cache = filled()
    basis = dict(cache.get(ACCOUNT) or {})
    cache.clear()
    cache.wrote(ACCOUNT, basis, (Write(ACCOUNT, basis[ACCOUNT][:16], document(ONE, 2)),))
    assert cache.get(ACCOUNT) is None and cache.documents == 0
    cache.read(ACCOUNT, {ACCOUNT: document(TWO, 4)})
    cache.wrote(ACCOUNT, basis, (Write(ACCOUNT, basis[ACCOUNT][:16], document(ONE, 2)),))
    assert cache.get(ACCOUNT) is None and cache.documents == 0


def test_the_account_that_was_used_longest_ago_goes_first() -> None:
    cache = DocumentCache(3)
    keys = [account_key(3, name) for name in "abcd"]
    for key in keys[:3]:
        cache.read(key, {key: document(ONE, 1)})
    cache.get(keys[0])
    cache.read(keys[3], {keys[3]: document(ONE, 1)})
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    assert cache.documents == 3 and len(cache) == 3


def test_a_group_never_grows_beyond_its_bound() -> None:
    cache = DocumentCache(10 * module.MAX_GROUP)
    for number in range(module.MAX_GROUP + 5):
        cache.read(ACCOUNT, {ACCOUNT: document(ONE, 1), session_key(3, f"s{number}"): document(ONE, 1)})
    assert cache.documents == sum(len(cache.get(key) or {}) for key in [ACCOUNT]) <= module.MAX_GROUP


def test_nothing_is_kept_where_nothing_may_be() -> None:
    cache = DocumentCache(0)
    cache.read(ACCOUNT, {ACCOUNT: document(ONE, 1)})
    assert cache.get(ACCOUNT) is None and cache.documents == 0


def test_locators_that_were_learnt_first_go_first() -> None:
    cache: LocatorCache[int] = LocatorCache(2)
    for number, name in enumerate("abc"):
        cache.put(name, number)
    assert [cache.get(name) for name in "abc"] == [None, 1, 2]
    cache.drop("b")
    cache.drop("b")
    assert cache.get("b") is None
