# cython: language_level=3, binding=True
"""The AVP codec, compiled. The readable twin, with the reasons for each choice, is protocols/diameter/_avp_reference.py.

A leaf: it imports nothing of ours and is given the dictionary's rows and the error types. Octets of a message are read
through a bare pointer, so no bounds check of Cython's applies; each read stands behind a comparison with `end`, and
`end` never passes the message: `sequence` is called with the message's own end, or with the end of an AVP that `avp`
has found to lie inside its surroundings.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_CheckExact
from cpython.long cimport PyLong_Check
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strlen

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject* op)
    double PyFloat_Unpack4(const char* data, int little_endian) except? -1.0
    double PyFloat_Unpack8(const char* data, int little_endian) except? -1.0
    int PyFloat_Pack4(double number, char* data, int little_endian) except -1
    int PyFloat_Pack8(double number, char* data, int little_endian) except -1

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET
        AF_INET6
    const char* inet_ntop(int family, const void* octets, char* text, unsigned int text_octets)
    int inet_pton(int family, const char* text, void* octets)

cdef enum:
    DEPTH_LIMIT = 16
    AVP_LIMIT = 4096
    ERROR_LIMIT = 64
    HEADER_OCTETS = 20
    LENGTH_MAX = 0xFFFFFF
    MESSAGE_OCTETS_MAX = 0xFFFFFC
    MEMBER_LIMIT = 128
    UNLIMITED = 0xFFFF
    PROXY_INFO = 284
    RESULT_CODE = 268
    FIRSTS_MAX = 8
    FLAG_VENDOR = 0x80
    FLAG_MANDATORY = 0x40

# Kinds of the wire, numbered as in protocols/diameter/dictionary.py.
cdef enum:
    OCTETS = 0
    UTF8
    ASCII
    UNSIGNED32
    UNSIGNED64
    INTEGER32
    INTEGER64
    FLOAT32
    FLOAT64
    ADDRESS
    ADDRESS_OR_RAW
    TIME
    GROUPED
    GROUPED_QUOTE
    OCTETS_OR_UNSIGNED32

cdef enum:
    AVP_UNSUPPORTED = 5001
    INVALID_AVP_VALUE = 5004
    MISSING_AVP = 5005
    AVP_NOT_ALLOWED = 5008
    AVP_OCCURS_TOO_MANY_TIMES = 5009
    UNABLE_TO_COMPLY = 5012
    INVALID_AVP_LENGTH = 5014

cdef enum:
    FAMILY_IPV4 = 1
    FAMILY_IPV6 = 2
    FAMILY_E164 = 8

cdef enum:
    BROKEN = -1  # the next AVP of this sequence cannot be found
    STOPPED = -2  # a limit is reached, the decoder ends

cdef int64_t UNIX_EPOCH_NTP = 2208988800
cdef int64_t ERA_SECONDS = 1LL << 32
cdef int64_t TIME_LEAST = (1LL << 31) - 2208988800
cdef int64_t TIME_MOST = (1LL << 31) - 1 + (1LL << 32) - 2208988800

# What `value` returns when there is none: the AVP is in error, or to be treated as absent.
cdef object BAD = object()
cdef object IGNORED = object()

ENCODING_ERRORS = (ValueError, TypeError, OverflowError, OSError, AttributeError, LookupError)


cdef inline uint32_t load32(const unsigned char* at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline uint64_t load64(const unsigned char* at) noexcept nogil:
    return (<uint64_t>load32(at) << 32) | load32(at + 4)


cdef inline void store32(unsigned char* at, uint32_t number) noexcept nogil:
    at[0] = <unsigned char>(number >> 24)
    at[1] = <unsigned char>(number >> 16)
    at[2] = <unsigned char>(number >> 8)
    at[3] = <unsigned char>number


cdef inline Py_ssize_t padded(Py_ssize_t octets) noexcept nogil:
    return (octets + 3) & ~<Py_ssize_t>3


cdef Py_ssize_t least_octets_of(int kind) noexcept:
    if kind in (UNSIGNED32, INTEGER32, FLOAT32, TIME):
        return 4
    if kind in (UNSIGNED64, INTEGER64, FLOAT64):
        return 8
    return 0


cdef str name_of(uint64_t key):
    return f"{key >> 32}:{key & 0xFFFFFFFF}"


@cython.final
cdef class Row:
    """One AVP of the dictionary; the members of a group stand in arrays, found by their place."""

    cdef object key
    cdef str name
    cdef int kind
    cdef bint mandatory
    cdef uint64_t number
    cdef Py_ssize_t least_octets
    cdef object allowed
    cdef Py_ssize_t member_count
    cdef uint64_t[MEMBER_LIMIT] member_keys
    cdef uint16_t[MEMBER_LIMIT] member_least
    cdef uint16_t[MEMBER_LIMIT] member_most

    def __cinit__(self, row):
        self.key = row.key
        self.number = row.key
        self.name = row.name
        self.kind = row.kind
        self.mandatory = row.mandatory
        self.least_octets = least_octets_of(self.kind)
        self.allowed = row.allowed
        self.member_count = len(row.members)
        if self.member_count > MEMBER_LIMIT:
            raise ValueError(f"{row.name}: {self.member_count} members, at most {MEMBER_LIMIT}")
        # Indices stay below member_count, which is at most MEMBER_LIMIT, the arrays' size.
        for place, (key, least, most) in enumerate(row.members):
            self.member_keys[place] = key
            self.member_least[place] = least
            self.member_most[place] = UNLIMITED if most is None else most


@cython.final
cdef class Table:
    """The rows by key: open addressing in a table at least twice as large as the rows are many, so a search ends."""

    cdef list rows
    cdef uint64_t* keys
    cdef int* places
    cdef uint64_t mask

    def __cinit__(self, rows):
        self.rows = [Row(given) for given in rows]
        cdef uint64_t size = 4
        while size < 2 * <uint64_t>len(self.rows):
            size *= 2
        self.mask = size - 1
        self.keys = <uint64_t*>PyMem_Malloc(size * sizeof(uint64_t))
        self.places = <int*>PyMem_Malloc(size * sizeof(int))
        if self.keys is NULL or self.places is NULL:
            raise MemoryError
        for slot in range(size):
            self.places[slot] = -1
        cdef Row row
        cdef int place = 0
        for row in self.rows:
            slot = self.slot_of(row.number)
            self.keys[slot] = row.number
            self.places[slot] = place
            place += 1

    def __dealloc__(self):
        PyMem_Free(self.keys)
        PyMem_Free(self.places)

    cdef inline uint64_t slot_of(self, uint64_t key) noexcept:
        # The multiplier is 2^64 / golden ratio (Fibonacci hashing): neighbouring codes spread over the table.
        cdef uint64_t slot = ((key * <uint64_t>0x9E3779B97F4A7C15) >> 40) & self.mask
        while self.places[slot] >= 0 and self.keys[slot] != key:
            slot = (slot + 1) & self.mask
        return slot

    cdef inline Row find(self, uint64_t key):
        cdef int place = self.places[self.slot_of(key)]
        return None if place < 0 else <Row>self.rows[place]


@cython.final
@cython.freelist(64)
cdef class Message:
    """A decoded message; `errors` empty means that all of `avps` may be used."""

    @property
    def signature(self):
        """Flags, Command-Code and Application-Id in one number."""
        return (<uint64_t>self.flags << 56) | (<uint64_t>self.command << 32) | self.application

    @property
    def is_request(self):
        """R bit."""
        return (self.flags & 0x80) != 0

    @property
    def is_proxiable(self):
        """P bit."""
        return (self.flags & 0x40) != 0

    @property
    def is_error(self):
        """E bit."""
        return (self.flags & 0x20) != 0

    @property
    def is_retransmit(self):
        """T bit."""
        return (self.flags & 0x10) != 0


cdef Message new_message(bytes data):
    """Read the header; the caller has made sure of its 20 octets."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Message message = Message.__new__(Message)
    message.version = at[0]
    message.length = load32(at) & LENGTH_MAX
    message.flags = at[4]
    message.command = load32(at + 4) & LENGTH_MAX
    message.application = load32(at + 8)
    message.hop_by_hop = load32(at + 12)
    message.end_to_end = load32(at + 16)
    message.data = data
    message.avps = []
    message.errors = []
    message.proxy_infos = []
    message.faulty = []
    return message


