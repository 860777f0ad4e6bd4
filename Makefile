# `make help` lists what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# python3 -m venv is made with this one
export PYTHON ?= python3
# molecule's scenario to run, or `all`
SCENARIO ?= all

# another release of ansible-core for .venv than the pinned one, such as 2.20
export KECHI_ANSIBLE_CORE ?=

# everything that ansible and molecule keep stays in this checkout
export ANSIBLE_HOME := $(CURDIR)/.ansible
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# what is not kept, each of Ansible's processes would compile anew: a third of a short playbook's time
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup host demo demo-clean test lint unit sanity fuzz molecule vps vms vms-clean docs clean
.PHONY: test-the-tests report-picture bench bench-memory bench-density bench-throughput bench-crawlers

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/stamp ## Make .venv, with the tools that the others here need

.venv/stamp: requirements-dev.txt pyproject.toml scripts/venv
	@scripts/venv

host:
	@scripts/host-packages $(firstword $(MAKECMDGOALS))

demo: export KECHI_BEGAN := $(shell date +%s)
demo: host .venv/stamp ## Start a VPS in a container, put the example sites on it, show them
	@python -m containers.demo

demo-clean: .venv/stamp ## Remove the demo's container, network and images
	@python -m containers.demo clean

test: export KECHI_BEGAN := $(shell date +%s)
test: host .venv/stamp ## Run all that the gate runs: lint, unit, molecule; QUICK=1 before a commit
	@python -m scripts.run_tests $(if $(QUICK),--quick)

lint: .venv/stamp ## Check style and types: ruff, mypy, ansible-lint
	@python -m scripts.run_tests lint

# UNIT_WORKERS=4 at once
unit: .venv/stamp ## Run the tests that need no container
	@python -m scripts.run_tests unit

# seconds for each of the nine readers: an hour
FUZZ_SECONDS ?= 400
fuzz: .venv/stamp ## Fuzz what reads bytes of others, for an hour; FUZZ_SECONDS for each reader
	KECHI_FUZZ_SECONDS=$(FUZZ_SECONDS) pytest tests/fuzz

sanity: .venv/stamp ## Run ansible-test's sanity tests on the built collection; not in `make test`
	@python -m scripts.sanity

# WORKERS=1 for one after the other, SHARD=2/4 for those of the second of four machines
molecule: host .venv/stamp ## Run the scenarios in containers; SCENARIO=default for one
	@python -m containers.build
ifeq ($(SCENARIO),all)
	@python -m scripts.scenarios $(if $(WORKERS),--workers=$(WORKERS)) $(if $(SHARD),--shard=$(SHARD))
else
	molecule test --scenario-name $(SCENARIO) --no-command-borders
endif

# BREAK=no-freeze for one, BREAK=--without-containers for those of files of tests; half an hour for all
test-the-tests: host .venv/stamp ## Break each promise in turn, and see its tests fail
	@python -m containers.build
	@python -m scripts.test_the_tests $(BREAK)

vps: host .venv/stamp ## Try a whole VPS, in a VM of 1 GB; not in `make test`
	molecule test --scenario-name vps --no-command-borders

vms: host .venv/stamp ## Run the role swap's scenarios, in VMs, also where those are emulated
	@python -m scripts.scenarios --workers=1 swap_file swap_zram swap_resize swap_interrupted

vms-clean: .venv/stamp ## Remove the VMs and their images
	@python -m vms.machines clean

docs: .venv/stamp ## Write the variables into each role's README, from its argument_specs
	python -m scripts.role_docs

bench: .venv/stamp ## Measure the super-daemon: memory and speed
	python -m benchmarks.supervisor

# more options: python -m benchmarks.memory --help
bench-memory: .venv/stamp ## Measure eight apps in memory, beside peers
	python -m benchmarks.memory

bench-density: .venv/stamp ## Measure how many apps fit into 1 GB; as root, for a cgroup
	python -m benchmarks.density

bench-throughput: .venv/stamp ## Measure requests per second, beside peers
	@scripts/host-packages bench-throughput
	python -m benchmarks.throughput

bench-crawlers: .venv/stamp ## Measure crawler_report's lines per second, beside GoAccess
	@scripts/host-packages bench-crawlers
	python -m benchmarks.crawlers

REPORT ?= $(firstword $(wildcard reports/*test_no_request_fails_in_restarts_by_hup/results.jsonl))
report-picture: .venv/stamp ## Draw docs/restarts.svg from the report of the restarts
	@test -n "$(REPORT)" || { echo "no report yet: make molecule SCENARIO=restart_hup" >&2; exit 1; }
	python -m harness picture $(REPORT) docs/restarts.svg

clean: ## Remove .venv and all caches; `make demo-clean` first, for the containers
	rm -rf .venv .ansible .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info build dist
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
