"""Evaluation of runs and exports on a labelled file: read, predict, score, compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.evaluation.models import common_labels, names, saved_model
from tuneoff.evaluation.result import (
    EvaluatedRun,
    Evaluation,
    TextStatistics,
    compared,
    intervals,
    label_shift,
)
from tuneoff.exceptions import BadInput, Issue, nearest
from tuneoff.results.record import Scores
from tuneoff.results.scores import scores
from tuneoff.tables import Columns, Table, choose_columns, read_table

if TYPE_CHECKING:
    import pandas as pd

    from tuneoff.engine.inference import Predictor, TextClassifier

Progress = Callable[[str, int, int], None]
SHOWN = 5
"""Maximum number of lines that a message lists for an unknown label."""


def evaluate_runs(
    paths: Sequence[Path],
    source: str,
    columns: Columns,
    *,
    device: str = "auto",
    note: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda run, done, rows: None,
) -> Evaluation:
    """Evaluate runs on labelled rows and compare them.

    Args:
        paths: Folders of runs and exports, all with the same labels.
        source: File or hub data set with the rows.
        columns: Its columns. If text or label is None, it is the column of the study, or is
            detected from the values.
        device: Device of the predictions.
        note: Called with each note on the data.
        progress: Called with the run, the rows done, and all rows.

    Raises:
        BadInput: A run has no model, the runs have different labels, or the rows cannot be used.
    """
    models = [saved_model(path) for path in paths]
    labels = common_labels(models)
    first = models[0]
    table = _read(source, columns, first.columns, labels, note)
    study_rows = first.study_rows()
    _note_overlap(table, study_rows, note)
    test_rows = None if study_rows is None else study_rows[study_rows["split"] == "test"]
    tables, texts, test_texts = [], None, None
    for model in models:
        predictor = model.open(device)
        tables.append(_predicted(predictor, table.frame, model.run_id, progress))
        if texts is None:
            texts = _statistics(predictor, table.frame)
            test_texts = None if test_rows is None else _statistics(predictor, test_rows)
    new = [RunPredictions.from_table(predicted, labels, _groups(table)) for predicted in tables]
    by_method: dict[str, list[RunPredictions]] = {}
    for name, predictions in zip(names(models), new, strict=True):
        by_method.setdefault(name, []).append(predictions)
    both_intervals = intervals(new, [model.test_predictions() for model in models], len(labels))
    counts, test_counts = _counts(table.frame, labels), None
    if test_rows is not None:
        test_counts = _counts(test_rows, labels)
    margin = first.study.spec().margin if first.study else 0.01
    return Evaluation(
        source=source,
        rows=len(table.frame),
        labels=counts,
        test_labels=test_counts,
        runs=[
            EvaluatedRun(model.run_id, name, model.seed, _scores(predicted, labels), *both)
            for model, name, predicted, both in zip(
                models, names(models), tables, both_intervals, strict=True
            )
        ],
        metric=first.metric,
        label_shift=None if test_counts is None else label_shift(counts, test_counts),
        texts=texts,
        test_texts=test_texts,
        pairwise=compared(by_method, first.metric, len(labels), margin),
    )


def _read(
    source: str,
    columns: Columns,
    usual: Columns,
    labels: Sequence[str],
    note: Callable[[str], None],
) -> Table:
    """Read the labelled rows.

    Raises:
        BadInput: The runs do not have one of the labels.
    """
    given = replace(columns, text_pair=columns.text_pair or usual.text_pair)
    chosen, notes = choose_columns(source, given, "test", usual=usual)
    table = read_table(source, chosen, "test")
    for text in [*notes, *table.warnings]:
        note(text)
    unknown = table.frame[~table.frame["label"].isin(labels)]
    place = "line" if "line" in table.frame else "row"
    issues = []
    for label, rows in unknown.groupby("label"):
        places = ", ".join(str(number) for number in rows[place][:SHOWN])
        more = ", …" if len(rows) > SHOWN else ""
        message = f"the runs have no label {label!r} ({len(rows)} rows: {place}s {places}{more})"
        issues.append(Issue(message, source, column=chosen.label, hint=nearest(str(label), labels)))
    if issues:
        raise BadInput(issues)
    return table


def _note_overlap(
    table: Table, study_rows: pd.DataFrame | None, note: Callable[[str], None]
) -> None:
    """Note rows that are also in the study. Scores on its training rows are too high."""
    if study_rows is None:
        return
    keys = [name for name in ("text", "text_pair") if name in table.frame and name in study_rows]
    new = list(map(tuple, table.frame[keys].to_numpy()))
    uses = {"train": "trained", "validation": "selected its checkpoint", "test": "was tested"}
    for split, use in uses.items():
        rows = study_rows[study_rows["split"] == split]
        known = set(map(tuple, rows[keys].to_numpy()))
        shared = sum(text in known for text in new)
        if shared:
            note(
                f"{table.source}: {shared} of {len(new)} rows have a text on which the study {use}"
            )


def _predicted(
    predictor: Predictor | TextClassifier, frame: pd.DataFrame, run: str, progress: Progress
) -> pd.DataFrame:
    """Return a table like `predictions.parquet`, with the new rows as the test split."""
    pairs = frame["text_pair"].tolist() if "text_pair" in frame else None
    predicted = predictor.predict(
        frame["text"].tolist(), pairs, lambda done, rows: progress(run, done, rows)
    )
    predicted.insert(0, "split", "test")
    predicted.insert(1, "row", frame["row"].to_numpy())
    predicted.insert(2, "label", frame["label"].to_numpy())
    predicted["weight"] = frame["weight"].to_numpy()
    return predicted


def _statistics(
    predictor: Predictor | TextClassifier, frame: pd.DataFrame
) -> TextStatistics | None:
    pairs = None
    if "text_pair" in frame and not frame["text_pair"].isna().all():
        pairs = frame["text_pair"].tolist()
    statistics = predictor.token_statistics(frame["text"].tolist(), pairs)
    return None if statistics is None else TextStatistics(*statistics)


def _groups(table: Table) -> dict[Hashable, str] | None:
    if "group" not in table.frame:
        return None
    return dict(zip(table.frame["row"].tolist(), table.frame["group"], strict=True))


def _counts(frame: pd.DataFrame, labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(frame["label"].astype(str))
    return {label: counts.get(label, 0) for label in labels}


def _scores(predicted: pd.DataFrame, labels: Sequence[str]) -> Scores:
    places = {label: place for place, label in enumerate(labels)}
    columns = [f"probability_{label}" for label in labels]
    return scores(
        np.array([places[label] for label in predicted["label"]], np.int64),
        np.array([places[label] for label in predicted["prediction"]], np.int64),
        predicted[columns].to_numpy(np.float64),
        predicted["weight"].to_numpy(np.float64),
        labels,
    )
