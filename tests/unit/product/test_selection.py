"""Selections match the nodes that dbt-core's own selection engine matches."""

from __future__ import annotations

from argparse import Namespace
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dbt import flags
from dbt.config.selectors import SelectorConfig, SelectorDict
from dbt.contracts.graph import nodes as classes
from dbt.contracts.graph.manifest import Manifest
from dbt.graph.cli import parse_union
from dbt.graph.graph import Graph
from dbt.graph.selector import NodeSelector
from dbt.graph.selector_methods import is_selected_node
from dbt_common.events.contextvars import task_contextvars
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networkx import DiGraph  # type: ignore[import-untyped]

from floe_orchestrator_dagster.product.selection import NodeGraph
from floe_orchestrator_dagster.product.selection.criteria import UnreadableSelectionError
from unit.dbt_shop import dbt_shop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CLASSES = {
    "model": classes.ModelNode,
    "seed": classes.SeedNode,
    "snapshot": classes.SnapshotNode,
    "analysis": classes.AnalysisNode,
    "operation": classes.HookNode,
    "source": classes.SourceDefinition,
    "exposure": classes.Exposure,
    "metric": classes.Metric,
    "unit_test": classes.UnitTestDefinition,
    "semantic_model": classes.SemanticModel,
    "saved_query": classes.SavedQuery,
}
_COLLECTIONS = ("nodes", "sources", "exposures", "metrics", "unit_tests", "semantic_models", "saved_queries")


class _Config(dict[str, Any]):
    """A node's config, which dbt reads as attributes."""

    def __getattr__(self, name: str) -> object:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(name) from None
        return _Config(value) if isinstance(value, dict) else value


def _node(fields: Mapping[str, Any]) -> Any:  # noqa: ANN401  # one of dbt's classes
    kind = fields["resource_type"]
    test = classes.GenericTestNode if fields.get("test_metadata") else classes.SingularTestNode
    node: Any = object.__new__(test if kind == "test" else _CLASSES[kind])
    nested = {name: _Config(fields[name]) for name in ("depends_on", "test_metadata") if fields.get(name)}
    vars(node).update({**fields, **nested, "config": _Config({"enabled": True, **(fields.get("config") or {})})})
    return node


def _matched_by_dbt(content: Mapping[str, Any], project: Path, selection: str) -> list[tuple[str, set[str]]]:
    with _dbt(content, project) as selector:
        parts = parse_union([selection], expect_exists=False).components
        return [(str(part.raw), {str(name) for name in selector.select_nodes(part)[0]}) for part in parts]


@contextmanager
def _dbt(
    content: Mapping[str, Any], project: Path, selectors: Mapping[str, Any] | None = None
) -> Iterator[NodeSelector]:
    manifest = Manifest()
    for name in _COLLECTIONS:
        setattr(manifest, name, {unique_id: _node(fields) for unique_id, fields in (content.get(name) or {}).items()})
    manifest.metadata.project_name = content["metadata"].get("project_name")
    graph = DiGraph(content["child_map"])
    graph.add_nodes_from(chain.from_iterable(content.get(name) or () for name in _COLLECTIONS))
    more: Any = {"selectors": selectors} if selectors else {}  # since dbt-core 1.12
    selector = NodeSelector(Graph(graph), manifest, include_empty_nodes=True, **more)
    before = flags.GLOBAL_FLAGS
    flags.GLOBAL_FLAGS = Namespace(INDIRECT_SELECTION="empty")
    try:
        with task_contextvars(project_root=str(project)):
            yield selector
    finally:
        flags.GLOBAL_FLAGS = before


