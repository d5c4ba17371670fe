"""The compiled Redis protocol is its readable twin: the same octets out, the same replies in, the same refusals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance import _resp_reference as reference
from balance.redis_store import _names
from balance.resp import ErrorReply
from balance.store import DueChange, IndexChange, Lease, Transaction, Write
from cython_ext import _resp as compiled

TWINS = (reference, compiled)
both = pytest.mark.parametrize("twin", TWINS, ids=["reference", "compiled"])

NAMES = _names(7)
OPENING = b"$5\r\nFCALL\r\n$4\r\nname\r\n"

# Replies

replies: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.integers(-(10**18) + 1, 10**18 - 1)
    | st.binary(max_size=40)
    | st.text("abcé ", max_size=10).map(ErrorReply),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def encoded(reply: Any) -> bytes:
    """A reply as Redis writes it."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, ErrorReply):
        return b"-%s\r\n" % reply.text.encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    return b"*%d\r\n%s" % (len(reply), b"".join(encoded(one) for one in reply))


def depth(reply: Any) -> int:
    return 1 + max((depth(one) for one in reply), default=0) if isinstance(reply, list) else 0


def fed(twin: Any, chunks: Sequence[bytes]) -> tuple[list[Any], str]:
    """What a parser gives for chunks, and how it ended."""
    parser = twin.Parser(ErrorReply)
    found: list[Any] = []
    for chunk in chunks:
        try:
            found += parser.feed(chunk)
        except ValueError as error:
            with pytest.raises(ValueError, match="broken before"):
                parser.feed(b":1\r\n")
            return found, str(error)
    return found, ""


def split(data: bytes, seed: int) -> list[bytes]:
    """Chunks of a random size, the empty one too."""
    draw = random.Random(seed)
    chunks, at = [], 0
    while at < len(data):
        size = draw.choice((0, 1, 1, 2, 7, 100))
        chunks.append(data[at : at + size])
        at += size
    return chunks


@both
@given(wanted=st.lists(replies.filter(lambda reply: depth(reply) < 8), max_size=5), seed=st.integers(0, 2**32))
def test_replies_split_anywhere_come_out_as_they_went_in(twin: Any, wanted: list[Any], seed: int) -> None:
    data = b"".join(encoded(reply) for reply in wanted)
    for chunks in ([data], split(data, seed), [data[at : at + 1] for at in range(len(data))]):
        assert fed(twin, chunks) == (wanted, "")


@both
def test_simple_strings_and_nil_arrays(twin: Any) -> None:
    assert fed(twin, [b"+OK\r\n+\r\n*-1\r\n*0\r\n$0\r\n\r\n"]) == ([b"OK", b"", None, [], b""], "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"?1\r\n", "reply of kind"),
        (b"\r\n", "reply of kind"),
        (b":\r\n", "number"),
        (b":-\r\n", "number"),
        (b":1a\r\n", "number"),
        (b":+1\r\n", "number"),
        (b": 1\r\n", "number"),
        (b":1\rx", "does not end in CRLF"),
        (b":1234567890123456789\r\n", "number"),
        (b"$3\r\nabcd\r\n", "bulk string does not end"),
        (b"$-2\r\n", "bulk string of -2"),
        (b"$999999999999\r\n", "bulk string of 999999999999"),
        (b"*-2\r\n", "array of -2"),
        (b"*99999999\r\n", "array of 99999999"),
        (b"*1\r\n" * 9 + b":1\r\n", "nested deeper"),
        (b"*2\r\n:1\r\n!", "reply of kind"),
        (b"+" + b"x" * 70_000, "longer than 65536"),
    ],
)
@both
def test_what_is_no_reply_breaks_the_stream(twin: Any, data: bytes, message: str) -> None:
    for chunks in ([b":7\r\n", data], [b":7\r\n", *split(data, 1)]):
        found, refused = fed(twin, chunks)
        assert found == [7]
        assert message in refused


@given(
    wanted=st.lists(replies, min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(b"\r\n:$*+-09a\x00\xff")), max_size=3),
)
def test_the_twins_agree_on_damaged_streams(wanted: list[Any], seed: int, edits: list[tuple[int, int]]) -> None:
    data = bytearray(b"".join(encoded(reply) for reply in wanted))
    for place, octet in edits:
        data[place % len(data)] = octet
    chunks = split(bytes(data), seed)
    assert fed(compiled, chunks) == fed(reference, chunks)


# Commits

