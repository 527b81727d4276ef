"""``plugins.orchestrator.config`` is typed: unknown keys and wrong values are refused, all at once."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from conftest import SAMPLE
from floe_orchestrator_dagster.config import DagsterConfig, config_schema, manifest_schema, read_config
from floe_orchestrator_dagster.errors import ConfigError

_KNOWN = f"Known keys: {', '.join(sorted(DagsterConfig.model_fields))}. Correct it in manifest.yaml."


@pytest.mark.parametrize("values", [None, {}])
def test_nothing_configured_means_the_defaults(values: dict[str, object] | None) -> None:
    config = read_config(values, "contract")

    assert config == DagsterConfig(default_schedule=None, timezone="UTC", key_prefix=[], webserver_url=None)


def test_every_key_can_be_set() -> None:
    config = read_config(
        {
            "default_schedule": "0 6 * * *",
            "timezone": "Europe/Berlin",
            "key_prefix": ["retail", "eu"],
            "webserver_url": "http://dagster:3000",
        },
        "contract",
    )

    assert config.default_schedule == "0 6 * * *"
    assert config.timezone == "Europe/Berlin"
    assert config.key_prefix == ["retail", "eu"]
    assert config.webserver_url == "http://dagster:3000"


def test_misspelt_key_is_refused_with_the_closest_one() -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({"default_shedule": "0 6 * * *"}, "contract")

    assert str(raised.value) == (
        "contract: 1 problem\n"
        "  plugins.orchestrator.config.default_shedule: unknown key\n"
        f"    fix: did you mean 'default_schedule'? {_KNOWN}"
    )


def test_unknown_key_is_refused_without_its_value() -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({"xyz": "hunter2"}, "contract")

    assert str(raised.value) == (
        f"contract: 1 problem\n  plugins.orchestrator.config.xyz: unknown key\n    fix: {_KNOWN}"
    )


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("default_schedule", 5, "default_schedule: Input should be a valid string, not int"),
        ("timezone", None, "timezone: Input should be a valid string, not NoneType"),
        ("key_prefix", "retail", "key_prefix: Input should be a valid list, not str"),
        ("key_prefix", ["a", 1], "key_prefix[1]: Input should be a valid string, not int"),
        ("webserver_url", {}, "webserver_url: Input should be a valid string, not dict"),
    ],
)
def test_wrong_type_is_refused_with_the_type_found(key: str, value: object, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({key: value}, "contract")

    assert str(raised.value) == (
        f"contract: 1 problem\n  plugins.orchestrator.config.{problem}\n    fix: Correct it in manifest.yaml."
    )


def test_empty_default_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"plugins\.orchestrator\.config\.default_schedule: String should have at"):
        read_config({"default_schedule": ""}, "contract")


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({"timezone": 1, "key_prefix": None, "colour": "red"}, "contract")

    assert str(raised.value).startswith("contract: 3 problems\n")
    assert {problem.where for problem in raised.value.problems} == {
        "plugins.orchestrator.config.timezone",
        "plugins.orchestrator.config.key_prefix",
        "plugins.orchestrator.config.colour",
    }


@given(st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.lists(st.text())))
def test_any_mapping_is_a_config_or_a_config_error(values: dict[str, object]) -> None:
    try:
        config = read_config(values, "contract")
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ()
        assert set(values) <= set(DagsterConfig.model_fields)
        assert config.model_dump(include=set(values)) == values
    assert all(problem.where.startswith("plugins.orchestrator.config.") for problem in problems)


# --- the schema -----------------------------------------------------------------------------------------------------

_FULL: dict[str, object] = {
    "default_schedule": "0 6 * * *",
    "automation": {"condition": "eager"},
    "sensors": [{"type": "asset", "name": "upstream", "asset": "shop/orders"}],
    "partitions": [{"select": "fct_orders", "type": "daily", "start": "2026-01-01"}],
    "retries": {"max_retries": 2},
}
_REFUSED: list[dict[str, object]] = [
    {"default_shedule": "0 6 * * *"},
    {"timezone": 5},
    {"automation": [{"condition": "sometimes"}]},
    {"sensors": [{"type": "http", "name": "a"}]},
    {"retries": {"max_retries": -1}},
    {"run_resources": {"size": "huge"}},
    {"jobs": [{"name": "two words"}]},
]


def _valid(schema: dict[str, object], instance: object) -> bool:
    return bool(Draft202012Validator(schema).is_valid(instance))


def test_schemas_are_valid_json_schema_of_the_dialect_they_name() -> None:
    for schema in (config_schema(), manifest_schema()):
        assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
        Draft202012Validator.check_schema(schema)


def test_schema_accepts_and_refuses_what_reading_does() -> None:
    accepted: list[dict[str, object]] = [{}, _FULL, {"automation": [{"condition": "on_missing"}]}]
    for values in accepted:
        read_config(values, "contract")
        assert _valid(config_schema(), values)
    for values in _REFUSED:
        with pytest.raises(ConfigError):
            read_config(values, "contract")
        assert not _valid(config_schema(), values)


def test_manifest_schema_describes_the_configuration_and_nothing_else() -> None:
    manifest = yaml.safe_load((SAMPLE / "manifest.yaml").read_text(encoding="utf-8"))
    assert _valid(manifest_schema(), manifest)

    manifest["plugins"]["orchestrator"]["config"] = _FULL
    assert _valid(manifest_schema(), manifest)
    for values in _REFUSED:
        manifest["plugins"]["orchestrator"]["config"] = values
        assert not _valid(manifest_schema(), manifest)


def test_every_key_has_a_description() -> None:
    schema = config_schema()
    sections = {"DagsterConfig": schema, **schema["$defs"]}
    undescribed = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, described in section["properties"].items()
        if not described.get("description")
    ]

    assert undescribed == []
    assert len(sections) == 11
    assert all(section["description"] for section in sections.values())
