"""Errors of invalid CompiledArtifacts, with place, problem and fix."""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from floe_core.schemas.compiled_artifacts import ResolvedTransforms
from hypothesis import given
from hypothesis import strategies as st

from floe_orchestrator_dagster.errors import ArtifactsError
from floe_orchestrator_dagster.product.artifacts import (
    check_dependencies_exist,
    check_product_name,
    dependency_problems,
    read_artifacts_file,
    validate_artifacts,
)
from unit.samples import RECOMPILE, contract, model, validated

if TYPE_CHECKING:
    from pathlib import Path

_COMPILE_AGAIN = "Compile the product again (floe platform compile)."
_NOT_YAML = "Compile the product again. The path must be that of the JSON output, not of floe.yaml or a ConfigMap."
_SECRET = "hunter2-do-not-print"  # noqa: S105  # the value that no message may show


def _refusal(content: dict[str, Any]) -> str:
    with pytest.raises(ArtifactsError) as raised:
        validate_artifacts(content, "contract")
    return str(raised.value)


def _changed(place: str, value: object) -> dict[str, Any]:
    """Make a contract with ``value`` at a place such as ``transforms.models[0].name``."""
    content = contract(model("stg_orders", "raw_orders"))
    *parents, last = [int(part) if part.isdigit() else part for part in re.split(r"\W+", place.replace("]", ""))]
    inner: Any = content
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return content


# --- the file -------------------------------------------------------------------------------------------------------


def test_file_is_read_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "compiled_artifacts.json"
    path.write_text('{"version": "0.16.0", "anything": [1, null]}', encoding="utf-8")

    assert read_artifacts_file(path) == {"version": "0.16.0", "anything": [1, None]}


def test_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    path = tmp_path / "compiled_artifacts.json"

    with pytest.raises(ArtifactsError) as raised:
        read_artifacts_file(path)

    assert str(raised.value) == (
        f"{path}: 1 problem\n"
        "  the file does not exist\n"
        "    fix: Compile the product (floe platform compile), "
        "or correct the path (FLOE_ARTIFACTS_PATH or the argument)."
    )


def test_directory_is_refused_with_the_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactsError) as raised:
        read_artifacts_file(tmp_path)

    assert str(raised.value) == (
        f"{tmp_path}: 1 problem\n"
        "  is a directory, not a file\n"
        f"    fix: Use the file in it, such as {tmp_path}/compiled_artifacts.json."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "compiled_artifacts.json"
    path.touch(mode=0o000)

    with pytest.raises(ArtifactsError) as raised:
        read_artifacts_file(path)

    assert str(raised.value) == (
        f"{path}: 1 problem\n  cannot be read (Permission denied)\n    fix: Let the user that runs Dagster read it."
    )


def test_path_through_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file" / "compiled_artifacts.json"
    path.parent.write_text("not a directory", encoding="utf-8")

    with pytest.raises(ArtifactsError) as raised:
        read_artifacts_file(path)

    assert str(raised.value).startswith(f"{path}: 1 problem\n  the file does not exist\n    fix: Compile the product")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "(line 1, column 1)"),
        (b'{"version": "0.16.0",\n "metadata": {', "(line 2, column 15)"),
        (b"version: 0.16.0\nmetadata: {}\n", "(line 1, column 1)"),
        (b'{"version": NaN}', "(line 1, column 13)"),
        (b"\xff\xfe{}", "(line 1, column 1)"),
    ],
    ids=["empty", "truncated", "yaml", "nan", "utf-16"],
)
def test_file_that_is_not_json_is_refused_with_its_line(tmp_path: Path, content: bytes, place: str) -> None:
    path = tmp_path / "compiled_artifacts.json"
    path.write_bytes(content)

    with pytest.raises(ArtifactsError) as raised:
        read_artifacts_file(path)

    # The words between are orjson's.
    message = str(raised.value)
    assert message.startswith(f"{path}: 1 problem\n  is not JSON, or is cut off: ")
    assert message.endswith(f" {place}\n    fix: {_NOT_YAML}")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("[]", "an array"),
        ('"x"', "a string"),
        ("7", "a number"),
        ("0.5", "a number"),
        ("7.0", "a number"),
        ("true", "a boolean"),
        ("null", "null"),
    ],
)
def test_json_that_is_not_an_object_is_refused(tmp_path: Path, content: str, kind: str) -> None:
    path = tmp_path / "compiled_artifacts.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(ArtifactsError) as raised:
        read_artifacts_file(path)

    assert str(raised.value) == f"{path}: 1 problem\n  contains {kind}, not a JSON object\n    fix: {_COMPILE_AGAIN}"


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_an_artifacts_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_bytes.json"
    path.write_bytes(content)

    try:
        read = read_artifacts_file(path)
    except ArtifactsError:
        return
    assert read == json.loads(content)


