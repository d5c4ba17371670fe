# cython: language_level=3, binding=True
"""Redis' protocol, compiled. The readable twin, with the reasons, is balance/_resp_reference.py.

A leaf: transactions are taken as the plain tuples that they are, and checked here while they are packed. Replies are
read through a bare pointer; each read stands behind a comparison with the end of the octets.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

cdef enum:
    HEADER_OCTETS = 18
    VERSION_OCTETS = 16
    MAX_TRANSACTIONS = 64
    MAX_LEASE_MS = 10000
    MAX_LEASE_NAME = 255
    MAX_TTL_S = 3155760000
    DELETE = 0xFFFFFFFF
    TIMED = 1
    REPEATS = 2
    TAKES = 4
    MAX_BULK_OCTETS = 536870912
    MAX_MEMBERS = 1048576
    MAX_LINE_OCTETS = 65536
    MAX_DEPTH = 8

cdef int64_t MAX_EXACT_SCORE = 9007199254740992


cdef class _Buffer:
    """Octets that grow at their end; kept from call to call, so that a call asks for no memory but its result's."""

    cdef char* data
    cdef Py_ssize_t size
    cdef Py_ssize_t room

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef int reserve(self, Py_ssize_t more) except -1:
        if self.size + more > self.room:
            room = 2 * (self.size + more)
            data = <char*>PyMem_Realloc(self.data, room)
            if data == NULL:
                raise MemoryError
            self.data = data
            self.room = room
        return 0

    cdef int put(self, const char* octets, Py_ssize_t size) except -1:
        self.reserve(size)
        memcpy(self.data + self.size, octets, size)
        self.size += size
        return 0

    cdef int put_number(self, uint32_t number, int octets) except -1:
        """Big-endian, of 1 to 4 octets."""
        self.reserve(4)
        cdef int shift = 8 * (octets - 1)
        while shift >= 0:
            self.data[self.size] = <char>((number >> shift) & 0xFF)
            self.size += 1
            shift -= 8
        return 0

    cdef int put_decimal(self, int64_t number) except -1:
        cdef char digits[24]
        cdef int at = 24
        cdef uint64_t left = <uint64_t>number if number >= 0 else 0 - <uint64_t>number
        while True:
            at -= 1
            digits[at] = 48 + left % 10
            left = left // 10
            if left == 0:
                break
        if number < 0:
            at -= 1
            digits[at] = 45
        return self.put(digits + at, 24 - at)

    cdef int open_bulk(self, Py_ssize_t size) except -1:
        self.reserve(size + 32)
        self.data[self.size] = 36
        self.size += 1
        self.put_decimal(size)
        self.data[self.size] = 13
        self.data[self.size + 1] = 10
        self.size += 2
        return 0

    cdef int end_line(self) except -1:
        self.reserve(2)
        self.data[self.size] = 13
        self.data[self.size + 1] = 10
        self.size += 2
        return 0

    cdef int bulk(self, const char* octets, Py_ssize_t size) except -1:
        self.open_bulk(size)
        memcpy(self.data + self.size, octets, size)
        self.size += size
        return self.end_line()

    cdef int bulk_of(self, bytes octets) except -1:
        if octets is None:
            raise TypeError("octets were expected, not None")
        return self.bulk(PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))

    cdef int bulk_decimal(self, int64_t number) except -1:
        cdef uint64_t left = <uint64_t>number if number >= 0 else 0 - <uint64_t>number
        cdef int digits = 1 if number >= 0 else 2
        while left >= 10:
            left = left // 10
            digits += 1
        self.open_bulk(digits)
        self.put_decimal(number)
        return self.end_line()

    cdef bytes taken(self):
        return PyBytes_FromStringAndSize(self.data, self.size)


cdef _Buffer _out = _Buffer()
cdef _Buffer _shape = _Buffer()


def encode_command(arguments):
    """One command as an array of bulk strings."""
    cdef bytes argument
    _out.size = 0
    _out.put(b"*", 1)
    _out.put_decimal(len(arguments))
    _out.end_line()
    for argument in arguments:
        _out.bulk_of(argument)
    return _out.taken()


cdef inline tuple _tuple(object one):
    """A tuple or one of its subclasses, such as a NamedTuple; Cython's own check takes no subclass."""
    if not isinstance(one, tuple):
        raise TypeError(f"a tuple was expected, not {type(one).__name__}")
    return <tuple>one


cdef int64_t _number(object number) except? -1:
    try:
        return number
    except OverflowError:
        raise ValueError(f"{number} has more than 64 bits") from None


