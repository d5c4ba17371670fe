# cython: language_level=3, binding=True, cdivision=True
"""One price row's arithmetic, compiled. The readable twin, with the reasons, is tariffs/_price_reference.py.

A leaf: ints in, ints out. Values that fit 63 bits are computed in 128; wider ones go the way of the twin, so that both
are exact everywhere.
"""

cdef extern from *:
    """
    typedef unsigned __int128 ocs_u128;
    """
    ctypedef unsigned long long u128 "ocs_u128"

cdef enum:
    WIDE = -1

cdef int64_t MAXIMUM = 0x7FFFFFFFFFFFFFFF


cdef int64_t narrow(object number) except -2:
    """The number if it lies in 0..2^63 - 1, else WIDE."""
    cdef int64_t value
    try:
        value = number
    except OverflowError:
        return WIDE
    return value if value >= 0 else WIDE


cdef int64_t narrow_of(u128 value) noexcept:
    return <int64_t> value if value <= <u128> MAXIMUM else WIDE


cdef class Price:
    """`price_micros` for every `per` units, billed in started steps of `step` units."""

    def __init__(self, object price_micros, object per, object step):
        """All three positive but the price, which may be 0; `ValueError` otherwise."""
        if price_micros < 0 or per < 1 or step < 1:
            raise ValueError(f"price {price_micros} per {per}, step {step}: expected 0 or more, 1 or more, 1 or more")
        self.price_micros, self.per, self.step = price_micros, per, step
        self._price, self._per, self._step = narrow(price_micros), narrow(per), narrow(step)
        if self._price == WIDE or self._per == WIDE or self._step == WIDE:
            self._per = WIDE

    cpdef object billed_units(self, object total):
        """Cumulative units that are billed for `total` used ones: whole started steps."""
        cdef int64_t billed, used = narrow(total)
        if used != WIDE and self._per != WIDE:
            billed = self.billed(used)
            if billed != WIDE:
                return billed
        return -(-total // self.step) * self.step

    cpdef object cost_micros(self, object total):
        """Cumulative cost of `total` units, rounded up once."""
        cdef int64_t cost, used = narrow(total)
        if used != WIDE and self._per != WIDE:
            cost = self.cost(used)
            if cost != WIDE:
                return cost
        return -(-(-(-total // self.step) * self.step * self.price_micros) // self.per)

    cpdef object affordable_units(self, object before, object money_micros, object most):
        """How many of `most` further units the money pays for after `before` cumulative units."""
        cdef int64_t paid, wanted, money, already, cost
        cdef u128 payable
        if most <= 0:
            return 0
        if self.price_micros == 0:
            return most
        if money_micros < 0:
            return 0
        paid, wanted, money = narrow(before), narrow(most), narrow(money_micros)
        if paid != WIDE and wanted != WIDE and money != WIDE and self._per != WIDE and paid <= MAXIMUM - wanted:
            already = self.cost(paid)
            cost = self.cost(paid + wanted)
            if already != WIDE and cost != WIDE and already <= MAXIMUM - money:
                if cost - already <= money:
                    return most
                payable = <u128> (already + money) * <u128> self._per / <u128> self._price
                payable -= <u128> self.billed(paid)
                return <int64_t> (payable / <u128> self._step) * self._step
        return self.affordable_wide(before, money_micros, most)

    cdef object affordable_wide(self, object before, object money_micros, object most):
        already = self.cost_micros(before)
        if self.cost_micros(before + most) - already <= money_micros:
            return most
        payable = (already + money_micros) * self.per // self.price_micros
        return (payable - self.billed_units(before)) // self.step * self.step

    cdef int64_t billed(self, int64_t used) noexcept:
        cdef u128 step = <u128> self._step
        return narrow_of((<u128> used + step - 1) / step * step)

    cdef int64_t cost(self, int64_t used) noexcept:
        cdef int64_t billed = self.billed(used)
        cdef u128 per = <u128> self._per
        if billed == WIDE:
            return WIDE
        return narrow_of((<u128> billed * <u128> self._price + per - 1) / per)
