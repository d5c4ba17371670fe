from libc.stdint cimport int64_t


cdef class Price:
    cdef readonly object price_micros, per, step
    cdef int64_t _price, _per, _step
    cpdef object billed_units(self, object total)
    cpdef object cost_micros(self, object total)
    cpdef object affordable_units(self, object before, object money_micros, object most)
    cdef object affordable_wide(self, object before, object money_micros, object most)
    cdef int64_t billed(self, int64_t used) noexcept
    cdef int64_t cost(self, int64_t used) noexcept
