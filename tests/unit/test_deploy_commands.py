"""``floe-dagster helm``: valid output, or the reason why there is none."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import yaml

from command import invoke
from unit.deploy.deployed import IMAGE, SNOWFLAKE, artifacts
from unit.samples import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from command import Answer


def _helm(*arguments: str | Path) -> Answer:
    return invoke("helm", *arguments)


def test_values_of_a_product_are_printed_with_the_command_that_installs_them(tmp_path: Path) -> None:
    path = artifacts(tmp_path, dbt_profiles=SNOWFLAKE)

    result = _helm("--artifacts", path, "--image", IMAGE, "--env-secret", "warehouse")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(
        "# Made by floe-dagster helm for shop-orders.\n"
        "# helm upgrade --install dagster dagster/dagster --values values.yaml\n"
    )
    (location,) = yaml.safe_load(result.stdout)["dagster-user-deployments"]["deployments"]
    assert location["envSecrets"] == [{"name": "warehouse"}]


def test_artifacts_of_the_environment_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_ARTIFACTS_PATH", str(artifacts(tmp_path)))

    assert "name: shop-orders\n" in _helm("--image", IMAGE).stdout


def test_each_product_gets_its_own_image_and_secrets(tmp_path: Path) -> None:
    paths = [artifacts(tmp_path, name) for name in ("orders", "returns")]
    several = [part for path in paths for part in ("--artifacts", path)]

    result = _helm(
        *several, "--image", "orders=shop/orders:1", "--image", "returns=shop/returns:2", "--env-secret", "returns=bank"
    )

    deployments = yaml.safe_load(result.stdout)["dagster-user-deployments"]["deployments"]
    assert [(entry["name"], entry["image"]["repository"], entry.get("envSecrets")) for entry in deployments] == [
        ("orders", "shop/orders", None),
        ("returns", "shop/returns", [{"name": "bank"}]),
    ]


def test_file_is_written_and_named(tmp_path: Path) -> None:
    output = tmp_path / "values.yaml"

    result = _helm("--artifacts", artifacts(tmp_path), "--image", IMAGE, "--state-claim", "state", "--output", output)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"wrote {output}\n")
    assert "dagsterWebserver" in yaml.safe_load(output.read_text(encoding="utf-8"))


def test_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    output = tmp_path / "missing" / "values.yaml"

    result = _helm("--artifacts", artifacts(tmp_path), "--image", IMAGE, "--output", output)

    assert result.exit_code == 1
    assert f"error: {output}: 1 problem\n  cannot be written (No such file or directory)" in result.stderr


def test_configmap_of_each_product_is_printed(tmp_path: Path) -> None:
    paths = [artifacts(tmp_path, name) for name in ("orders", "returns")]

    result = _helm(*(part for path in paths for part in ("--artifacts", path)), "--configmap")

    configmaps = list(yaml.safe_load_all(result.stdout))
    assert [base64.b64decode(entry["binaryData"]["compiled_artifacts.json"]) for entry in configmaps] == [
        path.read_bytes() for path in paths
    ]


def test_values_mount_the_configmap_that_is_printed(tmp_path: Path) -> None:
    path = artifacts(tmp_path)

    values = yaml.safe_load(_helm("--artifacts", path, "--image", IMAGE, "--from-configmap").stdout)
    configmap = yaml.safe_load(_helm("--artifacts", path, "--configmap").stdout)

    (location,) = values["dagster-user-deployments"]["deployments"]
    sources = [volume.get("configMap") for volume in location["volumes"]]
    assert {"name": configmap["metadata"]["name"]} in sources


def test_missing_settings_are_warnings_beside_the_values(tmp_path: Path) -> None:
    lost = _helm("--artifacts", artifacts(tmp_path), "--image", IMAGE)
    secrets = _helm("--artifacts", artifacts(tmp_path, "bank", dbt_profiles=SNOWFLAKE), "--image", IMAGE)
    in_production = ("--image", IMAGE, "--production", "--postgres-host", "pg")
    silent = artifacts(tmp_path, "a", dbt_profiles={})
    content = json.loads(silent.read_text(encoding="utf-8"))
    content["observability"]["lineage"] = True
    telling = write_json(tmp_path / "telling.json", content)
    production = _helm("--artifacts", telling, *in_production)
    without_lineage = _helm("--artifacts", silent, *in_production)

    assert lost.stderr == (
        "warning: shop-orders: its DuckDB file is gone with the pod; keep it on a volume (--state-claim)\n"
    )
    assert secrets.stderr == (
        "warning: bank: its dbt profile reads SNOWFLAKE_PASSWORD; name a Secret that has them (--env-secret)\n"
    )
    assert production.stderr == (
        "warning: the output of steps is kept nowhere; name a place (--compute-logs)\n"
        "warning: lineage that cannot be delivered is gone with the pod; keep it on a volume (--lineage-claim)\n"
    )
    assert without_lineage.stderr == "warning: the output of steps is kept nowhere; name a place (--compute-logs)\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--image", "shop"], "error: --image: 1 problem\n  the image 'shop' has neither a tag nor a digest"),
        (
            ["--image", "shop:1", "--production"],
            "error: --production: 1 problem\n  production needs an external PostgreSQL",
        ),
        (["--image", "shop:1", "--target", "floe-platform"], "    fix: Give --postgres-host."),
        (["--image", "shop:1", "--compute-logs", "ftp://x"], "error: --compute-logs: 1 problem"),
        (["--image", "shop:1", "--env-secret", "A_B"], "error: --env-secret: 1 problem"),
    ],
)
def test_invalid_deployment_is_reported_and_nothing_printed(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    result = _helm("--artifacts", artifacts(tmp_path), *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert expected in result.stderr


@pytest.mark.parametrize("arguments", [["--size", "huge"], ["--target", "other"], ["--postgres-port", "0"]])
def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: list[str]) -> None:
    assert _helm("--artifacts", artifacts(tmp_path), "--image", IMAGE, *arguments).exit_code == 2


def test_all_options_together_reach_the_values(tmp_path: Path) -> None:
    result = _helm(
        *("--artifacts", artifacts(tmp_path), "--image", IMAGE, "--size", "large", "--production"),
        *("--postgres-host", "pg", "--postgres-port", "6432", "--postgres-user", "u", "--postgres-database", "d"),
        *("--postgres-secret", "pg-password", "--image-pull-secret", "registry", "--service-account", "data"),
        *("--environment", "staging", "--otlp-endpoint", "http://otel:4317", "--compute-logs", "s3://logs/a"),
        *("--state-claim", "state", "--lineage-claim", "lineage", "--artifacts-path", "/srv/compiled_artifacts.json"),
    )

    values = yaml.safe_load(result.stdout)
    (location,) = values["dagster-user-deployments"]["deployments"]
    environment = {entry["name"]: entry["value"] for entry in location["env"]}
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in location["volumes"][-2:]]
    assert values["postgresql"] == {
        "enabled": False,
        "postgresqlHost": "pg",
        "postgresqlUsername": "u",
        "postgresqlDatabase": "d",
        "service": {"port": 6432},
    }
    assert values["global"] == {"postgresqlSecretName": "pg-password", "serviceAccountName": "data"}
    assert values["imagePullSecrets"] == [{"name": "registry"}]
    assert values["dagster-user-deployments"]["imagePullSecrets"] == [{"name": "registry"}]
    assert values["computeLogManager"]["type"] == "S3ComputeLogManager"
    assert values["concurrency"]["runs"]["maxConcurrentRuns"] == 25
    assert environment["FLOE_ENV"] == "staging"
    assert environment["FLOE_ARTIFACTS_PATH"] == "/srv/compiled_artifacts.json"
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel:4317"
    assert claims == ["state", "lineage"]
    assert (result.exit_code, result.stderr) == (0, "")
