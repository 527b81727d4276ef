"""Stages: as few dbt invocations as the computes allow, each dependent only on earlier ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe_orchestrator_dagster.assets.stages import StagedGraph, staged_graph
from floe_orchestrator_dagster.product.manifest import Manifest
from floe_orchestrator_dagster.product.trimming import trim
from unit.samples import Json, manifest, node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from floe_orchestrator_dagster.assets.stages import Lane


def _model(name: str, *parents: str, **fields: object) -> Json:
    return {**node(name, depends_on={"nodes": [f"model.shop.{parent}" for parent in parents]}), **fields}


def _test(name: str, *read: str, **fields: object) -> Json:
    depends_on = {"nodes": [parent if "." in parent else f"model.shop.{parent}" for parent in read]}
    return {**node(name, "test", depends_on=depends_on, config={"enabled": True}), **fields}


def _source(name: str) -> Json:
    return node(name, "source", unique_id=f"source.shop.{name}")


def _graph(
    computes: Mapping[str, str],
    *nodes: Json,
    sources: tuple[Json, ...] = (),
    tables: Mapping[str, str] | None = None,
    **changes: object,
) -> StagedGraph:
    content = Manifest(Path("manifest.json"), trim(manifest(*nodes, sources=sources, **changes)))
    lanes: dict[str, Lane] = {f"model.shop.{name}": (compute, None) for name, compute in computes.items()}
    return staged_graph(content, lanes, "duckdb", tables=tables or {})


def _shown(graph: StagedGraph) -> list[tuple[str, set[str]]]:
    return [(stage.lane[0], {unique_id.split(".")[2] for unique_id in stage.nodes}) for stage in graph.stages]


def _tests(graph: StagedGraph) -> list[dict[str, str]]:
    return [
        {test.split(".")[2]: (placed.checks or "..the product").split(".")[2] for test, placed in stage.tests.items()}
        for stage in graph.stages
    ]


def test_one_compute_is_one_stage() -> None:
    graph = _graph(dict.fromkeys("abc", "duckdb"), _model("a"), _model("b", "a"), _model("c", "b"))

    assert _shown(graph) == [("duckdb", {"a", "b", "c"})]


_RAW = {"source.shop.raw": "model.shop.raw"}


def _reads_source(name: str, *parents: str) -> Json:
    read = [*(f"model.shop.{parent}" for parent in parents), "source.shop.raw"]
    return node(name, depends_on={"nodes": read})


def test_readers_of_a_source_are_built_after_the_model_that_builds_its_table() -> None:
    """dbt knows no edge between them, and builds them side by side."""
    nodes = (_model("raw"), _model("other"), _reads_source("stg", "other"), _model("mart", "stg"))

    graph = _graph(
        dict.fromkeys(("raw", "other", "stg", "mart"), "duckdb"), *nodes, sources=(_source("raw"),), tables=_RAW
    )

    assert _shown(graph) == [("duckdb", {"raw", "other"}), ("duckdb", {"stg", "mart"})]


@pytest.mark.parametrize("between", [(), ("middle",)])
def test_source_of_a_model_that_dbt_builds_first_needs_no_stage(between: tuple[str, ...]) -> None:
    nodes = (_model("raw"), _model("middle", "raw"), _reads_source("stg", *(between or ("raw",))))

    graph = _graph(dict.fromkeys(("raw", "middle", "stg"), "duckdb"), *nodes, sources=(_source("raw"),), tables=_RAW)

    assert _shown(graph) == [("duckdb", {"raw", "middle", "stg"})]


def test_ephemeral_reader_of_a_source_is_followed_to_the_model_that_reads_it() -> None:
    hidden = {**_reads_source("hidden"), "config": {"materialized": "ephemeral", "enabled": True}}

    graph = _graph(
        {"raw": "duckdb", "stg": "duckdb"},
        *(_model("raw"), hidden, _model("stg", "hidden")),
        sources=(_source("raw"),),
        tables=_RAW,
    )

    assert _shown(graph) == [("duckdb", {"raw"}), ("duckdb", {"stg"})]


def test_readers_of_a_source_on_another_compute_follow_its_turn() -> None:
    nodes = (_model("raw"), _reads_source("stg"), _reads_source("spark_stg"))
    computes = {"raw": "duckdb", "stg": "duckdb", "spark_stg": "spark"}

    graph = _graph(computes, *nodes, sources=(_source("raw"),), tables=_RAW)

    assert _shown(graph)[0] == ("duckdb", {"raw"})
    assert sorted(_shown(graph)[1:]) == [("duckdb", {"stg"}), ("spark", {"spark_stg"})]


def test_the_tests_of_a_project_without_models_run_without_a_stage() -> None:
    graph = _graph({}, _test("t", "source.shop.raw"), _test("constant"), sources=(_source("raw"),))

    assert graph.stages == ()
    assert {test: placed.checks for test, placed in graph.late_tests["duckdb"].items()} == {
        "test.shop.t": "source.shop.raw",
        "test.shop.constant": None,
    }


def test_a_test_that_reads_no_table_is_a_check_of_the_product_on_its_default_compute() -> None:
    hidden = _model("hidden", config={"materialized": "ephemeral", "enabled": True})
    graph = _graph(
        {"a": "postgres", "b": "duckdb", "c": "postgres"},
        *(_model("a"), _model("b", "a"), _model("c", "b"), hidden),
        *(_test("constant"), _test("on_hidden", "hidden"), _test("quality_score"), _test("of_a", "a")),
        _test("on_postgres", config={"enabled": True, "meta": {"floe": {"compute": "postgres"}}}),
        _test("on_spark", config={"enabled": True, "meta": {"floe": {"compute": "spark"}}}),
    )

    assert [stage.lane[0] for stage in graph.stages] == ["postgres", "duckdb", "postgres"]
    assert _tests(graph) == [
        {"of_a": "a", "on_postgres": "the product"},
        {"constant": "the product", "on_hidden": "the product", "quality_score": "the product"},
        {},
    ]
    assert graph.stages[1].tests["test.shop.quality_score"].name == "shop_quality_score"
    assert {compute: list(tests) for compute, tests in graph.late_tests.items()} == {"spark": ["test.shop.on_spark"]}


def test_a_test_that_reads_no_table_runs_in_a_step_without_partitions() -> None:
    content = Manifest(Path("manifest.json"), trim(manifest(_model("a"), _model("b"), _test("constant"))))
    partitioned: dict[str, Lane] = {"model.shop.a": ("duckdb", 0)}

    alone = staged_graph(content, {**partitioned, "model.shop.b": ("duckdb", 1)}, "duckdb")
    beside = staged_graph(content, {**partitioned, "model.shop.b": ("postgres", None)}, "duckdb")

    assert ([list(stage.tests) for stage in alone.stages], list(alone.late_tests)) == ([[], []], ["duckdb"])
    assert {stage.lane[0]: list(stage.tests) for stage in beside.stages} == {
        "duckdb": [],
        "postgres": ["test.shop.constant"],
    }


def test_alternating_computes_alternate_in_stages() -> None:
    computes = {"a": "duckdb", "b": "postgres", "c": "duckdb", "d": "postgres"}
    graph = _graph(computes, _model("a"), _model("b", "a"), _model("c", "b"), _model("d", "c"))

    assert _shown(graph) == [("duckdb", {"a"}), ("postgres", {"b"}), ("duckdb", {"c"}), ("postgres", {"d"})]


def test_the_order_of_computes_minimizes_invocations() -> None:
    computes = {"a": "duckdb", "b": "postgres", "c": "duckdb"}

    assert _shown(_graph(computes, _model("a"), _model("b"), _model("c", "b"))) == [
        ("postgres", {"b"}),
        ("duckdb", {"a", "c"}),
    ]


def test_dependencies_pass_through_ephemeral_models() -> None:
    ephemeral = _model("b", "a", config={"materialized": "ephemeral", "enabled": True})
    graph = _graph({"a": "duckdb", "c": "postgres"}, _model("a"), ephemeral, _model("c", "b"))

    assert _shown(graph) == [("duckdb", {"a"}), ("postgres", {"c"})]


def test_a_cross_compute_test_runs_with_the_later_model_and_checks_the_attached_node() -> None:
    computes = {"a": "duckdb", "b": "postgres"}
    attached = _test("related", "a", "b", attached_node="model.shop.a")
    graph = _graph(computes, _model("a"), _model("b", "a"), attached, _test("singular", "a", "b"), _test("own", "a"))

    assert _tests(graph) == [{"own": "a"}, {"related": "a", "singular": "b"}]
    assert graph.late_tests == {}


def test_a_test_over_independent_stages_runs_after_both() -> None:
    graph = _graph({"a": "duckdb", "b": "postgres"}, _model("a"), _model("b"), _test("both", "a", "b"))

    assert _tests(graph) == [{}, {}]
    last = graph.stages[1].lane[0]
    assert list(graph.late_tests) == [last]
    assert set(graph.late_tests[last]) == {"test.shop.both"}


def test_a_test_runs_on_the_compute_that_it_requests() -> None:
    asking = _test("wide", "a", "b", config={"enabled": True, "meta": {"floe": {"compute": "duckdb"}}})
    graph = _graph({"a": "duckdb", "b": "postgres"}, _model("a"), _model("b", "a"), asking)

    assert _tests(graph) == [{}, {}]
    assert {compute: set(tests) for compute, tests in graph.late_tests.items()} == {"duckdb": {"test.shop.wide"}}


def test_meta_names_the_model_that_a_singular_test_checks() -> None:
    named = _test("named", "a", "b", config={"enabled": True, "meta": {"dagster": {"ref": {"name": "a"}}}})
    graph = _graph(dict.fromkeys("ab", "duckdb"), _model("a"), _model("b", "a"), named)

    assert _tests(graph) == [{"named": "a"}]


@pytest.mark.parametrize(
    ("ref", "checked"),
    [
        ({"name": "a", "version": 1}, "model.shop.a.v1"),
        ({"name": "a", "version": "1"}, "model.shop.a.v2"),
        ({"name": "a", "version": [1]}, "model.shop.a.v2"),
        ({"name": "a", "version": 1, "package": "shop"}, "model.shop.a.v1"),
        ({"name": "a", "version": 1, "package": "other"}, "model.shop.a.v2"),
        ("a", "model.shop.a.v2"),
        (["a"], "model.shop.a.v2"),
    ],
)
def test_meta_names_a_version_exactly_or_not_at_all(ref: object, checked: str) -> None:
    versions = ["model.shop.a.v1", "model.shop.a.v2"]
    models = [node("a", unique_id=unique_id, version=number) for number, unique_id in enumerate(versions, 1)]
    named = _test("named", "a", config={"meta": {"dagster": {"ref": ref}}}, depends_on={"nodes": versions})
    lanes: dict[str, Lane] = dict.fromkeys(versions, ("duckdb", None))

    graph = staged_graph(Manifest(Path("manifest.json"), manifest(*models, named)), lanes, "duckdb")

    assert [stage.tests["test.shop.named"].checks for stage in graph.stages] == [checked]


def test_a_test_of_a_source_runs_with_the_first_stage_that_reads_it() -> None:
    reader = node("b", depends_on={"nodes": ["model.shop.a", "source.shop.raw"]})
    graph = _graph(
        {"a": "duckdb", "b": "postgres"},
        _model("a"),
        reader,
        _test("of_source", "source.shop.raw", attached_node="source.shop.raw"),
        _test("of_unread", "source.shop.unread", attached_node="source.shop.unread"),
        sources=(_source("raw"), _source("unread")),
    )

    assert _tests(graph) == [{"of_unread": "unread"}, {"of_source": "raw"}]


def test_a_test_that_runs_after_its_models_stage_is_marked() -> None:
    computes = {"a": "duckdb", "b": "postgres", "c": "duckdb"}
    looking_ahead = _test("looks_ahead", "a", "c", attached_node="model.shop.a")
    graph = _graph(computes, _model("a"), _model("b", "a"), _model("c", "b"), looking_ahead, _test("own", "a"))

    assert {test.split(".")[2]: placed.is_later for stage in graph.stages for test, placed in stage.tests.items()} == {
        "own": False
    }
    assert [placed.is_later for placed in graph.late_tests["duckdb"].values()] == [True]


@pytest.mark.parametrize("meta", [{"floe": "text", "dagster": None}, {"floe": None, "dagster": "text"}, {"floe": [1]}])
def test_meta_of_another_shape_is_ignored(meta: Json) -> None:
    odd = _test("odd", "a", config={"enabled": True, "meta": meta})

    assert _tests(_graph({"a": "duckdb"}, _model("a"), odd)) == [{"odd": "a"}]


def test_a_unit_test_runs_with_its_model() -> None:
    unit = {"unit_test.shop.b.adds_up": {"unique_id": "unit_test.shop.b.adds_up", "name": "adds_up"}}
    parents = {"model.shop.a": [], "model.shop.b": ["model.shop.a"], "unit_test.shop.b.adds_up": ["model.shop.b"]}
    graph = _graph({"a": "duckdb", "b": "postgres"}, _model("a"), _model("b", "a"), unit_tests=unit, parent_map=parents)

    assert [set(stage.tests) for stage in graph.stages] == [set(), {"unit_test.shop.b.adds_up"}]


def test_tests_with_the_same_name_on_a_model_are_checks_with_distinct_names() -> None:
    unit = {"unit_test.shop.a.adds_up": {"unique_id": "unit_test.shop.a.adds_up", "name": "adds_up"}}
    parents = {
        "model.shop.a": [],
        "test.shop.adds_up": ["model.shop.a"],
        "test.other.adds_up": ["model.shop.a"],
        "unit_test.shop.a.adds_up": ["model.shop.a"],
    }
    other = _test("adds_up", "a", unique_id="test.other.adds_up", package_name="other")
    graph = _graph({"a": "duckdb"}, _model("a"), _test("adds_up", "a"), other, unit_tests=unit, parent_map=parents)

    assert {test: placed.name for test, placed in graph.stages[0].tests.items()} == {
        "test.shop.adds_up": "adds_up",
        "test.other.adds_up": "other_adds_up",
        "unit_test.shop.a.adds_up": "unit_test_adds_up",
    }


@pytest.mark.parametrize("lanes", [2, 3, 5])
@given(data=st.data())
def test_stages_are_complete_in_order_and_of_one_compute(lanes: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    parents = {
        row: data.draw(st.lists(st.integers(0, row - 1), unique=True, max_size=3)) if row else [] for row in range(size)
    }
    computes = {f"m{row}": f"c{data.draw(st.integers(0, lanes - 1))}" for row in range(size)}

    graph = _graph(computes, *(_model(f"m{row}", *(f"m{parent}" for parent in parents[row])) for row in range(size)))

    stage_of = {name: row for row, (_, names) in enumerate(_shown(graph)) for name in names}
    assert stage_of.keys() == computes.keys()
    assert all(computes[name] == graph.stages[row].lane[0] for name, row in stage_of.items())
    assert all(stage_of[f"m{parent}"] <= stage_of[f"m{row}"] for row in range(size) for parent in parents[row])
    # Two stages of one compute in a row would have been one.
    assert all(first.lane != second.lane for first, second in pairwise(graph.stages))
