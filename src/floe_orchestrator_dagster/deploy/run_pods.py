"""Configuration of runs' pods that a code server passes to Dagster's run launcher."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from floe_orchestrator_dagster.deploy.pods import Resources, Values

# The variable of `dagster api grpc --container-context`. The chart sets it unless `includeConfigInLaunchedRuns` is off,
# and then passes to the pods of runs what is listed below. A new setting of code servers must be added here.
_VARIABLE = "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"


def with_run_resources(
    deployment: Values, resources: Resources, service_account: str, pull_secrets: Sequence[Values] | None
) -> Values:
    """Return the deployment with other resources for the pods of its runs than for its code server.

    The chart passes the settings of the code server to the pods of runs. The tags of a product's jobs replace the
    resources, but runs of the asset graph belong to no job of the product.

    Args:
        deployment: The code server.
        resources: Requests and limits of runs.
        service_account: Service account of the code server, which its runs have, too.
        pull_secrets: References to the Secrets for pulling its image.
    """
    configuration = {
        "image_pull_policy": deployment["image"]["pullPolicy"],
        "image_pull_secrets": pull_secrets or [],
        "service_account_name": service_account,
        "env": deployment["env"],
        "env_secrets": [secret["name"] for secret in deployment["envSecrets"] or ()],
        "volumes": deployment.get("volumes") or [],
        "volume_mounts": deployment.get("volumeMounts") or [],
        "labels": deployment["labels"],
        "resources": resources,
    }
    variable = {"name": _VARIABLE, "value": json.dumps({"k8s": configuration})}
    return {
        **deployment,
        "env": [*deployment["env"], variable],
        "includeConfigInLaunchedRuns": {"enabled": False},
    }
