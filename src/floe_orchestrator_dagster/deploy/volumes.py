"""Volumes of a product's code server and runs: state, undelivered lineage, and artifacts from a ConfigMap."""

from __future__ import annotations

import base64
import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.deploy.pods import ARTIFACTS_FILE, STATE_PATH, directory, writable_directories
from floe_orchestrator_dagster.errors import DeployError, Problem

if TYPE_CHECKING:
    from floe_orchestrator_dagster.deploy.pods import Directory, Values
    from floe_orchestrator_dagster.deploy.products import DeployedProduct
    from floe_orchestrator_dagster.deploy.settings import DeploySettings


_LARGEST = 2**20  # bytes, of all values together (https://kubernetes.io/docs/concepts/configuration/configmap/)
_DIGITS = 10
MOUNTED_ARTIFACTS = "/opt/floe/artifacts"


def product_directories(product: DeployedProduct, settings: DeploySettings) -> list[Directory]:
    """List the directories of a code server, which the chart also mounts in its runs.

    Raises:
        DeployError: The location of the lineage spool is unknown.
    """
    directories = writable_directories() if settings.is_production else []
    directories.append(directory("floe-state", STATE_PATH, _claim(settings.state_claim)))
    if settings.lineage_claim or not keeps_lineage_with_state(product):
        # Products share the claim; each uses a subdirectory.
        part = product.service if settings.lineage_claim else None
        directories.append(directory("floe-lineage", _spool(product), _claim(settings.lineage_claim), part))
    if settings.from_configmap and product.content is not None:
        source = {"configMap": {"name": configmap_name(product)}}
        directories.append(directory("floe-artifacts", MOUNTED_ARTIFACTS, source))
    return directories


def keeps_lineage_with_state(product: DeployedProduct) -> bool:
    """Return whether undelivered lineage is in the state directory, as it is by default."""
    return PurePosixPath(STATE_PATH) in PurePosixPath(_spool(product)).parents


def _spool(product: DeployedProduct) -> str:
    """Return the directory for undelivered lineage in the product's pods."""
    configured = product.config.lineage.spool_dir
    if configured is None:
        return f"{STATE_PATH}/{product.name}/lineage"
    if configured.startswith("~"):
        what = f"{configured!r} is in a home directory that only the image knows"
        fix = f"Set an absolute directory in manifest.yaml, or remove it for {STATE_PATH}/PRODUCT/lineage."
        raise DeployError(product.origin, [Problem(config_path("lineage", "spool_dir"), what, fix)])
    return str(PurePosixPath(configured) / product.name)


def _claim(name: str | None) -> Values | None:
    return {"persistentVolumeClaim": {"claimName": name}} if name else None


def configmap_name(product: DeployedProduct) -> str:
    """Return the ConfigMap's name, which includes a hash of its bytes: an immutable ConfigMap cannot be changed."""
    return f"{product.service}-artifacts-{hashlib.sha256(product.content or b'').hexdigest()[:_DIGITS]}"


def artifacts_configmap(product: DeployedProduct) -> dict[str, Any]:
    """Return the ConfigMap of a product's artifacts.

    The artifacts are stored as binary data, so that Helm does not render ``{{ env_var() }}`` in them.

    Raises:
        DeployError: The artifacts exceed the maximum size of a ConfigMap.
    """
    content = product.content or b""
    if len(content) > _LARGEST:
        what = f"{len(content):,} bytes exceed the {_LARGEST:,} that a ConfigMap can contain"
        fix = "Leave the artifacts in the image (without --configmap and --from-configmap)."
        raise DeployError(product.origin, [Problem("", what, fix)])
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": configmap_name(product),
            "labels": {"floe.dev/product": product.service},
            "annotations": {"floe.dev/product": product.name, "floe.dev/content-hash": product.content_hash},
        },
        "immutable": True,
        "binaryData": {ARTIFACTS_FILE: base64.b64encode(content).decode("ascii")},
    }