_MORE = [
    {
        "unique_id": f"model.shop.priced.v{version}",
        "resource_type": "model",
        "name": "priced",
        "alias": f"priced_v{version}",
        "version": version,
        "latest_version": 2,
        "package_name": "shop",
        "fqn": ["shop", "marts", "priced", f"v{version}"],
        "original_file_path": f"models/marts/priced_v{version}.sql",
        "raw_code": "select 1 as id",
        "description": "",
        "schema": "main",
        "config": {
            "enabled": True,
            "materialized": "table",
            "group": "finance",
            "meta": {"tier": {"level": "gold"}, "rank": version},
        },
        "tags": ["priced"],
        "columns": {},
        "depends_on": {"nodes": ["model.shop.stg"], "macros": []},
    }
    for version in (1, 2, 3, "rc")
]


def _member(name: str, kind: str, collection: str, config: Mapping[str, Any], **fields: object) -> tuple[str, Any]:
    """Return a collection, and a member of it that depends on the model `stg`."""
    member = {
        "unique_id": f"{kind}.shop.{name}",
        "resource_type": kind,
        "name": name,
        "package_name": "shop",
        "fqn": ["shop", "staging", name],
        "original_file_path": "models/staging/more.yml",
        "config": {"enabled": True, **config},
        "depends_on": {"nodes": ["model.shop.stg"], "macros": []},
        **fields,
    }
    return collection, member


# dbt-core writes the tags of unit tests into their config only. Members of other collections have fields for tags.
_MEMBERS = [
    _member("unit_tags", "unit_test", "unit_tests", {"tags": ["unit", "nightly"]}, model="stg"),
    _member("unit_tag", "unit_test", "unit_tests", {"tags": "unit"}, model="stg"),
    _member("unit_none", "unit_test", "unit_tests", {"tags": []}, model="stg"),
    _member("report", "exposure", "exposures", {"tags": ["of_config"]}, tags=["unit"]),
    _member("revenue", "metric", "metrics", {"tags": ["of_config"]}, tags=[]),
    _member("entities", "semantic_model", "semantic_models", {"tags": ["of_config"]}, model="ref('stg')"),
    _member("query", "saved_query", "saved_queries", {"tags": ["of_config"]}, tags=["unit"]),
]
_CRITERIA = """
    stg marts.* models/marts models/stg.sql stg.sql * priced+ + @ +stg+ stg,mart tag labels:x state:modified
    fqn:* fqn:stg fqn:st* fqn:shop.* fqn:shop.staging fqn:marts fqn:priced fqn:priced.v2 fqn:priced_v2 fqn:pric* fqn:v1
    fqn:shop.marts.priced.v1 fqn:wide fqn:wide.v1 fqn:?tg fqn:shop fqn:unique_stg fqn:[sm]* fqn: fqn:marts.priced.v*
    tag:unit tag:nightly tag:u* tag:of_config tag:model config.tags:unit config.tags:of_config unit_test:unit_*
    tag:daily tag:gold tag:d* tag:priced tag:nobody group:finance group:fin* group:x access:public access:protected
    source:erp source:erp.orders source:shop.erp.orders source:e* source:* source:crm source:a.b.c.d
    path:models path:models/marts path:models/*.sql path:models/stg.sql path:**/*.sql path:gone path:models/marts/*
    path:/etc path: file:stg.sql file:stg file:*.sql file:priced_v1 file:x package:shop package:this package:s*
    config.materialized:table config.materialized:view config.materialized:ephemeral config.enabled:true
    config.enabled:True config.enabled:false config.enabled:1 config.severity:warn config.severity:WARN
    config.severity:error config.meta.tier.level:gold config.meta.tier:gold config.tags:daily config.no.such:x config:x
    test_name:unique test_name:u* test_name:x test_type:generic test_type:schema test_type:singular test_type:unit
    test_type:data test_type:other resource_type:model resource_type:seed resource_type:test resource_type:source
    resource_type:table version:latest version:prerelease version:old version:none version:other
    exposure:* exposure:x exposure:a.b exposure:a.b.c metric:* semantic_model:* saved_query:* unit_test:* unit_test:x
    """


