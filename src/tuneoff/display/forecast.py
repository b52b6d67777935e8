"""Terminal output of a forecast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuneoff import formatting as fmt

_HEADS = ("runs", "training", "total", "memory", "storage", "on disk")


def render_forecast(forecast: Mapping[str, Any]) -> RenderableType:
    """Return the table of a forecast; it fits 80 columns.

    Args:
        forecast: Content of `forecast.json`.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("method", overflow="fold", min_width=8)
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for own in forecast["methods"]:
        cells = [
            str(len(own["runs"])),
            fmt.seconds(own["train_seconds"], gap=""),
            fmt.seconds(own["total_seconds"], gap=""),
            fmt.size(own["peak_memory_bytes"]),
            fmt.size(own["storage_bytes"]),
            fmt.size(own["disk_bytes"]),
        ]
        table.add_row(Text(fmt.one_line(own["name"])), *map(Text, cells))
    lines = [Text(line, style="dim") for line in _notes(forecast)]
    return Group(table, Text(), Text(_totals(forecast)), *lines)


def _totals(forecast: Mapping[str, Any]) -> str:
    study, runs = forecast["study"], len(forecast["runs"])
    how = f", {study['workers']} runs at a time" if study["workers"] > 1 else ""
    text = (
        f"Study: {runs} {'run' if runs == 1 else 'runs'} in {fmt.seconds(study['seconds'])}"
        f"{how}; {fmt.size(study['disk_bytes'])} on disk"
    )
    if study["checkpoint_bytes"]:
        text += f", and {fmt.size(study['checkpoint_bytes'])} of checkpoints during the runs"
    if study["trials_seconds"] is not None:
        text += f". Trials of the search: up to {fmt.seconds(study['trials_seconds'])}"
    if study.get("finished"):
        text += f". Already finished runs, not repeated: {study['finished']}"
    if study.get("more_seeds_seconds") is not None:
        text += f". Further seeds: up to {fmt.seconds(study['more_seeds_seconds'])} in addition"
    return text + "."


def _notes(forecast: Mapping[str, Any]) -> list[str]:
    found = ["Values per run. Storage: size of the saved weights in addition to the base model."]
    shared: dict[str, list[Mapping[str, Any]]] = {}
    for own in forecast["methods"]:
        if own["prefix"] and own["prefix_seconds"]:
            shared.setdefault(own["prefix"], []).append(own)
    found += [
        f"{', '.join(fmt.one_line(o['name']) for o in group)}: {fmt.seconds(worst)} and"
        f" {fmt.size(group[0]['prefix_bytes'])} once, for the cached output of the frozen layers."
        for group in shared.values()
        for worst in [max(o["prefix_seconds"] for o in group)]
    ]
    found += [
        f"{fmt.one_line(own['name'])}: {own['status'].replace('_', ' ')}: "
        + fmt.one_line(own["error"] or "")
        for own in forecast["methods"]
        if own["status"] != "finished"
    ]
    return found
