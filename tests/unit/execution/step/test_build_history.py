"""Records of builds count until another run may have built the table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.execution.reuse.records import BuildRecord, CheckRecord, Unknown
from floe_orchestrator_dagster.execution.step.build_history import (
    BUILT_IN_RUN,
    RECORD,
    BuildHistory,
    mark_kept,
    metadata_again,
    read_history,
    recorded_build,
)
from floe_orchestrator_dagster.execution.step.build_marks import (
    key_of,
    mark_reused,
    mark_started,
    store_shapes,
    store_tests,
)
from floe_orchestrator_dagster.upstream import dagster_materializations
from floe_orchestrator_dagster.upstream.dagster_history import newest_event, store_values, stored_values
from floe_orchestrator_dagster.upstream.dagster_materializations import partition_materializations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY, CHECK = dg.AssetKey("orders"), dg.AssetCheckKey(dg.AssetKey("orders"), "unique")
OWN = "11111111-0000-0000-0000-000000000000"


@pytest.fixture(params=["in memory", "files"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Give an instance that is gone after the test: one database, or SQLite's database per run."""
    is_in_memory = request.param == "in memory"
    with dg.DagsterInstance.ephemeral() if is_in_memory else dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


def record(instance: dg.DagsterInstance, build_id: str = "b1") -> BuildRecord:
    return BuildRecord(build_id, "f", "p", {"a": "1"}, newest_event(instance))


def run(instance: dg.DagsterInstance, metadata: dict[str, Any] | None, *, fails: bool = False) -> str:
    """Run a step that materializes the asset, or fails before; returns the run's id."""

    @dg.asset(key=KEY)
    def orders() -> dg.MaterializeResult[None]:
        if fails:
            raise ValueError
        return dg.MaterializeResult(metadata=metadata)

    return dg.materialize([orders], instance=instance, raise_on_error=False).run_id


def recorded_run(instance: dg.DagsterInstance, build_id: str = "b1") -> str:
    return run(instance, {RECORD: dg.JsonMetadataValue(record(instance, build_id).as_json())})


def history(instance: dg.DagsterInstance, place: str = "p") -> BuildHistory:
    return read_history(instance, OWN, {KEY: place}, [CHECK], {KEY: "table"})


def reason(instance: dg.DagsterInstance, place: str = "p") -> str | None:
    state = history(instance, place).states[KEY]
    return state.reason if isinstance(state, Unknown) else None


def test_recorded_build_is_known(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)

    state = history(instance).states[KEY]

    assert isinstance(state, BuildRecord)
    assert (state.build_id, state.inputs) == ("b1", {"a": "1"})


def test_table_that_no_run_has_built_is_unknown(instance: dg.DagsterInstance) -> None:
    assert reason(instance) == "no run has built it"


@pytest.mark.parametrize("metadata", [None, {RECORD: "text"}, {RECORD: {"format": 0}}, {RECORD: {"format": 1}}])
def test_build_without_a_valid_record_is_unknown(instance: dg.DagsterInstance, metadata: dict[str, Any] | None) -> None:
    recorded_run(instance)
    run(instance, metadata)

    assert reason(instance) == "the run that built it last recorded no build that counts"


def test_build_in_another_place_does_not_count(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)

    assert "another target" in str(reason(instance, place="elsewhere"))


def test_later_run_without_a_result_makes_the_build_unknown(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)
    killed = run(instance, None, fails=True)

    assert reason(instance) == f"run {killed[:8]} was to build it, and has recorded no result"


def two_steps(*, fails: bool = False) -> dg.JobDefinition:
    """Define a job whose second step builds the table; the first one may fail."""

    @dg.asset
    def raw() -> None:
        if fails:
            raise ValueError

    @dg.asset(key=KEY, deps=[raw])
    def orders() -> None:
        """Build nothing."""

    job = dg.define_asset_job("all")
    return dg.Definitions(assets=[raw, orders], jobs=[job]).resolve_job_def("all")


