"""The pod of a run that Dagster's own launcher creates with these values."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._serdes import ConfigurableClassData

from floe_orchestrator_dagster.assets.steps import run_tags
from floe_orchestrator_dagster.config import DagsterConfig
from floe_orchestrator_dagster.deploy.helm import values_for
from floe_orchestrator_dagster.deploy.settings import DeploySettings
from helm_chart import render, validate
from unit.deploy.deployed import IMAGE, production, products

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helm_chart import Json


@contextmanager
def _kubernetes() -> Iterator[tuple[str, list[Json]]]:
    """Serve the part of Kubernetes' API that creates jobs; yield its address and the requested jobs."""
    jobs: list[Json] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the base class calls it so
            body = self.rfile.read(int(self.headers["Content-Length"]))
            jobs.append(json.loads(body))
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Api)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", jobs
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _kubeconfig(address: str, path: Path) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": address}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def launched(helm: Path, settings: DeploySettings, tmp_path: Path, tags: dict[str, Any]) -> Json:
    """Launch a run of the first product with the launcher of the rendered instance; returns the job."""
    dagster_k8s = pytest.importorskip("dagster_k8s")
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(values_for("community", settings)), encoding="utf-8")
    manifests = {(entry["kind"], entry["metadata"]["name"]): entry for entry in render(helm, values)}
    instance = yaml.safe_load(manifests["ConfigMap", "dagster-instance"]["data"]["dagster.yaml"])
    location = manifests["Deployment", f"dagster-{settings.products[0].service}"]["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in location["containers"][0]["env"]}
    context = json.loads(environment["DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"])
    with _kubernetes() as (address, jobs):
        config = {**instance["run_launcher"]["config"], "load_incluster_config": False}
        config["kubeconfig_file"] = str(_kubeconfig(address, tmp_path / "kubeconfig"))
        launcher = ConfigurableClassData("dagster_k8s", "K8sRunLauncher", yaml.safe_dump(config)).rehydrate(
            dagster_k8s.K8sRunLauncher
        )
        assert launcher is not None
        _launch(launcher, environment["DAGSTER_CURRENT_IMAGE"], context, tags)
    (job,) = jobs
    return job


def _launch(launcher: RunLauncher[dg.DagsterInstance], image: str | None, context: Json, tags: dict[str, Any]) -> None:
    pointer = ModuleCodePointer("floe_orchestrator_dagster.definitions", "defs", None)
    origin = JobPythonOrigin(
        job_name="shop_0",
        repository_origin=RepositoryPythonOrigin(
            executable_path="/opt/floe/venv/bin/python",
            code_pointer=pointer,
            container_image=image,
            entry_point=["dagster"],
            container_context=context,
        ),
    )
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in tags.items()}
    with dg.instance_for_test() as instance:
        run = dg.DagsterRun(job_name="shop_0", job_code_origin=origin, tags=plain)
        instance.add_run(run)
        launcher.register_instance(instance)
        launcher.launch_run(LaunchRunContext(run, None))


@pytest.fixture(scope="session")
def run_pod(helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Give the pod of a run in production, validated."""
    tmp_path = tmp_path_factory.mktemp("run")
    settings = production(products(tmp_path), secrets={"shop-0": ["warehouse"]}, lineage_claim="lineage")
    job = launched(helm, settings, tmp_path, {})
    validate(job)
    spec: Json = job["spec"]["template"]["spec"]
    return spec


def test_run_has_the_code_servers_image_and_environment(run_pod: Json) -> None:
    (container,) = run_pod["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}

    assert container["image"] == IMAGE
    assert environment["FLOE_ARTIFACTS_PATH"] == "/opt/floe/product/compiled_artifacts.json"
    assert environment["FLOE_STATE_DIR"] == "/var/lib/floe/state"
    assert environment["FLOE_ENV"] == "production"
    assert {"secretRef": {"name": "warehouse"}} in container["envFrom"]


def test_run_is_restricted_and_can_write_the_required_directories(run_pod: Json) -> None:
    (container,) = run_pod["containers"]
    volumes = {volume["name"]: volume for volume in run_pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}

    assert run_pod["securityContext"]["runAsUser"] == 10001
    assert run_pod["securityContext"]["fsGroup"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert mounts["/var/lib/floe/state"]["emptyDir"] == {}
    assert mounts["/var/lib/floe/state/shop-0/lineage"]["persistentVolumeClaim"] == {"claimName": "lineage"}
    assert mounts["/dev/shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}  # noqa: S108


def test_run_has_the_code_servers_service_account(run_pod: Json) -> None:
    assert run_pod["serviceAccountName"] == "dagster-user-code"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}}),
        (
            {"run_resources": {"size": "large", "memory_limit": "8Gi"}},
            {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2000m", "memory": "8Gi"}},
        ),
    ],
)
def test_run_requests_the_resources_of_its_product(helm: Path, tmp_path: Path, config: Json, expected: Json) -> None:
    (product,) = deployed = products(tmp_path, config=config)

    job = launched(helm, DeploySettings(deployed), tmp_path, run_tags(product.config))

    validate(job)
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"] == expected


@pytest.mark.parametrize("account", [None, "data"])
def test_run_of_the_asset_graph_has_the_pod_of_a_job_of_its_product(
    helm: Path, tmp_path: Path, account: str | None
) -> None:
    config = {"run_resources": {"size": "large", "memory_limit": "8Gi"}}
    (product,) = deployed = products(tmp_path, config=config)
    settings = production(
        deployed,
        secrets={"shop-0": ["warehouse"]},
        pull_secrets=["registry"],
        service_account=account,
        state_claim="state",
    )

    of_job = launched(helm, settings, tmp_path, run_tags(product.config))
    of_asset_graph = launched(helm, settings, tmp_path, {})
    with_chart = launched(helm, replace(settings, products=[replace(product, config=DagsterConfig())]), tmp_path, {})

    validate(of_asset_graph)
    resources = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2000m", "memory": "8Gi"}}
    pods = [job["spec"]["template"]["spec"] for job in (of_job, of_asset_graph, with_chart)]
    for pod in pods:
        del pod["containers"][0]["args"]  # with the id of the run
    assert pods[0] == pods[1]
    assert pods[1]["containers"][0]["resources"] == resources
    # Nothing else differs from what the chart passes to runs. Its ConfigMap of the location has no variables of ours.
    default = pods[2]["containers"][0]
    default["resources"] = resources
    default["envFrom"].remove({"configMapRef": {"name": "dagster-shop-0-user-env"}})
    assert pods[2] == pods[1]


def test_run_mounts_the_artifacts_of_the_configmap(helm: Path, tmp_path: Path) -> None:
    job = launched(helm, production(products(tmp_path), from_configmap=True), tmp_path, {})

    validate(job)
    spec = job["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "floe-artifacts"]
    assert environment["FLOE_ARTIFACTS_PATH"] == "/opt/floe/artifacts/compiled_artifacts.json"
    assert environment["FLOE_DBT_PROJECT_DIR"] == "/opt/floe/product"
    assert volume["configMap"]["name"].startswith("shop-0-artifacts-")
