"""Owners that dbt nodes declare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.errors import ManifestError
from unit.odd_products import write_product
from unit.samples import Json, node, source

if TYPE_CHECKING:
    from pathlib import Path


def owned(name: str, owners: object) -> Json:
    return node(name, meta={"dagster": {"owners": owners}})


@pytest.mark.parametrize("owners", ["team:finance", ["team:finance"], [" team:finance "]])
def test_an_owner_is_a_string_or_a_list(tmp_path: Path, owners: object) -> None:
    definitions = definitions_from_file(write_product(tmp_path, owned("a", owners)))

    assert definitions.resolve_asset_graph().get(dg.AssetKey("a")).owners == ["team:finance"]


def test_each_malformed_owner_is_a_problem_that_names_its_node(tmp_path: Path) -> None:
    nodes = [owned("a", "finance"), owned("b", ["me@example.com", 7, "team:"]), owned("c", {"name": "me"})]
    path = write_product(tmp_path, *nodes, sources=[source("erp", "t", meta={"dagster": {"owners": ["ops"]}})])

    with pytest.raises(ManifestError) as refused:
        definitions_from_file(path)

    assert [(problem.where, problem.what) for problem in refused.value.problems] == [
        ("model.shop.a (models/a.sql), meta.dagster.owners", "'finance' is not an owner"),
        ("model.shop.b (models/b.sql), meta.dagster.owners", "7 is not an owner"),
        ("model.shop.b (models/b.sql), meta.dagster.owners", "'team:' is not an owner"),
        ("model.shop.c (models/c.sql), meta.dagster.owners", "{'name': 'me'} is not an owner"),
        ("source.shop.erp.t (models/sources.yml), meta.dagster.owners", "'ops' is not an owner"),
    ]


@pytest.mark.parametrize(
    ("email", "owners"),
    [
        ("me@example.com", ["me@example.com"]),
        (["me@example.com", "you@example.com"], ["me@example.com", "you@example.com"]),
        ("me@example.photography", ["team:me@example.photography"]),
        ("finance", ["team:finance"]),
        (None, []),
    ],
)
def test_the_owner_of_a_group_has_the_forms_of_dbt(tmp_path: Path, email: object, owners: list[str]) -> None:
    groups = {"group.shop.fin": {"name": "fin", "owner": {"email": email, "name": "Finance"}}}
    path = write_product(tmp_path, node("a", group="fin"), groups=groups)

    found = definitions_from_file(path).resolve_asset_graph().get(dg.AssetKey("a"))

    assert found.owners == owners
