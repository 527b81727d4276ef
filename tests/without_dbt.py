"""A Python environment without a dbt engine: the packages of this one, except those of dbt, and the built wheel."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

_OWN = "floe-orchestrator-dagster"


def environment_without_dbt(directory: Path, wheel: Path) -> Path:
    """Link all packages but dbt-core, its libraries and its adapters into ``directory``, beside an unpacked wheel."""
    directory.mkdir()
    for source in (*_packages(), *wheel.iterdir()):
        target = directory / source.name
        if not target.exists():
            target.symlink_to(source)
    return directory


def run_without_dbt(packages: Path, *arguments: str, path: str = "", **environment: str) -> tuple[int, str]:
    """Run Python with these packages and a PATH; returns its exit status and what it printed."""
    variables = clean_environment(**environment) | {"PYTHONPATH": str(packages), "PATH": path}
    result = subprocess.run(
        [sys.executable, "-S", *arguments],  # without the packages of this environment
        cwd=packages.parent,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    return result.returncode, result.stdout


def _packages() -> Iterator[Path]:
    """Yield the files and directories at the top of each distribution."""
    for distribution in distributions():
        name = distribution.metadata["Name"].lower().replace("_", "-")
        if name.startswith("dbt-") or name in {_OWN, "metricflow"}:
            continue
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in {"..", "__pycache__", "dbt"}}
        for top in sorted(tops):
            found = Path(str(distribution.locate_file(top)))
            if found.exists() and found.suffix != ".pth":
                yield found
