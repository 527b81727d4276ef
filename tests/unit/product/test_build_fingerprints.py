"""What the fingerprint of a build depends on besides code, and which nodes have none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from floe_orchestrator_dagster.product.build_fingerprints import (
    BuildFingerprint,
    build_fingerprints,
    portable_fingerprints,
)
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

OUTPUT: Json = {
    "type": "duckdb",
    "path": "shop.duckdb",
    "schema": "{{ env_var('SCHEMA', 'main') }}",
    "threads": 4,
    "attach": [{"path": "postgres:host=erp password={{ env_var('ERP_LOGIN', '') }}", "alias": "erp"}],
}


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
        model("behind", "select * from {{ ref('thin') }}", "model.shop.thin"),
        model(
            "thin", "select * from {{ source('erp', 'orders') }}", "source.shop.erp.orders", materialized="ephemeral"
        ),
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

    def fingerprints(self) -> dict[str, BuildFingerprint]:
        dbt = DbtConnection(self.directory, self.profile, choice=EngineChoice("core"))
        found = build_fingerprints(self.manifest, dbt)
        return {unique_id.rpartition(".")[2]: fingerprint for unique_id, fingerprint in found.items()}

    def portable(self) -> dict[str, str]:
        found = portable_fingerprints(self.manifest, DbtConnection(self.directory, self.profile))
        return {unique_id.rpartition(".")[2]: fingerprint for unique_id, fingerprint in found.items()}


@pytest.fixture
def of_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("ERP_LOGIN", "the-first-one")
    return Shop(tmp_path, shop())


def test_each_node_has_a_fingerprint_that_is_the_same_again(of_shop: Shop) -> None:
    found = of_shop.fingerprints()

    assert len({fingerprint.value for fingerprint in found.values()}) == len(found) == 12
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


VARIABLES: Json = {"ratio": 1, "shop": {"tax": 7}}


def project_file(variables: object) -> str:
    return json.dumps({"name": "shop", "profile": "shop", "vars": variables})


ALL = {*("plain", "ratio", "nested", "inlined", "part", "any", "region", "hooked", "read", "stores", "behind", "thin")}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (write("dbt_project.yml", project_file({"ratio": 2, "shop": {"tax": 7}})), {"ratio", "any"}),
        (write("dbt_project.yml", project_file({"ratio": 1, "shop": {"tax": 8}})), {"nested", "any"}),
        (write("dbt_project.yml", project_file({**VARIABLES, "part": 2})), {"inlined", "part", "any"}),
        (write("dbt_project.yml", project_file({**VARIABLES, "role": "x"})), {"hooked", "any"}),
        (write("dbt_project.yml", project_file({**VARIABLES, "unread": 1})), {"any"}),
        (write("vars.yml", "vars: {tax: 9}"), {"nested", "any"}),
        (write("dbt_packages/tools/dbt_project.yml", "vars: {tax: 9}"), {"nested", "any"}),
        (set_variable("REGION", "us"), {"region"}),
        (set_variable("ERP", "erp2"), {"read", "behind", "thin"}),
        (set_variable("SCHEMA", "other"), ALL),
        (set_variable("UNREAD", "1"), set()),
        (write("seeds/stores.csv", "id\n2\n"), {"stores"}),
        (output(threads=8), set()),
        (set_variable("ERP_LOGIN", "another-one"), set()),
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


def test_a_node_whose_values_are_not_known_has_no_fingerprint(tmp_path: Path) -> None:
    content = shop()
    computed = model("computed", "select {{ env_var(name) }}")
    lost = node("lost", "seed", raw_code="", original_file_path="seeds/lost.csv", config={"materialized": "seed"})
    for added in (computed, lost):
        content["nodes"][added["unique_id"]] = added
        content["parent_map"][added["unique_id"]] = []

    found = Shop(tmp_path, content).fingerprints()

    assert {name: fingerprint.doubt for name, fingerprint in found.items() if fingerprint.doubt} == {
        "computed": "it reads environment variables whose names are computed",
        "lost": "its file cannot be read (No such file or directory)",
    }


# --- without places ---------------------------------------------------------------------------------------------------


def test_portable_fingerprints_do_not_depend_on_target_environment_and_connection(
    of_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of_shop.portable()
    for name in ("SCHEMA", "REGION", "ERP", "ERP_LOGIN"):
        monkeypatch.setenv(name, "other")
    of_shop.profile = replace(of_shop.profile, target="pr", outputs={"pr": {"type": "duckdb", "path": "pr.duckdb"}})

    assert of_shop.portable() == found
    assert len(set(found.values())) == len(found) == 12


def test_portable_fingerprints_depend_on_seeds_variables_and_macros(of_shop: Shop, tmp_path: Path) -> None:
    found = of_shop.portable()

    def changed() -> set[str]:
        return {name for name, fingerprint in of_shop.portable().items() if fingerprint != found.get(name)}

    of_shop.write("seeds/stores.csv", "id\n2\n")
    assert changed() == {"stores"}
    of_shop.write("dbt_project.yml", json.dumps({"name": "shop", "vars": {"ratio": 2, "shop": {"tax": 7}}}))
    assert changed() == {"stores", "ratio", "any"}
    content = shop()
    content["macros"] = dict([macro("outer", "{{ inner() }}"), macro("inner", "{{ var('tax') }} + 1")])
    of_shop.manifest = Manifest(of_shop.path, trim(content))
    assert changed() == {"stores", "ratio", "any", "nested"}
    (tmp_path / "seeds/stores.csv").unlink()
    assert "stores" not in of_shop.portable()


def placed(database: str, schema: str, **source_fields: object) -> Json:
    """Make a project that another target has parsed."""
    content = manifest(
        model("plain", "select 1", schema=schema) | {"unrendered_config": {"schema": "{{ target.schema }}"}},
        model("tabled", "select 2", materialized="table" if schema == "main" else "view")
        | {"unrendered_config": {"materialized": "{{ 'table' if target.name == 'prod' else 'view' }}"}},
        model("read", "select * from {{ source('erp', 'orders') }}", "source.shop.erp.orders"),
        sources=(source("erp", "orders", database=database, schema=f"{schema}_erp", **source_fields),),
        metadata={"adapter_type": "duckdb", "project_name": "shop", "dbt_version": "1.12.6"},
    )
    for entry in content["nodes"].values():
        entry |= {"database": database, "schema": schema}
    return content


def portable_code(content: Json) -> dict[str, str]:
    nodes = trim(content)["nodes"].values()
    return {entry["name"]: entry.get("floe_portable_code", entry["code_version"]) for entry in nodes}


def test_templates_of_places_are_compared_instead_of_their_values() -> None:
    written = {"unrendered_database": None, "unrendered_schema": "{{ target.schema }}_erp"}

    assert portable_code(placed("prod", "main", **written)) == portable_code(placed("pr", "pr_1", **written))


def test_place_of_a_source_that_is_written_in_the_project_counts() -> None:
    before = portable_code(placed("prod", "main", unrendered_database=None, unrendered_schema="main_erp"))
    after = portable_code(placed("prod", "new", unrendered_database=None, unrendered_schema="new_erp"))

    assert {name for name in before if before[name] != after[name]} == {"read"}


def test_default_database_of_a_source_does_not_count_with_dbt_v2_which_writes_no_templates() -> None:
    before, after = placed("prod", "main"), placed("pr", "main")
    assert portable_code(before) == portable_code(after)

    after["sources"]["source.shop.erp.orders"]["database"] = "elsewhere"
    found, expected = portable_code(after), portable_code(before)
    assert {name for name in found if found[name] != expected[name]} == {"read"}
