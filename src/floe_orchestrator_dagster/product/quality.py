"""Matching of the contract's quality checks with the dbt tests that implement them.

floe compiles ``qualityChecks`` of floe.yaml into the contract. It does not run them: dbt tests do. A declared check is
matched with dbt tests by model, type and column. These tests then have its name, dimension, severity and weight.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floe_core.schemas.quality_config import CalculationParameters, SeverityLevel

from floe_orchestrator_dagster.errors import Problem
from floe_orchestrator_dagster.product.manifest import declared_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_core.schemas.compiled_artifacts import ResolvedModel
    from floe_core.schemas.quality_config import QualityConfig
    from floe_core.schemas.quality_score import QualityCheck

UNIMPLEMENTED = "declared, not implemented by any dbt test: nothing was checked"

_SEVERITIES = [SeverityLevel.CRITICAL, SeverityLevel.WARNING, SeverityLevel.INFO]
_DBT = "dbt"  # namespace of dbt's own tests, which the manifest leaves out


@dataclass(frozen=True)
class DeclaredCheck:
    """A quality check of the contract on one dbt node.

    Attributes:
        check: The declaration in the contract.
        model: The model's name in the contract.
        node: Unique id of the dbt node. A model that is declared without a version can have several.
        where: Place in the contract, such as ``transforms.models[2].quality_checks[0]``.
        tests: Unique ids of the dbt tests that implement it; empty when no test does.
    """

    check: QualityCheck
    model: str
    node: str
    where: str
    tests: tuple[str, ...] = ()

    @property
    def is_critical(self) -> bool:
        """Whether a failure is an error that blocks downstream assets, instead of a warning."""
        return self.check.severity is SeverityLevel.CRITICAL


@dataclass(frozen=True)
class QualityMatches:
    """Declared checks matched with dbt tests.

    Attributes:
        checks: The enabled checks, in the contract's order.
        by_test: The check that each dbt test implements, by the test's unique id. If a test implements several checks,
            this is the most severe one.
        disabled_tests: dbt tests that implement only disabled checks; they are neither shown nor run.
    """

    checks: tuple[DeclaredCheck, ...]
    by_test: Mapping[str, DeclaredCheck]
    disabled_tests: frozenset[str]

    @property
    def unimplemented(self) -> list[DeclaredCheck]:
        """Checks that no dbt test implements."""
        return [declared for declared in self.checks if not declared.tests]


def match_quality_checks(models: Sequence[ResolvedModel], manifest: Mapping[str, Any]) -> QualityMatches:
    """Match declared checks with dbt tests.

    A test matches when it is on the check's model and column (case-insensitively) and has its type: the name of the
    generic test, with or without a namespace, or the name of the test itself. Of several matches, those whose arguments
    equal the declared parameters are preferred.

    Args:
        models: The contract's models.
        manifest: dbt's manifest, trimmed or whole.
    """
    tests_by_node = _tests_by_node(manifest)
    found = [
        DeclaredCheck(check, model.name, node, where, _implementing(check, tests_by_node.get(node, []), manifest))
        for model, node, row in _declared_nodes(models, manifest)
        for check, where in _checks_of(model, row)
    ]
    enabled = sorted((declared for declared in found if declared.check.enabled), key=_severity_rank)
    by_test = {test: declared for declared in reversed(enabled) for test in declared.tests}
    disabled = {test for declared in found if not declared.check.enabled for test in declared.tests}
    return QualityMatches(
        checks=tuple(declared for declared in found if declared.check.enabled),
        by_test=by_test,
        disabled_tests=frozenset(disabled - by_test.keys()),
    )


def check_weight(check: QualityCheck, config: QualityConfig | None) -> float:
    """Return a check's weight in the score: its own weight, else the weight of its severity."""
    if check.custom_weight is not None:
        return check.custom_weight
    calculation = config.calculation if config else CalculationParameters()
    return calculation.severity_weights.get(check.severity, 1.0)


def quality_problems(matches: QualityMatches, manifest: Mapping[str, Any]) -> list[Problem]:
    """Return warnings about differences between declared checks and dbt tests."""
    return [
        *(_invisible(declared) for declared in matches.checks if is_ephemeral(declared, manifest)),
        *(_unimplemented(declared) for declared in matches.unimplemented),
        *_severity_problems(matches, manifest),
        *_parameter_problems(matches, manifest),
    ]


def is_ephemeral(declared: DeclaredCheck, manifest: Mapping[str, Any]) -> bool:
    """Return whether a check's model is ephemeral, so that no asset can show the check."""
    return bool(manifest["nodes"][declared.node]["config"].get("materialized") == "ephemeral")


def is_error(test: Mapping[str, Any]) -> bool:
    """Return whether dbt's severity of a test is ``error``, the default: its failure skips downstream nodes."""
    return str(test["config"].get("severity") or "error").lower() == "error"


def _checks_of(model: ResolvedModel, row: int) -> Iterator[tuple[QualityCheck, str]]:
    for column, check in enumerate(model.quality_checks or []):
        yield check, f"transforms.models[{row}].quality_checks[{column}]"


