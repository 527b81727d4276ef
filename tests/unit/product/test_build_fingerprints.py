"""What the fingerprint of a build depends on besides code, and which nodes have none."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.product.build_fingerprints import BuildFingerprint, build_fingerprints
from floe_orchestrator_dagster.product.engines import EngineChoice
from floe_orchestrator_dagster.product.manifest import Manifest
from floe_orchestrator_dagster.product.profiles import Profile
from floe_orchestrator_dagster.product.trimming import trim
from floe_orchestrator_dagster.product.values import DbtConnection
from unit.product.test_fingerprints import macro
from unit.samples import manifest, node, project, source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unit.samples import Json

OUTPUT: Json = {"type": "duckdb", "path": "shop.duckdb", "schema": "{{ env_var('SCHEMA', 'main') }}", "threads": 4}


def model(name: str, code: str, *parents: str, **config: object) -> Json:
    return node(
        name,
        raw_code=code,
        depends_on={"nodes": [*parents], "macros": []},
        config={"materialized": "table", **config},
    )


def shop() -> Json:
    """Make a project in which each model reads another value."""
    return manifest(
        model("plain", "select 1"),
        model("ratio", "select {{ var('ratio') }}"),
        model("nested", "select {{ outer() }}"),
        model("inlined", "select * from {{ ref('part') }}", "model.shop.part"),
        model("part", "select {{ var('part', 1) }}", materialized="ephemeral"),
        model("any", "select {{ var(name) }}"),
        model("region", "select '{{ env_var('REGION', 'eu') }}'"),
        model("hooked", "select 2", **{"post-hook": [{"sql": "grant select to {{ var('role') }}"}]}),
        model("read", "select * from {{ source('erp', 'orders') }}", "source.shop.erp.orders"),
        node("stores", "seed", raw_code="", original_file_path="seeds/stores.csv", config={"materialized": "seed"}),
        sources=(source("erp", "orders", original_file_path="models/sources.yml"),),
        macros=dict([macro("outer", "{{ inner() }}"), macro("inner", "{{ var('tax') }}")]),
        metadata={"adapter_type": "duckdb", "project_name": "shop", "dbt_version": "1.12.6"},
    )


class Shop:
    """A dbt project on disk, and the fingerprints of its builds."""

    def __init__(self, directory: Path, content: Json) -> None:
        self.directory = project(directory, name="shop", profile="shop", vars={"ratio": 1, "shop": {"tax": 7}})
        self.write("models/sources.yml", "sources: [{name: erp, schema: \"{{ env_var('ERP', 'erp') }}\"}]")
        self.write("seeds/stores.csv", "id\n1\n")
        self.profile = Profile("shop", "dev", {"dev": OUTPUT, "prod": OUTPUT}, "dev", ())
        self.path = directory / "target" / "manifest.json"
        self.path.parent.mkdir()
        self.path.write_text(json.dumps(content))
        self.manifest = Manifest(self.path, trim(content))

    def write(self, name: str, text: str) -> None:
        path = self.directory.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def fingerprints(self, **variables: Any) -> dict[str, BuildFingerprint]:  # noqa: ANN401  # values of variables
        os.utime(self.path)
        dbt = DbtConnection(self.directory, self.profile, choice=EngineChoice("core"))
        found = build_fingerprints(self.manifest, dbt, variables)
        return {unique_id.rpartition(".")[2]: fingerprint for unique_id, fingerprint in found.items()}


@pytest.fixture
def of_shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, shop())


def test_each_node_has_a_fingerprint_that_is_the_same_again(of_shop: Shop) -> None:
    found = of_shop.fingerprints()

    assert len({fingerprint.value for fingerprint in found.values()}) == len(found) == 10
    assert {fingerprint.doubt for fingerprint in found.values()} == {""}
    assert of_shop.fingerprints() == found


def set_variable(name: str, value: str) -> Callable[[Shop, pytest.MonkeyPatch], dict[str, BuildFingerprint]]:
    def change(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> dict[str, BuildFingerprint]:
        monkeypatch.setenv(name, value)
        return shop.fingerprints()

    return change


def write(name: str, text: str) -> Callable[[Shop, pytest.MonkeyPatch], dict[str, BuildFingerprint]]:
    def change(shop: Shop, _monkeypatch: pytest.MonkeyPatch) -> dict[str, BuildFingerprint]:
        shop.write(name, text)
        return shop.fingerprints()

    return change


def output(target: str = "dev", **fields: object) -> Callable[[Shop, pytest.MonkeyPatch], dict[str, BuildFingerprint]]:
    def change(shop: Shop, _monkeypatch: pytest.MonkeyPatch) -> dict[str, BuildFingerprint]:
        shop.profile = replace(shop.profile, target=target, outputs={target: {**OUTPUT, **fields}})
        return shop.fingerprints()

    return change


def project_file(variables: object) -> str:
    return json.dumps({"name": "shop", "profile": "shop", "vars": variables})


ALL = {*("plain", "ratio", "nested", "inlined", "part", "any", "region", "hooked", "read", "stores")}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda shop, _: shop.fingerprints(ratio=2), {"ratio", "any"}),
        (lambda shop, _: shop.fingerprints(tax=2), {"nested", "any"}),
        (lambda shop, _: shop.fingerprints(part=2), {"inlined", "part", "any"}),
        (lambda shop, _: shop.fingerprints(role="x"), {"hooked", "any"}),
        (lambda shop, _: shop.fingerprints(unread=1), {"any"}),
        (write("dbt_project.yml", project_file({"ratio": 2, "shop": {"tax": 7}})), {"ratio", "any"}),
        (write("dbt_project.yml", project_file({"ratio": 1, "shop": {"tax": 8}})), {"nested", "any"}),
        (write("vars.yml", "vars: {tax: 9}"), {"nested", "any"}),
        (write("dbt_packages/tools/dbt_project.yml", "vars: {tax: 9}"), {"nested", "any"}),
        (set_variable("REGION", "us"), {"region"}),
        (set_variable("ERP", "erp2"), {"read"}),
        (set_variable("SCHEMA", "other"), ALL),
        (set_variable("UNREAD", "1"), set()),
        (write("seeds/stores.csv", "id\n2\n"), {"stores"}),
        (output(threads=8), set()),
        (output(token="new"), set()),  # noqa: S106  # not a credential
        (output(path="other.duckdb"), ALL),
        (output("prod"), ALL),
    ],
)  # fmt: skip
def test_a_value_changes_the_nodes_that_read_it(
    of_shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Shop, pytest.MonkeyPatch], dict[str, BuildFingerprint]],
    names: set[str],
) -> None:
    before = of_shop.fingerprints()
    after = change(of_shop, monkeypatch)

    assert {name for name in before if before[name] != after[name]} == names


@pytest.mark.parametrize(
    ("changed", "doubt"),
    [
        (model("m", "{% set x = run_query('select 1') %} select 1"), "it depends on run_query"),
        (model("m", "select {{ dbt_utils.get_column_values(ref('a'), 'b') }}"), "it depends on get_column_values"),
        (model("m", "select '{{ run_started_at }}{{ thread_id }}'"), "it depends on run_started_at, thread_id"),
        (model("m", "select '{{ modules.datetime.datetime.now() }}'"), "it depends on modules.datetime"),
        (model("m", "select {{ adapter.get_relation(a, b, c) }}"), "it depends on adapter.get_relation"),
        (model("m", "{% if flags.FULL_REFRESH %}select 1{% endif %}"), "it depends on flags"),
        (model("m", "select * from read_csv('a.csv')"), "it depends on read_csv"),
        (model("m", "select * from 'a.parquet'"), "it depends on a file"),
        (model("m", "select * from raw.orders"), "it depends on the table raw.orders, which dbt does not know"),
        (model("m", "select * from {{ this }}"), "it depends on its own table"),
        (model("m", "select {{ queried() }}"), "it depends on run_query"),
        (model("m", "select {{ env_var(name) }}"), "it reads environment variables whose names are computed"),
        ({**model("m", "def model(dbt, session): ..."), "language": "python"}, "it depends on Python code"),
        (model("m", "select 1", materialized="ledger"), "it depends on the project's materialization ledger"),
        (
            node("m", "seed", raw_code="", original_file_path="seeds/m.csv"),
            "its file cannot be read (No such file or directory)",
        ),
    ],
)  # fmt: skip
def test_a_node_whose_rows_are_not_determined_is_built(tmp_path: Path, changed: Json, doubt: str) -> None:
    content = shop()
    content["nodes"][changed["unique_id"]] = changed
    content["macros"].update([macro("queried", "{{ run_query('select 1') }}"), macro("materialization_ledger_default")])
    content["parent_map"][changed["unique_id"]] = []

    found = Shop(tmp_path, content).fingerprints()

    assert found.pop("m") == BuildFingerprint(doubt=doubt)
    assert {fingerprint.doubt for fingerprint in found.values()} == {""}


@pytest.mark.parametrize(
    "code",
    [
        "select {{ adapter.quote('a') }}, {{ adapter.dispatch('outer')() }}",
        "select * from {{ this }} {% if is_incremental() %}where a > (select max(a) from {{ this }}){% endif %}",
        "select {{ modules.re.sub('a', 'b', 'c') }}",
    ],
)
def test_a_node_whose_rows_are_determined_has_a_fingerprint(tmp_path: Path, code: str) -> None:
    content = shop()
    content["nodes"]["model.shop.m"] = model("m", code, materialized="incremental")
    content["parent_map"]["model.shop.m"] = []

    assert not Shop(tmp_path, content).fingerprints()["m"].doubt


def test_nothing_has_a_fingerprint_when_the_project_is_newer_than_its_manifest(of_shop: Shop) -> None:
    of_shop.fingerprints()
    os.utime(of_shop.path, (1, 1))
    dbt = DbtConnection(of_shop.directory, of_shop.profile, choice=EngineChoice("core"))

    found = build_fingerprints(of_shop.manifest, dbt, {})

    assert {fingerprint.doubt for fingerprint in found.values()} == {"the dbt project is newer than its manifest"}
