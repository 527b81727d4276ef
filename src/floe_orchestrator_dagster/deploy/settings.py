"""Settings of a deployment, and their validation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from floe_orchestrator_dagster.deploy.names import check_object_name
from floe_orchestrator_dagster.deploy.pods import ARTIFACTS_FILE, PRODUCT_PATH
from floe_orchestrator_dagster.errors import DeployError, Problem
from floe_orchestrator_dagster.redaction import redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from floe_orchestrator_dagster.deploy.pod_options import PodOptions
    from floe_orchestrator_dagster.deploy.products import DeployedProduct

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|[0-9a-fA-F:]+")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.$-]*")
_LOG_STORES = {"s3": "dagster-aws", "gs": "dagster-gcp", "az": "dagster-azure"}


@dataclass(frozen=True)
class PostgresAddress:
    """A PostgreSQL server for Dagster's storage. The Secret has the password in the key ``postgresql-password``.

    Attributes:
        host: Host name or IP address.
        port: TCP port.
        user: The user.
        database: The database.
        secret: Name of the Secret.
    """

    host: str
    port: int = 5432
    user: str = "dagster"
    database: str = "dagster"
    secret: str = "dagster-postgresql-secret"  # noqa: S105  # a name: the chart's own default


@dataclass(frozen=True)
class LogStore:
    """Object storage for the output of steps.

    Attributes:
        scheme: ``s3``, ``gs`` or ``az``.
        bucket: The bucket; for Azure the storage account.
        path: The prefix in the bucket; for Azure the container and the prefix.
    """

    scheme: str
    bucket: str
    path: str

    @property
    def package(self) -> str:
        """The package with Dagster's access to the storage, which each image needs."""
        return _LOG_STORES[self.scheme]


@dataclass(frozen=True)
class DeploySettings:
    """Settings of a deployment.

    Attributes:
        products: The products.
        size: Size of all products; None for each product's own size.
        is_production: Whether to restrict pods, queue runs, and recover from crashes.
        postgres: External PostgreSQL; None for the chart's own.
        secrets: Names of the Secrets with a product's environment variables, by product.
        artifacts_path: Path of the artifacts in images.
        from_configmap: Whether to mount the artifacts from the ConfigMap of ``floe-dagster helm --configmap`` instead.
        environment: ``FLOE_ENV`` of code locations; None for the images' own value.
        otlp_endpoint: Endpoint for traces; None for the products' own.
        pull_secrets: Names of the Secrets for pulling images.
        service_account: Existing service account; None for the chart's own.
        state_claim: Volume claim for the state of runs; None for a directory that is deleted with the pod.
        lineage_claim: Volume claim for undelivered lineage; None to store it with the state.
        log_store: Storage for the output of steps; None for no storage.
        pods: Options for the pods of products, by product.
        start_timeout: Seconds after which a run that has not started fails in production; None to compute the time.
    """

    products: Sequence[DeployedProduct]
    size: str | None = None
    is_production: bool = False
    postgres: PostgresAddress | None = None
    secrets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    artifacts_path: str = f"{PRODUCT_PATH}/{ARTIFACTS_FILE}"
    from_configmap: bool = False
    environment: str | None = None
    otlp_endpoint: str | None = None
    pull_secrets: Sequence[str] = ()
    service_account: str | None = None
    state_claim: str | None = None
    lineage_claim: str | None = None
    log_store: LogStore | None = None
    pods: Mapping[str, PodOptions] = field(default_factory=dict)
    start_timeout: int | None = None


