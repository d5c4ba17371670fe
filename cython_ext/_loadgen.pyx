# cython: language_level=3, binding=True, cdivision=True, boundscheck=False, wraparound=False
"""The message path of the load generator: sessions of Gy clients, their requests, and a look at every answer.

A leaf: octets and instants in, octets out. It knows neither sockets nor clocks nor the product's codec: requests are
templates with patched fields, answers are walked by their lengths alone. What a session must be charged is computed
here from the tariff's numbers, and shares no code with the server.

Answers are read through a bare pointer. Each AVP is read only after its whole length was compared with the end of its
group; a length that does not fit ends the walk and is counted as a problem.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

cdef extern from *:
    """
    typedef unsigned __int128 loadgen_u128;
    #define loadgen_log2(value) (63 - __builtin_clzll((value) | 1))
    """
    ctypedef unsigned long long u128 "loadgen_u128"
    int loadgen_log2(uint64_t value) noexcept

cdef enum:
    HEADER_OCTETS = 20
    MAX_CONNECTIONS = 256
    MAX_SESSIONS = 1048576
    MAX_ANSWER_OCTETS = 1048576
    MAX_PROBLEMS = 20
    MAX_TRIES = 50
    SUB_BUCKETS = 64
    SUB_BITS = 6

    CREDIT_CONTROL_COMMAND = 272
    FLAG_REQUEST = 0x80
    FLAG_RETRANSMIT = 0x10
    FLAG_VENDOR = 0x80

    SESSION_ID = 263
    RESULT_CODE = 268
    CC_REQUEST_NUMBER = 415
    CC_REQUEST_TYPE = 416
    CC_TOTAL_OCTETS = 421
    GRANTED_SERVICE_UNIT = 431
    RATING_GROUP = 432
    MULTIPLE_SERVICES = 456

    INITIAL = 1
    UPDATE = 2
    TERMINATION = 3

    SUCCESS = 2001
    UNABLE_TO_DELIVER = 3002
    TOO_BUSY = 3004
    UNABLE_TO_COMPLY = 5012

    READY = 0
    PENDING = 1
    DONE = 2

# What a patch writes into a template.
cdef enum:
    SESSION_NUMBER = 0
    REQUEST_NUMBER = 1
    EVENT_TIME = 2
    MSISDN = 3
    IMSI = 4
    CHARGING_ID = 5
    ADDRESS = 6
    USED_TOTAL = 7
    USED_INPUT = 8
    USED_OUTPUT = 9
    USED_TIME = 10
    FIELDS = 11

FIELD_NAMES = (
    "session_number", "request_number", "event_time", "msisdn", "imsi", "charging_id", "address",
    "used_total", "used_input", "used_output", "used_time",
)
"""Names of what `Load.set_template` patches, in the order of their numbers."""

PROBLEM_NAMES = (
    "malformed answer", "answer that fits no request", "wrong Session-Id", "wrong CC-Request-Type or -Number",
    "wrong grant", "service missing or unknown", "refused request", "gave up repeating",
)
"""What can be wrong with an answer."""

cdef enum:
    MALFORMED = 0
    STRAY = 1
    WRONG_SESSION = 2
    WRONG_NUMBER = 3
    WRONG_GRANT = 4
    WRONG_SERVICE = 5
    REFUSED = 6
    GAVE_UP = 7


cdef inline uint32_t read24(const unsigned char* at) noexcept:
    return (<uint32_t>at[0] << 16) | (<uint32_t>at[1] << 8) | at[2]


cdef inline uint32_t read32(const unsigned char* at) noexcept:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline void put32(unsigned char* at, uint32_t number) noexcept:
    at[0] = <unsigned char>(number >> 24)
    at[1] = <unsigned char>(number >> 16)
    at[2] = <unsigned char>(number >> 8)
    at[3] = <unsigned char>number


cdef inline void put64(unsigned char* at, uint64_t number) noexcept:
    put32(at, <uint32_t>(number >> 32))
    put32(at + 4, <uint32_t>number)


cdef inline void put_digits(unsigned char* at, int width, uint64_t number) noexcept:
    while width > 0:
        width -= 1
        at[width] = <unsigned char>(48 + number % 10)
        number = number // 10


cdef inline int bucket_of(uint64_t value) noexcept:
    """Below 128 exactly, else 64 buckets to each doubling: at most 1.6 % wide."""
    cdef int log2
    if value < 2 * SUB_BUCKETS:
        return <int>value
    log2 = loadgen_log2(value)
    return (log2 - SUB_BITS) * SUB_BUCKETS + <int>(value >> (log2 - SUB_BITS))


cdef uint64_t top_of(int bucket) noexcept:
    """The largest value of a bucket."""
    cdef int shift
    if bucket < 2 * SUB_BUCKETS:
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    return ((<uint64_t>(SUB_BUCKETS + (bucket & (SUB_BUCKETS - 1))) + 1) << shift) - 1


cdef class Load:
    """Sessions over connections, each an INITIAL, updates and a TERMINATION, then another; made to last."""

    def __cinit__(self):
        self._connections = NULL
        self._slots = NULL
        self._spent = NULL
        self._out = NULL

    def __init__(
        self, int connections, int window, int sessions, int updates, int accounts, msisdn, imsi, keys, uint32_t seed,
        uint64_t session_number, bint shared=False, bint staggered=True,
    ):
        """`keys` are (rating_group, quota, price_micros, per, step); `msisdn` and `imsi` those of account 0.

        An account's sessions come over one connection, unless `shared`. If `staggered`, the first sessions are cut short,
        each at another place, so that not all end at once. `ValueError` for what cannot be run.
        """
        if not 1 <= connections <= MAX_CONNECTIONS:
            raise ValueError(f"connections: {connections}, expected 1 to {MAX_CONNECTIONS}")
        if not connections <= sessions <= MAX_SESSIONS:
            raise ValueError(f"sessions: {sessions}, expected at least one for each connection, at most {MAX_SESSIONS}")
        if accounts < connections:
            raise ValueError(f"accounts: {accounts}, expected at least one for each connection")
        if not 1 <= window <= MAX_SESSIONS:
            raise ValueError(f"window: {window}, expected 1 to {MAX_SESSIONS}")
        if not 0 <= updates <= 1000000:
            raise ValueError(f"updates: {updates}, expected 0 to 1000000")
        if not 1 <= len(keys) <= MAX_KEYS:
            raise ValueError(f"{len(keys)} rating groups, expected 1 to {MAX_KEYS}")
        if self._slots != NULL:
            raise ValueError("made already")
        self._connections = <Connection*>PyMem_Calloc(connections, sizeof(Connection))
        self._slots = <Slot*>PyMem_Calloc(sessions, sizeof(Slot))
        self._spent = <int64_t*>PyMem_Calloc(accounts, sizeof(int64_t))
        if self._connections == NULL or self._slots == NULL or self._spent == NULL:
            raise MemoryError()
        self._connection_count, self._slot_count, self._window = connections, sessions, window
        self._updates, self._account_count, self._msisdn, self._imsi = updates, accounts, msisdn, imsi
        self._random = seed | 1
        self._end_to_end = seed << 20
        self._session_number = session_number
        self._stride = 1 if shared else connections
        self._slot_bits = 0
        while (1 << self._slot_bits) < sessions:
            self._slot_bits += 1
        self._key_count = 0
        for rating_group, quota, price_micros, per, step in keys:
            self.add_key(rating_group, quota, price_micros, per, step)
        memset(self._codes, 0, sizeof(self._codes))
        memset(self._service_codes, 0, sizeof(self._service_codes))
        memset(self._latency, 0, sizeof(self._latency))
        memset(self._lag, 0, sizeof(self._lag))
        memset(self._problem_counts, 0, sizeof(self._problem_counts))
        memset(self._answered, 0, sizeof(self._answered))
        self._problems = []
        self.share_out(staggered)

    def __dealloc__(self):
        cdef uint32_t number
        if self._connections != NULL:
            for number in range(self._connection_count):
                PyMem_Free(self._connections[number].ready)
                PyMem_Free(self._connections[number].tail)
        PyMem_Free(self._connections)
        PyMem_Free(self._slots)
        PyMem_Free(self._spent)
        PyMem_Free(self._out)

    cdef int add_key(self, rating_group, quota, price_micros, per, step) except -1:
        cdef Key* key = &self._keys[self._key_count]
        if quota < 1 or per < 1 or step < 1 or price_micros < 0 or max(quota, price_micros, per, step) >= 1 << 48:
            raise ValueError(f"rating group {rating_group}: expected quota, per and step of 1 to 2^48, price 0 or more")
        key.rating_group, key.quota, key.price_micros, key.per, key.step = rating_group, quota, price_micros, per, step
        self._key_count += 1
        return 0

    cdef int share_out(self, bint staggered) except -1:
        """Give the sessions to the connections in turn."""
        cdef uint32_t number, connection
        cdef Connection* one
        for number in range(self._connection_count):
            one = &self._connections[number]
            one.next_account = number
            one.ready_room = self._slot_count // self._connection_count + 1
            one.ready = <uint32_t*>PyMem_Calloc(one.ready_room, sizeof(uint32_t))
            if one.ready == NULL:
                raise MemoryError()
        for number in range(self._slot_count):
            connection = number % self._connection_count
            self._slots[number].connection = <uint16_t>connection
            self.begin(&self._slots[number])
            if staggered and self._updates:
                self._slots[number].updates_left = number % (self._updates + 1)
            self.enqueue(number)
        return 0

    def set_template(self, int connection, int kind, bytes octets, int session_at, int session_size, patches):
        """What a connection sends as INITIAL (1), UPDATE (2) or TERMINATION (3).

        `session_at` and `session_size` say where the Session-Id's value stands; `patches` are (offset, field, index of
        the rating group, width in digits or 0 for a number), fields by their place in `FIELD_NAMES`.
        """
        cdef Template* template
        cdef Patch* patch
        if not (0 <= connection < <int>self._connection_count and INITIAL <= kind <= TERMINATION):
            raise ValueError(f"connection {connection}, kind {kind}: there is none such")
        if not HEADER_OCTETS < len(octets) <= MAX_REQUEST_OCTETS or len(patches) > MAX_PATCHES:
            raise ValueError(f"{len(octets)} octets with {len(patches)} patches, expected less")
        if not (0 <= session_at and 0 < session_size <= 255 and session_at + session_size <= len(octets)):
            raise ValueError("session_at, session_size: outside the message")
        template = &self._connections[connection].templates[kind - 1]
        memcpy(template.octets, PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))
        template.size, template.session_at, template.session_size = len(octets), session_at, session_size
        template.patches = 0
        for at, field, index, width in patches:
            # A patch writes its digits, or at most eight octets.
            if not (0 <= at and at + max(8, width) <= len(octets) and 0 <= field < FIELDS and 0 <= index < MAX_KEYS):
                raise ValueError(f"patch {at, field, index, width}: outside the message, or unknown")
            if field == SESSION_NUMBER and not session_at <= at <= session_at + session_size - width:
                raise ValueError(f"patch {at, field, index, width}: outside the Session-Id")
            patch = &template.patch[template.patches]
            patch.at, patch.field, patch.index, patch.width = at, field, index, width
            template.patches += 1

    # Sessions

    cdef void begin(self, Slot* slot) noexcept:
        """The next session of a slot, for the next account of its connection."""
        cdef Connection* connection = &self._connections[slot.connection]
        slot.session_number = self._session_number
        self._session_number += 1
        slot.account = connection.next_account
        connection.next_account += self._stride
        if connection.next_account >= self._account_count:
            connection.next_account = slot.connection if self._stride > 1 else 0
        slot.kind = INITIAL
        slot.request_number = 0
        slot.updates_left = self._updates
        slot.tries = 0
        slot.spent = 0
        memset(slot.usage, 0, sizeof(slot.usage))

    cdef void enqueue(self, uint32_t number) noexcept:
        cdef Connection* connection = &self._connections[self._slots[number].connection]
        cdef uint32_t place = connection.ready_first + connection.ready_count
        if place >= connection.ready_room:
            place -= connection.ready_room
        connection.ready[place] = number
        connection.ready_count += 1
        self._slots[number].state = READY

    cdef uint32_t dequeue(self, Connection* connection) noexcept:
        cdef uint32_t number = connection.ready[connection.ready_first]
        connection.ready_first += 1
        if connection.ready_first == connection.ready_room:
            connection.ready_first = 0
        connection.ready_count -= 1
        return number

    cdef uint32_t dice(self) noexcept:
        self._random ^= self._random << 13
        self._random ^= self._random >> 17
        self._random ^= self._random << 5
        return self._random

    def stop(self):
        """Begin nothing new: sessions that wait are ended with their next request."""
        self._stopping = True

    # Out

    def fill(self, int connection, uint64_t now_ns):
        """Requests up to the window; each is due when it is written."""
        cdef Connection* one = self.checked(connection)
        self._out_size = 0
        while one.in_flight < self._window and one.ready_count:
            self.send(one, self.dequeue(one), now_ns, now_ns)
        return PyBytes_FromStringAndSize(<char*>self._out, self._out_size) if self._out_size else b""

    def open_loop(self, uint64_t start_ns, double rate):
        """Requests are due `rate` times a second from an instant on, in turn over the connections."""
        if rate <= 0:
            raise ValueError(f"rate: {rate}, expected more than 0")
        self._start_ns = start_ns
        self._interval_ns = 1e9 / rate

    def fill_due(self, int connection, uint64_t now_ns):
        """Requests that are due by now. One that finds no session to speak for waits, and keeps its instant."""
        cdef Connection* one = self.checked(connection)
        cdef uint64_t due_ns
        self._out_size = 0
        while one.ready_count:
            due_ns = self.due_instant(connection, one)
            if due_ns > now_ns:
                break
            one.due_sent += 1
            self.send(one, self.dequeue(one), due_ns, now_ns)
        return PyBytes_FromStringAndSize(<char*>self._out, self._out_size) if self._out_size else b""

    def next_due(self):
        """The instant at which the next request is due, whether or not a session is free for it."""
        cdef uint64_t earliest = self.due_instant(0, &self._connections[0]), due_ns
        cdef uint32_t number
        for number in range(1, self._connection_count):
            due_ns = self.due_instant(number, &self._connections[number])
            if due_ns < earliest:
                earliest = due_ns
        return earliest

    def overdue(self, uint64_t now_ns):
        """How many requests are due and not written, for want of a session."""
        cdef uint64_t total = 0
        cdef uint32_t number
        cdef double behind
        for number in range(self._connection_count):
            behind = <double>(<int64_t>(now_ns - self.due_instant(number, &self._connections[number])))
            if behind >= 0 and self._interval_ns > 0:
                total += 1 + <uint64_t>(behind / (self._interval_ns * self._connection_count))
        return total

    cdef uint64_t due_instant(self, int connection, Connection* one) noexcept:
        cdef uint64_t place = one.due_sent * self._connection_count + connection
        return self._start_ns + <uint64_t>(<double>place * self._interval_ns)

    def resend(self, int connection):
        """All requests of a connection that wait for an answer, again, with the T flag and the same identifiers."""
        cdef Connection* one = self.checked(connection)
        cdef uint32_t number
        one.tail_size = 0
        self._out_size = 0
        for number in range(self._slot_count):
            if self._slots[number].connection == connection and self._slots[number].state == PENDING:
                self.write(one, &self._slots[number], True)
                self._repeated += 1
        return PyBytes_FromStringAndSize(<char*>self._out, self._out_size) if self._out_size else b""

    cdef Connection* checked(self, int connection) except NULL:
        if not 0 <= connection < <int>self._connection_count:
            raise ValueError(f"connection {connection}: there is none such")
        return &self._connections[connection]

    cdef int send(self, Connection* connection, uint32_t number, uint64_t due_ns, uint64_t now_ns) except -1:
        cdef Slot* slot = &self._slots[number]
        cdef bint repeat = slot.tries > 0
        if not repeat:
            if self._stopping:
                if slot.kind == INITIAL:
                    slot.state = DONE
                    return 0
                slot.kind = TERMINATION
            self.use(slot)
            self._end_to_end += 1
            slot.end_to_end = self._end_to_end
            if slot.kind == INITIAL:
                self._open += 1
        else:
            self._repeated += 1
        self._generation += 1
        slot.hop_by_hop = (self._generation << self._slot_bits) | number
        slot.due_ns = due_ns
        slot.state = PENDING
        self.write(connection, slot, repeat)
        connection.in_flight += 1
        self._sent += 1
        if self._from_ns <= due_ns < self._to_ns:
            self._lag[bucket_of(now_ns - due_ns)] += 1
        return 0

    cdef void use(self, Slot* slot) noexcept:
        """What the next request reports: part of what was granted."""
        cdef uint32_t index
        cdef Usage* usage
        slot.event_time_s = self._event_time_s
        for index in range(self._key_count):
            usage = &slot.usage[index]
            usage.used = 0
            if slot.kind != INITIAL and usage.granted:
                usage.used = 1 + ((<uint64_t>self.dice() << 16) ^ self.dice()) % usage.granted

    cdef int write(self, Connection* connection, Slot* slot, bint repeat) except -1:
        cdef Template* template = &connection.templates[slot.kind - 1]
        cdef unsigned char* at
        cdef unsigned char* start
        cdef Patch* patch
        cdef uint32_t place
        cdef uint64_t used
        if not template.size:
            raise ValueError(f"no template of kind {slot.kind}")
        self.reserve(template.size)
        start = self._out + self._out_size
        memcpy(start, template.octets, template.size)
        if repeat:
            start[4] |= FLAG_RETRANSMIT
        put32(start + 12, slot.hop_by_hop)
        put32(start + 16, slot.end_to_end)
        for place in range(template.patches):
            patch = &template.patch[place]
            at = start + patch.at
            if patch.field == SESSION_NUMBER:
                put_digits(at, patch.width, slot.session_number)
            elif patch.field == REQUEST_NUMBER:
                put32(at, slot.request_number)
            elif patch.field == EVENT_TIME:
                put32(at, slot.event_time_s)
            elif patch.field == MSISDN:
                put_digits(at, patch.width, self._msisdn + slot.account)
            elif patch.field == IMSI:
                put_digits(at, patch.width, self._imsi + slot.account)
            elif patch.field == CHARGING_ID:
                put32(at, <uint32_t>slot.session_number)
            elif patch.field == ADDRESS:
                put32(at, 0x0A000000 | (slot.account & 0xFFFFFF))
            else:
                used = slot.usage[patch.index].used
                if patch.field == USED_TOTAL:
                    put64(at, used)
                elif patch.field == USED_INPUT:
                    put64(at, used - (used >> 3))
                elif patch.field == USED_OUTPUT:
                    put64(at, used >> 3)
                else:
                    put32(at, 1 + <uint32_t>((used >> 16) & 0xFFFF))
        self._out_size += template.size
        return 0

    cdef int reserve(self, Py_ssize_t octets) except -1:
        cdef Py_ssize_t room
        cdef unsigned char* grown
        if self._out_size + octets > self._out_room:
            room = 2 * self._out_room + octets + 65536
            grown = <unsigned char*>PyMem_Realloc(self._out, room)
            if grown == NULL:
                raise MemoryError()
            self._out, self._out_room = grown, room
        return 0

    # In

    def receive(self, int connection, bytes data, uint64_t now_ns):
        """Take octets of a connection; gives the messages in them that are no answers to requests of ours.

        `ValueError` when the octets are no stream of Diameter messages.
        """
        cdef Connection* one = self.checked(connection)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0
        cdef uint32_t length
        cdef const unsigned char* octets = <const unsigned char*>PyBytes_AS_STRING(data)
        cdef list others = []
        if one.tail_size:
            self.keep(one, octets, size)
            octets, size = one.tail, one.tail_size
        while size - at >= HEADER_OCTETS:
            length = read24(octets + at + 1)
            if octets[at] != 1 or length < HEADER_OCTETS or length & 3 or length > MAX_ANSWER_OCTETS:
                raise ValueError(f"connection {connection}: version {octets[at]}, length {length}: no Diameter message")
            if size - at < length:
                break
            if read24(octets + at + 5) == CREDIT_CONTROL_COMMAND and not octets[at + 4] & FLAG_REQUEST:
                self.answer(connection, octets + at, length, now_ns)
            else:
                others.append(PyBytes_FromStringAndSize(<const char*>octets + at, length))
            at += length
        if octets == one.tail:
            memmove(one.tail, one.tail + at, size - at)
            one.tail_size = size - at
        elif at < size:
            self.keep(one, octets + at, size - at)
        return others

    cdef int keep(self, Connection* one, const unsigned char* octets, Py_ssize_t size) except -1:
        cdef Py_ssize_t needed = one.tail_size + size
        cdef unsigned char* grown
        if needed > one.tail_room:
            grown = <unsigned char*>PyMem_Realloc(one.tail, 2 * needed)
            if grown == NULL:
                raise MemoryError()
            one.tail, one.tail_room = grown, 2 * needed
        memcpy(one.tail + one.tail_size, octets, size)
        one.tail_size = needed
        return 0

    cdef int answer(self, int connection, const unsigned char* octets, uint32_t length, uint64_t now_ns) except -1:
        cdef uint32_t hop_by_hop = read32(octets + 12)
        cdef uint32_t number = hop_by_hop & ((1 << self._slot_bits) - 1)
        cdef Slot* slot = NULL
        cdef uint64_t latency_ns
        cdef uint32_t code
        if number < self._slot_count:
            slot = &self._slots[number]
        if (
            slot == NULL or slot.state != PENDING or slot.hop_by_hop != hop_by_hop or slot.connection != connection
            or slot.end_to_end != read32(octets + 16)
        ):
            self.problem(STRAY, NULL, hop_by_hop, read32(octets + 16))
            return 0
        self._connections[connection].in_flight -= 1
        latency_ns = now_ns - slot.due_ns
        if self._from_ns <= slot.due_ns < self._to_ns:
            self._latency[bucket_of(latency_ns)] += 1
            if latency_ns > self._longest_ns:
                self._longest_ns = latency_ns
        code = self.read(slot, octets, length)
        self._codes[code if code < CODES else 0] += 1
        if code == SUCCESS and self._from_ns <= now_ns < self._to_ns:
            self._answers += 1
            self._answered[slot.kind] += 1
        self.go_on(slot, number, code)
        return 0

    cdef uint32_t read(self, Slot* slot, const unsigned char* octets, uint32_t length) except? 0:
        """Check an answer and take over its grants; its Result-Code, 0 if it cannot be read."""
        cdef uint32_t at = HEADER_OCTETS, code, size, body, result = 0, request_type = 0, number = 0, groups = 0
        cdef uint32_t index
        cdef bint named = False, numbered = False
        cdef uint64_t granted[MAX_KEYS]
        memset(granted, 0, sizeof(granted))
        while at < length:
            if length - at < 8:
                self.problem(MALFORMED, slot, at, length)
                return 0
            code, size = read32(octets + at), read24(octets + at + 5)
            body = 12 if octets[at + 4] & FLAG_VENDOR else 8
            if size < body or size > length - at:
                self.problem(MALFORMED, slot, at, length)
                return 0
            if body == 8:
                if code == MULTIPLE_SERVICES:
                    if not self.service(slot, octets + at + 8, size - 8, granted, &groups):
                        return 0
                elif code == SESSION_ID:
                    named = self.is_session(slot, octets + at + 8, size - 8)
                elif size == 12:
                    if code == RESULT_CODE:
                        result = read32(octets + at + 8)
                    elif code == CC_REQUEST_TYPE:
                        request_type = read32(octets + at + 8)
                    elif code == CC_REQUEST_NUMBER:
                        number, numbered = read32(octets + at + 8), True
            at += (size + 3) & ~<uint32_t>3
        if not named:
            self.problem(WRONG_SESSION, slot, 0, 0)
        if result == SUCCESS:
            if not numbered or request_type != slot.kind or number != slot.request_number:
                self.problem(WRONG_NUMBER, slot, slot.request_number, number)
            for index in range(self._key_count):
                if not groups & (1 << index) and slot.kind != TERMINATION:
                    self.problem(WRONG_SERVICE, slot, self._keys[index].rating_group, 0)
                slot.usage[index].granted = granted[index]
        return result

    cdef bint is_session(self, Slot* slot, const unsigned char* octets, uint32_t size) noexcept:
        """Whether octets are the session's Id: the template's text with the session's digits."""
        cdef Template* template = &self._connections[slot.connection].templates[slot.kind - 1]
        cdef unsigned char expected[256]
        cdef Patch* patch
        cdef uint32_t place
        if size != template.session_size:
            return False
        memcpy(expected, template.octets + template.session_at, size)
        for place in range(template.patches):
            patch = &template.patch[place]
            if patch.field == SESSION_NUMBER:
                put_digits(expected + (patch.at - template.session_at), patch.width, slot.session_number)
        return memcmp(expected, octets, size) == 0

    cdef bint service(
        self, Slot* slot, const unsigned char* octets, uint32_t length, uint64_t* granted, uint32_t* groups
    ) except? False:
        """One Multiple-Services-Credit-Control; False if it cannot be read."""
        cdef uint32_t at = 0, code, size, body, result = 0, group = 0, index
        cdef uint64_t units = 0
        cdef bint has_group = False
        while at < length:
            if length - at < 8:
                self.problem(MALFORMED, slot, at, length)
                return False
            code, size = read32(octets + at), read24(octets + at + 5)
            body = 12 if octets[at + 4] & FLAG_VENDOR else 8
            if size < body or size > length - at:
                self.problem(MALFORMED, slot, at, length)
                return False
            if body == 8:
                if code == GRANTED_SERVICE_UNIT:
                    units = total_octets(octets + at + 8, size - 8)
                elif size == 12:
                    if code == RESULT_CODE:
                        result = read32(octets + at + 8)
                    elif code == RATING_GROUP:
                        group, has_group = read32(octets + at + 8), True
            at += (size + 3) & ~<uint32_t>3
        self._service_codes[result if result < CODES else 0] += 1
        for index in range(self._key_count):
            if has_group and self._keys[index].rating_group == group and not groups[0] & (1 << index):
                groups[0] |= 1 << index
                granted[index] = units
                self.check_grant(slot, index, result, units)
                return True
        self.problem(WRONG_SERVICE, slot, group, result)
        return True

    cdef int check_grant(self, Slot* slot, uint32_t index, uint32_t result, uint64_t units) except -1:
        if result != SUCCESS:
            self.problem(REFUSED, slot, SUCCESS, result)
        elif units != (0 if slot.kind == TERMINATION else self._keys[index].quota):
            self.problem(WRONG_GRANT, slot, 0 if slot.kind == TERMINATION else self._keys[index].quota, units)
        return 0

    cdef int go_on(self, Slot* slot, uint32_t number, uint32_t code) except -1:
        """After an answer: book what was reported, and make the session's next request ready."""
        if code == SUCCESS:
            self.book(slot)
            slot.tries = 0
            if slot.kind == TERMINATION:
                self._open -= 1
                self.finish(slot)
                self.begin(slot)
            else:
                slot.request_number += 1
                slot.kind = UPDATE if slot.updates_left else TERMINATION
                if slot.updates_left:
                    slot.updates_left -= 1
        elif code in (UNABLE_TO_DELIVER, TOO_BUSY, UNABLE_TO_COMPLY) and slot.tries < MAX_TRIES:
            # Nothing, or nobody knows what, was done: the same request again finds out.
            slot.tries += 1
        else:
            self.problem(GAVE_UP if slot.tries else REFUSED, slot, SUCCESS, code)
            self._open -= 1
            self.begin(slot)
        self.enqueue(number)
        return 0

    cdef void finish(self, Slot* slot) noexcept:
        """Keep what a session cost, among the last that ended."""
        cdef Finished* one = &self._last[self._finished % FINISHED_KEPT]
        one.session_number, one.spent = slot.session_number, slot.spent
        one.account, one.connection = slot.account, slot.connection
        self._finished += 1

    cdef void book(self, Slot* slot) noexcept:
        """Debit what was reported: cumulative over the session, each rating group by itself."""
        cdef uint32_t index
        cdef Usage* usage
        cdef int64_t due_micros
        for index in range(self._key_count):
            usage = &slot.usage[index]
            if usage.used:
                due_micros = <int64_t>(
                    cost(&self._keys[index], usage.total + usage.used) - cost(&self._keys[index], usage.total)
                )
                self._spent[slot.account] += due_micros
                slot.spent += due_micros
                usage.total += usage.used
                usage.used = 0

    cdef int problem(self, int kind, Slot* slot, uint64_t expected, uint64_t found) except -1:
        self._problem_counts[kind] += 1
        if len(self._problems) < MAX_PROBLEMS:
            where = (None, None) if slot == NULL else (slot.session_number, slot.request_number)
            self._problems.append((PROBLEM_NAMES[kind], *where, expected, found))
        return 0

    # What came of it

    def measure(self, uint64_t from_ns, uint64_t to_ns):
        """Count answers that come, and the latency of requests that are due, from one instant to another."""
        self._from_ns, self._to_ns = from_ns, to_ns

    def set_event_time(self, uint32_t ntp_s):
        """Event-Timestamp of the requests that follow, in seconds since 1900."""
        self._event_time_s = ntp_s

    @property
    def open_sessions(self):
        """Sessions whose INITIAL was sent and whose TERMINATION was not answered."""
        return self._open

    @property
    def in_flight(self):
        """Requests without an answer."""
        cdef uint32_t number
        cdef uint64_t total = 0
        for number in range(self._connection_count):
            total += self._connections[number].in_flight
        return total

    @property
    def next_session_number(self):
        """Number of a session that was never begun."""
        return self._session_number

    @property
    def answers(self):
        """Answers of success in the measured time."""
        return self._answers

    @property
    def sent(self):
        """Requests written since the beginning, repeats included."""
        return self._sent

    def counts(self):
        """Numbers since the beginning; `answers` and `answers_*` are successes in the measured time."""
        return {
            "sent": self._sent,
            "repeated": self._repeated,
            "sessions": self._finished,
            "answers": self._answers,
            "answers_initial": self._answered[INITIAL],
            "answers_update": self._answered[UPDATE],
            "answers_termination": self._answered[TERMINATION],
        }

    def codes(self):
        """Answers since the beginning by Result-Code; 0: none that could be read."""
        return counted(self._codes)

    def service_codes(self):
        """Multiple-Services-Credit-Controls since the beginning by Result-Code; 0: none."""
        return counted(self._service_codes)

    def problems(self):
        """How often each of `PROBLEM_NAMES` was met, those only that were; and the first few.

        Each as (name, session number, request number, expected, found).
        """
        cdef int kind
        counts = {PROBLEM_NAMES[kind]: self._problem_counts[kind] for kind in range(PROBLEMS)}
        return {name: count for name, count in counts.items() if count}, list(self._problems)

    def spent_micros(self):
        """What each account must have been debited, in order."""
        cdef uint32_t number
        return [self._spent[number] for number in range(self._account_count)]

    def last_sessions(self):
        """The sessions that ended last, at most 128: (connection, number, account, what it must have cost)."""
        cdef uint64_t place
        return [
            (
                self._last[place].connection, self._last[place].session_number, self._last[place].account,
                self._last[place].spent,
            )
            for place in range(min(self._finished, FINISHED_KEPT))
        ]

    def latencies(self):
        """(longest latency of a bucket in ns, requests), those only that were met, in order; and the longest of all."""
        return histogram(self._latency), self._longest_ns

    def lags(self):
        """The same for how late a request was written."""
        return histogram(self._lag)