@st.composite
def _selections(draw: st.DrawFn) -> str:
    prefix = st.sampled_from(["", "", "", "+", "1+", "2+", "0+", "@"])
    suffix = st.sampled_from(["", "", "", "+", "+1", "+2", "+0"])
    criterion = st.builds("{}{}{}".format, prefix, st.sampled_from(_CRITERIA.split()), suffix)
    part = st.lists(criterion, min_size=1, max_size=2).map(",".join)
    return " ".join(draw(st.lists(part, min_size=1, max_size=3)))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mapping[str, Any], Path]:
    dbt = dbt_shop(tmp_path_factory.mktemp("shop"), None, *_MORE).dbt
    assert dbt is not None
    content = {**dbt.manifest.content, "child_map": {**dbt.manifest.content["child_map"]}}
    for collection, member in _MEMBERS:
        content[collection] = {**content[collection], member["unique_id"]: member}
        content["child_map"] |= {member["unique_id"]: []}
        content["child_map"]["model.shop.stg"] = [*content["child_map"]["model.shop.stg"], member["unique_id"]]
    return content, dbt.directory.path


@pytest.mark.skipif(
    not is_selected_node(["shop", "priced", "v1"], "pric*", is_versioned=True),
    reason="this dbt-core matches patterns with less",
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_selections())
def test_selections_match_what_dbt_matches(shop: tuple[Mapping[str, Any], Path], selection: str) -> None:
    content, project = shop
    try:
        expected = _matched_by_dbt(content, project, selection)
    except Exception:  # noqa: BLE001  # errors of dbt, of pathlib and of fnmatch
        with pytest.raises(UnreadableSelectionError):
            NodeGraph(content, project).matches(selection)
    else:
        assert NodeGraph(content, project).matches(selection) == expected


_SELECTORS = """
- {name: text, definition: "tag:daily"}
- {name: operators, definition: "1+config.materialized:view+"}
- {name: pair, definition: {tag: gold}}
- {name: flag, definition: {config.enabled: true}}
- name: number
  definition: {union: [{method: config.meta.rank, value: 1}, {method: config.meta.rank, value: "2"}, raw]}
- {name: path, definition: {path: models/marts}}
- name: full
  default: true
  description: all keys
  definition: {method: tag, value: daily, parents: true, parents_depth: 1, children: true, indirect_selection: empty}
- {name: around, definition: {method: fqn, value: stg, childrens_parents: true}}
- {name: without, definition: {method: fqn, value: "*", exclude: [{method: tag, value: gold}, "tag:priced", {tag: x}]}}
- name: union
  definition: {union: ["tag:daily", {source: erp}, {intersection: ["priced", {version: latest}]}, {exclude: ["mart"]}]}
- name: intersection
  definition: {intersection: ["tag:daily", {method: fqn, value: marts, parents: true}, {exclude: ["tag:gold"]}]}
- {name: nested, definition: {union: [{union: ["tag:daily", {exclude: ["stg"]}]}, {exclude: [{union: ["wide"]}]}, raw]}}
- {name: inside_a_set, definition: {union: [{method: fqn, value: "*", exclude: ["tag:gold"]}, raw]}}
- {name: only_excluded, definition: {union: [{exclude: ["tag:gold"]}]}}
- {name: literal, definition: "tag:daily,tag:gold"}
- {name: nothing, definition: "tag:nobody"}
"""
_INHERITING = """
- {name: inherited, definition: {method: selector, value: union}}
- {name: inherited_more, definition: {union: [{method: selector, value: inherited}, raw, {exclude: ["stg"]}]}}
- {name: inherited_children, definition: {method: selector, value: pair, children: true}}
- {name: pattern, definition: {method: selector, value: "inherited*"}}
"""


def _with_selectors(content: Mapping[str, Any], selectors: str) -> dict[str, Any]:
    """Return the manifest's content with selectors in the form in which dbt-core writes them."""
    parsed = SelectorDict.parse_from_selectors_list(yaml.safe_load(selectors))  # type: ignore[no-untyped-call]
    return {**content, "selectors": parsed}


