"""Values of Dagster's Helm chart for a set of products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from floe_orchestrator_dagster.config import config_path
from floe_orchestrator_dagster.deploy.chart import (
    Daemon,
    Global,
    K8sRunLauncher,
    PostgreSQL,
    RunK8sConfig,
    RunLauncher,
    RunLauncherConfig,
    RunPodSpec,
    ServiceAccount,
    UserDeployment,
    UserDeployments,
    Values,
    Webserver,
)
from floe_orchestrator_dagster.deploy.parts import EnvironmentVariable, Image, Named, Service
from floe_orchestrator_dagster.deploy.pods import (
    ARTIFACTS_FILE,
    CODE_SERVER_PORT,
    STATE_PATH,
    WEBSERVER_PORT,
    container_security,
    grpc_timeouts,
    liveness_probe,
    load_seconds,
    mounts,
    pod_security,
    readiness_probe,
    startup_probe,
    volumes,
    webserver_probe,
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
from floe_orchestrator_dagster.deploy.resources import service_resources
from floe_orchestrator_dagster.deploy.settings import check_settings
from floe_orchestrator_dagster.deploy.volumes import MOUNTED_ARTIFACTS, product_directories
from floe_orchestrator_dagster.errors import DeployError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.deploy.parts import Resources
    from floe_orchestrator_dagster.deploy.products import DeployedProduct
    from floe_orchestrator_dagster.deploy.settings import DeploySettings

_MODULE = "floe_orchestrator_dagster.definitions"
_ANNOTATION = "floe.dev"
_SMALLER = {"small": "small", "medium": "small", "large": "medium"}


def chart_values(settings: DeploySettings) -> Values:
    """Return the values of the whole chart.

    Raises:
        DeployError: The settings are not valid, or products configure shared services differently.
    """
    check_settings(settings)
    accounts = _service_accounts(settings)
    pull_secrets = [Named(name=name) for name in settings.pull_secrets] or None
    production = settings.is_production
    return Values(
        global_=_global(settings),
        image_pull_secrets=pull_secrets,
        dagster_webserver=_webserver(settings),
        dagster_daemon=_daemon(settings),
        user_deployments=UserDeployments(
            image_pull_secrets=pull_secrets,
            deployments=[_user_deployment(product, settings) for product in settings.products],
            service_account=accounts.get("dagster-user-code"),
        ),
        run_launcher=_run_launcher(settings),
        postgresql=_postgresql(settings),
        generate_postgresql_password_secret=False if settings.postgres else None,
        concurrency=concurrency(settings.products, _shared_size(settings)) if production else None,
        compute_log_manager=compute_logs(settings.log_store),
        service_account=accounts.get("dagster"),
    )


def _global(settings: DeploySettings) -> Global | None:
    secret = settings.postgres.secret if settings.postgres else None
    if secret is None and settings.service_account is None:
        return None
    return Global(postgresql_secret_name=secret, service_account_name=settings.service_account)


def _webserver(settings: DeploySettings) -> Webserver:
    resources = _shared_resources(settings, "webserver")
    if not settings.is_production:
        return Webserver(resources=resources, env=_variables(_service_environment(settings)))
    directories = writable_directories()
    return Webserver(
        replica_count=2,
        service=Service(port=WEBSERVER_PORT),
        env=_variables(_service_environment(settings)),
        pod_security_context=pod_security(),
        security_context=container_security(),
        resources=resources,
        volumes=volumes(directories),
        volume_mounts=mounts(directories),
        readiness_probe=webserver_probe(),
        startup_probe=webserver_probe(starting=True),
    )


def _daemon(settings: DeploySettings) -> Daemon:
    resources = _shared_resources(settings, "daemon")
    if not settings.is_production:
        return Daemon(resources=resources, env=_variables(_service_environment(settings)))
    directories = writable_directories()
    count = len(settings.products)
    return Daemon(
        env=_variables(_service_environment(settings)),
        pod_security_context=pod_security(),
        security_context=container_security(),
        resources=resources,
        volumes=volumes(directories),
        volume_mounts=mounts(directories),
        run_coordinator=run_coordinator(count),
        run_monitoring=run_monitoring(settings.products),
        run_retries=run_retries(),
        sensors=threads(count),
        schedules=threads(count),
    )


def _user_deployment(product: DeployedProduct, settings: DeploySettings) -> UserDeployment:
    directories = product_directories(product, settings)
    resources = _user_code_resources(product, settings)
    production = settings.is_production
    described = {"product": product.name, "content-hash": product.content_hash}
    image = product.image
    return UserDeployment(
        name=product.service,
        image=Image(
            repository=image.repository,
            tag=image.tag,
            digest=image.digest,
            pull_policy="IfNotPresent" if image.is_fixed else "Always",
        ),
        dagster_api_grpc_args=["-m", _MODULE, "--location-name", product.service],
        port=CODE_SERVER_PORT,
        env=_variables(_environment(settings)),
        env_secrets=[Named(name=name) for name in settings.secrets.get(product.name, ())] or None,
        annotations={f"{_ANNOTATION}/{key}": value for key, value in described.items() if value},
        labels={f"{_ANNOTATION}/product": product.service},
        pod_security_context=pod_security() if production else None,
        security_context=container_security() if production else None,
        resources=resources,
        volumes=volumes(directories),
        volume_mounts=mounts(directories),
        readiness_probe=readiness_probe(),
        liveness_probe=liveness_probe() if production else None,
        startup_probe=startup_probe(load_seconds(product.assets, resources)),
    )


def _run_launcher(settings: DeploySettings) -> RunLauncher:
    """Return the launcher of a pod per run. Volumes, variables and secrets come from the code location's settings."""
    production = settings.is_production
    launcher = K8sRunLauncher(
        image_pull_policy="IfNotPresent" if all(product.image.is_fixed for product in settings.products) else "Always",
        resources=service_resources(_shared_size(settings), None, "", ""),
        security_context=container_security() if production else None,
        run_k8s_config=RunK8sConfig(pod_spec_config=RunPodSpec(security_context=pod_security()))
        if production
        else None,
    )
    return RunLauncher(config=RunLauncherConfig(k8s_run_launcher=launcher))


