"""References to container images (https://github.com/distribution/reference)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from floe_orchestrator_dagster.errors import DeployError, Problem
from floe_orchestrator_dagster.redaction import redact_value

_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?)"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?",
    re.ASCII,
)
_MOVING_TAG = "latest"


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
