"""Timeline of a run, from its events in a Dagster instance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from command import invoke
from floe_orchestrator_dagster.errors import InstanceError
from floe_orchestrator_dagster.inspect.timeline import read_timeline
from floe_orchestrator_dagster.inspect.timeline_page import timeline_page
from unit.odd_products import reads, write_product
from unit.samples import node

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BEGIN = 1_795_000_000.0


@dataclass(frozen=True)
class Ran:
    """A node as dbt ran it: seconds after the run's begin, and duration."""

    unique_id: str
    start: float
    seconds: float
    status: str = "success"

    @property
    def name(self) -> str:
        """The node's name."""
        return self.unique_id.rsplit(".", 1)[1]

    @property
    def metadata(self) -> dict[str, dg.MetadataValue]:
        """Metadata of its event."""
        is_test = self.unique_id.startswith(("test.", "unit_test."))
        return {
            "unique_id" if is_test else "dagster_dbt/unique_id": dg.MetadataValue.text(self.unique_id),
            "status": dg.MetadataValue.text(self.status),
            "floe/started": dg.TimestampMetadataValue(BEGIN + self.start),
            "Execution Duration": dg.FloatMetadataValue(float(self.seconds)),
        }


RAW = Ran("seed.shop.raw", 0, 2)
STAGED = Ran("model.shop.stg", 2.5, 4)
OTHER = Ran("model.shop.other", 2, 1)
CHECKED = Ran("test.shop.stg_not_null", 6.6, 1, "pass")
MART = Ran("model.shop.mart", 8, 3)
FAILED = Ran("test.shop.mart_unique", 11, 1.5, "fail")
PARENTS = {
    STAGED.unique_id: [RAW.unique_id],
    OTHER.unique_id: [RAW.unique_id],
    CHECKED.unique_id: [STAGED.unique_id],
    # The ephemeral model between them does not run.
    MART.unique_id: ["model.shop.hidden"],
    "model.shop.hidden": [STAGED.unique_id],
    FAILED.unique_id: [MART.unique_id],
}
ALL = (RAW, STAGED, OTHER, CHECKED, MART, FAILED)


def recorded(instance: dg.DagsterInstance, *ran: Ran) -> str:
    """Record a run with the events of these nodes, and return its id."""
    tables = [one for one in ran if not one.unique_id.startswith(("test.", "unit_test."))]
    tests = [one for one in ran if one.unique_id.startswith(("test.", "unit_test."))]
    checks = [dg.AssetCheckSpec(one.name, asset=tables[0].name) for one in tests]

    @dg.multi_asset(specs=[dg.AssetSpec(one.name) for one in tables], check_specs=checks)
    def build() -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        for one in tables:
            yield dg.MaterializeResult(asset_key=one.name, metadata=one.metadata)
        for one in tests:
            yield dg.AssetCheckResult(
                asset_key=tables[0].name, check_name=one.name, passed=one.status == "pass", metadata=one.metadata
            )

    return dg.materialize([build], instance=instance).run_id


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Return an instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_the_end_was_determined_by_the_nodes_that_waited_for_each_other(instance: dg.DagsterInstance) -> None:
    found = read_timeline(instance, recorded(instance, *ALL), PARENTS)

    assert [(one.unique_id, round(one.start, 3), one.seconds) for one in found.critical] == [
        (one.unique_id, one.start, one.seconds) for one in (RAW, STAGED, CHECKED, MART, FAILED)
    ]
    assert [round(one.waited, 2) for one in found.critical] == [0, 0.5, 0.1, 0.4, 0]
    assert (found.seconds, found.at_once) == (12.5, 2)


def test_nodes_of_one_row_do_not_overlap(instance: dg.DagsterInstance) -> None:
    found = read_timeline(instance, recorded(instance, *ALL), PARENTS)

    rows = [[node.unique_id for node in found.nodes if node.lane == lane] for lane in range(found.at_once)]
    assert rows == [
        [RAW.unique_id, OTHER.unique_id, CHECKED.unique_id, MART.unique_id, FAILED.unique_id],
        [STAGED.unique_id],
    ]


