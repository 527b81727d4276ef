"""Fields of dbt's events, and masking of secrets, by functions of dbt.

dbt documents events for callbacks, but not their conversion to JSON and the masking of secrets. All supported versions
of dbt-core have both functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbt_common.events.base_types import EventMsg


def event_fields(event: EventMsg) -> dict[str, Any]:
    """Return ``info`` and ``data`` of an event, the same as ``dbt --log-format json`` prints."""
    from dbt_common.events.functions import msg_to_dict

    fields: dict[str, Any] = msg_to_dict(event)
    return fields


def masked_text(text: str) -> str:
    """Mask the values of the variables ``DBT_ENV_SECRET_…`` in a string."""
    from dbt_common.events.functions import env_scrubber

    return env_scrubber(text)
