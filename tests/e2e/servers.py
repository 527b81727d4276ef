"""Dagster's own servers as processes: started on a free port, ended with everything that they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_INSTANCE = """\
telemetry:
  enabled: false
nux:
  enabled: false
"""


@dataclass(frozen=True)
class DagsterDev:
    """A running ``dagster dev``.

    Attributes:
        url: Where its page answers.
        project: The copy of the sample product that it serves.
        log: What it and its services print.
    """

    url: str
    project: Path
    log: Path

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """Ask its GraphQL API; an error in the answer fails the test."""
        question = {"query": query, "variables": variables}
        response = httpx.post(f"{self.url}/graphql", json=question, timeout=300, trust_env=False)
        content = response.raise_for_status().json()
        if "errors" in content:
            pytest.fail(str(content["errors"]))
        data: dict[str, Any] = content["data"]
        return data


def answers(dev: DagsterDev) -> bool:
    """Whether its GraphQL API answers."""
    try:
        return "version" in dev.graphql("{ version }")
    except httpx.HTTPError:
        return False


def dagster_home(directory: Path, settings: str = "") -> Path:
    """Create a Dagster instance without telemetry and welcome page, with additional settings."""
    directory.mkdir()
    (directory / "dagster.yaml").write_text(_INSTANCE + settings, encoding="utf-8")
    return directory


def free_port() -> int:
    """Find a free TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def server(
    *arguments: str, log: Path, module: str = "dagster", **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python -m <module>`` with ``arguments`` in a new process group, with its output in ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=clean_environment(**environment),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end_group(process)


def wait_until(ready: Callable[[], bool], seconds: float, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until ``ready`` is true; fail with the log when the process ends or ``seconds`` have passed."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            pytest.fail(f"ended with {process.returncode} before it was ready:\n{log.read_text(errors='replace')}")
        if time.monotonic() > deadline:
            pytest.fail(f"not ready after {seconds:g} s:\n{log.read_text(errors='replace')}")
        time.sleep(0.5)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