cdef bytes head_octets(uint32_t code, unsigned char flags, const unsigned char* vendor, Py_ssize_t value_octets):
    """Write an AVP's header, `vendor` being its four octets or NULL, followed by that many zeros."""
    cdef Py_ssize_t head = 8 if vendor is NULL else 12
    cdef Py_ssize_t length = head + value_octets
    cdef bytes octets = PyBytes_FromStringAndSize(NULL, length)
    cdef unsigned char* at = <unsigned char*>PyBytes_AS_STRING(octets)
    store32(at, code)
    store32(at + 4, (<uint32_t>flags << 24) | <uint32_t>length)
    if vendor is not NULL:
        memcpy(at + 8, vendor, 4)
    memset(at + head, 0, value_octets)
    return octets


cdef bytes pad(bytes octets):
    cdef Py_ssize_t missing = padded(PyBytes_GET_SIZE(octets)) - PyBytes_GET_SIZE(octets)
    return octets if missing == 0 else octets + b"\0\0\0"[:missing]


cdef bytes example(Row row):
    cdef unsigned char[4] vendor
    cdef uint32_t number = <uint32_t>(row.number >> 32)
    cdef unsigned char flags = FLAG_MANDATORY if row.mandatory else 0
    store32(vendor, number)
    if number == 0:
        return head_octets(<uint32_t>row.number, flags, NULL, row.least_octets)
    return head_octets(<uint32_t>row.number, flags | FLAG_VENDOR, vendor, row.least_octets)


