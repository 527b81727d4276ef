"""dbt engines for tests: the executable of dbt v2, which ``make setup-v2`` installs, and products that run on it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from unit.samples import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

EXECUTABLE = Path(os.environ.get("DBT_V2") or Path(__file__).parent.parent / ".dbt-v2" / "dbt")


def v2_executable() -> str:
    """Return the executable; without one the test is skipped, and fails in continuous integration."""
    if not EXECUTABLE.is_file():
        reason = "dbt v2 is not installed: make setup-v2"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return str(EXECUTABLE)


def engine_config(kind: str) -> dict[str, str]:
    """Return the keys of ``dbt`` in a product's configuration that choose an engine, ``core`` or ``v2``."""
    return {"engine": "v2", "executable": v2_executable()} if kind == "v2" else {"engine": "core"}


def set_engine(artifacts: Path, engine: Mapping[str, str]) -> Path:
    """Let an engine run a compiled product; returns the product's path."""
    content: dict[str, Any] = json.loads(artifacts.read_text(encoding="utf-8"))
    orchestrator = content["plugins"]["orchestrator"]
    config = orchestrator["config"] or {}
    orchestrator["config"] = {**config, "dbt": {**(config.get("dbt") or {}), **engine}}
    return write_json(artifacts, content)
