"""The Markdown of a benchmark: where it was measured, and of each part a table of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from benchmarks.rows import Results, Row, good

Lines = Iterator[str]
Table = Callable[[dict[str, Row]], Lines]
Tables = Mapping[str, tuple[str, Table]]  # by part: its title, its table


def preamble(title: str, script: str, results: Results, known: Sequence[str], *more: str) -> Lines:
    """known: names of facts about where this was measured, left out where they are not known."""
    where = results.where
    rows = [row for part in results.parts.values() for row in part.values()]
    commits = sorted({row["commit"] for row in rows if row["commit"]}) or ["unknown"]
    facts = [f"{name} {where[name]}" for name in known if where.get(name)]
    days = sorted({row["started"][:10] for row in rows}) or [where["started"][:10]]
    facts += [f"commit {', '.join(commits)}", ", ".join(days), *more]
    yield from [f"# {title}", "", f"`python {script}`: how each figure is made stands there.", ""]
    yield "; ".join(facts) + "."


def sections(results: Results, tables: Tables, command: str | None = None) -> Lines:
    """command: what measures a part, where each is to say so."""
    for part, (title, table) in tables.items():
        if part not in results.parts:
            continue
        yield from ["", f"## {title}", ""]
        yield from [f"`{command} --parts {part}`", ""] if command else []
        yield from section(results.parts[part], table)


def section(rows: dict[str, Row], table: Table) -> Lines:
    """What is good in a table, and what failed below it."""
    if found := good(rows):
        yield from table(found)
    for name, row in rows.items():
        if "failed" in row:
            yield f"\nFailed: {name}: {row['failed']}"


def header(names: Iterable[str], aligned: str) -> Lines:
    """The first lines of a table. aligned: l or r for each column."""
    yield line(names)
    yield line({"l": "---", "r": "---:"}[side] for side in aligned)


def line(cells: Iterable[str]) -> str:
    """Of a table."""
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def verdict(row: Row) -> str:
    return "ok" if row["ok"] else "**not ok**"
