"""C-level interface of the compiled AVP codec: the decoded message, for other compiled modules."""

from libc.stdint cimport uint32_t


cdef class Message:
    cdef readonly uint32_t version
    cdef readonly uint32_t length
    cdef readonly uint32_t flags
    cdef readonly uint32_t command
    cdef readonly uint32_t application
    cdef readonly uint32_t hop_by_hop
    cdef readonly uint32_t end_to_end
    cdef readonly bytes data
    cdef readonly list avps
    cdef readonly list errors
    cdef readonly list proxy_infos
    cdef readonly list faulty
    cdef readonly uint32_t tolerated
