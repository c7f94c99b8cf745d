"""Optional packages: what needs one, and the command that installs it."""

from __future__ import annotations

from a3c.config import InputError


def missing(what: str, package: str, extra: str) -> InputError:
    """The error to raise where `package` is not installed; `extra` is pyproject.toml's name."""
    command = f"pip install -e '.[{extra}]'"  # without -e, a copy takes the checkout's place
    return InputError(f"{what} needs {package}; in a checkout of a3c-gpu: {command}")
