"""The events of a run as a readable file, with which a test compares them.

Values of one run, version or machine are replaced by placeholders such as ``<time>``. Its parts:

    events   each event in a line: the tables that it reads and writes, the facets that it brings
    columns  each table's columns after the run: their types, and the columns that they come from
    facets   one of each facet, whole

``WRITE_GOLDEN=1`` in the environment of the test writes the file anew (CONTRIBUTING.md has the command).
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    Json = dict[str, Any]

_PATTERNS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.]*Z", "<time>"),
    (r"(?<=/spec/facets/)[\d-]+", "<version>"),
    (r"(?<=urn:floe-orchestrator-dagster:)[\w.]+", "<version>"),
    (r'(?<="version": ")[^"]+|(?<="openlineageAdapterVersion": ")[^"]+|(?<="value": "duckdb )[\d.]+', "<version>"),
)


def assert_golden(events: Sequence[Json], project: Path, golden: Path) -> None:
    """Hold the events of a run against a file; with ``WRITE_GOLDEN`` set, write the file first.

    Args:
        events: What a backend acknowledged.
        project: The product's directory, ``<project>`` in the file.
        golden: The file.
    """
    # Delivery is at least once: on a busy machine a request may time out although the backend has the event.
    once = list({json.dumps(event, sort_keys=True): event for event in events}.values())
    named = sorted(_named(once, project), key=lambda event: (event["job"]["name"], event["eventType"] != "START"))
    ends = [event for event in named if event["eventType"] != "START"]
    parts = {
        "events": [_line(_summary(event)) for event in named],
        "columns": [f"{_line(table)}: {_block(columns)}" for table, columns in _columns(ends).items()],
        "facets": [f"{_line(name)}: {_block(facet)}" for name, facet in _facets([*ends, *named]).items()],
    }
    text = (
        f'{{"events": [\n{_joined(parts["events"])}\n],\n"columns": {{\n{_joined(parts["columns"])}\n}},\n'
        f'"facets": {{\n{_joined(parts["facets"])}\n}}}}\n'
    )
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text.splitlines() == golden.read_text(encoding="utf-8").splitlines()


def _named(events: Sequence[Json], project: Path) -> list[Json]:
    """Give what is of this run, version or machine a name."""
    text = json.dumps(events, ensure_ascii=False, sort_keys=True)
    for what, name in {**_ids(events), str(project.resolve()): "<project>", str(project): "<project>"}.items():
        text = text.replace(what, name)
    for pattern, name in _PATTERNS:
        text = re.sub(pattern, name, text)
    named: list[Json] = json.loads(text)
    return named


def _ids(events: Iterable[Json]) -> Mapping[str, str]:
    ids: dict[str, str] = {}
    for event in events:
        facets = event["run"]["facets"]
        ids |= {tag["value"]: f"<{tag['key']}>" for tag in facets["tags"]["tags"] if tag["key"].endswith("_id")}
        root = facets["parent"]["root"]
        ids[root["run"]["runId"]] = f"<run of Dagster's {root['job']['name']}>"
        ids[event["run"]["runId"]] = f"<run of {event['job']['name']}>"
    return ids


def _summary(event: Json) -> Json:
    tables = {side: sorted(one["name"] for one in event[side]) for side in ("inputs", "outputs") if event[side]}
    run, parent = event["run"]["runId"], event["run"]["facets"]["parent"]["run"]["runId"]
    names: dict[str, list[str]] = {}
    for place, name in sorted({(place, name) for place, name, _ in _facets_of(event)}):
        names.setdefault(place, []).append(name)
    facets = {place: " ".join(found) for place, found in names.items()}
    return {"event": event["eventType"], "run": run, "parent": parent, **tables, "facets": facets}


def _columns(ends: Iterable[Json]) -> dict[str, Json]:
    columns = {}
    for event in ends:
        for table in event["outputs"]:
            origins = table["facets"].get("columnLineage", {"fields": {}})["fields"]
            columns[f"{table['namespace']} {table['name']}"] = {
                field["name"]: [field["type"], *_origins(origins.get(field["name"], {}))]
                for field in table["facets"]["schema"]["fields"]
            }
    return columns


def _origins(column: Json) -> Iterator[str]:
    for origin in column.get("inputFields", ()):
        kinds = sorted(how["subtype"] + " masked" * how["masking"] for how in origin["transformations"])
        yield f"{origin['name'].rpartition('.')[2]}.{origin['field']} {', '.join(kinds)}"


def _facets(events: Iterable[Json]) -> dict[str, Json]:
    """Give the first of each facet."""
    found: dict[str, Json] = {}
    for event in events:
        for place, name, facet in _facets_of(event):
            found.setdefault(f"{place}.{name}", facet)
    return dict(sorted(found.items()))


def _facets_of(event: Json) -> Iterator[tuple[str, str, Json]]:
    """List the facets of an event with their places."""
    for place in ("run", "job"):
        yield from ((place, name, facet) for name, facet in event[place]["facets"].items())
    for place in ("inputs", "outputs"):
        for table in event[place]:
            for kind in ("facets", "inputFacets", "outputFacets"):
                yield from ((place, name, facet) for name, facet in table.get(kind, {}).items())


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _block(content: Json) -> str:
    """Write an object with a line for each of its values."""
    return f"{{\n{_joined(f'  {_line(name)}: {_line(value)}' for name, value in content.items())}\n}}"


def _joined(parts: Iterable[str]) -> str:
    return ",\n".join(parts)
