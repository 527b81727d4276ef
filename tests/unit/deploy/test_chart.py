"""Helm values rendered with a chart: each pod is valid in Kubernetes' schemas."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from floe_orchestrator_dagster.deploy.helm import helm_values, values_for
from floe_orchestrator_dagster.deploy.settings import DeploySettings, LogStore
from helm_chart import lint, pod_faults, render, validate
from unit.deploy.deployed import POSTGRES, SNOWFLAKE, production, products

if TYPE_CHECKING:
    from pathlib import Path

    from helm_chart import Json


def _written(values: Json, tmp_path: Path) -> Path:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def _named(manifests: list[Json], kind: str, name: str) -> Json:
    (found,) = [entry for entry in manifests if (entry["kind"], entry["metadata"]["name"]) == (kind, name)]
    return found


def _pod(manifests: list[Json], name: str) -> Json:
    pod: Json = _named(manifests, "Deployment", name)["spec"]["template"]
    return pod


def _environment(container: Json) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


@pytest.mark.parametrize(
    ("kind", "count", "size"),
    [
        (kind, count, size)
        for kind, count in (("plain", 1), ("production", 3), ("production", 40))
        for size in ("small", "medium", "large")
    ],
)
def test_values_are_accepted_and_rendered(helm: Path, tmp_path: Path, count: int, size: str, kind: str) -> None:
    make = production if kind == "production" else DeploySettings
    settings = make(products(tmp_path, count), size=size)
    path = _written(values_for("community", settings), tmp_path)

    lint(helm, path)
    manifests = render(helm, path)

    for manifest in manifests:
        validate(manifest)
    deployments = {entry["metadata"]["name"] for entry in manifests if entry["kind"] == "Deployment"}
    assert deployments == {"dagster-webserver", "dagster-daemon", *(f"dagster-shop-{row}" for row in range(count))}
    workspace = yaml.safe_load(_named(manifests, "ConfigMap", "dagster-workspace-yaml")["data"]["workspace.yaml"])
    assert [entry["grpc_server"]["location_name"] for entry in workspace["load_from"]] == [
        f"shop-{row}" for row in range(count)
    ]


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ((), "dagsterWebServer"),
        (("dagsterWebserver",), "replicas"),
        (("dagsterDaemon", "runMonitoring"), "pollSeconds"),
        (("dagsterDaemon", "podSecurityContext"), "run_as_user"),
        (("runLauncher", "config", "k8sRunLauncher", "runK8sConfig"), "podSpec"),
    ],
)
def test_key_that_the_chart_does_not_read_is_found(helm: Path, tmp_path: Path, part: tuple[str, ...], key: str) -> None:
    values = values_for("community", production(products(tmp_path)))
    inner = values
    for name in part:
        inner = inner[name]
    inner[key] = {}

    with pytest.raises(pytest.fail.Exception, match=key):
        lint(helm, _written(values, tmp_path))


def test_values_without_products_deploy_the_image_of_make_image(helm: Path, tmp_path: Path) -> None:
    path = _written(helm_values(), tmp_path)

    lint(helm, path)
    manifests = render(helm, path)

    for manifest in manifests:
        validate(manifest)
    (container,) = _pod(manifests, "dagster-floe-user-code")["spec"]["containers"]
    assert container["image"].startswith("floe-user-code:")


def test_values_of_floe_platform_are_those_of_its_dagster_chart(helm: Path, tmp_path: Path) -> None:
    settings = DeploySettings(products(tmp_path), postgres=POSTGRES, otlp_endpoint="http://otel:4317")

    values = values_for("floe-platform", settings)

    assert list(values) == ["dagster"]
    assert values["dagster"]["postgresql"]["enabled"] is False
    path = _written(values["dagster"], tmp_path)
    lint(helm, path)
    manifests = render(helm, path)
    for name in ("dagster-webserver", "dagster-daemon", "dagster-shop-0"):
        (container,) = _pod(manifests, name)["spec"]["containers"]
        assert _environment(container)["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel:4317"


def test_code_server_serves_its_product(helm: Path, tmp_path: Path) -> None:
    (product,) = deployed = products(tmp_path)
    settings = production(deployed, secrets={"shop-0": ["warehouse", "lineage"]})

    pod = _pod(render(helm, _written(values_for("community", settings), tmp_path)), "dagster-shop-0")

    (container,) = pod["spec"]["containers"]
    assert container["args"] == [
        *("dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "3030"),  # noqa: S104  # in a pod
        *("-m", "floe_orchestrator_dagster.definitions", "--location-name", "shop-0"),
    ]
    assert container["image"] == "registry.example.com/data/shops:1.4.0"
    assert {key: value for key, value in _environment(container).items() if key.startswith("FLOE_")} == {
        "FLOE_ARTIFACTS_PATH": "/opt/floe/product/compiled_artifacts.json",
        "FLOE_STATE_DIR": "/var/lib/floe/state",
        "FLOE_ENV": "production",
    }
    assert [entry["secretRef"]["name"] for entry in container["envFrom"] if "secretRef" in entry] == [
        "warehouse",
        "lineage",
    ]
    assert pod["metadata"]["annotations"] == {
        "floe.dev/product": "shop-0",
        "floe.dev/content-hash": product.content_hash,
    }


def test_changed_artifacts_roll_the_pod(helm: Path, tmp_path: Path) -> None:
    first = values_for("community", DeploySettings(products(tmp_path)))
    second = values_for("community", DeploySettings(products(tmp_path, config={"timezone": "Europe/Berlin"})))

    annotations = [
        _pod(render(helm, _written(values, tmp_path)), "dagster-shop-0")["metadata"]["annotations"]
        for values in (first, second)
    ]

    assert annotations[0] != annotations[1]


def test_pods_of_production_are_restricted(helm: Path, tmp_path: Path) -> None:
    manifests = render(helm, _written(values_for("community", production(products(tmp_path))), tmp_path))

    for name in ("dagster-webserver", "dagster-daemon", "dagster-shop-0"):
        pod = _pod(manifests, name)["spec"]
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_storage_of_production_is_outside_and_its_password_in_a_secret(helm: Path, tmp_path: Path) -> None:
    values = values_for("community", production(products(tmp_path)))

    instance = _instance(render(helm, _written(values, tmp_path)))

    assert instance["storage"]["postgres"]["postgres_db"] == {
        "username": "dagster",
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "hostname": "postgres.data.svc",
        "db_name": "dagster",
        "port": 5432,
    }
    assert values["generatePostgresqlPasswordSecret"] is False
    assert "assword" not in json.dumps(values).replace("generatePostgresqlPasswordSecret", "")


def _instance(manifests: list[Json]) -> Json:
    instance: Json = yaml.safe_load(_named(manifests, "ConfigMap", "dagster-instance")["data"]["dagster.yaml"])
    return instance


@pytest.mark.parametrize("config", [{}, {"executor": "k8s", "concurrency": {"pool": "warehouse", "limit": 2}}])
def test_dagster_accepts_the_instance_of_production(helm: Path, tmp_path: Path, config: Json) -> None:
    values = values_for("community", production(products(tmp_path, 3, config)))
    home = tmp_path / "home"
    home.mkdir()
    instance = _instance(render(helm, _written(values, tmp_path)))
    (home / "dagster.yaml").write_text(yaml.safe_dump(instance), encoding="utf-8")

    accepted, _ = dagster_instance_config(str(home))

    assert accepted["run_monitoring"].get("max_resume_run_attempts", 0) == 0
    assert accepted["run_retries"] == {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}
    assert accepted["concurrency"]["pools"].get("default_limit") == (2 if config else None)
    assert accepted["concurrency"]["runs"]["max_concurrent_runs"] == 10


@pytest.mark.parametrize(("limits", "expected"), [((600, 3600), 3600), ((600, None), None)])
def test_runs_of_the_asset_graph_have_the_longest_time_limit_if_all_products_have_one(
    helm: Path, tmp_path: Path, limits: tuple[int | None, ...], expected: int | None
) -> None:
    configs = [{"timeout_seconds": limit} if limit else None for limit in limits]
    deployed = [products(tmp_path / str(row), row + 1, config)[row] for row, config in enumerate(configs)]

    instance = _instance(render(helm, _written(values_for("community", production(deployed)), tmp_path)))

    assert instance["run_monitoring"].get("max_runtime_seconds") == expected


def test_products_on_a_duckdb_file_run_one_at_a_time(tmp_path: Path) -> None:
    on_duckdb, elsewhere = (
        values_for("community", production(deployed))["concurrency"]["runs"]
        for deployed in (products(tmp_path), products(tmp_path, dbt_profiles=SNOWFLAKE))
    )

    assert on_duckdb["tagConcurrencyLimits"] == [
        {"key": "dagster/code_location", "value": "shop-0", "limit": 1},
        {"key": "floe/product", "value": "shop-0", "limit": 1},
    ]
    assert elsewhere["tagConcurrencyLimits"] == []


@pytest.mark.parametrize(
    ("assets", "run_resources", "seconds"),
    [
        (2, {}, 90),
        (2000, {}, 90),
        (5000, {}, 150),
        (5000, {"cpu_limit": "500m"}, 270),
        (5000, {"memory_limit": "1Gi"}, 150),
    ],
)
def test_runs_of_large_products_have_longer_to_start(
    tmp_path: Path, assets: int, run_resources: Json, seconds: int
) -> None:
    (product,) = products(tmp_path, config={"run_resources": run_resources} if run_resources else None)
    large = type(product)(**{**vars(product), "assets": assets})

    monitoring = values_for("community", production([large]))["dagsterDaemon"]["runMonitoring"]

    assert monitoring["startTimeoutSeconds"] == seconds
    # Two minutes until a pod that has died while it started is found, for a product of usual size.
    assert assets > 2000 or seconds + monitoring["pollIntervalSeconds"] < 120


@pytest.mark.parametrize(
    ("assets", "cpu", "startup", "call", "repository"),
    [
        (2, "1", 60, "60", "180"),
        (2000, "500m", 60, "60", "180"),
        (5000, "500m", 60, "120", "240"),
        (10000, "250m", 132, "440", "880"),
    ],
)
def test_large_products_have_longer_timeouts(  # noqa: PLR0913, PLR0917  # a row of the table
    tmp_path: Path, assets: int, cpu: str, startup: int, call: str, repository: str
) -> None:
    config = {"deploy": {"user_code": {"cpu_request": "100m", "cpu_limit": cpu}}}
    (product,) = products(tmp_path, config=config)
    large = type(product)(**{**vars(product), "assets": assets})

    values = values_for("community", DeploySettings([large]))

    (location,) = values["dagster-user-deployments"]["deployments"]
    assert location["startupProbe"]["failureThreshold"] == startup
    for service in ("dagsterWebserver", "dagsterDaemon"):
        assert _environment(values[service]) == {
            "DAGSTER_GRPC_TIMEOUT_SECONDS": call,
            "DAGSTER_REPOSITORY_GRPC_TIMEOUT_SECONDS": repository,
        }


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (
            LogStore("s3", "logs", "dagster"),
            {
                "type": "S3ComputeLogManager",
                "config": {
                    "s3ComputeLogManager": {
                        "bucket": "logs",
                        "localDir": "/tmp",  # noqa: S108
                        "skipEmptyFiles": True,
                        "prefix": "dagster",
                    }
                },
            },
        ),
        (
            LogStore("gs", "logs", ""),
            {
                "type": "GCSComputeLogManager",
                "config": {"gcsComputeLogManager": {"bucket": "logs", "localDir": "/tmp"}},  # noqa: S108
            },
        ),
        (
            LogStore("az", "account", "container/a/b"),
            {
                "type": "AzureBlobComputeLogManager",
                "config": {
                    "azureBlobComputeLogManager": {
                        "storageAccount": "account",
                        "container": "container",
                        "defaultAzureCredential": {"exclude_environment_credential": False},
                        "localDir": "/tmp",  # noqa: S108
                        "prefix": "a/b",
                    }
                },
            },
        ),
    ],
)
def test_output_of_steps_is_stored_in_the_configured_place(tmp_path: Path, store: LogStore, expected: Json) -> None:
    values = values_for("community", DeploySettings(products(tmp_path), log_store=store))

    assert values["computeLogManager"] == expected


def test_service_accounts_are_created_or_existing_ones_used(helm: Path, tmp_path: Path) -> None:
    deployed = products(tmp_path)
    render_with = partial(render, helm)
    made = render_with(_written(values_for("community", production(deployed)), tmp_path))
    taken = values_for("community", production(deployed, service_account="data-platform"))

    assert _pod(made, "dagster-shop-0")["spec"]["serviceAccountName"] == "dagster-user-code"
    assert _pod(made, "dagster-daemon")["spec"]["serviceAccountName"] == "dagster"
    given = render_with(_written(taken, tmp_path))
    assert _pod(given, "dagster-shop-0")["spec"]["serviceAccountName"] == "data-platform"
    assert [entry for entry in given if entry["kind"] == "ServiceAccount"] == []


_CONTAINER: dict[str, Any] = {"name": "dagster", "image": "a"}
_PROBE = {"exec": {"command": ["a"]}, "grpc": {"port": 1}}


@pytest.mark.parametrize(
    ("pod", "fault"),
    [
        ({"containers": [_CONTAINER], "volumes": [{"name": "a"}, {"name": "a"}]}, "volume a twice"),
        ({"containers": [_CONTAINER, _CONTAINER]}, "container dagster twice"),
        ({"containers": [{**_CONTAINER, "name": "a" * 64}]}, f"container name {'a' * 64!r}"),
        ({"containers": [{**_CONTAINER, "volumeMounts": [{"name": "a", "mountPath": "/a"}]}]}, "a is not a volume"),
        (
            {"containers": [{**_CONTAINER, "readinessProbe": _PROBE}]},
            "readinessProbe has the handlers ['exec', 'grpc']",
        ),
        ({"containers": [{**_CONTAINER, "livenessProbe": {}}]}, "livenessProbe has the handlers []"),
        ({"containers": [{**_CONTAINER, "env": [{"name": "A"}, {"name": "A"}]}]}, "variable A twice"),
        (
            {"containers": [_CONTAINER], "securityContext": {"runAsNonRoot": True}},
            "runAsNonRoot without a numeric user",
        ),
    ],
)
def test_faults_that_schemas_miss_are_found(pod: Json, fault: str) -> None:
    assert list(pod_faults(pod)) == [fault]
