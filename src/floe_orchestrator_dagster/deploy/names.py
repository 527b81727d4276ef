"""Names that Kubernetes takes: of services, and of everything the chart derives from them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import DeployError, Problem
from floe_orchestrator_dagster.redaction import redact_value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# The chart calls a container of the webserver's pod init-user-deployment-NAME, and 63 characters are allowed.
LONGEST_NAME = 63 - len("init-user-deployment-")
_DIGEST = 6
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_SUBDOMAIN = 253


def service_name(product_name: str) -> str:
    """Make a product's name fit for a Kubernetes service (a DNS label, RFC 1035, of 42 characters).

    A longer one ends in a hash of the whole name, so that it stays its own.
    """
    label = re.sub(r"[^a-z0-9]+", "-", product_name.lower()).strip("-")
    if len(label) <= LONGEST_NAME:
        return label
    digest = hashlib.sha256(product_name.encode()).hexdigest()[:_DIGEST]
    return f"{label[: LONGEST_NAME - _DIGEST - 1].rstrip('-')}-{digest}"


def check_names_differ(products: Sequence[tuple[str, Path]], option: str = "--artifacts") -> None:
    """Refuse products that would share a service or a code location.

    Args:
        products: Name and artifacts of each.
        option: Where they were named.

    Raises:
        DeployError: Names every product that shares its service's name with another.
    """
    names = [service_name(name) for name, _ in products]
    for name, count in Counter(names).items():
        if count > 1:
            sharing = [
                f"{product} ({path})" for (product, path), own in zip(products, names, strict=True) if own == name
            ]
            what = f"{count} products get the name {name!r}: {', '.join(sharing)}"
            fix = "Name each product once, and give products names that differ in more than case, '-' and '_'."
            raise DeployError(option, [Problem("", what, fix)])


def check_object_name(name: str, option: str) -> str:
    """Return the name of a Secret, claim or service account when Kubernetes takes it.

    Raises:
        DeployError: It does not; ``option`` is where it comes from.
    """
    if len(name) > _LONGEST_SUBDOMAIN or not _SUBDOMAIN.fullmatch(name):
        fix = "Name an object of the release's namespace: lower-case letters, digits, '-' and '.'."
        raise DeployError(
            option, [Problem("", f"{redact_value(name)!r} cannot be the name of a Kubernetes object", fix)]
        )
    return name
