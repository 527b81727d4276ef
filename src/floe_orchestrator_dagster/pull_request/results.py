"""Reports of a build's nodes from dbt's results."""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.pull_request.production import materialized
from floe_orchestrator_dagster.pull_request.report import NodeReport
from floe_orchestrator_dagster.redaction import mask, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from floe_orchestrator_dagster.execution.dbt.node_result import NodeResult
    from floe_orchestrator_dagster.execution.dbt.results import Results
    from floe_orchestrator_dagster.pull_request.changes import Changes


def node_reports(
    changes: Changes, nodes: Mapping[str, Any], results: Results, compiled: Path, secrets: Iterable[str]
) -> list[NodeReport]:
    """Return the reports of the selected models, seeds, snapshots and tests, in the order of their completion.

    Args:
        changes: The nodes to build.
        nodes: Nodes of dbt's manifest.
        results: dbt's results.
        compiled: Directory with the compiled queries.
        secrets: Values that are masked in queries.
    """
    finished, reasons = results.finished, {**changes.built, **changes.tests}
    order = [*(one for one in finished if one in reasons), *(one for one in reasons if one not in finished)]
    reports = []
    for one in order:
        node, result = nodes.get(one, {}), finished.get(one)
        if materialized(node) == "ephemeral":
            continue
        report = NodeReport(
            unique_id=one,
            name=one.split(".")[2] if one.startswith("test.") else ".".join(one.split(".")[2:]),
            resource_type=one.partition(".")[0],
            is_changed=one in changes.changed,
            reason=reasons[one],
        )
        query = mask(_query(node, result, compiled), secrets=secrets)
        reports.append(_with_result(report, result, results, query) if result else report)
    return reports


def other_failures(changes: Changes, nodes: Mapping[str, Any], results: Results, *, is_successful: bool) -> list[str]:
    """Return the failures that no report of a node and no hook shows, such as those of functions.

    Args:
        changes: The nodes to build.
        nodes: Nodes of dbt's manifest.
        results: dbt's results.
        is_successful: Whether dbt ended without a failure.
    """
    reported = {one for one in {**changes.built, **changes.tests} if materialized(nodes.get(one, {})) != "ephemeral"}
    failed = [redact(f"{one.unique_id}: {one.message}") for one in results.failed if one.unique_id not in reported]
    if not is_successful and not results.failed and not results.failed_hooks:
        failed.append("dbt ended with a failure that belongs to no node. See its log.")
    return failed


def _query(node: Mapping[str, Any], result: NodeResult | None, compiled: Path) -> str:
    """Return the query of a failed test; empty for other nodes, and if it is not known."""
    if result is None or not result.is_test or not result.has_failed:
        return ""
    if result.compiled_code:
        return result.compiled_code
    # The file of a test of a column or table is in a directory with the name of the file that defines it.
    own, name = compiled / str(node.get("package_name")) / str(node.get("original_file_path")), str(node.get("path"))
    found = [path for path in (own, own / name) if path.is_file()]
    found = found or [path for path in compiled.rglob(glob.escape(Path(name).name)) if path.is_file()]
    return found[0].read_text(encoding="utf-8") if len(found) == 1 else ""


def _with_result(report: NodeReport, result: NodeResult, results: Results, query: str) -> NodeReport:
    causes = ", ".join(cause.name for cause in results.causes(result)) if result.was_skipped else ""
    message = f"skipped because of {causes}" if causes else result.message
    return replace(
        report,
        status=result.status,
        ending=result.ending,
        message=redact(message),
        seconds=result.seconds,
        query=redact(query),
    )
