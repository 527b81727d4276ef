"""Suggestions for dbt selections that match nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from floe_orchestrator_dagster.wording import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# dbt's form of one criterion: graph operators around a method and its value.
_CRITERION = re.compile(r"^(?P<before>@|\d*\+)?((?P<method>[\w.]+):)?(?P<value>.*?)(?P<after>\+\d*)?$")


def suggestion(selection: str, manifest: Mapping[str, Any]) -> str:
    """Return a suggestion such as ``Did you mean 'tag:daily+'? ``; empty when there is none.

    Args:
        selection: A selection without blanks. Of several criteria, the first similar one is corrected.
        manifest: The content of a dbt manifest.
    """
    criteria = selection.split(",")
    for place, criterion in enumerate(criteria):
        close = _close(criterion, manifest)
        if close is not None:
            corrected = ",".join([*criteria[:place], close, *criteria[place + 1 :]])
            return did_you_mean(corrected)
    return ""


def _close(criterion: str, manifest: Mapping[str, Any]) -> str | None:
    found = _CRITERION.match(criterion)
    if found is None:
        return None
    known = set(_values(found["method"] or "fqn", manifest))
    close = None if found["value"] in known else closest(found["value"], known)
    method = f"{found['method']}:" if found["method"] else ""
    return f"{found['before'] or ''}{method}{close}{found['after'] or ''}" if close else None


def _values(method: str, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values that exist in the project for a selection method, such as all tags for ``tag``."""
    nodes = list(manifest["nodes"].values())
    sources = list(manifest["sources"].values())
    if method == "fqn":
        built = [node for node in nodes if node["resource_type"] != "test"]
        yield from (name for node in built for name in (node["name"], *node["fqn"]))
    elif method == "tag":
        yield from (tag for node in [*nodes, *sources] for tag in node.get("tags") or ())
    elif method == "source":
        yield from (f"{source['source_name']}.{source['name']}" for source in sources)
        yield from (source["source_name"] for source in sources)
    elif method == "group":
        yield from (str(node["group"]) for node in nodes if node.get("group"))
    elif method in {"path", "file"}:
        paths = [str(node["original_file_path"]) for node in nodes]
        parts = [path.split("/") for path in paths]
        if method == "file":
            yield from (names[-1] for names in parts)
        else:
            yield from ("/".join(names[: place + 1]) for names in parts for place in range(len(names)))
    elif method == "resource_type":
        yield from {str(node["resource_type"]) for node in nodes}
    elif method == "package":
        yield from {str(node["package_name"]) for node in nodes}
