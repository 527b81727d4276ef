"""Hashes of the places of tables, which a build must have in common with the last one."""

from __future__ import annotations

from dataclasses import replace
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


def test_a_database_file_behind_a_link_is_another_place_when_the_link_changes(tmp_path: Path) -> None:
    dbt = load_product(write_dbt_shop(tmp_path)).dbt
    assert dbt is not None
    link, plain = tmp_path / "current", tmp_path / "shop.duckdb"
    profile = dbt.profile
    output = {**profile.outputs[profile.target or ""], "type": "duckdb"}

    def place(path: Path) -> str:
        outputs = {profile.target or "": {**output, "path": str(path)}}
        return Places(replace(dbt, profile=replace(profile, outputs=outputs)), 0).place(TABLE)

    (tmp_path / "v1").mkdir()
    (tmp_path / "v2").mkdir()
    link.symlink_to("v1")
    first = place(link / "shop.duckdb"), place(plain)
    link.unlink()
    link.symlink_to("v2")

    assert place(link / "shop.duckdb") != first[0]
    assert place(plain) == first[1]