@cython.final
@cython.freelist(8)
cdef class Decoding:
    """The state of decoding one message."""

    cdef Table table
    cdef object avp_error
    cdef object tolerated
    cdef Message message
    cdef const unsigned char* octets
    cdef int count
    cdef Py_ssize_t last_place  # in the group at hand, of the member found last; -1 for none
    cdef int quoting
    cdef bint stopped
    cdef int depth
    cdef Py_ssize_t[DEPTH_LIMIT] chain  # where the headers of the groups around the AVP at hand begin, outermost first

    cdef int report(self, int result_code, bytes failed, str name, str detail) except -1:
        """Add an error, its Failed-AVP wrapped in the groups around it (DB-049)."""
        cdef int level
        cdef const unsigned char* at
        if self.quoting:
            return 0
        failed = pad(failed)
        for level in range(self.depth - 1, -1, -1):
            at = self.octets + self.chain[level]
            failed = group_head(at, PyBytes_GET_SIZE(failed)) + failed
        return self.add(result_code, failed, name, detail)

    cdef int add(self, int result_code, bytes failed, str name, str detail) except -1:
        """Add an error as it stands; the last that may be added stops the decoder."""
        self.message.errors.append(self.avp_error(result_code, failed, name, detail))
        self.stopped = len(self.message.errors) >= ERROR_LIMIT
        return 0

    cdef int sequence(self, Py_ssize_t start, Py_ssize_t end, Row group, list avps) except -1:
        """Decode the AVPs between two offsets into `avps`; `group` is the row of the group they stand in, or None."""
        cdef uint16_t[MEMBER_LIMIT] seen
        cdef Py_ssize_t place
        cdef Row row
        cdef Py_ssize_t outer_place = self.last_place
        if group is not None:
            memset(seen, 0, group.member_count * sizeof(uint16_t))
        self.last_place = -1
        while start < end:
            start = self.avp(start, end, group, avps, seen)
            if start < 0:
                self.last_place = outer_place
                return 0
        self.last_place = outer_place
        if group is None:
            return 0
        for place in range(group.member_count):
            if seen[place] < group.member_least[place]:
                row = self.table.find(group.member_keys[place])
                self.report(MISSING_AVP, example(row), row.name, f"missing in {group.name}")
                if self.stopped:
                    return 0
        return 0

    cdef Py_ssize_t avp(
        self, Py_ssize_t start, Py_ssize_t end, Row group, list avps, uint16_t* seen
    ) except -3:
        """Decode one AVP into `avps` and return the offset of the next, BROKEN or STOPPED."""
        cdef const unsigned char* at = self.octets + start
        cdef Py_ssize_t left = end - start
        cdef unsigned char[8] cut
        cdef Py_ssize_t length, head, following
        cdef unsigned char flags
        cdef uint32_t vendor = 0
        cdef uint64_t key
        cdef Py_ssize_t place = -1
        cdef Row row
        cdef object value
        cdef tuple found
        self.count += 1
        if self.count > AVP_LIMIT:
            self.add(UNABLE_TO_COMPLY, b"", "", f"more than {AVP_LIMIT} AVPs")
            self.stopped = True
            return STOPPED
        if left < 8:
            memset(cut, 0, 8)
            memcpy(cut, at, left)
            return self.bad_length(cut, 8, 0)
        flags = at[4]
        length = load32(at + 4) & LENGTH_MAX
        head = 12 if flags & FLAG_VENDOR else 8
        if length < head or left < head:
            return self.bad_length(at, min(max(length, 8), head, left), 0)
        key = load32(at)
        if head == 12:
            vendor = load32(at + 8)
            key |= <uint64_t>vendor << 32
        row = self.table.find(key)
        if head == 12 and vendor == 0 and 0 not in self.tolerated:
            row = None
        following = padded(length)
        if following > left:
            return self.bad_length(at, head, 0 if row is None else row.least_octets)
        # From here on `length`, and so all of the AVP, lies inside `left`.
        if row is None:
            self.unknown(at, length, key, flags)
            return STOPPED if self.stopped else start + following
        if group is None:
            if row.number == PROXY_INFO:
                self.message.proxy_infos.append(pad(at[:length]))
        else:
            place = self.occurrence(group, row, at, length, seen)
            if self.stopped:
                return STOPPED
        value = self.value(row, at, start, head, length, flags)
        if self.stopped:
            return STOPPED
        if value is IGNORED:
            if place >= 0:
                seen[place] -= 1
        elif value is BAD:
            if group is None:
                self.message.faulty.append(row.key)
        else:
            found = (row.key, flags, value)
            # A tuple of atoms can be in no cycle: the garbage collector need not look at it, as it would find by itself
            # when it first came by. Hundreds of messages are decoded before one is answered, so that it comes often.
            if not PyList_CheckExact(value):
                PyObject_GC_UnTrack(<PyObject*>found)
            avps.append(found)
        return start + following

    cdef Py_ssize_t bad_length(self, const unsigned char* at, Py_ssize_t known, Py_ssize_t least_octets) except -3:
        """Report a length from which the next AVP cannot be found; `known` octets of the header are there (DB-043)."""
        cdef unsigned char[4] vendor
        cdef uint64_t key = load32(at)
        cdef bytes failed
        cdef Row row
        if at[4] & FLAG_VENDOR:
            memset(vendor, 0, 4)
            memcpy(vendor, at + 8, known - 8)
            key |= <uint64_t>load32(vendor) << 32
            failed = head_octets(load32(at), at[4], vendor, least_octets)
        else:
            failed = head_octets(load32(at), at[4], NULL, least_octets)
        row = self.table.find(key)
        self.report(
            INVALID_AVP_LENGTH, failed, name_of(key) if row is None else row.name, "length out of bounds"
        )
        return STOPPED if self.stopped else BROKEN

    cdef int unknown(self, const unsigned char* at, Py_ssize_t length, uint64_t key, unsigned char flags) except -1:
        """Judge an AVP without a row: 5001 with M unless tolerated, otherwise ignored (DB-046, DB-047, DB-051)."""
        if not flags & FLAG_MANDATORY or self.quoting:
            return 0
        if key in self.tolerated or (flags & FLAG_VENDOR and (key >> 32) in self.tolerated):
            self.message.tolerated += 1
            return 0
        return self.report(AVP_UNSUPPORTED, at[:length], name_of(key), "unknown AVP with the M bit")

    cdef Py_ssize_t occurrence(
        self, Row group, Row row, const unsigned char* at, Py_ssize_t length, uint16_t* seen
    ) except -2:
        """Count a member of a group and return its place, -1 for none; the first one too many is 5009 (DB-053).

        `seen` has MEMBER_LIMIT places, `member_count` is no more, and AVP_LIMIT fits 16 bits.
        """
        cdef Py_ssize_t place, offset
        for offset in range(group.member_count):
            # Members mostly come in the order of the grammar, so the search begins after the last one found.
            place = self.last_place + 1 + offset
            if place >= group.member_count:
                place -= group.member_count
            if group.member_keys[place] != row.number:
                continue
            self.last_place = place
            seen[place] += 1
            if group.member_most[place] != UNLIMITED and seen[place] == group.member_most[place] + 1:
                detail = f"more than {group.member_most[place]} in {group.name}"
                self.report(AVP_OCCURS_TOO_MANY_TIMES, at[:length], row.name, detail)
            return place
        return -1

    cdef object value(
        self, Row row, const unsigned char* at, Py_ssize_t start, Py_ssize_t head, Py_ssize_t length, unsigned char flags
    ):
        """Decode the value of a known AVP; BAD after reporting it, IGNORED if the AVP is to be taken as absent."""
        cdef int kind = row.kind
        cdef const unsigned char* octets = at + head
        cdef Py_ssize_t size = length - head
        cdef object number
        cdef str detail
        if kind == GROUPED or kind == GROUPED_QUOTE:
            return self.group(row, start, head, length)
        if row.least_octets:
            if size != row.least_octets:
                detail = f"{size} octets of value, expected {row.least_octets}"
                failed = head_octets(load32(at), flags, at + 8 if head == 12 else NULL, row.least_octets)
                self.report(INVALID_AVP_LENGTH, failed, row.name, detail)
                return BAD
            number = fixed_value(kind, octets)
            if row.allowed is None or number in row.allowed or self.quoting:
                return number
            if not flags & FLAG_MANDATORY:
                return IGNORED
            detail = f"undefined value {number}"
        else:
            try:
                number = variable_value(kind, octets, size)
            except UnicodeDecodeError:
                number = BAD
            if number is not BAD:
                return number
            detail = (
                "not UTF-8" if kind == UTF8 else "not ASCII" if kind == ASCII
                else "address family and length disagree"
            )
        self.report(INVALID_AVP_VALUE, at[:length], row.name, detail)
        return BAD

    cdef object group(self, Row row, Py_ssize_t start, Py_ssize_t head, Py_ssize_t length):
        """Decode a group's members; a group too deep is left out."""
        cdef list members
        # `chain` has DEPTH_LIMIT places and `depth` stays below DEPTH_LIMIT - 1 here.
        if self.depth + 1 >= DEPTH_LIMIT:
            if not self.quoting:
                self.add(UNABLE_TO_COMPLY, b"", row.name, f"more than {DEPTH_LIMIT} levels of AVPs")
            return BAD
        members = []
        self.chain[self.depth] = start
        self.depth += 1
        self.quoting += row.kind == GROUPED_QUOTE
        self.sequence(start + head, start + length, row, members)
        self.quoting -= row.kind == GROUPED_QUOTE
        self.depth -= 1
        return members


