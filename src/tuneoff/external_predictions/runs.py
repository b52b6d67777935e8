"""Conversion of prediction files to runs: checked against the task, scored, and without costs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneoff.config import file_name
from tuneoff.exceptions import BadInput, Issue, nearest
from tuneoff.external_predictions.file_predictions import (
    FilePredictions,
    labels_in,
    read_predictions,
)
from tuneoff.external_predictions.files import Columns, read_columns
from tuneoff.results.record import Cost, DataInfo, MethodInfo, Quality, RunRecord, Scores, Status
from tuneoff.results.scores import scores
from tuneoff.tables.columns import FileIssues

if TYPE_CHECKING:
    import pandas as pd

FAMILY = "external"
"""Family and method of runs with external predictions."""


@dataclass(frozen=True)
class TaskTruth:
    """Rows and labels that the predictions are compared with."""

    labels: list[str]
    """Labels of the task."""
    rows: pd.DataFrame
    """Table with the columns `split`, `row`, `label`, and optionally `text`, `text_pair` and
    `group`."""
    data: DataInfo
    """Description of the data for the records."""
    metric: str
    """Key of the study's metric."""
    model: str
    """Name of the model; empty without a study."""


@dataclass(frozen=True)
class ExternalRun:
    """External predictions as a run without costs."""

    record: RunRecord
    """Record of the run."""
    predictions: pd.DataFrame
    """Predictions in the format of `predictions.parquet`."""


def parse_sources(options: Sequence[str]) -> list[tuple[str, Path]]:
    """Parse `NAME=FILE` options to pairs of name and path.

    Raises:
        BadInput: If an option does not have this form.
    """
    issues, found = [], []
    for option in options:
        name, mark, file = option.partition("=")
        if not (mark and name.strip() and file.strip()):
            hint = "Write NAME=FILE, e.g. mine=predictions.csv."
            message = f"--predictions {option!r} does not have the form NAME=FILE"
            issues.append(Issue(message, hint=hint))
        found.append((name.strip(), Path(file.strip()).expanduser()))
    if issues:
        raise BadInput(issues)
    return found


def read_runs(
    sources: Sequence[tuple[str, Path]],
    truth: TaskTruth | None = None,
    *,
    metric: str = "macro_f1",
    taken: Sequence[str] = (),
) -> tuple[TaskTruth, list[ExternalRun]]:
    """Read prediction files as runs.

    Args:
        sources: Pairs of method name and path. A repeated name is another seed of the method.
        truth: Rows and labels of a study. Each file must then have exactly the study's test rows.
            Without it, the true labels come from the files, which must have the same rows.
        metric: Key of the metric if there is no study.
        taken: Names of the study's own methods.

    Returns:
        Rows and labels, and one run per file.

    Raises:
        BadInput: With the issues of all files.
    """
    issues = [
        Issue(
            f"--predictions {name!r}: a method of the study has this name",
            hint="Use another name.",
        )
        for name in dict.fromkeys(name for name, _ in sources)
        if name in taken
    ]
    files: list[tuple[str, Columns]] = []
    for name, path in sources:
        try:
            files.append((name, read_columns(path)))
        except BadInput as error:
            issues += error.issues
    labels = truth.labels if truth else labels_in([columns for _, columns in files])
    found: list[tuple[str, FilePredictions]] = []
    for name, columns in files:
        try:
            found.append((name, read_predictions(columns, labels)))
        except BadInput as error:
            issues += error.issues
    if issues:
        raise BadInput(issues)
    truth = truth or _truth_of([file_predictions for _, file_predictions in found], metric)
    seeds: Counter[str] = Counter()
    runs = []
    for name, file_predictions in found:
        try:
            runs.append(_run(name, seeds[name], file_predictions, truth))
        except BadInput as error:
            issues += error.issues
        seeds[name] += 1
    if issues:
        raise BadInput(issues)
    return truth, runs


def _truth_of(files: Sequence[FilePredictions], metric: str) -> TaskTruth:
    """Take labels and rows from the files, and texts from the first file that has them."""
    import pandas as pd

    labelled = next((a for a in files if a.labels is not None), None)
    if labelled is None or labelled.labels is None:
        raise BadInput(
            Issue(
                "there is no column 'label'",
                file=files[0].file,
                hint="Without a study, one of the files must contain the true labels.",
            )
        )
    textual = next((a for a in files if "text" in a.texts and a.rows == labelled.rows), None)
    rows = pd.DataFrame(
        {"split": labelled.splits, "row": labelled.rows, "label": labelled.labels}
        | (textual.texts if textual else {})
    )
    named = list(next((a.probable for a in files if a.probable), {}))
    labels = named or sorted({x for a in files for x in (*(a.labels or ()), *(a.predicted or ()))})
    counts = Counter(labelled.splits)
    digest = hashlib.sha256("\0".join(map(str, labelled.rows)).encode()).hexdigest()
    data = DataInfo(digest, 0, counts["validation"], counts["test"], labels)
    return TaskTruth(labels, rows, data, metric, "")


