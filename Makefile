# Everything a person does here has one target; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
LOCAL_VENV := .venv-local
BIN := $(VENV)/bin

##@ Try it
demo: setup ## Roll out a good and a bad version on the embedded AWS (CONSUMER=sqs|fifo|kinesis, STRATEGY=, RPS=, BAD_ERROR_RATE=, SUMMARY=file.json)
	@$(BIN)/python -m local.demo run $(if $(CONSUMER),--consumer '$(CONSUMER)') $(if $(STRATEGY),--strategy '$(STRATEGY)') $(if $(RPS),--rps '$(RPS)') \
	  $(if $(BAD_ERROR_RATE),--bad-error-rate '$(BAD_ERROR_RATE)') $(if $(SUMMARY),--summary '$(SUMMARY)')

demo-serve: setup ## Leave the embedded AWS up with the application deployed, to play with
	@$(BIN)/python -m local.demo serve

demo-stop: setup ## Stop what demo-serve left up
	@$(BIN)/python -m local.demo stop

invoke: setup ## Run one function in a container: FUNCTION=Planner, EVENT=events/planner.json (its own sample if not given)
	@$(BIN)/python -m local.invoke '$(FUNCTION)' $(if $(EVENT),'$(EVENT)')

##@ Work on it
setup: $(VENV)/.ready $(LOCAL_VENV)/.ready $(BIN)/headgate ## Make the project's own environments, and the command .venv/bin/headgate

check: setup ## ruff, mypy, import-linter and the fast tests, side by side: the inner loop, under a minute
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going check-tests check-code
	@echo "The fast tests are those that are not marked slow; make test-unit runs all, make lint checks the templates too."

check-code:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	if grep -q '^import-linter==' requirements/dev.txt; then $(BIN)/lint-imports; fi

check-tests:
	$(BIN)/python -m pytest tests/unit tests/statemachines -m 'not slow' -q -n auto --dist loadgroup $(PYTEST_ARGS)

test: test-unit test-local ## Run all tests

test-unit: setup ## Run the tests that need nothing but Python: the core, the functions, the state machines
	$(BIN)/python -m pytest tests/unit tests/statemachines -n auto --dist loadgroup $(PYTEST_ARGS)

# They mostly wait, so there are more processes than processors; each has an embedded AWS of its own.
test-local: setup ## Run the tests of the deployed application, on four embedded AWS side by side
	$(BIN)/python -m pytest tests/local -n 4 --dist loadgroup $(PYTEST_ARGS)

test-docker: setup ## Run every function, and ECS tasks, in containers: needs Docker, or root and apt-get install docker.io debootstrap
	$(BIN)/python -m pytest tests/docker $(PYTEST_ARGS)

lambda-image: setup ## Make the image that functions run in, unless Docker has it (IMAGE_PYTHON=3.13)
	@$(BIN)/python -m local.lambda_image $(if $(IMAGE_PYTHON),--python '$(IMAGE_PYTHON)')

lint: setup ## ruff, mypy strict, cfn-lint, sam validate, the ASL check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml local/sample/*.yaml
	SAM_CLI_TELEMETRY=0 $(BIN)/sam validate --lint --region us-east-1
	$(BIN)/python -m local.asl_check statemachines/*.asl.json

bench: setup ## Measure judge, telemetry, intake, transitions and cost, rollback, init, cold starts; QUICK=1 is quick
	@$(BIN)/python -m tests.bench $(if $(QUICK),--quick)

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

##@ Deploy it
build: setup ## sam build, for the runtime and architecture that samconfig.toml or the template names
	SAM_CLI_TELEMETRY=0 $(BIN)/sam build $(SAM_ARGS)

clean: ## Remove environments and build results
	rm -rf $(VENV) $(LOCAL_VENV) .aws-sam .local .mypy_cache .ruff_cache .pytest_cache .hypothesis

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nWhat a strategy would catch:\n  $(BIN)/headgate simulate --help\n'

$(VENV)/.ready: requirements/dev.txt
	@bash local/make_venv.sh "$(PYTHON)" $(VENV) requirements/dev.txt
	@touch $@

# The command runs from this checkout; what it and its build need is among the pinned packages already.
$(BIN)/headgate: $(VENV)/.ready pyproject.toml
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(LOCAL_VENV)/.ready: requirements/local.txt
	@bash local/make_venv.sh "$(PYTHON)" $(LOCAL_VENV) requirements/local.txt
	@touch $@

.PHONY: demo demo-serve demo-stop invoke setup check check-code check-tests test test-unit test-local test-docker lambda-image lint bench format build clean help
