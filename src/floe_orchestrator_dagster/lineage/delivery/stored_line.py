"""Tolerant reading of lines in the spool and the journal: a damaged line does not affect the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from typing import TypeGuard


def read_line(line: bytes) -> dict[str, Any] | None:
    """Parse a line; None when it is not a complete JSON object."""
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def is_event(content: object) -> TypeGuard[dict[str, Any]]:
    """Return whether this is an OpenLineage run event with all fields that this package and the transports read."""
    if not isinstance(content, dict):
        return False
    run, job = content.get("run"), content.get("job")
    if not isinstance(run, dict) or not isinstance(job, dict):
        return False
    texts = (content.get("eventTime"), content.get("producer"), run.get("runId"), job.get("namespace"), job.get("name"))
    if not all(isinstance(text, str) for text in texts) or not isinstance(run.get("facets") or {}, dict):
        return False
    return _can_be_stored(content)


def _can_be_stored(event: dict[str, Any]) -> bool:
    """Return whether an event can be stored as a refused one: orjson reads deeper nesting than it writes."""
    try:
        orjson.dumps([[event]])
    except orjson.JSONEncodeError:
        return False
    return True


def text_of(record: dict[str, Any], key: str) -> str:
    """Return a string field of a record; empty when it is missing or not a string."""
    value = record.get(key)
    return value if isinstance(value, str) else ""
