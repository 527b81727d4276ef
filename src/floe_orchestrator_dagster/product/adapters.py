"""Adapters that a dbt engine has: packages of dbt-core, and those that are compiled into dbt v2."""

from __future__ import annotations

import re
import subprocess
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from floe_orchestrator_dagster.config.models import config_path
from floe_orchestrator_dagster.errors import Problem, ProfileError

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product.engines import DbtEngine
    from floe_orchestrator_dagster.product.profiles import Profile

# Adapters of 2.0.0-alpha.4, which a newer dbt v2 has too. dbt itself is asked about others.
_OF_V2 = frozenset({"bigquery", "databricks", "duckdb", "redshift", "salesforce", "snowflake"})
_REFUSED = re.compile(r"adapter is not yet supported|unknown variant")
_SECONDS = 60


def require_adapter(profile: Profile, engine: DbtEngine) -> None:
    """Check that the engine has the dbt adapter of the selected output.

    Raises:
        ProfileError: It does not.
    """
    adapter = profile.adapter
    if adapter is None or (_is_installed(adapter) if engine.kind == "core" else _is_in_v2(adapter, engine)):
        return
    if engine.kind == "core":
        what = f"the dbt adapter {adapter!r} is not installed in this Python environment"
        fix = f"pip install dbt-{adapter}, or choose another compute in manifest.yaml and compile again."
    else:
        what = f"the adapter {adapter!r} is not supported by {engine}"
        fix = (
            f"Set {config_path('dbt', 'engine')} to `core`, or the key `engine` of this compute in "
            f'{config_path("computes")}, and `pip install "dbt-core<2" dbt-{adapter}`.'
        )
    raise ProfileError(f"dbt profile {profile.name!r}, target {profile.target!r}", [Problem("type", what, fix)])


def _is_installed(adapter: str) -> bool:
    try:
        return find_spec(f"dbt.adapters.{adapter}") is not None
    except ModuleNotFoundError:  # dbt.adapters itself
        return False


def _is_in_v2(adapter: str, engine: DbtEngine) -> bool:
    return adapter in _OF_V2 or _is_accepted(adapter, engine.executable)


@lru_cache(maxsize=16)
def _is_accepted(adapter: str, executable: str) -> bool:
    """Ask dbt v2 for an adapter, with an empty project: it has no command that lists them."""
    with tempfile.TemporaryDirectory(prefix="floe-dbt-adapter-") as directory:
        project = {"name": "floe", "profile": "floe"}
        profiles = {"floe": {"target": "floe", "outputs": {"floe": {"type": adapter}}}}
        for name, content in (("dbt_project.yml", project), ("profiles.yml", profiles)):
            Path(directory, name).write_text(yaml.safe_dump(content), encoding="utf-8")
        printed = subprocess.run(
            [executable, "parse", "--project-dir", directory, "--profiles-dir", directory],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    return _REFUSED.search(f"{printed.stdout}{printed.stderr}") is None