def test_yaml_selectors_match_what_dbt_matches(shop: tuple[Mapping[str, Any], Path]) -> None:
    content, project = shop
    listed = _SELECTORS + (_INHERITING if "selectors" in signature(NodeSelector).parameters else "")
    graph = NodeGraph(_with_selectors(content, listed), project)

    with _dbt(content, project):
        parsed = SelectorConfig.selectors_from_dict({"selectors": deepcopy(yaml.safe_load(listed))})
    with _dbt(content, project, parsed) as selector:
        specs: Any = {name: entry["definition"] for name, entry in parsed.items()}
        expected = {name: selector.select_nodes(spec)[0] for name, spec in specs.items()}

    assert {name: graph.matches(f"selector:{name}")[0][1] for name in parsed} == expected
    assert expected["number"] == {"model.shop.priced.v1", "seed.shop.raw"}
    assert expected["union"] == {"model.shop.stg", "source.shop.erp.orders", "model.shop.priced.v2"}


def test_a_selector_of_dbt_v2_matches_what_its_definition_means(shop: tuple[Mapping[str, Any], Path]) -> None:
    content, project = shop
    definitions = {
        "without": {"method": "fqn", "value": "shop", "exclude": [{"union": [{"method": "tag", "value": "daily"}]}]},
        "union": {
            "intersection": [
                {"union": [{"method": "tag", "value": "daily"}, {"method": "fqn", "value": "wide"}]},
                {"exclude": {"union": [{"method": "fqn", "value": "mart"}]}},
            ]
        },
        "inside": {"union": [{"method": "tag", "value": "daily", "exclude": [{"method": "fqn", "value": "mart"}]}]},
        "unnamed": {"method": "config", "value": "view"},
    }
    graph = NodeGraph(
        {
            **content,
            "metadata": {**content["metadata"], "dbt_version": "2.0.0"},
            "selectors": {name: {"name": name, "definition": found} for name, found in definitions.items()},
        },
        project,
    )

    assert graph.matches("selector:union")[0][1] == {"model.shop.stg", "model.shop.wide"}
    assert graph.matches("selector:inside")[0][1] == {"model.shop.stg"}
    assert graph.matches("selector:without")[0][1] == graph.matches("shop")[0][1] - graph.matches("tag:daily")[0][1]
    with pytest.raises(UnreadableSelectionError, match="has the method 'config' without a setting"):
        graph.matches("selector:unnamed")


_LEFT_OUT = "and dbt-core then leaves the method out of its manifest"


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (
            "dialy",
            "selectors.yml has no selector 'dialy'. Did you mean 'daily'? Its selectors: a, b, daily, early, of_x, on",
        ),
        ("a", "the selector 'a' is defined by itself, through 'b'"),
        ("of_x", "selectors.yml has no selector 'x'. Its selectors: a, b, daily, early, of_x, on"),
        (
            "early",
            f"its definition has `exclude` before a method, {_LEFT_OUT}. Write `method` and `value` before `exclude`",
        ),
        ("on", "its definition has the value ['x'], which must be a string"),
    ],
)
def test_a_selector_that_is_not_valid_says_why(
    shop: tuple[Mapping[str, Any], Path], selector: str, message: str
) -> None:
    content, project = shop
    definitions = {
        "daily": "tag:daily",
        "a": {"method": "selector", "value": "b"},
        "b": {"method": "selector", "value": "a"},
        "of_x": {"method": "selector", "value": "x"},
        "on": {"tag": ["x"]},
        "early": {"exclude": [{"method": "tag", "value": "gold"}]},
    }
    selectors = {name: {"name": name, "definition": found} for name, found in definitions.items()}

    with pytest.raises(UnreadableSelectionError) as caught:
        NodeGraph({**content, "selectors": selectors}, project).matches(f"selector:{selector}")

    assert str(caught.value) == message


def test_a_project_without_selectors_says_so(shop: tuple[Mapping[str, Any], Path]) -> None:
    with pytest.raises(UnreadableSelectionError, match=r"has no selector 'daily'\. It has none"):
        NodeGraph(*shop).matches("selector:daily")
