"""Values of Dagster's Helm chart for a set of products."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.deploy.pod_options import PodOptions
from floe_orchestrator_dagster.deploy.pods import (
    ARTIFACTS_FILE,
    CODE_SERVER_PORT,
    STATE_PATH,
    WEBSERVER_PORT,
    container_security,
    grpc_timeouts,
    liveness_probe,
    load_seconds,
    mounted,
    pod_security,
    readiness_probe,
    startup_probe,
    webserver_probes,
    with_run_pods,
    without_none,
    writable_directories,
)
from floe_orchestrator_dagster.deploy.production import (
    compute_logs,
    concurrency,
    run_coordinator,
    run_monitoring,
    run_retries,
    threads,
)
from floe_orchestrator_dagster.deploy.resources import requested_resources, service_resources
from floe_orchestrator_dagster.deploy.settings import check_settings
from floe_orchestrator_dagster.deploy.volumes import MOUNTED_ARTIFACTS, product_directories
from floe_orchestrator_dagster.errors import DeployError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.deploy.names import ImageReference
    from floe_orchestrator_dagster.deploy.pods import Resources, Values
    from floe_orchestrator_dagster.deploy.products import DeployedProduct
    from floe_orchestrator_dagster.deploy.settings import DeploySettings

_MODULE = "floe_orchestrator_dagster.definitions"
_ANNOTATION = "floe.dev"
_CODE_ACCOUNT = "dagster-user-code"
_ONE_CORE = "1"  # assumed for pods without a limit
_SMALLER = {"small": "small", "medium": "small", "large": "medium"}


def chart_values(settings: DeploySettings) -> Values:
    """Return the values of the whole chart.

    Raises:
        DeployError: The settings are not valid, or products configure shared services differently.
    """
    check_settings(settings)
    accounts = _service_accounts(settings)
    deployments = {
        "enabled": True,
        "enableSubchart": True,
        "imagePullSecrets": _named(settings.pull_secrets),
        "deployments": [_user_deployment(product, settings) for product in settings.products],
        "serviceAccount": accounts.get(_CODE_ACCOUNT),
    }
    production = settings.is_production
    return without_none(
        {
            "global": _global(settings),
            "imagePullSecrets": _named(settings.pull_secrets),
            "dagsterWebserver": _webserver(settings),
            "dagsterDaemon": _daemon(settings),
            "dagster-user-deployments": without_none(deployments),
            "runLauncher": _run_launcher(settings),
            "postgresql": _postgresql(settings),
            "generatePostgresqlPasswordSecret": False if settings.postgres else None,
            "concurrency": concurrency(settings.products, _shared_size(settings)) if production else None,
            "computeLogManager": compute_logs(settings.log_store),
            "serviceAccount": accounts.get("dagster"),
        }
    )


def _global(settings: DeploySettings) -> Values | None:
    secret = settings.postgres.secret if settings.postgres else None
    named = without_none({"postgresqlSecretName": secret, "serviceAccountName": settings.service_account})
    return named or None


def _webserver(settings: DeploySettings) -> Values:
    return {
        "replicaCount": 2 if settings.is_production else 1,
        **_shared_service(settings, "webserver"),
        **({"service": {"type": "ClusterIP", "port": WEBSERVER_PORT}} if settings.is_production else {}),
        **(webserver_probes() if settings.is_production else {}),
    }


def _daemon(settings: DeploySettings) -> Values:
    service = {"enabled": True, **_shared_service(settings, "daemon")}
    if not settings.is_production:
        return service
    count = len(settings.products)
    slowest_run = max(_run_load_seconds(product, settings) for product in settings.products)
    return {
        **service,
        "runCoordinator": run_coordinator(count),
        "runMonitoring": run_monitoring(settings.products, slowest_run, settings.start_timeout),
        "runRetries": run_retries(),
        "sensors": threads(count),
        "schedules": threads(count),
    }


def _shared_service(settings: DeploySettings, service: str) -> Values:
    """Return the settings that webserver and daemon have in common."""
    return {
        "env": _variables(_service_environment(settings)),
        "resources": _shared_resources(settings, service),
        **(_security() if settings.is_production else {}),
        **(mounted(writable_directories()) if settings.is_production else {}),
    }


def _security() -> Values:
    return {"podSecurityContext": pod_security(), "securityContext": container_security()}


def _user_deployment(product: DeployedProduct, settings: DeploySettings) -> Values:
    resources = _user_code_resources(product, settings)
    options = settings.pods.get(product.name, PodOptions())
    described = {"product": product.name, "content-hash": product.content_hash}
    annotations = {f"{_ANNOTATION}/{key}": value for key, value in described.items() if value}
    deployment: Values = {
        "name": product.service,
        "image": _image(product.image),
        "dagsterApiGrpcArgs": ["-m", _MODULE, "--location-name", product.service],
        "port": CODE_SERVER_PORT,
        "includeConfigInLaunchedRuns": {"enabled": True},
        "env": _variables({**_environment(settings), **options.variables}),
        "envSecrets": _named(settings.secrets.get(product.name, ())),
        "envConfigMaps": _named(options.configmaps),
        "annotations": {**options.annotations, **annotations},
        "labels": {f"{_ANNOTATION}/product": product.service},
        "resources": resources,
        "nodeSelector": dict(options.node_selector) or None,
        "tolerations": list(options.tolerations) or None,
        **(_security() if settings.is_production else {}),
        **mounted(product_directories(product, settings)),
        "readinessProbe": readiness_probe(),
        "livenessProbe": liveness_probe() if settings.is_production else None,
        "startupProbe": startup_probe(load_seconds(product.assets, resources)),
    }
    return without_none(_with_run_pods(deployment, product, options, settings))


def _with_run_pods(
    deployment: Values, product: DeployedProduct, options: PodOptions, settings: DeploySettings
) -> Values:
    """Add the settings of the pods of runs that the chart would not pass to them."""
    runs, account = product.config.run_resources, _code_service_account(settings)
    if runs is None and not options.run_config:
        return deployment
    if account is None:
        if options.run_config:
            what = "the pods of runs need the name of the service account, which the chart derives from the release"
            fix = "Give --service-account, or --production, which creates accounts with known names."
            raise DeployError(options.first_option, [Problem("", what, fix)])
        return deployment
    resources = requested_resources(runs) if runs is not None else None
    return with_run_pods(deployment, resources, account, _named(settings.pull_secrets), options.run_config)


def _image(image: ImageReference) -> Values:
    policy = "IfNotPresent" if image.is_fixed else "Always"
    named = {"repository": image.repository, "tag": image.tag, "digest": image.digest, "pullPolicy": policy}
    return without_none(named)


def _named(names: Sequence[str]) -> list[Values] | None:
    """Return references to Secrets; None without any."""
    return [{"name": name} for name in names] or None


def _run_launcher(settings: DeploySettings) -> Values:
    """Return the launcher of a pod per run. Volumes, variables and secrets come from the code location's settings."""
    launcher: Values = {
        "imagePullPolicy": "IfNotPresent" if all(product.image.is_fixed for product in settings.products) else "Always",
        "resources": service_resources(_shared_size(settings), None, "", ""),
    }
    if settings.is_production:
        launcher["securityContext"] = container_security()
        launcher["runK8sConfig"] = {"podSpecConfig": {"securityContext": pod_security()}}
    return {"type": "K8sRunLauncher", "config": {"k8sRunLauncher": launcher}}


