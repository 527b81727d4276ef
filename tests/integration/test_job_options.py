"""Options of dbt in jobs and runs: what dbt builds and reads, and that no later run relies on it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from dbt_v2 import engine_config
from files import write_files
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.errors import StateError
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from floe_orchestrator_dagster.state.published import StateFacts
from floe_orchestrator_dagster.state.sets import publish_state
from integration.failing_shop import failure_of, logged
from unit.samples import contract, model, profiles, write_json

_FILES = {
    "dbt_project.yml": '{name: shop, profile: shop_orders, version: "1.0", models: {+materialized: table}}',
    "models/first.sql": "select '{{ target.name }}' as origin, 1 as id union all select '{{ target.name }}', 2",
    "models/second.sql": "select origin, id from {{ ref('first') }}",
    "selectors.yml": "selectors: [{name: last, definition: {method: fqn, value: second}}]",
}


class Shop:
    """A product with the schema ``main``, beside another environment in the schema ``prod``."""

    def __init__(self, directory: Path, instance: dg.DagsterInstance, engine: dict[str, str]) -> None:
        """Write and parse the product, and build the other environment."""
        self.directory, self.instance, self.engine = write_files(directory, _FILES), instance, engine
        self.artifacts = directory / "compiled_artifacts.json"
        self.configure()
        load_product(self.artifacts, manifest_source=manifest_rebuilt)

    def configure(self, *jobs: dict[str, object], **more: object) -> None:
        """Write the artifacts, with jobs."""
        outputs = profiles(threads=1)
        output = outputs["shop-orders"]["outputs"]
        output["prod"] = {**output["dev"], "schema": "prod"}
        config = {"executor": "in_process", "dbt": self.engine, "jobs": [*jobs], **more}
        models = [model("first"), model("second", "first")]
        write_json(self.artifacts, contract(*models, config=config, dbt_profiles=outputs))

    def run(
        self, job: str, *names: str, config: dict[str, object] | None = None, raises: bool = True
    ) -> dg.ExecuteInProcessResult:
        """Run a job, for all assets or those with the names."""
        found = definitions_from_file(self.artifacts).get_repository_def().get_job(job)
        run_config = {"ops": {"shop_orders_dbt_build": {"config": config}}} if config else None
        keys = [dg.AssetKey(name) for name in names] or None
        return found.execute_in_process(
            instance=self.instance, run_config=run_config, asset_selection=keys, raise_on_error=raises
        )

    def rows(self, table: str) -> list[tuple[object, ...]]:
        """Read the origin and id of a table's rows."""
        with duckdb.connect(str(self.directory / "shop.duckdb")) as connection:
            return connection.execute(f"select origin, id from {table} order by id").fetchall()  # noqa: S608

    def publish(self) -> str:
        """Build the other environment, and return a directory with its manifest."""
        assert self.run("shop_orders", config={"target": "prod"}).success
        newest = max(self.directory.glob("target/*/manifest.json"), key=lambda path: path.stat().st_mtime)
        state = self.directory / "production"
        state.mkdir()
        (state / "manifest.json").write_bytes(newest.read_bytes())
        return str(state)


@pytest.fixture
def shop(tmp_path: Path, lasting: dg.DagsterInstance, engine: dict[str, str]) -> Shop:
    """A product on each dbt engine."""
    return Shop(tmp_path / "shop", lasting, engine)


def _built(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key}


DEV = [("dev", 1), ("dev", 2)]
PROD = [("prod", 1), ("prod", 2)]


def test_a_job_reads_what_it_does_not_build_from_another_environment(shop: Shop) -> None:
    state = shop.publish()
    shop.configure(
        {"name": "deferred", "selector": "last", "defer": True, "state": state},
        {"name": "favored", "selector": "last", "defer": True, "state": "production", "favor_state": True},
    )

    assert _built(shop.run("deferred")) == {"second"}
    assert shop.rows("main.second") == PROD

    shop.run("shop_orders")
    assert shop.rows("main.second") == DEV
    shop.run("favored")
    assert shop.rows("main.second") == PROD
    shop.run("favored", config={"favor_state": False})
    assert shop.rows("main.second") == DEV


