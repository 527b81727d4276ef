"""Names that Dagster accepts: conversion of dbt's names, and distinct names of a step's outputs and inputs.

The result depends only on the original: a new node does not rename others, and two originals never share a name.

Dagster derives the name of an output from the asset key, or from asset key and check. The derived names of `a-b` and
`a_b` are the same, and so are those of the check `summary` on `orders` and the model `orders_summary`. The name of a
key with an umlaut, or of the key `type`, is not valid. While a step is defined, such keys are replaced by placeholders.
The definition then gets its real keys back, and outputs and inputs keep the placeholders' names.
"""

from __future__ import annotations

import hashlib
import keyword
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from floe_orchestrator_dagster.upstream.dagster_dbt_names import DagsterDbtTranslator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dagster_dbt import DbtProject as DagsterDbtProject

    Definition = TypeVar("Definition", bound=dg.AssetsDefinition)


LONGEST_NAME = 1000
"""Maximum length of a name in characters. Databases index names of checks; PostgreSQL's limit is 2,700 bytes a row."""

_ACCEPTABLE = re.compile(r"[A-Za-z0-9_]+")
# Characters that Dagster's asset selections cannot contain; `/` separates the parts of a key.
_NOT_IN_KEYS = re.compile(r"[\"\\/\x00-\x1f\x7f]+")
_GROUP_PATH = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)+")
_DIGITS = 6
# Names that Dagster reserves, so that inputs and outputs of ops cannot have them.
_RESERVED = frozenset(
    [
        *keyword.kwlist,
        *("context", "conf", "config", "meta", "type", "input", "output", "arg_dict", "dict"),
        *("input_arg_dict", "output_arg_dict", "int", "str", "float", "bool"),
    ]
)
_KEY_DIGITS = 12


def acceptable_name(name: str) -> str:
    """Return a name of ASCII letters, digits and underscores, as Dagster requires.

    A valid name stays unchanged. Any other gets a digest of the original as a suffix, so that `a-b` differs from `a_b`.
    """
    if _ACCEPTABLE.fullmatch(name) and len(name) <= LONGEST_NAME:
        return name
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return _marked(re.sub(r"[^A-Za-z0-9_]+", "_", letters), name)


def acceptable_group(name: str) -> str:
    """Return the name of a group as Dagster requires; some versions accept paths such as `marketing/emea`."""
    return name if _GROUP_PATH.fullmatch(name) and _has_group_paths() else acceptable_name(name)


def acceptable_key_part(part: str) -> str:
    """Return a part of an asset key without the characters that asset selections cannot contain."""
    return part if not _NOT_IN_KEYS.search(part) else _marked(_NOT_IN_KEYS.sub("_", part), part)


def digest(text: str, digits: int = _DIGITS) -> str:
    """Return the first hexadecimal digits of a string's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


@cache
def _has_group_paths() -> bool:
    try:
        dg.AssetSpec("any", group_name="any/any")
    except dg.DagsterInvalidDefinitionError:
        return False
    return True


def _marked(plain: str, original: str) -> str:
    kept = plain.strip("_")[: LONGEST_NAME - _DIGITS - 1]
    return "_".join(part for part in (kept, digest(original)) if part)


@dataclass(frozen=True)
class PlaceholderKeys:
    """Temporary keys for the definition of a step.

    Attributes:
        by_key: The placeholder of each key that needs one; empty for almost every step.
    """

    by_key: Mapping[dg.AssetKey, dg.AssetKey]

    @classmethod
    def needed(
        cls, assets: Iterable[dg.AssetKey], checks: Iterable[dg.AssetCheckKey], inputs: Iterable[dg.AssetKey]
    ) -> PlaceholderKeys:
        """Create placeholders for the keys whose derived names are not valid or not distinct.

        Args:
            assets: Keys of the step's outputs.
            checks: Keys of its checks.
            inputs: Keys that it reads.
        """
        outputs = [(key.to_python_identifier(), key) for key in assets]
        outputs += [(_check_output(check), check.asset_key) for check in checks]
        keys = {*_without_name(outputs), *_without_name([(_input(key), key) for key in inputs])}
        return cls({key: dg.AssetKey(f"dbt_{digest(key.to_string(), _KEY_DIGITS)}") for key in keys})

    def spec(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Return the spec with placeholders."""
        return _with_keys(spec, self.by_key)

    def check_spec(self, spec: dg.AssetCheckSpec) -> dg.AssetCheckSpec:
        """Return the check's spec with placeholders."""
        return _check_with_keys(spec, self.by_key)

    def restore_keys(self, definition: Definition) -> Definition:
        """Return the definition with its real keys and unchanged names of outputs and inputs."""
        if not self.by_key:
            return definition
        own = {placeholder: key for key, placeholder in self.by_key.items()}
        return type(definition)(
            keys_by_input_name={name: own.get(key, key) for name, key in definition.node_keys_by_input_name.items()},
            keys_by_output_name={name: own.get(key, key) for name, key in definition.node_keys_by_output_name.items()},
            node_def=definition.node_def,
            can_subset=definition.can_subset,
            backfill_policy=definition.backfill_policy,
            check_specs_by_output_name={
                name: _check_with_keys(spec, own) for name, spec in definition.node_check_specs_by_output_name.items()
            },
            specs=[_with_keys(spec, own) for spec in definition.specs],
        )


