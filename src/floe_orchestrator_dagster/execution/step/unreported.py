"""Selected nodes of which dbt reported no result: why, and how to fix it.

The project may have changed since the code location was loaded, and variables, the target and the environment decide
what of it is enabled. dbt then leaves such nodes out without an error.
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
_ENABLE = f"Run with the values that the manifest was made with, or run `{PREPARE_COMMAND}` with these and reload."
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
    """Name the selected nodes that dbt neither ran nor skipped, each with the reason.

    Args:
        expected: Unique ids of the nodes that were selected.
        results: The results of the invocation.
        nodes: The nodes and unit tests of the code location's manifest, by unique id.
        target: The invocation's target directory, where dbt has written the manifest that it worked with.
        has_succeeded: Whether dbt ran everything without a failure. After a failure only the nodes count that it
            cannot have: with ``--fail-fast`` it does not come to the others.
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
    """Say why dbt built nothing of a model that it has."""
    variables = (_excluding_variable(resource_type) for resource_type in ("model", "seed", "snapshot"))
    variable = next(filter(None, variables), None)
    why = f"dbt leaves it out, because of {variable}" if variable else "dbt reported no result of it"
    return DbtSetupError(f"{origin}: {name!r} was not built: {why}. {_UNSET if variable else _LOOK}")


def _excluding_variable(resource_type: str) -> str | None:
    """Name the variable by which dbt leaves out a resource type, with its value; None without one."""
    never, only = os.environ.get(_NEVER, ""), os.environ.get(_ONLY, "")
    if resource_type in re.findall(r"\w+", never):
        return f"{_NEVER}={never!r}"
    listed = re.findall(r"\w+", only)
    return f"{_ONLY}={only!r}" if listed and not {resource_type, "all"} & set(listed) else None


def _is_reported(unique_id: str, results: Results) -> bool:
    """Whether dbt ran or skipped a node; an ephemeral model is not a table."""
    result = results.finished.get(unique_id)
    return result is not None and (result.materialized != "ephemeral" or result.has_failed or result.was_skipped)


def _manifest_of(target: Path) -> Mapping[str, Any]:
    """Read the manifest of the invocation; empty where dbt writes none (``DBT_WRITE_JSON``)."""
    path = target / MANIFEST_FILE
    try:
        return read_manifest(path).content if path.is_file() else {}
    except ManifestError:
        return {}


def _gone(unique_id: str, name: str, content: Mapping[str, Any]) -> tuple[str, str] | None:
    """Say that dbt's manifest does not have a node, or only as a disabled one, and how to fix it."""
    if not content or any(unique_id in content.get(collection, ()) for collection in _COLLECTIONS):
        return None
    if unique_id in content["disabled"]:
        why = "its `enabled` depends on a variable, the target or the environment"
        return f"{name} was not run: it is disabled in this run, {why}", _ENABLE
    return f"dbt no longer has {name}: it was removed, renamed or changed after the code location was loaded", RELOAD


def _not_run(unique_id: str, name: str, results: Results) -> tuple[str, str]:
    """Say why dbt did not run a node that it has, and how to fix it."""
    if unique_id in results.finished:
        return f"{name} is ephemeral in this run: there is no table of it", _ENABLE
    variable = _excluding_variable(unique_id.split(".", maxsplit=1)[0])
    if variable:
        return f"{name} was not run: dbt leaves it out, because of {variable}", _UNSET
    if unique_id.startswith("unit_test."):
        return f"{name} was not run: dbt runs a unit test only with its model", "Launch the run for the model too."
    return f"{name} was not run: dbt reported no result of it", _LOOK


def _kind(unique_id: str) -> str:
    return unique_id.split(".", maxsplit=1)[0].replace("_", " ")


def named(unique_ids: AbstractSet[str]) -> str:
    """List nodes by type and name, such as ``model b, test not_null_b_id``."""
    return ", ".join(f"{_kind(unique_id)} {unique_id.split('.')[2]}" for unique_id in sorted(unique_ids))
