# Everything a person does here has one target; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
LOCAL_VENV := .venv-local
DOCS_VENV := .venv-docs
BIN := $(VENV)/bin

##@ Try it
demo: setup-demo ## Roll out a good and a bad version on the embedded AWS (STACK=1 by sam deploy, CONSUMER=sqs|fifo|kinesis, TARGET=ecs, WAY=task-sets|green-service, STRATEGY=, RPS=, BAD_ERROR_RATE=, SUMMARY=file.json)
	@$(BIN)/python -m demo run $(if $(CONSUMER),--consumer '$(CONSUMER)') $(if $(STACK),--stack) $(if $(TARGET),--target '$(TARGET)') $(if $(WAY),--way '$(WAY)') $(if $(STRATEGY),--strategy '$(STRATEGY)') $(if $(RPS),--rps '$(RPS)') \
	  $(if $(BAD_ERROR_RATE),--bad-error-rate '$(BAD_ERROR_RATE)') $(if $(SUMMARY),--summary '$(SUMMARY)')

demo-serve: setup-demo ## Leave the embedded AWS up with the application deployed, to play with
	@$(BIN)/python -m demo serve

demo-stop: setup-demo ## Stop what demo-serve left up
	@$(BIN)/python -m demo stop

invoke: setup-demo ## Run one function in a container: FUNCTION=Planner, EVENT=events/functions/planner.json (its own sample if not given)
	@$(BIN)/python -m tools.invoke '$(FUNCTION)' $(if $(EVENT),'$(EVENT)')

##@ Work on it
setup: ## Make the project's own environments (.venv, .venv-local), and the command .venv/bin/headgate
	@$(MAKE) --silent -j2 $(BIN)/headgate $(LOCAL_VENV)/.ready

# As much of it as the demo needs. Both environments are made at once.
setup-demo:
	@$(MAKE) --silent -j2 $(VENV)/.ready-demo $(LOCAL_VENV)/.ready

check: setup check-code check-tests ## The inner loop: ruff, mypy, import-linter and the fast tests, in about a minute
	@echo "Left out: tests marked slow, and the state machines (make test-unit runs all); the templates (make lint)."

check-code:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-tests:
	$(BIN)/python -m pytest tests/docs tests/unit -m 'not slow' -q -n auto --dist loadgroup $(PYTEST_ARGS)

test: COVERAGE := 1
test: test-unit test-local ## Run all tests; the unit tests measure branch coverage and hold its floor

# The state machines' tests wait half of their time, so there are more processes than processors.
test-unit: setup ## Run the tests that need nothing but Python: docs, the core, the functions, the state machines (COVERAGE=1 measures it)
	$(BIN)/python -m pytest tests/docs tests/unit tests/statemachines -n 4 --dist loadgroup $(if $(COVERAGE),--cov) $(PYTEST_ARGS)

# They mostly wait, so there are more processes than processors; each has an embedded AWS of its own.
test-local: setup ## Run the tests of the deployed application, on four embedded AWS side by side
	$(BIN)/python -m pytest tests/local -n 4 --dist loadgroup $(PYTEST_ARGS)

record-permissions: setup ## Write tests/fixtures/used_permissions.json: what roles use in make test-local, which it runs
	$(BIN)/python -m pytest tests/local -n 4 --dist loadgroup --record-permissions $(PYTEST_ARGS)

test-docker: setup ## Run every function, and ECS tasks, in containers: needs Docker, or root and apt-get install docker.io debootstrap
	$(BIN)/python -m pytest tests/docker $(PYTEST_ARGS)

test-browser: need-chromium setup $(VENV)/.ready-browser ## Run the tests of the dashboard and the report in a browser: needs apt-get install chromium
	$(BIN)/python -m pytest tests/browser -n 2 --dist loadgroup $(PYTEST_ARGS)

screenshots: need-chromium setup $(VENV)/.ready-browser ## Make docs/screenshots/*.png of real rollouts on the embedded AWS: needs apt-get install chromium
	@$(BIN)/python -m tools.screenshots

need-chromium:
	@command -v chromium >/dev/null || { echo "This needs Debian's Chromium, which is not installed: apt-get install chromium" >&2; exit 1; }

lambda-image: setup-demo ## Make the image that functions run in, unless Docker has it (IMAGE_PYTHON=3.13)
	@$(BIN)/python -m tools.lambda_image $(if $(IMAGE_PYTHON),--python '$(IMAGE_PYTHON)')

machines: setup ## Write statemachines/*.asl.json from statemachines/source
	@$(BIN)/python -m statemachines.source

