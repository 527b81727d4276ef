"""Nodes that remain to run after exclusions and passed checks."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg

from floe_orchestrator_dagster.execution.step.node_selection import DbtNodes, select_nodes

A, B, SOURCE = dg.AssetKey("a"), dg.AssetKey("b"), dg.AssetKey("source")
ON_A, ON_SOURCE = dg.AssetCheckKey(A, "unique"), dg.AssetCheckKey(SOURCE, "fresh")
NODES = DbtNodes(
    assets={A: "model.shop.a", B: "model.shop.b"},
    checks={ON_A: "test.shop.unique", ON_SOURCE: "test.shop.fresh"},
    reads={ON_A: frozenset({A}), ON_SOURCE: frozenset()},
    upstream={A: frozenset({SOURCE}), B: frozenset({A})},
    sources=frozenset({SOURCE}),
    whole=True,
    disabled=frozenset({"test.shop.off"}),
)


def nothing(_key: dg.AssetKey) -> bool:
    return False


def test_everything_without_a_test_is_still_everything() -> None:
    selection = select_nodes(NODES, {A, B}, {ON_SOURCE}, nothing, excluded={"test.shop.unique"})

    assert selection.unique_ids is None
    assert selection.excluded == {"test.shop.off", "test.shop.unique"}


def test_a_test_of_a_source_that_has_passed_does_not_come_with_the_tables_that_read_it() -> None:
    fresh = select_nodes(NODES, {A, B}, {ON_A}, nothing, passed={ON_SOURCE})
    stale = select_nodes(NODES, {A}, {ON_A}, nothing)

    assert fresh.unique_ids == frozenset({"model.shop.a", "model.shop.b", "test.shop.unique"})
    assert stale.unique_ids == frozenset({"model.shop.a", "test.shop.unique", "test.shop.fresh"})


def test_an_excluded_test_of_a_source_does_not_run() -> None:
    selection = select_nodes(NODES, {A}, {ON_A}, nothing, excluded={"test.shop.fresh"})

    assert selection.unique_ids == frozenset({"model.shop.a", "test.shop.unique"})


def test_nothing_is_left_of_what_passed() -> None:
    selection = select_nodes(NODES, frozenset(), frozenset(), nothing, passed={ON_A, ON_SOURCE})

    assert selection.is_empty


def test_a_test_of_a_source_that_comes_along_waits_for_the_other_table_that_it_reads() -> None:
    compared = replace(NODES, reads={**NODES.reads, ON_SOURCE: frozenset({B})})

    along = select_nodes(compared, {A}, {ON_A}, nothing)
    asked_for = select_nodes(compared, {A}, {ON_A, ON_SOURCE}, nothing)

    assert along.unique_ids == frozenset({"model.shop.a", "test.shop.unique"})
    assert along.postponed == {ON_SOURCE: ["b"]}
    assert asked_for.unique_ids == frozenset({"model.shop.a", "test.shop.unique", "test.shop.fresh"})
