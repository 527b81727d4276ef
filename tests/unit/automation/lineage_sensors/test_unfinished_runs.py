"""What a killed process has begun and could not be read when its run was over: it is ended once it can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from floe_orchestrator_dagster.automation.lineage_sensors import unfinished_runs as left_open
from floe_orchestrator_dagster.automation.lineage_sensors.sensors import lineage_sensors
from floe_orchestrator_dagster.product import load_product
from lineage_backend import serving
from openlineage_schemas import as_json, assert_valid_json
from unit.lineage.sample_run import sample_events
from unit.samples import contract, model, write_json

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@dg.op
def fail() -> None:
    raise ValueError("the machine is gone")


@dg.job
def failing() -> None:
    fail()


def test_it_is_warned_of_and_ended_by_the_sensor_that_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving() as backend, dg.DagsterInstance.ephemeral() as instance:
        patient = {"flush_seconds": 60, "timeout_seconds": 30}
        content = contract(model("a"), config={"lineage": {"spool_dir": str(tmp_path), **patient}})
        content["observability"] |= {"lineage": True, "lineage_endpoint": backend.url}
        product = load_product(write_json(tmp_path / "compiled_artifacts.json", content))
        sensors = {sensor.name: sensor for sensor in lineage_sensors(product, [])}
        run = failing.execute_in_process(instance=instance, raise_on_error=False).dagster_run
        [record] = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        name = "shop_orders_lineage_failure"
        noted = write_json(tmp_path / "shop-orders" / f"{run.run_id}-1.open", as_json(sample_events()[0]))
        noted.rename(tmp_path / "kept")
        noted.symlink_to(noted)  # a file that cannot be opened, not by root either

        sensors[name](dg.RunStatusSensorContext(name, run, record.dagster_event, instance))

        warned = capfd.readouterr().err
        assert f"{noted.parent}: 1 problem\n  what killed processes of run {run.run_id} have begun cannot be" in warned
        assert "fix: Let the user of the code server read and write this directory (lineage.spool_dir)" in warned
        noted.unlink()
        (tmp_path / "kept").rename(noted)
        replay = sensors["shop_orders_lineage_replay"]
        replay(dg.build_sensor_context(instance))
        assert backend.events == []  # so soon after the run's end its own sensor is still to come

        monkeypatch.setattr(left_open, "_OWN_SENSOR_SECONDS", -1)
        backend.delay = 0.3  # longer than an emitter waits when it closes
        told = [replay(dg.build_sensor_context(instance)) for _ in range(2)]

    # What it ended had arrived before it looked for what waits: that would have been sent twice.
    assert told == [dg.SkipReason("No lineage events wait.")] * 2
    assert_valid_json(backend.events)
    [end] = backend.events
    assert (end["eventType"], end["run"]["runId"]) == ("ABORT", sample_events()[0].run.runId)
