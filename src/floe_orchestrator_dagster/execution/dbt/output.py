"""Output of a dbt process while it runs: events from a separate pipe, and printed text."""

from __future__ import annotations

import os
import time
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

_CHUNK = 65_536  # bytes
_PIPE_CHUNKS = 64  # more than a pipe holds: a process that dbt has left behind may print for ever
_TICK_SECONDS = 0.5
_DRAIN_SECONDS = 0.05


class ProcessOutput:
    """The two pipes of a process: events, one a line, and what it and its children print."""

    def __init__(self, process: subprocess.Popen[bytes], events: BinaryIO, show: Callable[[bytes], None]) -> None:
        """Begin; ``show`` takes each line that is printed, with its end."""
        self._process, self._events, self._show = process, events, show
        self._printed = process.stdout
        self._shown = b""

    def event_lines(self, meanwhile: Callable[[], None]) -> Iterator[bytes]:
        """Yield the events' lines until no more can come; calls ``meanwhile`` every half second at least."""
        cut_off = b""
        with DefaultSelector() as selector:
            selector.register(self._events, EVENT_READ)
            if self._printed is not None:
                selector.register(self._printed, EVENT_READ)
            while True:
                has_ended = self._process.poll() is not None  # before the look: what it wrote until then is seen
                ready = [key.fileobj for key, _ in selector.select(_TICK_SECONDS)]
                meanwhile()
                if self._printed in ready and not self._pass_on():
                    selector.unregister(ready[ready.index(self._printed)])
                if self._events in ready:
                    chunk = os.read(self._events.fileno(), _CHUNK)
                    if not chunk:
                        return
                    *lines, cut_off = (cut_off + chunk).split(b"\n")
                    yield from lines
                elif not ready and has_ended:
                    return  # a process that dbt has left behind holds the pipes open

    def finish(self, seconds: float) -> bool:
        """Pass on what is printed until the process has ended, however much a pipe holds.

        Args:
            seconds: How long to wait for the end.

        Returns:
            Whether the process has ended.
        """
        until = time.monotonic() + seconds
        has_ended, is_open = False, self._printed is not None
        with DefaultSelector() as selector:
            if self._printed is not None:
                selector.register(self._printed, EVENT_READ)
            while not has_ended and time.monotonic() < until:
                has_ended = self._process.poll() is not None  # before the look: what it wrote until then is seen
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
        """Read no more: what the process still writes goes nowhere, and it does not wait for anybody to read it."""
        self._events.close()
        if self._printed is not None:
            self._printed.close()

    def _pass_on(self) -> bool:
        """Show the lines that are there; false at the end."""
        chunk = os.read(self._printed.fileno(), _CHUNK) if self._printed is not None else b""
        *lines, self._shown = (self._shown + chunk).split(b"\n")
        for line in lines:
            self._show(line + b"\n")
        return bool(chunk)
