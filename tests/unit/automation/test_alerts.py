"""Messages about what is broken in a product, and about its recovery."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator  # noqa: TC003  # Dagster reads the annotations of ops
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import sqlalchemy

from floe_orchestrator_dagster.automation.alerts.delivery import is_quiet
from floe_orchestrator_dagster.automation.alerts.incidents import Fault, Incidents, Message, Outcome, after_run, as_one
from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.config.automation import QuietHours
from floe_orchestrator_dagster.errors import ConfigError
from unit.odd_products import write_product
from unit.samples import Json, node, source
from webhook import Webhook, receiving

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEAM, OTHER = "team@example.com", "other@example.com"
ORDERS = node("orders", meta={"dagster": {"owners": [TEAM]}}, config={"meta": {"dagster": {"owners": [TEAM]}}})
STEP = "shop_orders_dbt_build"
PAGE = "http://dagster.example.com/runs/"


class Shop:
    """A product with channels, its sensor, and runs that end as a test says."""

    nodes: Sequence[Json] = (ORDERS, node("stores"))
    sources: Sequence[Json] = ()

    def __init__(self, directory: Path, instance: dg.DagsterInstance, *channels: Json, **config: object) -> None:
        config = {"alerts": [*channels], "webserver_url": "http://dagster.example.com/", **config}
        path = write_product(directory, *self.nodes, sources=self.sources, config=config)
        definitions = definitions_from_file(path)
        self.instance = instance
        self.cursor: str | None = None
        [self.sensor] = [sensor for sensor in definitions.sensors or () if sensor.name == "shop_orders_alerts"]
        self.tick()

    def tick(self) -> str:
        """Evaluate the sensor as the daemon does, and return what the tick shows."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        skipped = self.sensor(context)
        assert isinstance(skipped, dg.SkipReason)
        self.cursor = context.cursor
        return str(skipped.skip_message)

    def run(self, *events: object, failed: dict[str, dg.MetadataValue] | None = None, **tags: str) -> str:
        """Run a step that yields these events and then fails with this metadata, if any; return the run's id."""

        @dg.op(name=STEP)
        def build() -> Iterator[object]:
            yield from events
            if failed is not None:
                raise dg.Failure("some nodes failed", metadata=failed, allow_retries=False)
            yield dg.Output(None)

        @dg.job(name="shop_orders", tags={"floe/product": "shop-orders", **tags})
        def product_job() -> None:
            build()

        return product_job.execute_in_process(instance=self.instance, raise_on_error=False).run_id


@pytest.fixture(autouse=True)
def _runs_settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read failed runs in the first tick after their end."""
    monkeypatch.setattr("floe_orchestrator_dagster.automation.alerts.sensor._SETTLING_SECONDS", 0.0)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """Return a webhook whose URL is in the environment."""
    with receiving() as webhook:
        monkeypatch.setenv("ALERTS", webhook.url)
        yield webhook


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Return an instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def channel(**changes: object) -> Json:
    """Describe a channel."""
    return {"name": "team", "variable": "ALERTS", **changes}


def built(name: str = "orders") -> dg.AssetMaterialization:
    """Make the event of a built model."""
    return dg.AssetMaterialization(name, metadata={"status": "success"})


def checked(
    *, passed: bool, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR, **partition: str
) -> dg.AssetCheckEvaluation:
    """Make the event of a test of `orders`."""
    query = {} if passed else {"failed_rows_query": dg.MetadataValue.md("```sql\nselect 1\n```")}
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("orders"),
        check_name="unique_id",
        passed=passed,
        severity=severity,
        description=None if passed else "Got 2 results, configured to fail if != 0",
        metadata={
            "status": dg.MetadataValue.text("pass" if passed else "fail"),
            "unique_id": dg.MetadataValue.text("test.shop.unique_id"),
            **query,
        },
        **partition,  # type: ignore[arg-type]
    )


def broken(name: str = "orders") -> dict[str, dg.MetadataValue]:
    """Make the metadata of a step's failure in which a model failed and another was skipped."""
    failed = {"file": f"models/{name}.sql", "failed": f"model {name}: Runtime Error: no", "node": f"model.shop.{name}"}
    skipped = {"skipped": "model mart", "because of": f"other, {name}"}
    return {
        "failed": dg.MetadataValue.table([dg.TableRecord(failed)]),
        "skipped": dg.MetadataValue.table([dg.TableRecord(skipped)]),
    }


def test_a_broken_model_is_one_message_and_its_recovery_another(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel())

    first = shop.run(failed=broken())
    assert shop.tick() == "sent: 1, pending: 0, open incidents: 1."
    shop.run(failed=broken())
    shop.tick()
    second = shop.run(built())
    shop.tick()
    shop.run(built())
    shop.tick()

    failure, recovery = webhook.messages
    assert (failure["title"], failure["type"]) == ("shop-orders: asset orders failed", "failure")
    assert failure["message"] == (
        f"Run: {PAGE}{first}\n\n```text\nRuntime Error: no\n```\n\nSkipped because of it: model mart"
    )
    assert (recovery["title"], recovery["type"]) == ("shop-orders: asset orders works again", "success")
    assert recovery["message"] == f"Run: {PAGE}{second}\n\nIt failed first in: {PAGE}{first}"


