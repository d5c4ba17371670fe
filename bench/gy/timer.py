"""An alarm clock that trio can wait for, finer than the millisecond of its own timeouts (Linux timerfd)."""

from __future__ import annotations

import contextlib
import ctypes
import os

import trio

_CLOCK_MONOTONIC = 1
_NANOSECONDS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class Ticker:
    """`with Ticker(500_000) as ticker: await ticker.wait()` returns about every half millisecond; late ticks are merged."""

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._fd = -1

    def __enter__(self) -> Ticker:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        every = _Timespec(*divmod(self._interval_ns, _NANOSECONDS))
        if libc.timerfd_settime(self._fd, 0, ctypes.byref(_Itimerspec(every, every)), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    async def wait(self) -> None:
        """Until the next tick."""
        await trio.lowlevel.wait_readable(self._fd)
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
