"""What all pods have in common: who they run as, where they may write, how long they may take to start."""

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

# Numeric: Kubernetes does not know whether a user that is known by name is root.
USER_ID = 10001
ARTIFACTS_FILE = "compiled_artifacts.json"
PRODUCT_PATH = "/opt/floe/product"
STATE_PATH = "/var/lib/floe/state"
CODE_SERVER_PORT = 3030
# The chart's 80 is for root alone on some container runtimes.
WEBSERVER_PORT = 3000

_DAGSTER_HOME = "/opt/dagster/dagster_home"  # the chart's global.dagsterHome

# Measured: 2,000 models load in 9 to 11 s of CPU, imports included, and are serialized in 3; doubled for slower cores.
_BASE_SECONDS = 10
_SECONDS_PER_ASSET = 0.01
_STARTUP_PERIOD = 10
_SHORTEST_STARTUP = 600
_SHORTEST_CALL = 60
_SHORTEST_REPOSITORY_CALL = 180

GONE_WITH_THE_POD: Mapping[str, object] = MappingProxyType({"empty_dir": EmptyDirectory()})


@dataclass(frozen=True)
class Directory:
    """A volume and where containers have it."""

    volume: Volume
    mount: VolumeMount


def directory(
    name: str, path: str, source: Mapping[str, object] = GONE_WITH_THE_POD, sub_path: str | None = None
) -> Directory:
    """Make a directory of a pod.

    Args:
        name: Name of the volume.
        path: Where containers have it.
        source: Where the volume comes from.
        sub_path: The part of the volume that they have; all of it when left out.
    """
    volume = Volume.model_validate({"name": name, **source})
    read_only = True if "config_map" in source else None
    return Directory(volume, VolumeMount(name=name, mount_path=path, sub_path=sub_path, read_only=read_only))


def writable_directories() -> list[Directory]:
    """Return what a Dagster process writes to where its root is read-only."""
    return [
        directory("floe-home", _DAGSTER_HOME),
        directory("floe-tmp", "/tmp"),  # noqa: S108  # a volume of the pod's own
        directory("floe-shm", "/dev/shm", {"empty_dir": EmptyDirectory(medium="Memory", size_limit="64Mi")}),  # noqa: S108
    ]


def volumes(directories: Iterable[Directory]) -> list[Volume] | None:
    """Return the volumes of a pod; None without."""
    return [entry.volume for entry in directories] or None


def mounts(directories: Iterable[Directory]) -> list[VolumeMount] | None:
    """Return the mounts of a container; None without."""
    return [entry.mount for entry in directories] or None


def pod_security() -> PodSecurity:
    """Return the user of all containers, never root."""
    return PodSecurity(run_as_user=USER_ID, run_as_group=USER_ID, fs_group=USER_ID)


def container_security() -> ContainerSecurity:
    """Return what containers may do: nothing besides running, with a read-only root."""
    return ContainerSecurity()


def load_seconds(assets: int, resources: Resources) -> float:
    """Estimate how long a code location of so many assets takes to load under its CPU limit, generously."""
    return (_BASE_SECONDS + _SECONDS_PER_ASSET * assets) / float(quantity(resources["limits"]["cpu"]))


def startup_probe(seconds: float) -> Probe:
    """Wait for a code server that loads in ``seconds``: three times as long, and ten minutes at least."""
    longest = max(3 * seconds, _SHORTEST_STARTUP)
    return Probe(
        enabled=True,
        period_seconds=_STARTUP_PERIOD,
        timeout_seconds=_STARTUP_PERIOD,
        failure_threshold=math.ceil(longest / _STARTUP_PERIOD),
    )


def readiness_probe() -> Probe:
    """Ask a code server whether it serves; one question costs it about a second of CPU."""
    return Probe(enabled=True, period_seconds=20, timeout_seconds=10, success_threshold=1, failure_threshold=3)


def liveness_probe() -> Probe:
    """Restart a code server that has not answered for five minutes."""
    return Probe(period_seconds=60, timeout_seconds=30, failure_threshold=5)


def webserver_probe(*, starting: bool = False) -> Probe:
    """Ask the webserver for its version: every 20 s, or for five minutes while it is starting."""
    answer = HttpGet(path="/server_info", port=WEBSERVER_PORT)
    if starting:
        return Probe(enabled=True, http_get=answer, period_seconds=10, timeout_seconds=10, failure_threshold=30)
    return Probe(http_get=answer, period_seconds=20, timeout_seconds=10, success_threshold=1, failure_threshold=3)


def grpc_timeouts(seconds: float) -> dict[str, str]:
    """Return how long webserver and daemon wait for a code server that loads in ``seconds``."""
    return {
        "DAGSTER_GRPC_TIMEOUT_SECONDS": str(math.ceil(max(seconds, _SHORTEST_CALL))),
        "DAGSTER_REPOSITORY_GRPC_TIMEOUT_SECONDS": str(math.ceil(max(2 * seconds, _SHORTEST_REPOSITORY_CALL))),
    }