cdef bytes group_head(const unsigned char* at, Py_ssize_t value_octets):
    """Copy the header at `at`, which has been found whole, with the length of another value."""
    cdef bytes octets = at[:12 if at[4] & FLAG_VENDOR else 8]
    store32(
        <unsigned char*>PyBytes_AS_STRING(octets) + 4,
        (<uint32_t>at[4] << 24) | <uint32_t>(PyBytes_GET_SIZE(octets) + value_octets),
    )
    return octets


cdef object fixed_value(int kind, const unsigned char* octets):
    """Decode a value whose size has been checked."""
    cdef int64_t seconds
    if kind == UNSIGNED32:
        return load32(octets)
    if kind == INTEGER32:
        return <int32_t>load32(octets)
    if kind == UNSIGNED64:
        return load64(octets)
    if kind == INTEGER64:
        return <int64_t>load64(octets)
    if kind == TIME:
        seconds = load32(octets)
        return seconds - UNIX_EPOCH_NTP + (0 if seconds >= 1LL << 31 else ERA_SECONDS)
    if kind == FLOAT32:
        return PyFloat_Unpack4(<const char*>octets, 0)
    return PyFloat_Unpack8(<const char*>octets, 0)


cdef object variable_value(int kind, const unsigned char* octets, Py_ssize_t size):
    """Decode a value of any size; BAD or UnicodeDecodeError if it is none of its kind."""
    if kind == UTF8:
        return PyUnicode_DecodeUTF8(<const char*>octets, size, NULL)
    if kind == ASCII:
        return PyUnicode_DecodeASCII(<const char*>octets, size, NULL)
    if kind == ADDRESS:
        return address(octets, size)
    if kind == ADDRESS_OR_RAW:
        return address_or_raw(octets, size)
    if kind == OCTETS_OR_UNSIGNED32 and size == 4:
        return load32(octets)
    return octets[:size]