def test_run_that_failed_in_an_earlier_step_has_not_built_the_table(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)
    failed = two_steps(fails=True).execute_in_process(instance=instance, raise_on_error=False)
    assert not failed.success

    assert reason(instance) is None


def test_run_whose_earlier_step_failed_may_be_building_the_table_until_it_ends(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)
    ended, beside = (instance.create_run_for_job(two_steps()) for _ in range(2))
    instance.report_run_failed(ended)
    for failed in (ended, beside):
        event = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, "all", step_key="raw")
        instance.report_dagster_event(event, failed.run_id)

    assert reason(instance) == f"run {beside.run_id[:8]} may be building it"
    instance.report_run_canceled(beside)
    assert reason(instance) is None


def test_run_that_was_killed_after_the_start_of_its_step_may_have_built_the_table(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)
    killed = instance.create_run_for_job(two_steps())
    start = dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, "all", step_key="orders")
    instance.report_dagster_event(start, killed.run_id)
    instance.report_run_failed(killed)

    assert reason(instance) == f"run {killed.run_id[:8]} was to build it, and has recorded no result"


def test_table_that_a_run_reused_is_known_afterwards(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)
    reusing = run(instance, None, fails=True)
    before = history(instance)
    mark_reused(instance, reusing, before, [KEY])

    assert reason(instance) is None
    later = run(instance, None, fails=True)
    assert reason(instance) == f"run {later[:8]} was to build it, and has recorded no result"


def test_started_build_without_a_result_makes_the_older_one_unknown(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)
    mark_started(instance, OWN, history(instance), [KEY], {})

    assert reason(instance) == "run 11111111 started to build it, and has recorded no result"

    recorded_run(instance, build_id="b2")
    assert reason(instance) is None


def test_table_that_an_unfinished_run_builds_is_contended(instance: dg.DagsterInstance) -> None:
    @dg.asset(key=KEY)
    def orders() -> None:
        """Build nothing."""

    recorded_run(instance)
    job = dg.Definitions(assets=[orders], jobs=[dg.define_asset_job("all")]).resolve_job_def("all")
    queued = instance.create_run_for_job(job)

    found = history(instance)

    assert found.contended == {KEY}
    assert reason(instance) == f"run {queued.run_id[:8]} may be building it"


def test_damaged_mark_makes_the_build_unknown(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)
    store_values(instance, {key_of(KEY): "{"})

    assert reason(instance) == "the mark of its last build is damaged"


def test_result_of_a_test_is_kept_until_it_starts_again(instance: dg.DagsterInstance) -> None:
    passed = CheckRecord(passed=True, is_clean=False, version="v", inputs={"a": None}, run_id="r")
    store_tests(instance, {CHECK: passed})
    assert history(instance).tests == {CHECK: passed}

    store_tests(instance, {CHECK: None})
    assert history(instance).tests == {}


def test_thousands_of_keys_are_read_and_written(instance: dg.DagsterInstance) -> None:
    store_values(instance, {f"key {number}": str(number) for number in range(3000)})
    keys = {dg.AssetKey(f"t{number}"): "p" for number in range(3000)}

    states = read_history(instance, OWN, keys, [], {}).states

    assert {state.reason for state in states.values() if isinstance(state, Unknown)} == {"no run has built it"}


def test_a_table_that_another_asset_has_built_since_is_unknown(instance: dg.DagsterInstance) -> None:
    recorded_run(instance)
    mark_started(instance, OWN, history(instance), [KEY], {})
    recorded_run(instance, "b2")
    assert reason(instance) is None

    other = dg.AssetKey("renamed")
    mark_started(instance, OWN, read_history(instance, OWN, {other: "p"}, [], {other: "table"}), [other], {})
    assert reason(instance) == "another asset has built its table since"


def test_new_and_known_values_are_written_together(instance: dg.DagsterInstance) -> None:
    store_values(instance, {"a": "1"})
    store_values(instance, {"a": "2", "b": "2", "c": "3"})

    assert stored_values(instance, ["a", "b", "c"]) == {"a": "2", "b": "2", "c": "3"}


