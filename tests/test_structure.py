"""Imports run one way, and each package knows only what it should."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = [*(ROOT / "a3c").rglob("*.py"), *(ROOT / "atari2600").rglob("*.py")]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


IMPORTS = {name: set(imported(path)) for name, path in MODULES.items()}


def circle(name: str, way: tuple[str, ...], done: set[str]) -> tuple[str, ...]:
    """The first circle that is found from here on, or nothing."""
    if name in way:
        return (*way[way.index(name) :], name)
    if name in done:
        return ()
    found = (circle(other, (*way, name), done) for other in IMPORTS[name] & set(MODULES))
    first = next(filter(None, found), ())
    done.add(name)
    return first


def test_no_module_imports_itself_by_a_detour() -> None:
    done: set[str] = set()
    assert [found for name in MODULES if (found := circle(name, (), done))] == []


def test_a_circle_would_be_found() -> None:
    IMPORTS["a3c.config"].add("a3c.cli")
    try:
        assert circle("a3c.cli", (), set())
    finally:
        IMPORTS["a3c.config"].remove("a3c.cli")


def users(wanted: str) -> set[str]:
    """The modules that import `wanted` or something in it."""
    return {
        name
        for name, names in IMPORTS.items()
        if any(other == wanted or other.startswith(f"{wanted}.") for other in names)
    }


def test_the_emulator_stands_alone() -> None:
    """With what docs/emulator.md has for it, and Python's own; pygame is a window's."""
    own = [names for name, names in IMPORTS.items() if name.startswith("atari2600")]
    needs = {name.partition(".")[0] for names in own for name in names} - sys.stdlib_module_names
    assert needs <= {"atari2600", "numpy", "numba", "llvmlite", "gymnasium", "pygame"}
    outside = {user for user in users("atari2600") if not user.startswith("atari2600")}
    assert all(user.startswith("a3c.envs") for user in outside)


def test_ray_is_imported_only_where_a_run_asks_for_nodes() -> None:
    """And what nodes tell each other knows nothing of it."""
    knows = {"cluster", "machines", "member"}
    assert users("ray") == {f"a3c.cluster.{name}" for name in knows}
    for name in ("cluster", "member"):
        assert users(f"a3c.cluster.{name}") <= {"a3c.train", "a3c.cluster.cluster"}


def test_training_knows_nothing_of_what_is_done_with_its_results() -> None:
    assert users("a3c.results") <= {"a3c", "a3c.cli"} | {
        name for name in MODULES if name.startswith("a3c.results")
    }


def test_only_who_makes_a_run_knows_the_methods() -> None:
    makers = {"a3c.methods", "a3c.node", "a3c.memory", "a3c.cluster.cluster", "a3c.results.policy"}
    assert users("a3c.methods") | users("a3c.value_methods") <= makers


def test_the_gate_knows_no_tensor() -> None:
    assert not [name for name in IMPORTS["a3c.gate"] if name.split(".")[0] in ("torch", "a3c")]