def test_slow_nodes_are_compared_with_earlier_builds(instance: dg.DagsterInstance) -> None:
    for seconds in (1.0, 2.0, 6.0):
        recorded(instance, Ran(STAGED.unique_id, 0, seconds))
    run_id = recorded(instance, STAGED, MART, CHECKED)

    found = read_timeline(instance, run_id, PARENTS, slowest=2)

    assert [(slow.node.unique_id, slow.median_before, slow.builds) for slow in found.slowest] == [
        (STAGED.unique_id, 2.0, 3),
        (MART.unique_id, None, 0),
    ]


def test_a_unit_test_runs_before_its_model(instance: dg.DagsterInstance) -> None:
    unit = Ran("unit_test.shop.stg.sums", 2.5, 6, "pass")
    late = Ran(STAGED.unique_id, 8.5, 1)

    found = read_timeline(instance, recorded(instance, RAW, unit, late), {**PARENTS, unit.unique_id: [late.unique_id]})

    assert [one.unique_id for one in found.critical] == [RAW.unique_id, unit.unique_id, late.unique_id]


def test_a_build_of_several_partitions_counts_once(instance: dg.DagsterInstance) -> None:
    @dg.op
    def build() -> Iterator[object]:
        metadata = Ran(STAGED.unique_id, 0, 50).metadata
        yield from (dg.AssetMaterialization("stg", metadata=metadata, partition=str(day)) for day in range(12))
        yield dg.Output(None)

    @dg.job
    def backfill() -> None:
        build()

    recorded(instance, Ran(STAGED.unique_id, 0, 5))
    backfill.execute_in_process(instance=instance)

    [slow] = read_timeline(instance, recorded(instance, STAGED), PARENTS).slowest
    assert (slow.median_before, slow.builds) == (27.5, 2)


def test_reused_results_took_no_time(instance: dg.DagsterInstance) -> None:
    found = read_timeline(instance, recorded(instance, RAW, Ran(MART.unique_id, 50, 9, "reused")), PARENTS)

    assert [one.unique_id for one in found.nodes] == [RAW.unique_id]


def test_a_run_without_nodes_has_an_empty_timeline(instance: dg.DagsterInstance) -> None:
    found = read_timeline(instance, dg.materialize([empty], instance=instance).run_id, PARENTS)

    assert (found.nodes, found.critical, found.slowest, found.seconds, found.at_once) == ((), (), (), 0.0, 0)
    assert "0 nodes in 0.0 s" in timeline_page(found)


def test_a_run_is_found_by_the_beginning_of_its_id(instance: dg.DagsterInstance) -> None:
    run_id = recorded(instance, RAW)

    assert read_timeline(instance, run_id[:8], PARENTS).run_id == run_id


@pytest.mark.parametrize(
    ("given", "what"), [("zzz", "run 'zzz' is not in the instance"), ("", "run '' is not in the instance")]
)
def test_an_unknown_run_is_an_error_that_names_the_newest(instance: dg.DagsterInstance, given: str, what: str) -> None:
    run_id = recorded(instance, RAW)

    with pytest.raises(InstanceError, match=what) as raised:
        read_timeline(instance, given, PARENTS)
    assert run_id in str(raised.value)


def test_the_page_draws_each_node_and_outlines_what_determined_the_end(instance: dg.DagsterInstance) -> None:
    page = timeline_page(read_timeline(instance, recorded(instance, *ALL), PARENTS))

    assert page.count("<rect ") == len(ALL)
    assert page.count(' critical" x=') == len(ALL) - 1
    assert '<rect class="failed critical"' in page
    assert "<title>model mart: success, 3.00 s, from 8.00 s</title>" in page


def test_the_page_shows_names_as_text(instance: dg.DagsterInstance) -> None:
    odd = Ran("test.shop.<b>&amp;", 3, 1, "pass")
    page = timeline_page(read_timeline(instance, recorded_test(instance, odd), {}))

    assert "<b>" not in page
    assert "test &lt;b&gt;&amp;amp;" in page