# Each number of one octet in decimal digits, a full stop behind it; and how many digits.
cdef char[256][4] DECIMAL
cdef int[256] DECIMAL_OCTETS
for _number in range(256):
    _digits = str(_number).encode("ascii")
    DECIMAL_OCTETS[_number] = len(_digits)
    memcpy(DECIMAL[_number], PyBytes_AS_STRING((_digits + b".\0\0")[:4]), 4)


cdef str ipv4_text(const unsigned char* octets):
    """Write 4 octets as text, which has 15 characters at most."""
    cdef char[16] text
    cdef int size = 0, place
    for place in range(4):
        memcpy(text + size, DECIMAL[octets[place]], 4)
        size += DECIMAL_OCTETS[octets[place]] + 1
    return PyUnicode_DecodeASCII(text, size - 1, NULL)


cdef str ip_text(int family, const unsigned char* octets):
    """Write 4 or 16 octets as text; 46 characters hold the longest IPv6 address."""
    cdef char[64] text
    if inet_ntop(family, octets, text, sizeof(text)) is NULL:
        raise OSError("inet_ntop")
    return PyUnicode_DecodeASCII(text, <Py_ssize_t>strlen(text), NULL)


cdef inline tuple of_atoms(int family, object rest):
    """An Address, which the garbage collector need not look at either."""
    cdef tuple found = (family, rest)
    PyObject_GC_UnTrack(<PyObject*>found)
    return found


cdef object address(const unsigned char* octets, Py_ssize_t size):
    """Decode an Address: family and text, or octets of a family without a text form (RFC 6733 §4.3.1, DB-057)."""
    cdef int family
    if size == 4 and octets[0] != 0:
        return of_atoms(FAMILY_IPV4, ipv4_text(octets))
    if size < 2:
        return BAD
    family = (octets[0] << 8) | octets[1]
    if family == 0:
        return BAD
    if family == FAMILY_IPV4:
        return of_atoms(FAMILY_IPV4, ipv4_text(octets + 2)) if size == 6 else BAD
    if family == FAMILY_IPV6:
        return of_atoms(FAMILY_IPV6, ip_text(AF_INET6, octets + 2)) if size == 18 else BAD
    if family == FAMILY_E164:
        return of_atoms(FAMILY_E164, PyUnicode_DecodeASCII(<const char*>octets + 2, size - 2, NULL))
    return of_atoms(family, octets[2:size])


