"""Warnings of a code server about settings, which a run's process does not repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from code_locations import reconstruct, serve
from unit.dbt_shop import write_dbt_shop

if TYPE_CHECKING:
    from pathlib import Path

WAITS = "'crm/a' is not an asset of this product"


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dbt_shop(tmp_path, {"sensors": [{"type": "asset", "name": "a", "asset": "crm/a"}]})
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(path))


def test_code_server_logs_ineffective_settings_once(caplog: pytest.LogCaptureFixture) -> None:
    assert serve().has_job("shop_orders")

    assert caplog.text.count(WAITS) == 1


def test_process_of_a_run_does_not_log_ineffective_settings(caplog: pytest.LogCaptureFixture) -> None:
    assert reconstruct().has_job("shop_orders")

    assert WAITS not in caplog.text
