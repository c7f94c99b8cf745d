# make train            train on Breakout;  ARGS="pong --total-agent-steps 1300000" goes to a3c train
# make test             lint, types and all tests;  ARGS="tests/a3c/test_loss.py" goes to pytest
PYTHON ?= python3
# All tests: by a process for each core, as far as the memory of a small machine goes; a file's by
# one, in their order, so that what they share is made once. A few tests need no more processes.
TESTS = $(or $(ARGS),--numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
# A .venv of a Python that is too old is made anew: another PYTHON would find that one in it
INSTALL = { .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
  $(PYTHON) -m venv --clear .venv; } && \
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MAKEFLAGS += --jobs=2
.PHONY: train test checked
.DELETE_ON_ERROR:

train: .venv/ready
	.venv/bin/a3c train $(ARGS)

test: checked $(if $(ARGS),,.venv/emulator)
	.venv/bin/python -m pytest $(TESTS)

checked: .venv/ready-to-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# Here once, and beside mypy: each of the processes that run the tests would compile it for itself
.venv/emulator: .venv/ready-to-test $(wildcard atari2600/*.py atari2600/*/*.py)
	.venv/bin/python -c 'from atari2600 import AtariEnv; AtariEnv("pong")'
	touch $@

.venv/ready: pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/ready-to-test: pyproject.toml constraints.txt
	$(INSTALL) --no-compile -e '.[test]'
	touch .venv/ready $@
