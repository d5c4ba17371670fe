"""The header of documents, and where keys lie."""

from __future__ import annotations

import pytest

from balance.documents import (
    DocumentError,
    Header,
    account_key,
    header_of,
    home_partition,
    identity_key,
    locator_key,
    operation_key,
    partition_tag,
    seal,
    session_key,
    subscriber_key,
    version_of,
)


def test_the_header_never_changes_its_layout() -> None:
    # LEDGER §1: counter (8 octets), nonce (8), schema (2), big-endian; then the body.
    document = seal(None, b"nonce-01", 0x0102, b"body")
    assert document == bytes.fromhex("0000000000000001") + b"nonce-01" + bytes.fromhex("0102") + b"body"
    assert header_of(document) == Header(1, b"nonce-01", 0x0102)
    assert version_of(document) == bytes.fromhex("0000000000000001") + b"nonce-01"


def test_the_counter_goes_on_from_the_version_that_was_read() -> None:
    first = seal(None, b"nonce-01", 1, b"")
    second = seal(version_of(first), b"nonce-02", 1, b"")
    assert header_of(second) == Header(2, b"nonce-02", 1)
    late = seal((2**64 - 2).to_bytes(8, "big") + b"nonce-01", b"nonce-02", 1, b"")
    assert header_of(late).counter == 2**64 - 1


def test_two_writers_of_one_counter_make_different_versions() -> None:
    read = version_of(seal(None, b"nonce-00", 1, b""))
    assert version_of(seal(read, b"nonce-01", 1, b"x")) != version_of(seal(read, b"nonce-02", 1, b"x"))


@pytest.mark.parametrize("damaged", [b"", b"x", b"x" * 17])
def test_a_document_shorter_than_its_header_is_damaged(damaged: bytes) -> None:
    wanted = f"document of {len(damaged)} octets, expected at least 18"
    with pytest.raises(DocumentError, match=wanted):
        version_of(damaged)
    with pytest.raises(DocumentError, match=wanted):
        header_of(damaged)


def test_an_empty_body_is_a_document() -> None:
    assert header_of(b"\0" * 18) == Header(0, b"\0" * 8, 0)


def test_keys_are_what_stores_on_disk_hold() -> None:
    # Literals: a change of any of them loses every document that was written before it. The digests are BLAKE2b of 128
    # bits as `b2sum -l 128` gives them; a home partition is the first four octets of one, modulo the partitions.
    assert partition_tag(7) == b"{p007}:"
    assert account_key(7, "acme") == b"{p007}:a:acme"
    assert account_key(7, "Müller") == b"{p007}:a:M\xc3\xbcller"
    assert subscriber_key(7, "bob") == b"{p007}:u:bob"
    assert session_key(42, "gw;1;2") == b"{p042}:s:f593b20897512767e49b8a6da10e4dfc"
    assert operation_key(42, "topup-1") == b"{p042}:o:f8f4369c2000dff748c5e577ed8218c7"
    assert locator_key("gw;1;2", 64) == (46, b"{p046}:l:f593b20897512767e49b8a6da10e4dfc")
    assert identity_key("e164", "447700900001", 64) == (61, b"{p061}:i:e164=447700900001")


def test_session_ids_are_hashed_whatever_a_peer_puts_in_them() -> None:
    # Octets that are no UTF-8 come from the codec as lone surrogates; a hash tag in a Session-Id moves no key.
    for session_id in ("", "x" * 10_000, "\udcff\udcfe", "{p001}:a:acme", "a\0b", "line\nfeed"):
        found = session_key(3, session_id)
        assert found.startswith(b"{p003}:s:")
        assert len(found) == len(b"{p003}:s:") + 32
        assert locator_key(session_id, 64)[1].endswith(found[len(b"{p003}:s:") :])


def test_a_name_that_is_no_utf_8_has_a_key_nonetheless() -> None:
    # A command line gives such octets as lone surrogates; nobody has that name, and asking must not raise.
    assert identity_key("nai", "\udcff", 64)[1] != identity_key("nai", "\udcfe", 64)[1]
    assert account_key(1, "\udcff") != account_key(1, "\udcfe")


def test_kind_and_name_do_not_run_into_each_other() -> None:
    assert identity_key("e164", "1", 2**31)[0] != identity_key("imsi", "1", 2**31)[0]
    assert home_partition("ab", "c", 2**31) != home_partition("a", "bc", 2**31)


def test_keys_lie_in_their_home_partition_and_all_partitions_are_used() -> None:
    used = set()
    for number in range(2000):
        partition, found = identity_key("e164", f"4477009{number:05d}", 64)
        assert found.startswith(partition_tag(partition))
        used.add(partition)
    assert used == set(range(64))


def test_more_than_a_thousand_partitions_have_tags_of_their_own() -> None:
    tags = [partition_tag(partition) for partition in range(1100)]
    assert len(set(tags)) == 1100
    assert not any(one != two and one.startswith(two) for one in tags[1000:] for two in tags)
