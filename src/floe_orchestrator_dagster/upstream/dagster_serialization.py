"""Faster serialization of Dagster's objects to JSON, with the same result.

Dagster serializes an object with two nested generators, which look up how each field is stored. For a product of 500
models, these are 20,000 objects, and the snapshot of the repository and the identifiers of its jobs take a fifth of a
load. How the fields of a class are stored does not change. Therefore it is looked up once here, and an object becomes a
dictionary in one step. Classes with a special serializer are left to Dagster. This applies to all objects that the
process serializes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dagster as dg

from floe_orchestrator_dagster.upstream import patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Pack = Callable[[Any, Any, str], Any]

_SERDES, _RECORD = "dagster_shared.serdes.serdes", "dagster_shared.record"
# Functions of the module, with the names of their parameters.
_FUNCTIONS = {
    "_transform_for_serialization": ["val", "whitelist_map", "object_handler", "descent_path"],
    "_pack_object": ["obj", "whitelist_map", "descent_path"],
    "_wrap_object": ["obj", "whitelist_map", "descent_path"],
}
_LAZY = "_LazySerializationWrapper"
_LAZY_FIELDS = {"_obj", "_whitelist_map", "_descent_path"}
# Attributes of a serializer, and methods that it can override: they decide how an object is stored.
_OPTIONS = {
    *("klass", "storage_name", "storage_field_names", "loaded_field_names", "old_fields"),
    *("skip_when_empty_fields", "skip_when_none_fields", "field_serializers", "kwargs_fields"),
}
_METHODS = ("pack_items", "before_pack", "object_as_mapping", "get_storage_name")
_REMAPPED, _VALUES = "__field_remap__", "__hidden_iter__"

_PLAIN = frozenset((str, int, float, bool, type(None)))

_replacements: list[object] = []
_shortening: dict[type, Callable[[dict[str, Any]], None]] = {}


@dataclass(frozen=True)
class _Field:
    """A field that is omitted for some values, or that a separate serializer packs."""

    name: str
    key: str
    serializer: Any
    omits_empty: bool
    omits_none: bool


@dataclass(frozen=True)
class _Layout:
    """How the objects of a class are stored: ``keys`` of all fields, in their order, with the class's name first."""

    name: str
    keys: tuple[str, ...]
    special: tuple[_Field, ...]
    old: tuple[tuple[str, Any], ...]
    shorten: Callable[[dict[str, Any]], None]


def _keep_all(_fields: dict[str, Any]) -> None:
    """Remove no field."""


class _Unknown(Exception):  # noqa: N818  # not an error
    """An object must be left to Dagster."""


def find_problem() -> str | None:
    """Return the reason why Dagster's functions cannot be replaced; None when they can."""
    serdes, record = import_module(_SERDES), import_module(_RECORD)
    for name, expected in _FUNCTIONS.items():
        found = getattr(serdes, name, None)
        code = getattr(getattr(found, "__wrapped__", found), "__code__", None)
        if code is None or [*code.co_varnames[: code.co_argcount]] != expected:
            return f"{_SERDES} has no {name}({', '.join(expected)})"
    lazy, generic = getattr(serdes, _LAZY, None), getattr(serdes, "NamedTupleSerializer", None)
    if lazy is None or not hasattr(lazy, "items") or set(lazy.__slots__) != _LAZY_FIELDS:
        return f"{_SERDES} has no {_LAZY} of an object"
    if generic is None or not all(hasattr(generic, method) for method in _METHODS):
        return f"{_SERDES} has no NamedTupleSerializer with {', '.join(_METHODS)}"
    if not hasattr(record, "is_record") or not hasattr(serdes, "EMPTY_VALUES_TO_SKIP"):
        return f"{_RECORD} has no is_record, or {_SERDES} has no EMPTY_VALUES_TO_SKIP"
    layout = _layout(dg.AssetKey, serdes._WHITELIST_MAP)  # noqa: SLF001  # its attributes are compared there
    return None if layout is not None and layout.keys == ("__class__", "path") else "records have changed"


def replace_serialization() -> None:
    """Replace Dagster's functions in this process. Without effect when the patch is not active."""
    if not patches.is_active(patches.SERIALIZATION):
        return
    serdes: Any = import_module(_SERDES)
    lazy: Any = getattr(serdes, _LAZY)
    if lazy.items not in _replacements:
        packing = _Packing(serdes)
        lazy.items = packing.items_of(lazy.items)
        serdes._pack_object = packing.packed_object()  # noqa: SLF001  # found above
        _replacements.append(lazy.items)


def shorten(kind: type, remove: Callable[[dict[str, Any]], None]) -> None:
    """Let a function remove fields from a class's objects, which the reader's constructor then sets.

    It must be called before an object of the class is serialized. Without effect when the patch is not active.
    """
    _shortening[kind] = remove


