"""Common settings of all pods: user, writable directories, probes and timeouts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.deploy.parts import (
    ContainerSecurity,
    EmptyDirectory,
    HttpGet,
    PodSecurity,
    Probe,
    Volume,
    VolumeMount,
)
from floe_orchestrator_dagster.deploy.resources import quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from floe_orchestrator_dagster.deploy.parts import Resources

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

EMPTY_DIRECTORY: Mapping[str, object] = MappingProxyType({"empty_dir": EmptyDirectory()})


@dataclass(frozen=True)
class Directory:
    """A volume and its mount."""

    volume: Volume
    mount: VolumeMount


def directory(
    name: str, path: str, source: Mapping[str, object] = EMPTY_DIRECTORY, sub_path: str | None = None
) -> Directory:
    """Create a directory of a pod.

    Args:
        name: Name of the volume.
        path: Mount path in containers.
        source: Source of the volume.
        sub_path: Path inside the volume to mount; None for the whole volume.
    """
    volume = Volume.model_validate({"name": name, **source})
    read_only = True if "config_map" in source else None
    return Directory(volume, VolumeMount(name=name, mount_path=path, sub_path=sub_path, read_only=read_only))


def writable_directories() -> list[Directory]:
    """Return the directories that a Dagster process writes to, for containers with a read-only root."""
    return [
        directory("floe-home", _DAGSTER_HOME),
        directory("floe-tmp", "/tmp"),  # noqa: S108  # a volume of the pod's own
        directory("floe-shm", "/dev/shm", {"empty_dir": EmptyDirectory(medium="Memory", size_limit="64Mi")}),  # noqa: S108
    ]


def volumes(directories: Iterable[Directory]) -> list[Volume] | None:
    """Return the volumes of a pod; None when there are none."""
    return [entry.volume for entry in directories] or None


def mounts(directories: Iterable[Directory]) -> list[VolumeMount] | None:
    """Return the mounts of a container; None when there are none."""
    return [entry.mount for entry in directories] or None


def pod_security() -> PodSecurity:
    """Return the user and groups of all containers, which are not root."""
    return PodSecurity(run_as_user=USER_ID, run_as_group=USER_ID, fs_group=USER_ID)


def container_security() -> ContainerSecurity:
    """Return the security settings of containers: no privileges, no capabilities, and a read-only root."""
    return ContainerSecurity()


def load_seconds(assets: int, resources: Resources) -> float:
    """Return an upper estimate of the seconds that a code location takes to load with its CPU limit."""
    return (_BASE_SECONDS + _SECONDS_PER_ASSET * assets) / float(quantity(resources["limits"]["cpu"]))


def startup_probe(seconds: float) -> Probe:
    """Return the startup probe of a code server that loads in ``seconds``: three times as long, at least 600 s."""
    longest = max(3 * seconds, _SHORTEST_STARTUP)
    return Probe(
        enabled=True,
        period_seconds=_STARTUP_PERIOD,
        timeout_seconds=_STARTUP_PERIOD,
        failure_threshold=math.ceil(longest / _STARTUP_PERIOD),
    )


def readiness_probe() -> Probe:
    """Return the readiness probe of a code server. Each check takes about a second of CPU."""
    return Probe(enabled=True, period_seconds=20, timeout_seconds=10, success_threshold=1, failure_threshold=3)


def liveness_probe() -> Probe:
    """Return the liveness probe of a code server, which restarts it after five minutes without a response."""
    return Probe(period_seconds=60, timeout_seconds=30, failure_threshold=5)


def webserver_probe(*, starting: bool = False) -> Probe:
    """Return the webserver's readiness probe, or its startup probe with a limit of five minutes."""
    answer = HttpGet(path="/server_info", port=WEBSERVER_PORT)
    if starting:
        return Probe(enabled=True, http_get=answer, period_seconds=10, timeout_seconds=10, failure_threshold=30)
    return Probe(http_get=answer, period_seconds=20, timeout_seconds=10, success_threshold=1, failure_threshold=3)


def grpc_timeouts(seconds: float) -> dict[str, str]:
    """Return the gRPC timeouts of webserver and daemon for a code server that loads in ``seconds``."""
    return {
        "DAGSTER_GRPC_TIMEOUT_SECONDS": str(math.ceil(max(seconds, _SHORTEST_CALL))),
        "DAGSTER_REPOSITORY_GRPC_TIMEOUT_SECONDS": str(math.ceil(max(2 * seconds, _SHORTEST_REPOSITORY_CALL))),
    }