def test_a_job_reads_from_a_published_state(shop: Shop) -> None:
    manifest = (Path(shop.publish()) / "manifest.json").read_bytes()
    now = datetime.now(tz=timezone.utc)
    facts = StateFacts("shop-orders", "dev", "", now, "core", "1.12.6", "duckdb", "v12", 1, {}, "", 0)
    url = (shop.directory / "published").as_uri()
    publish_state(url, facts, manifest, b"{}", keep=1)
    job = {"name": "deferred", "selector": "last", "defer": True}
    shop.configure({**job, "state": url})

    shop.run("deferred")

    assert shop.rows("main.second") == PROD
    shop.run("shop_orders")
    shop.configure({**job, "favor_state": True}, state={"url": str(shop.directory / "published")})
    shop.run("deferred")
    assert shop.rows("main.second") == PROD
    shop.configure(job, state={"url": str(shop.directory / "published"), "production": "live"})
    with pytest.raises(StateError, match="has no state of shop-orders in the environment 'live'"):
        shop.run("deferred")


def test_no_later_run_reuses_a_table_with_the_rows_of_another_environment(shop: Shop) -> None:
    state = shop.publish()
    job = {"name": "favored", "selector": "last", "defer": True, "state": state, "favor_state": True}
    shop.configure(job, build="changed")

    assert _built(shop.run("shop_orders")) == {"first", "second"}
    assert _built(shop.run("shop_orders")) == set()
    assert _built(shop.run("favored")) == {"second"}
    assert _built(shop.run("favored")) == {"second"}
    assert _built(shop.run("shop_orders")) == {"second"}
    assert shop.rows("main.second") == DEV


@pytest.mark.parametrize(
    ("options", "off", "rows"),
    [({"empty": True}, {"empty": False}, []), ({"sample": "3 days"}, {"sample": ""}, DEV)],
)
def test_tables_of_a_job_with_fewer_rows_are_not_reused(
    shop: Shop, options: dict[str, object], off: dict[str, object], rows: list[tuple[object, ...]]
) -> None:
    shop.configure({"name": "less", **options}, build="changed")

    assert _built(shop.run("shop_orders")) == {"first", "second"}
    assert _built(shop.run("less")) == {"first", "second"}
    assert shop.rows("main.second") == rows
    assert _built(shop.run("less", config=off)) == {"first", "second"}
    assert shop.rows("main.second") == DEV
    assert _built(shop.run("shop_orders")) == set()


def test_a_run_without_a_usable_state_is_refused_before_dbt_starts(shop: Shop) -> None:
    (shop.directory / "bare").mkdir()

    def refusal(**options: object) -> str:
        result = shop.run("shop_orders", config=options, raises=False)
        assert not result.success
        assert "running dbt" not in logged(shop.instance, result.run_id, "INFO")
        return failure_of(result)

    assert "run configuration, defer: no state is known to defer to. Set `state` to a directory, or" in refusal(
        defer=True
    )
    assert "run configuration, state: it is only used with defer. Set `defer: true`." in refusal(state="bare")
    assert "favor_state: it is only used with defer" in refusal(favor_state=True)
    assert f"state: '{shop.directory}/gone' is not a directory. Copy" in refusal(defer=True, state="gone")
    assert f"state: '{shop.directory}/bare' has no manifest.json. Copy" in refusal(defer=True, state="bare")
    assert "flags: --empty and `empty` are both set. Keep `empty`." in refusal(empty=True, flags=["--empty"])


def test_an_engine_defers_to_the_state_of_the_other_one(tmp_path: Path, lasting: dg.DagsterInstance) -> None:
    for kind, other in (("core", "v2"), ("v2", "core")):
        shop = Shop(tmp_path / kind, lasting, engine_config(other))
        state = shop.publish()
        shop.engine = engine_config(kind)
        shop.configure({"name": "deferred", "selector": "last", "defer": True, "state": state})
        load_product(shop.artifacts, manifest_source=manifest_rebuilt)

        shop.run("deferred")

        assert shop.rows("main.second") == PROD
