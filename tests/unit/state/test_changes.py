"""Comparison with a published state: changed nodes with reasons, nodes downstream, tests, removed nodes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from floe_orchestrator_dagster.product import load_product
from floe_orchestrator_dagster.product.fingerprints import FINGERPRINT_FORMAT
from floe_orchestrator_dagster.state.changes import StateChanges, changes_since, state_fingerprints
from floe_orchestrator_dagster.state.published import PublishedState
from unit.dbt_shop import depends_on, write_dbt_shop
from unit.odd_products import unit_test
from unit.samples import node, write_json
from unit.state.test_sets import FACTS

if TYPE_CHECKING:
    from pathlib import Path

    from unit.samples import Json

SEED, STG, HIDDEN, MART, WIDE = (
    "seed.shop.raw",
    "model.shop.stg",
    "model.shop.hidden",
    "model.shop.mart",
    "model.shop.wide",
)

ADDS_UP = "unit_test.shop.stg.adds-up"


class Compared:
    """A product, and the state of production, which has the same code at first."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.artifacts = directory / "shop", write_dbt_shop(directory / "shop")
        self.publish()

    def publish(self) -> None:
        """Publish the project as it is."""
        directory = self.directory.parent
        dbt = load_product(self.artifacts).dbt
        assert dbt is not None
        manifest = directory / "manifest.json"
        shutil.copyfile(dbt.manifest.path, manifest)
        facts = {**vars(FACTS), "fingerprint_format": FINGERPRINT_FORMAT, "fingerprints": state_fingerprints(dbt)}
        self.state = PublishedState(**facts, manifest=manifest, run_results=directory / "run_results.json")

    def edit(self, **nodes: Json | None) -> None:
        """Change, add or remove nodes of the manifest, by name."""
        path = self.directory / "target" / "manifest.json"
        content = json.loads(path.read_text())
        for name, fields in nodes.items():
            unique_id = next((key for key in content["nodes"] if key.split(".")[-1] == name), f"model.shop.{name}")
            if fields is None:
                del content["nodes"][unique_id]
                for relatives in (content["parent_map"], content["child_map"]):
                    relatives.pop(unique_id, None)
                    for found in relatives.values():
                        found[:] = [one for one in found if one != unique_id]
            else:
                content["nodes"][unique_id] = {**content["nodes"].get(unique_id, node(name)), **fields}
        write_json(path, content)

    def changes(self, **built_sources: str) -> StateChanges:
        """Compare; the arguments name the builders of sources' tables."""
        sources = {f"source.shop.erp.{name}": builder for name, builder in built_sources.items()}
        return changes_since(load_product(self.artifacts), self.state, sources)


@pytest.fixture
def compared(tmp_path: Path) -> Compared:
    return Compared(tmp_path)


def test_same_code_has_no_changes(compared: Compared) -> None:
    assert compared.changes() == StateChanges({}, {}, (MART, STG, WIDE, SEED), (), {}, ())


def test_changed_model_has_a_reason_and_readers_also_through_ephemeral_models(compared: Compared) -> None:
    compared.edit(stg={"raw_code": "select 2"})

    found = compared.changes()

    assert found.changed == {STG: "its code has changed"}
    assert found.downstream == {MART: "reads hidden", WIDE: "reads hidden"}
    assert found.unchanged == (SEED,)
    assert found.tests == {"test.shop.unique_mart": "reads mart", "test.shop.unique_stg": "reads stg"}


def test_a_model_that_only_dbt_calls_modified_is_named(compared: Compared) -> None:
    compared.edit(stg={"raw_code": "select 1"})
    compared.publish()
    compared.edit(stg={"raw_code": "select 1  -- one"}, mart={"raw_code": "select 2"})

    found = compared.changes()

    assert found.changed == {MART: "its code has changed"}
    note = "dbt's `state:modified` also selects nodes whose comments or whitespace differ: stg."
    assert found.notes == (note,)


