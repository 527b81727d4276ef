"""A model built by dbt v2, and columns that are recorded after dbt has ended.

Annotations are evaluated in this module: Dagster reads those of the step.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from floe_orchestrator_dagster.config.models import DbtConfig
from floe_orchestrator_dagster.execution.dbt.node_result import BuiltTables
from floe_orchestrator_dagster.execution.step.build import build_model
from floe_orchestrator_dagster.execution.step.node_events import record_tables
from floe_orchestrator_dagster.execution.step.node_selection import DbtNodes
from unit.execution.dbt.scripted_v2 import end, process, record, scripted

A, B = dg.AssetKey("a"), dg.AssetKey("b")
DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05")


@pytest.mark.parametrize("version", ["2.0.0", "2.0.0-nightly.3"])
def test_dbt_v2_builds_the_functions_of_a_model_whatever_its_version(tmp_path: Path, version: str) -> None:
    dbt = scripted(tmp_path, version=version)
    table = {"materialization": "NODE_MATERIALIZATION_TABLE", "node_outcome": "NODE_OUTCOME_SUCCESS"}
    built = record("SpanEnd", "node.NodeProcessed", {"unique_id": "model.shop.orders", "name": "orders", **table})
    dbt.will_run(process([built, end()]))

    @dg.asset
    def orders(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        return build_model(context, dbt.session.dbt, "orders", DbtConfig(columns=False, row_counts=False))

    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([orders], instance=instance).success
    [environment] = dbt.environments
    assert "+fqn:orders,resource_type:function" in environment["arguments"]


def observed(**run: object) -> dict[str, str | None]:
    """Record the columns of a partitioned asset and another one in a run; return the partition by asset."""
    nodes = DbtNodes({A: "model.shop.a", B: "model.shop.b"}, {}, {}, {}, frozenset())

    @dg.multi_asset(specs=[dg.AssetSpec(A, partitions_def=DAYS), dg.AssetSpec(B)], can_subset=True)
    def step(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        found = BuiltTables({"model.shop.a": {"id": "INT"}}, {"model.shop.b": 3})
        record_tables(context.op_execution_context, {}, nodes, found)
        yield from (dg.MaterializeResult(key) for key in (A, B))

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([step], instance=instance, **run)  # type: ignore[arg-type]
    events = [one for one in result.all_events if one.event_type is dg.DagsterEventType.ASSET_OBSERVATION]
    observations = [event.asset_observation_data.asset_observation for event in events]
    return {one.asset_key.to_user_string(): one.partition for one in observations}


def of_range(start: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": last}


def test_recorded_columns_are_those_of_the_runs_only_partition() -> None:
    assert observed(partition_key="2026-01-02") == {"a": "2026-01-02", "b": None}
    assert observed(tags=of_range("2026-01-02", "2026-01-02")) == {"a": "2026-01-02", "b": None}
    assert observed(tags=of_range("2026-01-02", "2026-01-03")) == {"a": None, "b": None}