# --- the version ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.17.0", "0.100.0", "1.0.0", "2.16.0", "0.17.9"])
def test_newer_contract_requires_an_upgrade(version: str) -> None:
    assert _refusal(contract(version=version)) == (
        "contract: 1 problem\n"
        f"  version: compiled by a newer floe: contract {version}, floe-core here knows up to 0.16.0\n"
        "    fix: pip install --upgrade floe-core floe-orchestrator-dagster, or compile with this floe-core."
    )


def test_newer_contract_is_reported_before_the_fields_it_brings() -> None:
    assert "newer floe" in _refusal(contract(version="0.17.0", brand_new={"a": 1}))


@pytest.mark.parametrize("version", ["0.1.0", "0.9.0", "0.10.0", "0.16.0", "0.16.7"])
def test_known_contract_is_accepted(version: str) -> None:
    assert validate_artifacts(contract(version=version), "contract").version == version


def test_missing_version_means_the_newest_known() -> None:
    content = contract()
    del content["version"]

    assert validate_artifacts(content, "contract").version == "0.16.0"


@pytest.mark.parametrize("version", ["", "0.16", "v0.16.0", "0.16.0\n", "0.16.0-rc1", "latest", None, 0.16, 16])
def test_malformed_version_is_refused(version: object) -> None:
    shown = "null" if version is None else repr(version)
    assert _refusal(contract(version=version)) == (
        f"contract: 1 problem\n  version: {shown} is not a version (such as '0.16.0')\n    fix: {_COMPILE_AGAIN}"
    )


@pytest.mark.parametrize("version", [{"password": _SECRET}, [_SECRET], "x" * 500, "0." + "9" * 5000 + ".0"])
def test_absurd_version_is_refused_in_a_short_message(version: object) -> None:
    message = _refusal(contract(version=version))

    assert message.startswith("contract: 1 problem\n  version: ")
    assert len(message) < 300
    assert _SECRET not in message


def _of(place: str) -> str:
    """Name the entry that contains a place in a list."""
    return " (in 'stg_orders')" if place.startswith("transforms.models[0].") else ""


# --- fields ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("mode", "solo", "must be 'simple', 'centralized' or 'mesh', not 'solo'"),
        ("metadata", [], "must be a mapping, not an array"),
        ("metadata.product_version", 7, "must be a string, not 7"),
        ("metadata.product_version", None, "must be a string, not null"),
        ("identity.domain", "", "must not be empty"),
        ("observability.lineage", "ja", "must be true or false, not 'ja'"),
        ("transforms.models", {}, "must be a list, not an object"),
        ("transforms.models", [], "must not be empty"),
        ("transforms.models[0].compute", None, "must be a string, not null"),
        ("transforms.models[0].depends_on", "a", "must be a list, not 'a'"),
        ("transforms.models[0].depends_on[0]", 1.5, "must be a string, not 1.5"),
        ("transforms.models[0].quality_tier", "tin", "must be 'bronze', 'silver' or 'gold', not 'tin'"),
        ("dbt_profiles", True, "must be a mapping, not true"),
    ],
)
def test_wrong_value_is_reported_with_its_place(place: str, value: object, message: str) -> None:
    assert (
        _refusal(_changed(place, value))
        == f"contract: 1 problem\n  {place}: {message}{_of(place)}\n    fix: {RECOMPILE}"
    )


def test_long_value_is_cut() -> None:
    message = _refusal(_changed("mode", "x" * 300))

    assert message.splitlines()[1].endswith(f", not '{'x' * 78}…")


def test_missing_field_requires_a_new_compile() -> None:
    content = contract()
    del content["identity"]["domain"]

    assert _refusal(content) == f"contract: 1 problem\n  identity.domain: is missing\n    fix: {_COMPILE_AGAIN}"


@pytest.mark.parametrize(
    "place", ["colour", "metadata.colour", "transforms.models[0].colour", "api_token", "plugins.compute.password"]
)
def test_unknown_field_is_named_and_its_value_is_never_shown(place: str) -> None:
    assert _refusal(_changed(place, _SECRET)) == (
        "contract: 1 problem\n"
        f"  {place}: is a field that this contract does not have{_of(place)}\n"
        "    fix: Remove it, or upgrade floe-core if a newer floe wrote it."
    )


