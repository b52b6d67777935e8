"""The report's tables: texts and numbers ready to be set, not yet HTML."""

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
from tuneoff.tuning.outcomes import ended_text, outcomes, settings_text

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One cell: what it shows, what it sorts by, and whether it is the best of its column."""

    text: str
    value: float | str | None = None
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class ResultRow:
    """One method in the result table."""

    name: str
    method: str | None
    status: str | None
    """None where the method has a result."""
    runs: str
    cells: list[Cell]


def result_heads(material: Material) -> list[str]:
    """Heads of the result table after the method's name."""
    quality = [QUALITY_METRICS[key].title for key in _quality_keys(material)]
    costs = [_RESULT_COLUMNS[key][0] for key in _result_costs(material)]
    return [*quality, "trainable", *costs, "runs"]


def result_rows(material: Material) -> list[ResultRow]:
    """All methods, best first, those without a result last."""
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
        (sign * v, row["name"]) for row in material.rows if (v := mean_of(row, "quality", key))
    ]
    return max(found)[1] if found else None


def _score_cell(row: Row, key: str, *, best: bool) -> Cell:
    stat = row["quality"][key]
    return Cell(fmt.score(stat["mean"]), stat["mean"], fmt.spread(stat), best)


COST_COLUMNS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "train_seconds": ("train time", fmt.seconds),
    "peak_memory_bytes": ("peak memory", fmt.size),
    "storage_bytes": ("storage", fmt.size),
    "latency_seconds": ("latency", fmt.milliseconds),
}
"""The costs by which methods are weighed: head of the column, and how a value is shown."""
_RESULT_COLUMNS = {
    "train_seconds": COST_COLUMNS["train_seconds"],
    "samples_per_second": ("samples/s", fmt.rate),
    **COST_COLUMNS,
}


def _result_costs(material: Material) -> list[str]:
    """Latency only where a run has one: records of earlier versions have none."""
    known = any(mean_of(row, "cost", "latency_seconds") is not None for row in material.rows)
    return [key for key in _RESULT_COLUMNS if known or key != "latency_seconds"]


def _cost_cells(row: Row, keys: Iterable[str]) -> list[Cell]:
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
    """Heads and rows of a plain table."""

    heads: list[str]
    rows: list[list[Cell]]
    words: tuple[int, ...] = ()
    """Columns of running text."""


def split_table(task: TaskRecord) -> Table:
    """The splits in numbers."""
    heads = ["split", "rows", "median", "95 %", "longest", "cut rows", "cut tokens", "repeated"]
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
    """Sentences on texts that stand in two splits."""
    words = {"train": "training"}
    found = []
    for pair, rows in task.shared_rows.items():
        if rows:
            first, _, second = pair.partition("/")
            found.append(
                f"{fmt.count(rows)} {words.get(second, second)} rows have a text that stands among "
                f"the {words.get(first, first)} rows too."
            )
    return found


def tuning_table(material: Material) -> Table | None:
    """What each method's search found; None where nothing was searched."""
    tuning = material.summary["tuning"]
    if not tuning:
        return None
    heads = ["method", "trials", "default", "best", "search time", "found"]
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
    """The settings in which the methods differ, and those that all of them share."""
    train = {
        row["name"]: records[0].train
        for row in material.rows
        if (records := material.finished(row["name"]) or material.records.get(row["name"], []))
    }
    keys = list(dict.fromkeys(key for values in train.values() for key in values))
    texts = {key: {name: fmt.setting(v.get(key)) for name, v in train.items()} for key in keys}
    # references that train no encoder have no learning rate, epochs, …
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
    heads = ["method", *(key.replace("_", " ") for key in varying), "best epoch", "own settings"]
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
    """(text, names) for (name, text) pairs, equal texts joined."""
    found: dict[str, dict[str, None]] = {}
    for name, text in texts:
        found.setdefault(text, {})[name] = None
    return [(text, ", ".join(names)) for text, names in found.items()]


def all_records(material: Material) -> list[RunRecord]:
    """Every record, best method first, by seed."""
    return [
        record
        for row in material.rows
        for record in sorted(material.records.get(row["name"], []), key=lambda r: r.seed)
    ]


def run_table(material: Material) -> Table:
    """Every run on a line of its own."""
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
    return Table(["run", "status", f"test {title}", "training", "in all", "peak memory"], rows)


@dataclass(frozen=True)
class Failure:
    """Runs of one method that ended alike."""

    method: str
    status: str
    error: str | None
    runs: str


def failures(material: Material) -> list[Failure]:
    """The runs without a result, equal ones joined."""
    found: dict[tuple[str, str, str | None], list[str]] = {}
    for r in all_records(material):
        if r.status is not Status.FINISHED:
            key = (r.method.name, status_word(r.status), r.error)
            found.setdefault(key, []).append(r.run_id)
    return [Failure(*key, ", ".join(runs)) for key, runs in found.items()]


def environment(material: Material) -> list[tuple[str, str]]:
    """Where the runs ran: each fact once, with all its values where machines differ."""
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