cdef int _check_write(bytes tag, bytes key, bytes expected, bytes data, int64_t ttl_s) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(tag)
    if key is None:
        raise TypeError("a key was expected, not None")
    if PyBytes_GET_SIZE(key) < size or memcmp(PyBytes_AS_STRING(key), PyBytes_AS_STRING(tag), size) != 0:
        raise ValueError(f"key {key!r} is not of the partition {tag!r}")
    if expected is not None and PyBytes_GET_SIZE(expected) != VERSION_OCTETS:
        raise ValueError(f"expected version of {len(expected)} octets for {key!r}, not {VERSION_OCTETS}")
    if ttl_s < 0 or ttl_s > <int64_t>MAX_TTL_S:
        raise ValueError(f"time to live of {ttl_s} s for {key!r}, expected 0 to {<int64_t>MAX_TTL_S}")
    if data is None:
        return 0
    if PyBytes_GET_SIZE(data) < HEADER_OCTETS:
        raise ValueError(f"document of {len(data)} octets for {key!r}, expected at least {HEADER_OCTETS}")
    if expected is not None and memcmp(PyBytes_AS_STRING(data), PyBytes_AS_STRING(expected), VERSION_OCTETS) == 0:
        raise ValueError(f"the write of {key!r} does not change the version")
    return 0


