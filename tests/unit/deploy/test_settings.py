"""Validation of deployment settings before any output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from floe_orchestrator_dagster.deploy.products import read_products
from floe_orchestrator_dagster.deploy.settings import (
    DeploySettings,
    LogStore,
    PostgresAddress,
    check_settings,
    parse_log_store,
)
from floe_orchestrator_dagster.errors import DeployError
from unit.deploy.deployed import artifacts, production, products

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"secrets": {"shop-0": ["A_B"]}}, "--env-secret"),
        ({"pull_secrets": ["A"]}, "--image-pull-secret"),
        ({"service_account": "A"}, "--service-account"),
        ({"state_claim": "A"}, "--state-claim"),
        ({"lineage_claim": "A"}, "--lineage-claim"),
        ({"artifacts_path": "product/compiled_artifacts.json"}, "--artifacts-path"),
        ({"artifacts_path": "/product/"}, "--artifacts-path"),
        ({"artifacts_path": "/product/a\nb.json"}, "--artifacts-path"),
        ({"environment": "dev "}, "--environment"),
        ({"environment": "dev\n"}, "--environment"),
        ({"environment": "de\x00v"}, "--environment"),
        ({"otlp_endpoint": "otel:4317"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "http://[otel"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "http://otel:99999"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "http://otel:port"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "http://otel collector:4317"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "http://otel:4317\n"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "http://otel:4317/#hunter2"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "ftp://otel"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "http://user:hunter2@otel:4317"}, "--otlp-endpoint"),
        ({"otlp_endpoint": "http://otel:4317?api-key=hunter2"}, "--otlp-endpoint"),
        ({"postgres": PostgresAddress("postgresql://dagster:hunter2@pg/dagster")}, "--postgres-host"),
        ({"postgres": PostgresAddress("pg; drop")}, "--postgres-host"),
        ({"postgres": PostgresAddress("pg", user="a b")}, "--postgres-user"),
        ({"postgres": PostgresAddress("pg", database="")}, "--postgres-database"),
        ({"postgres": PostgresAddress("pg", secret="A")}, "--postgres-secret"),  # noqa: S106  # a name
        ({"is_production": True}, "--production"),
    ],
)
def test_setting_is_refused_by_its_option_and_shows_no_secret(
    tmp_path: Path, settings: dict[str, Any], option: str
) -> None:
    with pytest.raises(DeployError) as raised:
        check_settings(DeploySettings(products(tmp_path), **settings))

    assert raised.value.origin == option
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"otlp_endpoint": "http://otel.data.svc.cluster.local.:4317/v1"},
        {"otlp_endpoint": "https://[::1]:4317"},
        {"postgres": PostgresAddress("pg.data.svc.cluster.local.")},
        {"environment": "größe 1"},
    ],
)
def test_unusual_setting_is_accepted(tmp_path: Path, settings: dict[str, Any]) -> None:
    check_settings(DeploySettings(products(tmp_path), **settings))


def test_production_refuses_an_image_with_a_moving_tag(tmp_path: Path) -> None:
    deployed = read_products([artifacts(tmp_path)], ["shop:latest"])

    with pytest.raises(DeployError, match="the image of shop-orders is `latest`"):
        check_settings(production(deployed))


def test_production_refuses_an_environment_that_a_profile_has_no_output_for(tmp_path: Path) -> None:
    profile = {"target": "dev", "outputs": {"dev": {"type": "duckdb"}, "live": {"type": "duckdb"}}}
    deployed = products(tmp_path, dbt_profiles={"shop": profile})

    with pytest.raises(DeployError) as raised:
        check_settings(production(deployed))

    assert str(raised.value) == (
        "--environment: 1 problem\n"
        "  the dbt profile of shop-0 has no output for the environment 'production'\n"
        "    fix: Give one of its outputs, or add an output with this name. Outputs: dev, live."
    )


def test_production_needs_the_output_in_every_profile_of_the_product(tmp_path: Path) -> None:
    outputs = {"shop": ("dev", "live"), "other": ("live", "production")}
    profiles = {
        name: {"target": targets[0], "outputs": {key: {"type": "duckdb"} for key in targets}}
        for name, targets in outputs.items()
    }

    with pytest.raises(DeployError, match=r"Outputs: live\."):
        check_settings(production(products(tmp_path, dbt_profiles=profiles)))


def test_variable_of_the_profile_may_select_the_output_of_production(tmp_path: Path) -> None:
    profile = {"target": "{{ env_var('DBT_TARGET', 'dev') }}", "outputs": {"dev": {"type": "duckdb"}}}

    check_settings(production(products(tmp_path, dbt_profiles={"shop": profile})))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://logs/dagster/prod/", LogStore("s3", "logs", "dagster/prod")),
        ("gs://logs", LogStore("gs", "logs", "")),
        ("az://account/container", LogStore("az", "account", "container")),
    ],
)
def test_location_of_logs_is_parsed(text: str, expected: LogStore) -> None:
    assert parse_log_store(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "logs",
            "s3://",
            "az://account",
            "https://logs/a",
            "s3://key:hunter2@logs/a",
            "s3://[logs",
            "s3://logs:9x/a",
        ),
        *("s3://logs/a?region=hunter2", "s3://logs/a#b", "s3://logs/a\nb"),
    ],
)
def test_other_locations_of_logs_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(DeployError) as raised:
        parse_log_store(text)

    assert str(raised.value) == (
        "--compute-logs: 1 problem\n  is not a supported location for logs\n"
        "    fix: Write it as s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix, "
        "without credentials."
    )
