"""OpenLineage's own JSON schemas, which every event of ours has to satisfy."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from openlineage.client.serde import Serde
from referencing import Registry, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from openlineage.client.event_v2 import RunEvent

    Json = dict[str, Any]

_DIRECTORY = Path(__file__).parent / "data" / "openlineage-spec"
_BASES = {
    "run": "RunFacet",
    "job": "JobFacet",
    "facets": "DatasetFacet",
    "inputFacets": "InputDatasetFacet",
    "outputFacets": "OutputDatasetFacet",
}
_FORMATS = FormatChecker(formats=["uuid"])
_FORMATS.checks("date-time")(
    lambda value: bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", str(value)))
)
_FORMATS.checks("uri")(lambda value: bool(re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*:[!-~]+", str(value))))


def as_json(event: RunEvent) -> Json:
    """Give the event as it is sent."""
    content: Json = json.loads(Serde.to_json(event))
    return content


def assert_valid(events: Iterable[RunEvent]) -> None:
    """Hold events, and each of their facets in its place, against the schemas."""
    assert_valid_json(map(as_json, events))


def assert_valid_json(events: Iterable[Json]) -> None:
    """Hold events as they are sent against the schemas."""
    found = [f"{event['job']['name']}: {problem}" for event in events for problem in _problems(event)]
    assert found == []


def _problems(event: Json) -> Iterator[str]:
    core = next(schema for schema in _schemas() if schema.endswith("/OpenLineage.json"))
    yield from (error.message for error in _validator(f"{core}#/$defs/RunEvent").iter_errors(event))
    sites = [("run", event["run"]["facets"]), ("job", event["job"]["facets"])]
    datasets = [*event["inputs"], *event["outputs"]]
    sites += [(name, dataset.get(name, {})) for dataset in datasets for name in list(_BASES)[2:]]
    for place, facets in sites:
        for name, facet in facets.items():
            yield from (f"{place}.{name}: {problem}" for problem in _facet_problems(facet, place))


def _facet_problems(facet: Json, place: str) -> Iterator[str]:
    url = facet["_schemaURL"]
    schema, _, definition = url.partition("#")
    if schema not in _schemas():
        yield f"no schema {url} in {_DIRECTORY}"
        return
    yield from (error.message for error in _validator(url).iter_errors(facet))
    parts = _schemas()[schema]["$defs"][definition.rpartition("/")[2]]["allOf"]
    bases = [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]
    if bases != [_BASES[place]]:
        yield f"is a {bases}"


@cache
def _schemas() -> dict[str, Json]:
    contents = (json.loads(path.read_text(encoding="utf-8")) for path in _DIRECTORY.rglob("*.json"))
    return {content["$id"]: content for content in contents}


@cache
def _validator(reference: str) -> Draft202012Validator:
    resources = ((name, Resource.from_contents(content)) for name, content in _schemas().items())
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator({"$ref": reference}, registry=registry, format_checker=_FORMATS)
