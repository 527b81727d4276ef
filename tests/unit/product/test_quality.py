"""Matching of declared quality checks with dbt tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from floe_core.schemas.quality_config import QualityConfig
from floe_core.schemas.quality_score import QualityCheck

from floe_orchestrator_dagster.product.quality import check_weight, match_quality_checks, quality_problems
from unit.samples import Json, manifest, model, node, validated

if TYPE_CHECKING:
    from floe_orchestrator_dagster.product.quality import QualityMatches


def declared(name: str = "id_unique", **fields: object) -> Json:
    """Declare a quality check on orders.id, as in the contract."""
    return {
        "name": name,
        "type": "unique",
        "column": "id",
        "dimension": "consistency",
        "severity": "critical",
        **fields,
    }


def dbt_test(
    name: str,
    kind: str | None = None,
    column: str | None = "id",
    arguments: Json | None = None,
    severity: str = "ERROR",
) -> Json:
    """Make a generic dbt test of a kind (with its namespace) on orders, or a singular one that reads orders."""
    namespace, _, short = (kind or "").rpartition(".")
    arguments = {"column_name": column, **(arguments or {})}
    generic = {
        "attached_node": "model.shop.orders",
        "column_name": column,
        "test_metadata": {"name": short, "namespace": namespace or None, "kwargs": arguments},
    }
    return node(
        name,
        "test",
        depends_on={"nodes": ["model.shop.orders"], "macros": []},
        config={"severity": severity, "enabled": True},
        **(generic if kind else {"attached_node": None}),
    )


def matches(check: Json, *tests: Json) -> QualityMatches:
    contract = validated(model("orders", quality_checks=[check]))
    assert contract.transforms is not None
    return match_quality_checks(contract.transforms.models, manifest(node("orders"), *tests))


def names(found: QualityMatches) -> list[str]:
    return [test.removeprefix("test.shop.") for test in found.checks[0].tests]


# --- which test implements a check ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "test"),
    [
        pytest.param({}, dbt_test("t", "unique"), id="same type and column"),
        pytest.param({"column": "ID"}, dbt_test("t", "unique", "id"), id="column in another case"),
        pytest.param({}, dbt_test("t", "unique", '"Id"'), id="column in quotes"),
        pytest.param(
            {"type": "expect_x"}, dbt_test("t", "dbt_expectations.expect_x"), id="namespace left out in floe.yaml"
        ),
        pytest.param({"type": "dbt_expectations.expect_x"}, dbt_test("t", "dbt_expectations.expect_x"), id="namespace"),
        pytest.param({"type": "dbt.unique"}, dbt_test("t", "unique"), id="dbt's own namespace"),
        pytest.param({"type": "shop.fresh"}, dbt_test("t", "fresh"), id="the project's own namespace"),
        pytest.param({"type": "t", "column": None}, dbt_test("t"), id="singular test called as the type"),
        pytest.param({"type": "t"}, dbt_test("t"), id="singular test, whatever the column"),
        pytest.param({"column": None}, dbt_test("t", "unique", None), id="table-level check"),
        pytest.param(
            {"type": "dbt_utils.x"},
            dbt_test("t", "dbt_utils.x", None, arguments={"column_name": "id"}),
            id="column as an argument of a table-level test",
        ),
    ],
)
def test_check_matches_the_test_of_its_type_on_its_column(check: Json, test: Json) -> None:
    found = matches(declared(**check), test)

    assert names(found) == ["t"]
    assert found.unimplemented == []


@pytest.mark.parametrize(
    ("check", "test"),
    [
        pytest.param({}, dbt_test("t", "not_null"), id="another type"),
        pytest.param({}, dbt_test("t", "unique", "other"), id="another column"),
        pytest.param({"column": None}, dbt_test("t", "unique"), id="table-level check, column test"),
        pytest.param({"type": "dbt_utils.x"}, dbt_test("t", "dbt_expectations.x"), id="another namespace"),
        pytest.param({}, dbt_test("t"), id="singular test of another name"),
        pytest.param(
            {}, {**dbt_test("t", "unique"), "attached_node": "model.shop.customers"}, id="the same on another model"
        ),
    ],
)
def test_check_without_such_a_test_is_unimplemented(check: Json, test: Json) -> None:
    found = matches(declared(**check), test)

    assert [(entry.check.name, entry.where) for entry in found.unimplemented] == [
        ("id_unique", "transforms.models[0].quality_checks[0]")
    ]


def test_test_with_equal_arguments_is_preferred() -> None:
    few = dbt_test("few", "accepted_values", arguments={"values": ["a"]})
    both = dbt_test("both", "accepted_values", arguments={"values": ["b", "a"]})

    exact = matches(declared(type="accepted_values", parameters={"values": ["a", "b"]}), few, both)
    other = matches(declared(type="accepted_values", parameters={"values": ["c"]}), few, both)

    assert names(exact) == ["both"]
    assert names(other) == ["few", "both"]


@pytest.mark.parametrize(
    ("parameter", "argument"),
    [("ref('customers')", 'ref( "customers" )'), (1, 1.0), (1, "1.0"), ([1, 2], [2, 1])],
)
def test_arguments_are_compared_in_any_notation(parameter: object, argument: object) -> None:
    right = dbt_test("right", "x", arguments={"p": argument})
    wrong = dbt_test("wrong", "x", arguments={"p": "another"})

    assert names(matches(declared(type="x", parameters={"p": parameter}), wrong, right)) == ["right"]


def test_every_version_of_a_model_has_the_checks_declared_for_it() -> None:
    contract = validated(model("dim", quality_checks=[declared()]))
    assert contract.transforms is not None
    versions = [
        {**node("dim", version=version, alias=f"dim_v{version}"), "unique_id": f"model.shop.dim.v{version}"}
        for version in (1, 2)
    ]

    found = match_quality_checks(contract.transforms.models, manifest(*versions))

    assert [check.node for check in found.checks] == ["model.shop.dim.v1", "model.shop.dim.v2"]


# --- disabled, several ----------------------------------------------------------------------------------------------


def test_disabled_check_disables_its_test() -> None:
    found = matches(declared(enabled=False), dbt_test("t", "unique"), dbt_test("u", "not_null"))

    assert found.checks == ()
    assert found.by_test == {}
    assert found.disabled_tests == {"test.shop.t"}


def test_test_of_several_checks_has_the_most_severe_enabled_one() -> None:
    checks = [
        declared("off", enabled=False),
        declared("low", severity="info"),
        declared("high", severity="critical"),
    ]
    contract = validated(model("orders", quality_checks=checks))
    assert contract.transforms is not None

    found = match_quality_checks(contract.transforms.models, manifest(node("orders"), dbt_test("t", "unique")))

    assert found.disabled_tests == frozenset()
    assert found.by_test["test.shop.t"].check.name == "high"


# --- weight ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "weight"),
    [
        ({"severity": "critical"}, 3.0),
        ({"severity": "warning"}, 1.0),
        ({"severity": "info"}, 0.5),
        ({"custom_weight": 7.5}, 7.5),
    ],
)
def test_weight_is_of_the_check_or_of_its_severity(fields: Json, weight: float) -> None:
    assert check_weight(QualityCheck(**declared(**fields)), None) == weight


def test_weight_of_a_severity_is_configured() -> None:
    config = QualityConfig.model_validate(
        {"provider": "dbt_expectations", "calculation": {"severity_weights": {"critical": 9.0}}}
    )

    assert check_weight(QualityCheck(**declared()), config) == 9.0
    assert check_weight(QualityCheck(**declared(severity="info")), config) == 1.0


# --- problems -------------------------------------------------------------------------------------------------------


def problems(check: Json, *tests: Json, materialized: str = "view") -> list[tuple[str, str, str]]:
    contract = validated(model("orders", quality_checks=[check]))
    assert contract.transforms is not None
    content = manifest(node("orders", config={"materialized": materialized}), *tests)
    found = quality_problems(match_quality_checks(contract.transforms.models, content), content)
    return [(problem.where, problem.what, problem.fix) for problem in found]


def test_no_problems_when_contract_and_dbt_agree() -> None:
    assert problems(declared(), dbt_test("t", "unique")) == []
    assert problems(declared(severity="info"), dbt_test("t", "unique", severity="warn")) == []


def test_unimplemented_check_is_reported_with_its_fix() -> None:
    assert problems(declared()) == [
        (
            "transforms.models[0].quality_checks[0]",
            "no dbt test implements the quality check 'id_unique' ('unique' on column 'id' of 'orders')",
            "Add that data test to the dbt project, or remove the check from floe.yaml and compile again.",
        )
    ]


@pytest.mark.parametrize(
    ("declared_severity", "dbt_severity", "effect", "fix"),
    [
        (
            "warning",
            "ERROR",
            "dbt's severity of t is error: its failure fails the run and skips downstream nodes",
            "set `severity: warn` on",
        ),
        (
            "critical",
            "warn",
            "dbt's severity of t is warn: downstream nodes in the same step are built although it fails",
            "remove `severity: warn` from",
        ),
    ],
)
def test_severities_that_differ_are_reported(declared_severity: str, dbt_severity: str, effect: str, fix: str) -> None:
    check = declared(severity=declared_severity)

    assert problems(check, dbt_test("t", "unique", severity=dbt_severity)) == [
        (
            "transforms.models[0].quality_checks[0].severity",
            f"'id_unique' is '{declared_severity}', but {effect}",
            f"If the contract is right, {fix} the dbt test; otherwise change the check in floe.yaml.",
        )
    ]


def test_parameters_that_differ_are_reported() -> None:
    check = declared(type="accepted_values", parameters={"values": ["a"]})

    assert problems(check, dbt_test("t", "accepted_values", arguments={"values": ["b"]})) == [
        (
            "transforms.models[0].quality_checks[0].parameters.values",
            "'id_unique' declares ['a'], but dbt's t runs with ['b']",
            "Use the same value in both. Only the dbt test runs.",
        )
    ]


def test_check_on_an_ephemeral_model_is_reported() -> None:
    [(where, what, _)] = problems(declared(), dbt_test("t", "unique"), materialized="ephemeral")

    assert where == "transforms.models[0].quality_checks[0]"
    assert what == "'orders' is an ephemeral model: no asset can show its quality check 'id_unique'"