def test_wrong_value_of_a_field_that_may_hold_a_secret_is_not_shown() -> None:
    content = _changed("observability.telemetry.authentication", {"auth_type": "api_key", "api_key": [_SECRET]})

    assert _refusal(content) == (
        f"contract: 1 problem\n  observability.telemetry.authentication.api_key: must be a string\n    fix: {RECOMPILE}"
    )


@pytest.mark.parametrize("field", ["password", "api_token", "private_key", "client_secret", "credential"])
def test_secret_in_the_dbt_profile_is_refused_without_showing_it(field: str) -> None:
    content = contract(dbt_profiles={"shop": {"target": "dev", "outputs": {"dev": {"type": "x", field: _SECRET}}}})

    assert _refusal(content) == (
        "contract: 1 problem\n"
        f"  dbt_profiles: dbt_profiles.shop.outputs.dev.{field} looks like raw credential material; "
        "use dbt env_var() references instead\n"
        f"    fix: {RECOMPILE}"
    )


_GLUE = {"region": "eu", "warehouse": "s3://lake", "endpoint": f"https://user:{_SECRET}@glue.example"}
_OUTPUT = {
    "source_name": "files",
    "source_type": "filesystem",
    "logical_table": "raw.orders",
    "physical_table": "raw.orders",
    "file_format": "csv",
    "source_path": f"s3://key:{_SECRET}@landing/orders",
    "write_mode": "append",
    "schema_contract": "evolve",
}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("plugins.compute.config", {"password": _SECRET}),
        ("plugins.orchestrator.config", {"api_key": _SECRET}),
        ("deployment", {"catalog": {"provider": "glue", "glue": _GLUE}}),
        ("ingestion_outputs", [_OUTPUT]),
    ],
)
def test_secret_that_floe_core_refuses_is_not_shown(place: str, value: object) -> None:
    message = _refusal(_changed(place, value))

    assert "credential material" in message
    assert _SECRET not in message


def test_all_problems_are_reported_at_once_in_the_files_order() -> None:
    content = contract(model("stg_orders"))
    content["metadata"]["compiled_at"] = "yesterday"
    del content["identity"]["product_id"]
    content["extra"] = 1

    with pytest.raises(ArtifactsError) as raised:
        validate_artifacts(content, "contract")

    assert [problem.where for problem in raised.value.problems] == [
        "metadata.compiled_at",
        "identity.product_id",
        "extra",
    ]
    assert str(raised.value).startswith("contract: 3 problems\n")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(field=st.sampled_from([*contract()]), value=_JSON)
def test_any_value_in_any_field_is_accepted_or_an_artifacts_error(field: str, value: object) -> None:
    try:
        artifacts = validate_artifacts({**contract(model("stg_orders")), field: value}, "contract")
    except ArtifactsError as error:
        problems = error.problems
    else:
        problems = ()
        assert artifacts.metadata.product_version
    assert all(problem.where.startswith(field) for problem in problems)


# --- enforcement ----------------------------------------------------------------------------------------------------


def _enforcement(level: str, *, passed: bool) -> dict[str, Any]:
    return {
        "passed": passed,
        "error_count": 0 if passed else 4,
        "warning_count": 2,
        "policy_types_checked": ["naming"],
        "models_validated": 3,
        "enforcement_level": level,
    }


def test_failed_strict_enforcement_is_refused() -> None:
    assert _refusal(contract(enforcement_result=_enforcement("strict", passed=False))) == (
        "contract: 1 problem\n"
        "  enforcement_result.passed: false, with enforcement_level 'strict': 4 policy errors\n"
        "    fix: See `floe platform compile --enforcement-report`, fix the violations and compile again."
    )


@pytest.mark.parametrize(("level", "passed"), [("strict", True), ("warn", False), ("off", False), ("warn", True)])
def test_other_enforcement_results_are_accepted(level: str, passed: bool) -> None:  # noqa: FBT001  # a table's column
    artifacts = validate_artifacts(contract(enforcement_result=_enforcement(level, passed=passed)), "contract")

    assert artifacts.enforcement_result is not None
    assert artifacts.enforcement_result.passed is passed


# --- dependencies ---------------------------------------------------------------------------------------------------


def test_duplicate_model_is_reported_with_its_entries() -> None:
    assert _refusal(contract(model("a"), model("b"), model("a"), model("a"))) == (
        "contract: 1 problem\n"
        "  transforms.models: 'a' is declared 3 times (entries 0, 2, 3)\n"
        "    fix: Keep one entry for 'a' in floe.yaml and compile again."
    )


def test_self_dependency_is_reported() -> None:
    assert _refusal(contract(model("a"), model("b", "a", "b"))) == (
        f"contract: 1 problem\n  transforms.models[1].depends_on: 'b' depends on itself\n    fix: {RECOMPILE}"
    )