def check_settings(settings: DeploySettings) -> None:
    """Check the settings, and the additional requirements of production.

    Raises:
        DeployError: A setting is not valid. The message has the first problem and its command-line option.
    """
    for names in settings.secrets.values():
        _check_object_names(names, "--env-secret")
    _check_object_names(settings.pull_secrets, "--image-pull-secret")
    _check_object_names([settings.service_account], "--service-account")
    _check_object_names([settings.state_claim], "--state-claim")
    _check_object_names([settings.lineage_claim], "--lineage-claim")
    path = settings.artifacts_path
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        what = f"{redact_value(path)!r} is not the absolute path of a file"
        raise DeployError("--artifacts-path", [Problem("", what, "Use the absolute path in the image.")])
    environment = settings.environment
    if environment is not None and (environment != environment.strip() or not environment.isprintable()):
        what = f"{redact_value(environment)!r} has white space at an end, or a control character"
        raise DeployError("--environment", [Problem("", what, "Give the name of an output of the dbt profile.")])
    if settings.from_configmap and any(
        "FLOE_DBT_PROJECT_DIR" in options.variables for options in settings.pods.values()
    ):
        what = "'FLOE_DBT_PROJECT_DIR' is set by --from-configmap to the directory of --artifacts-path"
        raise DeployError("--env", [Problem("", what, "Remove it.")])
    if settings.otlp_endpoint is not None:
        _check_endpoint(settings.otlp_endpoint)
    if settings.postgres is not None:
        _check_postgres(settings.postgres)
    if settings.is_production:
        _check_production(settings)
    elif settings.start_timeout is not None:
        problem = Problem("", "only production has a limit for the start of runs", "Give --production, too.")
        raise DeployError("--start-timeout", [problem])


def parse_log_store(text: str) -> LogStore:
    """Parse ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://account/container/prefix``.

    Raises:
        DeployError: The URL does not have one of these forms.
    """
    parts = _split_url(text)
    path = parts.path.strip("/") if parts else ""
    if parts and parts.scheme in _LOG_STORES and _HOST.fullmatch(parts.netloc) and (path or parts.scheme != "az"):
        return LogStore(parts.scheme, parts.netloc, path)
    fix = "Write it as s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix, without credentials."
    raise DeployError("--compute-logs", [Problem("", "is not a supported location for logs", fix)])


def _check_object_names(names: Sequence[str | None], option: str) -> None:
    for name in names:
        if name is not None:
            check_object_name(name, option)


def _split_url(text: str) -> SplitResult | None:
    """Split a URL; None if it is not valid, or has a query or a fragment."""
    # `urlsplit` removes line breaks.
    if not text.isprintable() or {"?", "#"} & {*text}:
        return None
    try:
        parts = urlsplit(text)
        is_valid = parts.port != 0
    except ValueError:
        return None
    return parts if is_valid else None


def _check_endpoint(endpoint: str) -> None:
    parts = _split_url(endpoint)
    is_http = parts is not None and parts.scheme in {"http", "https"} and "@" not in parts.netloc
    # The message does not show the value, which may contain a token.
    if parts is None or not is_http or not _HOST.fullmatch(parts.hostname or ""):
        fix = "Write it as http://otel-collector:4317; headers with tokens belong in a Secret (--env-secret)."
        raise DeployError("--otlp-endpoint", [Problem("", "is not an http(s) URL without credentials", fix)])


def _check_postgres(postgres: PostgresAddress) -> None:
    check_object_name(postgres.secret, "--postgres-secret")
    if not _HOST.fullmatch(postgres.host):
        fix = "Use the host only; user, database and port have options, and the password is in the Secret."
        raise DeployError("--postgres-host", [Problem("", "is not the name or address of a host", fix)])
    for option, name in (("--postgres-user", postgres.user), ("--postgres-database", postgres.database)):
        if not _WORD.fullmatch(name):
            raise DeployError(
                option, [Problem("", f"{redact_value(name)!r} is not a name", "Write it without quotes and spaces.")]
            )


def _check_production(settings: DeploySettings) -> None:
    if settings.postgres is None:
        what = "production needs an external PostgreSQL: the chart's has a well-known password and no backup"
        raise DeployError("--production", [Problem("", what, "Give --postgres-host.")])
    moving = [product.name for product in settings.products if not product.image.is_fixed]
    if moving:
        what = f"the image of {', '.join(moving)} is `latest`, so pods of one release may run different code"
        raise DeployError("--image", [Problem("", what, "Give it a tag that is never moved, or a digest.")])
    for product in settings.products:
        if product.targets is not None and settings.environment not in product.targets:
            what = f"the dbt profile of {product.name} has no output for the environment {settings.environment!r}"
            outputs = ", ".join(product.targets) or "none"
            fix = f"Give one of its outputs, or add an output with this name. Outputs: {outputs}."
            raise DeployError("--environment", [Problem("", what, fix)])
