"""The wheel, built and installed as docs/running.md says, and used outside the checkout."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

from a3c.run import models
from atari2600 import AtariVectorEnv
from atari2600.backends import cpu
from tests.commands.test_readme import PAGES, ROOT, console


def can_build() -> bool:
    """Whether the build's requirements are here: fetching them anew would take longer than it."""
    if not (importlib.util.find_spec("setuptools") and importlib.util.find_spec("pip")):
        return False
    return int(metadata.version("setuptools").split(".")[0]) >= 77


pytestmark = pytest.mark.skipif(
    not can_build(), reason="needs pip and setuptools 77 or newer: pip install -e '.[test]'"
)
SOURCES = ["a3c", "atari2600", "models", "a3c_command.py", "pyproject.toml", "README.md"]
CACHE = "__pycache__"
SHIPPED = ("model.safetensors", "scores.json")  # of a folder of models/


class Wheel(NamedTuple):
    file: Path
    installed: Path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """Built from a copy of the sources, installed beside the packages that it needs."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(CACHE))
        else:
            shutil.copy(ROOT / name, source / name)
    lines = console(PAGES["docs/running.md"])
    (build,) = (line for line in lines if line.startswith("pip wheel "))
    (install,) = (line for line in lines if line.endswith(".whl"))
    installed = tmp_path_factory.mktemp("installed")
    pip(f"{build} --no-build-isolation", source)
    pip(f"{install} --no-deps --target {installed}", source)
    (file,) = (source / "dist").iterdir()
    return Wheel(file, installed)


def pip(line: str, folder: Path) -> None:
    """A command of the docs, with the Python of the tests."""
    words = [sys.executable, "-m", *shlex.split(line), "--quiet", "--disable-pip-version-check"]
    subprocess.run(words, cwd=folder, check=True)


@pytest.fixture
def outside(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder elsewhere, where the wheel's modules come before the checkout's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(wheel.installed))
    return tmp_path


def test_it_has_all_that_the_checkout_has(wheel: Wheel) -> None:
    with zipfile.ZipFile(wheel.file) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {"a3c_command.py", "a3c_models/__init__.py"}
    for package in ("a3c", "atari2600"):
        files = (path for path in (ROOT / package).rglob("*") if path.is_file())
        expected |= {str(path.relative_to(ROOT)) for path in files if path.parent.name != CACHE}
    for game in models.shipped():
        expected |= {f"a3c_models/{game}/{name}" for name in SHIPPED}
    assert there == expected


def test_it_says_what_it_needs(wheel: Wheel) -> None:
    (found,) = metadata.distributions(name="a3c-gpu", path=[str(wheel.installed)])
    assert [each.name for each in found.entry_points] == ["a3c"]
    extras = found.metadata.get_all("Provides-Extra") or []
    assert {"mujoco", "box2d", "human", "study", "export", "cluster"} <= set(extras)
    assert (found.version, found.metadata["Requires-Python"]) == ("0.1.0", ">=3.11")


def imported(path: Path) -> Iterator[str]:
    """The top-level modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name.split(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_it_needs_what_it_imports(wheel: Wheel) -> None:
    """Or has it with what it needs: llvmlite is Numba's, cycler Matplotlib's."""
    (found,) = metadata.distributions(name="a3c-gpu", path=[str(wheel.installed)])
    needed = {re.split(r"[^\w.-]", each)[0].lower() for each in found.requires or []}
    ours = {"a3c", "a3c_models", "atari2600"}
    files = [path for name in ours for path in (wheel.installed / name).rglob("*.py")]
    names = {name for path in files for name in imported(path)}
    foreign = names - ours - sys.stdlib_module_names - {"llvmlite", "cycler"}
    assert {"numba", "torch", "tyro"} <= foreign
    makers = metadata.packages_distributions()
    assert not [
        name for name in foreign if not needed & {each.lower() for each in makers.get(name, [name])}
    ]


def test_its_command_plays_a_model_that_ships(wheel: Wheel, outside: Path) -> None:
    take_along_what_is_compiled(wheel.installed)
    command = [str(wheel.installed / "bin" / "a3c"), "play", "breakout", "--no-film"]
    budget = ["--episodes", "1", "--max-agent-steps", "200", "--out", "played"]
    done = subprocess.run([*command, *budget], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compiling" not in done.stderr
    assert (outside / "played" / "scores.json").is_file()


def take_along_what_is_compiled(installed: Path) -> None:
    """The emulator's machine code, as far as it is kept: it is valid for the same sources."""
    AtariVectorEnv("breakout", num_envs=1).close()
    kept = cpu.run._cache._cache_path
    folder = installed / "atari2600" / "backends" / CACHE
    folder.mkdir(exist_ok=True)
    for path in Path(kept).glob("cpu.run-*"):
        shutil.copy2(path, folder)


def test_its_modules_are_used_and_its_models_listed(wheel: Wheel, outside: Path) -> None:
    """And it names packages, not a checkout, where one is missing."""
    code = """
import sys
import a3c, a3c_models, atari2600
from a3c import cli
print(a3c.__file__, a3c_models.__file__, atari2600.__file__, sep="\\n")
assert cli.main(["models"]) == 0
sys.modules["onnx"] = None
assert cli.main(["export", "breakout"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    places = done.stdout.splitlines()[:3]
    assert all(Path(place).is_relative_to(wheel.installed) for place in places)
    assert "space_invaders" in done.stdout
    assert "a3c export needs onnx: pip install 'onnx>=" in done.stderr
    assert "'onnxscript>=" in done.stderr
    assert list(outside.iterdir()) == []
