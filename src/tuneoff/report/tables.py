"""Tables of the report: texts and numbers for the template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.comparison.summary import mean_of
from tuneoff.display.study_table import status_word
from tuneoff.report.figures.base import Material
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord, Status, TaskRecord
from tuneoff.results.summary import MethodSummary, half_width
from tuneoff.tuning.outcomes import ended_text, outcomes, settings_text


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    """Displayed text."""
    value: float | str | None = None
    """Value for sorting."""
    note: str = ""
    """Small text below or after it."""
    best: bool = False
    """Whether it is the best of its column."""


@dataclass(frozen=True)
class ResultRow:
    """A method in the results table."""

    name: str
    """Name in the study."""
    method: str | None
    """Registered name of the method, if it differs."""
    status: str | None
    """Status as text; None if the method has a result."""
    runs: str
    """Numbers of finished and of all runs, such as `2/3`."""
    cells: list[Cell]
    """Scores and costs."""


def result_heads(material: Material) -> list[str]:
    """Return the headings of the results table after the method."""
    quality = [QUALITY_METRICS[key].title for key in _quality_keys(material)]
    costs = [_RESULT_COLUMNS[key][0] for key in _result_costs(material)]
    return [*quality, "trainable", *costs, "runs"]


def result_rows(material: Material) -> list[ResultRow]:
    """Return the rows of the results table, best first, methods without a result last."""
    keys = _quality_keys(material)
    best = {key: _best(material, key) for key in keys}
    rows = []
    for row in material.rows:
        done = len(row["runs"]) - len(row["failed"])
        measured = mean_of(row, "quality", "accuracy") is not None
        cells = [_score_cell(row, key, best=measured and row["name"] == best[key]) for key in keys]
        rows.append(
            ResultRow(
                row["name"],
                row["method"] if row["method"] != row["name"] else None,
                None if measured else status_word(row["status"]),
                f"{done}/{len(row['runs'])}",
                cells + _cost_cells(row, _result_costs(material)),
            )
        )
    return rows


def _quality_keys(material: Material) -> list[str]:
    keys = ["accuracy", "macro_f1"]
    metric = material.summary["metric"]
    return keys if metric in keys or metric not in QUALITY_METRICS else [*keys, metric]


def _best(material: Material, key: str) -> str | None:
    sign = 1 if QUALITY_METRICS[key].higher_is_better else -1
    found = [
        (sign * value, row["name"])
        for row in material.rows
        if (value := mean_of(row, "quality", key)) is not None
    ]
    return max(found)[1] if found else None


def _score_cell(row: MethodSummary, key: str, *, best: bool) -> Cell:
    stat = row["quality"][key]
    return Cell(fmt.score(stat["mean"]), stat["mean"], fmt.spread(half_width(stat)), best)


COST_COLUMNS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "train_seconds": ("train time", fmt.seconds),
    "peak_memory_bytes": ("peak memory", fmt.size),
    "storage_bytes": ("storage", fmt.size),
    "latency_seconds": ("latency", fmt.milliseconds),
}
"""Costs that the comparison uses: heading of the column, and format of a value."""
_RESULT_COLUMNS = {
    "train_seconds": COST_COLUMNS["train_seconds"],
    "samples_per_second": ("samples/s", fmt.rate),
    **COST_COLUMNS,
}


def _result_costs(material: Material) -> list[str]:
    """Return the cost columns, with latency only if a record has it (older versions have none)."""
    known = any(mean_of(row, "cost", "latency_seconds") is not None for row in material.rows)
    return [key for key in _RESULT_COLUMNS if known or key != "latency_seconds"]


def _cost_cells(row: MethodSummary, keys: Iterable[str]) -> list[Cell]:
    p = row["parameters"]
    share = fmt.percent(p["trainable_percent"]) if p and p["trainable"] else ""
    trainable = Cell(fmt.count(p["trainable"]), p["trainable"], share) if p else Cell(fmt.MISSING)
    costs = [
        Cell(_RESULT_COLUMNS[key][1](value), value)
        for key in keys
        for value in [mean_of(row, "cost", key)]
    ]
    return [trainable, *costs]


@dataclass(frozen=True)
class Table:
    """A plain table."""

    heads: list[str]
    """Headings of the columns."""
    rows: list[list[Cell]]
    """Cells by row."""
    words: tuple[int, ...] = ()
    """Indices of columns with running text."""


def split_table(task: TaskRecord) -> Table:
    """Return the numbers of rows and the lengths of each split."""
    heads = ["split", "rows", "median length", "95 %", "longest", "truncated rows"]
    heads += ["truncated tokens", "duplicates"]
    names = [name for name in ("train", "validation", "test") if name in task.splits]
    rows = []
    for name in names:
        s = task.splits[name]
        cut = fmt.percent(100 * s.cut_rows / s.rows) if s.rows else ""
        rows.append(
            [
                Cell("training" if name == "train" else name),
                Cell(fmt.count(s.rows)),
                Cell(fmt.count(s.lengths.median)),
                Cell(fmt.count(s.lengths.q95)),
                Cell(fmt.count(s.lengths.most)),
                Cell(fmt.count(s.cut_rows), note=cut if s.cut_rows else ""),
                Cell(fmt.percent(100 * s.cut_tokens_share)),
                Cell(fmt.count(s.duplicate_rows)),
            ]
        )
    return Table(heads, rows)


def shared_rows(task: TaskRecord) -> list[str]:
    """Return sentences about texts that occur in two splits."""
    words = {"train": "training"}
    found = []
    for pair, rows in task.shared_rows.items():
        if rows:
            first, _, second = pair.partition("/")
            found.append(
                f"{fmt.count(rows)} {words.get(second, second)} rows have a text that is also in "
                f"the {words.get(first, first)} rows."
            )
    return found


def tuning_table(material: Material) -> Table | None:
    """Return the result of each method's search; None without searches."""
    tuning = material.summary["tuning"]
    if not tuning:
        return None
    heads = ["method", "trials", "default", "best", "search time", "best settings"]
    rows = [
        [
            Cell(found.name),
            Cell(ended_text(found) if found.trials else fmt.MISSING, found.trials),
            Cell(fmt.score(found.start), found.start),
            Cell(fmt.score(found.best), found.best),
            Cell(fmt.seconds(found.seconds), found.seconds),
            Cell(settings_text(found.settings)),
        ]
        for found in outcomes(tuning)
    ]
    return Table(heads, rows, words=(len(heads) - 1,))


