"""Errors of steps whose dbt nodes failed, were skipped, or have no result, each with the reason and the fix.

dbt omits a node without an error when it was removed after the code location was loaded, or when variables, the target
or the environment disable it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.errors import (
    DbtBuildError,
    DbtNodesError,
    DbtSetupError,
    FloeDagsterError,
    ManifestError,
    NodeProblem,
    Problem,
)
from floe_orchestrator_dagster.execution.dbt.diagnosis import NOT_RESPONDING, is_unreachable
from floe_orchestrator_dagster.product.manifest import MANIFEST_FILE, PREPARE_COMMAND, read_manifest
from floe_orchestrator_dagster.upstream.dagster_dev import using_dagster_dev

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.execution.dbt.results import Results


_SHOWN = 200
# dbt could not compile these nodes. They fail again until they are corrected.
_LASTING = re.compile(r"(Compilation|Parsing) Error")
_COLLECTIONS = ("nodes", "unit_tests", "functions")
# https://docs.getdbt.com/reference/global-configs/resource-type
_ONLY, _NEVER = "DBT_RESOURCE_TYPES", "DBT_EXCLUDE_RESOURCE_TYPES"
_AGAIN = "re-execute from failure. Nodes that succeeded are not built again."
_FIX = f"Correct it, then {_AGAIN}"
_RECONNECT = f"{NOT_RESPONDING} Then {_AGAIN}"
_HOOK_FIX = (
    "Correct the hook, then re-execute from failure. dbt runs hooks only with nodes: with all of them if none is left."
)
_ENABLE = f"Run with the manifest's variables and target, or run `{PREPARE_COMMAND}` with these values and reload."
_UNSET = "Unset the variable where Dagster's runs get their environment."
_LOOK = "See the end of the step's captured output."


def reload_fix() -> str:
    """Return the fix for a code location that is older than the dbt project. ``dagster dev`` parses when it reloads."""
    if using_dagster_dev():
        return "Reload the code location."
    return f"Run `{PREPARE_COMMAND}` and reload the code location."


def nodes_error(
    results: Results, nodes: Mapping[str, Mapping[str, Any]], origin: str, unreported: Sequence[Problem] = ()
) -> DbtBuildError:
    """Create the error of an invocation with failures.

    Args:
        results: The results of its nodes and on-run hooks.
        nodes: The manifest's nodes and unit tests, by unique id.
        origin: The project's directory.
        unreported: Problems of selected nodes that dbt did not run.
    """
    if not results.failed and not results.failed_hooks and not unreported:
        return DbtBuildError(f"{origin}: dbt failed outside of its nodes: {results.summary()}. {_LOOK}")
    failed = [
        *(_problem(result, nodes.get(result.unique_id, {})) for result in results.failed),
        *(Problem(hook.file, f"hook {hook.name}: {hook.message}", _HOOK_FIX) for hook in results.failed_hooks),
        *unreported,
    ]
    skipped = [
        (f"{result.resource_type} {result.name}", ", ".join(cause.name for cause in results.causes(result)))
        for result in results.skipped
    ]
    retryable = bool(results.failed_hooks) or not all(_LASTING.match(result.message) for result in results.failed)
    return DbtNodesError(origin, _summary(results, len(unreported)), failed, skipped, retryable=retryable)


def _summary(results: Results, unreported: int) -> str:
    if not unreported:
        return results.summary()
    counted = "1 selected node was not run" if unreported == 1 else f"{unreported} selected nodes were not run"
    return f"{counted}, {results.summary().removeprefix('0 failed, ')}"


def _problem(result: NodeResult, node: Mapping[str, Any]) -> Problem:
    kind = result.resource_type.replace("_", " ")
    # dbt's first line repeats the node and its file.
    message = re.sub(r"^([\w ]+ Error) in .* \(.*\)\n\s*", r"\1: ", result.message) or result.status
    is_query = result.status == "error" and node.get("language", "sql") == "sql"
    fix = _RECONNECT if is_query and is_unreachable(message) else _FIX
    where = str(node.get("original_file_path") or result.unique_id)
    return NodeProblem(where, f"{kind} {result.name}: {message}", fix, result.unique_id)


def _unique_id(problem: Problem) -> str:
    return problem.node if isinstance(problem, NodeProblem) else ""


def dagster_failure(error: FloeDagsterError) -> dg.Failure | None:
    """Convert the error of a step to Dagster's ``Failure``, with tables of the failed and skipped nodes.

    Returns:
        The failure. None if the error can be raised unchanged: it lists no nodes, and Dagster can retry the step.
    """
    if isinstance(error, DbtNodesError):
        # Tests come last: the rows of the table are limited.
        problems = sorted(error.problems, key=lambda problem: _unique_id(problem).startswith(("test.", "unit_test.")))
        failed = [
            dg.TableRecord({"file": problem.where, "failed": problem.what, "node": _unique_id(problem)})
            for problem in problems
        ]
        skipped = [dg.TableRecord({"skipped": name, "because of": cause}) for name, cause in error.skipped]
        metadata = {
            "failed": dg.MetadataValue.table(failed[:_SHOWN]),
            **({"skipped": dg.MetadataValue.table(skipped[:_SHOWN])} if skipped else {}),
        }
        return dg.Failure(description=str(error), metadata=metadata, allow_retries=error.retryable)
    return None if error.retryable else dg.Failure(description=str(error), allow_retries=False)


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
            reported, because dbt with ``--fail-fast`` leaves out others.
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
    """Return whether dbt ran or skipped a node; false for an ephemeral model that succeeded: it has no table."""
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
    return (
        f"dbt no longer has {name}: it was removed, renamed or changed after the code location was loaded",
        reload_fix(),
    )


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
