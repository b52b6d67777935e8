"""`tuneoff methods`: what there is to compare."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the methods: what each trains, its settings and their defaults."""
    from rich.console import Console
    from rich.table import Table

    from tuneoff.methods import methods as registered

    rows = [_row(name, m) for name, m in registered().items()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("trains")
    table.add_column("settings", ratio=1)
    for row in rows:
        settings = ", ".join(f"{k}={_short(v)}" for k, v in row["settings"].items())
        table.add_row(row["name"], row["trains"], settings or "–")
    console = Console()
    console.print(table)
    console.print("\nMore on each (learning rate, paper, limits): tuneoff methods --json")


def _row(name: str, method: Any) -> dict[str, Any]:
    return {
        "name": name,
        "family": method.family,
        "trains": method.summary,
        "settings": method.defaults(),
        "training": dict(method.train),
        "learning_rate_at_hidden_size_768": method.learning_rate,
        "paper": method.paper,
        "limits": method.limits,
    }


def _short(value: Any) -> str:
    return "+".join(value) if isinstance(value, list | tuple) else str(value)
