"""A running Dagster with the sample product, and the browser that looks at it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
_GENERATED = shutil.ignore_patterns("target", "logs", "warehouse", "dbt_packages", ".user.yml")
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def dagster_dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterDev]:
    """Serve an unprepared copy of the sample with the repository's workspace, as ``make dev`` does."""
    directory = tmp_path_factory.mktemp("dagster_dev")
    project = Path(shutil.copytree(REPOSITORY / "dbt_project", directory / "dbt_project", ignore=_GENERATED))
    home, log, port = dagster_home(directory / "home"), directory / "dagster_dev.log", free_port()
    dev = DagsterDev(f"http://127.0.0.1:{port}", project, log)
    arguments = ["--workspace", str(REPOSITORY / "workspace.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    environment = {"FLOE_ARTIFACTS_PATH": str(project / "compiled_artifacts.json"), "DAGSTER_HOME": str(home)}
    with server("dev", *arguments, log=log, **environment) as process:
        wait_until(lambda: answers(dev), 120, process, log)
        yield dev


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    return found or _missing("no chromium on the PATH; install it: apt-get install chromium")


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: ``FLOE_SCREENSHOTS`` for the README's, else a temporary directory."""
    named = os.environ.get("FLOE_SCREENSHOTS")
    directory = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _missing(reason: str) -> str:
    """Skip on a person's machine; fail in CI, where a skipped test would go unnoticed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
