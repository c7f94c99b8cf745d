"""Optional packages: what needs one, and the command that installs it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from a3c.errors import InputError

CHECKOUT = Path(__file__).parents[1] / "pyproject.toml"


def missing(what: str, package: str, extra: str) -> InputError:
    """The error to raise where `package` is not installed; `extra` is pyproject.toml's name."""
    if CHECKOUT.is_file():
        command = f"pip install -e '.[{extra}]'"  # without -e, a copy takes the checkout's place
        return InputError(f"{what} needs {package}; in a checkout of a3c-gpu: {command}")
    return InputError(f"{what} needs {package}: pip install {' '.join(requirements(extra))}")


def requirements(extra: str) -> list[str]:
    """What an extra of the installed wheel asks for, quoted for a shell."""
    each = (line.split(";") for line in metadata.requires("a3c-gpu") or ())
    return [f"'{name.strip()}'" for name, *when in each if when and f'"{extra}"' in when[0]]
