# make train            train on Breakout;  ARGS="pong --total-agent-steps 2000000" goes to a3c train
# make test             lint, types and the whole test suite
PYTHON ?= python3
.PHONY: train test
.DELETE_ON_ERROR:

train: .venv/ready
	.venv/bin/a3c train $(ARGS)

test: .venv/ready-to-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest $(ARGS)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/ready-to-test: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@
