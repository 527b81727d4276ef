"""Publication after runs of production, and comparison of an edited project with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from command import invoke
from files import write_files
from floe_orchestrator_dagster import ManifestError
from floe_orchestrator_dagster.automation.state_publication import built_state
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.state.built import dbt_of, publish_built
from floe_orchestrator_dagster.state.changes import StateChanges, changes_since
from floe_orchestrator_dagster.state.sets import read_state
from integration.test_changed_builds import ALL, NAMES_IN_CAPITALS, Shop

if TYPE_CHECKING:
    from pathlib import Path

    from floe_orchestrator_dagster.state.published import PublishedState

SENSOR = "shop_orders_state"
NO_RUN = "No run of the product has succeeded since the last publication."


class Production(Shop):
    """A product that publishes its state, and the cursor of its sensor."""

    def __init__(self, directory: Path, instance: dg.DagsterInstance, engine: str = "core", **more: object) -> None:
        """Write and parse the product, with more settings."""
        self.store = directory.parent / "store"
        self.cursor: str | None = None
        state = {"url": str(self.store), "production": "dev"}
        super().__init__(directory, instance, engine, **{"build": "all", "state": state, **more})

    def tick(self) -> str:
        """Evaluate the sensor as the daemon does, and return what the tick shows."""
        sensors = definitions_from_file(self.artifacts).sensors or ()
        [sensor] = [sensor for sensor in sensors if sensor.name == SENSOR]
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        skipped = sensor(context)
        assert isinstance(skipped, dg.SkipReason)
        self.cursor = context.cursor
        return str(skipped.skip_message)

    def state(self) -> PublishedState:
        """Read the published state."""
        return read_state(str(self.store), "shop-orders", "dev", self.directory.parent / "scratch")

    def tables(self) -> set[str]:
        """Return the names of the tables with a published fingerprint."""
        return {name.split(".")[2] for name in self.state().fingerprints if not name.startswith("test.")}

    def changes(self) -> StateChanges:
        """Compare the project with the published state."""
        return changes_since(load_product(self.artifacts), self.state())


@pytest.fixture
def production(tmp_path: Path, instance: dg.DagsterInstance) -> Production:
    """Give a product that publishes its state."""
    return Production(tmp_path / "shop", instance)


def short(reasons: dict[str, str]) -> dict[str, str]:
    return {unique_id.split(".")[2]: reason for unique_id, reason in reasons.items()}


def test_successful_run_is_published_once(production: Production) -> None:
    assert production.tick() == NO_RUN
    run = production.result()

    assert production.tick() == f"Published the state after run {run.run_id}: 4 tables and views."
    assert production.tick() == NO_RUN
    state = production.state()
    assert (state.run_id, state.environment, state.engine, state.adapter) == (run.run_id, "dev", "core", "duckdb")
    assert production.tables() == ALL
    results = json.loads(state.run_results.read_text())["results"]
    assert {result["unique_id"].split(".")[2]: result["status"] for result in results} == dict.fromkeys(ALL, "success")
    assert all(result["execution_time"] > 0 for result in results)
    relations = {result["relation_name"] for result in results}
    assert relations == {f'"shop"."main"."{name}"' for name in ALL}
    assert len(list((production.store / "shop-orders/dev/sets").iterdir())) == 1


def test_failed_run_is_published_with_the_next_that_succeeds(production: Production) -> None:
    production.write("models/names.sql", "{{ config(materialized='table') }} select 1 / 0 as id from missing_table")
    assert not production.result().success
    assert production.tick() == NO_RUN
    assert not production.store.exists()

    run = production.result("stg")

    assert production.tick() == f"Published the state after run {run.run_id}: 3 tables and views."
    assert production.tables() == {"stg", "mart", "regions"}
    assert short(dict(production.changes().changed)) == {
        "names": "production has not recorded a build of its deployed code"
    }


def test_run_of_a_part_leaves_what_was_built_before(production: Production) -> None:
    production.result()
    production.tick()
    production.write("models/names.sql", NAMES_IN_CAPITALS)
    production.result("stg")
    production.tick()

    assert production.tables() == {"stg", "mart", "regions"}  # names has the code before the deployment
    production.result("names")
    production.tick()
    assert production.tables() == ALL


@pytest.mark.parametrize("options", [{"flags": ["--empty"]}, {"vars": {"owner": "me"}}, {"target": "other"}])
def test_tables_of_unusual_runs_are_left_out_of_the_state(production: Production, options: dict[str, object]) -> None:
    artifacts = json.loads(production.artifacts.read_text())
    outputs = artifacts["dbt_profiles"]["shop-orders"]["outputs"]
    outputs["other"] = {**outputs["dev"], "schema": "other"}
    production.artifacts.write_text(json.dumps(artifacts))
    assert production.result("stg", "regions", "names").success
    production.tick()
    assert production.tables() == {"stg", "regions", "names"}

    assert production.result("regions", "names", **options).success
    production.tick()
    assert production.tables() == {"stg"}

    assert production.result("names").success
    production.tick()
    assert production.tables() == {"stg", "names"}


def test_tables_that_a_variable_of_dbt_empties_are_left_out_of_the_state(
    production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_EMPTY", "true")
    run = production.result()

    assert production.tick() == f"Published the state after run {run.run_id}: 0 tables and views."


def test_store_that_is_down_fails_no_run_and_gets_the_state_later(production: Production) -> None:
    production.store.write_text("not a directory")
    run = production.result()
    assert run.success

    assert "The state is not published yet: " in production.tick()
    production.store.unlink()

    assert production.tick() == f"Published the state after run {run.run_id}: 4 tables and views."


def test_a_process_that_publishes_late_does_not_replace_a_newer_state(production: Production) -> None:
    production.result()
    product = load_product(production.artifacts)
    keys = {node["unique_id"]: dg.AssetKey(node["name"]) for node in dbt_of(product).manifest.asset_nodes}
    late = built_state(production.instance, product, keys)
    run = production.result("names")
    production.tick()

    published = publish_built(product, late, "late", str(production.store))

    assert not published.is_latest
    assert production.state().run_id == run.run_id
    assert len(list((production.store / "shop-orders/dev/sets").iterdir())) == 2


def test_the_state_without_the_table_that_was_built_last_is_the_latest(production: Production) -> None:
    production.result()
    production.result("names")
    production.tick()
    production.instance.wipe_assets([dg.AssetKey("names")])
    product = load_product(production.artifacts)
    keys = {node["unique_id"]: dg.AssetKey(node["name"]) for node in dbt_of(product).manifest.asset_nodes}

    published = publish_built(product, built_state(production.instance, product, keys), "", str(production.store))

    assert published.is_latest
    assert production.tables() == ALL - {"names"}


def test_a_run_whose_end_looks_older_than_that_of_a_published_one_is_published(
    production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    production.result("stg")
    production.tick()
    run = production.result("names", "regions")
    records = production.instance.get_run_records

    def by_another_clock(filters: dg.RunsFilter, limit: int, order_by: str) -> list[dg.RunRecord]:
        return [*reversed(records(filters, limit=limit, order_by=order_by))]

    monkeypatch.setattr(production.instance, "get_run_records", by_another_clock)

    assert production.tick() == f"Published the state after run {run.run_id}: 3 tables and views."


def test_reused_tables_are_published(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    production = Production(tmp_path / "shop", instance, build="changed")
    production.result()
    second = production.result()

    assert production.tick() == f"Published the state after run {second.run_id}: 4 tables and views."
    assert production.tables() == ALL


def test_nothing_is_published_without_the_variable_of_the_url(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    production = Production(tmp_path / "shop", instance, state={"url": "{{ env_var('NO_SUCH_URL') }}"})
    production.result()

    assert production.tick() == "Nothing is published: an environment variable in `state.url` is not set."


def test_replaced_manifest_is_not_published(production: Production) -> None:
    production.result()
    sensors = definitions_from_file(production.artifacts).sensors or ()
    production.write("models/names.sql", NAMES_IN_CAPITALS)
    context = dg.build_sensor_context(instance=production.instance)
    [sensor] = [sensor for sensor in sensors if sensor.name == SENSOR]

    assert "has been replaced since the code location was loaded" in str(sensor(context).skip_message)  # type: ignore[union-attr]


# --- comparison -------------------------------------------------------------------------------------------------------


def test_changes_since_production(production: Production) -> None:
    production.result()
    production.tick()
    changes = production.changes()
    assert (changes.changed, changes.downstream, changes.removed, changes.tests) == ({}, {}, (), {})
    assert {unique_id.split(".")[2] for unique_id in changes.unchanged} == ALL

    production.write(
        "models/hidden.sql",
        "{{ config(materialized='ephemeral') }} select id, 2 * amount as amount from {{ ref('stg') }}",
    )
    changes = production.changes()
    assert short(dict(changes.changed)) == {"mart": "ephemeral models that it reads have changed: hidden"}
    assert changes.downstream == {}
    assert set(short(dict(changes.tests)).values()) == {"reads mart"}

    production.write("seeds/regions.csv", "id,name\n1,north\n3,east\n")
    changes = production.changes()
    assert short(dict(changes.changed))["regions"] == "its data has changed"
    assert short(dict(changes.downstream)) == {"names": "reads regions"}


def test_outdated_manifest_is_an_error(production: Production) -> None:
    production.result()
    production.tick()
    write_files(production.directory, {"models/names.sql": NAMES_IN_CAPITALS})

    with pytest.raises(ManifestError, match="is older than files of the dbt project"):
        production.changes()


def test_state_of_another_dbt_version_counts_everything_as_changed(production: Production) -> None:
    production.result()
    production.tick()
    state = production.state()
    content = json.loads(state.manifest.read_text())
    content["metadata"]["dbt_version"] = "1.8.9"
    state.manifest.write_text(json.dumps(content))
    changed = {**vars(state), "fingerprints": dict.fromkeys(state.fingerprints, "of another version")}

    found = changes_since(load_product(production.artifacts), type(state)(**changed))

    [note] = found.notes
    assert note.startswith("Everything counts as changed: production runs dbt 1.8.9, this project dbt ")
    assert {unique_id.split(".")[2] for unique_id in found.changed} == ALL


# --- commands ---------------------------------------------------------------------------------------------------------


def test_commands_publish_show_and_compare_without_secrets_database_and_instance(
    tmp_path: Path, lasting: dg.DagsterInstance
) -> None:
    production = Production(tmp_path / "shop", lasting)
    production.result()
    artifacts, store = str(production.artifacts), str(tmp_path / "store")
    home = lasting.root_directory

    missing = invoke("plan", "--changed", "--state", store, artifacts)
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "has no state of the product 'shop-orders'. The store is empty." in missing.stderr
    published = invoke("state", "publish", artifacts, DAGSTER_HOME=home)
    assert published.stdout.endswith(": 4 tables and views, 7 fingerprints\n")
    shown = json.loads(invoke("state", "show", "--json", artifacts).stdout)
    assert (shown["product"], shown["environment"], len(shown["fingerprints"])) == ("shop-orders", "dev", 7)

    production.write("models/names.sql", NAMES_IN_CAPITALS)
    content = json.loads(production.artifacts.read_text())
    output = {"type": "postgres", "host": "nowhere.invalid", "port": 5432, "dbname": "d", "schema": "s", "threads": 1}
    secret = {"user": "{{ env_var('NO_USER') }}", "password": "{{ env_var('NO_PASSWORD') }}"}
    content["dbt_profiles"]["shop-orders"]["outputs"]["unused"] = output | secret
    production.artifacts.write_text(json.dumps(content))
    (production.directory / "shop.duckdb").unlink()
    compared = json.loads(invoke("plan", "--changed", "--state", store, "--json", artifacts).stdout)
    assert compared["changed"] == [{"node": "model.shop_orders.names", "reason": "its code has changed"}]
    assert not (production.directory / "shop.duckdb").exists()
    printed = invoke("plan", "--changed", "--state", store, artifacts).stdout
    assert "changed: 1\n  its code has changed:\n    names\n" in printed
    assert printed.endswith("\nunchanged: 3\n")
    elsewhere = invoke("plan", "--changed", "--state", store, "--environment", "x", artifacts)
    assert elsewhere.exit_code == 2
    assert "has no state of shop-orders in the environment 'x', but of dev" in elsewhere.stderr


def test_results_of_dbt_itself_are_published_unless_they_are_unusual(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    production = Production(tmp_path / "shop", instance)
    results = tmp_path / "run_results.json"
    built = [
        {"unique_id": "model.shop_orders.stg", "status": "success"},
        {"unique_id": "model.shop_orders.mart", "status": "error"},
    ]
    results.write_text(json.dumps({"metadata": {}, "args": {"empty": False}, "results": built}))
    words = ("state", "publish", "--run-results", str(results), str(production.artifacts))

    invoke(*words)
    assert production.tables() == {"stg"}
    results.write_text(json.dumps({"metadata": {}, "args": {"empty": True}, "results": built}))
    refused = invoke(*words)

    assert refused.exit_code == 2
    assert "dbt ran with `empty`, so that its tables are not those of production" in refused.stderr
