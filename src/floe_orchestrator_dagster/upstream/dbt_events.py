"""Fields and secrets of dbt's events, as dbt itself writes and masks them.

dbt documents events for callbacks, but neither their fields as JSON nor its masking. All versions of dbt-core that the
package allows have both functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbt_common.events.base_types import EventMsg


def event_fields(event: EventMsg) -> dict[str, Any]:
    """Return ``info`` and ``data`` of an event, as ``dbt --log-format json`` prints them."""
    from dbt_common.events.functions import msg_to_dict

    fields: dict[str, Any] = msg_to_dict(event)
    return fields


def masked_text(text: str) -> str:
    """Mask the values of the variables ``DBT_ENV_SECRET_…`` in a text."""
    from dbt_common.events.functions import env_scrubber

    return env_scrubber(text)