lint: setup ## ruff, mypy strict, import-linter, cfn-lint, sam validate, pipelines, the state machines, schemas and reference tables
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cfn-lint template.yaml examples/*.yaml examples/*/*.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml examples/pipelines/github-*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci examples/pipelines/gitlab-ci.yml
	SAM_CLI_TELEMETRY=0 $(BIN)/sam validate --lint --region us-east-1
	$(BIN)/python -m statemachines.source --check
	$(BIN)/python -m tools.asl statemachines/*.asl.json
	$(BIN)/python -m tools.schemas --check
	$(BIN)/python -m tools.reference --check

bench: setup ## Measure judge, telemetry, intake, transitions and cost, rollback, ECS services, init, cold starts; QUICK=1 is quick
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

# It creates resources in a real account, so it asks first. The exit code is 0 only if every answer is as assumed.
probe-aws: setup ## Ask a real account what no documentation answers: PROFILE=sandbox (REGION=, ONLY=probe,..., SUBNET=, KEYS=1, YES=1, CLEAN=run, LIST=1)
	@$(BIN)/python -m tools.probes $(if $(PROFILE),--profile '$(PROFILE)') $(if $(REGION),--region '$(REGION)') $(if $(ONLY),--only '$(ONLY)') \
	  $(if $(SUBNET),--subnet '$(SUBNET)') $(if $(KEYS),--keys) $(if $(YES),--yes) $(if $(CLEAN),--clean '$(CLEAN)') $(if $(LIST),--list)

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Not --quiet: it would leave out the warnings that --strict fails for.
docs: $(DOCS_VENV)/.ready ## Build the documentation as a site, in .site
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict
	@echo "The site begins at .site/index.html."

##@ Deploy it
build: setup-demo ## sam build, for the runtime and architecture that samconfig.toml or the template names
	SAM_CLI_TELEMETRY=0 $(BIN)/sam build $(SAM_ARGS)

# The layer is compiled for each Python that is on this machine: a release is built where all of them are.
dist: setup ## Build what a release publishes: the wheels of the command and of telemetry, the application, checksums (WHEEL=1 builds the command's alone)
	@rm -rf dist
	@$(BIN)/python -m hatchling build --target wheel
	@$(if $(WHEEL),,$(BIN)/python -m tools.dist)
	@echo "Install the command with: pipx install $$(ls dist/headgate-*.whl)"

release-fixture: setup ## Keep this version as a fixture for upgrade tests (REPLACE=1 replaces an archive of it)
	@$(BIN)/python -m tools.package_release $(if $(REPLACE),--replace)

clean: ## Remove environments and build results
	rm -rf $(VENV) $(LOCAL_VENV) $(DOCS_VENV) dist .site .aws-sam .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nWhat a strategy would catch:\n  $(BIN)/headgate simulate --help\n'

$(VENV)/.ready-demo: requirements/demo.txt
	@bash tools/make_venv.sh --part "$(PYTHON)" $(VENV) $<
	@printf '%s\n' '$(CURDIR)/layers/headgate/python' '$(CURDIR)/cli' >"$$(echo $(VENV)/lib/python*/site-packages)/headgate-of-this-checkout.pth"
	@touch $@

# Adds to what is there; made afresh if what was added has changed.
$(VENV)/.ready: requirements/dev.txt $(VENV)/.ready-demo
	@if [ -e $@ ]; then add=; else add=--add; fi; bash tools/make_venv.sh $$add "$(PYTHON)" $(VENV) $<
	@touch $(VENV)/.ready-demo $@

# Only for test-browser and screenshots. The other marks are older than what was added here, and none of it is theirs.
$(VENV)/.ready-browser: requirements/browser.txt $(BIN)/headgate
	@bash tools/make_venv.sh --add "$(PYTHON)" $(VENV) $<
	@touch $(VENV)/.ready-demo $(VENV)/.ready $(BIN)/headgate $@

# The command runs from this checkout; what it and its build need is among the pinned packages already.
$(BIN)/headgate: $(VENV)/.ready pyproject.toml
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(LOCAL_VENV)/.ready: requirements/local.txt
	@bash tools/make_venv.sh "$(PYTHON)" $(LOCAL_VENV) $<
	@touch $@

$(DOCS_VENV)/.ready: requirements/docs.txt
	@bash tools/make_venv.sh "$(PYTHON)" $(DOCS_VENV) $<
	@touch $@

.PHONY: demo demo-serve demo-stop invoke setup setup-demo check check-code check-tests test test-unit test-local record-permissions test-docker test-browser screenshots need-chromium lambda-image machines lint bench docs format probe-aws build dist release-fixture clean help
