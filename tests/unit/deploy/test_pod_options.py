"""Options for the pods of single products: parsed, and in the pods of code servers and of all kinds of runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from floe_orchestrator_dagster.deploy.helm import values_for
from floe_orchestrator_dagster.deploy.pod_options import PodOptions, pod_options
from floe_orchestrator_dagster.deploy.settings import DeploySettings
from floe_orchestrator_dagster.errors import DeployError
from helm_chart import lint, render, validate
from unit.deploy.deployed import production, products
from unit.deploy.test_run_pods import launched

if TYPE_CHECKING:
    from pathlib import Path

    from unit.samples import Json

SHOPS = ("shop-0", "shop-1")
OPTIONS: dict[str, list[str]] = {
    "variables": ["DBT_THREADS=8", "shop-1:DBT_THREADS=2", "shop-1:URL=https://a.example:8443/x=y"],
    "configmaps": ["common", "shop-1=regions"],
    "node_selector": ["pool=batch", "shop-1:topology.kubernetes.io/zone=z1"],
    "tolerations": ["dedicated=data:NoSchedule", "shop-1:spot:NoExecute", "shop-1:gpu"],
    "annotations": ["sidecar.istio.io/inject=false", "shop-1:cost-center=42"],
}
DEDICATED = {"key": "dedicated", "operator": "Equal", "value": "data", "effect": "NoSchedule"}


def test_options_go_to_all_products_or_to_the_named_one() -> None:
    assert pod_options(SHOPS, **OPTIONS) == {
        "shop-0": PodOptions(
            {"DBT_THREADS": "8"},
            ["common"],
            {"pool": "batch"},
            [DEDICATED],
            {"sidecar.istio.io/inject": "false"},
        ),
        "shop-1": PodOptions(
            {"DBT_THREADS": "2", "URL": "https://a.example:8443/x=y"},
            ["common", "regions"],
            {"pool": "batch", "topology.kubernetes.io/zone": "z1"},
            [
                DEDICATED,
                {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
                {"key": "gpu", "operator": "Exists"},
            ],
            {"sidecar.istio.io/inject": "false", "cost-center": "42"},
        ),
    }


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("variables", "DBT_THREADS", "--env: 'DBT_THREADS' has no `=`"),
        ("variables", "2B=x", "--env: '2B' is not a valid name of a variable"),
        ("variables", "shop:A=1", "--env: 'shop' is a product that is not among the artifacts"),
        ("variables", "FLOE_ENV=dev", "--env: 'FLOE_ENV' has a separate option"),
        ("variables", "FLOE_STATE_DIR=/x", "--env: 'FLOE_STATE_DIR' is set to a directory of the pod"),
        ("variables", "DAGSTER_HOME=/x", "--env: 'DAGSTER_HOME' is set to a directory of the pod"),
        (
            "variables",
            "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT={}",
            "--env: 'DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT' is set",
        ),
        ("variables", "DAGSTER_CURRENT_IMAGE=x", "--env: 'DAGSTER_CURRENT_IMAGE' is set by the chart or by Dagster"),
        ("variables", "DB_PASSWORD=hunter22", "--env: 'DB_PASSWORD' looks like the name of a secret"),
        ("variables", "DB_PASSWORD=/hunter22", "--env: 'DB_PASSWORD' looks like the name of a secret"),
        ("variables", "DB_PASSWORD=12345", "--env: 'DB_PASSWORD' looks like the name of a secret"),
        ("variables", "API_TOKENS=hunter22", "--env: 'API_TOKENS' looks like the name of a secret"),
        ("variables", "MAX_TOKENS=hunter22", "--env: 'MAX_TOKENS' looks like the name of a secret"),
        ("variables", "CREDENTIALS={hunter22}", "--env: 'CREDENTIALS' looks like the name of a secret"),
        ("variables", "DATABASE=postgres://u:hunter22@h/d", "--env: 'DATABASE' has a value that looks like a secret"),
        ("variables", "DSN=host=pg user=u password=hunter22", "--env: 'DSN' has a value that looks like a secret"),
        ("variables", "LOGIN=ghp_hunter22hunter22hunter22", "--env: 'LOGIN' has a value that looks like a secret"),
        (
            "variables",
            "TOKEN_URL=https://h/a?token=hunter22",
            "--env: 'TOKEN_URL' has a value that looks like a secret",
        ),
        ("variables", "HEADERS=authorization=Bearer hunter22", "--env: 'HEADERS' has a value that looks like a secret"),
        ("configmaps", "Regions", "--env-configmap: 'Regions'"),
        ("configmaps", "shop=regions", "--env-configmap: 'shop=regions' names a product that is not among"),
        ("node_selector", "pool", "--node-selector: 'pool' has no `=`"),
        ("node_selector", "-=x", "--node-selector: '-' is not a valid key"),
        ("node_selector", "pool=a b", "--node-selector: 'a b' is not a valid value of a label"),
        ("tolerations", "dedicated:Never", "--toleration: 'dedicated' is a product that is not among"),
        ("tolerations", "shop-0:dedicated:Never", "--toleration: 'dedicated:Never' is not a taint"),
        ("tolerations", "a b", "--toleration: 'a b' is not a taint"),
        ("annotations", "a b=x", "--annotation: 'a b' is not a valid key"),
        *(
            (option, f"{key}=x", f"{name}: '{key}")
            for option, name in (
                ("annotations", "--annotation"),
                ("node_selector", "--node-selector"),
                ("tolerations", "--toleration"),
            )
            for key in ("a..b/c", "a.-b/c", "a-.b/c", "/c", "a/", "a/b/c", "A/c", f"{'a' * 254}/c", "c" * 64)
        ),
        ("annotations", "floe.dev/product=x", "--annotation: 'floe.dev/product' is an annotation of this package"),
    ],
)
def test_invalid_option_is_refused_and_shows_no_secret(option: str, value: str, message: str) -> None:
    with pytest.raises(DeployError) as raised:
        pod_options(SHOPS, **{option: [value]})

    assert str(raised.value).replace(": 1 problem\n  ", ": ").startswith(message)
    assert "hunter22" not in str(raised.value)


@pytest.mark.parametrize(
    "variable",
    [
        "GOOGLE_APPLICATION_CREDENTIALS=/var/run/secrets/gcp/key.json",
        "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/token",
        "PGPASSFILE=/run/pgpass",
        "OAUTH_TOKEN_ENDPOINT=https://sso.example.com/oauth/token",
        "MAX_TOKENS=4096",
        "LLM_MAX_TOKENS=4096",
        "TOKENS_PER_MINUTE=100",
        "SECRET_NAME=warehouse",
        "TOKEN_CACHE_ENABLED=1",
        "USE_TOKEN=true",
        "DB_PASSWORD=",
        "FLOE_DBT_PROJECT_DIR=/srv/project",
    ],
)
def test_variables_about_a_secret_are_no_secrets(variable: str) -> None:
    name, _, value = variable.partition("=")

    assert pod_options(["shop-0"], variables=[variable])["shop-0"].variables == {name: value}


def test_directory_of_the_project_is_refused_only_if_the_artifacts_are_mounted(tmp_path: Path) -> None:
    pods = pod_options(["shop-0"], variables=["FLOE_DBT_PROJECT_DIR=/srv/project"])

    with pytest.raises(DeployError, match=r"^--env: 1 problem\n  'FLOE_DBT_PROJECT_DIR' is set by --from-configmap"):
        values_for("community", DeploySettings(products(tmp_path), pods=pods, from_configmap=True))

    values = values_for("community", DeploySettings(products(tmp_path), pods=pods))
    [location] = values["dagster-user-deployments"]["deployments"]
    assert {"name": "FLOE_DBT_PROJECT_DIR", "value": "/srv/project"} in location["env"]


def _settings(tmp_path: Path, **changes: Any) -> DeploySettings:  # noqa: ANN401
    return production(products(tmp_path, 2), pods=pod_options(SHOPS, **OPTIONS), **changes)


def _pod_of(manifests: list[Json], name: str) -> Json:
    [found] = [entry for entry in manifests if (entry["kind"], entry["metadata"]["name"]) == ("Deployment", name)]
    template: Json = found["spec"]["template"]
    return template


def test_code_server_has_the_options_of_its_product(helm: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(values_for("community", _settings(tmp_path))), encoding="utf-8")

    lint(helm, values)
    manifests = render(helm, values)

    for manifest in manifests:
        validate(manifest)
    pod = _pod_of(manifests, "dagster-shop-1")
    [container] = pod["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (environment["DBT_THREADS"], environment["URL"]) == ("2", "https://a.example:8443/x=y")
    assert {"configMapRef": {"name": "regions"}} in container["envFrom"]
    assert pod["spec"]["nodeSelector"] == {"pool": "batch", "topology.kubernetes.io/zone": "z1"}
    assert [taint["key"] for taint in pod["spec"]["tolerations"]] == ["dedicated", "spot", "gpu"]
    assert pod["metadata"]["annotations"]["cost-center"] == "42"
    assert pod["metadata"]["annotations"]["floe.dev/product"] == "shop-1"
    assert "nodeSelector" not in _pod_of(manifests, "dagster-daemon")["spec"]


@pytest.mark.parametrize("tags", [{}, {"dagster-k8s/config": {"container_config": {"resources": {}}}}])
def test_run_has_the_options_of_its_product(helm: Path, tmp_path: Path, tags: Json) -> None:
    job = launched(helm, _settings(tmp_path), tmp_path, tags)

    validate(job)
    pod = job["spec"]["template"]
    [container] = pod["spec"]["containers"]
    assert {"name": "DBT_THREADS", "value": "8"} in container["env"]
    assert {"configMapRef": {"name": "common"}} in container["envFrom"]
    assert pod["spec"]["nodeSelector"] == {"pool": "batch"}
    assert pod["spec"]["tolerations"] == [DEDICATED]
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert pod["spec"]["securityContext"]["runAsUser"] == 10001
    assert container["resources"]["limits"] == {"cpu": "1000m", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"node_selector": ["pool=batch"]}, "--node-selector"),
        ({"tolerations": ["gpu"]}, "--toleration"),
        ({"annotations": ["a=b"]}, "--annotation"),
    ],
)
def test_pods_of_runs_need_a_known_service_account(tmp_path: Path, given: dict[str, list[str]], option: str) -> None:
    deployed = products(tmp_path)
    pods = pod_options(["shop-0"], **given)

    with pytest.raises(DeployError, match=rf"^{option}: 1 problem\n  the pods of runs need the name of"):
        values_for("community", DeploySettings(deployed, pods=pods))

    values = values_for("community", DeploySettings(deployed, pods=pods, service_account="data"))
    [location] = values["dagster-user-deployments"]["deployments"]
    context = json.loads(next(entry["value"] for entry in location["env"] if "CONTAINER_CONTEXT" in entry["name"]))
    assert context["k8s"]["service_account_name"] == "data"


def test_start_timeout_replaces_the_computed_one_in_production(tmp_path: Path) -> None:
    deployed = products(tmp_path)

    values = values_for("community", production(deployed, start_timeout=900))

    assert values["dagsterDaemon"]["runMonitoring"]["startTimeoutSeconds"] == 900
    with pytest.raises(DeployError, match=r"^--start-timeout: 1 problem\n  only production has a limit"):
        values_for("community", DeploySettings(deployed, start_timeout=900))
