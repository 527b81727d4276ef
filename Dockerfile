# The user-code image of one data product: its code server and the pods of its runs.
#
#   docker build --build-arg PRODUCT_DIR=dbt_project --tag retail-orders:1.4.0 .
#
# Its layers, from below: the base image, the dependencies and this package, which all products share, then the product.
# Without an ENTRYPOINT: Dagster's chart and run launcher pass the whole command. hadolint checks it in `make image-test`.
ARG BASE_IMAGE=python:3.12-slim-bookworm
# The dbt in the image: core (dbt-core 1.x) or v2.
ARG DBT_ENGINE=core

# --- Dependencies, locked: this layer is built again only when they change -------------------------------------------
FROM ${BASE_IMAGE} AS dependencies
ARG UV_VERSION=0.13.9
# Adapters of other warehouses, log stores: such as "dbt-snowflake dagster-aws".
ARG EXTRA_PACKAGES=""
# Bytecode without times, so that two builds have the same files.
ENV VIRTUAL_ENV=/opt/floe/venv \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH
RUN python3 -m venv /build/uv && /build/uv/bin/python -m pip install --no-cache-dir "uv==${UV_VERSION}" \
    && python3 -m venv --without-pip /opt/floe/venv \
    && if command -v dpkg-query > /dev/null; then dpkg-query -W -f '${Package} ${Version} ${Architecture}\n'; fi > /build/debian-packages
COPY requirements-image.lock /build/
RUN /build/uv/bin/uv pip install --no-cache --compile-bytecode --require-hashes --no-deps --requirements /build/requirements-image.lock
# hadolint ignore=SC2086
RUN if [ -n "${EXTRA_PACKAGES}" ]; then \
      sed '/^ *--hash/d; s/ *\\$//' /build/requirements-image.lock > /build/constraints.txt \
      # dbt-core 1.12 requires this parser, and does not need it to run. Its source archive downloads more.
      && echo "dbt-core-experimental-parser ; sys_platform == 'never'" > /build/overrides.txt \
      && /build/uv/bin/uv pip install --no-cache --compile-bytecode --constraints /build/constraints.txt \
        --overrides /build/overrides.txt ${EXTRA_PACKAGES}; \
    fi
# uv installs packages in any order, and adapters have files with the same names as dbt-adapters and dbt-core. These two are
# installed again, one after the other, so that two builds have the same files.
RUN for package in dbt-adapters dbt-core; do \
      /build/uv/bin/uv pip install --no-cache --compile-bytecode --require-hashes --no-deps --reinstall-package "${package}" \
        --requirements /build/requirements-image.lock || exit 1; \
    done

# --- The dbt engine: a stage for each value of DBT_ENGINE ------------------------------------------------------------
FROM dependencies AS engine-core

FROM dependencies AS engine-v2
# npm has the DuckDB library that dbt v2 loads. npm itself is not in the final image.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends npm openssl && rm -rf /var/lib/apt/lists/*
COPY scripts/setup-v2 /build/scripts/
# Another version of dbt v2, as a requirement of pip. The default is the tested one, with its hash.
ARG DBT_V2=""
RUN /build/uv/bin/uv pip uninstall dbt-core dbt-adapters dbt-common dbt-duckdb dbt-extractor dbt-protos metricflow \
    && /build/scripts/setup-v2 /build/uv/bin/uv /opt/floe/venv/bin/python && mv /build/.dbt-v2 /opt/floe/dbt-v2 \
    && if [ -n "${DBT_V2}" ]; then \
      rm -rf /opt/floe/dbt-v2/package && /build/uv/bin/uv venv /opt/floe/dbt-v2/package \
      && /build/uv/bin/uv pip install --no-cache --python /opt/floe/dbt-v2/package/bin/python "${DBT_V2}"; \
    fi \
    && ln -s /opt/floe/dbt-v2/dbt /opt/floe/venv/bin/dbt

