"""Hashes of the places of tables, which a build must have in common with the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.execution.step import build_facts
from floe_orchestrator_dagster.execution.step.build_facts import Places
from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.product.fingerprints import FINGERPRINT_FORMAT
from unit.dbt_shop import write_dbt_shop

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TABLE = {"database": "d", "schema": "s", "alias": "t"}


def test_another_format_of_fingerprints_is_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise an upgrade would count as a change of the code of incremental models, which a full refresh can follow.
    dbt = load_product(write_dbt_shop(tmp_path)).dbt
    assert dbt is not None
    before = Places(dbt, 0)
    monkeypatch.setattr(build_facts, "FINGERPRINT_FORMAT", FINGERPRINT_FORMAT + 1)
    after = Places(dbt, 0)

    assert before.place(TABLE) != after.place(TABLE)
    assert before.relation(TABLE) == after.relation(TABLE)