bodies = st.binary(min_size=18, max_size=30)
versions = st.none() | st.binary(min_size=16, max_size=16)
keys = st.sampled_from([NAMES[0] + name for name in (b"a", b"b", b"c:d", b"\xff\x00")])
writes = st.builds(Write, keys, versions, st.none() | bodies, st.sampled_from([0, 0, 0, 1, 86_400, 3_155_760_000]))
names = st.binary(max_size=5)
times = st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 2**53 - 1, 2**53, -(2**53), 1 - 2**53])
leases = st.builds(
    Lease, st.binary(min_size=1, max_size=255), st.binary(min_size=1, max_size=20), st.sampled_from([0, 20, 10_000])
)
transactions = st.builds(
    Transaction,
    st.lists(writes, max_size=3, unique_by=lambda write: write.key).map(tuple),
    st.lists(names, max_size=3).map(tuple),
    st.lists(st.builds(DueChange, names, times), max_size=2).map(tuple),
    st.lists(st.builds(IndexChange, names, names, st.booleans()), max_size=2).map(tuple),
    st.none() | leases,
)
broken_transactions = st.one_of(
    st.builds(Transaction, st.builds(Write, st.just(b"{p008}:k"), versions, bodies).map(lambda one: (one,))),
    st.builds(Transaction, st.builds(Write, keys, st.binary(max_size=15), bodies).map(lambda one: (one,))),
    st.builds(Transaction, st.builds(Write, keys, versions, st.binary(max_size=17)).map(lambda one: (one,))),
    st.builds(Transaction, bodies.map(lambda data: (Write(NAMES[0], data[:16], data),))),
    st.builds(
        Transaction,
        st.builds(Write, keys, versions, bodies, st.sampled_from([-1, 3_155_760_001, 2**70])).map(lambda one: (one,)),
    ),
    st.builds(Transaction, writes.map(lambda one: (one, one))),
    st.just(Transaction((), lease=Lease(b"r", b"h", 10_001))),
    st.just(Transaction((), lease=Lease(b"", b"h"))),
    st.just(Transaction((), lease=Lease(b"r", b"h" * 256))),
    st.just(Transaction((), due=(DueChange(b"m", 2**63),))),
    st.just(Transaction((), (b"e",) * 65_536)),
)


def packed(twin: Any, batch: Sequence[Transaction]) -> tuple[bytes, bool]:
    """The call, or that it was refused."""
    try:
        return twin.encode_commit(OPENING, NAMES, batch), False
    except ValueError:
        return b"", True


@given(st.lists(transactions, min_size=1, max_size=6))
def test_the_twins_pack_commits_alike(batch: list[Transaction]) -> None:
    wanted = packed(reference, batch)
    assert packed(compiled, batch) == wanted
    # A repeated key with an unchanged version may make the batch a broken one.
    assert wanted[1] or wanted[0].startswith(b"*")


@given(before=st.lists(transactions, max_size=2), broken=broken_transactions)
def test_the_twins_refuse_alike(before: list[Transaction], broken: Transaction) -> None:
    assert packed(compiled, [*before, broken]) == packed(reference, [*before, broken]) == (b"", True)


@both
def test_the_number_of_transactions_is_bounded(twin: Any) -> None:
    assert packed(twin, []) == (b"", True)
    assert packed(twin, [Transaction(())] * 64)[1] is False
    assert packed(twin, [Transaction(())] * 65) == (b"", True)


@both
def test_a_packed_commit_octet_by_octet(twin: Any) -> None:
    """The layout that the head of lua/commit.lua tells."""
    old, new = b"0123456789abcdef", b"0123456789abcdeg\x00\x01body"
    key = NAMES[0] + b"k"
    batch = [
        Transaction((Write(key, old, new, 9),), (b"e1", b"e2"), lease=Lease(b"root", b"me", 20)),
        Transaction((Write(key, None, None),), due=(DueChange(b"m", 5),), indexes=(IndexChange(b"i", b"m", True),)),
    ]
    shape = (
        bytes([1 + 2 + 4])
        + b"\x00\x02" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x02"
        + b"\x00\x00\x00\x09" + b"\xff\xff\xff\xff"
        + b"\x00\x01\x00\x02\x00\x00\x01" + b"\x00\x01\x00\x00\x00\x03\x00"
        + b"\x00\x14\x04root\x02me"
    )  # fmt: skip
    arguments = [
        b"FCALL", b"name", b"7",
        b"{p007}!lease", b"{p007}!outbox", key, key, b"{p007}!due", b"{p007}!due-far", b"{p007}!index:i",
        shape, old, b"", new, b"", b"e1", b"e2",
        b"ZADD", b"5", b"m", b"HDEL", b"m", b"", b"ZADD", b"0", b"m",
    ]  # fmt: skip
    assert packed(twin, batch)[0] == twin.encode_command(arguments)


@both
def test_what_is_no_tuple_and_no_octets_is_refused_and_crashes_nothing(twin: Any) -> None:
    wrong: list[Any] = [
        [None],
        [Transaction((Write(None, None, b"x" * 18),))],  # type: ignore[arg-type]
        [Transaction((), (None,))],  # type: ignore[arg-type]
        [Transaction((), due=(DueChange(None, 1),))],  # type: ignore[arg-type]
        [Transaction((), indexes=(IndexChange(None, b"m", True),))],  # type: ignore[arg-type]
        [Transaction((), lease=Lease(None, b"h"))],  # type: ignore[arg-type]
    ]
    for batch in wrong:
        with pytest.raises((TypeError, AttributeError)):
            twin.encode_commit(OPENING, NAMES, batch)
    assert packed(twin, [Transaction(())])[1] is False
