# What the load generator keeps: flat arrays, no object for a session or a message.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_KEYS = 3
    MAX_PATCHES = 64
    MAX_REQUEST_OCTETS = 4096
    CODES = 10000
    BUCKETS = 3776
    PROBLEMS = 8
    FINISHED_KEPT = 128


cdef struct Key:
    uint32_t rating_group
    uint64_t quota
    uint64_t price_micros
    uint64_t per
    uint64_t step


cdef struct Usage:
    uint64_t total
    uint64_t granted
    uint64_t used


cdef struct Slot:
    uint64_t due_ns
    uint64_t session_number
    int64_t spent
    uint32_t hop_by_hop
    uint32_t end_to_end
    uint32_t account
    uint32_t event_time_s
    uint32_t request_number
    uint32_t updates_left
    uint8_t kind
    uint8_t state
    uint8_t tries
    uint16_t connection
    Usage usage[MAX_KEYS]


cdef struct Finished:
    uint64_t session_number
    int64_t spent
    uint32_t account
    uint16_t connection


cdef struct Patch:
    uint32_t at
    uint16_t field
    uint16_t index
    uint16_t width


cdef struct Template:
    unsigned char octets[MAX_REQUEST_OCTETS]
    uint32_t size
    uint32_t session_at
    uint32_t session_size
    uint32_t patches
    Patch patch[MAX_PATCHES]


cdef struct Connection:
    Template templates[3]
    # Ring of sessions that wait for their turn.
    uint32_t* ready
    uint32_t ready_room
    uint32_t ready_first
    uint32_t ready_count
    uint32_t in_flight
    uint64_t due_sent
    uint32_t next_account
    unsigned char* tail
    Py_ssize_t tail_size
    Py_ssize_t tail_room


cdef class Load:
    cdef Connection* _connections
    cdef Slot* _slots
    cdef int64_t* _spent
    cdef Finished _last[FINISHED_KEPT]
    cdef Key _keys[MAX_KEYS]
    cdef uint64_t _codes[CODES]
    cdef uint64_t _service_codes[CODES]
    cdef uint64_t _latency[BUCKETS]
    cdef uint64_t _lag[BUCKETS]
    cdef uint64_t _problem_counts[PROBLEMS]
    cdef uint64_t _answered[4]
    cdef uint64_t _sent, _repeated, _finished, _answers, _longest_ns
    cdef uint64_t _from_ns, _to_ns, _start_ns, _session_number, _msisdn, _imsi
    cdef double _interval_ns
    cdef uint32_t _connection_count, _slot_count, _key_count, _account_count, _window, _updates, _slot_bits
    cdef uint32_t _generation, _end_to_end, _event_time_s, _random, _open, _stride
    cdef bint _stopping
    cdef list _problems
    cdef unsigned char* _out
    cdef Py_ssize_t _out_size, _out_room

    cdef int add_key(self, rating_group, quota, price_micros, per, step) except -1
    cdef int share_out(self, bint staggered) except -1
    cdef void begin(self, Slot* slot) noexcept
    cdef void enqueue(self, uint32_t number) noexcept
    cdef uint32_t dequeue(self, Connection* connection) noexcept
    cdef uint32_t dice(self) noexcept
    cdef uint64_t due_instant(self, int connection, Connection* one) noexcept
    cdef Connection* checked(self, int connection) except NULL
    cdef int send(self, Connection* connection, uint32_t number, uint64_t due_ns, uint64_t now_ns) except -1
    cdef void use(self, Slot* slot) noexcept
    cdef int write(self, Connection* connection, Slot* slot, bint repeat) except -1
    cdef int reserve(self, Py_ssize_t octets) except -1
    cdef int keep(self, Connection* one, const unsigned char* octets, Py_ssize_t size) except -1
    cdef int answer(self, int connection, const unsigned char* octets, uint32_t length, uint64_t now_ns) except -1
    cdef uint32_t read(self, Slot* slot, const unsigned char* octets, uint32_t length) except? 0
    cdef bint is_session(self, Slot* slot, const unsigned char* octets, uint32_t size) noexcept
    cdef bint service(
        self, Slot* slot, const unsigned char* octets, uint32_t length, uint64_t* granted, uint32_t* groups
    ) except? False
    cdef int check_grant(self, Slot* slot, uint32_t index, uint32_t result, uint64_t units) except -1
    cdef int go_on(self, Slot* slot, uint32_t number, uint32_t code) except -1
    cdef void finish(self, Slot* slot) noexcept
    cdef void book(self, Slot* slot) noexcept
    cdef int problem(self, int kind, Slot* slot, uint64_t expected, uint64_t found) except -1