class PlaceholderTranslator(DagsterDbtTranslator):
    """A translator that returns specs with placeholder keys."""

    def __init__(self, translator: DagsterDbtTranslator, keys: PlaceholderKeys) -> None:
        """Wrap ``translator`` and use the placeholders of ``keys``."""
        super().__init__(translator.settings)
        self._translator = translator
        self._keys = keys

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetSpec:
        """Return the node's spec with placeholders."""
        return self._keys.spec(self._translator.get_asset_spec(manifest, unique_id, project))

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: DagsterDbtProject | None
    ) -> dg.AssetCheckSpec | None:
        """Return the test's check spec with placeholders."""
        spec = self._translator.get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return self._keys.check_spec(spec) if spec else None


def checks_step(
    specs: Sequence[dg.AssetCheckSpec],
    **settings: Any,  # noqa: ANN401  # arguments of Dagster's decorator
) -> Callable[[Callable[..., Any]], dg.AssetChecksDefinition]:
    """Define a step of checks with :func:`dagster.multi_asset_check` and these ``settings``."""
    read = {spec.asset_key for spec in specs} | {dep.asset_key for spec in specs for dep in spec.additional_deps}
    keys = PlaceholderKeys.needed((), (spec.key for spec in specs), read)

    def decorate(function: Callable[..., Any]) -> dg.AssetChecksDefinition:
        define = dg.multi_asset_check(specs=[keys.check_spec(spec) for spec in specs], **settings)
        return keys.restore_keys(define(function))

    return decorate


def _check_output(check: dg.AssetCheckKey) -> str:
    return f"{check.asset_key.to_python_identifier()}_{check.name}"


def _input(key: dg.AssetKey) -> str:
    """Return the input name that Dagster derives from a key, which differs from the output name."""
    return "_".join(key.path).replace("-", "_").replace(".", "_")


def _without_name(named: Sequence[tuple[str, dg.AssetKey]]) -> set[dg.AssetKey]:
    taken = Counter(name for name, _ in named)
    return {key for name, key in named if taken[name] > 1 or name in _RESERVED or _ACCEPTABLE.fullmatch(name) is None}


def _with_keys(spec: dg.AssetSpec, keys: Mapping[dg.AssetKey, dg.AssetKey]) -> dg.AssetSpec:
    return spec.replace_attributes(key=keys.get(spec.key, spec.key), deps=_deps(spec.deps, keys))


def _check_with_keys(spec: dg.AssetCheckSpec, keys: Mapping[dg.AssetKey, dg.AssetKey]) -> dg.AssetCheckSpec:
    own = keys.get(spec.asset_key, spec.asset_key)
    return spec._replace(asset_key=own, additional_deps=_deps(spec.additional_deps, keys))


def _deps(deps: Iterable[dg.AssetDep], keys: Mapping[dg.AssetKey, dg.AssetKey]) -> list[dg.AssetDep]:
    return [
        dg.AssetDep(keys.get(dep.asset_key, dep.asset_key), partition_mapping=dep.partition_mapping) for dep in deps
    ]
