"""``floe-dagster helm``: print values for Dagster's Helm chart."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from floe_orchestrator_dagster.commands.answers import artifacts_path, echo_message, errors_reported, progress
from floe_orchestrator_dagster.errors import DeployError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from floe_orchestrator_dagster.deploy.helm import Target
    from floe_orchestrator_dagster.deploy.products import DeployedProduct
    from floe_orchestrator_dagster.deploy.settings import DeploySettings

_CHART = "dagster/dagster"
_INSTALLS = {
    "community": f"helm upgrade --install dagster {_CHART} --version {{version}} --values {{file}}",
    "floe-platform": "helm upgrade --install floe-platform floe/floe-platform --values {file}",
}


@click.command()
@click.option(
    "--artifacts",
    "artifacts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A product's compiled_artifacts.json; repeat it for several products. Default: FLOE_ARTIFACTS_PATH.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="[PRODUCT=]IMAGE",
    help="Image with a tag or digest, for all products or for one. Default: deploy.image of the product.",
)
@click.option(
    "--size",
    type=click.Choice(["small", "medium", "large"]),
    help="Size of all services. Default: deploy.size of the products.",
)
@click.option(
    "--production",
    is_flag=True,
    help="Settings for production: restricted pods, queued runs, recovery from crashes. Needs --postgres-host.",
)
@click.option(
    "--target",
    type=click.Choice(["community", "floe-platform", "contract"]),
    default="community",
    show_default=True,
    help="Values for Dagster's chart, for floe's chart (which contains it), or with the floe contract's names.",
)
@click.option("--postgres-host", metavar="HOST", help="PostgreSQL outside the chart.")
@click.option("--postgres-port", type=click.IntRange(1, 65535), default=5432, show_default=True)
@click.option("--postgres-user", metavar="NAME", default="dagster", show_default=True)
@click.option("--postgres-database", metavar="NAME", default="dagster", show_default=True)
@click.option(
    "--postgres-secret",
    metavar="SECRET",
    default="dagster-postgresql-secret",
    show_default=True,
    help="Secret with the password in its key postgresql-password.",
)
@click.option(
    "--env-secret",
    "env_secrets",
    multiple=True,
    metavar="[PRODUCT=]SECRET",
    help="Secret whose keys become environment variables of code server and runs.",
)
@click.option(
    "--env-configmap",
    "configmaps",
    multiple=True,
    metavar="[PRODUCT=]CONFIGMAP",
    help="ConfigMap whose keys become environment variables of code server and runs.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="[PRODUCT:]NAME=VALUE",
    help="Environment variable of code server and runs. Secrets belong in --env-secret.",
)
@click.option(
    "--node-selector",
    multiple=True,
    metavar="[PRODUCT:]LABEL=VALUE",
    help="Label of the nodes for code server and runs.",
)
@click.option(
    "--toleration",
    "tolerations",
    multiple=True,
    metavar="[PRODUCT:]TAINT[=VALUE][:EFFECT]",
    help="Taint of nodes that code server and runs tolerate.",
)
@click.option(
    "--annotation",
    "annotations",
    multiple=True,
    metavar="[PRODUCT:]NAME=VALUE",
    help="Annotation of the pods of code server and runs.",
)
@click.option("--image-pull-secret", "pull_secrets", multiple=True, metavar="SECRET", help="Secret for pulling images.")
@click.option("--service-account", metavar="NAME", help="Existing service account. Default: one of the chart.")
@click.option(
    "--environment",
    metavar="NAME",
    help="FLOE_ENV, which selects the dbt profile's output. Default: production with --production.",
)
@click.option(
    "--start-timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help="With --production: time until a run fails if its pod has not started. Default: 90, more for large products.",
)
@click.option("--otlp-endpoint", metavar="URL", help="OTLP endpoint for traces and metrics.")
@click.option("--compute-logs", metavar="URL", help="s3://, gs:// or az:// location for the output of steps.")
@click.option(
    "--state-claim",
    metavar="CLAIM",
    help="Volume claim for state such as DuckDB files. Without it, a pod's state is deleted with the pod.",
)
@click.option("--lineage-claim", metavar="CLAIM", help="Volume claim for undelivered lineage. Default: --state-claim.")
@click.option("--artifacts-path", metavar="PATH", help="Path of the artifacts in the images.")
@click.option("--from-configmap", is_flag=True, help="Mount the artifacts from the ConfigMap of --configmap.")
@click.option("--configmap", is_flag=True, help="Print the ConfigMaps of the artifacts instead of values.")
@click.option(
    "--diff",
    "deployed",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="DEPLOYED.yaml",
    help="Print what an upgrade of these deployed values changes, instead of values.",
)
@click.option(
    "--overlay",
    "overlays",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="MINE.yaml",
    help="With --diff: a file that the upgrade gets after the generated one (helm --values); repeat it in their order.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write. Default: standard output."
)
def helm(
    artifacts: tuple[Path, ...],
    images: tuple[str, ...],
    target: Target,
    output: Path | None,
    **options: Any,  # noqa: ANN401  # the types differ; `_settings` reads these options
) -> None:
    """Print values that deploy products with Dagster's Helm chart.

    Each product becomes a code location with its own code server and run pods. The values name Secrets and do not
    contain them.

    \b
    Examples:
      floe-dagster helm --artifacts compiled_artifacts.json --image registry.example.com/retail:1.4.0 > values.yaml
      helm upgrade --install dagster dagster/dagster --version 1.13.27 --values values.yaml
      floe-dagster helm --artifacts a.json --artifacts b.json --image orders=r/orders:7 --image returns=r/returns:3 \\
        --production --postgres-host pg.internal --env-secret warehouse --output values.yaml
      floe-dagster helm --artifacts compiled_artifacts.json --configmap | kubectl apply -f -
      floe-dagster helm --artifacts compiled_artifacts.json --image r/retail:2 --env DBT_THREADS=8 \\
        --node-selector pool=batch --service-account data --diff deployed.yaml --overlay mine.yaml

    Exits with 0 on success, 1 when a product or setting cannot be deployed, 2 on wrong usage.
    """  # noqa: D301  # click reads the \b
    _check_usage(options, output)
    with errors_reported():
        with progress("Reading the products"):
            from floe_orchestrator_dagster.deploy.helm import default_image, values_for
            from floe_orchestrator_dagster.deploy.products import read_products
            from floe_orchestrator_dagster.deploy.volumes import artifacts_configmap

            paths = [path.absolute() for path in artifacts] or [artifacts_path(None)]
            fallback = default_image() if options["configmap"] else None
            products = read_products(paths, images, fallback)
        if options["configmap"]:
            documents = [artifacts_configmap(product) for product in products]
            _write(documents, output, "")
            return
        settings = _settings(products, options)
        values = values_for(target, settings)
        if options["deployed"] is not None:
            _print_differences(options["deployed"], values, options["overlays"])
        else:
            _write([values], output, _header(products, target, output))
    for warning in _warnings(settings):
        echo_message("warning", warning)


def _check_usage(options: Mapping[str, Any], output: Path | None) -> None:
    """Check that no option is empty, and that no option is given that another one would leave without effect."""
    for name, value in options.items():
        if value == "":
            raise click.UsageError(f"{_option(name)} is empty. Give a value, or leave the option out.")
    source = click.get_current_context().get_parameter_source
    for name in ("postgres_port", "postgres_user", "postgres_database", "postgres_secret"):
        if options["postgres_host"] is None and source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{_option(name)} needs --postgres-host. Without it, the chart runs a PostgreSQL.")
    deployed = options["deployed"] is not None
    if deployed and options["configmap"]:
        raise click.UsageError("--diff compares values, and --configmap prints none. Give one of them.")
    if deployed and output is not None:
        raise click.UsageError("--diff writes no values to --output. Run the command once with each of them.")
    if options["overlays"] and not deployed:
        raise click.UsageError("--overlay needs --diff. Give the file to `helm upgrade --values`, too.")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _settings(products: Sequence[DeployedProduct], options: Mapping[str, Any]) -> DeploySettings:
    from floe_orchestrator_dagster.deploy.pod_options import pod_options
    from floe_orchestrator_dagster.deploy.products import by_product
    from floe_orchestrator_dagster.deploy.settings import DeploySettings, PostgresAddress, parse_log_store

    postgres = PostgresAddress(
        host=options["postgres_host"] or "",
        port=options["postgres_port"],
        user=options["postgres_user"],
        database=options["postgres_database"],
        secret=options["postgres_secret"],
    )
    production = options["production"]
    names = [product.name for product in products]
    in_image = {"artifacts_path": options["artifacts_path"]} if options["artifacts_path"] else {}
    return DeploySettings(
        products=products,
        size=options["size"],
        is_production=production,
        postgres=postgres if postgres.host else None,
        secrets=by_product(options["env_secrets"], names, "--env-secret"),
        from_configmap=options["from_configmap"],
        environment=options["environment"] or ("production" if production else None),
        otlp_endpoint=options["otlp_endpoint"],
        pull_secrets=options["pull_secrets"],
        service_account=options["service_account"],
        state_claim=options["state_claim"],
        lineage_claim=options["lineage_claim"],
        log_store=parse_log_store(options["compute_logs"]) if options["compute_logs"] else None,
        pods=pod_options(
            names,
            variables=options["variables"],
            configmaps=options["configmaps"],
            node_selector=options["node_selector"],
            tolerations=options["tolerations"],
            annotations=options["annotations"],
        ),
        start_timeout=options["start_timeout"],
        **in_image,
    )


def _warnings(settings: DeploySettings) -> Iterator[str]:
    """Yield warnings about data that is lost with a pod, and about variables that need a Secret."""
    from floe_orchestrator_dagster.deploy.volumes import keeps_lineage_with_state

    for product in settings.products:
        if product.targets is not None and settings.environment not in {None, *product.targets}:
            outputs = ", ".join(product.targets) or "none"
            yield (
                f"{product.name}: the dbt profile has no output for the environment {settings.environment!r}, so that "
                f"its default output is used. Outputs: {outputs}."
            )
        if product.variables and not settings.secrets.get(product.name):
            names = ", ".join(product.variables)
            yield f"{product.name}: the dbt profile reads {names}. Set --env-secret to a Secret with these keys."
        if product.on_duckdb and not settings.state_claim:
            yield f"{product.name}: the DuckDB file is deleted with the pod. Set --state-claim to keep it on a volume."
    if settings.log_store is not None and find_spec(settings.log_store.package.replace("-", "_")) is None:
        package, scheme = settings.log_store.package, settings.log_store.scheme
        yield (
            f"{scheme}:// needs the package {package} in every image, and it is not installed here. "
            f"Build the images with EXTRA_PACKAGES={package}, or no run starts."
        )
    if settings.is_production and settings.log_store is None:
        yield "the output of steps is not stored. Set --compute-logs to store it."
    sending = [product for product in settings.products if product.may_send_lineage]
    kept = settings.lineage_claim or (settings.state_claim and all(map(keeps_lineage_with_state, sending)))
    if settings.is_production and sending and not kept:
        yield "undelivered lineage is deleted with the pod. Set --lineage-claim to keep it on a volume."


def _header(products: Sequence[DeployedProduct], target: str, output: Path | None) -> str:
    # Dagster's chart has the same version as Dagster.
    file = quote(str(output or "values.yaml"))
    install = _INSTALLS.get(target, "").format(file=file, version=version("dagster"))
    names = ", ".join(product.name for product in products)
    return f"# Generated by floe-dagster helm for {names}.\n" + (f"# {install}\n" if install else "")


def _print_differences(deployed: Path, values: Mapping[str, Any], overlays: Sequence[Path]) -> None:
    from floe_orchestrator_dagster.deploy.differences import differences, read_deployed, with_overlays

    lines = differences(read_deployed(deployed), with_overlays(values, overlays))
    for line in lines or ["an upgrade changes nothing"]:
        click.echo(line)


def _write(documents: Sequence[Mapping[str, Any]], output: Path | None, header: str) -> None:
    from floe_orchestrator_dagster.deploy.documents import dumped

    text = header + dumped(documents)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = Problem("", f"cannot be written ({error.strerror})", "Choose a file that you can write.")
        raise DeployError(str(output), [problem]) from None
    click.echo(f"wrote {output}", err=True)