def test_duplicates_and_self_dependencies_are_reported_together() -> None:
    message = _refusal(contract(model("a"), model("a"), model("b", "b")))

    assert message.startswith("contract: 2 problems\n  transforms.models: 'a' is declared 2 times (entries 0, 1)\n")
    assert "\n  transforms.models[2].depends_on: 'b' depends on itself\n" in message


def test_cycle_is_reported_with_its_path() -> None:
    message = _refusal(contract(model("a", "c"), model("b", "a"), model("c", "b"), model("d", "a")))

    assert message in {
        f"contract: 1 problem\n  transforms.models: circular dependency: {path} (each depends on the next)\n"
        f"    fix: {RECOMPILE}"
        for path in ("a -> c -> b -> a", "b -> a -> c -> b", "c -> b -> a -> c")
    }


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=8, unique=True), st.data())
def test_every_reported_cycle_is_one_of_the_declared_dependencies(names: list[str], data: st.DataObject) -> None:
    depends_on = {name: data.draw(st.lists(st.sampled_from(names), unique=True)) for name in names}
    for name in names:
        depends_on[name] = [other for other in depends_on[name] if other != name]
    graph = ResolvedTransforms.model_validate(
        {"models": [model(name, *others) for name, others in depends_on.items()], "default_compute": "duckdb"}
    )

    problems = dependency_problems(graph.models)

    if problems:
        [problem] = problems
        path = problem.what.removeprefix("circular dependency: ").removesuffix(" (each depends on the next)")
        cycle = path.split(" -> ")
        assert cycle[0] == cycle[-1]
        assert all(after in depends_on[before] for before, after in itertools.pairwise(cycle))
    else:
        order = {name: row for row, name in enumerate(_leaves_first(depends_on))}
        assert all(order[other] < order[name] for name, others in depends_on.items() for other in others)


def _leaves_first(depends_on: dict[str, list[str]]) -> list[str]:
    placed: list[str] = []
    while len(placed) < len(depends_on):
        ready = [name for name in depends_on if name not in placed and set(depends_on[name]) <= set(placed)]
        assert ready, "a cycle was accepted"
        placed += ready
    return placed


def test_graph_without_problems_has_none() -> None:
    transforms = validated(model("a"), model("b", "a"), model("c", "a", "b")).transforms

    assert transforms is not None
    assert dependency_problems(transforms.models) == []


def test_missing_dependency_is_reported_with_the_closest_name() -> None:
    artifacts = validated(model("stg_orders"), model("fct_orders", "stg_orders", "stg_custmers", "nowhere"))

    with pytest.raises(ArtifactsError) as raised:
        check_dependencies_exist(artifacts, frozenset({"stg_customers"}), "contract")

    assert str(raised.value) == (
        "contract: 2 problems\n"
        "  transforms.models[1].depends_on[1]: 'fct_orders' depends on 'stg_custmers', which does not exist\n"
        f"    fix: Did you mean 'stg_customers'? {RECOMPILE}\n"
        "  transforms.models[1].depends_on[2]: 'fct_orders' depends on 'nowhere', which does not exist\n"
        f"    fix: {RECOMPILE}"
    )


def test_dependencies_on_models_and_on_names_of_dbt_exist() -> None:
    artifacts = validated(model("stg_orders", "raw_orders"), model("fct_orders", "stg_orders"))

    check_dependencies_exist(artifacts, frozenset({"raw_orders"}), "contract")


def test_artifacts_without_transforms_have_no_dependencies() -> None:
    check_dependencies_exist(validated(), frozenset(), "contract")


# --- the product ----------------------------------------------------------------------------------------------------


def test_other_product_is_refused() -> None:
    with pytest.raises(ArtifactsError) as raised:
        check_product_name(validated(), "shop-returns", "contract")

    assert str(raised.value) == (
        "contract: 1 problem\n"
        "  metadata.product_name: is 'shop-orders', expected 'shop-returns'\n"
        "    fix: Use the artifacts of 'shop-returns', or load 'shop-orders'."
    )


def test_expected_product_is_accepted() -> None:
    check_product_name(validated(), "shop-orders", "contract")


def test_path_that_the_system_rejects_is_reported_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300) / "compiled_artifacts.json"

    with pytest.raises(ArtifactsError) as raised:
        read_artifacts_file(path)

    assert str(raised.value) == (
        f"{path}: 1 problem\n"
        "  cannot be accessed: File name too long\n"
        "    fix: Correct the path, or let this user read the file."
    )
