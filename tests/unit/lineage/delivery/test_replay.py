"""Replay of pending events by the command line and by the sensor."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from click.testing import CliRunner

from floe_orchestrator_dagster.assets.product_translator import ProductTranslator
from floe_orchestrator_dagster.automation.lineage_sensors.sensors import lineage_sensors
from floe_orchestrator_dagster.cli import main
from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import LineageError
from floe_orchestrator_dagster.lineage.delivery.emitter import emitter_for, spool_directory
from floe_orchestrator_dagster.lineage.delivery.json_line import as_json_line
from floe_orchestrator_dagster.lineage.delivery.replay import spool_status
from floe_orchestrator_dagster.lineage.delivery.segment import REFUSED_SUFFIX, Segment, is_locked, waiting_files
from floe_orchestrator_dagster.product import load_product
from lineage_backend import event, free_port, serving
from unit.samples import contract, model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

JOBS = ["a", "b", "c"]


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Write a product whose endpoint is a free port; its spool is below ``spool``."""
    return write(tmp_path, lineage_endpoint=f"http://127.0.0.1:{free_port()}/api/v1/lineage")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def write(directory: Path, **observability: Any) -> Path:  # noqa: ANN401  # any field of the contract
    path = directory / "compiled_artifacts.json"
    config = {"lineage": {"spool_dir": str(directory / "spool"), "timeout_seconds": 1}}
    content = contract(model("a"), config=config)
    content["observability"] |= {"lineage": True, **observability}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def leave(artifacts: Path, *jobs: str) -> None:
    """Let a run end whose events did not arrive."""
    product = load_product(artifacts)
    lineage = emitter_for(product.artifacts, product.config.lineage)
    assert lineage is not None
    with lineage:
        for job in jobs:
            lineage.emit(event(job))


def address(artifacts: Path) -> str:
    return str(json.loads(artifacts.read_text(encoding="utf-8"))["observability"]["lineage_endpoint"])


def port(artifacts: Path) -> int:
    return int(address(artifacts).split(":")[2].split("/")[0])


def spool(artifacts: Path) -> Path:
    return artifacts.parent / "spool" / "shop-orders"


def lineage(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["lineage", *map(str, arguments)])


def tick(artifacts: Path, instance: dg.DagsterInstance) -> str | None:
    """Evaluate the sensor as the daemon does; return the message of the tick."""
    [sensor, *_] = lineage_sensors(ProductTranslator(load_product(artifacts)), [])
    with dg.build_sensor_context(instance=instance) as context:
        ticked = sensor.evaluate_tick(context)
    assert ticked.run_requests == []
    return ticked.skip_message


# --- the command line -----------------------------------------------------------------------------------------------


def test_replay_of_an_empty_spool_sends_nothing(artifacts: Path) -> None:
    result = lineage("replay", artifacts)

    assert (result.exit_code, result.output) == (0, f"0 sent to {address(artifacts)}, 0 refused, 0 waiting\n")


def test_replay_reports_pending_events_and_the_reason(artifacts: Path) -> None:
    leave(artifacts, *JOBS)

    result = lineage("replay", artifacts, "--seconds", 5)

    assert result.exit_code == 1
    assert result.output == (
        f"0 sent to {address(artifacts)}, 0 refused, 3 waiting\nwarning: {address(artifacts)}: connection refused\n"
    )


# --- files that other users could have written -----------------------------------------------------------------------

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def chmod(directory: Path) -> None:
    directory.chmod(0o707)


def give_away(path: Path) -> None:
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    ("open_up", "reason"),
    [
        (chmod, "other users can write it (mode 0707)"),
        pytest.param(give_away, "it belongs to another user (uid 12345)", marks=only_root),
    ],
)
@pytest.mark.parametrize("command", [["replay"], ["replay", "--refused"], ["status"]])
def test_a_spool_that_others_could_have_written_is_not_sent(
    artifacts: Path, open_up: Callable[[Path], None], reason: str, command: list[str]
) -> None:
    leave(artifacts, *JOBS)
    open_up(spool(artifacts))

    with serving(port=port(artifacts)) as backend:
        result = lineage(*command, artifacts)

    assert result.exit_code == 1
    assert f"the spool cannot be read or written (is not trusted: {reason})" in result.output
    assert backend.events == []


