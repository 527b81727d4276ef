"""Runs of killed processes that no sensor could end in time: the replay sensor ends them."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from click.testing import CliRunner

from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.automation.lineage_sensors import unfinished_runs as left_open
from floe_orchestrator_dagster.automation.lineage_sensors.sensors import lineage_sensors
from floe_orchestrator_dagster.cli import main
from floe_orchestrator_dagster.product import load_product
from lineage_backend import serving
from openlineage_schemas import as_json, assert_valid_json
from unit.lineage.sample_run import sample_events
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from lineage_backend import LineageServer

HOUR = 3_600.0
START = as_json(sample_events()[0])
DELETED_RUN = "01941f29-7c00-7000-8000-0000000000ff"


@dg.op
def fail() -> None:
    raise ValueError("the machine is gone")


@dg.job
def failing() -> None:
    fail()


def test_an_unreadable_journal_is_logged_and_ended_by_the_replay_sensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving() as backend, dg.DagsterInstance.ephemeral() as instance:
        patient = {"flush_seconds": 60, "timeout_seconds": 30}
        content = contract(model("a"), config={"lineage": {"spool_dir": str(tmp_path), **patient}})
        content["observability"] |= {"lineage": True, "lineage_endpoint": backend.url}
        product = load_product(write_json(tmp_path / "compiled_artifacts.json", content))
        sensors = {sensor.name: sensor for sensor in lineage_sensors(ProductTranslator(product), [])}
        run = failing.execute_in_process(instance=instance, raise_on_error=False).dagster_run
        [record] = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        name = "shop_orders_lineage_failure"
        noted = write_json(tmp_path / "shop-orders" / f"{run.run_id}-1.open", as_json(sample_events()[0]))
        noted.rename(tmp_path / "kept")
        noted.symlink_to(noted)  # a file that cannot be opened, not by root either

        sensors[name](dg.RunStatusSensorContext(name, run, record.dagster_event, instance))

        warned = capfd.readouterr().err
        assert (
            f"{noted.parent}: 1 problem\n"
            f"  open OpenLineage runs of killed processes of run {run.run_id} cannot be ended" in warned
        )
        assert "fix: Let the user of the code server read and write this directory (lineage.spool_dir)" in warned
        noted.unlink()
        (tmp_path / "kept").rename(noted)
        replay = sensors["shop_orders_lineage_replay"]
        replay(dg.build_sensor_context(instance))
        assert backend.events == []  # so soon after the run's end its own sensor is still to come

        monkeypatch.setattr(left_open, "_OWN_SENSOR_SECONDS", -1)
        backend.delay = 0.3  # longer than an emitter waits when it closes
        reasons = [replay(dg.build_sensor_context(instance)) for _ in range(2)]

    # The ends were delivered before the replay, which would otherwise send them a second time.
    assert reasons == [dg.SkipReason("No lineage events are pending.")] * 2
    assert_valid_json(backend.events)
    [end] = backend.events
    assert (end["eventType"], end["run"]["runId"]) == ("ABORT", sample_events()[0].run.runId)


def product_of(directory: Path, backend: LineageServer) -> Path:
    """Write a product that sends its lineage to the backend; its spool is below ``directory``."""
    content = contract(model("a"), config={"lineage": {"spool_dir": str(directory)}})
    content["observability"] |= {"lineage": True, "lineage_endpoint": backend.url}
    return write_json(directory / "compiled_artifacts.json", content)


def journal(directory: Path, *lines: object, hours_ago: float) -> Path:
    """Write the journal of a process that was killed, of a run that Dagster does not know."""
    path = directory / "shop-orders" / f"{DELETED_RUN}-1.open"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    written = time.time() - hours_ago * HOUR
    os.utime(path, (written, written))
    return path


def replay_tick(artifacts: Path) -> str | None:
    [replay, *_] = lineage_sensors(ProductTranslator(load_product(artifacts)), [])
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance) as context:
        return replay.evaluate_tick(context).skip_message


@pytest.mark.parametrize(("hours_ago", "ended"), [(23, []), (25, [("ABORT", START["run"]["runId"])])])
def test_a_run_unknown_to_dagster_is_ended_a_day_after_its_last_line(
    tmp_path: Path, hours_ago: float, ended: list[tuple[str, str]]
) -> None:
    with serving() as backend:
        artifacts = product_of(tmp_path, backend)
        path = journal(tmp_path, START, hours_ago=hours_ago)

        assert replay_tick(artifacts) == "No lineage events are pending."

    assert [(event["eventType"], event["run"]["runId"]) for event in backend.events] == ended
    assert path.exists() is not bool(ended)


def odd_starts() -> list[Any]:
    run, job = START["run"], START["job"]
    values: list[Any] = ["text", 1, True, ["text"]]
    odd = [{**START, "run": {**run, "facets": value}} for value in values]
    odd += [{**START, key: value} for key in ("run", "job", "producer") for value in (None, [*values])]
    odd += [{**START, "run": {**run, "runId": None}}, {**START, "job": {**job, "name": 1}}]
    return [*odd, *[{"ending": start} for start in odd], {"ended": 1}, {"ended": [run["runId"]]}, *values, None]


def test_a_damaged_line_does_not_affect_others(tmp_path: Path) -> None:
    with serving() as backend:
        artifacts = product_of(tmp_path, backend)
        path = journal(tmp_path, *odd_starts(), START, *odd_starts(), hours_ago=25)
        spooled = tmp_path / "shop-orders" / "00000000000000000001-none-1.jsonl"
        spooled.write_text("".join(f"{json.dumps(line)}\n" for line in [*odd_starts(), START]), encoding="utf-8")

        status = CliRunner().invoke(main, ["lineage", "status", str(artifacts)])
        replayed = CliRunner().invoke(main, ["lineage", "replay", str(artifacts)])
        ticked = replay_tick(artifacts)

    assert "\n  waiting      32 since 1970-01-01T00:00:00+00:00\n" in status.stdout
    assert replayed.stdout == f"1 sent to {backend.url}, 0 refused, 0 waiting\n"
    assert replayed.stderr.startswith("warning: 31 events are refused. ")
    assert ticked == "No lineage events are pending."
    assert [event["eventType"] for event in backend.events] == ["START", "ABORT"]
    assert not path.exists()
