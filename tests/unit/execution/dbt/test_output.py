"""Printed text and events of a process, in two pipes that do not affect each other."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.dbt.engine_process import ProcessOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def started(script: str, shown: list[bytes]) -> Iterator[ProcessOutput]:
    """Run a shell script whose events go to the file descriptor in ``$1``."""
    reading, writing = os.pipe()
    command = ["sh", "-c", script, "sh", f"/dev/fd/{writing}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, pass_fds=[writing]) as process:
        os.close(writing)
        output = ProcessOutput(process, os.fdopen(reading, "rb", buffering=0), shown.append)
        yield output
        output.close()
        process.kill()


def nothing() -> None:
    """Do nothing between events."""


def all_lines(output: ProcessOutput, meanwhile: Callable[[], None]) -> list[bytes]:
    """Read the lines of all events."""
    found: list[bytes] = []
    while (lines := output.read_lines(meanwhile)) is not None:
        found += lines
    return found


def first_line(output: ProcessOutput) -> bytes:
    """Read the line of the first event."""
    while True:
        lines = output.read_lines(nothing)
        assert lines is not None
        if lines:
            return lines[0]


def test_prints_without_an_end_of_line_swallow_no_event_and_forge_none() -> None:
    shown: list[bytes] = []
    script = (
        """exec 9>"$1"; printf 'half a line'; echo '{"n": 1}' >&9; printf '{"n": 9}\\n{"n":'; echo '{"n": 2}' >&9"""
    )

    with started(script, shown) as output:
        events = all_lines(output, nothing)
        output.finish(60)

    assert events == [b'{"n": 1}', b'{"n": 2}']
    assert b"".join(shown) == b'half a line{"n": 9}\n{"n":'


def test_what_is_printed_after_the_last_event_is_passed_on_however_long_it_is() -> None:
    shown: list[bytes] = []
    with started("""echo end >"$1"; head -c 300000 /dev/zero | tr '\\0' 'x'; echo; echo bye""", shown) as output:
        assert first_line(output) == b"end"
        output.finish(60)

    assert [len(line) for line in shown] == [300001, 4]


def test_time_passes_while_the_process_is_silent() -> None:
    ticks: list[float] = []
    with started("""sleep 3; echo end >"$1" """, []) as output:
        assert all_lines(output, lambda: ticks.append(time.monotonic())) == [b"end"]

    assert len(ticks) >= 2  # six where nothing else runs


def test_a_process_that_is_left_behind_with_the_pipes_open_is_not_waited_for() -> None:
    shown: list[bytes] = []
    began = time.monotonic()
    with started("""exec 9>"$1"; echo one >&9; sleep 300 & echo $!""", shown) as output:
        assert all_lines(output, nothing) == [b"one"]
        output.finish(60)
        os.kill(int(shown[0]), 9)

    assert time.monotonic() - began < 60


def test_what_comes_while_something_else_is_done_is_read_although_the_process_has_ended() -> None:
    script = """exec 9>"$1"; sleep 0.7; echo end >&9"""
    with started(script, []) as output:
        assert all_lines(output, lambda: time.sleep(0.4)) == [b"end"]
