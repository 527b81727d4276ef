"""Settings in ``floe.yaml`` that the compiled contract lacks: schedule, owner, description and labels.

All other settings come from the contract.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydantic import ValidationError

from floe_orchestrator_dagster.errors import Problem, SpecError
from floe_orchestrator_dagster.product.yaml_file import key_problems, read_yaml
from floe_orchestrator_dagster.wording import validation_message

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from floe_core.schemas.floe_spec import FloeSpec, ScheduleSpec

logger = logging.getLogger(__name__)

SPEC_FILE = "floe.yaml"


@dataclass(frozen=True)
class ProductSpec:
    """Settings of floe.yaml that the contract lacks; empty without a floe.yaml.

    Attributes:
        owner: An email address or the name of a team.
        description: Description of the product.
        labels: Labels by name.
        schedule: Cron (None when not declared), IANA timezone and whether it is enabled.
    """

    owner: str | None = None
    description: str | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    schedule: ScheduleSpec | None = None


def read_spec(directory: Path | None, product_name: str) -> ProductSpec:
    """Read ``floe.yaml`` in ``directory``. Ignore it, with a warning, when it belongs to another product.

    Raises:
        SpecError: The file exists and is not a valid floe.yaml.
    """
    path = directory / SPEC_FILE if directory else None
    if path is None or not path.is_file():
        return ProductSpec()
    content = read_yaml(path, SpecError)
    odd_keys = key_problems(content)
    if odd_keys:
        raise SpecError(str(path), odd_keys)
    try:
        spec = _validated(content)
    except ValidationError as error:
        fix = "Correct it; `floe platform compile` reports the same."
        problems = [
            Problem(".".join(str(part) for part in details["loc"]), validation_message(details), fix)
            for details in error.errors(include_url=False, include_input=False)
        ]
        raise SpecError(str(path), problems) from None
    if spec.metadata.name != product_name:
        logger.warning("%s belongs to product %r, not %r, and is not used", path, spec.metadata.name, product_name)
        return ProductSpec()
    return ProductSpec(
        owner=spec.metadata.owner,
        description=spec.metadata.description,
        labels=MappingProxyType(dict(spec.metadata.labels or {})),
        schedule=spec.schedule,
    )


def _validated(content: object) -> FloeSpec:
    """Validate floe.yaml, but accept any names of models.

    The names come from the contract. dbt accepts names that floe-core's pattern rejects, such as ``day-sales``.

    Raises:
        ValidationError: Any other setting is not valid.
    """
    from floe_core.schemas.floe_spec import FloeSpec

    try:
        return FloeSpec.model_validate(content)
    except ValidationError as error:
        odd_names = {details["loc"] for details in error.errors() if details["type"] == "string_pattern_mismatch"}
        if not isinstance(content, dict) or not isinstance(content.get("transforms"), list):
            raise
        transforms = [
            {**transform, "name": f"model_{row}"} if ("transforms", row, "name") in odd_names else transform
            for row, transform in enumerate(content["transforms"])
        ]
        return FloeSpec.model_validate({**content, "transforms": transforms})