@only_root
def test_a_spool_of_another_user_is_not_written(artifacts: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool(artifacts).mkdir(parents=True)
    give_away(spool(artifacts))

    leave(artifacts, "a")

    assert list(spool(artifacts).iterdir()) == []
    assert "is not trusted: it belongs to another user (uid 12345)" in caplog.text


@only_root
def test_a_file_of_another_user_in_the_spool_is_not_sent(artifacts: Path) -> None:
    leave(artifacts, "a")
    [file] = spool(artifacts).glob("*.jsonl")
    give_away(file)
    leave(artifacts, "b")

    with serving(port=port(artifacts)) as backend:
        lineage("replay", artifacts)

    assert [event["job"]["name"] for event in backend.events] == ["b"]


def test_replay_as_json(artifacts: Path) -> None:
    leave(artifacts, *JOBS)
    with serving(port(artifacts)) as backend:
        backend.answer = lambda sent: 400 if sent["job"]["name"] == "b" else 201
        result = lineage("replay", artifacts, "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "backend": address(artifacts),
        "directory": str(spool(artifacts)),
        "sent": 2,
        "refused": 1,
        "waiting": 0,
        "reason": "HTTP 400: answer 400, you sent None",
    }


def test_refused_events_are_shown_and_sent_again_on_request(artifacts: Path) -> None:
    leave(artifacts, *JOBS)
    with serving(port(artifacts)) as backend:
        backend.answer = lambda sent: 400 if sent["job"]["name"] == "b" else 201
        lineage("replay", artifacts)
        status = lineage("status", artifacts)
        untouched = lineage("replay", artifacts)
        backend.answer = lambda _sent: 201
        again = lineage("replay", "--refused", artifacts)

    assert status.exit_code == 1
    assert "  refused      1\n" in status.stdout
    assert "  HTTP 400: answer 400, you sent None\n      in " in status.stdout
    assert (untouched.exit_code, untouched.stdout) == (1, f"0 sent to {address(artifacts)}, 0 refused, 0 waiting\n")
    hint = "Run `floe-dagster lineage replay --refused` to send them again."
    assert untouched.stderr == f"warning: 1 event is refused. `floe-dagster lineage status` shows the reason. {hint}\n"
    assert (again.exit_code, again.stdout) == (0, f"1 sent to {address(artifacts)}, 0 refused, 0 waiting\n")
    assert backend.names == ["a", "c", "b"]
    assert list(spool(artifacts).iterdir()) == []


def test_incomplete_event_stays_when_refused_ones_are_sent_again(artifacts: Path) -> None:
    spool(artifacts).mkdir(parents=True)
    cut_off = {"refused_at": "2026-03-01T06:00:00+00:00", "reason": "cut off", "event": '{"job'}
    whole = {**cut_off, "event": json.loads(as_json_line(event("whole")))}
    path = spool(artifacts) / f"1-none-x{REFUSED_SUFFIX}"
    # The disk was full in the middle of the last line.
    path.write_text(f"{json.dumps(cut_off)}\n{json.dumps(whole)}\n" + '{"refused_a', encoding="utf-8")

    with serving(port(artifacts)) as backend:
        status = lineage("status", artifacts)
        lineage("replay", "--refused", artifacts)

    assert "  refused      2\n" in status.stdout
    assert backend.names == ["whole"]
    assert path.read_text(encoding="utf-8") == f"{json.dumps(cut_off)}\n" + '{"refused_a\n'


def test_event_that_is_nested_too_deeply_to_be_written_stays_refused(artifacts: Path) -> None:
    spool(artifacts).mkdir(parents=True)
    whole = json.loads(as_json_line(event("whole")))
    deep: Any = "the end"
    for _ in range(300):
        deep = {"deep": deep}
    path = spool(artifacts) / f"1-none-x{REFUSED_SUFFIX}"
    refused = [
        {"refused_at": "2026-03-01T06:00:00+00:00", "reason": "HTTP 400", "event": content}
        for content in ({**whole, "deep": deep}, {**whole, "run": {**whole["run"], "facets": {"deep": deep}}}, whole)
    ]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in refused), encoding="utf-8")

    with serving(port(artifacts)) as backend:
        result = lineage("replay", "--refused", artifacts)

    assert (result.exit_code, result.stdout) == (1, f"1 sent to {address(artifacts)}, 0 refused, 0 waiting\n")
    hint = "They are not complete events, or a running process uses their file. Delete the file to drop them."
    assert result.stderr == f"warning: 2 events are refused. `floe-dagster lineage status` shows the reason. {hint}\n"
    assert backend.names == ["whole"]
    assert path.read_text(encoding="utf-8") == "".join(f"{json.dumps(record)}\n" for record in refused[:2])


