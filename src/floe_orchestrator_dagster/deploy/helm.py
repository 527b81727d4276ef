"""Helm values for each target: the floe contract, Dagster's chart, floe's own chart."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from floe_orchestrator_dagster.config import DagsterConfig
from floe_orchestrator_dagster.deploy.names import ImageReference, parse_image
from floe_orchestrator_dagster.deploy.products import DeployedProduct
from floe_orchestrator_dagster.deploy.resources import quantity
from floe_orchestrator_dagster.deploy.settings import DeploySettings
from floe_orchestrator_dagster.deploy.values import chart_values
from floe_orchestrator_dagster.errors import DeployError, Problem

if TYPE_CHECKING:
    from floe_orchestrator_dagster.deploy.pods import Resources, Values

Target = Literal["community", "floe-platform", "contract"]

_CODE_LOCATION = "floe-user-code"
_SUBCHART = "dagster"


def helm_values(config: DagsterConfig | None = None) -> dict[str, Any]:
    """Return new Helm values for one code location, with the keys of both floe and Dagster's chart.

    Args:
        config: Sizes, resources and image. The default image is the one that ``make image`` builds.

    Raises:
        DeployError: The configuration is not valid for a deployment.
    """
    config = config or DagsterConfig()
    image = config.deploy.image
    values = chart_values(
        DeploySettings(
            products=[
                DeployedProduct(
                    name=_CODE_LOCATION,
                    service=_CODE_LOCATION,
                    origin="manifest.yaml",
                    content=None,
                    config=config,
                    image=parse_image(image, "deploy.image") if image else default_image(),
                    assets=0,
                    on_duckdb=False,
                    targets=None,
                    variables=(),
                    may_send_lineage=True,
                )
            ]
        )
    )
    return {**_contract(values), **values}


def default_image() -> ImageReference:
    """Return the image that ``make image`` builds."""
    return ImageReference(_CODE_LOCATION, version("floe-orchestrator-dagster"), None)


def values_for(target: Target, settings: DeploySettings) -> dict[str, Any]:
    """Return the values for ``target``: Dagster's chart, floe's chart (which contains it), or floe's contract.

    Raises:
        DeployError: The settings are not valid.
    """
    if target == "floe-platform":
        _check_platform(settings)
    values = chart_values(settings)
    if target == "contract":
        return _contract(values)
    return {_SUBCHART: values} if target == "floe-platform" else values


def _check_platform(settings: DeploySettings) -> None:
    """Check settings that floe's chart requires, because it has its own PostgreSQL and OpenTelemetry collector."""
    if settings.postgres is None:
        what = "floe's chart has its own PostgreSQL, so the Dagster chart in it needs its address"
        raise DeployError("--target floe-platform", [Problem("", what, "Give --postgres-host.")])
    if settings.otlp_endpoint is None:
        what = "in floe's chart webserver and daemon send their traces to its collector"
        raise DeployError("--target floe-platform", [Problem("", what, "Give --otlp-endpoint.")])


def _contract(values: Values) -> dict[str, Any]:
    """Return the services with the floe contract's names and the same settings as in the chart's keys."""
    webserver, daemon = values["dagsterWebserver"], values["dagsterDaemon"]
    requested = [deployment["resources"] for deployment in values["dagster-user-deployments"]["deployments"]]
    largest = max(requested, key=lambda resources: quantity(resources["limits"]["memory"]))
    return {
        "dagster-webserver": _service(webserver["replicaCount"], webserver["resources"]),
        "dagster-daemon": _service(1, daemon["resources"]),
        "dagster-user-code": _service(1, largest),
        "postgresql": values["postgresql"],
    }


def _service(replicas: int, resources: Resources) -> dict[str, Any]:
    copied = {kind: dict(amounts) for kind, amounts in resources.items()}
    return {"enabled": True, "replicaCount": replicas, "resources": copied}
