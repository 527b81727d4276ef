"""Options for the pods of single products: variables, ConfigMaps, nodes, tolerations and annotations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from floe_orchestrator_dagster.deploy.names import check_object_name, is_subdomain
from floe_orchestrator_dagster.deploy.products import by_product
from floe_orchestrator_dagster.deploy.variables import refusal
from floe_orchestrator_dagster.errors import DeployError, Problem
from floe_orchestrator_dagster.redaction import redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.deploy.pods import Values

ByProduct: TypeAlias = "dict[str, dict[str, str]]"

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_KEY_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
# The prefix of the annotations that this package sets.
_OWN_PREFIX = "floe.dev/"


@dataclass(frozen=True)
class PodOptions:
    """Options for the code server and the run pods of one product.

    Attributes:
        variables: Environment variables.
        configmaps: Names of ConfigMaps whose keys become environment variables.
        node_selector: Labels that nodes must have.
        tolerations: Taints of nodes that are tolerated.
        annotations: Annotations of pods.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    configmaps: Sequence[str] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Values] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def run_config(self) -> Values:
        """Dagster's ``run_k8s_config`` of run pods, with the options that the chart does not pass to them."""
        nodes = {"node_selector": dict(self.node_selector), "tolerations": list(self.tolerations)}
        spec = {key: value for key, value in nodes.items() if value}
        metadata = {"pod_template_spec_metadata": {"annotations": dict(self.annotations)}} if self.annotations else {}
        return {**({"pod_spec_config": spec} if spec else {}), **metadata}

    @property
    def first_option(self) -> str:
        """The first option that is part of :attr:`run_config`, for error messages."""
        if self.node_selector:
            return "--node-selector"
        return "--toleration" if self.tolerations else "--annotation"


def pod_options(  # noqa: PLR0913  # an argument per option
    products: Sequence[str],
    *,
    variables: Sequence[str] = (),
    configmaps: Sequence[str] = (),
    node_selector: Sequence[str] = (),
    tolerations: Sequence[str] = (),
    annotations: Sequence[str] = (),
) -> dict[str, PodOptions]:
    """Parse the options of every product.

    Args:
        products: Names of the products.
        variables: ``[PRODUCT:]NAME=VALUE``. An option for one product takes precedence over one for all.
        configmaps: ``[PRODUCT=]CONFIGMAP``.
        node_selector: ``[PRODUCT:]LABEL=VALUE``.
        tolerations: ``[PRODUCT:]TAINT[=VALUE][:EFFECT]``.
        annotations: ``[PRODUCT:]NAME=VALUE``.

    Raises:
        DeployError: An option is not valid, or names a product that is not deployed.
    """
    named = by_product(configmaps, products, "--env-configmap")
    for names in named.values():
        for name in names:
            check_object_name(name, "--env-configmap")
    pairs_of = {
        option: _pairs(given, products, option)
        for option, given in (("--env", variables), ("--node-selector", node_selector), ("--annotation", annotations))
    }
    tolerated = _tolerations(tolerations, products)
    return {
        product: PodOptions(
            pairs_of["--env"][product],
            named[product],
            pairs_of["--node-selector"][product],
            tolerated[product],
            pairs_of["--annotation"][product],
        )
        for product in products
    }


def _pairs(given: Sequence[str], products: Sequence[str], option: str) -> ByProduct:
    """Return the values by product and key. An entry for one product takes precedence over one for all products."""
    of_all: dict[str, str] = {}
    own: ByProduct = {product: {} for product in products}
    for entry in given:
        named, separator, value = entry.partition("=")
        product, colon, key = named.rpartition(":")
        if not separator:
            _refuse(option, entry, "has no `=`", f"Write it as {option} [PRODUCT:]NAME=VALUE.")
        if colon and product not in own:
            _unknown_product(option, product, products)
        _check_pair(option, key, value)
        (own[product] if colon else of_all)[key] = value
    return {product: {**of_all, **values} for product, values in own.items()}


def _check_pair(option: str, key: str, value: str) -> None:
    if option == "--env":
        refused = refusal(key, value)
        if refused is not None:
            _refuse(option, key, refused.what, refused.fix)
        return
    if not _is_key(key):
        _refuse(option, key, "is not a valid key", "Write it like `example.com/pool` or `pool`.")
    if option == "--annotation" and key.startswith(_OWN_PREFIX):
        _refuse(option, key, "is an annotation of this package", f"Use another prefix than `{_OWN_PREFIX}`.")
    if option == "--node-selector" and not _LABEL_VALUE.fullmatch(value):
        _refuse(option, value, "is not a valid value of a label", "Write it like `batch`.")


def _is_key(key: str) -> bool:
    """Return whether Kubernetes accepts the key of a label, an annotation or a taint."""
    prefix, slash, name = key.rpartition("/")
    return _KEY_NAME.fullmatch(name) is not None and (not slash or is_subdomain(prefix))


def _tolerations(given: Sequence[str], products: Sequence[str]) -> dict[str, list[Values]]:
    found: dict[str, list[Values]] = {product: [] for product in products}
    for entry in given:
        *named, taint = _parts_of_taint(entry)
        if named and named[0] not in found:
            _unknown_product("--toleration", named[0], products)
        toleration = _toleration(taint)
        for product in named or products:
            if toleration not in found[product]:
                found[product].append(toleration)
    return found


def _parts_of_taint(entry: str) -> list[str]:
    """Split an option at its first colon into product and taint; not at all if an effect follows the colon."""
    first, colon, rest = entry.partition(":")
    return [first, rest] if colon and rest not in _EFFECTS else [entry]


def _toleration(taint: str) -> Values:
    key_and_value, colon, effect = taint.partition(":")
    key, equals, value = key_and_value.partition("=")
    if not _is_key(key) or not _LABEL_VALUE.fullmatch(value) or (colon and effect not in _EFFECTS):
        fix = f"Write it as [PRODUCT:]TAINT[=VALUE][:EFFECT]. Effects: {', '.join(_EFFECTS)}."
        _refuse("--toleration", taint, "is not a taint", fix)
    matched = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **matched, **({"effect": effect} if effect else {})}


def _unknown_product(option: str, product: str, products: Sequence[str]) -> NoReturn:
    known = ", ".join(products)
    _refuse(option, product, "is a product that is not among the artifacts", f"Products: {known}.")


def _refuse(option: str, value: str, what: str, fix: str) -> NoReturn:
    raise DeployError(option, [Problem("", f"{redact_value(value)!r} {what}", fix)])
