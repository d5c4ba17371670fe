"""A commit in the making: overlays, versions, the numbers of events, damaged documents."""

from __future__ import annotations

import pytest

from balance.account import Account, OperationRecord, Subscriber, new_account
from balance.documents import DocumentError, header_of
from balance.ledger import Event, decode_event
from balance.store import DueChange, IndexChange
from ocs.charging.workspace import SCHEMAS, Workspace, encode_document

KEY, OTHER = b"{p001}:a:a", b"{p001}:u:u"
NONCE = b"nonce-01"


def sealed(posted: int = 0, previous: bytes | None = None) -> bytes:
    account = new_account("a", 978, 2, 0, 0)
    account.buckets[0].posted = posted
    return encode_document(previous, NONCE, SCHEMAS[Account], account)


def a_workspace(document: bytes | None = None) -> Workspace:
    return Workspace(KEY, {KEY: document, OTHER: None})


def event(text: str = "") -> Event:
    return Event(account="a", at_us=5, kind="operation", reason=text)


def posted(workspace: Workspace) -> int:
    account = workspace.account()
    assert account is not None
    return account.buckets[0].posted


def test_every_look_is_a_fresh_copy() -> None:
    workspace = a_workspace(sealed(5))
    account = workspace.account()
    assert account is not None
    account.buckets[0].posted = 99
    assert posted(workspace) == 5


def test_an_overlay_counts_only_when_merged() -> None:
    workspace = a_workspace(sealed(5))
    for amount, keep in ((6, False), (7, True)):
        overlay = workspace.child()
        account = overlay.account()
        assert account is not None
        account.buckets[0].posted = amount
        overlay.put_account(account)
        overlay.event(event())
        overlay.due(KEY, 1)
        overlay.index(b"i", b"m", True)
        assert posted(overlay) == amount
        if keep:
            workspace.merge(overlay)
    assert posted(workspace) == 7
    transaction = workspace.transaction(NONCE)
    assert len(transaction.events) == 1
    assert transaction.due == (DueChange(KEY, 1),)
    assert transaction.indexes == (IndexChange(b"i", b"m", True),)


def test_events_are_numbered_by_the_version_that_they_make() -> None:
    first = sealed()
    workspace = a_workspace(encode_document(first[:16], NONCE, SCHEMAS[Account], new_account("a", 978, 2, 0, 0)))
    for text in ("one", "two"):
        overlay = workspace.child()
        overlay.event(event(text))
        workspace.merge(overlay)
    transaction = workspace.transaction(NONCE)
    events = [decode_event(data) for data in transaction.events]
    assert [(one.version, one.n, one.reason) for one in events] == [(3, 0, "one"), (3, 1, "two")]
    (write,) = transaction.writes
    assert write.data is not None and header_of(write.data).counter == 3


def test_the_account_is_written_whatever_changes() -> None:
    # What is read beside it (a subscriber, its status) is protected by the account's version (LEDGER §1).
    document = sealed(5)
    workspace = a_workspace(document)
    workspace.put(OTHER, Subscriber("u", "a", "p"))
    writes = {write.key: write for write in workspace.transaction(b"nonce-02").writes}
    assert set(writes) == {KEY, OTHER}
    assert writes[KEY].expected == document[:16] and writes[OTHER].expected is None
    assert all(write.data is not None and header_of(write.data).nonce == b"nonce-02" for write in writes.values())


def test_nothing_done_is_nothing_to_commit() -> None:
    workspace = a_workspace(sealed())
    workspace.account()
    assert not workspace.changed
    workspace.merge(workspace.child())
    assert not workspace.changed
    workspace.due(KEY, None)
    assert workspace.changed


def test_deleting_what_is_not_there_writes_nothing() -> None:
    workspace = a_workspace(sealed())
    workspace.delete(OTHER)
    assert [write.key for write in workspace.transaction(NONCE).writes] == [KEY]
    assert not workspace.present(OTHER)


def test_a_deletion_names_the_version_that_was_read() -> None:
    document = encode_document(None, NONCE, SCHEMAS[Subscriber], Subscriber("u", "a", "p"))
    workspace = Workspace(KEY, {KEY: sealed(), OTHER: document})
    workspace.delete(OTHER)
    writes = {write.key: write for write in workspace.transaction(NONCE).writes}
    assert (writes[OTHER].expected, writes[OTHER].data) == (document[:16], None)


def test_a_time_to_live_goes_with_the_write_that_set_it() -> None:
    workspace = a_workspace(sealed())
    workspace.put_record(OTHER, "x", 5_000_000, 600)
    writes = {write.key: write.ttl_s for write in workspace.transaction(NONCE).writes}
    assert writes == {KEY: 0, OTHER: 600}
    record = workspace.get(OTHER, OperationRecord)
    assert record is not None and (record.key, record.at_s) == ("x", 5)
    workspace.put_record(OTHER, "x", 5_000_000, 0)
    assert {write.ttl_s for write in workspace.transaction(NONCE).writes} == {0}


def test_a_key_that_was_not_read_is_our_bug() -> None:
    workspace = a_workspace(sealed())
    with pytest.raises(KeyError):
        workspace.get(b"never read", Account)
    with pytest.raises(KeyError):
        workspace.child().put(b"never read", new_account("b", 978, 2, 0, 0))
    assert workspace.child().knows(KEY) and not workspace.child().knows(b"never read")


@pytest.mark.parametrize("damage", [b"\xc1", b"", b"\x90", b"\x93\xa1a\xa1b\xa1c"])
def test_a_damaged_body_is_told_by_its_kind(damage: bytes) -> None:
    workspace = a_workspace(sealed()[:18] + damage)
    with pytest.raises(DocumentError, match="Account"):
        workspace.account()


def test_another_schema_is_not_read() -> None:
    workspace = Workspace(KEY, {KEY: encode_document(None, NONCE, 999, new_account("a", 978, 2, 0, 0))})
    with pytest.raises(DocumentError, match="999"):
        workspace.account()
