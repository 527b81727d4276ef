"""Automation rules, evaluated by Dagster on an instance with real events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import build_definitions
from floe_orchestrator_dagster.errors import ConfigError
from floe_orchestrator_dagster.execution.reuse.records import BuildRecord
from unit.dbt_shop import dbt_shop, depends_on
from unit.samples import Json, model, node, product

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

EAGER = {"condition": "eager"}
SIX = {"condition": "on_cron", "cron": "0 6 * * *"}
TABLE: Json = {"materialized": "table", "enabled": True}
VIEW: Json = {"materialized": "view", "enabled": True}
EVERYTHING = {"raw", "stg", "mart", "wide_v1"}
CHANGED = {"automation": {"condition": "changed"}}


class Evaluation:
    """Evaluate the rules of a code location again and again, as its sensor does."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions, self._instance = definitions, instance
        self._cursor: AssetDaemonCursor | None = None

    def at(self, time: datetime) -> set[str]:
        """Return the assets that are requested at ``time``."""
        result = dg.evaluate_automation_conditions(
            self._definitions, self._instance, dg.AssetSelection.all(), evaluation_time=time, cursor=self._cursor
        )
        self._cursor = result.cursor
        keys = self._definitions.resolve_asset_graph().materializable_asset_keys
        return {key.to_user_string() for key in keys if result.get_num_requested(key)}

    def load(self, definitions: dg.Definitions) -> None:
        """Serve other definitions, as after a deployment. The cursor stays."""
        self._definitions = definitions

    def build(self, *keys: str, fingerprint: str | None = None, **others: str) -> None:
        """Report builds of the current code, or of the code with a recorded fingerprint, with other metadata."""
        graph = self._definitions.resolve_asset_graph()
        record = BuildRecord("b", fingerprint or "", "p", {}, 0).as_json()
        recorded = {"floe/build": dg.JsonMetadataValue(record)} if fingerprint is not None else {}
        metadata: dict[str, dg.MetadataValue[Any]] = {
            **recorded,
            **{f"floe/{name}": dg.TextMetadataValue(value) for name, value in others.items()},
        }
        for name in keys:
            key = dg.AssetKey(name)
            tags = {"dagster/code_version": graph.get(key).code_version or ""}
            self._instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=metadata, tags=tags))

    def check(self, asset: str, name: str, *, passed: bool) -> None:
        """Report the result of a blocking check."""
        found = dg.AssetCheckEvaluation(dg.AssetKey(asset), name, passed=passed, blocking=True)
        self._instance.report_runless_asset_event(found)

    def materialize(self, *keys: str) -> None:
        """Report materializations."""
        for key in keys:
            self._instance.report_runless_asset_event(dg.AssetMaterialization(key.split("/")))

    def wipe(self, *keys: str) -> None:
        """Forget materializations."""
        self._instance.wipe_assets([dg.AssetKey(key.split("/")) for key in keys])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def now() -> datetime:
    return datetime.now(tz=ZoneInfo("UTC"))


def labels(definitions: dg.Definitions) -> dict[str, str | None]:
    """Label of each asset's condition, for those that have one."""
    nodes = definitions.resolve_asset_graph().asset_nodes
    return {
        node.key.to_user_string(): node.automation_condition.get_label() for node in nodes if node.automation_condition
    }


