"""A stream of messages gives the same messages however it is cut (DB-005)."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from cython_ext import _avp
from protocols.diameter import _avp_reference
from protocols.diameter.framing import Framer, FramingFault
from tests.support.diameter_kit import NodeKit
from tests.support.gy_client import INITIAL, MIB, TERMINATION, UPDATE, Requests, mscc, units
from tests.support.mutations import mutate

LIMIT = 1 << 20


def recorded() -> list[bytes]:
    """What a gateway sends in a session of its own."""
    requests = Requests()
    return [
        requests.cer(),
        requests.ccr(INITIAL, 0, "s1", mscc(100, requested=[])),
        requests.ccr(UPDATE, 1, "s1", mscc(100, requested=[], used=[units(total=MIB)])),
        requests.dwr(),
        requests.ccr(TERMINATION, 2, "s1;odd", mscc(100, used=[units(total=5)])),
        requests.dpr(),
    ]


def frames(chunks: list[bytes]) -> list[bytes | FramingFault]:
    framer = Framer(LIMIT)
    framer.sure = True
    found: list[bytes | FramingFault] = []
    for chunk in chunks:
        framer.feed(chunk)
        while (frame := framer.next_frame()) is not None:
            found.append(frame)
    assert framer.buffered_octets < LIMIT
    return found


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted(point % (len(data) + 1) for point in points), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.integers(min_value=0, max_value=1 << 16), max_size=40))
def test_db_005_messages_are_the_same_however_the_stream_is_cut(points: list[int]) -> None:
    # DB-005: "A message split across any boundary (inside header, inside AVP header, inside padding) works." Test:
    # random split points over a recorded CCR stream.
    messages = recorded()
    assert frames(cut(b"".join(messages), points)) == messages


@given(st.lists(st.integers(min_value=0, max_value=1 << 16), max_size=20))
def test_db_005_answers_are_the_same_however_the_stream_is_cut(points: list[int]) -> None:
    # DB-005: as above, through the whole peer
    stream = b"".join(recorded())
    whole, parts = NodeKit().connect(), NodeKit().connect()
    whole.give(stream)
    for chunk in cut(stream, points):
        parts.give(chunk)
    # In any order: what the node answers itself may overtake an application (DB-010).
    assert sorted(parts.sent()) == sorted(whole.sent())
    assert [type(event) for event in parts.events] == [type(event) for event in whole.events]


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0, max_value=1 << 16), max_size=10), st.booleans())
def test_any_octets_give_the_same_faults_however_they_are_cut(
    data: bytes, points: list[int], behind_a_message: bool
) -> None:
    if behind_a_message:
        data = Requests().dwr() + data
    assert frames(cut(data, points)) == frames([data])


@given(st.integers(min_value=0, max_value=0xFFFFFF), st.integers(min_value=0, max_value=255))
def test_db_006_007_a_header_is_judged_by_its_first_octets_alone(length: int, version: int) -> None:
    # DB-006: "Length < 20, or not a multiple of 4"; DB-007: "Never buffer the announced length up front."
    found = frames([bytes([version]) + length.to_bytes(3, "big") + bytes(16)])
    sane = 20 <= length <= LIMIT and length % 4 == 0
    if sane and length > 20:
        assert found == []
    elif sane and version == 1:
        assert len(found) == 1
        assert isinstance(found[0], bytes)
    else:
        (fault,) = found
        assert isinstance(fault, FramingFault)
        assert (fault.result_code, fault.fatal) == (5015 if version == 1 else 5011, not sane)


@given(st.lists(st.integers(min_value=0, max_value=1 << 16), max_size=20), st.randoms(use_true_random=False))
def test_db_005_whole_messages_at_once_are_those_one_by_one(points: list[int], rng: random.Random) -> None:
    # DB-005: as above, where the peer takes all that is whole at once and what is left one by one
    stream = recorded()
    spoilt = rng.randrange(len(stream))
    stream[spoilt] = rng.choice([stream[spoilt], mutate(rng, stream[spoilt])])
    chunks = cut(b"".join(stream), points)
    framer = Framer(LIMIT)
    framer.sure = True
    found: list[bytes | FramingFault] = []
    for chunk in chunks:
        framer.feed(chunk)
        found += framer.whole_messages()
        while (frame := framer.next_frame()) is not None:
            found.append(frame)
    assert found == frames(chunks)


@given(st.binary(max_size=60), st.integers(0, 30), st.sampled_from([0, 20, 24, LIMIT]), st.booleans())
def test_both_twins_cut_the_same_messages(rest: bytes, start: int, limit: int, whole: bool) -> None:
    octets = bytes(start) + b"\1\0\0\x14" + bytes(16) + b"\1\0\0\x18" + bytes(20 if whole else 19) + rest
    for buffer in (octets, bytearray(octets)):
        assert _avp.whole_messages(buffer, start, limit) == _avp_reference.whole_messages(buffer, start, limit)
