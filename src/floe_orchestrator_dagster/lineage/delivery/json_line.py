"""Lines of JSON in the spool and the journal: serialization, and reading that tolerates damaged lines."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from typing import TypeGuard

    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.facet_v2 import BaseFacet


# JSON of values that openlineage's client omits. `_fields` omits them from attrs objects, but not from dictionaries.
_OMITTED_BY_CLIENT = (b":null", b"null,", b"null]", b"[{}", b",{}")


def as_json_line(event: RunEvent | BaseFacet | bytes) -> bytes:
    """Serialize an event, or a part of one, to JSON without line breaks.

    Args:
        event: openlineage's object, or JSON.

    Raises:
        ValueError: The bytes are not JSON.
    """
    if isinstance(event, bytes):
        return orjson.dumps(orjson.loads(event))
    try:
        line = orjson.dumps(event, default=_fields)
    except TypeError:
        return _as_the_client_does(event)
    return _as_the_client_does(event) if any(part in line for part in _OMITTED_BY_CLIENT) else line


def _as_the_client_does(event: RunEvent | BaseFacet) -> bytes:
    from openlineage.client.serde import Serde

    line = Serde.to_json(event).encode()
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        # Python's json writes lone surrogates, NaN and infinities, which backends cannot parse.
        content = json.loads(line, parse_constant=lambda _: None)
        line = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    return line


def _fields(value: Any) -> dict[str, object]:  # noqa: ANN401  # any type that orjson does not know
    """Return the fields of an attrs object that are set; orjson calls this for types that it does not know."""
    kind: Any = type(value)
    fields = ((name, getattr(value, name)) for name in _names(kind))
    return {name: field for name, field in fields if field is not None}


@cache
def _names(kind: Any) -> tuple[str, ...]:  # noqa: ANN401  # attr.fields accepts attrs classes only
    import attr

    return tuple(field.name for field in attr.fields(kind))


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
    """Return whether an event can be written to a file of refused events: orjson parses more levels than it writes."""
    try:
        orjson.dumps([[event]])
    except orjson.JSONEncodeError:
        return False
    return True


def text_of(record: dict[str, Any], key: str) -> str:
    """Return a string field of a record; empty when it is missing or not a string."""
    value = record.get(key)
    return value if isinstance(value, str) else ""
