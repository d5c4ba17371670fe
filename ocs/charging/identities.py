"""Where names lead: claiming, finding and dropping identities across partitions (LEDGER §3, §5).

An identity lies in a partition found by hashing; its record says where account and subscriber are. Records are claimed
before the subscriber is written, count only once their subscriber lists them, and are dropped after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from balance.account import IDENTITY_SCHEMA, IdentityRecord, Subscriber, SubscriberIdentity
from balance.documents import VERSION_OCTETS, account_key, identity_key, subscriber_key
from balance.store import (
    MAX_TRANSACTIONS_PER_COMMIT,
    CommitOutcome,
    Committed,
    Conflict,
    Store,
    Transaction,
    Write,
)
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.operations import OperationRefused
from ocs.charging.saga import Calls, Commit, Read, Saga, Together
from ocs.charging.session_jobs import Target
from ocs.charging.workspace import SCHEMAS, decode_document, encode_document

CLAIM_S = 60
"""Age from which an identity that no subscriber lists may be claimed by another."""

RENEW_S = 30
"""Age from which a claim that an interrupted change left behind is dated anew when the change goes on, so that nobody
else takes it over in the middle."""


def find_account(engine: Engine, account: str) -> Saga[int]:
    """Partition of an account; `OperationRefused` if there is none."""
    target = yield from _record(engine, "account", account)
    if target is None:
        raise OperationRefused("not_found", "account", f"no account {account!r}")
    return target.partition


def find_homes(engine: Engine, accounts: Sequence[str]) -> Saga[dict[str, int | None]]:
    """Partitions of many accounts, `None` for one that is not there; no more than a page of them at once."""
    places = [(name, identity_key("account", name, engine.store.partitions)) for name in accounts]
    documents = yield Read(tuple(at for _, at in places))
    homes: dict[str, int | None] = {}
    for name, (_, key) in places:
        data = documents[key]
        homes[name] = None if data is None else decode_document(data, IdentityRecord, IDENTITY_SCHEMA).partition
    return homes


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
    wanted = msgspec.structs.replace(wanted, claimed_s=engine.now_s())
    verdict = yield Commit(at[0], _creation(engine, at, wanted))
    return (yield from _settle(engine, at, wanted, verdict))


def claim_many(
    engine: Engine, claims: Sequence[tuple[tuple[int, bytes], IdentityRecord]]
) -> Saga[list[IdentityRecord]]:
    """Each claim as `claim` makes it, all of them in as few calls of the store as there are partitions.

    Claims of one name are decided in their order.
    """
    now_s = engine.now_s()
    by_partition: dict[int, list[int]] = {}
    dated = [msgspec.structs.replace(wanted, claimed_s=now_s) for _, wanted in claims]
    for place, (at, _) in enumerate(claims):
        by_partition.setdefault(at[0], []).append(place)
    parts = [
        (partition, places[start : start + MAX_TRANSACTIONS_PER_COMMIT])
        for partition, places in by_partition.items()
        for start in range(0, len(places), MAX_TRANSACTIONS_PER_COMMIT)
    ]

    def call(partition: int, places: Sequence[int]) -> Callable[[Store, Callable[[CommitOutcome], None]], None]:
        transactions = [_creation(engine, claims[place][0], dated[place]) for place in places]
        return lambda store, done: store.commit(partition, transactions, done)

    outcomes = yield Calls(tuple(call(partition, places) for partition, places in parts))
    records = list(dated)
    open_claims = [
        (place, verdict)
        for (_, places), verdicts in zip(parts, outcomes, strict=True)
        for place, verdict in zip(places, verdicts, strict=True)
        if isinstance(verdict, Conflict)
    ]
    settled = yield Together(
        tuple(_settle(engine, claims[place][0], dated[place], verdict) for place, verdict in open_claims)
    )
    for (place, _), record in zip(open_claims, settled, strict=True):
        if isinstance(record, ChargingError):
            raise record
        records[place] = record
    return records


def _creation(engine: Engine, at: tuple[int, bytes], wanted: IdentityRecord) -> Transaction:
    return Transaction((Write(at[1], None, encode_document(None, engine.nonce(), IDENTITY_SCHEMA, wanted)),))


def _settle(
    engine: Engine, at: tuple[int, bytes], wanted: IdentityRecord, verdict: Committed | Conflict
) -> Saga[IdentityRecord]:
    """Whose the name is, now that creating its record was tried."""
    if not isinstance(verdict, Conflict):
        return wanted
    present, record = _found(at, verdict)
    same = (record.account, record.subscriber) == (wanted.account, wanted.subscriber)
    if same and not record.subscriber:
        return record
    if wanted.claimed_s - record.claimed_s < (RENEW_S if same else CLAIM_S):
        return record
    if not (yield from _abandoned(engine, at, record)):
        return record
    data = encode_document(present[:VERSION_OCTETS], engine.nonce(), IDENTITY_SCHEMA, wanted)
    verdict = yield Commit(at[0], Transaction((Write(at[1], present[:VERSION_OCTETS], data),)))
    return _found(at, verdict)[1] if isinstance(verdict, Conflict) else wanted


def _found(at: tuple[int, bytes], verdict: Conflict) -> tuple[bytes, IdentityRecord]:
    """What stood in the way of a claim."""
    present = verdict.documents[at[1]]
    if present is None:
        raise OperationRefused("conflict", "identity", "another change is under way; try again")
    return present, decode_document(present, IdentityRecord, IDENTITY_SCHEMA)


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