def _run(name: str, seed: int, file_predictions: FilePredictions, truth: TaskTruth) -> ExternalRun:
    table = _table(file_predictions, truth)
    content = hashlib.sha256(Path(file_predictions.file).read_bytes()).hexdigest()
    quality = {split: _scores(table[table["split"] == split], truth) for split in _SPLITS}
    record = RunRecord(
        run_id=f"{file_name(name)}-s{seed}-{content[:8]}",
        status=Status.FINISHED,
        method=MethodInfo(name, FAMILY, FAMILY, {"file": Path(file_predictions.file).name}),
        seed=seed,
        model=truth.model,
        metric=truth.metric,
        data=truth.data,
        train={},
        quality=Quality(**quality),
        cost=Cost(),
    )
    return ExternalRun(record, table)


_SPLITS = ("validation", "test")


def _table(file_predictions: FilePredictions, truth: TaskTruth) -> pd.DataFrame:
    """Return the predictions in the format of `predictions.parquet`, in the order of the task."""
    import pandas as pd

    issues = FileIssues(file_predictions.file)
    _check_labels(file_predictions, truth, issues)
    known = {(s, r): x for s, r, x in truth.rows[["split", "row", "label"]].itertuples(index=False)}
    _check_rows(file_predictions, known, issues)
    issues.raise_any()
    keys = list(zip(file_predictions.splits, file_predictions.rows, strict=True))
    table: dict[str, Any] = {
        "split": file_predictions.splits,
        "row": file_predictions.rows,
        "label": [known[key] for key in keys],
        "prediction": file_predictions.predicted or _most_probable(file_predictions.probable),
    }
    table |= {
        f"probability_{x}": file_predictions.probable[x]
        for x in truth.labels
        if file_predictions.probable
    }
    frame = pd.DataFrame(table).assign(weight=1.0)
    order = {key: place for place, key in enumerate(known)}
    return frame.iloc[np.argsort([order[key] for key in keys])].reset_index(drop=True)


def _most_probable(probable: Mapping[str, list[float]]) -> list[str]:
    names = list(probable)
    places = np.array([probable[name] for name in names]).argmax(0)
    return [names[place] for place in places]


def _check_labels(file_predictions: FilePredictions, truth: TaskTruth, issues: FileIssues) -> None:
    """Check that all labels of the file belong to the task, and that no column is missing."""
    for column, names in (
        ("label", file_predictions.labels),
        ("prediction", file_predictions.predicted),
    ):
        for place, name in enumerate(names or ()):
            if name not in truth.labels:
                issues.add(
                    f"{name!r} is not a label of the task",
                    row=file_predictions.line(place),
                    column=column,
                    hint=nearest(name, truth.labels),
                )
    if file_predictions.probable:
        for name in file_predictions.probable.keys() - set(truth.labels):
            hint = nearest(name, truth.labels)
            issues.add(
                f"there is a column for {name!r}, which is not a label of the task", hint=hint
            )
        for name in [x for x in truth.labels if x not in file_predictions.probable]:
            hint = "Add one column for each label of the task."
            issues.add(f"there is no probability or logit for the label {name!r}", hint=hint)


def _check_rows(
    file_predictions: FilePredictions, known: Mapping[Any, str], issues: FileIssues
) -> None:
    """Check that the file has exactly the task's test rows, with the same labels."""
    keys = list(zip(file_predictions.splits, file_predictions.rows, strict=True))
    for place, (split, row) in enumerate(keys):
        label = known.get((split, row))
        given = file_predictions.labels[place] if file_predictions.labels else None
        if label is None:
            issues.add(
                f"{row!r} is not a {split} row of the task",
                row=file_predictions.line(place),
                column="row",
                hint="Rows are numbered from 0 in the data file of the task.",
            )
        elif given is not None and given != label:
            issues.add(
                f"the label is {given!r} in this file, but {label!r} in the task",
                row=file_predictions.line(place),
                column="label",
                hint="Check that the row numbers refer to the same rows.",
            )
    held = set(keys)
    for split in _SPLITS:
        missing = [row for s, row in known if s == split and (s, row) not in held]
        whole = split == "test" or any(s == split for s, _ in keys)
        if missing and whole:
            shown = ", ".join(map(repr, missing[:5])) + (", …" if len(missing) > 5 else "")
            issues.add(
                f"{len(missing):,} {split} rows have no prediction: {shown}",
                column="row",
                hint="All methods are compared on the same rows. Add predictions for these rows.",
            )


def _scores(table: pd.DataFrame, truth: TaskTruth) -> Scores | None:
    if table.empty:
        return None
    positions = {label: i for i, label in enumerate(truth.labels)}
    columns = [f"probability_{label}" for label in truth.labels]
    return scores(
        np.array([positions[x] for x in table["label"]], np.int64),
        np.array([positions[x] for x in table["prediction"]], np.int64),
        table[columns].to_numpy(np.float64) if columns[0] in table else None,
        table["weight"].to_numpy(np.float64),
        truth.labels,
    )
