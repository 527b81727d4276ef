"""Parts of a product: each node in exactly one part, parts in an order, and errors of the configuration."""

from __future__ import annotations

from time import process_time
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe_orchestrator_dagster.assets.labels import with_all_labels
from floe_orchestrator_dagster.assets.parts import labelled, layered
from floe_orchestrator_dagster.code_location import build_definitions, definitions_from_file
from floe_orchestrator_dagster.errors import ConfigError
from floe_orchestrator_dagster.inspect.plan import plan_product
from floe_orchestrator_dagster.inspect.validation import examine_product
from floe_orchestrator_dagster.product import load_product
from unit.samples import contract, manifest, model, node, profiles, write_json, write_project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_orchestrator_dagster.assets.graph import Parents
    from floe_orchestrator_dagster.inspect.plan import StepPlan

# staging -> intermediate -> two marts that do not read each other, and a report of both.
GRAPH = {
    "stg_orders": [],
    "stg_fees": [],
    "int_sales": ["stg_orders", "stg_fees"],
    "sales": ["int_sales"],
    "margins": ["int_sales"],
    "report": ["sales", "margins"],
}
FOLDERS = {
    "stg_orders": "staging",
    "stg_fees": "staging",
    "int_sales": "staging/joined",
    "sales": "sales",
    "margins": "finance",
    "report": "reports",
}
EXCLUDE = "\n    fix: Exclude it from one of them (`exclude`). Correct it in manifest.yaml."
CYCLE = "steps[0]: the parts would depend on each other in a cycle: "
TOGETHER = (
    "\n    fix: Select the models of the cycle in one part, or exclude some of them (`exclude`). "
    "Correct it in manifest.yaml."
)
SEQUENCE = "no two steps are built at the same time, because each one waits for another one"
POSTGRES = {"type": "postgres", "host": "db", "user": "u", "pass": "p", "dbname": "d", "schema": "s", "port": 5432}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the dbt project; returns its directory."""
    monkeypatch.delenv("FLOE_DBT_PROJECT_DIR", raising=False)
    return write_project(tmp_path / "shop")


def write(shop: Path, steps: object, graph: Mapping[str, list[str]] = GRAPH, **config: object) -> Path:
    """Write artifacts and manifest with these steps; returns the artifacts' path."""
    nodes = [
        {
            **node(name, depends_on={"nodes": [f"model.shop.{parent}" for parent in parents]}),
            "fqn": ["shop", *FOLDERS.get(name, "").split("/"), name] if name in FOLDERS else ["shop", name],
            "config": {"materialized": "table", "enabled": True, "group": FOLDERS.get(name, "").split("/")[0] or None},
        }
        for name, parents in graph.items()
    ]
    tests = [
        {
            **node("fits", "test", depends_on={"nodes": ["model.shop.sales", "model.shop.margins"]}),
            "attached_node": "model.shop.sales",
        }
    ]
    write_json(shop / "target" / "manifest.json", manifest(*nodes, *(tests if graph is GRAPH else [])))
    settings: dict[str, Any] = {"executor": "multiprocess", "steps": steps, **config}
    models = [model(name, *parents) for name, parents in graph.items()]
    output = {"shop_orders": {"target": "dev", "outputs": {"dev": POSTGRES}}}
    return write_json(shop / "artifacts.json", contract(*models, config=settings, dbt_profiles=output))


def planned(path: Path) -> dict[str, tuple[set[str], set[str]]]:
    """Return models and upstream steps of each step, by the step's name without the product's."""
    return {short(step.name): (set(step.assets), set(map(short, step.after))) for step in steps_of(path)}


def steps_of(path: Path) -> tuple[StepPlan, ...]:
    product = load_product(path)
    return plan_product(product, build_definitions(product)).steps


def short(step: str) -> str:
    return step.removeprefix("shop_orders_dbt_build").lstrip("_")


def problems(path: Path) -> list[str]:
    """Return the problems of a load, after checking that `validate` reports the same ones."""
    with pytest.raises(ConfigError) as raised:
        definitions_from_file(path)
    found = [str(problem).removeprefix("plugins.orchestrator.config.") for problem in raised.value.problems]
    validated = [problem for error in examine_product(path).errors for problem in error.problems]
    assert [str(problem).removeprefix("plugins.orchestrator.config.") for problem in validated] == found
    return found


def test_selected_parts_and_the_rest_before_and_after_them(shop: Path) -> None:
    steps = [{"select": "sales"}, {"select": "margins", "name": "money"}]

    assert planned(write(shop, steps)) == {
        "rest": ({"stg_orders", "stg_fees", "int_sales"}, set()),
        "part_1": ({"sales"}, {"rest"}),
        "money": ({"margins"}, {"rest"}),
        "rest_2": ({"report"}, {"part_1", "money"}),
    }


