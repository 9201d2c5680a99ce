# `make demo` and `make test` do all the set-up themselves on a machine with Python 3.11 to 3.13 and pip.
# Everything goes into .venv; nothing outside this folder is changed, but for mosquitto, see `mosquitto` below.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
PYTEST := $(BIN)/python -m pytest --dist loadgroup -n

# Modules without input and output: every line and branch of them is tested.
PURE := wire/*,agent/effects.py,agent/events.py,agent/doctor/finding.py,agent/doctor/machine.py,agent/doctor/service.py,agent/doctor/versions.py,agent/hardware_watch.py,agent/lifecycle.py,agent/pace.py,agent/refresh.py,agent/reporting.py,agent/state.py,agent/status.py,agent/thermostat.py,agent/transfer.py,converter/answers.py,converter/difference.py,converter/evaluate.py,converter/inspection/bundle.py,converter/inspection/keras_config.py,converter/inspection/keras_facts.py,converter/inspection/keras_page.py,converter/inspection/keras_weights.py,converter/inspection/layout.py,converter/inspection/page.py,converter/inspection/saved_model_facts.py,converter/inspection/saved_model_graph.py,converter/inspection/saved_model_page.py,converter/inspection/tflite_cost.py,converter/inspection/tflite_facts.py,converter/inspection/tflite_page.py,converter/intervals.py,converter/kernel_types.py,converter/kernel_versions.py,converter/legality.py,converter/latency.py,converter/metrics.py,converter/objective.py,converter/repair/plan.py,converter/request.py,converter/schemes.py,converter/selection.py,converter/table.py,fleet/differences.py,fleet/documents.py,fleet/monitor/view.py,fleet/tensors.py,fleet/status.py,fleet/origin.py,fleet/push.py,converter/comparison.py,converter/embedding.py,converter/html/*,converter/outliers.py,inference/flatbuffer.py,inference/preprocessing.py,inference/resampling.py,converter/layer_sums.py,fleet/mosquitto/configuration.py,converter/inspection/tflite_fusion.py,fleet/enroll/hardware.py,converter/formats/refusals.py,fleet/roots.py

# The same in the training.
TRAINING_PURE := converter/training/batches.py,converter/training/centroids.py,converter/training/kinds.py,converter/training/masks.py,converter/training/recipe.py,converter/training/strategies.py

.PHONY: demo test check acceptance machines soak fuzz power-cuts wheel clean mosquitto

# The same in the serving process.
SERVING_PURE := agent/serving/inflating.py,agent/serving/nested_json.py,agent/serving/oip_classes.py,agent/serving/pipelines/framing.py,agent/serving/protobuf.py,agent/serving/protos.py,agent/serving/signatures.py,agent/serving/tfs_examples.py,agent/serving/tfs_json.py,agent/serving/tfs_paths.py,agent/serving/tfs_predict.py,agent/serving/tfs_tensors.py

demo: $(VENV)/.ready ## set up, then go the whole way: train, convert, push, pull, prove, infer, roll back
	$(BIN)/edgeferry demo

# One worker more than processors: much of this is waiting for processes and sockets.
test: $(VENV)/.ready mosquitto ## set up, run every test that takes seconds, and see how much of the code they reach
	rm -f .coverage .coverage.*
	$(PYTEST) $$(( $(WORKERS) + 1 )) -m "not acceptance and not soak" --cov=edgeferry --cov-branch --cov-report=
	$(BIN)/coverage report --skip-covered --skip-empty --fail-under=90
	$(BIN)/coverage report --include="$(PURE),$(SERVING_PURE),$(TRAINING_PURE)" --fail-under=100

check: $(VENV)/.ready ## lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

acceptance: $(VENV)/.ready mosquitto ## tests that take minutes
	$(PYTEST) $(WORKERS) -m acceptance

machines: $(VENV)/.ready mosquitto ## tests on a whole machine in a container; as root, on Debian
	$(PYTEST) 0 -m machines

soak: $(VENV)/.ready mosquitto ## tests that take an hour: 1,000 random kills among them
	$(PYTEST) $(WORKERS) -m soak

INPUTS ?= 1000000
FIRST ?= 0

fuzz: $(VENV)/.ready ## a million inputs for the parsers, some minutes; FIRST=1000000 makes others
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS) --first $(FIRST)

power-cuts: $(VENV)/.ready ## cut the power after every step on the disk, start again on all that may be left, and count
	$(BIN)/python -m tests.agent.cutting

wheel: $(VENV)/.ready ## build the wheel into dist/
	$(BIN)/python -m build --wheel

mosquitto: ## the tests run on the embedded broker and on mosquitto
	@command -v mosquitto >/dev/null || test -x /usr/sbin/mosquitto || sh tests/install-mosquitto.sh

clean: ## remove everything that was made here
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "edgeferry needs Python 3.11 to 3.13, found $$($(PYTHON) --version); try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 78; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[agent,grpc,host,dev]"
	touch $@