def _environment(settings: DeploySettings) -> dict[str, str]:
    in_image = settings.artifacts_path
    mounted = f"{MOUNTED_ARTIFACTS}/{ARTIFACTS_FILE}"
    return {
        "FLOE_ARTIFACTS_PATH": mounted if settings.from_configmap else in_image,
        **({"FLOE_DBT_PROJECT_DIR": in_image.rpartition("/")[0]} if settings.from_configmap else {}),
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


def _variables(environment: Mapping[str, str]) -> list[EnvironmentVariable]:
    return [EnvironmentVariable(name=name, value=value) for name, value in environment.items()]


def _user_code_resources(product: DeployedProduct, settings: DeploySettings) -> Resources:
    size = settings.size or product.config.deploy.size
    where = config_path("deploy", "user_code")
    return service_resources(size, product.config.deploy.user_code, where, product.origin)


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


def _postgresql(settings: DeploySettings) -> PostgreSQL:
    postgres = settings.postgres
    if postgres is None:
        return PostgreSQL(enabled=True)
    return PostgreSQL(
        enabled=False,
        postgresql_host=postgres.host,
        postgresql_username=postgres.user,
        postgresql_database=postgres.database,
        service={"port": postgres.port},
    )


def _service_accounts(settings: DeploySettings) -> dict[str, ServiceAccount]:
    if settings.service_account or not settings.is_production:
        return {}
    names: Sequence[str] = ("dagster", "dagster-user-code")
    return {name: ServiceAccount(create=True, name=name) for name in names}