cdef uint64_t cost(Key* key, uint64_t total) noexcept:
    """Micro-units of all that a session used of a key: started steps, the price rounded up once over the whole.

    At most 2^63 octets × a price below 2^48: below 2^112.
    """
    cdef uint64_t steps = total // key.step + (1 if total % key.step else 0)
    cdef u128 product = <u128>steps * key.step * key.price_micros
    return <uint64_t>(product // key.per) + (1 if product % key.per else 0)


cdef uint64_t total_octets(const unsigned char* octets, uint32_t length) noexcept:
    """CC-Total-Octets of a Granted-Service-Unit, 0 if there is none."""
    cdef uint32_t at = 0, size
    while length - at >= 8:
        size = read24(octets + at + 5)
        if size < 8 or size > length - at:
            return 0
        if read32(octets + at) == CC_TOTAL_OCTETS and size == 16 and not octets[at + 4] & FLAG_VENDOR:
            return (<uint64_t>read32(octets + at + 8) << 32) | read32(octets + at + 12)
        at += (size + 3) & ~<uint32_t>3
        if at >= length:
            return 0
    return 0


cdef dict counted(uint64_t* codes):
    cdef int code
    return {code: codes[code] for code in range(CODES) if codes[code]}


cdef list histogram(uint64_t* buckets):
    cdef int bucket
    return [(top_of(bucket), buckets[bucket]) for bucket in range(BUCKETS) if buckets[bucket]]
