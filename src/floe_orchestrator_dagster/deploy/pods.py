"""Settings of all pods as Helm values, and of the pods of runs as configuration of Dagster's run launcher."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from floe_orchestrator_dagster.deploy.resources import quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


# A part of the chart's values. Helm ignores unknown keys silently; the schema of the tests' chart rejects them.
Values: TypeAlias = "dict[str, Any]"
Resources: TypeAlias = "Mapping[str, Mapping[str, str]]"

# Numeric, because Kubernetes cannot check by name that a user is not root.
USER_ID = 10001
ARTIFACTS_FILE = "compiled_artifacts.json"
PRODUCT_PATH = "/opt/floe/product"
STATE_PATH = "/var/lib/floe/state"
CODE_SERVER_PORT = 3030
# Not the chart's port 80, which some container runtimes reserve for root.
WEBSERVER_PORT = 3000

_DAGSTER_HOME = "/opt/dagster/dagster_home"  # the chart's global.dagsterHome

# Twice the measured CPU time: 2,000 models load in 9 to 11 s including imports, and are serialized in 3 s.
_BASE_SECONDS = 10
_SECONDS_PER_ASSET = 0.01
_STARTUP_PERIOD = 10
_SHORTEST_STARTUP = 600
_SHORTEST_CALL = 60
_SHORTEST_REPOSITORY_CALL = 180
# The variable of `dagster api grpc --container-context`. The chart sets it unless `includeConfigInLaunchedRuns` is off.
# `with_run_pods` sets it to the settings that the pods of runs get. A new setting of code servers must be added there.
_VARIABLE = "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"


@dataclass(frozen=True)
class Directory:
    """A volume and its mount."""

    volume: Values
    mount: Values


def directory(name: str, path: str, source: Values | None = None, sub_path: str | None = None) -> Directory:
    """Create a directory of a pod.

    Args:
        name: Name of the volume.
        path: Mount path in containers.
        source: Source of the volume; None for an empty directory that lives as long as the pod.
        sub_path: Path inside the volume to mount; None for the whole volume.
    """
    source = source or {"emptyDir": {}}
    mount = {"name": name, "mountPath": path, "subPath": sub_path, "readOnly": True if "configMap" in source else None}
    return Directory({"name": name, **source}, without_none(mount))


def writable_directories() -> list[Directory]:
    """Return the directories that a Dagster process writes to, for containers with a read-only root."""
    return [
        directory("floe-home", _DAGSTER_HOME),
        directory("floe-tmp", "/tmp"),  # noqa: S108  # a volume of the pod's own
        directory("floe-shm", "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),  # noqa: S108
    ]


def mounted(directories: Iterable[Directory]) -> Values:
    """Return the volumes of a pod and their mounts; empty without directories."""
    listed = list(directories)
    if not listed:
        return {}
    return {"volumes": [entry.volume for entry in listed], "volumeMounts": [entry.mount for entry in listed]}


def without_none(values: Values) -> Values:
    """Return values without the keys that are None, for which the chart has a default."""
    return {key: value for key, value in values.items() if value is not None}


def pod_security() -> Values:
    """Return the user and groups of all containers, which are not root."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Values:
    """Return the security settings of containers: no privileges, no capabilities, and a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def load_seconds(assets: int, resources: Resources) -> float:
    """Return an upper estimate of the seconds that a code location takes to load with its CPU limit."""
    return (_BASE_SECONDS + _SECONDS_PER_ASSET * assets) / float(quantity(resources["limits"]["cpu"]))


def startup_probe(seconds: float) -> Values:
    """Return the startup probe of a code server that loads in ``seconds``: three times as long, at least 600 s."""
    longest = max(3 * seconds, _SHORTEST_STARTUP)
    failures = math.ceil(longest / _STARTUP_PERIOD)
    return {"enabled": True, **_probe(_STARTUP_PERIOD, _STARTUP_PERIOD, failures)}


def readiness_probe() -> Values:
    """Return the readiness probe of a code server. Each check takes about a second of CPU."""
    return {"enabled": True, **_probe(20, 10, 3), "successThreshold": 1}


def liveness_probe() -> Values:
    """Return the liveness probe of a code server, which restarts it after five minutes without a response."""
    return _probe(60, 30, 5)


def webserver_probes() -> Values:
    """Return the webserver's readiness probe, and its startup probe with a limit of five minutes."""
    answer = {"httpGet": {"path": "/server_info", "port": WEBSERVER_PORT}}
    return {
        "readinessProbe": {**answer, **_probe(20, 10, 3), "successThreshold": 1},
        "startupProbe": {"enabled": True, **answer, **_probe(10, 10, 30)},
    }


def _probe(period: int, timeout: int, failures: int) -> Values:
    """Return the times of a probe. For code servers, the chart adds the gRPC health command."""
    return {"periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures}


def grpc_timeouts(seconds: float) -> dict[str, str]:
    """Return the gRPC timeouts of webserver and daemon for a code server that loads in ``seconds``."""
    return {
        "DAGSTER_GRPC_TIMEOUT_SECONDS": str(math.ceil(max(seconds, _SHORTEST_CALL))),
        "DAGSTER_REPOSITORY_GRPC_TIMEOUT_SECONDS": str(math.ceil(max(2 * seconds, _SHORTEST_REPOSITORY_CALL))),
    }


def with_run_pods(
    deployment: Values,
    resources: Resources | None,
    service_account: str,
    pull_secrets: Sequence[Values] | None,
    config: Values,
) -> Values:
    """Return the deployment with separate settings for the pods of its runs.

    The chart passes the settings of the code server to the pods of runs, except for node selectors, tolerations and
    annotations. The tags of a product's jobs replace the resources, but runs of the asset graph belong to no job of the
    product.

    Args:
        deployment: The code server.
        resources: Requests and limits of runs; None for those of the code server.
        service_account: Service account of the code server, which its runs have, too.
        pull_secrets: References to the Secrets for pulling its image.
        config: Dagster's ``run_k8s_config``; empty for none.
    """
    configuration = {
        "image_pull_policy": deployment["image"]["pullPolicy"],
        "image_pull_secrets": pull_secrets or [],
        "service_account_name": service_account,
        "env": deployment["env"],
        "env_secrets": [secret["name"] for secret in deployment["envSecrets"] or ()],
        "env_config_maps": [configmap["name"] for configmap in deployment["envConfigMaps"] or ()],
        "volumes": deployment.get("volumes") or [],
        "volume_mounts": deployment.get("volumeMounts") or [],
        "labels": deployment["labels"],
        "resources": resources if resources is not None else deployment["resources"],
        **({"run_k8s_config": config} if config else {}),
    }
    variable = {"name": _VARIABLE, "value": json.dumps({"k8s": configuration})}
    return {
        **deployment,
        "env": [*deployment["env"], variable],
        "includeConfigInLaunchedRuns": {"enabled": False},
    }