class _Packing:
    """Replacements of Dagster's functions, with what they know about classes."""

    def __init__(self, serdes: Any) -> None:  # noqa: ANN401  # a module
        self._transform: Any = serdes._transform_for_serialization  # noqa: SLF001  # found by find_problem()
        self._empty: tuple[object, ...] = serdes.EMPTY_VALUES_TO_SKIP
        self._error: type[Exception] = serdes.SerializationError
        self._pack: Pack = serdes._pack_object  # noqa: SLF001  # found by find_problem()
        self._layouts: dict[type, _Layout | None] = {}
        self._whitelist = serdes._WHITELIST_MAP  # noqa: SLF001  # found by find_problem()

    def items_of(self, items: Callable[[Any], Iterable[tuple[str, Any]]]) -> Callable[[Any], Any]:
        """Return a replacement of the method by which the JSON encoder reads an object."""

        @wraps(items)
        def items_of_object(wrapper: Any) -> Iterable[tuple[str, Any]]:  # noqa: ANN401  # Dagster's class
            path = wrapper._descent_path  # noqa: SLF001  # found by find_problem()
            if "." not in path or wrapper._whitelist_map is not self._whitelist:  # noqa: SLF001
                # The outermost object, which can be large: Dagster reads its parts one by one.
                return items(wrapper)
            try:
                packed: dict[str, Any] = self._packed(wrapper._obj, path)  # noqa: SLF001
                return packed.items()
            except (self._error, _Unknown):
                return items(wrapper)  # Dagster's messages name the field

        return items_of_object

    def packed_object(self) -> Pack:
        """Return a replacement of the function that converts an object to a dictionary."""

        @wraps(self._pack)
        def _pack_object(obj: Any, whitelist_map: Any, descent_path: str) -> Mapping[str, Any]:  # noqa: ANN401  # Dagster's types
            layout = self._layout_of(type(obj)) if whitelist_map is self._whitelist else None
            if layout is not None:
                try:
                    return self._record(obj, layout, descent_path)
                except (self._error, _Unknown):
                    pass
            packed: Mapping[str, Any] = self._pack(obj, whitelist_map, descent_path)
            return packed

        return _pack_object

    def _layout_of(self, kind: type) -> _Layout | None:
        try:
            return self._layouts[kind]
        except KeyError:
            return self._layouts.setdefault(kind, _layout(kind, self._whitelist))

    def _packed(self, value: Any, path: str) -> Any:  # noqa: ANN401  # any value of a field
        kind = type(value)
        if kind is list or kind is tuple:
            return [each if type(each) in _PLAIN else self._packed(each, path) for each in value]
        layout = self._layout_of(kind)
        if layout is not None:
            return self._record(value, layout, path)
        if kind is dict:
            return {key: each if type(each) in _PLAIN else self._packed(each, path) for key, each in value.items()}
        return self._transform(value, self._whitelist, self._pack, path)

    def _record(self, value: Any, layout: _Layout, path: str) -> dict[str, Any]:  # noqa: ANN401  # any record
        found = dict(zip(layout.keys, (layout.name, *value.__hidden_iter__()), strict=True))
        for field in layout.special:
            self._set_special(found, field, path)
        layout.shorten(found)
        for key, inner in found.items():
            if type(inner) not in _PLAIN:
                found[key] = self._packed(inner, path)
        if layout.old:
            found.update(layout.old)
        return found

    def _set_special(self, found: dict[str, Any], field: _Field, path: str) -> None:
        value = found[field.key]
        is_omitted = (field.omits_empty and value in self._empty) or (field.omits_none and value is None)
        if field.serializer is not None:
            try:
                packed = field.serializer.pack(value, whitelist_map=self._whitelist, descent_path=path)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise _Unknown from error
            # Before 1.13, Dagster omits what is empty before the serializer packs it; since then, afterwards.
            omits = (field.omits_empty and packed in self._empty) or (field.omits_none and packed is None)
            if omits != is_omitted:
                raise _Unknown
            found[field.key] = packed
        if is_omitted:
            del found[field.key]


def _layout(kind: type, whitelist: Any) -> _Layout | None:  # noqa: ANN401  # Dagster's type
    """Return how a class is stored; None for a class that is not a record or has a special serializer."""
    serdes, record = import_module(_SERDES), import_module(_RECORD)
    serializer = whitelist.object_serializers.get(kind.__name__)
    if (
        serializer is None
        or not record.is_record(kind)
        or vars(serializer).keys() - {"constructor_param_names"} != _OPTIONS
    ):
        return None
    own: Any = serdes.NamedTupleSerializer
    if serializer.klass is not kind or any(
        getattr(type(serializer), name) is not getattr(own, name) for name in _METHODS
    ):
        return None
    remapped = getattr(kind, _REMAPPED, None)
    if remapped is None or not hasattr(kind, _VALUES):
        return None
    names = [remapped.get(name, name) for name in kind._fields]  # type: ignore[attr-defined]  # a record is a named tuple
    keys = [serializer.storage_field_names.get(name, name) for name in names]
    fields = [
        _Field(
            name=name,
            key=key,
            serializer=serializer.field_serializers.get(name),
            omits_empty=name in serializer.skip_when_empty_fields,
            omits_none=name in serializer.skip_when_none_fields,
        )
        for name, key in zip(names, keys, strict=True)
    ]
    return _Layout(
        name=serializer.get_storage_name(),
        keys=("__class__", *keys),
        special=tuple(field for field in fields if field.serializer or field.omits_empty or field.omits_none),
        old=tuple(serializer.old_fields.items()),
        shorten=_shortening.get(kind, _keep_all),
    )
