"""Errors of steps whose dbt nodes failed, with the failed and skipped nodes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.errors import DbtBuildError, DbtNodesError, FloeDagsterError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.execution.dbt.results import Results

_FIX = "Correct it, then re-execute from failure. Nodes that succeeded are not built again."
_SHOWN = 200
_HOOK_FIX = (
    "Correct the hook, then re-execute from failure. dbt runs hooks only with nodes: with all of them if none is left."
)
# dbt could not compile these nodes. They fail again until they are corrected.
_LASTING = re.compile(r"(Compilation|Parsing) Error")


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
        fix = "See the end of the step's captured output."
        return DbtBuildError(f"{origin}: dbt failed outside of its nodes: {results.summary()}. {fix}")
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
    return Problem(str(node.get("original_file_path") or result.unique_id), f"{kind} {result.name}: {message}", _FIX)


def dagster_failure(error: FloeDagsterError) -> dg.Failure | None:
    """Convert the error of a step to Dagster's ``Failure``, with tables of the failed and skipped nodes.

    Returns:
        The failure. None for an error without nodes after which Dagster can retry the step, and which stays unchanged.
    """
    if isinstance(error, DbtNodesError):
        failed = [dg.TableRecord({"file": problem.where, "failed": problem.what}) for problem in error.problems]
        skipped = [dg.TableRecord({"skipped": name, "because of": cause}) for name, cause in error.skipped]
        metadata = {
            "failed": dg.MetadataValue.table(failed[:_SHOWN]),
            **({"skipped": dg.MetadataValue.table(skipped[:_SHOWN])} if skipped else {}),
        }
        return dg.Failure(description=str(error), metadata=metadata, allow_retries=error.retryable)
    return None if error.retryable else dg.Failure(description=str(error), allow_retries=False)