cdef object address_or_raw(const unsigned char* octets, Py_ssize_t size):
    cdef object found = BAD
    if size >= 2 and octets[0] == 0 and octets[1] in (FAMILY_IPV4, FAMILY_IPV6, FAMILY_E164):
        try:
            found = address(octets, size)
        except UnicodeDecodeError:
            found = BAD
    return of_atoms(0, octets[:size]) if found is BAD else found


@cython.final
cdef class Writer:
    """A growing buffer of octets."""

    cdef unsigned char* buffer
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    def __cinit__(self):
        self.capacity = 1024
        self.buffer = <unsigned char*>PyMem_Malloc(self.capacity)
        if self.buffer is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.buffer)

    cdef unsigned char* extend(self, Py_ssize_t octets) except NULL:
        """Make room for `octets` more and return where they go; earlier pointers are void."""
        cdef Py_ssize_t capacity = self.capacity
        cdef unsigned char* buffer
        while self.size + octets > capacity:
            capacity *= 2
        if capacity != self.capacity:
            buffer = <unsigned char*>PyMem_Realloc(self.buffer, capacity)
            if buffer is NULL:
                raise MemoryError
            self.buffer, self.capacity = buffer, capacity
        self.size += octets
        return self.buffer + self.size - octets

    cdef int write(self, bytes octets) except -1:
        memcpy(self.extend(PyBytes_GET_SIZE(octets)), PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))
        return 0

    cdef bytes octets(self):
        return PyBytes_FromStringAndSize(<char*>self.buffer, self.size)


cdef bytes octets_of(object value):
    if not isinstance(value, bytes):
        raise TypeError(f"value of type {type(value).__name__}, expected bytes")
    return bytes(value)


cdef object integer(object value):
    if not PyLong_Check(value):
        raise TypeError(f"value of type {type(value).__name__}, expected int")
    return value


cdef int write_address(Writer writer, object value, bint raw_allowed) except -1:
    cdef unsigned char[18] octets
    cdef bytes text
    family, rest = value
    if family == 0 and raw_allowed:
        return writer.write(octets_of(rest))
    if not 0 < family <= 0xFFFF:
        raise ValueError(f"address family {family}")
    octets[0] = <unsigned char>(<int>family >> 8)
    octets[1] = <unsigned char>(<int>family & 0xFF)
    if family == FAMILY_IPV4 or family == FAMILY_IPV6:
        text = str.encode(rest, "ascii")
        if b"\0" in text or inet_pton(AF_INET if family == FAMILY_IPV4 else AF_INET6, text, octets + 2) != 1:
            raise ValueError("not an IP address")
        memcpy(writer.extend(6 if family == FAMILY_IPV4 else 18), octets, 6 if family == FAMILY_IPV4 else 18)
        return 0
    text = str.encode(rest, "ascii") if family == FAMILY_E164 else octets_of(rest)
    memcpy(writer.extend(2), octets, 2)
    return writer.write(text)


cdef int write_fixed(Writer writer, int kind, object value) except -1:
    cdef int64_t seconds
    cdef uint64_t wide
    if kind == UNSIGNED32:
        store32(writer.extend(4), <uint32_t>integer(value))
    elif kind == INTEGER32:
        store32(writer.extend(4), <uint32_t><int32_t>integer(value))
    elif kind == TIME:
        seconds = integer(value)
        if not TIME_LEAST <= seconds <= TIME_MOST:
            raise ValueError("time outside of the two eras")
        store32(writer.extend(4), <uint32_t>((seconds + UNIX_EPOCH_NTP) & 0xFFFFFFFF))
    elif kind == FLOAT32:
        PyFloat_Pack4(value, <char*>writer.extend(4), 0)
    elif kind == FLOAT64:
        PyFloat_Pack8(value, <char*>writer.extend(8), 0)
    else:
        wide = <uint64_t>integer(value) if kind == UNSIGNED64 else <uint64_t><int64_t>integer(value)
        store32(writer.extend(4), <uint32_t>(wide >> 32))
        store32(writer.extend(4), <uint32_t>wide)
    return 0


