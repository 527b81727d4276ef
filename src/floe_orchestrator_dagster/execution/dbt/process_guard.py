"""A small parent of the process that runs dbt, which ends it in time whatever a model does to Python.

A thread cannot do that: a Python model may hold the interpreter's lock in one long call. The guard runs no code of the
project.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_CHECK_SECONDS = 0.25
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def continue_guarded(parent: int, grace_seconds: float, events: int, abandoned: Callable[[], None]) -> int:
    """Fork: this process stays behind as the guard, and its child returns from here.

    The guard leads a process group with everything that dbt starts. It ends with the child, and as the child did. When
    the guard is interrupted or terminated, or its parent is gone, it interrupts the child, and kills the group when
    that takes too long.

    Args:
        parent: Id of the process that started this one.
        grace_seconds: How long the child may take to end once it is interrupted.
        events: A file descriptor of the child alone: its reader sees the end when the child closes it.
        abandoned: Is called in the guard when the parent is gone.

    Returns:
        The guard's process id, in the child.
    """
    os.setpgid(0, 0)
    guard = os.getpid()
    child = os.fork()
    if child:
        os.close(events)
        _Guard(child, parent, grace_seconds, abandoned).watch()
    _end_with(guard)
    return guard


def end_group() -> None:
    """End this process and those of its group, at once."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


class _Guard:
    def __init__(self, child: int, parent: int, grace_seconds: float, abandoned: Callable[[], None]) -> None:
        self._child, self._parent, self._abandoned = child, parent, abandoned
        self._grace_seconds = grace_seconds
        self._killed_at: float | None = None

    def watch(self) -> NoReturn:
        """Wait for the child to end, and end as it did."""
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)
        signal.signal(signal.SIGALRM, self._check)
        signal.setitimer(signal.ITIMER_REAL, _CHECK_SECONDS, _CHECK_SECONDS)
        _, status = os.waitpid(self._child, 0)
        for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if self._is_abandoned:
            end_group()
        _end_like(status)

    @property
    def _is_abandoned(self) -> bool:
        return os.getppid() != self._parent

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._killed_at is None:
            self._killed_at = time.monotonic() + self._grace_seconds
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self._child, signal.SIGINT)

    def _check(self, number: int, frame: FrameType | None) -> None:
        if self._killed_at is not None:
            if time.monotonic() > self._killed_at:
                end_group()
        elif self._is_abandoned:
            self._abandoned()
            self._interrupt(number, frame)


def _end_like(status: int) -> NoReturn:
    """End with the status of a child; its parent sees the same signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


def _end_with(guard: int) -> None:
    """End this process when its guard is killed."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # a C library without it; the thread does the same
            ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    # For kernels without that signal, and for a guard that is gone already.
    threading.Thread(target=_end_after, args=(guard,), daemon=True).start()


def _end_after(guard: int) -> None:
    while os.getppid() == guard:
        time.sleep(_CHECK_SECONDS)
    end_group()
