"""Types of inputs and outputs of steps: the same as Dagster's, without a search through type annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from floe_orchestrator_dagster.upstream import dagster_output_types
from floe_orchestrator_dagster.upstream.dagster_output_types import find_problem, replace_type_resolution
from processes import run_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_OFF = """
from floe_orchestrator_dagster.upstream import dagster_output_types
modules = dagster_output_types._modules()
own = [module.resolve_dagster_type for module in modules]
dagster_output_types.replace_type_resolution()
print([module.resolve_dagster_type is function for module, function in zip(modules, own)])
"""
ANNOTATIONS = (
    dg.Nothing,
    None,
    int,
    str,
    Any,
    dict,
    list[int],
    str | None,
    dg.Int,
    dg.Output[int],
    dg.MaterializeResult,
)


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> list[ModuleType]:
    """Dagster's modules, with Dagster's own function until a test replaces it."""
    found = dagster_output_types._modules()
    for module in found:
        own = module.resolve_dagster_type
        monkeypatch.setattr(module, "resolve_dagster_type", getattr(own, "__wrapped__", own))
    return found


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=str)
def test_types_are_those_of_dagster(annotation: object, modules: list[ModuleType]) -> None:
    expected = [module.resolve_dagster_type(annotation) for module in modules]

    replace_type_resolution()

    assert [module.resolve_dagster_type(annotation) for module in modules] == expected
    assert [module.resolve_dagster_type(kind) for module, kind in zip(modules, expected, strict=True)] == expected


def test_inputs_and_outputs_have_the_types_of_dagster() -> None:
    def types() -> list[str]:
        @dg.op(
            ins={"after": dg.In(dg.Nothing), "number": dg.In(int)},
            out={"done": dg.Out(dg.Nothing), "text": dg.Out(str), "any": dg.Out()},
        )
        def step(number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  # the decorator has the types of outputs
            return number

        definitions: list[Any] = [*step.input_defs, *step.output_defs]
        return [f"{each.name}: {each.dagster_type.display_name}" for each in definitions]

    own = types()
    replace_type_resolution()

    assert types() == own == ["after: Nothing", "number: Int", "done: Nothing", "text: String", "any: Any"]


def test_a_type_that_is_not_valid_is_refused_with_dagsters_message() -> None:
    replace_type_resolution()

    with pytest.raises(dg.DagsterInvalidDefinitionError, match="isn't hashable"):
        dg.Out({"a": int})  # type: ignore[arg-type]


def test_annotations_of_steps_are_not_searched_for_resolved_types(
    modules: list[ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[object] = []

    def searching(resolve: Callable[[object], dg.DagsterType]) -> Callable[[object], dg.DagsterType]:
        def resolve_and_note(kind: object) -> dg.DagsterType:
            searched.append(kind)
            return resolve(kind)

        return resolve_and_note

    for module in modules:
        monkeypatch.setattr(module, "resolve_dagster_type", searching(module.resolve_dagster_type))
    replace_type_resolution()

    def searches(count: int) -> int:
        searched.clear()
        specs = [dg.AssetSpec(f"asset_{row}", deps=[f"source_{row}"]) for row in range(count)]

        @dg.multi_asset(specs=specs, can_subset=True)
        def step():  # type: ignore[no-untyped-def]  # noqa: ANN202  # as Dagster's multi-assets are written
            """Return nothing."""

        assert len(step.keys) == count
        return len(searched)

    assert searches(20) == searches(2)


def test_a_function_that_changes_resolved_types_is_not_replaced(
    modules: list[ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules[0], "resolve_dagster_type", lambda _kind: "a type")
    assert find_problem() == "resolve_dagster_type of dagster._core.definitions.input changes a type that is resolved"

    monkeypatch.delattr(modules[0], "resolve_dagster_type")
    assert find_problem() == "dagster._core.definitions.input has no resolve_dagster_type"


def test_a_second_call_replaces_nothing(modules: list[ModuleType]) -> None:
    replace_type_resolution()
    once = [module.resolve_dagster_type for module in modules]
    replace_type_resolution()

    assert [module.resolve_dagster_type for module in modules] == once


def test_without_patches_dagsters_function_is_used() -> None:
    assert run_python("-c", _OFF, FLOE_UPSTREAM_PATCHES="off").stdout == "[True, True]\n"
    assert run_python("-c", _OFF).stdout == "[False, False]\n"
