"""Files with any content are used or refused with an error of this package: no traceback, no long wait.

``FUZZ`` is how many files are tried in all; ``make fuzz`` tries 5,000.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from floe_orchestrator_dagster import DagsterOrchestratorPlugin
from floe_orchestrator_dagster.automation.lineage_sensors.unfinished_runs import end_open_runs_of
from floe_orchestrator_dagster.cli import main
from floe_orchestrator_dagster.config.models import LineageConfig
from floe_orchestrator_dagster.errors import FloeDagsterError
from floe_orchestrator_dagster.lineage.delivery.emitter import emitter_for
from floe_orchestrator_dagster.product.artifacts import validate_artifacts
from mutations import ODD_YAML, documents, put, texts, yaml_texts
from unit.dbt_shop import write_dbt_shop
from unit.lineage.sample_run import sample_events
from unit.samples import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

FORMATS = 9
TRIES = int(os.environ.get("FUZZ", "270")) // FORMATS
RUN_ID = "01941f29-7c00-7000-8000-000000000001"
# A file takes hundredths of a second.
MOST_CPU_SECONDS = 1.0

NAMES = [f"{RUN_ID}-0a0a0a0a", "00000000000000000001-none-0a0a0a0a", "odd", "-", "9" * 99]

fuzz = settings(
    max_examples=TRIES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
CONFIG: dict[str, Any] = {
    "default_schedule": "0 6 * * *",
    "timezone": "Europe/Berlin",
    "jobs": [{"name": "marts", "select": "tag:gold", "exclude": "stg", "tags": {"a": "b"}}],
    "schedules": [{"name": "late", "cron": "0 22 * * MON-FRI", "job": "marts", "enabled": False}],
    "automation": [{"select": "mart", "condition": "on_cron", "cron": "@daily"}],
    "sensors": [{"type": "run_status", "name": "after", "job": "marts", "status": "success", "jobs": ["shop_orders"]}],
    "key_prefix": ["retail"],
    "group_by": "folder",
    "retries": {"max_retries": 2},
    "concurrency": {"pool": "warehouse"},
    "partitions": [{"select": "mart", "type": "daily", "start": "2026-01-01"}],
    "computes": {"other": {"path": "other.duckdb"}},
    "dbt": {"timeout_seconds": 600},
    "deploy": {"image": "registry.example.com/shop:1"},
    "lineage": {"enabled": True, "flush_seconds": 1},
    "docs_url": "https://docs.example.com",
}
CONTRACT: dict[str, Any] = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "orders",
    "name": "orders",
    "version": "1.0.0",
    "status": "active",
    "tags": ["a"],
    "team": {"name": "sales", "members": [{"username": "ada", "role": "owner"}]},
    "schema": [
        {
            "name": "mart",
            "physicalName": "main.mart",
            "quality": [{"type": "library", "metric": "nullValues"}],
            "properties": [{"name": "id", "logicalType": "string", "primaryKey": True, "classification": "pii"}],
        }
    ],
    "slaProperties": [{"property": "freshness", "value": "6", "unit": "h", "element": "mart.id"}],
}
SPEC: dict[str, Any] = {
    "apiVersion": "floe.dev/v1",
    "kind": "FloeSpec",
    "metadata": {"name": "shop-orders", "version": "1.0.0", "owner": "data@example.com", "labels": {"team": "sales"}},
    "schedule": {"cron": "0 6 * * *", "timezone": "UTC"},
    "transforms": [{"name": "stg", "tier": "bronze", "dependsOn": ["raw"]}],
}
PROJECT: dict[str, Any] = {
    "name": "shop_orders",
    "version": "1.0",
    "profile": "shop_orders",
    "model-paths": ["models"],
    "target-path": "target",
    "packages-install-path": "dbt_packages",
    "vars": {"start": "2026-01-01"},
}
PROFILES: dict[str, Any] = {
    "shop_orders": {
        "target": "{{ env_var('SHOP_TARGET', 'dev') }}",
        "outputs": {
            "dev": {
                "type": "duckdb",
                "path": "shop.duckdb",
                "threads": 4,
                "attach": [{"path": "{{ env_var('OTHER', 'o') }}.duckdb", "alias": "o"}],
                "settings": {"s3_secret_access_key": "{{ env_var('KEY', 'none') }}"},
            },
            "prod": {
                "type": "postgres",
                "host": "h",
                "user": "u",
                "password": "{{ env_var('PASSWORD') }}",
                "port": 5432,
            },
        },
    }
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the product and use it once, so that the time of imports does not count."""
    path = write_dbt_shop(tmp_path_factory.mktemp("fuzz"))
    plain = path.read_text(encoding="utf-8")
    whole = with_config(artifacts(path, data_contracts=[CONTRACT], dbt_profiles=PROFILES), CONFIG)
    write_json(path, whole)
    used = run("plan", path)
    assert used.exit_code == 0, used.output
    path.write_text(plain, encoding="utf-8")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def check(shop: Path, *commands: str) -> None:
    """Run commands over the product: each succeeds, or reports errors with exit code 1, soon."""
    for command in commands or ("plan",):
        started = time.process_time()
        result = run(*command.split(), shop)
        spent = time.process_time() - started
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        assert result.exit_code in {0, 1}, result.output
        assert result.exit_code == 0 or "error: " in result.stderr or command.startswith("lineage")
        assert spent < MOST_CPU_SECONDS, result.output