def test_folders_are_parts(shop: Path) -> None:
    assert planned(write(shop, {"by": "folder"})) == {
        "staging": ({"stg_orders", "stg_fees"}, set()),
        "staging_joined": ({"int_sales"}, {"staging"}),
        "sales": ({"sales"}, {"staging_joined"}),
        "finance": ({"margins"}, {"staging_joined"}),
        "reports": ({"report"}, {"sales", "finance"}),
    }


def test_parts_that_are_built_one_after_the_other_are_joined_first(shop: Path) -> None:
    assert planned(write(shop, {"by": "folder", "max": 4})) == {
        "staging_and_1_more": ({"stg_orders", "stg_fees", "int_sales"}, set()),
        "sales": ({"sales"}, {"staging_and_1_more"}),
        "finance": ({"margins"}, {"staging_and_1_more"}),
        "reports": ({"report"}, {"sales", "finance"}),
    }


def test_groups_that_depend_on_each_other_are_one_part(shop: Path) -> None:
    # The group `staging` reads `sales`, which reads `staging`.
    graph = {**GRAPH, "int_sales": ["stg_orders", "sales"], "sales": ["stg_fees"]}

    assert planned(write(shop, {"by": "group"}, graph)) == {
        "staging_and_1_more": ({"stg_orders", "stg_fees", "int_sales", "sales"}, set()),
        "finance": ({"margins"}, {"staging_and_1_more"}),
        "reports": ({"report"}, {"staging_and_1_more", "finance"}),
    }


def test_models_without_a_group_are_built_before_between_and_after_groups(shop: Path) -> None:
    graph = {
        "raw": [],
        "stg_orders": ["raw"],
        "joined": ["stg_orders"],
        "sales": ["joined"],
        "margins": ["joined"],
        "summary": ["sales"],
        "small": ["raw"],
    }

    assert planned(write(shop, {"by": "group"}, graph)) == {
        "ungrouped": ({"raw", "small"}, set()),
        "staging": ({"stg_orders"}, {"ungrouped"}),
        "ungrouped_2": ({"joined"}, {"staging"}),
        "sales": ({"sales"}, {"ungrouped_2"}),
        "finance": ({"margins"}, {"ungrouped_2"}),
        "ungrouped_3": ({"summary"}, {"sales"}),
    }


def test_a_model_between_two_models_of_a_group_is_built_with_the_group(shop: Path) -> None:
    graph = {"stg_orders": [], "between": ["stg_orders"], "stg_fees": ["between"], "after": ["stg_fees"]}

    assert planned(write(shop, {"by": "group"}, graph)) == {
        "staging": ({"stg_orders", "between", "stg_fees"}, set()),
        "ungrouped": ({"after"}, {"staging"}),
    }


def test_layers_are_cut_into_parts_that_do_not_read_each_other(shop: Path) -> None:
    graph = {**{f"a{row}": [] for row in range(4)}, **{f"b{row}": [f"a{row}"] for row in range(4)}}

    # Two layers would read each other; as the columns are not connected, each part is two models of a layer.
    found = planned(write(shop, {"by": "layers", "max": 4}, graph))

    assert {name: len(models) for name, (models, _) in found.items()} == {
        "layer_1_1": 2,
        "layer_1_2": 2,
        "layer_2_1": 2,
        "layer_2_2": 2,
    }
    assert {name: after for name, (_, after) in found.items()} == {
        "layer_1_1": set(),
        "layer_1_2": set(),
        "layer_2_1": {"layer_1_1"},
        "layer_2_2": {"layer_1_2"},
    }


def test_partitioned_models_of_a_part_have_a_separate_step(shop: Path) -> None:
    daily = {"select": "int_sales", "type": "daily", "start": "2026-01-01"}

    found = planned(write(shop, [{"select": "stg_fees int_sales", "name": "a"}], partitions=[daily]))

    assert found == {
        "rest": ({"stg_orders"}, set()),
        "a": ({"stg_fees"}, set()),
        "a_daily": ({"int_sales"}, {"rest", "a"}),
        "rest_2": ({"sales", "margins", "report"}, {"a_daily"}),
    }


@pytest.mark.parametrize(
    ("second", "step"),
    [("margins", "shop_orders_dbt_test_duckdb"), ("margins report", "shop_orders_dbt_build_part_2")],
)
def test_tests_run_with_the_part_that_reads_their_tables_or_after_all(shop: Path, second: str, step: str) -> None:
    product = load_product(write(shop, [{"select": "sales"}, {"select": second}]))

    built = [found for found in build_definitions(product).assets or () if isinstance(found, dg.AssetsDefinition)]

    checked = {found.op.name: [spec.name for spec in found.check_specs] for found in built}
    assert [name for name, checks in checked.items() if "fits" in checks] == [step]


