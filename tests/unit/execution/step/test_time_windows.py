"""dbt's window for runs of checks alone.

Annotations are evaluated in this module: Dagster wants the context's type itself, not its name.
"""

from collections.abc import Iterator

import dagster as dg
import pytest

from floe_orchestrator_dagster.config.models import PartitionsConfig
from floe_orchestrator_dagster.execution.step.time_windows import Window, partition_window

_RULE = PartitionsConfig.model_validate({"select": "days", "type": "daily", "start": "2026-01-01"})
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@pytest.mark.parametrize("tags", [{"dagster/partition": "2026-01-02"}, {_FIRST: "2026-01-01", _LAST: "2026-01-02"}, {}])
def test_a_run_of_checks_without_partitions_reads_the_whole_table(tags: dict[str, str]) -> None:
    windows: list[Window] = []
    days = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05")

    @dg.multi_asset(
        specs=[dg.AssetSpec("days", skippable=True, partitions_def=days)],
        check_specs=[dg.AssetCheckSpec("unique", asset="days")],
        can_subset=True,
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
        windows.append(partition_window(context, _RULE))
        yield dg.AssetCheckResult(passed=True, asset_key="days", check_name="unique")

    chosen = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("days"), "unique"))
    assert dg.materialize([build], selection=chosen, tags=tags).success
    assert windows == [Window()]
