"""JSON without NaN and Infinity, which are not JSON; and reading of what may be damaged."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    """As json.dumps, with null in place of a number that is not finite."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def read(path: Path) -> dict[str, Any] | None:
    """The object in a file; None if there is none that can be read."""
    try:
        return read_object(path.read_bytes())
    except OSError:
        return None


def read_object(text: bytes) -> dict[str, Any] | None:
    """The object that a text is, with None for numbers that are not finite; None if it is none."""
    try:
        value = finite(json.loads(text))
    except (ValueError, RecursionError):  # no JSON, or no text
        return None
    return value if isinstance(value, dict) else None


def finite(value: Any) -> Any:
    """The same with None for every number that is not finite, however deep it lies."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
