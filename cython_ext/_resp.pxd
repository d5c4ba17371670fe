"""C-level interface of the compiled Redis protocol: the state of a parser."""

from libc.stdint cimport int64_t


cdef class Parser:
    cdef object error_type
    cdef list chunks
    cdef Py_ssize_t waiting
    cdef Py_ssize_t need
    cdef bint broken

    cdef object more(self, Py_ssize_t need)
    cdef object reply(self, const char* start, Py_ssize_t end, Py_ssize_t* place, int depth)
    cdef object bulk(self, const char* start, Py_ssize_t end, Py_ssize_t* place, int64_t size)
    cdef object array(self, const char* start, Py_ssize_t end, Py_ssize_t* place, int64_t size, int depth)
