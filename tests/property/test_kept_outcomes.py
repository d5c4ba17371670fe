"""An outcome that was packed into a session's document is the same when it is unpacked for a repeat."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ocs.charging.kept import RESULTS, pack, unpack
from ocs.charging.requests import FinalAction, FinalUnit, Outcome, QuotaKey, Result, ServiceOutcome, UnitKind

UNSIGNED32 = st.integers(0, 2**32 - 1)
MICROS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=10)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


FINAL = st.builds(
    FinalUnit,
    st.sampled_from(FinalAction),
    maybe(st.integers(0, 3)),
    maybe(TEXT),
    st.lists(TEXT, max_size=2).map(tuple),
    st.lists(TEXT, max_size=2).map(tuple),
)
SERVICE = st.builds(
    ServiceOutcome,
    key=st.builds(QuotaKey, maybe(UNSIGNED32), st.lists(UNSIGNED32, max_size=3).map(tuple)),
    result=st.sampled_from(Result),
    unit=maybe(st.sampled_from(UnitKind)),
    granted=maybe(st.integers(0, 2**63 - 1)),
    validity_s=maybe(UNSIGNED32),
    threshold=maybe(UNSIGNED32),
    final=maybe(FINAL),
    in_group=st.booleans(),
    detail=maybe(TEXT),
    refund_token=maybe(st.binary(max_size=8)),
)
OUTCOME = st.builds(
    Outcome,
    result=st.sampled_from(Result),
    services=st.lists(SERVICE, max_size=3).map(tuple),
    cost_micros=maybe(MICROS),
    balance_micros=maybe(MICROS),
    enough_credit=maybe(st.booleans()),
    detail=maybe(TEXT),
)


@given(OUTCOME)
def test_unpack_gives_back_what_was_packed(outcome: Outcome) -> None:
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(pack(outcome)))
    again = unpack(stored, 978, 3)
    money = outcome.cost_micros is not None or outcome.balance_micros is not None
    expected = msgspec.structs.replace(outcome, currency=978, exponent=3) if money else outcome
    assert again == expected


def test_every_result_has_a_number() -> None:
    assert sorted(RESULTS) == sorted(Result)
