# The few commands people type. `make help` lists them.

PROVIDER ?= vagrant
NAME ?= lab
ARGS ?=

# Tests that may run beside each other do, one worker a processor: see tests/conftest.py.
SPREAD := -n logical --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
LABCTL := $(BIN)/labctl
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

INSTALL := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends

# Debian's names of what the tests run for real, beside what `labctl doctor` knows of.
TEST_PACKAGES := etcd-server etcd-client nftables containerd runc containernetworking-plugins busybox-static \
	conntrack iproute2 chromium
# And Go, 1.21 or newer, which fetches the version that tests/e2e/goclient asks for: a client-go program is a client too.

.DEFAULT_GOAL := help
.PHONY: help demo test unit lint bench clean
.SILENT: help demo clean

help: ## list these commands
	grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## set up, bring a lab up, cut a worker's power, show the verdict (PROVIDER=lxc: in seconds)
	$(LABCTL) doctor --fix --provider $(PROVIDER)
	$(LABCTL) up --name $(NAME) --provider $(PROVIDER)
	$(LABCTL) image load --name $(NAME) lab.local/web:1
	$(LABCTL) kubectl --name $(NAME) -- apply -f examples/web.yaml
	$(LABCTL) kubectl --name $(NAME) -- rollout status deployment/web --timeout=180s
	$(LABCTL) kubectl --name $(NAME) -- get pods -o wide
	$(LABCTL) drill run --name $(NAME) worker-power-loss

test: $(VENV)/.dev $(VENV)/.tools ## set up and run every test, on real etcd, containerd, containers and machines
	$(BIN)/pytest $(SPREAD) $(ARGS)

unit: $(VENV)/.dev ## the tests that finish in seconds
	$(BIN)/pytest $(SPREAD) -q tests/unit tests/golden $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy --strict, the layer rules, ansible-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd playbooks && PATH=$(CURDIR)/$(BIN):$$PATH ansible-lint --offline -q .

bench: $(VENV)/.dev $(VENV)/.tools ## measure, print tables, write bench/results/*.json (ARGS="--only lxc")
	$(BIN)/python -m tests.bench $(ARGS)

clean: ## remove the virtual environment and caches; labs are removed by `labctl destroy`
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "installing python3-venv"; \
		$(SUDO) apt-get update -q; $(SUDO) apt-get install -qy python3-venv; }
	python3 -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.tools: Makefile | $(VENV)/.dev
	dpkg -s $(TEST_PACKAGES) >/dev/null 2>&1 || { $(SUDO) apt-get update -q && $(INSTALL) $(TEST_PACKAGES); }
	$(LABCTL) doctor --fix
	command -v go >/dev/null || $(INSTALL) -t "$$(. /etc/os-release && echo $$VERSION_CODENAME)-backports" golang-go \
		|| $(INSTALL) golang-go
	touch $@