def _environment(settings: DeploySettings) -> dict[str, str]:
    in_image = settings.artifacts_path
    mounted = f"{MOUNTED_ARTIFACTS}/{ARTIFACTS_FILE}"
    return {
        "FLOE_ARTIFACTS_PATH": mounted if settings.from_configmap else in_image,
        **({"FLOE_DBT_PROJECT_DIR": str(PurePosixPath(in_image).parent)} if settings.from_configmap else {}),
        "FLOE_STATE_DIR": STATE_PATH,
        **({"FLOE_ENV": settings.environment} if settings.environment else {}),
        **_telemetry(settings),
    }


def _service_environment(settings: DeploySettings) -> dict[str, str]:
    slowest = max(
        load_seconds(product.assets, _user_code_resources(product, settings)) for product in settings.products
    )
    return {**grpc_timeouts(slowest), **_telemetry(settings)}


def _telemetry(settings: DeploySettings) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": settings.otlp_endpoint} if settings.otlp_endpoint else {}


def _variables(environment: Mapping[str, str]) -> list[Values]:
    return [{"name": name, "value": value} for name, value in environment.items()]


def _user_code_resources(product: DeployedProduct, settings: DeploySettings) -> Resources:
    size = settings.size or product.config.deploy.size
    where = config_path("deploy", "user_code")
    return service_resources(size, product.config.deploy.user_code, where, product.origin)


def _run_load_seconds(product: DeployedProduct, settings: DeploySettings) -> float:
    """Return an upper estimate of the seconds that a run's process takes to load the product."""
    requested = product.config.run_resources
    if requested is None:
        return load_seconds(product.assets, _user_code_resources(product, settings))
    limits = requested_resources(requested).get("limits", {})
    return load_seconds(product.assets, {"limits": {"cpu": _ONE_CORE, **limits}})


def _shared_size(settings: DeploySettings) -> str:
    """Return the size of services that all products share."""
    if settings.size:
        return settings.size
    sizes = {product.name: product.config.deploy.size for product in settings.products}
    _check_agree(sizes, config_path("deploy", "size"), "Give --size, or set the same everywhere.")
    return next(iter(sizes.values()))


def _shared_resources(settings: DeploySettings, service: str) -> Resources:
    """Return the resources of a service that all products share."""
    size = _shared_size(settings)
    where = config_path("deploy", service)
    requested = {
        product.name: service_resources(
            _SMALLER[size] if service == "daemon" else size,
            getattr(product.config.deploy, service),
            where,
            product.origin,
        )
        for product in settings.products
    }
    _check_agree(requested, where, "Set the same in every product's manifest.yaml: they share this service.")
    return next(iter(requested.values()))


def _check_agree(values: Mapping[str, object], where: str, fix: str) -> None:
    first = next(iter(values.values()))
    if any(value != first for value in values.values()):
        what = (
            f"the products have different values: {'; '.join(f'{name} has {value}' for name, value in values.items())}"
        )
        raise DeployError("--artifacts", [Problem(where, what, fix)])


def _postgresql(settings: DeploySettings) -> Values:
    postgres = settings.postgres
    if postgres is None:
        return {"enabled": True}
    return {
        "enabled": False,
        "postgresqlHost": postgres.host,
        "postgresqlUsername": postgres.user,
        "postgresqlDatabase": postgres.database,
        "service": {"port": postgres.port},
    }


def _service_accounts(settings: DeploySettings) -> dict[str, Values]:
    if settings.service_account or not settings.is_production:
        return {}
    return {name: {"create": True, "name": name} for name in ("dagster", _CODE_ACCOUNT)}


def _code_service_account(settings: DeploySettings) -> str | None:
    """Return the service account of code servers; None when the chart names it after the release."""
    return settings.service_account or (_CODE_ACCOUNT if settings.is_production else None)