@cython.final
cdef class Codec:
    """Encoder and decoder of the AVPs of a dictionary.

    `rows` have `key, name, kind, mandatory, members, allowed`; `avp_error` makes the entries of `Message.errors`;
    `local_error` is raised when asked to encode what cannot be encoded.
    """

    cdef Table table
    cdef object avp_error
    cdef object local_error

    def __init__(self, rows, avp_error, local_error):
        self.table = Table(rows)
        self.avp_error = avp_error
        self.local_error = local_error

    def decode_message(self, data, tolerated=frozenset()):
        """Decode a whole message of at least 20 octets; what is wrong with its AVPs is in `errors`.

        `tolerated` holds vendors or keys whose unknown AVPs pass with M set (DB-051); a number without a vendor part
        is both a vendor and a code of the IETF's.
        """
        cdef bytes octets = bytes(data)
        if len(octets) < HEADER_OCTETS:
            raise self.local_error(f"{len(octets)} octets are not a message")
        cdef Message message = new_message(octets)
        cdef Decoding decoding = Decoding.__new__(Decoding)
        decoding.table = self.table
        decoding.avp_error = self.avp_error
        decoding.tolerated = tolerated
        decoding.message = message
        # `message` keeps `octets` alive for as long as the pointer is used.
        decoding.octets = <const unsigned char*>PyBytes_AS_STRING(octets)
        decoding.sequence(HEADER_OCTETS, PyBytes_GET_SIZE(octets), None, message.avps)
        return message

    def encode_avp(self, key, value, flags=None):
        """Encode one AVP with its padding.

        The V bit follows the key and the M bit the dictionary; `flags`, if given, decides M instead, as it must for a
        key without a row, whose value is octets. All other bits are sent as 0 (DB-060).
        """
        cdef Writer writer = Writer.__new__(Writer)
        try:
            self.write_avp(writer, key, value, flags, 1)
        except ENCODING_ERRORS as error:
            raise self.local_error(f"AVP {key}: {error}") from error
        return writer.octets()

    def encode_message(self, command, application, flags, hop_by_hop, end_to_end, avps):
        """Encode a message; `avps` are `(key, value)`, `(key, flags, value)` or ready octets."""
        cdef Writer writer = Writer.__new__(Writer)
        cdef unsigned char* at = writer.extend(HEADER_OCTETS)
        for item in avps:
            try:
                self.write_item(writer, item, 1)
            except ENCODING_ERRORS as error:
                raise self.local_error(f"AVP {item[0] if isinstance(item, tuple) and item else '?'}: {error}") from error
        if writer.size > MESSAGE_OCTETS_MAX:
            raise self.local_error(f"message of {writer.size} octets")
        at = writer.buffer
        try:
            if not 0 <= command <= 0xFFFFFF or not 0 <= flags <= 0xFF:
                raise ValueError("command or flags out of range")
            store32(at, (1U << 24) | <uint32_t>writer.size)
            store32(at + 4, (<uint32_t>integer(flags) << 24) | <uint32_t>integer(command))
            store32(at + 8, <uint32_t>integer(application))
            store32(at + 12, <uint32_t>integer(hop_by_hop))
            store32(at + 16, <uint32_t>integer(end_to_end))
        except ENCODING_ERRORS as error:
            raise self.local_error(f"header: {error}") from error
        return writer.octets()

    def check_grammar(self, avps, grammar, faulty=()):
        """Compare the AVPs of a message with its grammar `{key: (least, most)}`; return the errors.

        The first instance too many is 5009, or 5008 if none is allowed; a missing AVP is 5005 with an example, unless
        it is among `faulty`: it was there (DB-052, DB-053, DB-054).
        """
        cdef dict counts = dict.fromkeys(grammar, 0)
        cdef list errors = []
        cdef Row row
        for key, flags, value in avps:
            if key not in counts:
                continue
            count = counts[key] + 1
            counts[key] = count
            most = grammar[key][1]
            if most is not None and count == most + 1:
                result_code = AVP_OCCURS_TOO_MANY_TIMES if most else AVP_NOT_ALLOWED
                failed = self.encode_avp(key, value, flags)
                errors.append(self.avp_error(result_code, failed, self.name(key), f"more than {most}"))
        for key, bounds in grammar.items():
            if counts[key] < bounds[0] and key not in faulty:
                row = self.table.find(key)
                errors.append(self.avp_error(MISSING_AVP, example(row), row.name, "missing"))
        return errors

    cdef str name(self, object key):
        cdef Row row = self.table.find(key)
        return name_of(key) if row is None else row.name

    cdef int write_item(self, Writer writer, object item, int depth) except -1:
        """Write ready octets, `(key, value)` or `(key, flags, value)`."""
        if isinstance(item, bytes):
            return writer.write(bytes(item))
        if len(item) == 3:
            return self.write_avp(writer, item[0], item[2], item[1], depth)
        return self.write_avp(writer, item[0], item[1], None, depth)

    cdef int write_avp(self, Writer writer, uint64_t key, object value, object flags, int depth) except -1:
        cdef Py_ssize_t start = writer.size
        cdef uint32_t vendor = <uint32_t>(key >> 32)
        cdef Row row = self.table.find(key)
        cdef uint32_t bits
        cdef Py_ssize_t length
        if row is None and flags is None:
            raise ValueError("no row in the dictionary")
        bits = (FLAG_MANDATORY if row.mandatory else 0) if flags is None else <uint32_t>(flags & FLAG_MANDATORY)
        store32(writer.extend(8), <uint32_t>key)
        if vendor:
            bits |= FLAG_VENDOR
            store32(writer.extend(4), vendor)
        if row is None:
            writer.write(octets_of(value))
        else:
            self.write_value(writer, row, value, depth)
        length = writer.size - start
        if length > LENGTH_MAX:
            raise ValueError(f"AVP of {length} octets")
        memset(writer.extend(padded(length) - length), 0, padded(length) - length)
        store32(writer.buffer + start + 4, (bits << 24) | <uint32_t>length)
        return 0

    cdef int write_value(self, Writer writer, Row row, object value, int depth) except -1:
        cdef int kind = row.kind
        if kind == GROUPED or kind == GROUPED_QUOTE:
            return self.write_group(writer, value, depth)
        if row.least_octets:
            return write_fixed(writer, kind, value)
        if kind == UTF8:
            return writer.write(str.encode(value, "utf-8"))
        if kind == ASCII:
            return writer.write(str.encode(value, "ascii"))
        if kind == ADDRESS or kind == ADDRESS_OR_RAW:
            return write_address(writer, value, kind == ADDRESS_OR_RAW)
        if kind == OCTETS_OR_UNSIGNED32 and PyLong_Check(value):
            store32(writer.extend(4), <uint32_t>value)
            return 0
        return writer.write(octets_of(value))

    cdef int write_group(self, Writer writer, object value, int depth) except -1:
        if isinstance(value, bytes):
            return writer.write(bytes(value))
        if depth >= DEPTH_LIMIT:
            raise ValueError(f"more than {DEPTH_LIMIT} levels of AVPs")
        for item in value:
            self.write_item(writer, item, depth + 1)
        return 0


