"""What pods are made of, as Helm values have it: the parts that all services of the chart share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

PullPolicy = Literal["Always", "IfNotPresent"]
Resources = dict[str, dict[str, str]]

# Keys that are not the camel case of a Python name.
_KEYS = {
    "global_": "global",
    "user_deployments": "dagster-user-deployments",
    "k8s_run_launcher": "k8sRunLauncher",
    "run_k8s_config": "runK8sConfig",
}


def _chart_key(name: str) -> str:
    return _KEYS.get(name) or to_camel(name)


class ChartPart(BaseModel):
    """A part of the values: frozen, without unknown keys, written in camel case; what is None is left out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=_chart_key, populate_by_name=True
    )

    def document(self) -> dict[str, Any]:
        """Return the values as plain, fresh objects."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Named(ChartPart):
    """A reference to a Secret or the like."""

    name: str


class EnvironmentVariable(ChartPart):
    """A variable of a container."""

    name: str
    value: str


class Image(ChartPart):
    """An image; the digest wins."""

    repository: str
    tag: str | None = None
    digest: str | None = None
    pull_policy: PullPolicy


class EmptyDirectory(ChartPart):
    """A directory that lives as long as the pod."""

    medium: Literal["Memory"] | None = None
    size_limit: str | None = None


class Claim(ChartPart):
    """A persistent volume."""

    claim_name: str


class Volume(ChartPart):
    """A volume of a pod; one of its sources is set."""

    name: str
    empty_dir: EmptyDirectory | None = None
    config_map: Named | None = None
    persistent_volume_claim: Claim | None = None


class VolumeMount(ChartPart):
    """Where a container has a volume."""

    name: str
    mount_path: str
    sub_path: str | None = None
    read_only: bool | None = None


class SeccompProfile(ChartPart):
    """System calls that are allowed."""

    type: Literal["RuntimeDefault"] = "RuntimeDefault"


class PodSecurity(ChartPart):
    """Who the containers of a pod run as."""

    run_as_non_root: bool = True
    run_as_user: int
    run_as_group: int
    fs_group: int
    seccomp_profile: SeccompProfile = SeccompProfile()


class Capabilities(ChartPart):
    """Powers of root."""

    drop: list[str]


class ContainerSecurity(ChartPart):
    """What a container may do."""

    allow_privilege_escalation: bool = False
    read_only_root_filesystem: bool = True
    capabilities: Capabilities = Capabilities(drop=["ALL"])


class HttpGet(ChartPart):
    """A request that has to be answered."""

    path: str
    port: int


class Probe(ChartPart):
    """When a container is ready or alive. For code servers the chart itself adds the command that asks over gRPC."""

    enabled: bool | None = None
    http_get: HttpGet | None = None
    period_seconds: int
    timeout_seconds: int
    success_threshold: int | None = None
    failure_threshold: int


class Service(ChartPart):
    """A Kubernetes service."""

    type: Literal["ClusterIP"] = "ClusterIP"
    port: int


class Pod(ChartPart):
    """What the chart lets set for each of its pods."""

    env: list[EnvironmentVariable] | None = None
    pod_security_context: PodSecurity | None = None
    security_context: ContainerSecurity | None = None
    resources: Resources
    volumes: list[Volume] | None = None
    volume_mounts: list[VolumeMount] | None = None
