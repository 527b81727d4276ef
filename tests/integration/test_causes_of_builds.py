"""Causes of builds with `build: changed`, in runs of one product: macros, variables, large seeds, tests and sources."""

# ruff: noqa: S608  # SQL of the test's own models
from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from files import write_files
from floe_orchestrator_dagster.execution.reuse.decision import CODE_CHANGED
from integration.test_changed_builds import ALL, Shop, built

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TABLE = "{{ config(materialized='table') }}"
LABELS = """
    {{% macro apply(called) %}}{{{{ called() }}}}{{% endmacro %}}
    {{% macro shop_label() %}}'{}'{{% endmacro %}}
    """
LONG_NAMES = "select * from {{{{ ref('names') }}}} where length(name) < {}"
FILES = {
    "dbt_project.yml": '{name: shop_orders, profile: shop_orders, version: "1.0"}',
    "vars.yml": "vars: {owner: us}",
    "macros/labels.sql": LABELS.format("old"),
    "macros/owners.sql": """
        {% macro shop_owner() %}'{{ var("owner") }}'{% endmacro %}
        {% macro shop_owner_in_brackets() %}'(' || {{ shop_owner() }} || ')'{% endmacro %}
        """,
    "models/labelled.sql": f"{TABLE} select {{{{ apply(shop_label) }}}} as label",
    "models/owned.sql": f"{TABLE} select {{{{ shop_owner_in_brackets() }}}} as owner",
    "models/last.sql": f"{TABLE} select right(text, 1) as letter from {{{{ ref('large') }}}} where id = 10",
    "models/assumed.sql": f"{TABLE} select count(*) as number from {{{{ source('shops', 'countries') }}}}",
    "models/shops.yml": "sources: [{name: shops, schema: main, tables: [{name: countries}]}]",
    "tests/names_are_long.sql": LONG_NAMES.format(3),
    "tests/label_has_owner.sql": """
        select * from {{ ref('labelled') }}, {{ ref('owned') }} where label = 'new' and owner = '(us)'
        """,
}
NEW = {"labelled", "owned", "large", "last", "assumed"}
FAILED = "its test label_has_owner failed"


def large_seed(last: str) -> str:
    """Write more than a megabyte, which dbt does not hash, with this last letter."""
    return "id,text\n" + "".join(f"{number},{'x' * 110_000}{last}\n" for number in range(1, 11))


def links(result: dg.ExecuteInProcessResult) -> dict[str, Mapping[str, object]]:
    """Return the metadata of reused tables and results of tests."""
    events = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    found = {event.asset_key.path[-1]: event.metadata for event in events}
    found |= {check.check_name: check.metadata for check in result.get_asset_check_evaluations()}
    return {name: metadata for name, metadata in found.items() if "reason" in metadata}


def versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Return the data versions of built tables."""
    events = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    return {event.asset_key.path[-1]: (event.tags or {})["dagster/data_version"] for event in events}


def run_tests(result: dg.ExecuteInProcessResult) -> set[str]:
    """Return the names of the tests that have run."""
    return {check.check_name for check in result.get_asset_check_evaluations() if "reason" not in check.metadata}


def test_macros_variables_large_seeds_tests_and_sources(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    shop = Shop(tmp_path / "shop", instance, "core", assume_unchanged=["shops"])
    write_files(shop.directory, FILES)
    shop.execute("create table countries as select 'de' as code")
    shop.write("seeds/large.csv", large_seed("a"))
    assert (shop.directory / "seeds" / "large.csv").stat().st_size > 1 << 20
    first = shop.result()
    assert first.success
    assert built(first) == {*ALL, *NEW}
    assert run_tests(first) > {"names_are_long", "label_has_owner"}

    # A source that is assumed to be unchanged; and the link of each reused table and result to the run that has it.
    shop.execute("insert into countries values ('fr')")
    second = shop.result()
    assert built(second) == set()
    assert links(second).keys() == {*ALL, *NEW, *run_tests(first)}
    for metadata in links(second).values():
        assert metadata["status"] == dg.MetadataValue.text("reused")
        assert metadata["floe/built_in_run"] == dg.MetadataValue.dagster_run(first.run_id)

    # A macro that is called through a variable, one byte of a large seed, and a test; the test of two models now fails.
    write_files(shop.directory, {"macros/labels.sql": LABELS.format("new"), "seeds/large.csv": large_seed("b")})
    shop.write("tests/names_are_long.sql", LONG_NAMES.format(4))
    assert shop.planned() == {"labelled": CODE_CHANGED, "large": CODE_CHANGED, "last": "large is built"}
    third = shop.result()
    assert not third.success
    assert built(third) == {"labelled", "large", "last"}
    assert run_tests(third) == {"names_are_long", "label_has_owner"}
    assert not {*versions(third).values()} & {*versions(first).values()}
    assert (shop.rows("labelled"), shop.rows("last")) == ([("new",)], [("b",)])
    assert shop.planned() == {"labelled": FAILED, "owned": FAILED}

    # A variable that only a macro of a macro reads, and a source whose data is not known.
    shop.write("vars.yml", "vars: {owner: them}")
    shop.configure()
    unknown = "it is not known whether the data of shops.countries has changed"
    assert shop.planned() == {"labelled": FAILED, "owned": CODE_CHANGED, "assumed": unknown}
    last = shop.result()
    assert last.success
    assert built(last) == {"labelled", "owned", "assumed"}
    assert (shop.rows("owned"), shop.rows("assumed")) == ([("(them)",)], [(2,)])
    assert shop.planned() == {"assumed": unknown}
