"""`tuneoff methods`: the methods that can be compared."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def methods(
    name: Annotated[
        str | None, typer.Argument(help="Show the settings, paper and limits of this method.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the methods with what they train, their settings, papers and limits."""
    from tuneoff.methods import method
    from tuneoff.methods import methods as registered

    if name is not None:
        row = _row(name, method(name))
        _print_json(row) if as_json else _print_one(row)
        return
    rows = [_row(key, found) for key, found in registered().items()]
    _print_json(rows) if as_json else _print_all(rows)


def _row(name: str, method: Any) -> dict[str, Any]:
    return {
        "name": name,
        "family": method.family,
        "trains": method.summary,
        "settings": method.defaults(),
        "about_settings": " ".join((method.config.__doc__ or "").split()),
        "training": dict(method.train),
        "learning_rate_at_hidden_size_768": method.learning_rate,
        "paper": method.paper,
        "limits": method.limits,
    }


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))


def _print_all(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from tuneoff.display.console import Terminal

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("trains", ratio=1)
    family = None
    for row in rows:
        if row["family"] != family:
            family = row["family"]
            table.add_row(f"[dim]{family}[/]", "")
        table.add_row(f"  {row['name']}", row["trains"])
    console = Terminal()
    console.print(table)
    console.print("\nSettings, paper and limits of a method: tuneoff methods NAME")


def _print_one(row: dict[str, Any]) -> None:
    from rich.table import Table

    from tuneoff.display.console import Terminal

    rate = row["learning_rate_at_hidden_size_768"]
    lines = {
        "trains": row["trains"],
        "learning rate": f"{rate:g} at a hidden size of 768" if rate else None,
        "training": ", ".join(f"{k}: {v}" for k, v in row["training"].items()),
        "settings": "\n".join(f"{k}: {_short(v)}" for k, v in row["settings"].items()) or "none",
        "": row["about_settings"] if row["settings"] else None,
        "paper": row["paper"],
        "limits": row["limits"],
    }
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(ratio=1)
    for key, value in lines.items():
        if value:
            table.add_row(key, value)
    console = Terminal(highlight=False)
    console.print(f"[bold]{row['name']}[/] ({row['family']})")
    console.print(table, markup=False)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value in (None, {}) else str(value)
