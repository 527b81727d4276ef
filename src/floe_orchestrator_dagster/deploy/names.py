"""Valid Kubernetes names of services and their objects, and references to container images."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.errors import DeployError, Problem
from floe_orchestrator_dagster.redaction import redact_value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


# The chart names a container of the webserver's pod init-user-deployment-NAME; the limit is 63 characters.
LONGEST_NAME = 63 - len("init-user-deployment-")
_DIGEST = 6
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_SUBDOMAIN = 253
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?)"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?",
    re.ASCII,
)
_MOVING_TAG = "latest"


def service_name(product_name: str) -> str:
    """Convert a product's name to the name of a Kubernetes service (a DNS label of at most 42 characters, RFC 1035).

    A longer name is cut and gets a hash of the whole name as a suffix, so that it stays unique.
    """
    label = re.sub(r"[^a-z0-9]+", "-", product_name.lower()).strip("-")
    if len(label) <= LONGEST_NAME:
        return label
    digest = hashlib.sha256(product_name.encode()).hexdigest()[:_DIGEST]
    return f"{label[: LONGEST_NAME - _DIGEST - 1].rstrip('-')}-{digest}"


def check_names_differ(products: Sequence[tuple[str, Path]], option: str = "--artifacts") -> None:
    """Check that products have different names of services and code locations.

    Args:
        products: Name and artifacts of each.
        option: The command-line option with the products.

    Raises:
        DeployError: Several products have the same service name. The message lists them.
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


def is_subdomain(text: str) -> bool:
    """Return whether ``text`` is a DNS subdomain, which names of objects and prefixes of keys must be."""
    return len(text) <= _LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(text) is not None


def check_object_name(name: str, option: str) -> str:
    """Return the name of a Secret, claim or service account after a check.

    Raises:
        DeployError: The name, which comes from ``option``, is not valid in Kubernetes.
    """
    if not is_subdomain(name):
        fix = "Use the name of an object in the release's namespace: lower-case letters, digits, '-' and '.'."
        raise DeployError(
            option, [Problem("", f"{redact_value(name)!r} cannot be the name of a Kubernetes object", fix)]
        )
    return name


@dataclass(frozen=True)
class ImageReference:
    """An image.

    Attributes:
        repository: Registry and path.
        tag: Its tag; None when only the digest is given.
        digest: Its digest, which takes precedence over the tag; None when only the tag is given.
    """

    repository: str
    tag: str | None
    digest: str | None

    @property
    def is_fixed(self) -> bool:
        """Whether it always refers to the same image: by digest, or by a tag other than ``latest``."""
        return self.digest is not None or self.tag != _MOVING_TAG


def parse_image(text: str, origin: str) -> ImageReference:
    """Parse ``repository:tag`` or ``repository@sha256:digest``.

    Raises:
        DeployError: It is not such a reference. Without a tag, the chart would use its own version as the tag.
    """
    found = _REFERENCE.fullmatch(text)
    fix = "Write it as registry.example.com/retail-orders:1.4.0, or with @sha256: and its digest."
    if found is None:
        raise DeployError(origin, [Problem("", f"{redact_value(text)!r} is not a reference to an image", fix)])
    if found["tag"] is None and found["digest"] is None:
        raise DeployError(
            origin, [Problem("", f"the image {redact_value(text)!r} has neither a tag nor a digest", fix)]
        )
    return ImageReference(found["repository"], found["tag"], found["digest"])