def test_changed_ephemeral_model_changes_its_readers(compared: Compared) -> None:
    compared.edit(hidden={"raw_code": "select 2"})

    reason = "ephemeral models that it reads have changed: hidden"
    assert compared.changes().changed == {MART: reason, WIDE: reason}


def test_changed_setting_is_named(compared: Compared) -> None:
    compared.edit(mart={"config": {"materialized": "incremental", "enabled": True, "tags": ["new"]}})

    assert compared.changes().changed == {MART: "its settings have changed: materialized"}


def test_new_and_changed_tests_run(compared: Compared) -> None:
    compared.edit(unique_mart={"column_name": "other"})

    assert compared.changes().tests == {"test.shop.unique_mart": "has changed"}


def test_tests_that_can_read_variables_run_after_a_change_of_one(compared: Compared) -> None:
    compared.edit(unique_mart={"raw_code": "select 1 where 1 > {{ var('max_age') }}"})
    project = compared.directory / "dbt_project.yml"
    settings = yaml.safe_load(project.read_text(encoding="utf-8"))
    project.write_text(yaml.safe_dump({**settings, "vars": {"max_age": 10}}), encoding="utf-8")
    compared.edit()
    compared.publish()
    assert compared.changes().tests == {}

    project.write_text(yaml.safe_dump({**settings, "vars": {"max_age": 20}}), encoding="utf-8")
    compared.edit()
    assert compared.changes().tests == {"test.shop.unique_mart": "has changed"}


def test_a_new_unit_test_changes_its_model_because_dbt_runs_both_together(compared: Compared) -> None:
    path = compared.directory / "target" / "manifest.json"
    content = json.loads(path.read_text())
    fields = unit_test("adds-up", "stg")
    content["unit_tests"] = {ADDS_UP: {**fields, "unique_id": ADDS_UP, "depends_on": depends_on(STG)}}
    content["parent_map"][ADDS_UP] = [STG]
    write_json(path, content)

    found = compared.changes()

    assert found.changed == {STG: "its unit test stg.adds-up is new"}
    assert found.downstream == {}  # its rows are the same
    assert found.unchanged == (MART, WIDE, SEED)
    assert found.tests == {ADDS_UP: "is new", "test.shop.unique_stg": "reads stg"}
    without = changes_since(load_product(compared.artifacts), compared.state, disabled=frozenset({ADDS_UP}))
    assert (without.changed, without.tests) == ({}, {})
    compared.edit(raw={"config": {"materialized": "seed", "enabled": True, "delimiter": ";"}})
    found = compared.changes()
    assert found.changed.keys() == {SEED, STG}
    assert found.downstream == {MART: "reads hidden", WIDE: "reads hidden"}


def test_new_and_removed_models_are_listed(compared: Compared) -> None:
    compared.edit(more={"depends_on": depends_on(STG)}, wide=None)

    found = compared.changes()

    assert (found.changed, found.removed) == ({"model.shop.more": "is new"}, (WIDE,))


def test_change_of_a_node_that_builds_the_table_of_a_source_reaches_its_readers(compared: Compared) -> None:
    compared.edit(wide={"raw_code": "select 2"})

    assert compared.changes().downstream == {}
    assert compared.changes(orders=WIDE).downstream == {STG: "reads wide", MART: "reads hidden"}


def test_table_without_a_fingerprint_counts_as_changed(compared: Compared) -> None:
    known = {key: value for key, value in compared.state.fingerprints.items() if key != MART}
    compared.state = replace(compared.state, fingerprints=known)

    assert compared.changes().changed == {MART: "production has not recorded a build of its deployed code"}


def test_another_version_of_the_fingerprints_changes_everything(compared: Compared) -> None:
    compared.state = replace(compared.state, fingerprint_format=FINGERPRINT_FORMAT + 1, fingerprints={})
    reason = "production has another version of floe-orchestrator-dagster, whose fingerprints differ"

    found = compared.changes()

    assert found.changed == dict.fromkeys((MART, STG, WIDE, SEED), reason)
    assert found.notes == (f"Everything counts as changed: {reason}.",)