def _declared_nodes(
    models: Sequence[ResolvedModel], manifest: Mapping[str, Any]
) -> Iterator[tuple[ResolvedModel, str, int]]:
    rows = {model.name: row for row, model in enumerate(models)}
    nodes: dict[int, list[str]] = {}
    for unique_id, name in declared_nodes(rows, manifest).items():
        nodes.setdefault(rows[name], []).append(unique_id)
    for row, model in enumerate(models):
        for unique_id in nodes.get(row, []):
            yield model, unique_id, row


def _tests_by_node(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    tests: dict[str, list[str]] = {}
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] == "test":
            attached = node.get("attached_node")
            for parent in [attached] if attached else node["depends_on"]["nodes"]:
                tests.setdefault(parent, []).append(unique_id)
    return tests


def _implementing(check: QualityCheck, tests: Sequence[str], manifest: Mapping[str, Any]) -> tuple[str, ...]:
    nodes = manifest["nodes"]
    fitting = [test for test in tests if _is_of_type(nodes[test], check.type) and _is_on(nodes[test], check.column)]
    agreeing = [test for test in fitting if not _differing(check, nodes[test])]
    return tuple(agreeing or fitting)


def _is_of_type(test: Mapping[str, Any], declared: str) -> bool:
    if declared == test["name"]:
        return True
    generic = test.get("test_metadata")
    if not generic:
        return False
    namespace, _, name = declared.rpartition(".")
    known = {generic.get("namespace") or _DBT, generic.get("namespace") or test["package_name"]}
    return bool(name == generic["name"]) and (not namespace or namespace in known)


def _is_on(test: Mapping[str, Any], column: str | None) -> bool:
    generic = test.get("test_metadata")
    if not generic:
        return True  # the columns of a singular test are unknown
    tested = test.get("column_name") or (generic.get("kwargs") or {}).get("column_name")
    return _column(tested) == _column(column)


def _column(name: str | None) -> str | None:
    return name.strip('"`[]').lower() if name else None


def _differing(check: QualityCheck, test: Mapping[str, Any]) -> dict[str, Any]:
    """Return the declared parameters that differ from the test's arguments; empty for a singular test."""
    generic = test.get("test_metadata")
    kwargs = (generic or {}).get("kwargs") or {}
    return {name: value for name, value in check.parameters.items() if generic and not _same(value, kwargs.get(name))}


def _same(declared: object, argument: object) -> bool:
    if isinstance(declared, (list, tuple)) and isinstance(argument, (list, tuple)):
        return sorted(map(_text, declared)) == sorted(map(_text, argument))
    return _text(declared) == _text(argument)


def _text(value: object) -> str:
    if isinstance(value, (bool, int, float)):
        return str(float(value))
    return re.sub(r"\s+", "", str(value)).replace('"', "'")


def _severity_rank(declared: DeclaredCheck) -> int:
    return _SEVERITIES.index(declared.check.severity)


def _unimplemented(declared: DeclaredCheck) -> Problem:
    check = declared.check
    place = f"column {check.column!r} of {declared.model!r}" if check.column else repr(declared.model)
    return Problem(
        declared.where,
        f"no dbt test implements the quality check {check.name!r} ({check.type!r} on {place})",
        "Add that data test to the dbt project, or remove the check from floe.yaml and compile again.",
    )


def _invisible(declared: DeclaredCheck) -> Problem:
    return Problem(
        declared.where,
        f"{declared.model!r} is an ephemeral model: no asset can show its quality check {declared.check.name!r}",
        "Materialize the model as a view, or declare the check on the model that reads it.",
    )


def _severity_problems(matches: QualityMatches, manifest: Mapping[str, Any]) -> Iterator[Problem]:
    for declared in matches.checks:
        for test in declared.tests:
            node = manifest["nodes"][test]
            if matches.by_test[test] == declared and is_error(node) != declared.is_critical:
                yield _severity_problem(declared, node["name"], fails_the_run=is_error(node))


def _severity_problem(declared: DeclaredCheck, test: str, *, fails_the_run: bool) -> Problem:
    if fails_the_run:
        effect = "its failure fails the run and skips downstream nodes"
        fix = "set `severity: warn` on the dbt test"
    else:
        effect = "downstream nodes in the same step are built although it fails"
        fix = "remove `severity: warn` from the dbt test"
    return Problem(
        f"{declared.where}.severity",
        f"{declared.check.name!r} is {declared.check.severity.value!r}, but dbt's severity of {test} is "
        f"{'error' if fails_the_run else 'warn'}: {effect}",
        f"If the contract is right, {fix}; otherwise change the check in floe.yaml.",
    )


def _parameter_problems(matches: QualityMatches, manifest: Mapping[str, Any]) -> Iterator[Problem]:
    for declared in matches.checks:
        for test in declared.tests:
            node = manifest["nodes"][test]
            for name, value in _differing(declared.check, node).items():
                found = (node["test_metadata"].get("kwargs") or {}).get(name)
                yield Problem(
                    f"{declared.where}.parameters.{name}",
                    f"{declared.check.name!r} declares {value!r}, but dbt's {node['name']} runs with {found!r}",
                    "Use the same value in both. Only the dbt test runs.",
                )
