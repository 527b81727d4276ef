"""dbt v2 for tests: its executable, which ``make setup-v2`` installs, and products that it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

EXECUTABLE = Path(os.environ.get("DBT_V2") or Path(__file__).parent.parent / ".dbt-v2" / "dbt")


def v2_executable() -> str:
    """Return the executable; without one the test is skipped, and fails in continuous integration."""
    if not EXECUTABLE.is_file():
        reason = "dbt v2 is not installed: make setup-v2"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return str(EXECUTABLE)


def v2_config(**dbt: object) -> dict[str, Any]:
    """Return the configuration of a product that dbt v2 runs, within the process of its run."""
    return {"executor": "in_process", "dbt": {"engine": "v2", "executable": v2_executable(), **dbt}}