def test_eager_follows_upstream(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rules = Evaluation(build_definitions(dbt_shop(tmp_path, {"automation": EAGER})), instance)
    rules.materialize("raw", "stg", "mart", "wide_v1", "erp/orders")

    assert rules.at(now()) == set()
    rules.materialize("stg")
    assert rules.at(now()) == {"mart", "wide_v1"}
    rules.materialize("mart", "wide_v1")
    assert rules.at(now()) == set()
    rules.materialize("erp/orders")
    assert rules.at(now()) == {"stg", "mart", "wide_v1"}


def test_source_without_events_does_not_block_an_eager_asset(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rules = Evaluation(build_definitions(dbt_shop(tmp_path, {"automation": {**EAGER, "select": "stg"}})), instance)

    assert rules.at(now()) == set()
    rules.materialize("raw")
    assert rules.at(now()) == {"stg"}


def test_missing_upstream_of_the_product_blocks_an_eager_asset(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rules = Evaluation(build_definitions(dbt_shop(tmp_path, {"automation": {**EAGER, "select": "stg"}})), instance)

    assert rules.at(now()) == set()
    rules.materialize("erp/orders")
    assert rules.at(now()) == set()


def test_on_cron_builds_everything_after_a_tick(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rules = Evaluation(build_definitions(dbt_shop(tmp_path, {"automation": SIX})), instance)
    tomorrow = now().replace(hour=6, minute=0) + timedelta(days=1)

    assert rules.at(tomorrow - timedelta(minutes=1)) == set()
    assert rules.at(tomorrow + timedelta(minutes=1)) == EVERYTHING
    assert rules.at(tomorrow + timedelta(minutes=2)) == set()
    assert rules.at(tomorrow + timedelta(days=1, minutes=1)) == EVERYTHING


def test_on_cron_ticks_in_its_timezone(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    config = {"automation": {**SIX, "select": "raw", "timezone": "Asia/Kathmandu"}, "timezone": "Europe/Berlin"}
    rules = Evaluation(build_definitions(dbt_shop(tmp_path, config)), instance)
    tomorrow = now().astimezone(ZoneInfo("Asia/Kathmandu")).replace(hour=6, minute=0) + timedelta(days=1)

    assert rules.at(tomorrow - timedelta(minutes=1)) == set()
    assert rules.at(tomorrow + timedelta(minutes=1)) == {"raw"}


def test_on_cron_waits_for_a_source_with_events(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rules = Evaluation(build_definitions(dbt_shop(tmp_path, {"automation": SIX})), instance)
    rules.materialize("erp/orders")
    # The events that are reported are of this moment, so the tick that they follow has to be in the past.
    tick = now().replace(hour=6, minute=0)
    tick = tick if tick < now() else tick - timedelta(days=1)

    assert rules.at(tick - timedelta(minutes=1)) == set()
    assert rules.at(tick + timedelta(minutes=1)) == {"raw"}
    rules.materialize("raw", "erp/orders")
    assert rules.at(tick + timedelta(minutes=2)) == {"stg", "mart", "wide_v1"}


def test_on_missing_builds_missing_assets(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    definitions = build_definitions(dbt_shop(tmp_path, {"automation": {"condition": "on_missing"}}))
    rules = Evaluation(definitions, instance)
    rules.materialize("raw", "stg", "mart", "wide_v1")

    assert rules.at(now()) == set()
    rules.wipe("stg", "mart")
    assert rules.at(now()) == {"stg", "mart"}
    assert rules.at(now()) == set()


def test_first_matching_rule_applies(tmp_path: Path) -> None:
    rules = [
        {**SIX, "select": "tag:gold"},
        {**SIX, "cron": "@hourly", "select": "resource_type:seed", "timezone": "Asia/Tokyo"},
        {**EAGER, "exclude": "wide"},
    ]

    definitions = build_definitions(dbt_shop(tmp_path, {"automation": rules, "timezone": "Europe/Berlin"}))

    assert labels(definitions) == {
        "mart": "on_cron(0 6 * * *, Europe/Berlin)",
        "raw": "on_cron(@hourly, Asia/Tokyo)",
        "stg": "eager",
    }


def test_condition_of_the_dbt_project_takes_precedence(tmp_path: Path) -> None:
    lazy = {"dagster": {"auto_materialize_policy": {"type": "eager"}}}
    own = node("own", depends_on=depends_on("model.shop.stg"), meta=lazy)

    definitions = build_definitions(dbt_shop(tmp_path, {"automation": {"condition": "on_missing"}}, own))

    assert labels(definitions)["raw"] == "on_missing"
    assert labels(definitions)["own"] != "on_missing"


def test_changed_builds_an_edited_model_and_its_cone(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rules = Evaluation(build_definitions(dbt_shop(tmp_path / "before", CHANGED)), instance)
    rules.check("stg", "unique_stg", passed=True)
    assert rules.at(now()) == EVERYTHING
    rules.build(*EVERYTHING)
    assert rules.at(now()) == set()

    edited = node("edited", raw_code="select 1", depends_on=depends_on("model.shop.stg"), config=TABLE)
    rules.load(build_definitions(dbt_shop(tmp_path / "added", CHANGED, edited)))
    assert rules.at(now()) == {"edited"}
    assert rules.at(now()) == set()  # a run that fails is not launched again and again
    rules.load(build_definitions(dbt_shop(tmp_path / "mended", CHANGED, {**edited, "raw_code": "select 2"})))
    assert rules.at(now()) == {"edited"}
    rules.build("edited")
    assert rules.at(now()) == set()


def test_changed_notices_a_build_of_other_code(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Before the first evaluation, and by a run of older code that ends after a deployment."""
    definitions = build_definitions(dbt_shop(tmp_path, CHANGED))
    rules = Evaluation(definitions, instance)
    rules.check("stg", "unique_stg", passed=True)
    rules.build("raw", "stg", "wide_v1")
    rules.build("mart", fingerprint="of older code")

    assert rules.at(now()) == {"mart"}
    rules.build("mart", fingerprint="of older code")
    assert rules.at(now()) == set()  # such as a worker with an older image, which would build it again and again
    rules.build("mart", fingerprint="of still older code")
    assert rules.at(now()) == {"mart"}


def test_changed_builds_tables_with_other_rows_than_usual_again(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    rules = Evaluation(build_definitions(dbt_shop(tmp_path, CHANGED)), instance)
    rules.check("stg", "unique_stg", passed=True)
    rules.build(*EVERYTHING)
    assert rules.at(now()) == set()

    for _ in range(2):
        rules.build("mart", other_rows="empty")
        assert rules.at(now()) == {"mart"}
        assert rules.at(now()) == set()  # a run that fails is not launched again and again
        rules.build("mart")
        assert rules.at(now()) == set()


def test_changed_builds_no_view_for_new_rows(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    base = node("base", raw_code="select 1", depends_on=depends_on("model.shop.stg"), config=TABLE)
    view = node("view", raw_code="select 2", depends_on=depends_on("model.shop.base"), config=VIEW)
    top = node("top", raw_code="select 3", depends_on=depends_on("model.shop.view"), config=TABLE)
    rules = Evaluation(build_definitions(dbt_shop(tmp_path / "before", CHANGED, base, view, top)), instance)
    rules.check("stg", "unique_stg", passed=True)
    rules.build(*EVERYTHING, "base", "view", "top")
    assert rules.at(now()) == set()

    rules.build("base")
    assert rules.at(now()) == {"top"}
    rules.build("top")
    rules.build("base", fingerprint="f")
    assert rules.at(now()) == {"base", "view", "top"}  # other code, which the next build replaces
    rules.build("base", "view", "top")  # without a record
    assert rules.at(now()) == set()
    rules.build("base")
    assert rules.at(now()) == {"top"}
    rules.build("top")
    rules.load(build_definitions(dbt_shop(tmp_path / "after", CHANGED, {**base, "raw_code": "select 4"}, view, top)))
    assert rules.at(now()) == {"base", "view", "top"}


def test_failed_blocking_check_holds_back_the_readers_of_a_changed_asset(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    table = node("table", raw_code="select 1", depends_on=depends_on("model.shop.mart"), config=TABLE)
    rules = Evaluation(build_definitions(dbt_shop(tmp_path, CHANGED, table)), instance)
    rules.build(*EVERYTHING, "table")
    rules.check("stg", "unique_stg", passed=False)  # behind the view
    rules.check("mart", "unique_mart", passed=True)
    assert rules.at(now()) == set()

    rules.build("raw")
    assert rules.at(now()) == set()
    rules.check("stg", "unique_stg", passed=True)
    assert rules.at(now()) == {"table"}


def test_rule_for_changes_is_evaluated_in_the_code_server(tmp_path: Path) -> None:
    eager = build_definitions(dbt_shop(tmp_path / "eager", {"automation": EAGER}))
    changed = build_definitions(dbt_shop(tmp_path / "changed", CHANGED))
    many = [node(f"m{number}", raw_code="select 1") for number in range(500)]
    large = build_definitions(dbt_shop(tmp_path / "large", CHANGED, *many))

    def sensors(definitions: dg.Definitions) -> list[tuple[str, str]]:
        found = [
            sensor for sensor in definitions.sensors or () if isinstance(sensor, dg.AutomationConditionSensorDefinition)
        ]
        return [(sensor.name, sensor.sensor_type.name) for sensor in found]

    assert sensors(eager) == [("shop_orders_automation", "AUTO_MATERIALIZE")]
    assert sensors(changed) == [("shop_orders_automation", "AUTOMATION")]
    assert sensors(large) == [("shop_orders_automation", "AUTOMATION"), ("shop_orders_automation_2", "AUTOMATION")]


@pytest.mark.parametrize(
    ("rules", "row", "count"),
    [
        ([EAGER, {**SIX, "select": "tag:gold"}], 1, 1),
        ([{**EAGER, "select": "tag:daily"}, {**SIX, "select": "mart"}], 1, 1),
        ([{**EAGER, "select": "stg+"}, {**EAGER, "select": "raw"}, SIX], 2, 4),
    ],
)
def test_rule_without_remaining_assets_is_refused(tmp_path: Path, rules: list[Json], row: int, count: int) -> None:
    with pytest.raises(ConfigError) as raised:
        build_definitions(dbt_shop(tmp_path, {"automation": rules}))

    [problem] = raised.value.problems
    assert problem.where == f"plugins.orchestrator.config.automation[{row}]"
    assert problem.what == f"each asset that it selects ({count}) matches an earlier rule, and the first match applies"
    assert problem.fix == "Put the narrower rule first, or remove this one. Correct it in manifest.yaml."


def test_selection_of_a_rule_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.automation\[0\]\.select: 'tag:typo' matches nothing\n"):
        build_definitions(dbt_shop(tmp_path, {"automation": {**EAGER, "select": "tag:typo"}}))


def test_product_without_a_dbt_project_can_have_a_rule_for_everything(instance: dg.DagsterInstance) -> None:
    shop = product(model("a"), model("b", "a"), config={"automation": EAGER, "key_prefix": ["shop"]})
    rules = Evaluation(build_definitions(shop), instance)

    assert rules.at(now()) == set()
    rules.materialize("shop/a")
    assert rules.at(now()) == {"shop/b"}


def test_rules_have_a_running_sensor_for_the_product(tmp_path: Path) -> None:
    config = {"automation": EAGER, "timeout_seconds": 60}
    definitions = build_definitions(dbt_shop(tmp_path, config))

    [sensor] = definitions.get_repository_def().sensor_defs

    assert isinstance(sensor, dg.AutomationConditionSensorDefinition)
    assert sensor.name == "shop_orders_automation"
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.run_tags == {"floe/product": "shop-orders", "floe/domain": "sales", "dagster/max_runtime": "60"}
    selected = sensor.asset_selection.resolve(definitions.resolve_asset_graph())
    assert {key.to_user_string() for key in selected} >= EVERYTHING


def test_without_a_rule_there_is_no_sensor(tmp_path: Path) -> None:
    definitions = build_definitions(dbt_shop(tmp_path))

    assert list(definitions.get_repository_def().sensor_defs) == []
    assert labels(definitions) == {}
