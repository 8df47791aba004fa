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
demo: setup-demo ## Roll out a good and a bad version on the embedded AWS (CONSUMER=sqs|fifo|kinesis, STRATEGY=, RPS=, BAD_ERROR_RATE=, SUMMARY=file.json)
	@$(BIN)/python -m local.demo run $(if $(CONSUMER),--consumer '$(CONSUMER)') $(if $(STRATEGY),--strategy '$(STRATEGY)') $(if $(RPS),--rps '$(RPS)') \
	  $(if $(BAD_ERROR_RATE),--bad-error-rate '$(BAD_ERROR_RATE)') $(if $(SUMMARY),--summary '$(SUMMARY)')

demo-serve: setup-demo ## Leave the embedded AWS up with the application deployed, to play with
	@$(BIN)/python -m local.demo serve

demo-stop: setup-demo ## Stop what demo-serve left up
	@$(BIN)/python -m local.demo stop

invoke: setup-demo ## Run one function in a container: FUNCTION=Planner, EVENT=events/planner.json (its own sample if not given)
	@$(BIN)/python -m local.invoke '$(FUNCTION)' $(if $(EVENT),'$(EVENT)')

##@ Work on it
setup: ## Make the project's own environments (.venv, .venv-local), and the command .venv/bin/headgate
	@$(MAKE) --silent -j2 $(BIN)/headgate $(LOCAL_VENV)/.ready

# As much of it as the demo needs. Both environments are made at once.
setup-demo:
	@$(MAKE) --silent -j2 $(VENV)/.ready-demo $(LOCAL_VENV)/.ready

test: test-unit test-local ## Run all tests

test-unit: setup ## Run the tests that need nothing but Python: the core, the functions, the state machines
	$(BIN)/python -m pytest tests/unit tests/statemachines -n auto --dist loadgroup $(PYTEST_ARGS)

test-local: setup ## Run the tests of the deployed application on the embedded AWS
	$(BIN)/python -m pytest tests/local $(PYTEST_ARGS)

test-docker: setup ## Run every function, and ECS tasks, in containers: needs Docker, or root and apt-get install docker.io debootstrap
	$(BIN)/python -m pytest tests/docker $(PYTEST_ARGS)

lambda-image: setup-demo ## Make the image that functions run in, unless Docker has it (IMAGE_PYTHON=3.13)
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

docs: $(DOCS_VENV)/.ready ## Build the documentation's site, in an environment of its own (.venv-docs)
	$(DOCS_VENV)/bin/mkdocs build --strict

##@ Deploy it
build: setup-demo ## sam build, for the runtime and architecture that samconfig.toml or the template names
	SAM_CLI_TELEMETRY=0 $(BIN)/sam build $(SAM_ARGS)

clean: ## Remove environments and build results
	rm -rf $(VENV) $(LOCAL_VENV) $(DOCS_VENV) .aws-sam .local .mypy_cache .ruff_cache .pytest_cache .hypothesis site

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nWhat a strategy would catch:\n  $(BIN)/headgate simulate --help\n'

$(VENV)/.ready-demo: requirements/demo.txt
	@bash local/make_venv.sh --part "$(PYTHON)" $(VENV) $<
	@touch $@

# Adds to what is there; made afresh if what was added has changed.
$(VENV)/.ready: requirements/dev.txt $(VENV)/.ready-demo
	@if [ -e $@ ]; then add=; else add=--add; fi; bash local/make_venv.sh $$add "$(PYTHON)" $(VENV) $<
	@touch $(VENV)/.ready-demo $@

# The command runs from this checkout; what it and its build need is among the pinned packages already.
$(BIN)/headgate: $(VENV)/.ready pyproject.toml
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(LOCAL_VENV)/.ready: requirements/local.txt
	@bash local/make_venv.sh "$(PYTHON)" $(LOCAL_VENV) $<
	@touch $@

$(DOCS_VENV)/.ready: requirements/docs.txt
	@bash local/make_venv.sh "$(PYTHON)" $(DOCS_VENV) $<
	@touch $@

.PHONY: demo demo-serve demo-stop invoke setup setup-demo test test-unit test-local test-docker lambda-image lint bench format docs build clean help
