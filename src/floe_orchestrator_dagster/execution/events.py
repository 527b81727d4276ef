"""dbt's log events → Dagster's: what became of a test.

Event shapes: https://docs.getdbt.com/reference/events-logging#structured-logging
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

_TEST_EVENT = "LogTestResult"
_NOT_RUN = ("skipped",)


def is_test_event(event: Mapping[str, Any]) -> bool:
    """Whether dbt reports the end of a data test or unit test."""
    return bool(event["info"]["name"] == _TEST_EVENT)


def test_result(
    event: Mapping[str, Any],
    check_of: Mapping[str, dg.AssetCheckKey],
    severities: Mapping[dg.AssetCheckKey, dg.AssetCheckSeverity],
) -> dg.AssetCheckResult | None:
    """Turn the end of a test into its check's result; None for other events, and for tests that are no check.

    The severity is the declared one (``severities``), else as dbt's: WARN when the test only warns.
    Metadata as dagster-dbt's: ``unique_id``, ``invocation_id``, ``status``, ``dagster_dbt/failed_row_count`` and
    ``Execution Duration`` (seconds).
    """
    if not is_test_event(event):
        return None
    data = event["data"]
    unique_id = data["node_info"]["unique_id"]
    key, status = check_of.get(unique_id), str(data["status"]).lower()
    if key is None or status in _NOT_RUN:
        return None
    failed_rows = data.get("num_failures")
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=status == "pass",
        severity=severities.get(key) or _severity(status),
        metadata={
            "unique_id": unique_id,
            "invocation_id": event["info"]["invocation_id"],
            "status": status,
            "Execution Duration": dg.FloatMetadataValue(float(data.get("execution_time") or 0)),
            **({} if failed_rows is None else {"dagster_dbt/failed_row_count": int(failed_rows)}),
        },
    )


def _severity(status: str) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.WARN if status == "warn" else dg.AssetCheckSeverity.ERROR


def recorded(
    result: dg.AssetCheckResult, selected: AbstractSet[dg.AssetCheckKey]
) -> dg.AssetCheckResult | dg.AssetCheckEvaluation:
    """Record what dbt ran on a source although the step had not selected it; Dagster warns about such a result."""
    if result.asset_key is None or result.check_name is None:
        return result
    if dg.AssetCheckKey(result.asset_key, result.check_name) in selected:
        return result
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )
