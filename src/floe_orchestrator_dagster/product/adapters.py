"""Adapters and models that a dbt engine supports. Adapters of dbt-core are packages, those of dbt v2 are built in."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from floe_orchestrator_dagster.config.models import config_path
from floe_orchestrator_dagster.errors import EngineError, ManifestError, Problem, ProfileError
from floe_orchestrator_dagster.product.engines import run_captured
from floe_orchestrator_dagster.product.manifest import declared_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from floe_core.schemas.compiled_artifacts import ResolvedModel

    from floe_orchestrator_dagster.product.engines import DbtEngine
    from floe_orchestrator_dagster.product.profiles import Profile
    from floe_orchestrator_dagster.product.values import DbtConnection, DbtProject

# Adapters that dbt v2 has since 2.0.0-alpha.4. For any other adapter, dbt is started to find out.
_OF_V2 = frozenset({"bigquery", "databricks", "duckdb", "redshift", "salesforce", "snowflake"})
_REFUSED = re.compile(r"adapter is not yet supported|unknown variant")
_PARSE_SECONDS = 60
_PREFIX_OF_DBT = "DBT_"


def require_adapter(profile: Profile, engine: DbtEngine) -> None:
    """Check that the engine has the dbt adapter of the selected output.

    Raises:
        ProfileError: The engine does not have the adapter.
        EngineError: dbt v2 cannot be started to check this, or does not end.
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


def require_support(dbt: DbtProject, models: Iterable[ResolvedModel]) -> None:
    """Check that the engine of each compute exists, and that dbt v2 supports its adapters and models.

    Adapters of dbt-core are checked when dbt runs, because a code location can be loaded without dbt and its adapters.

    Args:
        dbt: The project.
        models: The declared models. Other models run on the default compute.

    Raises:
        EngineError: The configuration names an engine that is not installed, or cannot be used.
        ProfileError: dbt v2 lacks the adapter of a compute.
        ManifestError: dbt v2 cannot run some models. The message lists all.
    """
    declared = {model.name: model.compute for model in models}
    computes = {compute: dbt.on(compute) for compute in {"", *declared.values()}}
    on_v2 = {compute: connection for compute, connection in computes.items() if connection.is_on_v2}
    for connection in on_v2.values():
        require_adapter(connection.profile, connection.engine)
    problems = list(_unsupported_models(dbt, declared, on_v2)) if on_v2 else []
    if problems:
        raise ManifestError(str(dbt.manifest.path), problems)


def _unsupported_models(
    dbt: DbtProject, declared: Mapping[str, str], on_v2: Mapping[str, DbtConnection]
) -> Iterator[Problem]:
    names = declared_nodes(declared, dbt.manifest.content)
    for unique_id, node in dbt.manifest.content["nodes"].items():
        is_python = node["resource_type"] == "model" and node.get("language") == "python"
        connection = on_v2.get(declared.get(names.get(unique_id, ""), "")) if is_python else None
        if connection is not None and connection.profile.adapter == "duckdb":
            what = f"{node['name']!r} is a Python model, which {connection.engine} does not run on duckdb"
            fix = f"Set {config_path('dbt', 'engine')} to `core`, or write the model in SQL."
            yield Problem(str(node.get("original_file_path") or unique_id), what, fix)


def _is_installed(adapter: str) -> bool:
    try:
        return find_spec(f"dbt.adapters.{adapter}") is not None
    except ModuleNotFoundError:  # dbt.adapters itself
        return False


def _is_in_v2(adapter: str, engine: DbtEngine) -> bool:
    return adapter in _OF_V2 or _is_accepted(adapter, engine.executable)


@lru_cache(maxsize=16)
def _is_accepted(adapter: str, executable: str) -> bool:
    """Parse an empty project to find out whether dbt v2 has an adapter. It has no command that lists its adapters.

    Raises:
        EngineError: dbt v2 cannot be started, or does not end.
    """
    with tempfile.TemporaryDirectory(prefix="floe-dbt-adapter-") as directory:
        project = {"name": "floe", "profile": "floe"}
        profiles = {"floe": {"target": "floe", "outputs": {"floe": {"type": adapter}}}}
        for name, content in (("dbt_project.yml", project), ("profiles.yml", profiles)):
            Path(directory, name).write_text(yaml.safe_dump(content), encoding="utf-8")
        return _REFUSED.search(_printed_by_parse(executable, directory)) is None


def _printed_by_parse(executable: str, directory: str) -> str:
    paths = ("--project-dir", "--profiles-dir", "--target-path", "--log-path")
    # Variables of dbt configure the user's project: its directories, state and flags.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX_OF_DBT)}
    try:
        words = [executable, "parse", *(word for path in paths for word in (path, directory))]
        return run_captured(words, environment, Path(directory), _PARSE_SECONDS).stdout
    except OSError as error:
        what = f"cannot be started ({error.strerror})"
    except subprocess.TimeoutExpired:
        what = f"did not parse an empty project within {_PARSE_SECONDS} s"
    fix = f"Run `dbt parse` with it, and correct {config_path('dbt', 'executable')} or install dbt v2 again."
    raise EngineError(executable, [Problem("", what, fix)])
