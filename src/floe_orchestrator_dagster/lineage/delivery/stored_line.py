"""Lines of the spool and the journal, read so that an odd one costs nothing but itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from typing import TypeGuard


def read_line(line: bytes) -> dict[str, Any] | None:
    """Read a line; None when it is cut off, not JSON, or not an object."""
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def is_event(content: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is an OpenLineage run event, as far as it is read here and by the client's transports."""
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
    """Whether an event can be written again, in a record that gives a reason: orjson reads deeper than it writes."""
    try:
        orjson.dumps([[event]])
    except orjson.JSONEncodeError:
        return False
    return True


def text_of(record: dict[str, Any], key: str) -> str:
    """Return a text of a record; empty when there is none."""
    value = record.get(key)
    return value if isinstance(value, str) else ""
