"""An alarm clock that trio can wait for, finer than the millisecond of its own timeouts (Linux timerfd)."""

from __future__ import annotations

import contextlib
import ctypes
import os

import trio

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_NANOSECONDS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class Alarm:
    """`with Alarm() as alarm: await alarm.wait_until(instant_ns)`; instants are those of `time.monotonic_ns`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1

    def __enter__(self) -> Alarm:
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    async def wait_until(self, instant_ns: int) -> None:
        """Until an instant; at once if it has passed."""
        when = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(max(1, instant_ns), _NANOSECONDS)))
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(when), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await trio.lowlevel.wait_readable(self._fd)
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
