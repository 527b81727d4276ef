"""Types of inputs and outputs: resolved as Dagster does, and those that are types already at once."""

import cProfile
import logging
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions import output
from dagster._core.types.dagster_type import resolve_dagster_type

from floe_orchestrator_dagster.upstream.dagster_output_types import take_types_as_they_are


@pytest.fixture(autouse=True)
def taken() -> None:
    assert take_types_as_they_are()


@pytest.mark.parametrize(
    "annotation",
    [dg.Nothing, dg.Any, dg.Int, int, None, dict, list, int | None, dg.Output[str], dg.MaterializeResult],
)
def test_types_are_those_of_dagster(annotation: Any) -> None:  # noqa: ANN401  # whatever can be an annotation
    ours: Any = dg.Out(annotation).dagster_type
    stock = resolve_dagster_type(annotation)

    assert (ours.display_name, ours.kind) == (stock.display_name, stock.kind)


def test_what_is_no_type_is_refused_as_by_dagster() -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="Invalid type"):
        dg.Out({})  # type: ignore[arg-type]  # the mistake


def test_types_are_not_resolved_again() -> None:
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(10):
        output.OutputDefinition(dg.Out(dg.Nothing).dagster_type, name="built")
    profile.disable()

    entries: list[Any] = profile.getstats()
    assert not [entry for entry in entries if getattr(entry.code, "co_name", "") == "resolve_dagster_type"]


@pytest.fixture
def other_dagster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Dagster whose outputs resolve their types by another name."""
    monkeypatch.delattr(output, "resolve_dagster_type")
    take_types_as_they_are.cache_clear()
    yield
    monkeypatch.undo()
    take_types_as_they_are.cache_clear()


@pytest.mark.usefixtures("other_dagster")
def test_dagster_that_resolves_types_otherwise_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert not take_types_as_they_are()

    assert [record.message for record in caplog.records if record.name.endswith("output_types")] == [
        "dagster._core.definitions.output resolves types otherwise than expected, which takes longer"
    ]
