"""Structure-aware mutation of Diameter messages, for fuzzing: most results are still messages, few are still right.

A message is taken apart into a tree of AVPs, one to three things in the tree are spoilt, and it is put together again.
Lengths of what stands around the spoilt place are made right, unless the length is what is spoilt.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.diameter import dictionary

HEADER_OCTETS = 20
GROUPS = [key for key, definition in dictionary.DEFINITIONS.items() if definition.kind == "Grouped"]
KEYS = list(dictionary.DEFINITIONS)
PATTERNS = [b"", b"\0", b"\xff", b"\x80", b"\x7f", b"\xc3\x28", b"\xed\xa0\x80", b"\0\1\xc0", b"\0\2", b"\0\x08+1"]


@dataclass
class Node:
    """One AVP: a leaf with `value`, or a group with `members`."""

    code: int
    flags: int
    vendor: int
    value: bytes = b""
    members: list[Node] | None = None
    length: int | None = None
    """Stated in place of the true length."""

    padding: bytes | None = None
    """Sent in place of zeros up to four octets."""

    def octets(self) -> bytes:
        """Put the AVP together."""
        value = self.value if self.members is None else b"".join(member.octets() for member in self.members)
        vendor = struct.pack(">I", self.vendor) if self.flags & 0x80 else b""
        length = 8 + len(vendor) + len(value) if self.length is None else self.length
        padding = bytes(-len(value) % 4) if self.padding is None else self.padding
        return struct.pack(">II", self.code, self.flags << 24 | length & 0xFFFFFF) + vendor + value + padding


@dataclass
class Tree:
    """A message taken apart; `places` lists each AVP with the list that it stands in."""

    header: bytes
    avps: list[Node]
    places: list[tuple[list[Node], Node]] = field(default_factory=list)

    def pick(self, rng: random.Random) -> tuple[list[Node], Node]:
        """Choose an AVP anywhere in the tree."""
        self.places = []
        self._gather(self.avps)
        return rng.choice(self.places) if self.places else (self.avps, Node(0, 0, 0))

    def _gather(self, avps: list[Node]) -> None:
        for node in avps:
            self.places.append((avps, node))
            if node.members is not None and len(self.places) < 5000:
                self._gather(node.members)


def parse(octets: bytes) -> list[Node]:
    """Take well-formed AVPs apart; whatever is not well-formed stays a value."""
    nodes = []
    at = 0
    while at + 8 <= len(octets):
        code, word = struct.unpack_from(">II", octets, at)
        flags, length = word >> 24, word & 0xFFFFFF
        head = 12 if flags & 0x80 else 8
        if length < head or at + length > len(octets):
            break
        vendor = int.from_bytes(octets[at + 8 : at + head], "big")
        value = octets[at + head : at + length]
        definition = dictionary.DEFINITIONS.get(vendor << 32 | code)
        grouped = definition is not None and definition.kind == "Grouped"
        nodes.append(Node(code, flags, vendor, value, parse(value) if grouped else None))
        at += (length + 3) & ~3
    return nodes


def _length(rng: random.Random, tree: Tree) -> None:
    _, node = tree.pick(rng)
    true = len(node.octets())
    node.length = rng.choice([0, 1, 7, 8, 11, 12, true - 4, true - 1, true + 1, true + 4, 0xFFFFFF, rng.randrange(64)])


def _flags(rng: random.Random, tree: Tree) -> None:
    _, node = tree.pick(rng)
    node.flags ^= rng.choice([0x80, 0x40, 0x20, 0x10, 0x01, rng.randrange(256)])


def _code(rng: random.Random, tree: Tree) -> None:
    _, node = tree.pick(rng)
    key = rng.choice([*rng.sample(KEYS, 3), 99999, rng.getrandbits(32), rng.getrandbits(64)])
    node.code, node.vendor = key & 0xFFFFFFFF, key >> 32
    if rng.random() < 0.8:
        node.flags = node.flags & 0x7F | (0x80 if node.vendor else 0)


def _vendor(rng: random.Random, tree: Tree) -> None:
    _, node = tree.pick(rng)
    node.flags |= 0x80
    node.vendor = rng.choice([0, 9, 10415, 13019, rng.getrandbits(32)])


def _value(rng: random.Random, tree: Tree) -> None:
    _, node = tree.pick(rng)
    if node.members is not None and rng.random() < 0.5:
        node.value, node.members = b"".join(member.octets() for member in node.members), None
    size = len(node.value)
    node.value = rng.choice(
        [
            rng.randbytes(size),
            rng.randbytes(rng.randrange(40)),
            node.value[: rng.randrange(size + 1)],
            node.value + rng.randbytes(rng.randrange(1, 9)),
            rng.choice(PATTERNS) * rng.randrange(1, 9),
            bytes(size),
            b"\xff" * size,
        ]
    )


def _duplicate(rng: random.Random, tree: Tree) -> None:
    avps, node = tree.pick(rng)
    for _ in range(rng.choice([1, 1, 1, 2, 70])):
        avps.insert(rng.randrange(len(avps) + 1), node)


def _remove(rng: random.Random, tree: Tree) -> None:
    avps, node = tree.pick(rng)
    if node in avps:
        avps.remove(node)


def _move(rng: random.Random, tree: Tree) -> None:
    avps, node = tree.pick(rng)
    target, _ = tree.pick(rng)
    if node in avps:
        avps[avps.index(node)] = Node(node.code, node.flags, node.vendor, node.octets()[12:])
        target.append(Node(node.code, node.flags, node.vendor, node.value))


def _nest(rng: random.Random, tree: Tree) -> None:
    avps, node = tree.pick(rng)
    key = rng.choice([rng.choice(GROUPS), dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL, dictionary.FAILED_AVP, 99999])
    for _ in range(rng.choice([1, 2, 14, 15, 16, 200])):  # nested as octets, since the tree is walked by recursion
        node = Node(key & 0xFFFFFFFF, rng.choice([0, 0x40]) | (0x80 if key >> 32 else 0), key >> 32, node.octets())
    avps.append(node)


def _stranger(rng: random.Random, tree: Tree) -> None:
    avps, _ = tree.pick(rng)
    vendor = rng.choice([0, 9, 10415])
    flags = rng.choice([0, 0x40]) | (0x80 if vendor else 0)
    avps.insert(rng.randrange(len(avps) + 1), Node(99999, flags, vendor, rng.randbytes(rng.randrange(9))))


def _padding(rng: random.Random, tree: Tree) -> None:
    _, node = tree.pick(rng)
    node.padding = rng.choice([b"", b"\xff" * (-len(node.value) % 4), rng.randbytes(rng.randrange(4))])


def _crowd(rng: random.Random, tree: Tree) -> None:
    avps, _ = tree.pick(rng)
    avps.extend([Node(rng.choice(KEYS) & 0xFFFFFFFF, 0, 0)] * rng.choice([63, 64, 65, 300]))


MUTATIONS: list[Callable[[random.Random, Tree], None]] = [
    _length, _flags, _code, _vendor, _value, _value, _duplicate, _remove, _move, _nest, _stranger, _padding, _crowd,
]  # fmt: skip


def _spoil_header(rng: random.Random, message: bytearray) -> None:
    at = rng.choice([0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 11])
    message[at] = rng.choice([0, 1, 2, 0x80, 0xA0, 0xFF, rng.randrange(256)])


def mutate(rng: random.Random, message: bytes) -> bytes:
    """Return a spoilt copy of a message of at least 20 octets; two thirds and more keep a right header.

    The same generator state gives the same octets, so that a failure replays from its seed.
    """
    tree = Tree(message[:HEADER_OCTETS], parse(message[HEADER_OCTETS:]))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        rng.choice(MUTATIONS)(rng, tree)
    octets = bytearray(tree.header + b"".join(node.octets() for node in tree.avps))
    if rng.random() < 0.1:
        del octets[rng.randrange(HEADER_OCTETS, len(octets) + 1) :]
    if rng.random() < 0.1:
        octets[rng.randrange(len(octets))] = rng.randrange(256)
    if rng.random() < 0.9:
        octets += bytes(-len(octets) % 4)
        octets[0:4] = (1 << 24 | len(octets)).to_bytes(4, "big")
    if rng.random() < 0.1:
        _spoil_header(rng, octets)
    return bytes(octets)


def header_passes(message: bytes) -> bool:
    """Say whether a receiver would go on to the AVPs: version 1, and the length is the true one."""
    return (
        len(message) >= HEADER_OCTETS and len(message) % 4 == 0 and message[:4] == (1 << 24 | len(message)).to_bytes(4)
    )
