"""Both twins of the codec against each other, and encoding against decoding, over random trees and spoilt messages."""

from __future__ import annotations

import random
from collections import Counter
from socket import AF_INET6, inet_ntop
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cython_ext import _avp
from protocols.diameter import _avp_reference
from protocols.diameter import dictionary as d
from protocols.diameter.errors import LocalProtocolError, reported
from tests.support.codecs import COMPILED, REFERENCE, encode, facts, gy_update, message_of
from tests.support.mutations import header_passes, mutate

MUTATIONS = 20_000

LEAVES = [definition for definition in d.DEFINITIONS.values() if definition.kind != "Grouped"]
GROUPS = [definition for definition in d.DEFINITIONS.values() if definition.kind == "Grouped"]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ASCII = st.text(st.characters(max_codepoint=127), max_size=40)
ADDRESS = st.one_of(
    st.tuples(st.just(1), st.ip_addresses(v=4).map(str)),
    st.tuples(st.just(2), st.ip_addresses(v=6).map(lambda address: inet_ntop(AF_INET6, address.packed))),
    st.tuples(st.just(8), st.text("0123456789+", max_size=15)),
    # Not of two octets: with the family that makes four, which is a bare IPv4 address (DB-057, lenient).
    st.tuples(st.integers(9, 0xFFFF), st.binary(max_size=20).filter(lambda octets: len(octets) != 2)),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "Unsigned32": st.integers(0, 2**32 - 1),
    "Unsigned64": st.integers(0, 2**64 - 1),
    "Integer32": st.integers(-(2**31), 2**31 - 1),
    "Enumerated": st.integers(-(2**31), 2**31 - 1),
    "Integer64": st.integers(-(2**63), 2**63 - 1),
    "Time": st.integers(-61_505_152, 4_233_462_143),
    "OctetString": st.binary(max_size=60),
    "UTF8String": TEXT,
    "DiameterIdentity": ASCII,
    "DiameterURI": ASCII,
    "IPFilterRule": ASCII,
    "Address": ADDRESS,
}
FLAGS = st.sampled_from([None, 0x00, 0x40, 0xE0])


@st.composite
def leaf(draw: st.DrawFn) -> tuple[int, int | None, Any]:
    definition = draw(st.sampled_from(LEAVES))
    return definition.key, draw(FLAGS), draw(VALUES[definition.kind])


@st.composite
def group(draw: st.DrawFn, members: st.SearchStrategy[Any]) -> tuple[int, int | None, Any]:
    definition = draw(st.sampled_from(GROUPS))
    return definition.key, draw(FLAGS), draw(st.lists(members, max_size=5))


TREES = st.lists(st.recursive(leaf(), group, max_leaves=20), max_size=8)
TOLERATED = st.frozensets(st.sampled_from([0, 9, 10415, 99_999, 9 << 32 | 131_078]), max_size=3)


@settings(max_examples=400, deadline=None)
@given(TREES)
def test_both_twins_encode_alike_and_decode_alike(avps: list[Any]) -> None:
    sent = REFERENCE.encode_message(272, 4, 0xC0, 1, 2, avps)
    assert COMPILED.encode_message(272, 4, 0xC0, 1, 2, avps) == sent
    assert facts(REFERENCE.decode_message(sent)) == facts(COMPILED.decode_message(sent))


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_what_is_decoded_encodes_to_the_same_message(avps: list[Any]) -> None:
    message = COMPILED.decode_message(COMPILED.encode_message(272, 4, 0xC0, 1, 2, avps))
    if not message.errors:
        again = COMPILED.decode_message(COMPILED.encode_message(272, 4, 0xC0, 1, 2, message.avps))
        # Not the length: what was ignored, such as an undefined value without the M bit, is not written again.
        assert (again.avps, again.errors) == (message.avps, [])


@settings(max_examples=400, deadline=None)
@given(leaf())
def test_every_value_comes_back(avp: tuple[int, int | None, Any]) -> None:
    key, flags, value = avp
    message = COMPILED.decode_message(message_of(COMPILED.encode_avp(key, value, flags)))
    if key in d.CHECKED_ENUMERATIONS or d.codec_row(d.DEFINITIONS[key]).kind == d.ADDRESS_OR_RAW:
        return
    assert [(found, decoded) for found, _, decoded in message.avps] == [(key, value)]
    assert message.errors == []


