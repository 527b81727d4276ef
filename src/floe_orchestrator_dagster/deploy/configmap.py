"""A product's artifacts as a Kubernetes ConfigMap."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.deploy.pods import ARTIFACTS_FILE
from floe_orchestrator_dagster.errors import DeployError, Problem

if TYPE_CHECKING:
    from floe_orchestrator_dagster.deploy.products import DeployedProduct

_LARGEST = 2**20  # bytes, of all values together (https://kubernetes.io/docs/concepts/configuration/configmap/)
_DIGITS = 10


def configmap_name(product: DeployedProduct) -> str:
    """Return the ConfigMap's name, which includes a hash of its bytes, because Kubernetes refuses to change them."""
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
