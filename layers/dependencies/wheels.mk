# Fills the layer with wheels for the runtime and architecture that the folder of the including Makefile is named after
# (template.yaml chooses it by its parameters), whichever Python this machine has.
HERE := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
TARGET := $(patsubst %/,%,$(dir $(abspath $(firstword $(MAKEFILE_LIST)))))
ARCHITECTURE := $(notdir $(TARGET))
RUNTIME := $(notdir $(patsubst %/,%,$(dir $(TARGET))))
MACHINE := $(if $(filter arm64,$(ARCHITECTURE)),aarch64,x86_64)
# Lambda's Amazon Linux 2 (python3.11) has glibc 2.26, Amazon Linux 2023 has 2.34.
PLATFORMS := --platform manylinux2014_$(MACHINE) --platform manylinux_2_17_$(MACHINE)
PYTHON ?= python3

build-DependenciesLayer:
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-compile --only-binary=:all: --no-deps \
	  --implementation cp --python-version $(patsubst python%,%,$(RUNTIME)) $(PLATFORMS) \
	  --requirement $(HERE)/requirements.txt --target $(ARTIFACTS_DIR)/python
	rm -rf $(ARTIFACTS_DIR)/python/bin $(ARTIFACTS_DIR)/python/*/tests
	# A function cannot write to its layers, so what is not compiled here is compiled at every start. Only an
	# interpreter of the runtime's own version can do it; without one the layer works all the same.
	if [ "$$($(PYTHON) -c 'import sys; print("python%d.%d" % sys.version_info[:2])')" = "$(RUNTIME)" ]; then \
	  $(PYTHON) -m compileall -q --invalidation-mode unchecked-hash $(ARTIFACTS_DIR)/python; fi
