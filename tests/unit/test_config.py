"""Typed ``plugins.orchestrator.config``: unknown keys and wrong values are refused, all at once."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from conftest import SAMPLE
from floe_orchestrator_dagster.config import (
    DagsterConfig,
    config_schema,
    examine_config,
    manifest_schema,
    read_config,
)
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
        f"    fix: Did you mean 'default_schedule'? {_KNOWN}"
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
        ("default_schedule", 5, "default_schedule: must be a string, not a number"),
        ("timezone", None, "timezone: must be a string, not null"),
        ("key_prefix", "retail", "key_prefix: must be a list, not a string"),
        ("key_prefix", ["a", 1], "key_prefix[1]: must be a string, not a number"),
        ("webserver_url", {}, "webserver_url: must be a string, not a mapping"),
    ],
)
def test_wrong_type_is_refused_with_the_type_found(key: str, value: object, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config({key: value}, "contract")

    assert str(raised.value) == (
        f"contract: 1 problem\n  plugins.orchestrator.config.{problem}\n    fix: Correct it in manifest.yaml."
    )


def test_empty_default_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"plugins\.orchestrator\.config\.default_schedule: must not be empty"):
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


# --- the sections ---------------------------------------------------------------------------------------------------

# Every section with all of its keys, and the place in its errors.
_OPTIONS: dict[str, object] = {
    "empty": False,
    "sample": "3 days",
    "defer": True,
    "state": "/srv/state",
    "favor_state": True,
}
_SECTIONS: dict[str, dict[str, object]] = {
    "jobs[0]": {
        **_OPTIONS,
        "name": "a",
        "select": "x",
        "exclude": "y",
        "description": "z",
        "build": "changed",
        "tags": {"k": "v"},
    },
    "schedules[0]": {
        **_OPTIONS,
        "name": "a",
        "cron": "@daily",
        "timezone": "UTC",
        "job": None,
        "select": "x",
        "exclude": "y",
        "build": "all",
        "enabled": False,
        "tags": {"k": "v"},
    },
    "automation[0]": {"condition": "on_cron", "select": "x", "exclude": "y", "cron": "@daily", "timezone": "UTC"},
    "sensors[0]": {
        "type": "run_status",
        "name": "a",
        "status": "canceled",
        "jobs": ["b"],
        "job": "c",
        "enabled": False,
    },
    "retries": {"max_retries": 1, "delay_seconds": 0.5, "backoff": "linear", "jitter": "full"},
    "concurrency": {"pool": "a", "limit": 1},
    "partitions[0]": {
        "select": "x",
        "exclude": "y",
        "type": "daily",
        "start": "2026-01-01",
        "end": "2026-02-01",
        "timezone": "UTC",
        "end_offset": 1,
        "vars": {"start": "a", "end": "b", "key": "c"},
        "time_column": "t",
    },
    "state": {"url": "s3://bucket/state", "keep": 3, "production": "prod"},
    "steps[0]": {
        "select": "x",
        "exclude": "y",
        "name": "a",
        "resources": {"size": "small", "cpu_limit": "2"},
    },
    "alerts[0]": {
        "name": "a",
        "variable": "A_URL",
        "owners": ["team:retail"],
        "severity": "warning",
        "quiet_hours": {"start": "22:00", "end": "07:00", "timezone": "UTC"},
    },
    "run_resources": {
        "size": "small",
        "cpu_request": "1",
        "cpu_limit": "2",
        "memory_request": "1Gi",
        "memory_limit": "2.5Gi",
    },
    "deploy": {
        "size": "large",
        "image": "shop:1",
        "webserver": {"cpu_limit": "2"},
        "daemon": {"size": "small"},
        "user_code": {"memory_limit": "4Gi"},
    },
}
# Entries that have names are called by them.
_NOUNS = {"jobs[0]": "job", "schedules[0]": "schedule", "sensors[0]": "sensor", "alerts[0]": "alert"}
# The name of each section's model in the JSON schema.
_MODELS = {
    "jobs[0]": "JobConfig",
    "schedules[0]": "ScheduleConfig",
    "automation[0]": "AutomationConfig",
    "sensors[0]": "RunStatusSensorConfig",
    "retries": "RetriesConfig",
    "concurrency": "ConcurrencyConfig",
    "partitions[0]": "PartitionsConfig",
    "state": "StateConfig",
    "steps[0]": "StepConfig",
    "alerts[0]": "AlertConfig",
    "run_resources": "PodResources",
    "deploy": "DeployConfig",
}
_ASSET_SENSOR: dict[str, object] = {"type": "asset", "name": "a", "asset": "b/c", "job": "d", "enabled": False}


def _values(place: str, section: object) -> dict[str, object]:
    """Make the configuration that has a section at its place."""
    key, _, row = place.partition("[")
    return {key: [section] if row else section}


def _problems(values: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read_config(values, "contract")
    return [str(problem).removeprefix("plugins.orchestrator.config.") for problem in raised.value.problems]


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JavaScript://docs.example.com/%0aalert(1)",
        "data:text/html,x",
        "docs.example.com",
        "https://",
        "https:///x",
        " https://docs.example.com",
        "https://docs.example.com/ x",
        "https://docs.example.com\njavascript:alert(1)",
    ],
)
def test_docs_url_is_the_address_of_a_web_page(address: str) -> None:
    [problem] = _problems({"docs_url": address})

    fix = "Write it like `https://docs.example.com/retail`. Correct it in manifest.yaml."
    assert problem == f"docs_url: is not the address of a web page\n    fix: {fix}"


@pytest.mark.parametrize("address", ["https://docs.example.com/retail", "HTTP://localhost:8080", "http://[::1]/#!/x"])
def test_docs_url_may_be_any_web_page(address: str) -> None:
    assert read_config({"docs_url": address}, "contract").docs_url == address


@pytest.mark.parametrize(("place", "section"), [*_SECTIONS.items(), ("sensors[0]", _ASSET_SENSOR)])
def test_every_key_of_a_section_can_be_set(place: str, section: dict[str, object]) -> None:
    key = place.partition("[")[0]

    read = getattr(read_config(_values(place, section), "contract"), key)

    [found] = read if isinstance(read, list) else [read]
    assert found.model_dump(include=set(section), exclude_unset=True) == section


@pytest.mark.parametrize(("place", "section"), [*_SECTIONS.items(), ("sensors[0]", _ASSET_SENSOR)])
def test_unknown_key_of_a_section_is_refused_with_the_known_ones(place: str, section: dict[str, object]) -> None:
    [problem] = _problems(_values(place, {**section, "colour": "red"}))

    selections = {"selector", "dagster"}
    others = {
        "partitions[0]": {"values"},
        "steps[0]": {"by", "max"},
        "alerts[0]": {"plugin", "config", "variables"},
        "jobs[0]": selections,
        "schedules[0]": selections,
        "automation[0]": selections,
    }
    known = sorted({*section, *others.get(place, ())})
    entry = f" ({_NOUNS[place]} 'a')" if place in _NOUNS else ""
    assert problem == (
        f"{place}.colour: unknown key{entry}\n    fix: Known keys: {', '.join(known)}. Correct it in manifest.yaml."
    )


def test_unknown_key_of_partition_variables_is_refused_with_the_known_ones() -> None:
    section = {**_SECTIONS["partitions[0]"], "vars": {"begin": "x"}}

    assert _problems({"partitions": [section]}) == [
        "partitions[0].vars.begin: unknown key\n    fix: Known keys: end, key, start. Correct it in manifest.yaml."
    ]


def test_unknown_key_of_any_section_in_the_schema_is_refused_with_the_known_ones() -> None:
    sections = {
        "webserver_headers[0]": ({"name": "Authorization", "variable": "A"}, "HeaderConfig"),
        "alerts[0].quiet_hours": ({"start": "22:00", "end": "07:00"}, "QuietHours"),
        "steps[0].resources": ({"size": "small"}, "PodResources"),
        "partitions[0].vars": ({}, "PartitionVars"),
        "dbt": ({}, "DbtConfig"),
        "lineage": ({}, "LineageConfig"),
        "deploy.webserver": ({}, "PodResources"),
        "deploy.daemon": ({}, "PodResources"),
        "deploy.user_code": ({}, "PodResources"),
    }
    definitions = config_schema()["$defs"]
    tested = {model for _, model in sections.values()}
    assert tested | {_MODELS[place] for place in _SECTIONS} | {"AssetSensorConfig", "ComputeConfig"} == {*definitions}
    for place, (section, model) in sections.items():
        outer, _, inner = place.partition(".")
        unknown = {**section, "zzz": "red"}
        values = _values(outer, {**_SECTIONS.get(outer, {}), inner: unknown} if inner else unknown)

        [problem] = _problems(values)

        known = ", ".join(sorted(definitions[model]["properties"]))
        named = " (alert 'a')" if outer == "alerts[0]" else ""
        assert problem == (
            f"{place}.zzz: unknown key{named}\n    fix: Known keys: {known}. Correct it in manifest.yaml."
        )


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("jobs[0]", "name"),
        ("schedules[0]", "name"),
        ("schedules[0]", "cron"),
        ("automation[0]", "condition"),
        ("sensors[0]", "name"),
        ("sensors[0]", "status"),
        ("sensors[0]", "job"),
        ("alerts[0]", "name"),
        ("retries", "max_retries"),
        ("concurrency", "pool"),
        ("partitions[0]", "select"),
        ("partitions[0]", "type"),
    ],
)
def test_missing_key_of_a_section_is_refused(place: str, key: str) -> None:
    section = {name: value for name, value in _SECTIONS[place].items() if name != key}

    entry = f" ({_NOUNS[place]} 'a')" if place in _NOUNS and key != "name" else ""
    assert _problems(_values(place, section)) == [
        f"{place}.{key}: is missing{entry}\n    fix: Correct it in manifest.yaml."
    ]


@pytest.mark.parametrize(
    ("place", "key", "value", "problem"),
    [
        ("jobs[0]", "name", 1, "must be a string, not a number"),
        ("jobs[0]", "name", "a-b", "may have letters, digits and _ only"),
        ("jobs[0]", "name", "", "may have letters, digits and _ only"),
        ("jobs[0]", "name", "x" * 129, "is longer than 128 characters"),
        ("jobs[0]", "select", "", "must not be empty"),
        ("jobs[0]", "select", ["a"], "must be a string, not a list"),
        ("jobs[0]", "tags", [], "must be a mapping, not a list"),
        ("schedules[0]", "cron", "", "must not be empty"),
        ("schedules[0]", "cron", 5, "must be a string, not a number"),
        ("schedules[0]", "enabled", "yes", "must be true or false, not a string"),
        ("automation[0]", "condition", "daily", "must be 'eager', 'on_cron', 'on_missing' or 'changed'"),
        ("sensors[0]", "status", "failed", "must be 'success', 'failure' or 'canceled'"),
        ("sensors[0]", "jobs", "b", "must be a list, not a string"),
        ("retries", "max_retries", -1, "must be 0 or more"),
        ("retries", "max_retries", 101, "must be 100 or less"),
        ("retries", "max_retries", "3", "must be a whole number, not a string"),
        ("retries", "delay_seconds", -0.5, "must be 0 or more"),
        ("retries", "backoff", "none", "must be 'linear' or 'exponential'"),
        ("retries", "jitter", True, "must be 'full' or 'plus_minus'"),
        ("concurrency", "pool", "", "must not be empty"),
        ("concurrency", "pool", "a b", "must not contain spaces"),
        ("concurrency", "limit", 0, "must be 1 or more"),
        ("run_resources", "size", "xl", "must be 'small', 'medium' or 'large'"),
        ("run_resources", "cpu_limit", 2, "must be a string, not a number"),
        ("partitions[0]", "type", "yearly", "must be 'hourly', 'daily', 'weekly', 'monthly' or 'static'"),
        ("partitions[0]", "end_offset", 10_001, "must be 10000 or less"),
        ("alerts[0]", "severity", "info", "must be 'error' or 'warning'"),
        ("alerts[0]", "variable", "a-b", "is not a valid name of a variable"),
        ("partitions[0]", "end_offset", 0.5, "must be a whole number, not a number with a fraction"),
    ],
)
def test_wrong_value_in_a_section_is_refused_with_its_place(place: str, key: str, value: object, problem: str) -> None:
    section = {**_SECTIONS[place], key: value}

    entry = f" ({_NOUNS[place]} 'a')" if place in _NOUNS and key != "name" else ""
    [found] = _problems(_values(place, section))
    assert found.startswith(f"{place}.{key}: {problem}{entry}\n    fix: ")
    assert found.endswith("Correct it in manifest.yaml.")


def test_tag_that_is_not_a_string_is_refused_with_its_place() -> None:
    section = {**_SECTIONS["schedules[0]"], "tags": {"retries": 1}}

    assert _problems({"schedules": [section]}) == [
        (
            "schedules[0].tags.retries: must be a string, not a number (schedule 'a')\n"
            "    fix: Correct it in manifest.yaml."
        )
    ]


@pytest.mark.parametrize("time", ["24:00", "7:00", "22:60", "22:00:00"])
def test_time_of_quiet_hours_that_is_not_valid_is_refused(time: str) -> None:
    alert = {"name": "a", "variable": "A", "quiet_hours": {"start": time, "end": "07:00"}}

    assert _problems({"alerts": [alert]}) == [
        (
            "alerts[0].quiet_hours.start: is not a time of the day (alert 'a')\n"
            '    fix: Write it in quotes, like `"22:00"`. Correct it in manifest.yaml.'
        )
    ]


@pytest.mark.parametrize("quantity", ["", "1.", "m", "1 Gi", "-1", "1gi", "1e3"])
def test_quantity_that_kubernetes_does_not_know_is_refused(quantity: str) -> None:
    [problem] = _problems({"run_resources": {"memory_limit": quantity}})

    assert problem.startswith(
        "run_resources.memory_limit: is not a Kubernetes quantity\n    fix: Write it like `500m`, `2` or `512Mi`. "
    )


@pytest.mark.parametrize("quantity", ["1", "0.5", "250m", "512Mi", "1.5Gi", "2G", "64k", "1Ti"])
def test_quantity_of_kubernetes_is_accepted(quantity: str) -> None:
    resources = read_config({"run_resources": {"cpu_limit": quantity}}, "contract").run_resources

    assert resources is not None
    assert resources.cpu_limit == quantity


@pytest.mark.parametrize("sensor", [{"name": "a"}, {"type": "file", "name": "a"}, "a", None])
def test_sensor_without_a_known_type_is_refused_with_its_place(sensor: object) -> None:
    [problem] = _problems({"sensors": [sensor]})

    assert problem.startswith(
        ("sensors[0].type: is missing", "sensors[0].type: must be 'run_status' or", "sensors[0]: must be")
    )


def test_key_of_the_other_kind_of_sensor_is_unknown() -> None:
    [problem] = _problems({"sensors": [{**_ASSET_SENSOR, "status": "success"}]})

    known = "asset, enabled, job, name, type"
    assert problem.startswith("sensors[0].status: unknown key (sensor 'a')\n")
    assert problem.endswith(f"Known keys: {known}. Correct it in manifest.yaml.")


def test_one_rule_is_the_same_as_a_list_of_one() -> None:
    rule = {"condition": "eager"}

    assert read_config({"automation": rule}, "contract") == read_config({"automation": [rule]}, "contract")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            {"condition": "on_cron"},
            (
                "is missing: the condition on_cron needs a cron\n"
                '    fix: Add one, such as `cron: "0 6 * * *"`, or use the condition eager, on_missing or changed.'
            ),
        ),
        (
            {"condition": "eager", "cron": "@daily"},
            (
                "is only valid with the condition on_cron, and the condition is eager\n"
                "    fix: Remove it, or write `condition: on_cron`."
            ),
        ),
    ],
)
def test_cron_is_valid_with_on_cron_only(rule: dict[str, object], problem: str) -> None:
    assert _problems({"automation": [{"condition": "on_missing"}, rule]}) == [
        f"automation[1].cron: {problem} Correct it in manifest.yaml."
    ]


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"type": "static"}, ["values: is missing: static partitions need a list of keys"]),
        ({"type": "static", "values": ["a", "b", "a"]}, ["values: 'a' is listed 2 times"]),
        (
            {"type": "static", "values": ["a"], "start": "2026-01-01", "end_offset": 1},
            [
                "start: is only valid with time partitions, and the type is static",
                "end_offset: is only valid with time partitions, and the type is static",
            ],
        ),
        ({"type": "daily"}, ["start: is missing: daily partitions need it"]),
        (
            {"type": "daily", "start": "2026-01-01", "values": ["a"]},
            ["values: is only valid with static partitions, and the type is daily"],
        ),
        ({"type": "daily", "start": "01.01.2026"}, ["start: '01.01.2026' is not a valid start of daily partitions"]),
        (
            {"type": "hourly", "start": "2026-01-01", "end": "2026"},
            [
                "start: '2026-01-01' is not a valid start of hourly partitions",
                "end: '2026' is not a valid end of hourly partitions",
            ],
        ),
        (
            {"type": "monthly", "start": "2026-01-01", "end": "2026-01-01"},
            ["end: '2026-01-01' is not after the start '2026-01-01'"],
        ),
    ],
)
def test_partitions_that_contradict_themselves_are_refused(changes: dict[str, object], problems: list[str]) -> None:
    found = _problems({"partitions": [{"select": "x", **changes}]})

    assert [problem.splitlines()[0] for problem in found] == [f"partitions[0].{problem}" for problem in problems]
    assert all(problem.endswith("Correct it in manifest.yaml.") for problem in found)


def test_date_is_shown_in_the_required_form() -> None:
    [problem] = _problems({"partitions": [{"select": "x", "type": "hourly", "start": "2026-01-01"}]})

    assert problem.endswith("fix: Write it as '2026-01-31-00:00'. Correct it in manifest.yaml.")


@pytest.mark.parametrize(
    ("section", "entry"),
    [
        ("jobs", {"name": "twice"}),
        ("schedules", {"name": "twice", "cron": "@daily"}),
        ("sensors", {**_ASSET_SENSOR, "name": "twice"}),
        ("alerts", {"name": "twice", "variable": "A"}),
    ],
)
def test_name_used_twice_is_refused_with_both_entries(section: str, entry: dict[str, object]) -> None:
    [problem] = _problems({section: [entry, {**entry, "name": "once"}, entry]})

    assert problem == (
        f"{section}: the name 'twice' is used 2 times ({section}[0] and {section}[2])\n"
        "    fix: Give each a different name. Correct it in manifest.yaml."
    )


def test_owner_of_an_alert_that_no_message_could_have_is_refused() -> None:
    alert = {"name": "a", "variable": "A", "owners": ["team:finance", "finance", "shop@example.com"]}

    assert _problems({"alerts": [alert]}) == [
        (
            "alerts[0].owners[1]: 'finance' is neither an email address nor a team (alert 'a')\n"
            "    fix: Write it like `team:finance`. Correct it in manifest.yaml."
        )
    ]


@pytest.mark.parametrize("selection", [{"select": "x"}, {"exclude": "y"}, {"select": "x", "exclude": "y"}])
def test_schedule_with_a_job_and_a_selection_is_refused(selection: dict[str, object]) -> None:
    schedule = {"name": "b", "cron": "@daily", "job": "nightly", **selection}

    [problem] = _problems({"schedules": [{"name": "a", "cron": "@daily"}, schedule]})

    assert problem == (
        "schedules[1]: schedule 'b' has both a job and a selection\n"
        "    fix: Keep one: `job` runs a whole job, a selection runs a part of the product's own job."
    )


@pytest.mark.parametrize("section", ["jobs", "schedules", "automation"])
@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"selector": "a", "select": "b"}, ".selector: cannot be combined with select"),
        ({"selector": "a", "exclude": "b"}, ".selector: cannot be combined with exclude"),
        ({"dagster": "a", "select": "b", "exclude": "c"}, ".dagster: cannot be combined with select and exclude"),
        ({"dagster": "a", "selector": "b"}, ".dagster: cannot be combined with selector"),
    ],
)
def test_two_kinds_of_selections_in_one_entry_are_refused(section: str, keys: dict[str, str], problem: str) -> None:
    entry = {"condition": "eager"} if section == "automation" else {"name": "a"}
    entry |= {"cron": "@daily"} if section == "schedules" else {}

    [found] = _problems({section: [{**entry, **keys}]})

    instead = "`not` in the selection" if "dagster" in keys else "`exclude` in selectors.yml"
    fix = f"Keep one of them; to leave assets out, use {instead}. Correct it in manifest.yaml."
    assert found == f"{section}[0]{problem}\n    fix: {fix}"


@pytest.mark.parametrize("config", [{"[key]": None}, {"dbt": {"[key]": 1}}, {"computes": {"[key]": {"engine": 1}}}])
def test_key_with_the_name_of_pydantics_marker_is_reported_as_any_other(config: dict[str, object]) -> None:
    (problem,) = examine_config(config).problems

    assert "[key]" in f"{problem.where}: {problem.what}"


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


# --- all at once ----------------------------------------------------------------------------------------------------


def test_refused_entry_does_not_hide_other_problems() -> None:
    config: dict[str, object] = {
        "timezone": "Mars/Base",
        "colour": "red",
        "jobs": [{"name": 5}, {"name": "twice", "selekt": "a"}, {"name": "twice", "tags": {"a": 1, "b": 2}}],
        "schedules": [{"name": "lunch", "cron": "noon", "enabled": "yes", "job": "a", "select": "b"}],
        "automation": {"condition": "on_cron", "timezone": "nowhere"},
        "partitions": [{"select": "a", "type": "daily", "start": "soon", "vars": {"begin": "x"}}],
    }

    assert [problem.splitlines()[0] for problem in _problems(config)] == [
        "timezone: timezone 'Mars/Base' is not an IANA timezone such as 'UTC', 'Europe/Berlin', 'America/New_York'.",
        (
            "schedules[0].cron: cron 'noon' needs five fields (minute hour day month weekday), such as '0 6 * * *' "
            "(daily at 6:00), '0 8 * * MON-FRI' (weekdays at 8:00), '*/15 * * * *', '@hourly' (schedule 'lunch')"
        ),
        "schedules[0].enabled: must be true or false, not a string (schedule 'lunch')",
        "jobs[0].name: must be a string, not a number",
        "jobs[1].selekt: unknown key (job 'twice')",
        "jobs[2].tags.a: must be a string, not a number (job 'twice')",
        "jobs[2].tags.b: must be a string, not a number (job 'twice')",
        (
            "automation[0].timezone: timezone 'nowhere' is not an IANA timezone such as 'UTC', 'Europe/Berlin', "
            "'America/New_York'."
        ),
        "partitions[0].vars.begin: unknown key",
        "colour: unknown key",
        "jobs: the name 'twice' is used 2 times (jobs[1] and jobs[2])",
        "schedules[0]: schedule 'lunch' has both a job and a selection",
        "automation[0].cron: is missing: the condition on_cron needs a cron",
        "partitions[0].start: 'soon' is not a valid start of daily partitions",
    ]


def test_rows_are_those_of_the_file_although_entries_before_cannot_be_read() -> None:
    job = {"name": "twice"}

    assert [
        problem.splitlines()[0] for problem in _problems({"jobs": ["x", job, {"name": "a", "select": 1}, job]})
    ] == [
        "jobs[0]: must be a mapping, not a string",
        "jobs[2].select: must be a string, not a number (job 'a')",
        "jobs: the name 'twice' is used 2 times (jobs[1] and jobs[3])",
    ]


def test_valid_settings_can_be_used() -> None:
    found = examine_config({"jobs": [{"name": "a", "tags": 5}, 5], "retries": {"max_retries": "x"}, "timezone": "UTC"})

    assert [job.name for job in found.config.jobs] == ["a"]
    assert found.config.retries is None
    assert (found.lost, found.rows) == (frozenset({"jobs"}), {"jobs": [0]})


def test_misspelt_choice_is_refused_with_the_closest_one() -> None:
    [problem] = _problems({"automation": {"condition": "on_misssing"}})

    assert problem == (
        "automation[0].condition: must be 'eager', 'on_cron', 'on_missing' or 'changed'\n"
        "    fix: Did you mean 'on_missing'? Correct it in manifest.yaml."
    )


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
    assert len(sections) == 20
    assert all(section["description"] for section in sections.values())


def test_section_that_is_not_a_list_may_have_referenced_entries() -> None:
    reading = examine_config(
        {"jobs": {"name": "nightly"}, "schedules": [{"name": "a", "cron": "@daily", "job": "nightly"}]}
    )

    assert reading.lost == {"jobs"}