cdef int _put_lease(tuple lease) except -1:
    """The flag that it adds."""
    cdef bytes root = lease[0]
    cdef bytes holder = lease[1]
    cdef bytes name
    cdef int64_t take_ms = _number(lease[2])
    if take_ms < 0 or take_ms > MAX_LEASE_MS:
        raise ValueError(f"lease of {take_ms} ms, expected 0 to {MAX_LEASE_MS}")
    for name in (root, holder):
        if not 1 <= len(name) <= MAX_LEASE_NAME:
            raise ValueError(f"name of {len(name)} octets in a lease, expected 1 to {MAX_LEASE_NAME}")
    _shape.put_number(<uint32_t>take_ms, 2)
    for name in (root, holder):
        _shape.put_number(<uint32_t>PyBytes_GET_SIZE(name), 1)
        _shape.put(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
    return TAKES if take_ms else 0


cdef int _put_due(tuple change) except -1:
    """The two changes of a due time, as their arguments."""
    cdef bytes member = change[0]
    cdef int64_t at_us
    if change[1] is None:
        _out.bulk(b"ZREM", 4)
        _out.bulk_of(member)
        _out.bulk(b"", 0)
    else:
        at_us = _number(change[1])
        if -MAX_EXACT_SCORE < at_us < MAX_EXACT_SCORE:
            _out.bulk(b"ZADD", 4)
            _out.bulk_decimal(at_us)
            _out.bulk_of(member)
        else:
            _out.bulk(b"ZREM", 4)
            _out.bulk_of(member)
            _out.bulk(b"", 0)
            _out.bulk(b"HSET", 4)
            _out.bulk_of(member)
            _out.bulk_decimal(at_us)
            return 0
    _out.bulk(b"HDEL", 4)
    _out.bulk_of(member)
    _out.bulk(b"", 0)
    return 0


cdef int _put_index(tuple change) except -1:
    cdef bytes member = change[1]
    if change[2]:
        _out.bulk(b"ZADD", 4)
        _out.bulk(b"0", 1)
        _out.bulk_of(member)
    else:
        _out.bulk(b"ZREM", 4)
        _out.bulk_of(member)
        _out.bulk(b"", 0)
    return 0


def encode_commit(bytes opening, tuple names, transactions):
    """A call of commit.lua; `opening` are its two first arguments (FCALL and the name), already encoded.

    Raises `ValueError` as `balance.store.check_commit` does, and for more than 65,535 parts of one kind in a transaction.
    """
    if len(names) != 6 or opening is None:
        raise TypeError("six names and an opening were expected")
    cdef bytes tag = names[0]
    cdef bytes due_set = names[3]
    cdef bytes far = names[4]
    cdef bytes prefix = names[5]
    cdef bytes key, expected, data, event, name
    cdef object one, part
    cdef tuple transaction, writes, write
    cdef Py_ssize_t count = len(transactions)
    cdef Py_ssize_t n = 0, events = 0, changes = 0, here
    cdef int64_t ttl_s
    cdef int flags = 0
    cdef int number = 0
    cdef dict seen = {}
    if not 1 <= count <= MAX_TRANSACTIONS:
        raise ValueError(f"{count} transactions in one commit, expected 1 to {MAX_TRANSACTIONS}")
    # Everything is checked before anything is packed, in the order in which the twin checks it.
    for one in transactions:
        transaction = _tuple(one)
        number += 1
        writes = _tuple(transaction[0])
        if len(writes) > 1 and len({_tuple(part)[0] for part in writes}) < len(writes):
            raise ValueError("a transaction writes one key twice")
        for part in writes:
            write = _tuple(part)
            key, expected, data = write[0], write[1], write[2]
            ttl_s = _number(write[3])
            _check_write(tag, key, expected, data, ttl_s)
            if ttl_s or data is None:
                flags |= TIMED
            seen[key] = number
        here = 2 * len(_tuple(transaction[2])) + len(_tuple(transaction[3]))
        if len(writes) > 0xFFFF or len(_tuple(transaction[1])) > 0xFFFF or here > 0xFFFF:
            raise ValueError("more than 65535 writes, events or changes in one transaction")
        if transaction[4] is not None:
            _shape.size = 0
            flags |= _put_lease(_tuple(transaction[4]))
        n += len(writes)
        events += len(<tuple>transaction[1])
        changes += here
    if len(seen) < n:
        flags |= REPEATS
    _put_shape(transactions, flags, n, events)
    _out.size = 0
    _out.put(b"*", 1)
    _out.put_decimal(2 + 1 + 2 + n + changes + 1 + 2 * n + events + 3 * changes)
    _out.end_line()
    _out.put(PyBytes_AS_STRING(opening), PyBytes_GET_SIZE(opening))
    _out.bulk_decimal(2 + n + changes)
    _out.bulk_of(names[1])
    _out.bulk_of(names[2])
    for one in transactions:
        transaction = <tuple>one
        for part in <tuple>transaction[0]:
            write = <tuple>part
            _out.bulk_of(<bytes>write[0])
    if changes:
        for one in transactions:
            transaction = <tuple>one
            for part in <tuple>transaction[2]:
                _out.bulk_of(due_set)
                _out.bulk_of(far)
            for part in <tuple>transaction[3]:
                name = _tuple(part)[0]
                if name is None:
                    raise TypeError("the name of an index was expected, not None")
                _out.open_bulk(PyBytes_GET_SIZE(prefix) + PyBytes_GET_SIZE(name))
                _out.put(PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
                _out.put(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
                _out.end_line()
    _out.bulk(_shape.data, _shape.size)
    for one in transactions:
        transaction = <tuple>one
        for part in <tuple>transaction[0]:
            write = <tuple>part
            expected = write[1]
            if expected is None:
                _out.bulk(b"", 0)
            else:
                _out.bulk_of(expected)
    for one in transactions:
        transaction = <tuple>one
        for part in <tuple>transaction[0]:
            write = <tuple>part
            data = write[2]
            if data is None:
                _out.bulk(b"", 0)
            else:
                _out.bulk_of(data)
    for one in transactions:
        transaction = <tuple>one
        for event in <tuple>transaction[1]:
            _out.bulk_of(event)
    if changes:
        for one in transactions:
            transaction = <tuple>one
            for part in <tuple>transaction[2]:
                _put_due(_tuple(part))
            for part in <tuple>transaction[3]:
                _put_index(_tuple(part))
    return _out.taken()


cdef int _put_shape(transactions, int flags, Py_ssize_t n, Py_ssize_t events) except -1:
    cdef object one, part
    cdef tuple transaction, write
    _shape.size = 0
    _shape.put_number(flags, 1)
    _shape.put_number(len(transactions), 2)
    _shape.put_number(n, 4)
    _shape.put_number(events, 4)
    if flags & TIMED:
        for one in transactions:
            transaction = <tuple>one
            for part in <tuple>transaction[0]:
                write = <tuple>part
                _shape.put_number(DELETE if write[2] is None else <uint32_t>_number(write[3]), 4)
    for one in transactions:
        transaction = <tuple>one
        _shape.put_number(len(<tuple>transaction[0]), 2)
        _shape.put_number(len(<tuple>transaction[1]), 2)
        _shape.put_number(2 * len(<tuple>transaction[2]) + len(<tuple>transaction[3]), 2)
        _shape.put_number(0 if transaction[4] is None else 1, 1)
    for one in transactions:
        transaction = <tuple>one
        if transaction[4] is not None:
            _put_lease(<tuple>transaction[4])
    return 0


cdef object _MORE = object()


cdef class Parser:
    """Replies from octets as they arrive, split anywhere."""

    def __init__(self, error_type):
        self.error_type = error_type
        self.chunks = []

    def feed(self, bytes data):
        """The replies that are complete now, in order.

        `ValueError` when the stream is no RESP2: from then on nothing of it can be believed.
        """
        cdef list replies = []
        cdef const char* start
        cdef Py_ssize_t end, at = 0, after
        cdef object reply
        if self.broken:
            raise ValueError("the stream of replies was broken before")
        if self.waiting:
            self.chunks.append(data)
            self.waiting += len(data)
            if self.waiting < self.need:
                return replies
            data = b"".join(self.chunks)
            self.chunks = []
            self.waiting = 0
        start = PyBytes_AS_STRING(data)
        end = PyBytes_GET_SIZE(data)
        try:
            while at < end:
                after = at
                reply = self.reply(start, end, &after, MAX_DEPTH)
                if reply is _MORE:
                    self.chunks.append(data[at:] if at else data)
                    self.waiting = end - at
                    self.need -= at
                    break
                replies.append(reply)
                at = after
        except ValueError:
            self.broken = True
            raise
        return replies

    cdef object more(self, Py_ssize_t need):
        self.need = need
        return _MORE

    cdef object reply(self, const char* start, Py_ssize_t end, Py_ssize_t* place, int depth):
        """The reply at `place`, which moves behind it; `_MORE` if it is not whole."""
        cdef Py_ssize_t at = place[0], limit, stop
        cdef const char* found
        cdef char kind
        cdef int64_t number
        if at >= end:
            return self.more(end + 1)
        limit = end if end - at < MAX_LINE_OCTETS else at + MAX_LINE_OCTETS
        found = <const char*>memchr(start + at, 13, limit - at)
        if found == NULL and end - at >= MAX_LINE_OCTETS:
            raise ValueError(f"a line of a reply is longer than {MAX_LINE_OCTETS} octets")
        kind = start[at]
        if kind != 58 and kind != 36 and kind != 42 and kind != 43 and kind != 45:
            raise ValueError(f"reply of kind {start[at:at + 1]!r}")
        if found == NULL or found - start + 1 >= end:
            return self.more(end + 1)
        stop = found - start
        if start[stop + 1] != 10:
            raise ValueError("a line of a reply does not end in CRLF")
        place[0] = stop + 2
        if kind == 43:
            return PyBytes_FromStringAndSize(start + at + 1, stop - at - 1)
        if kind == 45:
            return self.error_type(PyUnicode_DecodeUTF8(start + at + 1, stop - at - 1, "replace"))
        number = _integer(start + at + 1, stop - at - 1)
        if kind == 58:
            return number
        if kind == 36:
            return self.bulk(start, end, place, number)
        return self.array(start, end, place, number, depth)

    cdef object bulk(self, const char* start, Py_ssize_t end, Py_ssize_t* place, int64_t size):
        cdef Py_ssize_t at = place[0]
        if size == -1:
            return None
        if size < 0 or size > MAX_BULK_OCTETS:
            raise ValueError(f"bulk string of {size} octets")
        if at + size + 2 > end:
            return self.more(at + size + 2)
        if start[at + size] != 13 or start[at + size + 1] != 10:
            raise ValueError("a bulk string does not end in CRLF")
        place[0] = at + size + 2
        return PyBytes_FromStringAndSize(start + at, size)

    cdef object array(self, const char* start, Py_ssize_t end, Py_ssize_t* place, int64_t size, int depth):
        cdef list members
        cdef object member
        if size == -1:
            return None
        if size < 0 or size > MAX_MEMBERS:
            raise ValueError(f"array of {size} members")
        if depth == 0:
            raise ValueError(f"arrays nested deeper than {MAX_DEPTH}")
        members = []
        while size > 0:
            member = self.reply(start, end, place, depth - 1)
            if member is _MORE:
                return _MORE
            members.append(member)
            size -= 1
        return members


cdef int64_t _integer(const char* digits, Py_ssize_t size) except? -1:
    cdef int64_t number = 0
    cdef Py_ssize_t at = 1 if size > 0 and digits[0] == 45 else 0
    cdef Py_ssize_t first = at
    if not 1 <= size - first <= 18:
        raise ValueError(f"number {digits[:min(size, 32)]!r} in a reply")
    while at < size:
        if not 48 <= digits[at] <= 57:
            raise ValueError(f"number {digits[:min(size, 32)]!r} in a reply")
        number = 10 * number + (digits[at] - 48)
        at += 1
    return -number if first else number
