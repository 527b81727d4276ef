"""Differences between deployed values and new ones, in words and without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from command import invoke
from unit.deploy.deployed import artifacts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unit.samples import Json

PRODUCTION = ("--production", "--postgres-host", "pg.internal", "--compute-logs", "s3://logs")


def printed(paths: Sequence[Path], *options: str | Path) -> str:
    """Return what ``floe-dagster helm`` prints for these products."""
    chosen = [part for path in paths for part in ("--artifacts", path)]
    answer = invoke("helm", *chosen, *PRODUCTION, *options)
    assert answer.exit_code == 0, answer.stderr
    return answer.stdout


def changed(tmp_path: Path, before: str, paths: Sequence[Path], *options: str) -> list[str]:
    deployed = tmp_path / "deployed.yaml"
    deployed.write_text(before, encoding="utf-8")
    return printed(paths, *options, "--diff", deployed).splitlines()


@pytest.mark.parametrize("title", ["", "USER-SUPPLIED VALUES:\n"])
def test_same_values_change_nothing(tmp_path: Path, title: str) -> None:
    path = artifacts(tmp_path)
    before = printed([path], "--image", "shop:1")

    assert changed(tmp_path, title + before, [path], "--image", "shop:1") == ["an upgrade changes nothing"]


@pytest.mark.parametrize("deployed", ["null\n", "USER-SUPPLIED VALUES:\nnull\n", "USER-SUPPLIED VALUES:\n{}\n"])
def test_everything_is_added_to_a_release_without_values(tmp_path: Path, deployed: str) -> None:
    path = artifacts(tmp_path)

    lines = changed(tmp_path, deployed, [path], "--image", "shop:1")

    assert "adds the product shop-orders with the image shop:1" in lines
    assert [line for line in lines if not line.startswith("adds ")] == []


def test_products_images_content_and_options_are_described(tmp_path: Path) -> None:
    orders, returns, stock = (artifacts(tmp_path, name) for name in ("orders", "returns", "stock"))
    before = printed([orders, returns], "--image", "shop:1", "--env", "DBT_THREADS=4", "--env-secret", "warehouse")
    artifacts(tmp_path, "orders", {"run_resources": {"size": "large"}, "timeout_seconds": 60})

    lines = changed(
        tmp_path,
        before,
        [orders, stock],
        *("--image", "shop:2", "--env", "DBT_THREADS=8", "--env", "REGION=eu", "--env-secret", "lake"),
        *("--node-selector", "pool=batch", "--toleration", "spot:NoExecute", "--env-configmap", "regions"),
        *("--size", "large"),
    )

    [content] = [line for line in lines if "changes its content" in line]
    assert content.startswith("orders: changes its content (")
    assert content.endswith("), so that its pods are replaced")
    expected = [
        "adds the product stock with the image shop:2",
        "removes the product returns",
        "orders: changes the tag of the image from 1 to 2",
        "orders: changes the variable DBT_THREADS",
        "orders: adds the variable REGION",
        "orders: removes the Secret warehouse",
        "orders: adds the Secret lake",
        "orders: adds the ConfigMap regions",
        "orders: adds nodeSelector.pool: batch",
        "orders: adds tolerations[spot:NoExecute].operator: Exists",
        "orders: changes the limit of memory from 1Gi to 2Gi",
        "orders: adds the limit of memory of runs: 2Gi",
        "changes concurrency.runs.maxConcurrentRuns from 10 to 25",
        "changes dagsterDaemon.resources.limits.memory from 512Mi to 1Gi",
    ]
    assert [line for line in expected if line not in lines] == [], lines


def test_limit_of_a_product_on_duckdb_is_named(tmp_path: Path) -> None:
    orders, returns = artifacts(tmp_path, "orders"), artifacts(tmp_path, "returns")
    before = printed([orders], "--image", "shop:1")

    lines = changed(tmp_path, before, [orders, returns], "--image", "shop:1")

    assert "adds concurrency.runs.tagConcurrencyLimits[dagster/code_location=returns].limit: 1" in lines


def test_values_that_may_be_secrets_are_not_printed(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    values: Json = yaml.safe_load(printed([path], "--image", "shop:1"))
    [location] = values["dagster-user-deployments"]["deployments"]
    location["env"] += [
        {"name": "WAREHOUSE", "value": "postgres://loader:hunter22@pg/db"},
        {"name": "DB_PASSWORD", "value": "hunter22"},
    ]
    values["postgresql"]["postgresqlPassword"] = "hunter22"
    values["dagsterWebserver"]["env"] = {"TOKEN": "hunter22"}

    lines = changed(tmp_path, yaml.safe_dump(values), [path], "--image", "shop:1")

    assert "hunter22" not in "\n".join(lines)
    assert "shop-orders: removes the variable WAREHOUSE" in lines
    assert "shop-orders: removes the variable DB_PASSWORD" in lines
    assert "removes postgresql.postgresqlPassword" in lines


@pytest.mark.parametrize(
    ("place", "added", "line"),
    [
        ("location", {"env": [{"name": "FLOE_DB_PASSWORD", "value": "hunter22"}]}, "the variable FLOE_DB_PASSWORD"),
        ("location", {"env": [{"name": "FLOE_STATE", "value": "hunter22"}]}, "the variable FLOE_STATE"),
        ("location", {"env": [{"name": "FLOE_ENV", "valueFrom": {"x": "hunter22"}}]}, "the variable FLOE_ENV"),
        ("location", {"env": {"WAREHOUSE": "hunter22"}}, "the variable WAREHOUSE"),
        ("location", {"env": {"FLOE_ENV": {"value": "hunter22"}}}, "the variable FLOE_ENV"),
        ("location", {"envSecrets": ["hunter22"]}, "the Secret 0"),
        ("location", {"dagsterApiGrpcArgs": ["--password", "hunter22"]}, "dagsterApiGrpcArgs[1]"),
        ("location", {"codeServerArgs": ["hunter22"]}, "codeServerArgs[0]"),
        ("location", {"annotations": {"vault/role": "hunter22"}}, "the annotation vault/role"),
        ("location", {"initContainers": [{"name": "a", "args": ["hunter22"]}]}, "initContainers[a].args[0]"),
        ("location", {"volumes": [{"name": "v", "csi": {"k": "hunter22"}}]}, "the volume v.csi.k"),
        ("runLauncher.config.k8sRunLauncher", {"envVars": ["WAREHOUSE=hunter22"]}, "envVars[0]"),
        ("runLauncher.config.customRunLauncher", {"config": {"dsn": "hunter22"}}, "config.dsn"),
        ("dagsterDaemon.runCoordinator.config.customRunCoordinator", {"config": {"a": "hunter22"}}, "config.a"),
        ("dagsterWebserver", {"env": {"WAREHOUSE": "hunter22"}}, "the variable WAREHOUSE of dagsterWebserver"),
        ("dagsterWebserver", {"clientSecret": "hunter22"}, "clientSecret"),
        ("dagsterWebserver", {"tlsSecretName": "hunter22"}, "tlsSecretName"),
        ("redis", {"host": "hunter22"}, "host"),
        ("computeLogManager.config.s3ComputeLogManager", {"endpointUrl": "hunter22"}, "endpointUrl"),
        ("extraManifests", {"keys": [{"key": "hunter22"}]}, "keys[0].key"),
    ],
)
def test_value_at_an_unknown_place_is_not_printed(tmp_path: Path, place: str, added: Json, line: str) -> None:
    path = artifacts(tmp_path)
    values: Json = yaml.safe_load(printed([path], "--image", "shop:1"))
    [location] = values["dagster-user-deployments"]["deployments"]
    target = location if place == "location" else values
    for key in [] if place == "location" else place.split("."):
        target = target.setdefault(key, {})
    target.update(added)

    lines = changed(tmp_path, yaml.safe_dump(values), [path], "--image", "shop:1")

    assert "hunter22" not in "\n".join(lines)
    assert [entry for entry in lines if line in entry], lines


def test_values_of_this_package_are_printed_except_for_options_that_take_any_value(tmp_path: Path) -> None:
    """A new value must be added to the paths that are shown, or here."""
    path = artifacts(tmp_path, config={"run_resources": {"size": "large"}, "concurrency": {"pool": "p", "limit": 2}})
    before = yaml.safe_dump({"dagster-user-deployments": {"deployments": [{"name": "shop-orders"}]}})

    lines = changed(
        tmp_path,
        before,
        [path],
        *("--image", "shop:1", "--env", "DBT_THREADS=4", "--env-secret", "warehouse", "--env-configmap", "regions"),
        *("--node-selector", "pool=batch", "--toleration", "dedicated=data:NoSchedule", "--annotation", "a=b"),
        *("--service-account", "data", "--image-pull-secret", "registry", "--state-claim", "state"),
        *("--lineage-claim", "lineage", "--otlp-endpoint", "http://otel:4317", "--from-configmap"),
    )

    without_value = {line for line in lines if ": " not in line.removeprefix("shop-orders: ")}
    assert without_value - {line for line in without_value if "changes its content" in line} == {
        "shop-orders: adds the variable DBT_THREADS",
        "shop-orders: adds the Secret warehouse",
        "shop-orders: adds the ConfigMap regions",
        "shop-orders: adds the annotation a",
        "shop-orders: adds runs.run_k8s_config.pod_template_spec_metadata.annotations.a",
        *(f"shop-orders: adds dagsterApiGrpcArgs[{row}]" for row in range(4)),
        *(f"shop-orders: adds the volume {name}" for name in ("floe-home", "floe-tmp")),
        *(f"adds dagsterWebserver.volumes[{name}]" for name in ("floe-home", "floe-tmp")),
        *(f"adds dagsterDaemon.volumes[{name}]" for name in ("floe-home", "floe-tmp")),
        "adds imagePullSecrets[registry]",
        "adds dagster-user-deployments.imagePullSecrets[registry]",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"tolerations": [{"key": "dedicated", "operator": "Equal", "value": "data", "effect": "NoSchedule"}]},
            [
                "shop-orders: removes tolerations[dedicated=data:NoSchedule].operator: Equal",
                "shop-orders: adds tolerations[dedicated=batch:NoSchedule].operator: Equal",
                "shop-orders: adds tolerations[spot:NoSchedule].operator: Exists",
                "shop-orders: adds tolerations[spot:NoExecute].operator: Exists",
            ],
        ),
        (
            {"tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoExecute"}, {"operator": "Exists"}]},
            [
                "shop-orders: removes tolerations[].operator: Exists",
                "shop-orders: adds tolerations[dedicated=batch:NoSchedule].operator: Equal",
                "shop-orders: adds tolerations[spot:NoSchedule].operator: Exists",
            ],
        ),
    ],
)
def test_each_toleration_is_compared(tmp_path: Path, changes: Json, expected: list[str]) -> None:
    path = artifacts(tmp_path)
    options = ["--image", "shop:1"]
    for taint in ("dedicated=batch:NoSchedule", "spot:NoSchedule", "spot:NoExecute"):
        options += ["--toleration", taint]
    values: Json = yaml.safe_load(printed([path], *options))
    [location] = values["dagster-user-deployments"]["deployments"]
    location.update(changes)

    assert changed(tmp_path, yaml.safe_dump(values), [path], *options) == expected


def test_entries_of_a_list_do_not_hide_each_other(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    values: Json = yaml.safe_load(printed([path], "--image", "shop:1"))
    [location] = values["dagster-user-deployments"]["deployments"]
    [state] = [mount for mount in location["volumeMounts"] if mount["name"] == "floe-state"]
    location["volumeMounts"].insert(0, {**state, "mountPath": "/var/other"})
    location["env"].insert(0, {"name": "FLOE_ENV", "value": "twice"})
    values["concurrency"]["runs"]["tagConcurrencyLimits"].insert(0, {"key": "team", "value": "a", "limit": 1})
    values["concurrency"]["runs"]["tagConcurrencyLimits"].insert(0, {"key": "team", "value": "b", "limit": 1})

    assert changed(tmp_path, yaml.safe_dump(values), [path], "--image", "shop:1") == [
        "shop-orders: changes the variable FLOE_ENV from twice to production",
        "shop-orders: removes the variable FLOE_ENV (2)",
        "shop-orders: removes volumeMounts[/var/other].name: floe-state",
        "removes concurrency.runs.tagConcurrencyLimits[team=b].limit: 1",
        "removes concurrency.runs.tagConcurrencyLimits[team=a].limit: 1",
    ]


def test_variables_as_a_mapping_are_the_same_as_in_a_list(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    values: Json = yaml.safe_load(printed([path], "--image", "shop:1"))
    [location] = values["dagster-user-deployments"]["deployments"]
    location["env"] = {entry["name"]: entry["value"] for entry in location["env"]}

    assert changed(tmp_path, yaml.safe_dump(values), [path], "--image", "shop:1") == ["an upgrade changes nothing"]


def test_values_of_floes_chart_are_compared_with_its_dagster_chart(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    options = ("--target", "floe-platform", "--otlp-endpoint", "http://collector:4317", "--image")
    before = printed([path], *options, "shop:1")

    assert "shop-orders: changes the tag of the image from 1 to 2" in changed(
        tmp_path, before, [path], *options, "shop:2"
    )


def test_overlays_are_part_of_the_new_values(tmp_path: Path) -> None:
    """``helm get values`` returns the generated values together with those of further files."""
    path = artifacts(tmp_path)
    first, second = tmp_path / "mine.yaml", tmp_path / "second.yaml"
    first.write_text("ingress: {enabled: true, hosts: [a, b]}\ndagsterWebserver: {replicaCount: 3}\n", encoding="utf-8")
    second.write_text("ingress: {hosts: [c], path: null}\nflower: {enabled: true}\n", encoding="utf-8")
    deployed: Json = yaml.safe_load(printed([path], "--image", "shop:1"))
    deployed["ingress"] = {"enabled": True, "hosts": ["c"], "path": None}
    deployed["dagsterWebserver"]["replicaCount"] = 3
    options = ("--image", "shop:2", "--overlay", str(first))

    both = changed(tmp_path, yaml.safe_dump(deployed), [path], *options, "--overlay", str(second))
    alone = changed(tmp_path, yaml.safe_dump(deployed), [path], *options)
    none = changed(tmp_path, yaml.safe_dump(deployed), [path], "--image", "shop:1")

    tag = "shop-orders: changes the tag of the image from 1 to 2"
    assert both == [tag, "adds flower.enabled: true"]
    assert alone == [tag, "changes ingress.hosts[0]", "removes ingress.path: null", "adds ingress.hosts[1]"]
    assert none == [
        "changes dagsterWebserver.replicaCount from 3 to 2",
        "removes ingress.enabled: true",
        "removes ingress.hosts[0]",
        "removes ingress.path: null",
    ]


def test_values_beside_dagsters_in_floes_chart_are_compared(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    options = ("--image", "shop:1", "--target", "floe-platform", "--otlp-endpoint", "http://collector:4317")
    deployed: Json = yaml.safe_load(printed([path], *options))
    deployed["polaris"] = {"enabled": True, "token": "hunter22"}
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("polaris: {enabled: false}\ndagster: {ingress: {enabled: true}}\n", encoding="utf-8")

    assert changed(tmp_path, yaml.safe_dump(deployed), [path], *options) == [
        "floe's chart: removes polaris.enabled: true",
        "floe's chart: removes polaris.token",
    ]
    assert changed(tmp_path, yaml.safe_dump(deployed), [path], *options, "--overlay", str(overlay)) == [
        "adds ingress.enabled: true",
        "floe's chart: changes polaris.enabled from true to false",
        "floe's chart: removes polaris.token",
    ]


def test_values_of_floes_chart_without_dagsters_are_compared(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    options = ("--image", "shop:1", "--target", "floe-platform", "--otlp-endpoint", "http://collector:4317")
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("polaris: {enabled: true}\n", encoding="utf-8")

    for deployed in ("polaris: {enabled: true}\n", "polaris: {enabled: true}\ndagster: {}\n"):
        lines = changed(tmp_path, deployed, [path], *options, "--overlay", str(overlay))
        assert "adds the product shop-orders with the image shop:1" in lines
        assert [line for line in lines if "polaris" in line or line.startswith("changes")] == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--target", "floe-platform", "--otlp-endpoint", "http://collector:4317"),
            "changes the chart from Dagster's chart to floe's chart",
        ),
        (("--otlp-endpoint", "http://collector:4317"), "changes the chart from floe's chart to Dagster's chart"),
    ],
)
def test_same_values_for_another_chart_are_a_change(tmp_path: Path, options: tuple[str, ...], line: str) -> None:
    """Helm ignores unknown keys, so that the release would get none of the values."""
    path = artifacts(tmp_path)
    new: Json = yaml.safe_load(printed([path], "--image", "shop:1", *options))
    other = new["dagster"] if "--target" in options else {"dagster": new}

    assert changed(tmp_path, yaml.safe_dump(other), [path], "--image", "shop:1", *options) == [line]


def test_null_that_removes_a_default_of_the_chart_is_a_change(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    values: Json = yaml.safe_load(printed([path], "--image", "shop:1"))
    values["dagsterDaemon"]["startupProbe"] = None
    values["dagster-user-deployments"]["deployments"][0]["env"].append({"name": "REGION", "value": None})

    assert changed(tmp_path, yaml.safe_dump(values), [path], "--image", "shop:1") == [
        "shop-orders: removes the variable REGION",
        "removes dagsterDaemon.startupProbe: null",
    ]


def test_plain_texts_that_only_yaml_1_1_knows_are_texts(tmp_path: Path) -> None:
    """Helm writes them without quotes."""
    path = artifacts(tmp_path)
    options = ("--image", "shop:1", "--env", "FLOE_LOG_LEVEL=2026-13-45", "--env", "EQUALS==")
    values = printed([path], *options)
    plain = values.replace("'2026-13-45'", "2026-13-45").replace("'='", "=")

    assert plain != values
    assert changed(tmp_path, plain, [path], *options) == ["an upgrade changes nothing"]
    assert changed(tmp_path, plain, [path], *options, "--env", "FLOE_LOG_LEVEL=2026-01-02") == [
        "shop-orders: changes the variable FLOE_LOG_LEVEL from 2026-13-45 to 2026-01-02"
    ]


def test_code_locations_without_name_or_image_are_listed(tmp_path: Path) -> None:
    path = artifacts(tmp_path)
    overlay = tmp_path / "mine.yaml"
    entries = [{"image": "shop:1"}, {"name": "mine", "image": {"tag": "1"}}, "x"]
    overlay.write_text(yaml.safe_dump({"dagster-user-deployments": {"deployments": entries}}), encoding="utf-8")

    lines = changed(
        tmp_path, printed([path], "--image", "shop:1"), [path], "--image", "shop:1", "--overlay", str(overlay)
    )

    assert lines == [
        "adds the product without a name without an image",
        "adds the product mine without an image",
        "removes the product shop-orders",
    ]


@pytest.mark.parametrize("option", ["--diff", "--overlay"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", "has no Helm values"),
        ("", "has no Helm values"),
        ("a: [", "is not a YAML document (line 1)"),
        ("a: 1\n---\nb: 2\n", "is not a YAML document (line 2)"),
        ("a: !Ref b\n", "is not a YAML document (line 1)"),
        ("a: \x00\n", "is not a YAML document\n"),
        (f"a: {'1' * 5000}\n", "has a value that cannot be read"),
        (f"a: {'[' * 5000}{']' * 5000}\n", "has a value that cannot be read"),
        ("a: &a {b: *a}\n", "has a value that cannot be read"),
        ("COMPUTED VALUES:\na: 1\n", "has the default values of the chart, too"),
        (b"\xff\xfe\x00", "cannot be read (it is not text)"),
    ],
)
def test_file_without_values_is_refused(tmp_path: Path, option: str, content: Any, message: str) -> None:  # noqa: ANN401
    (tmp_path / "deployed.yaml").write_text("a: 1\n", encoding="utf-8")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_bytes(content if isinstance(content, bytes) else content.encode())
    files = ["--diff", tmp_path / "deployed.yaml", option, wrong]  # click takes the last --diff

    answer = invoke("helm", "--artifacts", artifacts(tmp_path), "--image", "shop:1", *files)

    assert (answer.exit_code, answer.stdout) == (1, "")
    assert f"{wrong}: 1 problem" in answer.stderr
    assert message in answer.stderr
