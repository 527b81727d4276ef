"""A real daemon tells people about a broken model and its recovery, by e-mail and to a webhook, each once."""

from __future__ import annotations

import email
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from aiosmtpd.controller import Controller

from e2e.servers import DagsterDev, answers, dagster_home, free_port, server, wait_until
from e2e.shop import LOCATION, ended, eventually, launch
from files import write_files
from floe_orchestrator_dagster.product import load_product, manifest_rebuilt
from unit.samples import contract, model, write_json
from webhook import Webhook, receiving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path

    from aiosmtpd.smtp import SMTP, Envelope, Session

# The daemon retries a failed run once. That is one failure.
INSTANCE = "run_retries: {enabled: true, max_retries: 1}\n"
CONFIG = {
    "executor": "in_process",
    "alerts": [
        {"name": "platform", "variable": "PLATFORM_ALERTS"},
        {"name": "finance", "variable": "FINANCE_ALERTS", "owners": ["finance@example.com"]},
    ],
}
FILES = {
    "dbt_project.yml": "{name: shop_orders, profile: shop_orders, version: '1.0'}",
    "models/orders.sql": "{{ config(materialized='table') }} select * from read_csv('orders.csv')",
    "models/mart.sql": "select * from {{ ref('orders') }}",
    "models/other.sql": "{{ config(materialized='table') }} select * from read_csv('other.csv')",
    "models/schema.yml": """
        models:
          - {name: orders, config: {meta: {dagster: {owners: [finance@example.com]}}}}
          - {name: other, config: {meta: {dagster: {owners: [sales@example.com]}}}}
        """,
}
TICKS = """{
  sensorsOrError(repositorySelector: {repositoryLocationName: "%s", repositoryName: "__repository__"}) {
    ... on Sensors { results { name sensorState { ticks(limit: 100) { id status skipReason } } } }
  }
}"""


@dataclass
class Mailbox:
    """The received mails.

    Attributes:
        mails: The mails.
        is_open: Whether mails are accepted.
    """

    mails: list[Message] = field(default_factory=list)
    is_open: bool = True

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a mail, as aiosmtpd asks."""
        if not self.is_open:
            return "451 try again later"
        self.mails.append(email.message_from_bytes(envelope.content or b""))  # type: ignore[arg-type]
        return "250 OK"


@dataclass(frozen=True)
class AlertingShop:
    """A running product whose messages arrive here."""

    dev: DagsterDev
    webhook: Webhook
    mailbox: Mailbox

    def run(self, **tags: str) -> str:
        """Run the product's job with tags of Dagster's own; return the id of the run."""
        run_id = launch(self.dev, "shop_orders", **tags)
        ended(self.dev, run_id)
        return run_id

    def ticks(self) -> list[str]:
        """Return what the ticks of the sensor show, the newest first."""
        [sensor] = self.dev.graphql(TICKS % LOCATION)["sensorsOrError"]["results"]
        return [str(tick["skipReason"]) for tick in sensor["sensorState"]["ticks"]]

    def titles(self) -> tuple[list[str], list[str]]:
        """Return the titles of the webhook's messages and of the mails."""
        return (
            [str(message["title"]) for message in self.webhook.messages],
            [str(mail["Subject"]) for mail in self.mailbox.mails],
        )


def text_of(mail: Message) -> str:
    """Return the text of a mail, which it also has as HTML."""
    [text] = [part for part in mail.walk() if part.get_content_type() == "text/plain"]
    content = text.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[AlertingShop]:
    """Serve a product of which two models cannot be built, after the first tick of the sensor."""
    project = write_files(tmp_path / "shop", FILES)
    content = contract(model("orders"), model("mart", "orders"), model("other"), config=CONFIG)
    artifacts = write_json(project / "compiled_artifacts.json", content)
    load_product(artifacts, manifest_source=manifest_rebuilt)
    home, log, port = dagster_home(tmp_path / "home", INSTANCE), tmp_path / "dagster_dev.log", free_port()
    dev, mailbox, smtp = DagsterDev(f"http://127.0.0.1:{port}", project, log), Mailbox(), free_port()
    mail = Controller(mailbox, hostname="127.0.0.1", port=smtp)
    mail.start()
    try:
        with receiving() as webhook:
            environment = {
                "FLOE_ARTIFACTS_PATH": str(artifacts),
                "DAGSTER_HOME": str(home),
                "PLATFORM_ALERTS": webhook.url,
                "FINANCE_ALERTS": f"mailto://127.0.0.1:{smtp}?from=floe@example.com&to=finance@example.com&mode=insecure",
            }
            arguments = ["-m", LOCATION, "--host", "127.0.0.1", "--port", str(port)]
            with server("dev", *arguments, log=log, **environment) as process:
                wait_until(lambda: answers(dev), 600, process, log)
                running = AlertingShop(dev, webhook, mailbox)
                eventually(dev, lambda: bool(running.ticks()))
                yield running
    finally:
        mail.stop()


def test_broken_models_are_one_message_each_and_their_recovery_another(shop: AlertingShop) -> None:
    shop.mailbox.is_open = False
    shop.run()
    eventually(shop.dev, lambda: len(shop.webhook.messages) == 2)
    # The mail server is down, so the mail waits. The failure of the same models sends nothing.
    shop.run(max_retries="0")
    shop.mailbox.is_open = True
    eventually(shop.dev, lambda: len(shop.mailbox.mails) == 1)
    (shop.dev.project / "orders.csv").write_text("id\n1\n", encoding="utf-8")
    (shop.dev.project / "other.csv").write_text("id\n1\n", encoding="utf-8")
    mended = shop.run()
    eventually(shop.dev, lambda: len(shop.mailbox.mails) == 2)
    passed = len(shop.ticks())
    eventually(shop.dev, lambda: len(shop.ticks()) > passed)

    posted, mailed = shop.titles()
    orders, other = "shop-orders: asset orders", "shop-orders: asset other"
    assert sorted(posted) == [f"{orders} failed", f"{orders} works again", f"{other} failed", f"{other} works again"]
    assert mailed == [f"{orders} failed", f"{orders} works again"]
    broken, recovered = (text_of(mail) for mail in shop.mailbox.mails)
    assert "Skipped because of it: model mart" in broken
    assert f"Run: {mended}" in recovered
    [failed] = re.findall(r"^Run: (\S+)", broken, re.MULTILINE)
    assert f"It failed first in: {failed}" in recovered
    assert shop.ticks()[0] == "sent: 0, pending: 0, open incidents: 0."
