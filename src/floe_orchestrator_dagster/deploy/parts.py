"""Pod settings that all services of the chart share, as typed Helm values."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

PullPolicy = Literal["Always", "IfNotPresent"]
Resources = dict[str, dict[str, str]]

# Keys of the chart that are not the camel case of the Python name.
_KEYS = {
    "global_": "global",
    "user_deployments": "dagster-user-deployments",
    "k8s_run_launcher": "k8sRunLauncher",
    "run_k8s_config": "runK8sConfig",
}


def _chart_key(name: str) -> str:
    return _KEYS.get(name) or to_camel(name)


class ChartPart(BaseModel):
    """Base class of Helm values: frozen, without unknown keys, serialized in camel case without None."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=_chart_key, populate_by_name=True
    )

    def document(self) -> dict[str, Any]:
        """Return the values as new dictionaries and lists."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Named(ChartPart):
    """A reference to an object by name, such as a Secret."""

    name: str


class EnvironmentVariable(ChartPart):
    """An environment variable of a container."""

    name: str
    value: str


class Image(ChartPart):
    """An image; the digest takes precedence over the tag."""

    repository: str
    tag: str | None = None
    digest: str | None = None
    pull_policy: PullPolicy


class EmptyDirectory(ChartPart):
    """A directory that lives as long as the pod."""

    medium: Literal["Memory"] | None = None
    size_limit: str | None = None


class Claim(ChartPart):
    """A persistent volume claim."""

    claim_name: str


class Volume(ChartPart):
    """A volume of a pod, with exactly one source."""

    name: str
    empty_dir: EmptyDirectory | None = None
    config_map: Named | None = None
    persistent_volume_claim: Claim | None = None


class VolumeMount(ChartPart):
    """The mount of a volume in a container."""

    name: str
    mount_path: str
    sub_path: str | None = None
    read_only: bool | None = None


class SeccompProfile(ChartPart):
    """The allowed system calls."""

    type: Literal["RuntimeDefault"] = "RuntimeDefault"


class PodSecurity(ChartPart):
    """User and groups of a pod's containers."""

    run_as_non_root: bool = True
    run_as_user: int
    run_as_group: int
    fs_group: int
    seccomp_profile: SeccompProfile = SeccompProfile()


class Capabilities(ChartPart):
    """Linux capabilities."""

    drop: list[str]


class ContainerSecurity(ChartPart):
    """Security settings of a container."""

    allow_privilege_escalation: bool = False
    read_only_root_filesystem: bool = True
    capabilities: Capabilities = Capabilities(drop=["ALL"])


class HttpGet(ChartPart):
    """The HTTP request of a probe."""

    path: str
    port: int


class Probe(ChartPart):
    """A startup, readiness or liveness probe. For code servers, the chart adds the gRPC health command."""

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
    """Settings that the chart supports for each of its pods."""

    env: list[EnvironmentVariable] | None = None
    pod_security_context: PodSecurity | None = None
    security_context: ContainerSecurity | None = None
    resources: Resources
    volumes: list[Volume] | None = None
    volume_mounts: list[VolumeMount] | None = None