def test_resources_of_a_part_are_those_of_its_pods(shop: Path) -> None:
    steps = [{"select": "sales", "resources": "large"}, {"select": "margins", "resources": {"memory_limit": "8Gi"}}]

    found = steps_of(write(shop, steps, executor="k8s", run_resources={"size": "small"}))

    small = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
    large = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2000m", "memory": "2Gi"}}
    assert {short(step.name): step.resources for step in found} == {
        "rest": small,
        "part_1": large,
        # Dagster merges a step's resources with those of the run.
        "part_2": {**small, "limits": {"cpu": "500m", "memory": "8Gi"}},
        "rest_2": small,
    }


@pytest.mark.parametrize(
    ("runs", "part", "expected"),
    [
        (
            {"memory_request": "4Gi", "memory_limit": "8Gi"},
            {"memory_limit": "2Gi"},
            "steps[0].resources: memory_request 4Gi is more than memory_limit 2Gi when they override run_resources",
        ),
        (
            None,
            {"memory_request": "9Gi", "memory_limit": "1Gi"},
            "steps[0].resources: memory_request 9Gi is more than memory_limit 1Gi",
        ),
        (
            {"cpu_request": "16"},
            {"size": "small", "cpu_request": "1500m"},
            "steps[0].resources: cpu_request 1500m is more than cpu_limit 500m",
        ),
        (
            {"size": "small", "memory_request": "1Gi"},
            "large",
            "run_resources: memory_request 1Gi is more than memory_limit 512Mi",
        ),
    ],
)
def test_requests_above_the_limit_are_refused(shop: Path, runs: object, part: object, expected: str) -> None:
    path = write(shop, [{"select": "sales", "resources": part}], executor="k8s", run_resources=runs)

    fix = "Raise the limit, or lower the request. Correct it in manifest.yaml."
    assert problems(path) == [f"{expected}\n    fix: {fix}"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [{"select": "sales"}, {"select": "sales margins"}],
            [f"steps[1].select: 'sales margins' selects sales, which steps[0] selects already{EXCLUDE}"],
        ),
        (
            [{"select": "stg_orders sales"}, {"select": "report"}],
            [f"{CYCLE}stg_orders (steps[0]) -> int_sales (no part), int_sales (no part) -> sales (steps[0]){TOGETHER}"],
        ),
        (
            [{"select": "stg_orders report"}, {"select": "int_sales sales margins"}],
            [f"{CYCLE}stg_orders (steps[0]) -> int_sales (steps[1]), margins (steps[1]) -> report (steps[0])"],
        ),
        (
            [{"select": "tag:nothing"}],
            ["steps[0].select: 'tag:nothing' matches nothing"],
        ),
        ([{"resources": "large"}], ["steps[0].select: is missing"]),
        ([{"select": "sales", "max": 3}], ["steps[0].max: is only valid with `by`"]),
        ([{"by": "folder"}, {"select": "sales"}], ["steps[0].by: divides the whole product, and `steps` has other"]),
        ({"by": "folder", "select": "sales"}, ["steps[0].select: is not valid with `by`"]),
        ({"by": "tag"}, ["steps[0].by: must be 'group', 'folder' or 'layers'"]),
        ({"by": "folder", "max": 0}, ["steps[0].max: must be 1 or more"]),
        ([{"select": "sales", "pods": 2}], ["steps[0].pods: unknown key"]),
        ([{"select": "sales", "resources": "huge"}], ["steps[0].resources.size: must be 'small', 'medium' or 'large'"]),
        ([{"select": "sales", "name": "a b"}], ["steps[0].name: may have letters, digits and _ only"]),
        (
            [{"select": "sales", "name": "a"}, {"select": "margins", "name": "a"}],
            ["steps: the name 'a' is used 2 times (steps[0] and steps[1])"],
        ),
    ],
)
def test_errors_name_the_place_and_the_fix(shop: Path, steps: object, expected: list[str]) -> None:
    found = problems(write(shop, steps))

    assert len(found) == len(expected)
    assert all(problem.startswith(start) for problem, start in zip(found, expected, strict=True)), found


def test_parts_need_the_dbt_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOE_DBT_PROJECT_DIR", raising=False)
    path = write_json(tmp_path / "artifacts.json", contract(model("sales"), config={"steps": {"by": "folder"}}))

    what = "steps: product 'shop-orders' has no dbt project here that can be divided into parts"
    assert problems(path) == [f"{what}\n    fix: Set FLOE_DBT_PROJECT_DIR to the directory with dbt_project.yml."]


