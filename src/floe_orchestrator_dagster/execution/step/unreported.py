"""Problems of selected nodes without a result from dbt, each with the reason and the fix.

dbt omits a node without an error when it was removed after the code location was loaded, or when variables, the target
or the environment disable it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.errors import DbtSetupError, ManifestError, Problem
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE, PREPARE_COMMAND, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.results import Results

_COLLECTIONS = ("nodes", "unit_tests", "functions")
# https://docs.getdbt.com/reference/global-configs/resource-type
_ONLY, _NEVER = "DBT_RESOURCE_TYPES", "DBT_EXCLUDE_RESOURCE_TYPES"
RELOAD = f"Run `{PREPARE_COMMAND}` and reload the code location."
_ENABLE = f"Run with the manifest's variables and target, or run `{PREPARE_COMMAND}` with these values and reload."
_UNSET = "Unset the variable where Dagster's runs get their environment."
_LOOK = "See the end of the step's captured output."


def unreported_problems(
    expected: AbstractSet[str],
    results: Results,
    nodes: Mapping[str, Mapping[str, Any]],
    target: Path,
    *,
    has_succeeded: bool,
) -> list[Problem]:
    """Return a problem for each selected node that dbt neither ran nor skipped.

    Args:
        expected: Unique ids of the selected nodes.
        results: The results of the invocation.
        nodes: The nodes and unit tests of the code location's manifest, by unique id.
        target: The invocation's target directory, with the manifest that dbt has written.
        has_succeeded: Whether dbt ran without a failure. After a failure, only nodes that dbt does not have are
            reported, because dbt does not run all others with ``--fail-fast``.
    """
    missing = sorted(unique_id for unique_id in expected if not _is_reported(unique_id, results))
    content = _manifest_of(target) if missing else {}
    problems = []
    for unique_id in missing:
        node = nodes.get(unique_id, {})
        name = f"{_kind(unique_id)} {node.get('name') or unique_id.split('.', 2)[-1]}"
        found = _gone(unique_id, name, content) or (_not_run(unique_id, name, results) if has_succeeded else None)
        if found is not None:
            problems.append(Problem(str(node.get("original_file_path") or unique_id), *found))
    return problems


def left_out(origin: str, name: str) -> DbtSetupError:
    """Return the error for an existing model that dbt did not build."""
    variables = (_excluding_variable(resource_type) for resource_type in ("model", "seed", "snapshot"))
    variable = next(filter(None, variables), None)
    why = f"dbt omits it because of {variable}" if variable else "dbt reported no result"
    return DbtSetupError(f"{origin}: {name!r} was not built: {why}. {_UNSET if variable else _LOOK}")


def _excluding_variable(resource_type: str) -> str | None:
    """Return the environment variable that excludes a resource type, with its value; None without one."""
    never, only = os.environ.get(_NEVER, ""), os.environ.get(_ONLY, "")
    if resource_type in re.findall(r"\w+", never):
        return f"{_NEVER}={never!r}"
    listed = re.findall(r"\w+", only)
    return f"{_ONLY}={only!r}" if listed and not {resource_type, "all"} & set(listed) else None


def _is_reported(unique_id: str, results: Results) -> bool:
    """Whether dbt ran or skipped a node. An ephemeral model that succeeded does not count, because it has no table."""
    result = results.finished.get(unique_id)
    return result is not None and (result.materialized != "ephemeral" or result.has_failed or result.was_skipped)


def _manifest_of(target: Path) -> Mapping[str, Any]:
    """Read the manifest of the invocation; empty if dbt did not write it (``DBT_WRITE_JSON``)."""
    path = target / MANIFEST_FILE
    try:
        return read_manifest(path).content if path.is_file() else {}
    except ManifestError:
        return {}


def _gone(unique_id: str, name: str, content: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the problem and fix of a node that dbt's manifest lacks or lists as disabled; None for others."""
    if not content or any(unique_id in content.get(collection, ()) for collection in _COLLECTIONS):
        return None
    if unique_id in content["disabled"]:
        why = "its `enabled` depends on a variable, the target or the environment"
        return f"{name} was not run: it is disabled in this run, {why}", _ENABLE
    return f"dbt no longer has {name}: it was removed, renamed or changed after the code location was loaded", RELOAD


def _not_run(unique_id: str, name: str, results: Results) -> tuple[str, str]:
    """Return the problem and fix of a node that dbt has and did not run."""
    if unique_id in results.finished:
        return f"{name} is ephemeral in this run, so it has no table", _ENABLE
    variable = _excluding_variable(unique_id.split(".", maxsplit=1)[0])
    if variable:
        return f"{name} was not run: dbt omits it because of {variable}", _UNSET
    if unique_id.startswith("unit_test."):
        return f"{name} was not run: dbt runs a unit test only with its model", "Launch the run for the model, too."
    return f"{name} was not run: dbt reported no result", _LOOK


def _kind(unique_id: str) -> str:
    return unique_id.split(".", maxsplit=1)[0].replace("_", " ")


def named(unique_ids: AbstractSet[str]) -> str:
    """List nodes by type and name, such as ``model b, test not_null_b_id``."""
    return ", ".join(f"{_kind(unique_id)} {unique_id.split('.')[2]}" for unique_id in sorted(unique_ids))