def test_the_command_prints_the_timeline_and_writes_the_page(tmp_path: Path) -> None:
    artifacts = product(tmp_path)
    with home(tmp_path) as instance:
        run_id = recorded(instance, RAW, STAGED, MART)

    answer = invoke(
        "timeline", run_id[:13], artifacts, "--output", tmp_path / "t.html", DAGSTER_HOME=str(tmp_path / "home")
    )

    assert answer.exit_code == 0
    assert answer.stdout.splitlines()[:5] == [
        f"{run_id}: 3 nodes in 11.0 s, at most 1 at the same time",
        "",
        "Critical path:",
        "      2.00 s  seed raw, from 0.00 s",
        "      4.00 s  model stg, from 2.50 s, waited 0.50 s",
    ]
    assert answer.stdout.splitlines()[-1] == f"The drawing is in {tmp_path / 't.html'}."
    assert (tmp_path / "t.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_command_prints_json(tmp_path: Path) -> None:
    artifacts = product(tmp_path)
    with home(tmp_path) as instance:
        run_id = recorded(instance, RAW, STAGED)

    found = json.loads(invoke("timeline", run_id, artifacts, "--json", DAGSTER_HOME=str(tmp_path / "home")).stdout)

    assert found["critical"] == [RAW.unique_id, STAGED.unique_id]
    assert found["nodes"][1] == {
        "unique_id": "model.shop.stg",
        "status": "success",
        "asset": "stg",
        "start": 2.5,
        "end": 6.5,
        "row": 0,
        "waited": 0.5,
    }
    assert found["slowest"][0] == {"unique_id": STAGED.unique_id, "seconds": 4.0, "median_before": None, "builds": 0}


@pytest.mark.parametrize("given", ["/nonexistent", "relative"])
def test_a_wrong_instance_is_one_message(tmp_path: Path, given: str) -> None:
    answer = invoke("timeline", "abc", product(tmp_path), DAGSTER_HOME=given)

    assert answer.exit_code == 1
    assert answer.stderr == (
        f"error: DAGSTER_HOME: 1 problem\n  {given!r} is not an absolute path of a directory\n"
        "    fix: Set DAGSTER_HOME to the absolute path of an existing directory.\n"
    )


def test_without_an_instance_the_message_says_which_one_to_name(tmp_path: Path) -> None:
    answer = invoke("timeline", "abc", product(tmp_path), DAGSTER_HOME="")

    assert answer.exit_code == 1
    assert answer.stderr == (
        "error: DAGSTER_HOME: 1 problem\n  is not set, and no `dagster dev` runs in this directory\n"
        "    fix: Set DAGSTER_HOME to the directory of the instance that has the run, the one with its dagster.yaml.\n"
    )


def test_a_missing_directory_of_the_page_is_named_before_the_run_is_read(tmp_path: Path) -> None:
    answer = invoke("timeline", "abc", product(tmp_path), "--output", tmp_path / "no" / "t.html")

    assert answer.exit_code == 2
    assert f"{tmp_path / 'no'} is not a directory." in answer.stderr


def test_a_broken_dagster_yaml_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("storage: [", encoding="utf-8")

    answer = invoke("timeline", "abc", product(tmp_path), DAGSTER_HOME=str(tmp_path / "home"))

    assert answer.exit_code == 1
    assert answer.stderr.startswith(f"error: DAGSTER_HOME: 1 problem\n  Dagster cannot open {tmp_path / 'home'}: ")
    assert "Traceback" not in answer.stderr


@dg.asset
def empty() -> None:
    """Build nothing with dbt."""


def recorded_test(instance: dg.DagsterInstance, test: Ran) -> str:
    """Record a run with the event of a test whose name no check can have."""

    @dg.asset_check(asset="stg")
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True, metadata=test.metadata)

    job = dg.define_asset_job("checks", dg.AssetSelection.checks(check))
    checks = dg.Definitions(asset_checks=[check], jobs=[job]).resolve_job_def("checks")
    return checks.execute_in_process(instance=instance).run_id


def product(directory: Path) -> Path:
    """Write the product of the nodes, and return its artifacts."""
    parents: Sequence[str] = [RAW.unique_id]
    return write_product(
        directory / "shop",
        node("raw", "seed", config={"materialized": "seed"}),
        node("stg", **reads(*parents)),
        node("mart", **reads(STAGED.unique_id)),
    )


def home(directory: Path) -> dg.DagsterInstance:
    """Create an instance with a directory of its own."""
    (directory / "home").mkdir()
    (directory / "home" / "dagster.yaml").write_text("{}", encoding="utf-8")
    return dg.DagsterInstance.from_config(str(directory / "home"))
