"""Windows of partitions that are compared, and tables in which partitions leave each other's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import build_location
from floe_orchestrator_dagster.execution.reuse.knowledge import Known
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord, Unknown
from floe_orchestrator_dagster.execution.step.partition_builds import (
    PartitionBuilds,
    always_built,
    read_partition_builds,
)
from floe_orchestrator_dagster.execution.step.time_windows import NO_WINDOW, Window
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.product.build_traits import OF_BATCHES
from unit.odd_products import write_product
from unit.samples import node

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.execution.reuse.records import State

MODEL = "model.shop.days"
DISJOINT = {"materialized": "incremental", "enabled": True, "meta": {"dagster": {"partitions": "disjoint"}}}
BATCHES = {**DISJOINT, "incremental_strategy": "microbatch", "batch_size": "day"}
KEYED = {**DISJOINT, "incremental_strategy": "merge", "unique_key": "id"}
DAILY = {"type": "daily", "start": "2026-01-01"}
READS_WINDOW = "select '{{ var(\"start_date\") }}' as first"
LAST = BuildRecord("b", "f", "p", {}, 0, window="w", series="s")


def window(first: str, end: str, *keys: str) -> Window:
    return Window(
        {"start_date": first, "end_date": end}, ("--event-time-start", first, "--event-time-end", end), keys=keys
    )


FIRST, BOTH = window("2026-01-01", "2026-01-02", "a"), window("2026-01-01", "2026-01-03", "a", "b")


def found(  # noqa: PLR0913  # parts of a product
    directory: Path,
    config: dict[str, Any],
    code: str,
    of: Window,
    *,
    rule: dict[str, Any] | None = None,
    state: State = LAST,
    passed: bool = True,
) -> PartitionBuilds:
    """Return the builds of partitions of a model whose test has passed or failed."""
    model = node("days", config=config, raw_code=code)
    reads = {"nodes": [MODEL], "macros": []}
    test = node("fits", "test", config={"enabled": True, "severity": "ERROR"}, raw_code=READS_WINDOW, depends_on=reads)
    path = write_product(directory, model, test, config={"partitions": [{"select": "days", **DAILY, **(rule or {})}]})
    [step] = (step for step in build_location(load_product(path)).builds if MODEL in step.nodes.assets.values())
    records = {"test.shop.fits": CheckRecord(passed, passed, "v", {}, "r")}
    known = Known({MODEL: "f"}, {}, {MODEL: state}, {}, {}, records, {"test.shop.fits": frozenset({MODEL})})
    with dg.DagsterInstance.ephemeral() as instance:
        return read_partition_builds(instance, step, of, [MODEL], known)


@pytest.mark.parametrize(
    ("config", "code", "is_same"),
    [
        (BATCHES, "select 1 as id", True),
        (BATCHES, READS_WINDOW, False),
        (KEYED, "select 1 as id", False),
    ],
)
def test_only_batches_are_the_same_in_a_run_of_several_partitions(
    tmp_path: Path, config: dict[str, Any], code: str, *, is_same: bool
) -> None:
    one, both = found(tmp_path / "one", config, code, FIRST), found(tmp_path / "both", config, code, BOTH)

    assert (one.windows[MODEL] == both.windows[MODEL]) is is_same
    assert one.keeps_others == both.keeps_others == {MODEL}
    assert one.unbuilt == {MODEL: "no run has recorded a build of partition a"}


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ({**BATCHES, "meta": {}}, {}),
        ({**KEYED, "meta": {"dagster": {"reuse": True}}}, {}),
        (BATCHES, {"rule": {"timezone": "Europe/Berlin"}}),
        (BATCHES, {"rule": {"type": "hourly", "start": "2026-01-01-00:00"}}),
        ({**BATCHES, "batch_size": "year"}, {}),
        ({**KEYED, "incremental_strategy": "append"}, {}),
        (KEYED, {"passed": False}),
        (KEYED, {"state": BuildRecord("b", "other", "p", {}, 0, window="w", series="s")}),
        (KEYED, {"state": Unknown("killed")}),
    ],
)
def test_builds_that_may_change_other_partitions(tmp_path: Path, config: dict[str, Any], more: dict[str, Any]) -> None:
    one = found(tmp_path / "one", config, "select 1 as id", FIRST, **more)
    both = found(tmp_path / "both", config, "select 1 as id", BOTH, **more)

    assert one.keeps_others == both.keeps_others == frozenset()
    assert one.windows[MODEL] != both.windows[MODEL]


def test_environment_that_replaces_all_tables_keeps_no_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_FULL_REFRESH", "1")

    assert found(tmp_path, KEYED, "select 1 as id", FIRST).keeps_others == frozenset()


def test_table_of_a_partition_is_built_in_a_run_without_partitions(tmp_path: Path) -> None:
    assert found(tmp_path, KEYED, "select 1 as id", NO_WINDOW) == PartitionBuilds(
        unbuilt={MODEL: "its table was built last in a run of a partition"}
    )


def test_batches_of_a_window_do_not_depend_on_the_time_of_the_run(tmp_path: Path) -> None:
    partitions = found(tmp_path, BATCHES, "select 1 as id", FIRST)
    test = {"test.shop.fits": "its result belongs to the partitions of a run"}

    assert always_built(partitions, FIRST, {MODEL: OF_BATCHES}) == test
    other = {"model.shop.other": OF_BATCHES}  # of another step, whose partitions are not those of the run
    assert always_built(partitions, FIRST, other) == {**test, **other}
    assert always_built(partitions, FIRST, {MODEL: "it has hooks"}) == {**test, MODEL: "it has hooks"}
    assert always_built(PartitionBuilds(), NO_WINDOW, {MODEL: OF_BATCHES}) == {MODEL: OF_BATCHES}