@pytest.mark.parametrize(
    ("config", "duckdb", "warning"),
    [
        ({"executor": "in_process"}, False, "steps: the executor in_process builds one part after the other"),
        ({}, True, "steps: one part is built after the other, because only one process at a time can open a DuckDB"),
        ({"steps": {"by": "folder", "resources": "large"}}, False, "steps[0].resources: has no effect"),
        (
            {"concurrency": {"pool": "db", "limit": 1}},
            False,
            "steps: one part is built after the other, because the pool 'db' has one slot",
        ),
        ({"steps": {"by": "layers", "max": 2}}, False, f"steps: {SEQUENCE}"),
        ({"steps": {"by": "folder", "max": 1}}, False, f"steps: {SEQUENCE}"),
        ({"steps": [{"select": "int_sales"}]}, False, f"steps: {SEQUENCE}"),
    ],
)
def test_parts_that_do_not_help_are_warned_about(
    shop: Path,
    config: dict[str, Any],
    duckdb: bool,  # noqa: FBT001  # a parameter
    warning: str,
) -> None:
    path = write(shop, config.pop("steps", {"by": "folder"}), **config)
    if duckdb:
        changed = contract(*(model(name, *reads) for name, reads in GRAPH.items()), config={"steps": {"by": "folder"}})
        write_json(path, {**changed, "dbt_profiles": profiles("shop_orders")})

    findings = examine_product(path)

    assert findings.errors == ()
    shown = [str(found.problem).removeprefix("plugins.orchestrator.config.") for found in findings.warnings]
    assert [text for text in shown if text.startswith("steps")] == [text for text in shown if text.startswith(warning)]
    assert any(text.startswith(warning) for text in shown), shown


@pytest.mark.parametrize(
    "config",
    [
        {"steps": {"by": "folder"}},
        {"steps": {"by": "folder"}, "concurrency": {"pool": "db", "limit": 2}},
        # Parts one after the other can have different pods.
        {"steps": [{"select": "int_sales", "resources": "large"}], "executor": "k8s"},
    ],
)
def test_parts_that_help_have_no_warning(shop: Path, config: dict[str, Any]) -> None:
    findings = examine_product(write(shop, **config))

    assert [str(found.problem) for found in findings.warnings if "config.steps" in str(found.problem)] == []


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, frozenset[str]]:
    size = draw(st.integers(1, 25))
    return {
        f"m{row}": frozenset(
            f"m{parent}" for parent in draw(st.sets(st.integers(0, row - 1), max_size=3) if row else st.just(set()))
        )
        for row in range(size)
    }


def assert_cut(parts: list[tuple[str, frozenset[str]]], parents: Parents, limit: int) -> None:
    """Check that each node is in exactly one part, and that parts read earlier parts only."""
    assert sorted(unique_id for _, nodes in parts for unique_id in nodes) == sorted(parents)
    assert 1 <= len(parts) <= limit
    place = {unique_id: row for row, (_, nodes) in enumerate(parts) for unique_id in nodes}
    assert all(place[parent] <= place[unique_id] for unique_id, read in parents.items() for parent in read)


@given(parents=graphs(), limit=st.integers(1, 12))
def test_layers_have_each_node_once_and_no_cycle(parents: Parents, limit: int) -> None:
    assert_cut(layered(parents, limit), parents, limit)


@given(data=st.data(), parents=graphs(), limit=st.integers(1, 12))
def test_labels_have_each_node_once_and_no_cycle(data: st.DataObject, parents: Parents, limit: int) -> None:
    labels = {unique_id: data.draw(st.sampled_from("abcdefgh")) for unique_id in parents}

    parts = labelled(labels, parents, limit)

    assert_cut(parts, parents, limit)
    joined = {
        label: {name for name, nodes in parts if any(labels[one] == label for one in nodes)} for label in "abcdefgh"
    }
    assert all(len(names) <= 1 for names in joined.values())


@given(data=st.data(), parents=graphs())
def test_nodes_without_a_label_cause_no_cycle(data: st.DataObject, parents: Parents) -> None:
    labels = {unique_id: data.draw(st.sampled_from(["a", "b", "c", None])) for unique_id in parents}

    filled = with_all_labels(labels, parents, "other")

    assert all(filled[unique_id] == label for unique_id, label in labels.items() if label)
    parts = [nodes for _, nodes in labelled(filled, parents, len(parents) * 2)]
    # Only labels that were written can be in a cycle, and then they were so without the others.
    apart = [{label for unique_id in nodes if (label := filled[unique_id])} for nodes in parts]
    assert all(not any(label.startswith("other") for label in found) for found in apart if len(found) > 1)


def test_a_thousand_labels_are_joined_in_seconds() -> None:
    names = [f"m{row}" for row in range(1000)]
    # Four chains side by side.
    parents = {name: frozenset(names[row - 4 : row - 3] if row > 3 else ()) for row, name in enumerate(names)}

    before = process_time()
    parts = labelled({name: f"folder_{name}" for name in names}, parents, 8)
    seconds = process_time() - before

    assert_cut(parts, parents, 8)
    assert len(parts) == 8
    assert seconds < 60
