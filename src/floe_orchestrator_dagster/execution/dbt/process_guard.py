"""Guard: a small parent process that ends dbt when the step is interrupted or its process has died.

A thread of dbt's process cannot do this, because a Python model can hold the interpreter's lock in a long call. The
guard runs no code of the project.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

_CHECK_SECONDS = 0.25
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


@dataclass(frozen=True)
class GuardSettings:
    """Settings that a process needs for its guard.

    Attributes:
        parent: Process id of the step. dbt ends when this process ends.
        events: File descriptor of the pipe for events, which only the child uses: its reader sees the end when the
            child closes it.
        profiles: The directory of ``profiles.yml``. The guard removes it if the step has ended without doing so.
        grace_seconds: Time for dbt to cancel its queries after an interrupt.
    """

    parent: int
    events: int
    profiles: str
    grace_seconds: float

    def as_argument(self) -> str:
        """Serialize the settings to a command-line argument."""
        return json.dumps(asdict(self))


def continue_guarded(settings: GuardSettings) -> int:
    """Fork the process: the parent becomes the guard, and the function returns in the child.

    The guard leads a process group with all processes that dbt starts. It ends together with the child, with the same
    status. When the guard is interrupted or terminated, or its parent has ended, it interrupts the child, and kills the
    group if the child does not end in time.

    Returns:
        The guard's process id, in the child.
    """
    os.setpgid(0, 0)
    guard = os.getpid()
    child = os.fork()
    if child:
        os.close(settings.events)
        _Guard(child, settings).watch()
    _end_with(guard)
    return guard


def end_group() -> None:
    """Kill this process and all others of its group."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


class _Guard:
    """Waits for a child process, forwards interrupts to it, and ends it when its parent is gone."""

    def __init__(self, child: int, settings: GuardSettings) -> None:
        self._child, self._settings = child, settings
        self._killed_at: float | None = None

    def watch(self) -> NoReturn:
        """Wait for the end of the child, and end with the same status."""
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
        return os.getppid() != self._settings.parent

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._killed_at is None:
            self._killed_at = time.monotonic() + self._settings.grace_seconds
            with suppress(ProcessLookupError):  # the child has ended
                os.kill(self._child, signal.SIGINT)

    def _check(self, number: int, frame: FrameType | None) -> None:
        if self._killed_at is not None:
            if time.monotonic() > self._killed_at:
                end_group()
        elif self._is_abandoned:
            shutil.rmtree(self._settings.profiles, ignore_errors=True)
            self._interrupt(number, frame)


def _end_like(status: int) -> NoReturn:
    """End with the status or signal of the child."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


def _end_with(guard: int) -> None:
    """End this process when its guard ends."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # not every C library has it; the thread does the same
            ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    # For kernels without this signal, and for a guard that has already ended.
    threading.Thread(target=_end_after, args=(guard,), daemon=True).start()


def _end_after(guard: int) -> None:
    while os.getppid() == guard:
        time.sleep(_CHECK_SECONDS)
    end_group()
