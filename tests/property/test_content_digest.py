"""The digest of what is charged: both twins agree, and it tells contents apart."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cython_ext import _credit
from protocols.diameter.avp import decode_message
from protocols.diameter.content_digest import digest_of, readable_digest_of
from tests.support.codecs import encode, gy_update
from tests.support.mutations import mutate

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    TEXT,
    st.binary(max_size=20),
    st.floats(allow_nan=False),
    st.tuples(st.integers(0, 0xFFFF), st.one_of(TEXT, st.binary(max_size=20))),
)


def avps_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 255), values), max_size=4)


TREES = avps_of(st.recursive(VALUES, avps_of, max_leaves=8))


@given(TREES)
def test_both_twins_have_the_same_digest(avps: list[Any]) -> None:
    assert _credit.digest_of(avps) == readable_digest_of(avps) == digest_of(avps)
    assert len(digest_of(avps)) == 4


# The type of a value follows from its key, so it is not part of the digest.
SMALL = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.one_of(st.integers(0, 2), avps_of(st.integers(1, 3))))
)


@settings(max_examples=300)
@given(SMALL.filter(bool), st.data())
def test_another_content_has_another_digest(avps: list[Any], drawn: st.DataObject) -> None:
    # One in four thousand million pairs may collide.
    place = drawn.draw(st.integers(0, len(avps) - 1))
    key, flags, value = avps[place]
    others = [(key + 3, flags, value), (key, flags + 2, value), (key, flags, b"another"), (key, flags, [(1, 1, value)])]
    seen = {digest_of(avps), digest_of([*avps[:place], *avps[place + 1 :]]), digest_of([*avps, (0, 0, 0)])}
    seen |= {digest_of([*avps[:place], other, *avps[place + 1 :]]) for other in others}
    assert len(seen) == 3 + len(others)


def test_the_order_counts() -> None:
    assert digest_of([(1, 0, 1), (2, 0, 2)]) != digest_of([(2, 0, 2), (1, 0, 1)])


@pytest.mark.parametrize("seed", range(3))
def test_both_twins_have_the_same_digest_of_spoilt_messages(seed: int) -> None:
    original = encode(gy_update())
    found = set()
    for number in range(500):
        avps = decode_message(mutate(random.Random(seed << 16 | number), original)).avps
        assert _credit.digest_of(avps) == readable_digest_of(avps)
        found.add(digest_of(avps))
    assert len(found) > 100


def test_the_digest_is_the_same_on_every_machine() -> None:
    # Written down, since sessions keep it: another one would take every repeat for altered.
    avps = [(461, 0x40, "32251@3gpp.org"), (456, 0x40, [(432, 0x40, 100), (437, 0x40, []), (1, 0, b"\x01\x02")])]
    state = 0x9E3779B97F4A7C15
    for word in (461, 0x40, 14, int.from_bytes(b"32251@3g", "little"), int.from_bytes(b"pp.org", "little")):
        state = (state ^ word) * 0x9E3779B97F4A7C15 % 2**64
        state ^= state >> 32
    for word in (456, 0x40, 3, 432, 0x40, 100, 437, 0x40, 0, 1, 0, 2, 0x0201):
        state = (state ^ word) * 0x9E3779B97F4A7C15 % 2**64
        state ^= state >> 32
    assert digest_of(avps) == ((state ^ state >> 32) % 2**32).to_bytes(4, "big")