def test_status_counts_pending_events(artifacts: Path) -> None:
    leave(artifacts, *JOBS)

    shown = lineage("status", artifacts)
    as_json = json.loads(lineage("status", artifacts, "--json").stdout)

    assert shown.exit_code == 1
    assert f"  waiting      3 since {as_json['oldest']}\n" in shown.stdout
    assert shown.stdout.endswith("Send them with `floe-dagster lineage replay`.\n")
    assert (as_json["waiting"], as_json["in_progress"], as_json["refused"]) == (3, 0, [])
    assert as_json["directory"] == str(spool(artifacts))
    assert as_json["size_bytes"] == sum(path.stat().st_size for path in spool(artifacts).iterdir())


def test_replay_without_a_backend_says_how_to_configure_one(tmp_path: Path) -> None:
    result = lineage("replay", write(tmp_path))

    assert result.exit_code == 1
    assert result.output == (
        "error: shop-orders: 1 problem\n"
        "  no lineage backend is configured\n"
        "    fix: Set plugins.lineage_backend in manifest.yaml, or OPENLINEAGE_URL where this command runs.\n"
    )


@pytest.mark.parametrize(
    ("switched_off", "said"),
    [
        (
            {"observability": {"lineage": False}},
            "false: the product sends no lineage\n    fix: Set observability.lineage.enabled to true in",
        ),
        (
            {"config": {"enabled": False}},
            "plugins.orchestrator.config.lineage.enabled: false: no lineage is sent\n    fix: Set it to true and com",
        ),
        ({"environment": "true"}, "OPENLINEAGE_DISABLED: true: no lineage is sent\n    fix: Unset it"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_replay_reports_the_setting_that_disables_lineage(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, switched_off: dict[str, Any], said: str
) -> None:
    content = json.loads(artifacts.read_text(encoding="utf-8"))
    content["observability"] |= switched_off.get("observability", {})
    content["plugins"]["orchestrator"]["config"]["lineage"] |= switched_off.get("config", {})
    artifacts.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setenv("OPENLINEAGE_DISABLED", switched_off.get("environment", ""))
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")

    result = lineage("replay", artifacts)

    assert result.exit_code == 1
    assert said in result.output


def test_unreadable_spool_is_reported_with_its_fix(artifacts: Path) -> None:
    spool(artifacts).parent.mkdir()
    spool(artifacts).symlink_to(spool(artifacts))

    result = lineage("status", artifacts)

    assert result.exit_code == 1
    assert "the spool cannot be read or written (Too many levels of symbolic links)" in result.output


# --- the sensor -----------------------------------------------------------------------------------------------------


def test_sensor_sends_pending_events(artifacts: Path, instance: dg.DagsterInstance) -> None:
    assert tick(artifacts, instance) == "No lineage events are pending."
    leave(artifacts, *JOBS)

    started = time.monotonic()
    down = tick(artifacts, instance)
    elapsed = time.monotonic() - started
    with serving(port(artifacts)) as backend:
        sent = tick(artifacts, instance)

    assert down == f"Lineage: 0 events sent to {address(artifacts)}, 0 refused, 3 pending. connection refused"
    assert elapsed < 55  # Dagster ends a tick after 60 seconds; this one takes one
    assert sent == f"Lineage: 3 events sent to {address(artifacts)}, 0 refused, 0 pending."
    assert backend.names == JOBS


def test_sensor_reports_that_no_backend_is_configured(
    artifacts: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(artifacts, *JOBS)
    [sensor, *_] = lineage_sensors(ProductTranslator(load_product(artifacts)), [])
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")

    with dg.build_sensor_context(instance=instance) as context:
        message = sensor.evaluate_tick(context).skip_message

    assert message == "Lineage events are pending, but no backend is configured in the code server's environment."


def test_sensors_are_running_and_launch_nothing(artifacts: Path) -> None:
    sensors = lineage_sensors(ProductTranslator(load_product(artifacts)), [])

    assert [sensor.name for sensor in sensors] == [
        "shop_orders_lineage_replay",
        "shop_orders_lineage_success",
        "shop_orders_lineage_failure",
        "shop_orders_lineage_canceled",
    ]
    assert {sensor.default_status for sensor in sensors} == {dg.DefaultSensorStatus.RUNNING}
    assert not any(sensor.has_jobs for sensor in sensors)


@pytest.mark.parametrize("changes", [{}, {"lineage": False, "lineage_endpoint": "http://marquez:5000"}])
def test_product_without_a_lineage_backend_has_no_sensor(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert lineage_sensors(ProductTranslator(load_product(write(tmp_path, **changes))), []) == []


# --- where and whether ----------------------------------------------------------------------------------------------


def test_disabled_lineage_has_no_emitter_and_no_sensor(tmp_path: Path) -> None:
    path = write(tmp_path, lineage_endpoint="http://marquez:5000")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["plugins"]["orchestrator"]["config"] = {"lineage": {"enabled": False}}
    path.write_text(json.dumps(content), encoding="utf-8")
    product = load_product(path)

    assert emitter_for(product.artifacts, product.config.lineage) is None
    assert lineage_sensors(ProductTranslator(product), []) == []


def test_spool_is_below_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path))

    assert spool_directory("shop", LineageConfig()) == tmp_path / "shop" / "lineage"


def test_spool_can_be_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert spool_directory("shop", LineageConfig(spool_dir="~/spool")) == tmp_path / "spool" / "shop"
    assert spool_directory("shop", LineageConfig()) == tmp_path / ".local/state/floe/shop/lineage"


@pytest.mark.parametrize(
    "settings", [{"plugin": {"type": "none-such", "version": "1.0.0"}}, {"lineage_endpoint": "ftp://marquez"}]
)
def test_backend_that_cannot_be_used_keeps_events_or_fails_a_strict_step(
    tmp_path: Path, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, **{key: value for key, value in settings.items() if key != "plugin"})
    content = json.loads(path.read_text(encoding="utf-8"))
    content["plugins"]["lineage_backend"] = settings.get("plugin")
    path.write_text(json.dumps(content), encoding="utf-8")
    product = load_product(path)

    with pytest.raises(LineageError):
        emitter_for(product.artifacts, product.config.lineage.model_copy(update={"strict": True}))
    lineage = emitter_for(product.artifacts, product.config.lineage)
    assert lineage is not None
    with lineage:
        lineage.emit(event("a"))
        deliveries = lineage.flush()

    assert (deliveries.sent, deliveries.spooled) == (0, 1)
    assert "fix: " in caplog.text
    assert spool_status(spool(path)).waiting == 1


def test_a_file_that_two_threads_close_is_closed_once(tmp_path: Path) -> None:
    """Closing a descriptor twice would close a database or socket that another thread has opened in between."""
    for _ in range(200):
        segment = Segment.create(tmp_path, "")
        segment.append(b"{}")
        together, failures = threading.Barrier(2), list[BaseException]()
        threads = [threading.Thread(target=_close, args=(segment, together, failures)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def _close(segment: Segment, together: threading.Barrier, failures: list[BaseException]) -> None:
    together.wait()
    try:
        segment.close()
    except OSError as error:
        failures.append(error)


def test_a_closed_file_is_not_written_by_an_abandoned_thread(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path, "")
    segment.append(b"{}")
    segment.close()

    with (tmp_path / "other").open("wb"):  # it has the descriptor now
        with pytest.raises(OSError, match="is closed"):
            segment.append(b"{}")
        segment.sync()

    assert (tmp_path / "other").read_bytes() == b""


def test_files_that_an_emitter_took_over_are_released_when_it_closes(artifacts: Path) -> None:
    """Its thread may still wait for a response, and look for earlier files only after that."""
    product = load_product(artifacts)
    directory = spool(artifacts)
    with serving(port(artifacts)) as backend:
        backend.delay = 0.5
        for name in JOBS:
            left = emitter_for(product.artifacts, product.config.lineage, run="a-run")
            assert left is not None
            with left:
                left.emit(event(name))
        for thread in threading.enumerate():
            if thread.name == "lineage":
                thread.join(30)

    assert [path for path in waiting_files(directory) if is_locked(path)] == []
