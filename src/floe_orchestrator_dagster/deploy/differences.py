"""Differences between deployed Helm values and new ones, in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from floe_orchestrator_dagster.deploy.documents import parsed
from floe_orchestrator_dagster.deploy.leaves import PRESENT, leaves, shown, variable_at
from floe_orchestrator_dagster.errors import DeployError, Problem
from floe_orchestrator_dagster.redaction import MASK, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from floe_orchestrator_dagster.deploy.leaves import Leaves

_SUBCHART = "dagster"
_DEPLOYMENTS = "dagster-user-deployments"
_CHARTS = {False: "Dagster's chart", True: "floe's chart"}
# The first line of `helm get values` without `--output yaml`.
_TITLE = "USER-SUPPLIED VALUES:"
# The same with `--all`.
_TITLE_OF_ALL = "COMPUTED VALUES:"
# Fixes of the error messages, by the kind of the file.
_FROM_HELM = "Write it with `helm get values RELEASE --output yaml`."
_OVERLAY = "Give the file of `helm upgrade --values FILE`."
_HASH_ANNOTATION = "floe.dev/content-hash"
_SHOWN_DIGITS = 12


def read_deployed(path: Path) -> dict[str, object]:
    """Read deployed values: a file of ``floe-dagster helm``, or the output of ``helm get values``.

    Helm prints ``null`` for a release without values. An empty file is refused, because Helm leaves it after an error.

    Raises:
        DeployError: The file cannot be read, or has no Helm values.
    """
    return _read(path, _FROM_HELM)


def with_overlays(values: Mapping[str, object], overlays: Sequence[Path]) -> dict[str, object]:
    """Merge the values of further files into values, as ``helm --values`` does: mappings by key, lists as a whole.

    Raises:
        DeployError: A file cannot be read, or has no Helm values.
    """
    merged = dict(values)
    for path in overlays:
        merged = _merged(merged, _read(path, _OVERLAY))
    return merged


def differences(deployed: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Describe each change of an upgrade in a line: first those of products, then those of the shared values."""
    is_floes = _is_of_floes_chart(new)
    was_floes = _is_of_floes_chart(deployed) or (is_floes and _DEPLOYMENTS not in deployed)
    was = deployed if was_floes else {_SUBCHART: deployed}
    is_now = new if is_floes else {_SUBCHART: new}
    old, current = _of_dagster(was), _of_dagster(is_now)
    before, after = _locations(old), _locations(current)
    lines = [] if was_floes == is_floes else [f"changes the chart from {_CHARTS[was_floes]} to {_CHARTS[is_floes]}"]
    lines += [f"adds the product {name} {_with_image(after[name])}" for name in after if name not in before]
    lines += [f"removes the product {name}" for name in before if name not in after]
    for name, location in after.items():
        if name in before:
            lines += [f"{name}: {line}" for line in _changes(leaves(before[name]), leaves(location))]
    lines += _changes(leaves(_shared(old)), leaves(_shared(current)))
    return lines + [f"floe's chart: {line}" for line in _changes(leaves(_beside(was)), leaves(_beside(is_now)))]


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    merged = dict(below)
    for key, value in above.items():
        replaced = merged.get(key)
        if isinstance(value, dict) and isinstance(replaced, dict):
            merged[key] = _merged(replaced, value)
        else:
            merged[key] = value
    return merged


def _read(path: Path, fix: str) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8").lstrip("\ufeff\r\n ")
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or 'it is not text'})"
        raise DeployError(str(path), [Problem("", what, fix)]) from None
    if text.startswith(_TITLE_OF_ALL):
        raise DeployError(str(path), [Problem("", "has the default values of the chart, too", "Leave `--all` out.")])
    content = _parsed(text.removeprefix(_TITLE), path, fix)
    if content is None and text.strip():
        return {}
    if not isinstance(content, dict):
        raise DeployError(str(path), [Problem("", "has no Helm values", fix)])
    return {str(key): value for key, value in content.items()}


