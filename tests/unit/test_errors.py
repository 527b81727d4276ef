"""Exceptions: tree, messages, pickling, and ValueErrors where floe's contract requires them."""

from __future__ import annotations

import inspect
import pickle

import pytest

from floe_orchestrator_dagster import errors
from floe_orchestrator_dagster.errors import (
    ArtifactsError,
    ConfigError,
    DbtBuildError,
    DbtNodesError,
    DeployError,
    EngineError,
    EntryPointError,
    FloeDagsterError,
    LineageError,
    ManifestError,
    Problem,
    ProfileError,
    ProjectError,
    ScheduleError,
    SpecError,
)

_FILE_ERRORS = (
    ArtifactsError,
    SpecError,
    ConfigError,
    ProjectError,
    ManifestError,
    ProfileError,
    EngineError,
    DeployError,
    LineageError,
)
_VALUE_ERRORS = (ArtifactsError, SpecError, ConfigError, ScheduleError, DeployError, EntryPointError)


def _public_errors() -> dict[str, type[Exception]]:
    return {
        name: value
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, Exception) and not name.startswith("_")
    }


def test_all_exceptions_have_one_base() -> None:
    assert all(issubclass(error, FloeDagsterError) for error in _public_errors().values())


def test_every_error_is_in_the_tree_of_the_docstring() -> None:
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if line.strip().startswith(("├", "└"))}

    assert drawn == set(_public_errors()) - {"FloeDagsterError"}


def test_errors_marked_as_value_errors_in_the_tree_are_value_errors() -> None:
    lines = (errors.__doc__ or "").splitlines()
    marked = {line.split()[1] for line in lines if "(also a ValueError)" in line}

    assert marked == {error.__name__ for error in _VALUE_ERRORS}
    assert {name for name, error in _public_errors().items() if issubclass(error, ValueError)} == marked


@pytest.mark.parametrize("error", _FILE_ERRORS)
def test_problems_of_a_file_are_listed_each_with_its_fix(error: type[ArtifactsError]) -> None:
    problems = [Problem("models[0].name", "is 'a'", "Call it 'b'."), Problem("", "is too long", "Cut it.")]

    raised = error("file.json", problems)

    assert str(raised) == (
        "file.json: 2 problems\n  models[0].name: is 'a'\n    fix: Call it 'b'.\n  is too long\n    fix: Cut it."
    )
    assert raised.origin == "file.json"
    assert raised.problems == tuple(problems)


def test_problems_with_the_same_fix_are_listed_together_with_one_fix() -> None:
    problems = [Problem("a", "is 1", "Call it x."), Problem("b", "is 2", "Cut it."), Problem("c", "is 3", "Call it x.")]

    raised = ProjectError("dir", problems)

    assert str(raised) == ("dir: 3 problems\n  a: is 1\n  c: is 3\n    fix: Call it x.\n  b: is 2\n    fix: Cut it.")
    assert raised.problems == tuple(problems)


def test_one_problem_is_counted_in_the_singular() -> None:
    assert str(ProjectError("dir", [Problem("", "is empty", "Fill it.")])) == (
        "dir: 1 problem\n  is empty\n    fix: Fill it."
    )


@pytest.mark.parametrize("error", [ScheduleError, EntryPointError, DbtBuildError])
def test_errors_without_problems_show_only_their_message(error: type[FloeDagsterError]) -> None:
    assert str(error("no such job")) == "no such job"


def test_failed_nodes_survive_a_process_boundary() -> None:
    error = DbtNodesError("/shop", "1 failed", [Problem("a.sql", "is wrong", "Mend it.")], [], retryable=False)

    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert (type(copied), str(copied), copied.retryable) == (DbtNodesError, str(error), False)


def test_error_survives_a_process_boundary() -> None:
    error = ArtifactsError("file.json", [Problem("a.b", "is wrong", "Mend it.")])

    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert (type(copied), str(copied), copied.problems) == (ArtifactsError, str(error), error.problems)