def test_a_failed_check_has_the_query_of_its_rows_and_counts_once(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel())
    failed = {"file": "a.yml", "failed": "test unique_id: Got 2 results", "node": "test.shop.unique_id"}

    run = shop.run(built(), checked(passed=False), failed={"failed": dg.MetadataValue.table([dg.TableRecord(failed)])})
    shop.tick()

    [message] = webhook.messages
    assert message["title"] == "shop-orders: check unique_id of orders failed"
    assert message["message"] == (
        f"Run: {PAGE}{run}\n\n```text\nGot 2 results, configured to fail if != 0\n```\n\n"
        "Failing rows:\n```sql\nselect 1\n```"
    )


def test_a_warning_is_for_channels_that_want_warnings(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel(), channel(name="all", severity="warning"))

    shop.run(built(), checked(passed=False, severity=dg.AssetCheckSeverity.WARN))
    shop.tick()
    assert [message["title"] for message in webhook.messages] == ["shop-orders: check unique_id of orders warns"]

    shop.run(built(), checked(passed=False), failed=broken("stores"))
    shop.tick()
    assert sorted(message["title"] for message in webhook.messages[1:]) == sorted(
        2 * ["shop-orders: asset stores failed", "shop-orders: check unique_id of orders failed"]
    )


def test_a_failed_check_that_then_only_warns_stays_failed_until_it_passes(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    """A channel that has got the failure gets the recovery."""
    shop = Shop(tmp_path, instance, channel())
    warning = checked(passed=False, severity=dg.AssetCheckSeverity.WARN)
    for result in (checked(passed=False), warning, checked(passed=False), warning, checked(passed=True)):
        shop.run(built(), result)
        shop.tick()

    assert titles(webhook) == ["check unique_id of orders failed", "check unique_id of orders works again"]


def test_messages_go_to_the_channels_of_the_owner(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel(owners=[TEAM]), channel(name="other", owners=[OTHER]))

    shop.run(failed=broken())
    assert shop.tick() == "sent: 1, pending: 0, open incidents: 1."
    assert len(webhook.messages) == 1


def test_nothing_is_lost_while_the_channel_is_down(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel())
    webhook.status = 503

    shop.run(failed=broken())
    shop.run(failed=broken("stores"))
    said = shop.tick()
    assert said.startswith("sent: 0, pending: 2, open incidents: 2. team: 1 problem\n")
    assert "the service did not accept a message" in said
    assert len(webhook.messages) == 1  # the second is not tried in this tick

    webhook.status = 200
    assert shop.tick() == "sent: 2, pending: 0, open incidents: 2."
    assert sorted(message["title"] for message in webhook.messages[1:]) == [
        "shop-orders: asset orders failed",
        "shop-orders: asset stores failed",
    ]


@pytest.mark.parametrize(
    ("value", "what"),
    [(None, "the environment variable ALERTS is not set"), ("no URL", "ALERTS is not one URL that Apprise knows")],
)
def test_a_channel_without_a_usable_url_says_so_and_keeps_the_message(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, value: str | None, what: str
) -> None:
    if value is None:
        monkeypatch.delenv("ALERTS", raising=False)
    else:
        monkeypatch.setenv("ALERTS", value)
    shop = Shop(tmp_path, instance, channel())

    shop.run(failed=broken())

    said = shop.tick()
    assert what in said
    assert said.startswith("sent: 0, pending: 1")
    assert "no URL" not in said


def test_a_failure_outside_of_dbt_is_that_of_its_step_and_ends_with_its_next_success(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel())

    shop.run(failed={})
    shop.tick()
    shop.run()
    shop.tick()

    assert [message["title"] for message in webhook.messages] == [
        f"shop-orders: step {STEP} failed",
        f"shop-orders: step {STEP} works again",
    ]


def test_runs_that_dagster_retries_and_runs_of_other_products_send_nothing(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel())

    shop.run(failed=broken(), **{"dagster/will_retry": "true"})
    shop.run(failed=broken(), **{"floe/product": "other"})

    assert shop.tick() == "sent: 0, pending: 0, open incidents: 0."
    assert webhook.messages == []


def test_runs_before_the_first_tick_send_nothing(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    earlier = Shop(tmp_path / "a", instance, channel())
    earlier.run(failed=broken())

    shop = Shop(tmp_path / "b", instance, channel())
    cursor = json.loads(str(shop.cursor))
    assert cursor["broken"] == {}
    assert webhook.messages == []


def test_without_channels_there_is_no_sensor(tmp_path: Path) -> None:
    definitions = definitions_from_file(write_product(tmp_path, ORDERS))

    assert [sensor.name for sensor in definitions.sensors or ()] == []


def test_apprise_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floe_orchestrator_dagster.automation.alerts.sensor.find_spec", lambda _name: None)
    path = write_product(tmp_path, ORDERS, config={"alerts": [channel()]})

    with pytest.raises(ConfigError, match="needs the package apprise") as raised:
        definitions_from_file(path)
    assert "floe-orchestrator-dagster[alerts]" in raised.value.problems[0].fix


@pytest.mark.parametrize(
    ("hours", "at", "quiet"),
    [
        (("22:00", "07:00"), "23:30", True),
        (("22:00", "07:00"), "06:59", True),
        (("22:00", "07:00"), "07:00", False),
        (("12:00", "13:00"), "12:00", True),
        (("12:00", "13:00"), "13:00", False),
        (("12:00", "12:00"), "12:00", False),
    ],
)
def test_quiet_hours_are_those_of_the_timezone(hours: tuple[str, str], at: str, quiet: bool) -> None:  # noqa: FBT001
    local = QuietHours(start=hours[0], end=hours[1])
    now = datetime.fromisoformat(f"2026-01-15T{at}:00+01:00").astimezone(timezone.utc)

    assert is_quiet(local, "Europe/Berlin", now) is quiet


def test_messages_wait_for_the_end_of_the_quiet_hours(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    hours = {"start": "00:00", "end": "23:59"}
    shop = Shop(tmp_path, instance, channel(quiet_hours=hours))

    shop.run(failed=broken())

    if datetime.now(tz=timezone.utc).strftime("%H:%M") < "23:58":
        assert shop.tick() == "sent: 0, pending: 1, open incidents: 1."
        assert webhook.messages == []


def test_a_long_message_is_shortened() -> None:
    _, [message] = after_run("shop", Incidents(), Outcome("r-1", [Fault("asset a", "x" * 9_000)]))

    assert message.body == f"Run: r-1\n\n```text\n{'x' * 1_500}…\n```"


def test_a_run_that_dagster_retries_reports_what_the_retry_does_not_repeat(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel(severity="warning"))
    shop.run(failed=broken())
    shop.tick()

    warning = checked(passed=False, severity=dg.AssetCheckSeverity.WARN)
    shop.run(built(), warning, failed=broken("stores"), **{"dagster/will_retry": "true"})
    shop.tick()

    assert [message["title"] for message in webhook.messages] == [
        "shop-orders: asset orders failed",
        "shop-orders: check unique_id of orders warns",
        "shop-orders: asset orders works again",
    ]


def test_a_failed_hook_is_that_of_its_step(tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook) -> None:
    shop = Shop(tmp_path, instance, channel())
    hook = {"file": "dbt_project.yml", "failed": "hook on-run-end-0: no such table", "node": ""}

    for _ in range(2):
        shop.run(failed={"failed": dg.MetadataValue.table([dg.TableRecord(hook)])})
        shop.run()
        shop.tick()

    failed, works = f"shop-orders: step {STEP} failed", f"shop-orders: step {STEP} works again"
    assert [message["title"] for message in webhook.messages] == [failed, works, failed, works]
    assert "hook on-run-end-0: no such table" in webhook.messages[0]["message"]


def test_a_success_before_the_failure_ends_no_incident() -> None:
    fault = Fault("asset a", "no", time=20.0)
    incidents, _ = after_run("shop", Incidents(), Outcome("r-1", [fault]))

    still, messages = after_run("shop", incidents, Outcome("r-2", fine={"asset a": 10.0}))
    assert (set(still.broken), messages) == ({"asset a"}, [])

    fixed, [message] = after_run("shop", still, Outcome("r-3", fine={"asset a": 30.0}))
    assert (fixed.broken, message.is_recovery) == ({}, True)
    # A run that failed before the success, and ended after it.
    assert after_run("shop", fixed, Outcome("r-4", [Fault("asset a", "no", time=25.0)])) == (fixed, [])


def test_incidents_of_removed_assets_and_old_ones_end_without_a_message() -> None:
    faults = [Fault("asset a", "no", 100.0, "a"), Fault("asset b", "no", 100.0, "b"), Fault("step s", "no", 100.0)]
    incidents, _ = after_run("shop", Incidents(), Outcome("r-1", faults))

    assert incidents.without_removed({"a"}, set(), 200.0).broken.keys() == {"asset a", "step s"}
    assert incidents.without_removed({"a"}, set(), 100.0 + 31 * 86_400).broken == {}


def test_a_message_that_a_service_refuses_does_not_hold_up_the_others(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel())
    webhook.refused = "asset orders failed"

    shop.run(failed=broken())
    shop.run(failed=broken("stores"))
    for _ in range(3):
        assert shop.tick().startswith("sent: 0, pending: 2")
    assert shop.tick().startswith("sent: 1, pending: 1")
    assert [message["title"] for message in webhook.messages] == [
        *4 * ["shop-orders: asset orders failed"],
        "shop-orders: asset stores failed",
    ]


def test_messages_keep_their_order_when_one_is_refused(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel())
    shop.run(failed=broken())
    shop.run(built())
    shop.run(failed=broken("stores"))
    webhook.status = 503
    shop.tick()
    webhook.status = 200
    shop.tick()

    assert titles(webhook)[1:] == ["asset orders failed", "asset orders works again", "asset stores failed"]


def test_several_urls_and_credentials_in_logs_are_refused(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = Shop(tmp_path, instance, channel())
    shop.run(failed=broken())

    for value in (f"{webhook.url}, {webhook.url}", "slack://SECRETA/SECRETB/", "https://hooks.example.com/SECRETC"):
        monkeypatch.setenv("ALERTS", value)
        with caplog.at_level("DEBUG"):
            said = shop.tick()
        assert "ALERTS is not one URL that Apprise knows" in said
        assert "SECRET" not in said + caplog.text + str(shop.cursor)
    assert webhook.messages == []


def test_credentials_in_messages_are_masked(tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook) -> None:
    shop = Shop(tmp_path, instance, channel())
    row = {"file": "a.sql", "failed": "model orders: no, password=hunter2secret", "node": "model.shop.orders"}

    shop.run(failed={"failed": dg.MetadataValue.table([dg.TableRecord(row)])})
    shop.tick()

    assert "hunter2secret" not in webhook.messages[0]["message"]


def test_other_assets_of_a_run_are_not_those_of_the_product(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path, instance, channel())
    foreign = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("foreign"),
        check_name="c",
        passed=False,
        metadata={},
        severity=dg.AssetCheckSeverity.ERROR,
    )

    shop.run(foreign, built())
    assert shop.tick() == "sent: 0, pending: 0, open incidents: 0."


# --- partitions -----------------------------------------------------------------------------------------------------

DAYS: Json = {"partitions": [{"select": "orders", "type": "daily", "start": "2026-01-01"}]}
RANGE: Json = {
    "dagster/asset_partition_range_start": "2026-01-01",
    "dagster/asset_partition_range_end": "2026-01-02",
}


def day(number: int) -> Json:
    """Make the tag of a run of a partition."""
    return {"dagster/partition": f"2026-01-0{number}"}


def built_day(number: int) -> dg.AssetMaterialization:
    """Make the event of a built partition."""
    return dg.AssetMaterialization("orders", partition=f"2026-01-0{number}", metadata={"status": "success"})


def checked_day(number: int, *, passed: bool) -> dg.AssetCheckEvaluation:
    """Make the event of a test of a partition."""
    return checked(passed=passed, partition=f"2026-01-0{number}")


def titles(webhook: Webhook) -> list[str]:
    """Return the titles of the messages that a webhook has received."""
    return [message["title"].removeprefix("shop-orders: ") for message in webhook.messages]


has_partitioned_checks = pytest.mark.skipif(
    "partition" not in inspect.signature(dg.AssetCheckEvaluation.__new__).parameters,
    reason="checks have no partitions before Dagster 1.13",
)


@has_partitioned_checks
def test_a_check_of_all_partitions_has_one_incident(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel(), **DAYS)
    for number in (1, 2):
        shop.run(checked(passed=False), **day(number))
    shop.run(checked(passed=True), **day(3))
    shop.tick()

    assert titles(webhook) == ["check unique_id of orders failed", "check unique_id of orders works again"]


@has_partitioned_checks
def test_a_check_of_a_partition_ends_with_the_success_of_a_run_of_several(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel(), **DAYS)
    shop.run(checked_day(2, passed=False), **day(2))
    shop.run(checked_day(1, passed=True), checked_day(2, passed=True), **RANGE)
    shop.tick()

    subject = "check unique_id of orders (partition 2026-01-02)"
    assert titles(webhook) == [f"{subject} failed", f"{subject} works again"]


@has_partitioned_checks
def test_each_failure_of_a_run_of_several_partitions_is_one_message(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel(), **DAYS)
    later = checked_day(2, passed=False)
    for _ in range(2):
        shop.run(checked_day(1, passed=False), later, **RANGE)
    assert shop.tick() == "sent: 2, pending: 0, open incidents: 0."

    assert titles(webhook) == 2 * ["check unique_id of orders (partitions 2026-01-01 to 2026-01-02) failed"]
    assert "select 1" in webhook.messages[0]["message"]


def test_an_asset_of_a_partition_ends_with_the_success_of_a_run_of_several(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel(), **DAYS)
    shop.run(failed=broken(), **day(2))
    shop.run(failed=broken(), **RANGE)
    shop.run(built_day(1), built_day(2), **RANGE)
    shop.tick()

    assert titles(webhook) == [
        "asset orders (partition 2026-01-02) failed",
        "asset orders (partitions 2026-01-01 to 2026-01-02) failed",
        "asset orders (partition 2026-01-02) works again",
    ]


# --- late data ------------------------------------------------------------------------------------------------------

has_freshness_policies = pytest.mark.skipif(
    not hasattr(getattr(dg, "FreshnessPolicy", None), "time_window"), reason="no such policies before Dagster 1.12"
)


def report_state(instance: dg.DagsterInstance, state: str, name: str = "orders") -> None:
    """Report a state of a freshness policy, as Dagster's daemon does."""
    freshness = importlib.import_module("dagster._core.definitions.freshness")
    states = freshness.FreshnessState
    change = freshness.FreshnessStateChange(
        key=dg.AssetKey(name.split("/")),
        previous_state=states.UNKNOWN,
        new_state=states[state],
        state_change_timestamp=datetime.now(tz=timezone.utc).timestamp(),
    )
    instance._report_runless_asset_event(change)


class TimelyShop(Shop):
    """A product whose model has a freshness policy that warns, and a source with a policy and a freshness check."""

    limits: Json = {"warn_after": {"count": 1, "period": "hour"}, "error_after": {"count": 1, "period": "day"}}  # noqa: RUF012
    nodes = ({**ORDERS, "config": {**ORDERS["config"], "freshness": limits}}, node("stores"))
    sources = (source("erp", "o", freshness=limits),)


class ManyTimelyShop(Shop):
    """A product with many models, each with a freshness policy."""

    nodes = tuple(node(f"m{row}", config={"freshness": TimelyShop.limits}) for row in range(13))


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the SQL statements of Dagster's storages."""
    executed: list[str] = []

    def collect(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        executed.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", collect)
    try:
        yield executed
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", collect)


@has_freshness_policies
def test_a_late_model_is_one_message_and_its_recovery_another(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = TimelyShop(tmp_path, instance, channel(severity="warning"))
    last = shop.run(built())
    report_state(instance, "PASS")
    shop.tick()
    assert webhook.messages == []

    report_state(instance, "WARN")
    shop.tick()
    report_state(instance, "FAIL")
    for _ in range(3):
        shop.tick()
    assert [message["title"] for message in webhook.messages] == [
        "shop-orders: freshness of orders warns",
        "shop-orders: freshness of orders failed",
    ]
    assert f"Run: {PAGE}{last}" in webhook.messages[1]["message"]
    assert re.search(r"It was built last at \d{4}-\d\d-\d\d \d\d:\d\d UTC, which", webhook.messages[1]["message"])

    rebuilt = shop.run(built())
    report_state(instance, "PASS")
    for _ in range(2):
        assert shop.tick().endswith("open incidents: 0.")
    assert [message["title"] for message in webhook.messages[2:]] == ["shop-orders: freshness of orders works again"]
    assert webhook.messages[2]["message"] == f"Run: {PAGE}{rebuilt}"

    report_state(instance, "FAIL")
    shop.tick()
    assert len(webhook.messages) == 4


@has_freshness_policies
@pytest.mark.parametrize("late", ["stores", "erp/o"])
def test_only_policies_without_a_check_in_the_products_job_are_reported(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook, late: str
) -> None:
    shop = TimelyShop(tmp_path, instance, channel(), source_freshness="in_product_job")
    report_state(instance, "FAIL", late)

    assert shop.tick() == "sent: 0, pending: 0, open incidents: 0."
    assert webhook.messages == []


@has_freshness_policies
def test_a_late_source_is_reported_if_its_check_runs_on_demand(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = TimelyShop(tmp_path, instance, channel())
    report_state(instance, "FAIL", "erp/o")
    shop.tick()

    assert titles(webhook) == ["freshness of erp/o failed"]


@has_freshness_policies
def test_late_data_that_was_reported_without_a_run_names_none(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    """As by *Report materialization* in Dagster's UI."""
    shop = TimelyShop(tmp_path, instance, channel())
    for state in ("FAIL", "PASS"):
        instance.report_runless_asset_event(built())
        report_state(instance, state)
        shop.tick()

    late, fresh = (message["message"] for message in webhook.messages)
    assert late.startswith("```text\nIt was built last at ")
    assert fresh == "It was reported without a run."


@has_freshness_policies
def test_data_that_is_less_late_is_reported_to_the_same_channels_when_it_recovers(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = TimelyShop(tmp_path, instance, channel())
    shop.run(built())
    for state in ("FAIL", "WARN", "FAIL", "WARN", "PASS"):
        report_state(instance, state)
        shop.tick()

    assert titles(webhook) == ["freshness of orders failed", "freshness of orders works again"]


@has_freshness_policies
def test_late_data_ends_without_a_message_when_its_materializations_are_wiped(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = TimelyShop(tmp_path, instance, channel())
    shop.run(built())
    report_state(instance, "FAIL")
    assert shop.tick() == "sent: 1, pending: 0, open incidents: 1."

    instance.wipe_assets([dg.AssetKey("orders")])
    report_state(instance, "UNKNOWN")

    assert shop.tick() == "sent: 0, pending: 0, open incidents: 0."
    assert len(webhook.messages) == 1


@has_freshness_policies
def test_many_late_models_need_no_more_queries_than_one(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = ManyTimelyShop(tmp_path, instance, channel())
    shop.run(*(built(f"m{row}") for row in range(13)))
    shop.tick()
    counts = []
    for rows in (range(1), range(1, 13)):
        for row in rows:
            report_state(instance, "FAIL", f"m{row}")
        with statements() as executed:
            shop.tick()
        counts.append(len(executed))

    assert counts[0] == counts[1] > 0
    assert [message["title"] for message in webhook.messages] == [
        "shop-orders: freshness of m0 failed",
        "shop-orders: 12 messages",
    ]


@has_freshness_policies
def test_late_data_ends_without_a_message_when_its_policy_is_removed(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = TimelyShop(tmp_path / "before", instance, channel())
    shop.run(built())
    report_state(instance, "FAIL")
    assert shop.tick() == "sent: 1, pending: 0, open incidents: 1."

    changed = Shop(tmp_path / "after", instance, channel())
    changed.cursor = shop.cursor
    assert changed.tick() == "sent: 0, pending: 0, open incidents: 0."
    assert len(webhook.messages) == 1


@has_freshness_policies
def test_data_that_was_late_before_the_first_tick_sends_nothing(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    report_state(instance, "FAIL")

    shop = TimelyShop(tmp_path, instance, channel())

    assert shop.tick() == "sent: 0, pending: 0, open incidents: 0."
    assert webhook.messages == []


# --- many messages --------------------------------------------------------------------------------------------------


def test_an_outage_with_many_failures_ends_with_few_messages_that_name_each_once(
    tmp_path: Path, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    shop = Shop(tmp_path, instance, channel())
    webhook.status = 503
    for _ in range(8):  # each is a failure and a recovery
        run = shop.run(failed=broken())
        shop.run(built())
        shop.tick()
    refused = len(webhook.messages)
    shop.run(failed=broken("stores"))

    webhook.status = 200
    shop.tick()

    sent = webhook.messages[refused:]
    assert len(sent) == 6
    assert [message["title"] for message in sent if "messages" in message["title"]] == ["shop-orders: 12 messages"]
    listed = "\n".join(message["message"] for message in sent if "messages" in message["title"])
    single = [message["title"] for message in sent if "messages" not in message["title"]]
    titles = [line for line in listed.splitlines() if line.startswith("- ")] + single
    assert sum("asset orders failed" in title for title in titles) == 8
    assert sum("asset orders works again" in title for title in titles) == 8
    assert sum("asset stores failed" in title for title in titles) == 1
    assert f"Run: {PAGE}{run}" in "\n".join(message["message"] for message in sent)
    assert single[-2:] == ["shop-orders: asset orders works again", "shop-orders: asset stores failed"]
    assert shop.tick().startswith("sent: 0, pending: 0, open incidents: 1.")


def test_a_message_about_hundreds_has_what_fits_and_the_number_of_the_others() -> None:
    single = [Message(f"shop: asset m{row} failed", "", run="r1", owners=("a",)) for row in range(300)]

    first = as_one("shop", single)
    both = as_one("shop", [first, Message("shop: job j failed", "", run="r2", owners=("b",))])

    assert (first.title, both.title) == ("shop: 300 messages", "shop: 301 messages")
    assert both.body.startswith("Run: r2\n- job j failed\nRun: r1\n- asset m299 failed\n- asset m298 failed\n")
    shown = both.body.count("\n- ")
    assert both.body.endswith(f"\nand {301 - shown} more, see the runs in Dagster")
    assert len(both.body) < 1_600
    assert both.owners == ("a", "b")


def test_a_message_about_several_has_what_is_still_broken_first() -> None:
    ended = [("asset a", "failed"), ("asset b", "failed"), ("asset a", "works again"), ("asset c", "warns")]

    found = as_one("shop", [Message(f"shop: {subject} {what}", "", run="r") for subject, what in ended])

    assert found.body == "Run: r\n- asset c warns\n- asset b failed\n- asset a works again\n- asset a failed"


def test_a_message_about_several_separates_those_without_a_run() -> None:
    runs = {"a": "", "b": "", "c": "r"}

    found = as_one("shop", [Message(f"shop: asset {name} failed", "", run=run) for name, run in runs.items()])

    assert found.body == "Run: r\n- asset c failed\nWithout a run:\n- asset b failed\n- asset a failed"


def test_names_in_a_list_of_messages_are_no_markup() -> None:
    found = as_one("shop", [Message("shop: asset days (partition a](http://x) *\n# b) failed", "", run="r")])

    assert found.body == "Run: r\n- asset days (partition a\\](http://x) \\* # b) failed"


# --- floe's alert channel plugins -----------------------------------------------------------------------------------

PAGER = """
import json
import os
from pathlib import Path
from floe_core.plugins.alert_channel import AlertChannelPlugin
from pydantic import BaseModel

class Settings(BaseModel):
    room: str

class Plugin(AlertChannelPlugin):
    name, version, floe_api_version = "pager", "1.0.0", "1.0"
    def get_config_schema(self):
        return Settings
    def configure(self, config):
        self.room = config.room
    def validate_config(self):
        return [] if "PAGER_TOKEN" in os.environ else ["PAGER_TOKEN is not set"]
    async def send_alert(self, event):
        with Path(os.environ["PAGER_FILE"]).open("a") as file:
            file.write(json.dumps({"room": self.room, **event.model_dump(mode="json")}) + "\\n")
        return os.environ["PAGER_TOKEN"] != "expired"
"""
# As floe's own plugins, its class takes the settings as arguments.
HOOK = """
import asyncio
import json
import logging
import time
import urllib.request
from pathlib import Path
from floe_core.plugins.alert_channel import AlertChannelPlugin

class Plugin(AlertChannelPlugin):
    name, version, floe_api_version = "hook", "1.0.0", "1.0"
    def __init__(self, *, webhook_url: str = "", room: str = "", until: str = "", error: str = "") -> None:
        super().__init__()
        self._url, self._room, self._until, self._error = webhook_url, room, until, error
    def validate_config(self):
        if not self._url.startswith("http"):
            return [f"{self._url} is not an address; write it like https://hooks.example.com/T0/B0/SECRET"]
        return []
    async def send_alert(self, event):
        logging.getLogger("httpx").info("HTTP Request: POST %s", self._url)
        if self._error:
            raise getattr(asyncio, self._error)
        while self._until and not Path(self._until).exists():
            time.sleep(0.01)
        body = json.dumps({"title": event.message, "room": self._room}).encode()
        with urllib.request.urlopen(urllib.request.Request(self._url, data=body)) as answer:
            return answer.status == 200
"""


def _install(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> None:
    site = directory / f"site_{name}"
    installed = site / f"{name}-1.0.dist-info"
    installed.mkdir(parents=True)
    (site / f"{name}_channel.py").write_text(source, encoding="utf-8")
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[floe.alert_channels]\n{name} = {name}_channel:Plugin\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, f"{name}_channel", raising=False)


@pytest.fixture
def pager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install an alert channel plugin; return the file with the events that it gets."""
    events = tmp_path / "events.jsonl"
    _install(tmp_path, monkeypatch, "pager", PAGER)
    monkeypatch.setenv("PAGER_FILE", str(events))
    monkeypatch.setenv("PAGER_TOKEN", "hunter2")
    return events


def paged(events: Path) -> list[Json]:
    """Read the events that the plugin got."""
    return [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []


PAGED: Json = {"name": "night", "plugin": "pager", "config": {"room": "data"}, "severity": "warning"}


def test_a_plugin_of_floe_gets_each_incident_as_an_event(
    tmp_path: Path, instance: dg.DagsterInstance, pager: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floe_orchestrator_dagster.automation.alerts.sensor.find_spec", lambda _: None)
    shop = Shop(tmp_path / "shop", instance, PAGED)

    run = shop.run(failed=broken())
    shop.run(checked(passed=False, severity=dg.AssetCheckSeverity.WARN), built())
    assert shop.tick() == "sent: 3, pending: 0, open incidents: 1."

    failed, warned, recovered = (
        sorted(paged(pager), key=lambda event: event["severity"])[:1]
        + sorted(paged(pager), key=lambda event: event["severity"])[:0:-1]
    )
    assert (failed["violation_type"], failed["severity"], failed["element"]) == (
        "availability",
        "error",
        "asset orders",
    )
    assert (failed["room"], failed["contract_name"]) == ("data", "shop-orders")
    assert failed["message"] == (
        f"shop-orders: asset orders failed\n\nRun: {PAGE}{run}\n\n```text\nRuntime Error: no\n```\n\n"
        "Skipped because of it: model mart"
    )
    assert failed["affected_consumers"] == ["model mart"]
    assert failed["metadata"]["run"] == f"{PAGE}{run}"
    assert failed["metadata"]["owners"] == TEAM
    assert (warned["violation_type"], warned["severity"]) == ("quality", "warning")
    assert (recovered["severity"], recovered["metadata"]["title"]) == ("info", "shop-orders: asset orders works again")


@pytest.mark.parametrize(
    ("token", "what"),
    [("expired", "the plugin 'pager' did not deliver a message"), (None, "not configured: PAGER_TOKEN is not set")],
)
def test_a_message_that_a_plugin_does_not_deliver_is_sent_again(  # noqa: PLR0913, PLR0917
    tmp_path: Path,
    instance: dg.DagsterInstance,
    pager: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    what: str,
) -> None:
    monkeypatch.setenv("PAGER_TOKEN", token) if token else monkeypatch.delenv("PAGER_TOKEN")
    shop = Shop(tmp_path / "shop", instance, PAGED)
    shop.run(failed=broken())

    said = shop.tick()
    assert said.startswith("sent: 0, pending: 1")
    assert what in said

    monkeypatch.setenv("PAGER_TOKEN", "renewed")
    assert shop.tick() == "sent: 1, pending: 0, open incidents: 1."
    assert paged(pager)[-1]["metadata"]["title"] == "shop-orders: asset orders failed"


def test_settings_that_a_plugin_refuses_are_named_without_their_values(
    tmp_path: Path, instance: dg.DagsterInstance, pager: Path
) -> None:
    shop = Shop(tmp_path / "shop", instance, {**PAGED, "config": {"rooms": "hunter2"}})
    shop.run(failed=broken())

    said = shop.tick()
    assert "the plugin 'pager' refuses its settings: room" in said
    assert "hunter2" not in said
    assert paged(pager) == []


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, webhook: Webhook) -> Json:
    """Install a plugin without a schema; return its channel, which sends to the webhook."""
    _install(tmp_path, monkeypatch, "hook", HOOK)
    monkeypatch.setenv("HOOK_URL", webhook.url.replace("json:", "http:"))
    return {"name": "night", "plugin": "hook", "variables": {"webhook_url": "HOOK_URL"}, "config": {"room": "data"}}


def test_a_plugin_without_a_schema_gets_the_settings_of_each_channel_as_arguments(
    tmp_path: Path, instance: dg.DagsterInstance, hook: Json, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(tmp_path / "shop", instance, hook, {**hook, "name": "day", "config": {"room": "sales"}})
    shop.run(failed=broken())

    with caplog.at_level("DEBUG"):
        assert shop.tick() == "sent: 2, pending: 0, open incidents: 1."

    assert [message["room"] for message in webhook.messages] == ["data", "sales"]
    assert webhook.messages[0]["title"].startswith("shop-orders: asset orders failed\n\nRun: ")
    assert "HTTP Request" not in caplog.text


@pytest.mark.parametrize(
    ("config", "url", "what"),
    [
        (
            {"channel": "hunter2"},
            "http://a",
            "the plugin 'hook' has no setting channel; its settings are: webhook_url,",
        ),
        ({}, None, "the environment variable HOOK_URL is not set"),
        ({}, "hooks/hunter2", "not configured: *** is not an address; write it like https://hooks.example.com/***"),
        ({"error": "CancelledError"}, "http://a/hunter2", "the plugin 'hook' raised CancelledError"),
    ],
)
def test_faults_of_a_plugin_without_a_schema_are_named_without_secrets(  # noqa: PLR0913, PLR0917
    tmp_path: Path,
    instance: dg.DagsterInstance,
    hook: Json,
    monkeypatch: pytest.MonkeyPatch,
    config: Json,
    url: str | None,
    what: str,
) -> None:
    monkeypatch.setenv("HOOK_URL", url) if url else monkeypatch.delenv("HOOK_URL")
    shop = Shop(tmp_path / "shop", instance, {**hook, "config": config})
    shop.run(failed=broken())

    said = shop.tick()
    assert said.startswith("sent: 0, pending: 1")
    assert what in said
    assert "hunter2" not in said
    assert "SECRET" not in said


def test_a_plugin_that_hangs_does_not_hold_up_the_tick(
    tmp_path: Path, instance: dg.DagsterInstance, hook: Json, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("floe_orchestrator_dagster.automation.alerts.channel_plugin._SECONDS", 0.2)
    end = tmp_path / "end"
    shop = Shop(tmp_path / "shop", instance, {**hook, "config": {"until": str(end)}}, channel(name="other"))
    shop.run(failed=broken())

    assert "the plugin 'hook' did not answer within 0 s" in shop.tick()
    said = shop.tick()
    assert said.startswith("sent: 0, pending: 1, open incidents: 1.")
    assert "did not answer within 0 s, and still runs" in said
    assert len(webhook.messages) == 1  # of the other channel
    end.touch()


def test_a_plugin_must_be_installed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    with pytest.raises(ConfigError, match=r"alerts\[0\].plugin: no alert channel plugin 'pager' is installed"):
        Shop(tmp_path, instance, PAGED)


@pytest.mark.parametrize(
    ("channels", "what"),
    [
        ([{"name": "a"}], r"alerts\[0\].variable: is missing"),
        ([channel(plugin="pager")], r"alerts\[0\].variable: cannot be combined with plugin"),
        ([channel(config={"room": "a"})], r"alerts\[0\].config: is only valid with plugin"),
        ([channel(variables={"room": "A"})], r"alerts\[0\].variables: is only valid with plugin"),
        ([channel(), channel()], r"the name 'team' is used 2 times \(alerts\[0\] and alerts\[1\]\)"),
    ],
)
def test_a_channel_has_one_destination_and_its_own_name(
    tmp_path: Path, instance: dg.DagsterInstance, channels: list[Json], what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        Shop(tmp_path, instance, *channels)
