"""Typed models of the values of Dagster's Helm chart that this package sets.

Chart: https://github.com/dagster-io/dagster/tree/master/helm/dagster. Helm silently ignores keys that the chart does
not read. Therefore these models, which follow the chart's schema, reject unknown keys.
"""

from __future__ import annotations

from typing import Any, Literal

from floe_orchestrator_dagster.deploy.parts import (
    ChartPart,
    ContainerSecurity,
    Image,
    Named,
    Pod,
    PodSecurity,
    Probe,
    PullPolicy,
    Resources,
    Service,
)


class Webserver(Pod):
    """``dagsterWebserver``."""

    replica_count: int = 1
    service: Service | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None


class QueuedRuns(ChartPart):
    """Settings of the daemon's run queue."""

    dequeue_use_threads: bool = True
    dequeue_num_workers: int


class RunCoordinatorConfig(ChartPart):
    """Configuration of the run coordinator, by type."""

    queued_run_coordinator: QueuedRuns


class RunCoordinator(ChartPart):
    """``dagsterDaemon.runCoordinator``: a queue of runs."""

    enabled: bool = True
    type: Literal["QueuedRunCoordinator"] = "QueuedRunCoordinator"
    config: RunCoordinatorConfig


class RunMonitoring(ChartPart):
    """``dagsterDaemon.runMonitoring``: detection of runs whose pod hangs or is gone."""

    enabled: bool = True
    start_timeout_seconds: int
    cancel_timeout_seconds: int
    poll_interval_seconds: int
    max_resume_run_attempts: int
    free_slots_after_run_end_seconds: int


class RunRetries(ChartPart):
    """``dagsterDaemon.runRetries``."""

    enabled: bool = True
    max_retries: int
    retry_on_asset_or_op_failure: bool


class Threads(ChartPart):
    """Number of sensors or schedules that are evaluated concurrently."""

    use_threads: bool = True
    num_workers: int


class Daemon(Pod):
    """``dagsterDaemon``."""

    enabled: bool = True
    run_coordinator: RunCoordinator | None = None
    run_monitoring: RunMonitoring | None = None
    run_retries: RunRetries | None = None
    sensors: Threads | None = None
    schedules: Threads | None = None


class Enabled(ChartPart):
    """A feature that is enabled."""

    enabled: bool = True


class CodeServer(ChartPart):
    """Image, arguments and port of a code server."""

    name: str
    image: Image
    dagster_api_grpc_args: list[str]
    port: int
    include_config_in_launched_runs: Enabled = Enabled()


class UserDeployment(Pod, CodeServer):
    """One code location: a Kubernetes deployment and its service."""

    env_secrets: list[Named] | None = None
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None


class ServiceAccount(ChartPart):
    """The service account of pods."""

    create: bool
    name: str


class UserDeployments(ChartPart):
    """``dagster-user-deployments``."""

    enabled: bool = True
    enable_subchart: bool = True
    image_pull_secrets: list[Named] | None = None
    deployments: list[UserDeployment]
    service_account: ServiceAccount | None = None


class RunPodSpec(ChartPart):
    """The spec of a run's pod."""

    security_context: PodSecurity


class RunK8sConfig(ChartPart):
    """Additional configuration of runs' pods."""

    pod_spec_config: RunPodSpec


class K8sRunLauncher(ChartPart):
    """Run launcher with one pod per run."""

    image_pull_policy: PullPolicy
    resources: Resources
    security_context: ContainerSecurity | None = None
    run_k8s_config: RunK8sConfig | None = None


class RunLauncherConfig(ChartPart):
    """Configuration of the run launcher, by type."""

    k8s_run_launcher: K8sRunLauncher


class RunLauncher(ChartPart):
    """``runLauncher``."""

    type: Literal["K8sRunLauncher"] = "K8sRunLauncher"
    config: RunLauncherConfig


class PostgreSQL(ChartPart):
    """``postgresql``: the chart's own server, or the address of an external one."""

    enabled: bool
    postgresql_host: str | None = None
    postgresql_username: str | None = None
    postgresql_database: str | None = None
    service: dict[Literal["port"], int] | None = None


class TagConcurrencyLimit(ChartPart):
    """Maximum number of concurrent runs with a tag."""

    key: str
    value: str
    limit: int


class ConcurrentRuns(ChartPart):
    """Maximum numbers of concurrent runs."""

    max_concurrent_runs: int
    tag_concurrency_limits: list[TagConcurrencyLimit]


class Pools(ChartPart):
    """Default concurrency limit of pools."""

    granularity: Literal["op"] = "op"
    default_limit: int | None = None


class Concurrency(ChartPart):
    """``concurrency``."""

    enabled: bool = True
    pools: Pools
    runs: ConcurrentRuns


class ComputeLogManager(ChartPart):
    """``computeLogManager``: storage of the steps' standard output and error."""

    type: str
    config: dict[str, dict[str, Any]]


class Global(ChartPart):
    """``global``."""

    postgresql_secret_name: str | None = None
    service_account_name: str | None = None


class Values(ChartPart):
    """The values of the whole chart."""

    global_: Global | None = None
    image_pull_secrets: list[Named] | None = None
    dagster_webserver: Webserver
    dagster_daemon: Daemon
    user_deployments: UserDeployments
    run_launcher: RunLauncher
    postgresql: PostgreSQL
    generate_postgresql_password_secret: bool | None = None
    concurrency: Concurrency | None = None
    compute_log_manager: ComputeLogManager | None = None
    service_account: ServiceAccount | None = None
