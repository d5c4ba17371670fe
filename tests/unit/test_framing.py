"""The framer's own promises: linear work, and nothing kept that is not needed."""

from __future__ import annotations

import time

from protocols.diameter.framing import Framer, FramingFault
from tests.support.gy_client import Requests


def test_one_octet_at_a_time_is_linear() -> None:
    framer = Framer(1 << 20)
    length = 1 << 18
    framer.feed(b"\1" + length.to_bytes(3, "big") + bytes(16))
    start = time.process_time()
    for _ in range(length - 20):
        framer.feed(b"\0")
        framer.next_frame()
    # A quarter of a second here; copying the buffer for each octet would take minutes.
    assert time.process_time() - start < 10
    assert framer.buffered_octets == 0


def test_nothing_is_kept_after_a_fatal_fault() -> None:
    framer = Framer(1024)
    framer.feed(b"\1\xff\xff\xfc" + bytes(16))
    fault = framer.next_frame()
    assert isinstance(fault, FramingFault)
    assert fault.fatal
    framer.feed(bytes(1 << 20))
    assert framer.buffered_octets == 0
    assert framer.next_frame() is None


def test_the_limit_may_be_raised_between_two_messages() -> None:
    dwr = Requests().dwr()
    framer = Framer(len(dwr))
    long = b"\1" + (len(dwr) + 4).to_bytes(3, "big") + dwr[4:] + bytes(4)
    framer.feed(dwr + long)
    assert framer.next_frame() == dwr
    framer.max_message_octets = len(long)
    assert framer.next_frame() == long


def test_a_wrong_first_octet_is_enough_before_the_first_message() -> None:
    framer = Framer(1024)
    framer.feed(b"G")
    assert framer.next_frame() == FramingFault(5011, None, fatal=True)
    sure = Framer(1024)
    sure.sure = True
    sure.feed(b"G")
    assert sure.next_frame() is None


def test_a_message_of_another_version_is_skipped_whole() -> None:
    dwr = Requests().dwr()
    framer = Framer(1024)
    framer.sure = True
    framer.feed(b"\2" + dwr[1:-1])
    assert framer.next_frame() is None
    framer.feed(dwr[-1:] + dwr)
    fault = framer.next_frame()
    assert isinstance(fault, FramingFault)
    assert not fault.fatal
    assert framer.next_frame() == dwr
