"""Check results of a step: what is recorded is what Dagster itself would have recorded.

Annotations are evaluated in this module: Dagster wants the context's type itself, not its name.
"""

import cProfile
import inspect
import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.upstream.dagster_check_evaluations import Evaluations

_DAY = dg.DailyPartitionsDefinition("2026-01-01")


def _assets(
    count: int,
    *,
    ours: bool,
    partitioned: bool = False,
    built: bool = True,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
) -> dg.AssetsDefinition:
    names = [f"asset_{number}" for number in range(count)]

    @dg.multi_asset(
        name="build",
        specs=[dg.AssetSpec(name, skippable=True, partitions_def=_DAY if partitioned else None) for name in names],
        check_specs=[dg.AssetCheckSpec("fine", asset=name, blocking=name == "asset_1") for name in names],
        can_subset=True,
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        evaluations = Evaluations(context.op_execution_context)
        for name in names:
            if dg.AssetKey(name) not in context.selected_asset_keys:
                continue
            output = dg.Output(None, output_name=name)
            if built:
                evaluations.built(output)
                yield output
            result = dg.AssetCheckResult(
                passed=name != "asset_1",
                asset_key=name,
                check_name="fine",
                severity=severity,
                description="two rows" if name == "asset_1" else None,
                metadata={"status": "pass"},
            )
            if ours:
                yield from evaluations.events(result)
            else:
                yield result

    return build


def _recorded(definition: dg.AssetsDefinition, **arguments: Any) -> tuple[list[Any], list[str], bool]:  # noqa: ANN401  # of materialize
    """Run it; return what each evaluation says, the names of all outputs, and whether the run went well."""
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("asset_0"))
        result = dg.materialize([definition], instance=instance, raise_on_error=False, **arguments)
        found = []
        for evaluation in result.get_asset_check_evaluations():
            said = json.loads(dg.serialize_value(evaluation))
            target = said["target_materialization_data"]
            if target is not None:
                records = instance.fetch_materializations(evaluation.asset_key, limit=1).records
                assert [(record.run_id, record.timestamp) for record in records] == [
                    (target.pop("run_id"), target.pop("timestamp"))
                ]
            found.append(said)
        outputs = [event.step_output_data.output_name for event in result.all_events if event.is_successful_output]
        return found, outputs, result.success


@pytest.mark.parametrize(
    ("definition", "arguments"),
    [
        ({}, {}),
        ({"partitioned": True}, {"partition_key": "2026-01-02"}),
        ({"built": False}, {}),
        ({}, {"selection": ["asset_1", "asset_2"]}),
        ({"severity": dg.AssetCheckSeverity.ERROR}, {}),
    ],
    ids=["all", "partition", "not built", "some", "blocked"],
)
def test_evaluations_are_those_of_dagster(definition: dict[str, Any], arguments: dict[str, Any]) -> None:
    ours = _recorded(_assets(3, ours=True, **definition), **arguments)

    assert ours == _recorded(_assets(3, ours=False, **definition), **arguments)
    evaluations, outputs, success = ours
    assert success is ("severity" not in definition)
    assert len(evaluations) == (2 if "selection" in arguments else 3)
    assert {evaluation["asset_key"]["path"][0]: evaluation["success"] for evaluation in evaluations}["asset_1"] is False
    assert any(name.endswith("_fine") for name in outputs)


def test_check_that_the_step_has_not_selected_is_recorded_without_an_output() -> None:
    @dg.multi_asset(name="build", specs=[dg.AssetSpec("asset_0")])
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield dg.MaterializeResult(asset_key="asset_0")
        result = dg.AssetCheckResult(passed=True, asset_key="source", check_name="unique")
        yield from Evaluations(context.op_execution_context).events(result)

    evaluations, outputs, _ = _recorded(build)

    assert [(found["asset_key"]["path"], found["check_name"]) for found in evaluations] == [(["source"], "unique")]
    assert outputs == ["asset_0"]


@pytest.mark.skipif(
    "partitions_def" not in inspect.signature(dg.AssetCheckSpec.__new__).parameters,
    reason="checks have no partitions before Dagster 1.13",
)
def test_a_run_of_several_partitions_is_the_current_result_of_each() -> None:
    days, key = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-05"), dg.AssetKey("asset_0")
    spec = dg.AssetCheckSpec("fine", asset=key)._replace(partitions_def=days)

    @dg.multi_asset(
        name="build",
        specs=[dg.AssetSpec(key, skippable=True, partitions_def=days)],
        check_specs=[spec],
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        evaluations = Evaluations(context.op_execution_context)
        output = dg.Output(None, output_name="asset_0")
        evaluations.built(output)
        yield output
        metadata = {"status": dg.MetadataValue.text("fail"), "query": dg.MetadataValue.md("select 1")}
        yield from evaluations.events(
            dg.AssetCheckResult(
                passed=False,
                asset_key=key,
                check_name="fine",
                metadata=metadata,
                severity=dg.AssetCheckSeverity.WARN,
            )
        )

    check = dg.AssetCheckKey(key, "fine")
    first, last = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
    with dg.DagsterInstance.ephemeral() as instance:
        result = None
        for _ in range(2):  # the second run builds again what has a result
            result = dg.materialize([build], tags={first: "2026-01-01", last: "2026-01-03"}, instance=instance)
        state = instance.event_log_storage.get_asset_check_state([(check, days)])[check]
        shown = {
            status.name: sorted(subset.subset_value.get_partition_keys())
            for status, subset in state.subsets.items()
            if not subset.is_empty
        }

    assert shown == {"FAILED": ["2026-01-01", "2026-01-02", "2026-01-03"]}
    assert result is not None
    assert [sorted(found.metadata) for found in result.get_asset_check_evaluations()] == [
        ["query", "status"],
        ["status"],
        ["status"],
    ]


@pytest.mark.parametrize("ours", [True, False])
def test_dagster_does_not_go_through_all_checks_for_each_result(*, ours: bool) -> None:
    definition = _assets(2, ours=ours)
    profile = cProfile.Profile()
    profile.enable()
    dg.materialize([definition])
    profile.disable()

    entries: list[Any] = profile.getstats()
    called = {getattr(entry.code, "co_name", "") for entry in entries}
    assert ("to_asset_check_evaluation" in called) is not ours