ANYTHING = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5), ADDRESS)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(list(d.DEFINITIONS)), st.one_of(ANYTHING, st.lists(ANYTHING, max_size=3)), FLAGS)
def test_both_twins_refuse_the_same_values(key: int, value: Any, flags: int | None) -> None:
    results: list[bytes | None] = []
    for codec in (REFERENCE, COMPILED):
        try:
            results.append(codec.encode_avp(key, value, flags))
        except LocalProtocolError:
            results.append(None)
    assert results[0] == results[1]


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=200), TOLERATED)
def test_both_twins_read_any_octets_alike(body: bytes, tolerated: frozenset[int]) -> None:
    sent = message_of(body)
    assert facts(REFERENCE.decode_message(sent, tolerated)) == facts(COMPILED.decode_message(sent, tolerated))


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), TREES, TOLERATED)
def test_both_twins_read_spoilt_trees_alike(rng: random.Random, avps: list[Any], tolerated: frozenset[int]) -> None:
    sent = mutate(rng, REFERENCE.encode_message(272, 4, 0xC0, 1, 2, avps))
    assert facts(REFERENCE.decode_message(sent, tolerated)) == facts(COMPILED.decode_message(sent, tolerated))


GRAMMAR: dict[int, tuple[int, int | None]] = {
    d.SESSION_ID: (1, 1),
    d.CC_REQUEST_TYPE: (1, 1),
    d.CC_REQUEST_NUMBER: (1, 1),
    d.SUBSCRIPTION_ID: (0, None),
    d.MULTIPLE_SERVICES_INDICATOR: (0, 1),
    d.RESULT_CODE: (0, 0),
    d.VOLUME_QUOTA_THRESHOLD: (1, 2),
}


@pytest.mark.parametrize("seed", [1])
def test_fuzz_of_a_gy_update(seed: int) -> None:
    """DB-144 for the codec: no exception escapes, both twins agree, every Failed-AVP can be sent and read."""
    rng = random.Random(seed)
    original = encode(gy_update())
    outcomes: Counter[int] = Counter()
    passed = 0
    for _ in range(MUTATIONS):
        sent = mutate(rng, original)
        passed += header_passes(sent)
        message = REFERENCE.decode_message(sent)
        other = COMPILED.decode_message(sent)
        assert facts(message) == facts(other), sent.hex()
        missing = REFERENCE.check_grammar(message.avps, GRAMMAR, message.faulty)
        assert missing == COMPILED.check_grammar(other.avps, GRAMMAR, other.faulty), sent.hex()
        for error in (*message.errors, *missing):
            answer = COMPILED.encode_message(272, 4, 0x40, 1, 2, [(d.FAILED_AVP, error.failed_avp)])
            assert COMPILED.decode_message(answer).errors == [], sent.hex()
        first = reported(message.errors)
        outcomes[first.result_code if first else 2001] += 1
    print(f"passed the header: {passed} of {MUTATIONS}; result codes: {dict(sorted(outcomes.items()))}")
    assert passed >= 0.3 * MUTATIONS
    assert set(outcomes) >= {2001, 5001, 5004, 5005, 5009, 5012, 5014}


def test_the_mutator_replays_from_its_seed() -> None:
    original = encode(gy_update())
    one, other = random.Random(7), random.Random(7)
    assert [mutate(one, original) for _ in range(50)] == [mutate(other, original) for _ in range(50)]


@given(st.lists(st.tuples(st.integers(0, 3), st.just(0), st.integers(0, 9)), max_size=8), st.lists(st.integers(0, 4)))
def test_both_twins_find_the_same_first_values(avps: list[tuple[int, int, Any]], keys: list[int]) -> None:
    if len(keys) > _avp_reference.FIRSTS_MAX:
        for twin in (_avp, _avp_reference):
            with pytest.raises(ValueError, match=f"{len(keys)} keys"):
                twin.firsts(avps, keys)
        return
    expected = [next((value for key, _flags, value in avps if key == wanted), None) for wanted in keys]
    assert _avp.firsts(avps, keys) == _avp_reference.firsts(avps, keys) == expected


@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from([(d.SESSION_ID, "s;1"), (d.ORIGIN_HOST, "h")])), st.data())
def test_both_twins_find_the_same_result_code(code: int, before: list[tuple[int, Any]], drawn: st.DataObject) -> None:
    answer = encode([*before, (d.RESULT_CODE, code), (d.RESULT_CODE, 1)])
    assert _avp.result_code_of(answer) == _avp_reference.result_code_of(answer) == code
    cut = answer[: drawn.draw(st.integers(0, len(answer)))] + drawn.draw(st.binary(max_size=24))
    assert _avp.result_code_of(cut) == _avp_reference.result_code_of(cut)
