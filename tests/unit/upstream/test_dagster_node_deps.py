"""Dependencies of a job's steps: the same as Dagster's, without a search through all checks for each input."""

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003  # Dagster reads annotations at run time
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.code_location import definitions_from_file
from floe_orchestrator_dagster.upstream import dagster_node_deps
from floe_orchestrator_dagster.upstream.dagster_node_deps import find_problem, replace_node_dependencies
from processes import run_python
from unit.odd_products import singular_test, write_product
from unit.samples import node, source

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path
    from types import ModuleType

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

    Build = Callable[[AssetGraph], tuple[Any, Any]]

_OFF = """
from floe_orchestrator_dagster.upstream import dagster_node_deps
module = dagster_node_deps._module()
build = module.build_node_deps
dagster_node_deps.replace_node_dependencies()
print(module.build_node_deps is build)
"""
DAILY = {"warn_after": {"count": 1, "period": "day"}}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Dagster's module, with Dagster's own function until a test replaces it."""
    found = dagster_node_deps._module()
    assert found is not None
    own = found.build_node_deps
    monkeypatch.setattr(found, "build_node_deps", getattr(own, "__wrapped__", own))
    return found


def graph(directory: Path, count: int) -> AssetGraph:
    """Write and load a product of models that read a source each, with tests of models and of sources."""
    nodes = []
    for row in range(count):
        reads = [f"source.shop.erp.table_{row}", *([f"model.shop.model_{row - 1}"] if row % 2 else [])]
        nodes += [
            node(f"model_{row}", depends_on={"nodes": reads, "macros": []}),
            singular_test(f"of_model_{row}", f"model_{row}"),
        ]
    nodes += [singular_test(f"of_source_{row}", f"source.shop.erp.table_{row}") for row in range(count)]
    sources = [source("erp", f"table_{row}", **({"freshness": DAILY} if row < 2 else {})) for row in range(count)]
    return definitions_from_file(write_product(directory, *nodes, sources=sources)).resolve_asset_graph()


def test_steps_depend_on_the_same_outputs(tmp_path: Path, module: ModuleType) -> None:
    found = graph(tmp_path, 6)
    build: Build = module.build_node_deps.__wrapped__

    expected, expected_steps = build(found)
    deps, steps = module.build_node_deps(found)

    assert deps == expected
    assert {key.name: len(inputs) for key, inputs in deps.items()} == {
        "shop_orders_dbt_build": 0,
        "shop_orders_source_freshness": 1,
    }
    assert list(steps) == list(expected_steps)
    assert all(definition is expected_steps[handle] for handle, definition in steps.items())


def blocking(name: str, asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, blocking=True)


def test_steps_wait_for_blocking_checks_on_inputs_that_they_do_not_check(module: ModuleType) -> None:
    @dg.asset(check_specs=[blocking("own", "orders")])
    def orders() -> Iterator[Any]:
        yield from ()

    @dg.asset(deps=["orders", "customers"])
    def reading() -> None: ...

    @dg.multi_asset_check(specs=[blocking("of_customers", "customers"), blocking("first", "orders")])
    def first_checks() -> Iterator[Any]:
        yield from ()

    @dg.multi_asset_check(specs=[blocking("second", "orders")])
    def second_checks() -> Iterator[Any]:
        yield from ()

    found = dg.Definitions(
        assets=[orders, dg.AssetSpec("customers"), reading], asset_checks=[first_checks, second_checks]
    ).resolve_asset_graph()
    replace_node_dependencies()
    build: Build = module.build_node_deps.__wrapped__
    deps, _ = module.build_node_deps(found)

    assert deps == build(found)[0]
    assert {
        step.name: {name: sorted(one.output for one in dep.get_node_dependencies()) for name, dep in inputs.items()}
        for step, inputs in deps.items()
    } == {
        "orders": {},
        "reading": {
            "orders": ["orders_first", "orders_own", "orders_second", "result"],
            "customers": ["customers_of_customers"],
        },
        "first_checks": {"orders": ["result"]},
        "second_checks": {"orders": ["result"]},
    }


def test_job_and_its_part_are_those_of_dagster(
    tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = graph(tmp_path, 6)
    definitions = [*found.assets_defs]

    def part() -> AbstractSet[dg.AssetKey]:
        job = dg.Definitions(assets=definitions).resolve_implicit_global_asset_job_def()
        return {*job.get_subset(asset_selection={dg.AssetKey("model_1")}).asset_layer.executable_asset_keys}

    replaced = part()
    monkeypatch.setattr(module, "build_node_deps", module.build_node_deps.__wrapped__)

    assert replaced == part() == {dg.AssetKey("model_1")}


def test_twice_the_models_are_twice_the_work(
    tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = {count: graph(tmp_path / str(count), count) for count in (20, 40)}
    own: Any = dg.AssetKey.__hash__
    read = 0

    def hashed(key: dg.AssetKey) -> int:
        nonlocal read
        read += 1
        found: int = own(key)
        return found

    monkeypatch.setattr(dg.AssetKey, "__hash__", hashed)

    def work(build: Build, count: int) -> int:
        nonlocal read
        read = 0
        build(graphs[count])
        return read

    assert work(module.build_node_deps, 40) / work(module.build_node_deps, 20) < 2.5
    dagsters: Build = module.build_node_deps.__wrapped__
    assert work(dagsters, 40) / work(dagsters, 20) > 3


def test_a_second_call_replaces_nothing(module: ModuleType) -> None:
    replace_node_dependencies()
    once = module.build_node_deps
    replace_node_dependencies()

    assert module.build_node_deps is once


def test_without_patches_dagsters_function_is_used() -> None:
    assert run_python("-c", _OFF, FLOE_UPSTREAM_PATCHES="off").stdout == "True\n"
    assert run_python("-c", _OFF).stdout == "False\n"


def test_a_dagster_without_the_names_of_the_patch_gives_the_reason(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_problem() is None

    monkeypatch.delattr("dagster._core.definitions.dependency.BlockingAssetChecksDependencyDefinition")
    assert find_problem() == ("dagster._core.definitions.dependency has no BlockingAssetChecksDependencyDefinition")
    monkeypatch.delattr(module, "build_node_deps")
    assert str(find_problem()).endswith("have no build_node_deps")