def _parsed(text: str, path: Path, fix: str) -> object:
    try:
        content = parsed(text)
        # Aliases can nest a value in itself.
        json.dumps(content, default=str, skipkeys=True)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = f"is not a YAML document{f' (line {mark.line + 1})' if mark else ''}"
        raise DeployError(str(path), [Problem("", what, fix)]) from None
    except (ValueError, RecursionError):
        what = "has a value that cannot be read: a number with too many digits, or too many levels"
        raise DeployError(str(path), [Problem("", what, fix)]) from None
    return content


def _is_of_floes_chart(values: Mapping[str, object]) -> bool:
    """Return whether the values of Dagster's chart are a part of floe's."""
    return isinstance(values.get(_SUBCHART), dict) and _DEPLOYMENTS not in values


def _of_dagster(values: Mapping[str, object]) -> Mapping[str, object]:
    """Return the values of Dagster's chart from those of floe's."""
    inner = values.get(_SUBCHART)
    return inner if isinstance(inner, dict) else {}


def _beside(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values of floe's chart besides those of Dagster's."""
    return {key: value for key, value in values.items() if key != _SUBCHART}


def _locations(values: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Return the code locations by name."""
    section = values.get(_DEPLOYMENTS)
    listed = section.get("deployments") if isinstance(section, dict) else None
    entries = listed if isinstance(listed, list) else []
    return {str(entry.get("name") or "without a name"): entry for entry in entries if isinstance(entry, dict)}


def _shared(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values without code locations."""
    section = values.get(_DEPLOYMENTS)
    rest = {key: value for key, value in section.items() if key != "deployments"} if isinstance(section, dict) else {}
    return {**values, _DEPLOYMENTS: rest}


def _with_image(location: Mapping[str, object]) -> str:
    """Return a code location's image with its digest or tag, as the end of a line."""
    image = location.get("image")
    if not isinstance(image, dict) or not image.get("repository"):
        return "without an image"
    mark = f"@{image['digest']}" if image.get("digest") else f":{image.get('tag')}"
    return redact(f"with the image {image['repository']}{mark}")


def _changes(before: Leaves, after: Leaves) -> Iterator[str]:
    for path in [*before, *(path for path in after if path not in before)]:
        old, new = before.get(path), after.get(path)
        if old != new:
            yield _change(path, old, new)


def _change(path: str, old: object, new: object) -> str:
    if path == f"annotations.{_HASH_ANNOTATION}":
        return f"changes its content ({_short(old)} to {_short(new)}), so that its pods are replaced"
    was, is_now = shown(path, old), shown(path, new)
    what = _described(path)
    if old is None:
        return f"adds {what}{_with(is_now)}"
    if new is None:
        return f"removes {what}{_with(was)}"
    return f"changes {what}" if was == is_now else f"changes {what} from {was} to {is_now}"


def _with(value: str) -> str:
    """Return a shown value as the end of a line; empty for a masked one, and for one that repeats its path."""
    return "" if value in {MASK, PRESENT} else f": {value}"


def _short(value: object) -> str:
    return str(value)[:_SHOWN_DIGITS] if value is not None else "none"


def _described(path: str) -> str:
    """Describe a path of the values in words; return the path itself if there are none for it."""
    variable = variable_at(path)
    if variable is not None:
        service = path.partition(".env[")[0]
        return f"the variable {variable}" if path.startswith("env[") else f"the variable {variable} of {service}"
    named = {"image.tag": "the tag of the image", "image.digest": "the digest of the image"}
    for start, noun in (("envSecrets[", "the Secret"), ("envConfigMaps[", "the ConfigMap"), ("volumes[", "the volume")):
        if path.startswith(start):
            return f"{noun} {path[len(start) :].replace(']', '', 1)}"
    if path.startswith("annotations."):
        return f"the annotation {path.partition('.')[2]}"
    for start, owner in (("resources.", ""), ("runs.resources.", " of runs")):
        kind, _, name = path.removeprefix(start).partition(".")
        if path.startswith(start) and name:
            return f"the {kind.removesuffix('s')} of {name}{owner}"
    return named.get(path, path)
