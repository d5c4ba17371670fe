"""Where names lead: claiming, finding and dropping identities across partitions (LEDGER §3, §5).

An identity lies in a partition found by hashing; its record says where account and subscriber are. Records are claimed
before the subscriber is written, count only once their subscriber lists them, and are dropped after.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from balance.account import IDENTITY_SCHEMA, IdentityRecord, Subscriber, SubscriberIdentity
from balance.documents import VERSION_OCTETS, account_key, identity_key, subscriber_key
from balance.store import Conflict, Transaction, Write
from ocs.charging.engine import Engine
from ocs.charging.operations import OperationRefused
from ocs.charging.saga import Commit, Read, Saga
from ocs.charging.session_jobs import Target
from ocs.charging.workspace import SCHEMAS, decode_document, encode_document

CLAIM_S = 60
"""Age from which an identity that no subscriber lists may be claimed by another."""


def find_account(engine: Engine, account: str) -> Saga[int]:
    """Partition of an account; `OperationRefused` if there is none."""
    target = yield from _record(engine, "account", account)
    if target is None:
        raise OperationRefused("not_found", "account", f"no account {account!r}")
    return target.partition


def find_subscriber(engine: Engine, name: str) -> Saga[Target]:
    """A subscriber by its id, or by any identity written `kind:value` or bare (tried as E.164, IMSI, NAI, username)."""
    kind, separator, value = name.partition(":")
    tries = [("subscriber", name)]
    if separator:
        tries.append((kind, value))
    tries += [(one, name.lstrip("+") if one == "e164" else name) for one in ("e164", "imsi", "nai", "username")]
    for one, text in tries:
        target = yield from _record(engine, one, text)
        if target is not None:
            return target
    raise OperationRefused("not_found", "subscriber", f"no subscriber {name!r}")


def _record(engine: Engine, kind: str, value: str) -> Saga[Target | None]:
    at = identity_key(kind, value, engine.store.partitions)
    documents = yield Read((at,))
    data = documents[at[1]]
    if data is None:
        return None
    record = decode_document(data, IdentityRecord, IDENTITY_SCHEMA)
    return Target(record.partition, record.account, record.subscriber)


def own_name(subscriber: str) -> SubscriberIdentity:
    """The operator's own name of a subscriber, as an identity."""
    return SubscriberIdentity("subscriber", subscriber)


def claim_all(engine: Engine, target: Target, identities: Sequence[SubscriberIdentity]) -> Saga[None]:
    """Claim every identity for a subscriber, or none; a claim that this very change made before is taken over again."""
    made: list[SubscriberIdentity] = []
    for identity in identities:
        at = identity_key(identity.kind, identity.value, engine.store.partitions)
        wanted = IdentityRecord(target.partition, target.account, target.subscriber, engine.now_s())
        record = yield from claim(engine, at, wanted)
        if (record.account, record.subscriber) != (target.account, target.subscriber):
            yield from drop(engine, target, made)
            message = f"{identity.kind}:{identity.value} belongs to subscriber {record.subscriber!r}"
            raise OperationRefused("exists", "identity", message)
        made.append(identity)


def claim(engine: Engine, at: tuple[int, bytes], wanted: IdentityRecord) -> Saga[IdentityRecord]:
    """Create the record, or give the one that is there; one that nobody lists any more is taken over."""
    now_s = engine.now_s()
    wanted = msgspec.structs.replace(wanted, claimed_s=now_s)
    data = encode_document(None, engine.nonce(), IDENTITY_SCHEMA, wanted)
    verdict = yield Commit(at[0], Transaction((Write(at[1], None, data),)))
    if not isinstance(verdict, Conflict):
        return wanted
    present = verdict.documents[at[1]]
    if present is None:
        raise OperationRefused("conflict", "identity", "another change is under way; try again")
    record = decode_document(present, IdentityRecord, IDENTITY_SCHEMA)
    same = (record.account, record.subscriber) == (wanted.account, wanted.subscriber)
    if same or now_s - record.claimed_s < CLAIM_S or not (yield from _abandoned(engine, at, record)):
        return record
    data = encode_document(present[:VERSION_OCTETS], engine.nonce(), IDENTITY_SCHEMA, wanted)
    verdict = yield Commit(at[0], Transaction((Write(at[1], present[:VERSION_OCTETS], data),)))
    return record if isinstance(verdict, Conflict) else wanted


def _abandoned(engine: Engine, at: tuple[int, bytes], record: IdentityRecord) -> Saga[bool]:
    """Whether a claim leads nowhere: its subscriber is gone or does not list it."""
    if not record.subscriber:
        key = account_key(record.partition, record.account)
        documents = yield Read(((record.partition, key),))
        return documents[key] is None
    key = subscriber_key(record.partition, record.subscriber)
    documents = yield Read(((record.partition, key),))
    data = documents[key]
    if data is None:
        return True
    subscriber = decode_document(data, Subscriber, SCHEMAS[Subscriber])
    partitions = engine.store.partitions
    names = [own_name(subscriber.id), *subscriber.identities]
    return all(identity_key(one.kind, one.value, partitions) != at for one in names)


def drop(engine: Engine, target: Target, identities: Sequence[SubscriberIdentity]) -> Saga[None]:
    """Delete records that lead to the subscriber and that it does not list; one that a crash leaves is harmless.

    What it lists stays: a repeat of a removal must not take away what was added again since.
    """
    documents = yield Read(((target.partition, target.subscriber_key),))
    found = documents[target.subscriber_key]
    listed: set[SubscriberIdentity] = set()
    if found is not None:
        listed = {own_name(target.subscriber), *decode_document(found, Subscriber, SCHEMAS[Subscriber]).identities}
    for identity in identities:
        if identity in listed:
            continue
        at = identity_key(identity.kind, identity.value, engine.store.partitions)
        documents = yield Read((at,))
        data = documents[at[1]]
        if data is None:
            continue
        record = decode_document(data, IdentityRecord, IDENTITY_SCHEMA)
        if (record.account, record.subscriber) == (target.account, target.subscriber):
            yield Commit(at[0], Transaction((Write(at[1], data[:VERSION_OCTETS], None),)))