# --- This package, in a separate directory: a layer above the dependencies -------------------------------------------
# hadolint ignore=DL3006
FROM engine-${DBT_ENGINE} AS package
COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
COPY dbt_project /build/dbt_project
COPY scripts/sbom /build/scripts/
# uv_cache.json contains times of the source.
RUN /build/uv/bin/uv pip install --no-cache --compile-bytecode --no-deps --prefix /build/package/opt/floe/venv /build \
    && sed -i '/uv_cache.json/d' /build/package/opt/floe/venv/lib/python3*/site-packages/floe_*.dist-info/RECORD \
    && rm /build/package/opt/floe/venv/lib/python3*/site-packages/floe_*.dist-info/uv_cache.json \
    && /opt/floe/venv/bin/python /build/scripts/sbom floe-user-code /build/debian-packages \
      /opt/floe/venv/lib/python3*/site-packages /build/package/opt/floe/venv/lib/python3*/site-packages \
      /opt/floe/dbt-v2/package > /build/package/opt/floe/sbom.cdx.json

# --- The product, parsed where it will lie ---------------------------------------------------------------------------
FROM package AS product
RUN cp -a /build/package/. /
# Needed by `dbt deps` only, such as "git" for dbt packages in git repositories. The final image does not have them.
ARG BUILD_PACKAGES=""
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${BUILD_PACKAGES}" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends ${BUILD_PACKAGES} && rm -rf /var/lib/apt/lists/*; \
    fi
ARG PRODUCT_DIR=dbt_project
COPY ${PRODUCT_DIR} /opt/floe/product
ENV PATH=/opt/floe/venv/bin:${PATH} \
    FLOE_ARTIFACTS_PATH=/opt/floe/product/compiled_artifacts.json \
    DAGSTER_DISABLE_TELEMETRY=true \
    DBT_SEND_ANONYMOUS_USAGE_STATS=false \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/floe/product
# Variables that the dbt profile reads need no values: parsing connects to nothing. Private dbt packages need a login:
# --secret id=netrc,src=… (https://everything.curl.dev/usingcurl/netrc.html), which no layer contains.
RUN --mount=type=secret,id=netrc \
    ln -s /run/secrets/netrc "$HOME/.netrc" \
    && floe-dagster prepare \
    && DAGSTER_HOME="$(mktemp -d)" dagster definitions validate -m floe_orchestrator_dagster.definitions \
    && find target -mindepth 1 -maxdepth 1 ! -name manifest.json ! -name floe_manifest.json ! -name partial_parse.msgpack \
      ! -name parsed_for_target.txt ! -name parsed_files.txt ! -name computes -exec rm -rf {} + \
    && rm -rf logs dbt_packages/*/.git

# --- What runs -------------------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE}
# By number: Kubernetes cannot tell whether a user known by name is root.
RUN install -d -o 10001 -g 10001 /opt/dagster/dagster_home /var/lib/floe/state
COPY --from=package /opt/floe /opt/floe
COPY --from=package /build/package /
COPY --from=product /opt/floe/product /opt/floe/product
ENV PATH=/opt/floe/venv/bin:${PATH} \
    HOME=/tmp \
    DAGSTER_HOME=/opt/dagster/dagster_home \
    FLOE_ARTIFACTS_PATH=/opt/floe/product/compiled_artifacts.json \
    FLOE_STATE_DIR=/var/lib/floe/state \
    DAGSTER_DISABLE_TELEMETRY=true \
    DBT_SEND_ANONYMOUS_USAGE_STATS=false \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/floe/product
USER 10001:10001
EXPOSE 3030
HEALTHCHECK --interval=30s --timeout=15s --start-period=120s --retries=3 \
    CMD ["dagster", "api", "grpc-health-check", "--port", "3030"]
CMD ["dagster", "api", "grpc", "--host", "0.0.0.0", "--port", "3030", "--module-name", "floe_orchestrator_dagster.definitions"]
# Last, because they differ between products and builds.
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=""
ARG PRODUCT_NAME=retail-orders
LABEL org.opencontainers.image.title="${PRODUCT_NAME}" \
      org.opencontainers.image.description="Dagster code location of the floe data product ${PRODUCT_NAME}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      dev.floe.sbom="/opt/floe/sbom.cdx.json"