def first(avps, key):
    """Return the value of the first AVP with a key, `None` if there is none."""
    cdef uint64_t wanted = key
    for avp in avps:
        if <uint64_t>avp[0] == wanted:
            return avp[2]
    return None


def firsts(avps, keys):
    """Return the values of the first AVPs with some keys, in the order of the keys; `None` for each that is not there."""
    cdef uint64_t[FIRSTS_MAX] wanted
    cdef Py_ssize_t count = len(keys), place
    cdef uint64_t key
    cdef list found
    if count > FIRSTS_MAX:
        raise ValueError(f"{count} keys, at most {FIRSTS_MAX}")
    found = [None] * count
    for place in range(count):
        wanted[place] = keys[place]
    for avp in avps:
        key = avp[0]
        for place in range(count):
            if wanted[place] == key and found[place] is None:
                found[place] = avp[2]
    return found


def whole_messages(const unsigned char[::1] octets, Py_ssize_t start, Py_ssize_t limit):
    """Cut whole messages off the front of a stream: the list of them, and where the rest begins.

    Stops before whatever is not whole, longer than `limit`, not of version 1, or of a length that cannot be.
    """
    cdef list messages = []
    cdef Py_ssize_t end = octets.shape[0], length
    cdef const unsigned char* at
    if start < 0:
        raise ValueError(f"start {start}")
    # Each read stands behind a comparison with `end`.
    while end - start >= HEADER_OCTETS:
        at = &octets[start]
        length = load32(at) & LENGTH_MAX
        if at[0] != 1 or length < HEADER_OCTETS or length > limit or length & 3 or length > end - start:
            break
        messages.append(PyBytes_FromStringAndSize(<const char*>at, length))
        start += length
    return messages, start


def result_code_of(bytes answer):
    """Result-Code at command level of an answer of our own; 0 if it has none. Ends on any octets."""
    cdef const unsigned char* octets = <const unsigned char*>PyBytes_AS_STRING(answer)
    cdef Py_ssize_t start = HEADER_OCTETS, end = PyBytes_GET_SIZE(answer), length
    while end - start >= 12:
        length = load32(octets + start + 4) & LENGTH_MAX
        if load32(octets + start) == RESULT_CODE and octets[start + 4] == FLAG_MANDATORY and length == 12:
            return load32(octets + start + 8)
        start += max(8, padded(length))
    return 0


def every(avps, key):
    """Return the values of all AVPs with a key, in their order."""
    cdef uint64_t wanted = key
    cdef list found = []
    for avp in avps:
        if <uint64_t>avp[0] == wanted:
            found.append(avp[2])
    return found
