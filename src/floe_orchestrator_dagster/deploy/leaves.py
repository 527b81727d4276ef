"""Single values inside Helm values: their paths, and which of them may be shown.

A value is shown only if this package sets values at its path, because others may be secrets.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from floe_orchestrator_dagster.redaction import MASK, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Leaves: TypeAlias = "dict[str, object]"

# The value of a list entry that has a name and nothing else.
PRESENT = "present"
# Removes a default value of the chart, unlike a missing key.
_NULL = "null"
_CONTEXT = "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"
_CONTEXT_PARTS = ("resources", "run_k8s_config", "service_account_name", "image_pull_policy")
_VARIABLE = re.compile(r"(?:.*\.)?env\[(?P<name>[^\]]*)\](?P<rest>.*)", re.DOTALL)
_SHOWN_VARIABLES = {
    "DAGSTER_GRPC_TIMEOUT_SECONDS",
    "DAGSTER_REPOSITORY_GRPC_TIMEOUT_SECONDS",
    "FLOE_ARTIFACTS_PATH",
    "FLOE_DBT_PROJECT_DIR",
    "FLOE_ENV",
    "FLOE_LOG_LEVEL",
    "FLOE_STATE_DIR",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
}
# Paths of values, without the names of list entries. Every path that `floe-dagster helm` writes is here, except for
# environment variables, arguments of containers, and annotations without the prefix `floe.dev/`.
_SHOWN_PATHS = (
    # code locations
    r"port|image\.(repository|tag|digest|pullPolicy)",
    r"(annotations|labels)\.floe\.dev/[\w-]+",
    r"(nodeSelector|runs\.run_k8s_config\.pod_spec_config\.node_selector)\..+",
    r"(runs\.run_k8s_config\.pod_spec_config\.)?tolerations\[\]\.(operator|tolerationSeconds)",
    r"runs\.(service_account_name|image_pull_policy)",
    # pods
    r"(.+\.)?resources\.(limits|requests)\.[\w./-]+",
    r"(.+\.)?(readiness|liveness|startup)Probe\.(\w+(Seconds|Threshold)|httpGet\.(path|port))",
    r"(.+\.)?(podSecurityContext|securityContext)\.(runAsUser|runAsGroup|fsGroup|seccompProfile\.type)",
    r"(.+\.)?securityContext\.capabilities\.(add|drop)\[\]",
    r"(.+\.)?volumes\[\]\.(persistentVolumeClaim\.claimName|configMap\.name|emptyDir\.(medium|sizeLimit))",
    r"(.+\.)?volumeMounts\[\]\.(name|subPath)",
    # services of the release
    r"global\.(postgresqlSecretName|serviceAccountName)",
    r"(dagster-user-deployments\.)?serviceAccount\.name",
    r"dagsterWebserver\.(replicaCount|service\.(type|port))",
    r"dagsterDaemon\.(runMonitoring|runRetries|sensors|schedules)\.\w+",
    r"dagsterDaemon\.runCoordinator\.(type|config\.queuedRunCoordinator\.\w+)",
    r"runLauncher\.(type|config\.k8sRunLauncher\.imagePullPolicy)",
    r"postgresql\.(postgresqlHost|postgresqlUsername|postgresqlDatabase|service\.port)",
    r"concurrency\.(pools\.(granularity|defaultLimit)|runs\.maxConcurrentRuns|runs\.tagConcurrencyLimits\[\]\.limit)",
    r"computeLogManager\.type",
    r"computeLogManager\.config\.(s3|gcs|azureBlob)ComputeLogManager\.(bucket|prefix|localDir|storageAccount|container)",
)
_SHOWN_PATH = re.compile("|".join(_SHOWN_PATHS))


def leaves(value: object, path: str = "") -> Leaves:
    """Return each value in nested mappings and lists by its path, such as ``image.tag`` or ``env[FLOE_ENV].value``."""
    found: Leaves = {}
    if isinstance(value, dict):
        for key, inner in value.items():
            # The chart accepts variables as a mapping, too.
            is_mapping = key == "env" and isinstance(inner, dict)
            entries = [{"name": name, "value": set_to} for name, set_to in inner.items()] if is_mapping else inner
            found.update(leaves(entries, f"{path}.{key}" if path else str(key)))
    elif isinstance(value, list):
        found.update(_of_list(value, path))
    else:
        found[path] = _NULL if value is None else value
    return found


def shown(path: str, value: object) -> str:
    """Return a value for the output, masked where it may be a secret."""
    if isinstance(value, bool):
        return json.dumps(value)
    found = _VARIABLE.fullmatch(path)
    if found is not None:
        is_shown = found["name"] in _SHOWN_VARIABLES and found["rest"] == ".value"
    else:
        is_shown = value in (PRESENT, _NULL) or _SHOWN_PATH.fullmatch(re.sub(r"\[[^\]]*\]", "[]", path)) is not None
    return redact(str(value)) if is_shown else MASK


def variable_at(path: str) -> str | None:
    """Return the name of the environment variable whose value is at a path."""
    found = _VARIABLE.fullmatch(path)
    return found["name"] if found else None


def _of_list(entries: list[object], path: str) -> Leaves:
    found: Leaves = {}
    kind = path.rpartition(".")[2]
    named_by, naming = _NAMED_BY.get(kind, (_name, ("name",)))
    used: Counter[str] = Counter()
    for row, entry in enumerate(entries):
        name = named_by(entry) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or name is None:
            found.update(leaves(entry, f"{path}[{row}]"))
            continue
        if name == _CONTEXT and isinstance(entry.get("value"), str):
            found.update(leaves(_of_runs(str(entry["value"])), "runs"))
            continue
        used[name] += 1
        # Equal names get a number, so that no entry hides another one.
        named = f"{path}[{name}]" if used[name] == 1 else f"{path}[{name} ({used[name]})]"
        rest = {key: inner for key, inner in entry.items() if key not in naming}
        found.update(leaves(rest, named) or {named: PRESENT})
    return found


def _name(entry: Mapping[str, object]) -> str | None:
    return str(entry["name"]) if "name" in entry else None


def _mount(entry: Mapping[str, object]) -> str | None:
    return str(entry["mountPath"]) if "mountPath" in entry else None


def _toleration(entry: Mapping[str, object]) -> str:
    """Return a toleration as ``kubectl`` shows a taint: ``dedicated=data:NoSchedule``."""
    effect = f":{entry['effect']}" if entry.get("effect") else ""
    return f"{_tag(entry) or ''}{effect}"


def _tag(entry: Mapping[str, object]) -> str | None:
    if "key" not in entry:
        return None
    value = entry.get("value")
    return f"{entry['key']}" if value is None else f"{entry['key']}={value}"


# Lists whose entries have no `name`, by the list's key: a function that names an entry, and the keys that it uses.
_NAMED_BY: dict[str, tuple[Callable[[Mapping[str, object]], str | None], tuple[str, ...]]] = {
    "tolerations": (_toleration, ("key", "value", "effect")),
    "tagConcurrencyLimits": (_tag, ("key", "value")),
    "volumeMounts": (_mount, ("mountPath",)),
}


def _of_runs(text: str) -> object:
    """Return the settings of run pods that are not those of their code server."""
    try:
        context = json.loads(text)
    except ValueError:
        return {}
    runs = context.get("k8s") if isinstance(context, dict) else None
    return {key: value for key, value in runs.items() if key in _CONTEXT_PARTS} if isinstance(runs, dict) else {}