def test_shape_of_a_table_is_read_with_its_build(instance: dg.DagsterInstance) -> None:
    def shapes() -> dict[dg.AssetKey, tuple[str, str]]:
        return dict(read_history(instance, OWN, {KEY: "p"}, [], {KEY: "table"}).shapes)

    assert shapes() == {}
    store_shapes(instance, {KEY: ("b1", "table abc 1/1")})
    assert shapes() == {KEY: ("b1", "table abc 1/1")}
    store_shapes(instance, {KEY: ("b2", "table def 2/2")})
    assert shapes() == {KEY: ("b2", "table def 2/2")}


def test_code_of_a_started_build_is_known_until_it_ends(instance: dg.DagsterInstance) -> None:
    mark_started(instance, OWN, history(instance), [KEY], {KEY: "code"})
    assert history(instance).unfinished == {KEY: "code"}

    mark_started(instance, OWN, history(instance), [KEY], {})  # dbt has failed
    assert history(instance).unfinished == {}

    mark_started(instance, OWN, history(instance), [KEY], {KEY: "code"})
    recorded_run(instance)
    assert history(instance).unfinished == {}


def test_build_of_an_earlier_try_counts_after_a_re_execution_that_does_not_repeat_it(
    instance: dg.DagsterInstance,
) -> None:
    first = recorded_run(instance)
    again = run(instance, None, fails=True)  # planned to build it, and did not
    mark_kept(instance, again, {KEY: first})
    assert reason(instance) is None

    later = run(instance, None, fails=True)
    assert reason(instance) == f"run {later[:8]} was to build it, and has recorded no result"
    mark_started(instance, OWN, history(instance), [KEY], {})
    mark_kept(instance, again, {KEY: first})
    assert reason(instance) == "run 11111111 started to build it, and has recorded no result"


def test_build_of_an_earlier_try_is_materialized_again_with_its_record(instance: dg.DagsterInstance) -> None:
    @dg.asset(key=KEY)
    def orders() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={RECORD: dg.JsonMetadataValue(record(instance).as_json())})

    first = dg.materialize([orders], instance=instance).run_id
    metadata, version = metadata_again(instance, {KEY: first})[KEY]
    run(instance, {**metadata, BUILT_IN_RUN: dg.MetadataValue.dagster_run(first)})
    state = history(instance).states[KEY]
    assert isinstance(state, BuildRecord)
    assert (state.build_id, version) == ("b1", "b1")
    assert metadata_again(instance, {KEY: first}).keys() == {KEY}  # for a re-execution of the re-execution

    mark_started(instance, OWN, history(instance), [KEY], {})
    assert metadata_again(instance, {KEY: first}) == {}
    recorded_run(instance, "b2")
    assert metadata_again(instance, {KEY: first}) == {}


def test_build_of_a_partition_counts_with_a_record_of_its_window(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_materializations, "_KEYS_AT_ONCE", 2)  # of three partitions
    days = dg.StaticPartitionsDefinition(["mon", "tue"])

    def build(day: str, found: BuildRecord) -> None:
        @dg.asset(key=KEY, partitions_def=days)
        def orders() -> dg.MaterializeResult[None]:
            return dg.MaterializeResult(metadata={RECORD: dg.JsonMetadataValue(found.as_json())})

        dg.materialize([orders], instance=instance, partition_key=day)

    build("mon", replace(record(instance), window="w", series="s"))
    assert reason(instance) is None
    build("tue", replace(record(instance, "b2"), window="w", series="s"))
    state = history(instance).states[KEY]
    assert (getattr(state, "build_id", None), reason(instance)) == ("b2", None)

    found = partition_materializations(instance, KEY, ["mon", "tue", "wed"])
    records = {day: recorded_build(build) for day, build in found.items()}
    assert {day: build and build.build_id for day, build in records.items()} == {"mon": "b1", "tue": "b2"}

    build("mon", record(instance, "b3"))
    assert reason(instance) == "the run that built it last recorded no build that counts"
    run(instance, {RECORD: dg.JsonMetadataValue(replace(record(instance), window="w", series="s").as_json())})
    assert reason(instance) == "the run that built it last recorded no build that counts"
