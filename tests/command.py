"""The command line in this process, for tests of what it says; `processes.floe_dagster` starts one as a user does."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from floe_orchestrator_dagster.cli import main


@dataclass(frozen=True)
class Answer:
    """Output and exit code of a command."""

    exit_code: int
    stdout: str
    stderr: str


class Screen(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self) -> bool:
        """Return True, as for a terminal."""
        return True


def invoke(*arguments: object, screen: Screen | None = None, **environment: str) -> Answer:
    """Run ``floe-dagster`` with ``arguments``; click's own runner keeps standard error apart in some versions only."""
    out, err = io.StringIO(), screen or io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main([str(argument) for argument in arguments], prog_name="floe-dagster")
        except SystemExit as end:
            code = end.code
    return Answer(code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())
