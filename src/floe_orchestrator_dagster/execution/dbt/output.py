"""Output of a dbt process while it runs: events from a separate pipe, and printed text."""

from __future__ import annotations

import os
import time
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

_CHUNK = 65_536  # bytes
_PIPE_CHUNKS = 64  # more than a pipe's buffer: a process that dbt has started can continue to print
_TICK_SECONDS = 0.5
_DRAIN_SECONDS = 0.05


class ProcessOutput:
    """The two pipes of a process: its events, one per line, and the printed text of it and its children."""

    def __init__(self, process: subprocess.Popen[bytes], events: BinaryIO, show: Callable[[bytes], None]) -> None:
        """Read the pipes of a process; ``show`` is called with each printed line, including the newline."""
        self._process, self._events, self._show = process, events, show
        self._printed = process.stdout
        self._shown = self._incomplete = b""
        self._selector = DefaultSelector()
        self._selector.register(events, EVENT_READ)
        if self._printed is not None:
            self._selector.register(self._printed, EVENT_READ)

    def read_lines(self, meanwhile: Callable[[], None]) -> list[bytes] | None:
        """Wait for output for half a second at most, show printed text, and return the next lines of events.

        Args:
            meanwhile: Called once.

        Returns:
            The lines, possibly none; None at the end of the events.
        """
        # Looked up before select(), so that no output of an ended process is missed.
        has_ended = self._process.poll() is not None
        ready = [key.fileobj for key, _ in self._selector.select(_TICK_SECONDS)]
        meanwhile()
        if self._printed in ready and not self._pass_on():
            self._selector.unregister(ready[ready.index(self._printed)])
        if self._events not in ready:
            # Without output, another process that dbt has started keeps the pipes open.
            return None if has_ended and not ready else []
        chunk = os.read(self._events.fileno(), _CHUNK)
        if not chunk:
            return None
        *lines, self._incomplete = (self._incomplete + chunk).split(b"\n")
        return lines

    def finish(self, seconds: float) -> bool:
        """Show printed text until the process has ended.

        Args:
            seconds: Maximum time to wait for the end.

        Returns:
            Whether the process has ended.
        """
        until = time.monotonic() + seconds
        has_ended, is_open = False, self._printed is not None
        with DefaultSelector() as selector:
            if self._printed is not None:
                selector.register(self._printed, EVENT_READ)
            while not has_ended and time.monotonic() < until:
                # Looked up before select(), so that no output of an ended process is missed.
                has_ended = self._process.poll() is not None
                for _ in range(_PIPE_CHUNKS):
                    if not is_open or not selector.select(0 if has_ended else _DRAIN_SECONDS):
                        break
                    is_open = self._pass_on()
                if not is_open and not has_ended:
                    time.sleep(_DRAIN_SECONDS)
        if self._shown:
            self._show(self._shown)
            self._shown = b""
        return has_ended

    def close(self) -> None:
        """Close both pipes, so that a process which still writes does not block."""
        self._selector.close()
        self._events.close()
        if self._printed is not None:
            self._printed.close()

    def _pass_on(self) -> bool:
        """Show the available lines; return False at the end of the pipe."""
        chunk = os.read(self._printed.fileno(), _CHUNK) if self._printed is not None else b""
        *lines, self._shown = (self._shown + chunk).split(b"\n")
        for line in lines:
            self._show(line + b"\n")
        return bool(chunk)