_ALWAYS = ("learning_rate", "epochs", "batch_size")


def settings(material: Material) -> tuple[Table, list[tuple[str, str]]]:
    """Return the settings that differ between methods, and those that all of them share."""
    train = {
        row["name"]: records[0].train
        for row in material.rows
        if (records := material.finished(row["name"]) or material.records.get(row["name"], []))
    }
    keys = list(dict.fromkeys(key for values in train.values() for key in values))
    texts = {key: {name: fmt.setting(v.get(key)) for name, v in train.items()} for key in keys}
    # methods that train no encoder have no learning rate, epochs, …
    varying = [
        key for key in keys if key in _ALWAYS or len(set(texts[key].values()) - {fmt.MISSING}) > 1
    ]
    varying.sort(key=lambda key: _ALWAYS.index(key) if key in _ALWAYS else len(_ALWAYS))
    rows = [
        [
            Cell(name),
            *(Cell(texts[key][name]) for key in varying),
            Cell(_best_epochs(material, name)),
            Cell(_config(material, name)),
        ]
        for name in train
    ]
    heads = ["method", *(key.replace("_", " ") for key in varying), "best epoch", "method settings"]
    common = [
        (key.replace("_", " "), next(t for t in texts[key].values() if t != fmt.MISSING))
        for key in keys
        if key not in varying and set(texts[key].values()) != {fmt.MISSING}
    ]
    return Table(heads, rows, words=(len(heads) - 1,)), common


def _best_epochs(material: Material, name: str) -> str:
    epochs = [r.best_epoch for r in material.finished(name) if r.best_epoch is not None]
    if len(set(epochs)) == 1:
        return str(epochs[0])
    return ", ".join(map(str, epochs)) or fmt.MISSING


def _config(material: Material, name: str) -> str:
    records = material.records[name]
    return fmt.setting(records[0].method.config) if records else fmt.MISSING


def grouped(texts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Group (name, text) pairs by text, and return (text, names) pairs."""
    found: dict[str, dict[str, None]] = {}
    for name, text in texts:
        found.setdefault(text, {})[name] = None
    return [(text, ", ".join(names)) for text, names in found.items()]


def all_records(material: Material) -> list[RunRecord]:
    """Return all records, best method first, by seed."""
    return [
        record
        for row in material.rows
        for record in sorted(material.records.get(row["name"], []), key=lambda r: r.seed)
    ]


def run_table(material: Material) -> Table:
    """Return a table with one row per run."""
    metric = material.summary["metric"]
    title = QUALITY_METRICS[metric].title if metric in QUALITY_METRICS else metric
    rows = []
    for r in all_records(material):
        value = getattr(r.quality.test, metric, None) if r.quality.test else None
        rows.append(
            [
                Cell(r.run_id, r.run_id),
                Cell(status_word(r.status), str(r.status)),
                Cell(fmt.score(value, 4), value),
                Cell(fmt.seconds(r.cost.train_seconds), r.cost.train_seconds),
                Cell(fmt.seconds(r.cost.total_seconds), r.cost.total_seconds),
                Cell(fmt.size(r.cost.peak_memory_bytes), r.cost.peak_memory_bytes),
            ]
        )
    heads = ["run", "status", f"test {title}", "train time", "total time", "peak memory"]
    return Table(heads, rows)


@dataclass(frozen=True)
class Failure:
    """Runs of one method with the same error."""

    method: str
    """Name of the method."""
    status: str
    """Status as text."""
    error: str | None
    """Error message."""
    runs: str
    """Ids of the runs."""


def failures(material: Material) -> list[Failure]:
    """Return the runs without a result, grouped by method and error."""
    found: dict[tuple[str, str, str | None], list[str]] = {}
    for r in all_records(material):
        if r.status is not Status.FINISHED:
            key = (r.method.name, status_word(r.status), r.error)
            found.setdefault(key, []).append(r.run_id)
    return [Failure(*key, ", ".join(runs)) for key, runs in found.items()]


def environment(material: Material) -> list[tuple[str, str]]:
    """Return the facts about the machines, with all values of a fact if they differ."""
    facts: dict[str, dict[str, None]] = {}
    for machine in material.summary["environment"]:
        for key, value in _flat(machine):
            facts.setdefault(key, {})[value] = None
    return [(key, " / ".join(values)) for key, values in facts.items()]


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in content.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} · ")
        elif str(key).endswith("_bytes") and isinstance(value, int | float):
            yield name.removesuffix(" bytes"), fmt.size(value)
        elif value is not None:
            yield name, fmt.setting(value)