def check_file(shop: Path, name: str, content: str) -> None:
    """Run a command over the product with a file of this content, then put the file back."""
    path = shop.parent / name
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.write_text(content, encoding="utf-8")
    try:
        check(shop)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")


def artifacts(shop: Path, **changes: Any) -> dict[str, Any]:  # noqa: ANN401  # any field of the contract
    content: dict[str, Any] = json.loads(shop.read_text(encoding="utf-8"))
    return {**content, **changes}


def with_config(content: dict[str, Any], config: object) -> dict[str, Any]:
    return put(content, ("plugins", "orchestrator", "config"), config)  # type: ignore[no-any-return]  # a document


@fuzz
@given(data=st.data())
def test_artifacts(shop: Path, data: st.DataObject) -> None:
    whole = with_config(artifacts(shop, data_contracts=[CONTRACT]), CONFIG)
    text = data.draw(
        st.one_of(documents(whole).map(json.dumps), texts(json.dumps(whole), ["\0", "9" * 10_000, "[" * 5000]))
    )

    check_file(shop, shop.name, text)


@fuzz
@given(data=st.data())
def test_artifacts_as_an_object(shop: Path, data: st.DataObject) -> None:
    content = data.draw(documents(artifacts(shop, data_contracts=[CONTRACT])))

    with suppress(FloeDagsterError):
        DagsterOrchestratorPlugin().create_definitions(content)


@fuzz
@given(data=st.data())
def test_configuration(shop: Path, data: st.DataObject) -> None:
    config = data.draw(documents(CONFIG))

    check_file(shop, shop.name, json.dumps(with_config(artifacts(shop), config)))


@fuzz
@given(data=st.data())
def test_data_contracts(shop: Path, data: st.DataObject) -> None:
    contract = data.draw(documents(CONTRACT))

    check_file(shop, shop.name, json.dumps(artifacts(shop, data_contracts=[contract])))


@fuzz
@given(data=st.data())
def test_dbt_profiles(shop: Path, data: st.DataObject) -> None:
    profiles = data.draw(documents(PROFILES))

    check_file(shop, shop.name, json.dumps(artifacts(shop, dbt_profiles=profiles)))


@fuzz
@given(text=yaml_texts(SPEC))
def test_floe_yaml(shop: Path, text: str) -> None:
    check_file(shop, "floe.yaml", text)


@fuzz
@given(text=yaml_texts(PROJECT))
def test_dbt_project(shop: Path, text: str) -> None:
    check_file(shop, "dbt_project.yml", text)


@fuzz
@given(data=st.data())
def test_manifest(shop: Path, data: st.DataObject) -> None:
    content = json.loads((shop.parent / "target" / "manifest.json").read_text(encoding="utf-8"))
    text = data.draw(st.one_of(*[documents(content).map(json.dumps)] * 4, texts(json.dumps(content), ODD_YAML)))

    check_file(shop, "target/manifest.json", text)


@fuzz
@given(data=st.data())
def test_spool_and_journal(shop: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Status, replay and the ends of dead processes' runs work with any files in the directory."""
    spool = tmp_path / "spool" / "shop-orders"
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir(parents=True)
    events = [json.loads(orjson.dumps(line)) for line in stored_events()]
    lines = [*events[:2], {"ending": events[1]}, {"ended": events[0]["run"]["runId"]}]
    refused = {"refused_at": "2026-01-01T00:00:00+00:00", "reason": "400", "event": events[0]}
    for suffix, content in ((".open", lines), (".jsonl", events[:2]), (".refused.jsonl", [refused])):
        drawn = data.draw(documents(content))
        text = "\n".join(map(json.dumps, drawn)) if isinstance(drawn, list) else json.dumps(drawn)
        text = data.draw(st.one_of(st.just(text + "\n"), texts(text, ["\0", "\n\n", "[]\n"])))
        name = data.draw(
            st.sampled_from([f"{RUN_ID}-0a0a0a0a", "00000000000000000001-none-0a0a0a0a", "odd", "-", "9" * 99])
        )
        (spool / f"{name}{suffix}").write_text(text, encoding="utf-8")
    cursor = data.draw(st.sampled_from([None, "", "x", "-5", "10", "9" * 30, "9" * 10_000, "1_0", "٣"]))
    if cursor is not None:
        for path in list(spool.glob("*.jsonl")):
            path.with_suffix(".sent").write_text(cursor, encoding="utf-8")
    if data.draw(st.booleans()):
        (spool / "directory.jsonl").mkdir()
        (spool / "directory.open").mkdir()
    config = {"lineage": {"spool_dir": str(tmp_path / "spool"), "timeout_seconds": 1}}
    observability = {**artifacts(shop)["observability"], "lineage": True, "lineage_transport": "console"}
    product = write_json(
        tmp_path / "compiled_artifacts.json", with_config(artifacts(shop, observability=observability), config)
    )
    contract = validate_artifacts(json.loads(product.read_text(encoding="utf-8")), "contract")
    emitter = emitter_for(contract, LineageConfig(spool_dir=str(tmp_path / "spool")))
    assert emitter is not None

    check(product, "lineage status", "lineage replay", "lineage replay --refused")
    with emitter:
        end_open_runs_of(emitter, RUN_ID, "killed", logging.getLogger(__name__))
    assert not list(spool.glob(f"{RUN_ID}-*.open"))


def stored_events() -> list[Any]:
    from floe_orchestrator_dagster.lineage.delivery.json_line import as_json_line

    return [orjson.loads(as_json_line(event)) for event in sample_events()]
