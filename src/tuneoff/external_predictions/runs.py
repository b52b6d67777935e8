"""Files of predictions as runs: checked against the task, scored, and without any cost."""

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
from tuneoff.external_predictions.answers import Answers, FileIssues, labels_in, read_answers
from tuneoff.external_predictions.files import Columns, read_columns
from tuneoff.results.record import Cost, DataInfo, MethodInfo, Quality, RunRecord, Scores, Status
from tuneoff.results.scores import scores

if TYPE_CHECKING:
    import pandas as pd

FAMILY = "elsewhere"
"""Family and method of runs that were not made here."""


@dataclass(frozen=True)
class Truth:
    """What is known of the rows that the predictions are about."""

    labels: list[str]
    rows: pd.DataFrame
    """`split`, `row`, `label`, and where known `text`, `text_pair`, `group`."""
    data: DataInfo
    metric: str
    model: str


@dataclass(frozen=True)
class ForeignRun:
    """Predictions made elsewhere, as a run that has no cost."""

    record: RunRecord
    predictions: pd.DataFrame
    """As `predictions.parquet` holds them."""


def parse_sources(options: Sequence[str]) -> list[tuple[str, Path]]:
    """`NAME=FILE` options as (name, file); `BadInput` for one that is not of this form."""
    issues, found = [], []
    for option in options:
        name, mark, file = option.partition("=")
        if not (mark and name.strip() and file.strip()):
            hint = "Write NAME=FILE, mine=predictions.csv say."
            issues.append(Issue(f"--predictions {option!r} names no method and file", hint=hint))
        found.append((name.strip(), Path(file.strip()).expanduser()))
    if issues:
        raise BadInput(issues)
    return found


def read_runs(
    sources: Sequence[tuple[str, Path]],
    truth: Truth | None = None,
    *,
    metric: str = "macro_f1",
    taken: Sequence[str] = (),
) -> tuple[Truth, list[ForeignRun]]:
    """The files as runs, and what they are about.

    The same name again is another seed of the same method. With `truth`, a study's, each file
    must hold all test rows of the study and no others; without, the labels come from the files,
    which must be about the same rows. `taken` are the names of the study's own methods. Raises
    `BadInput` with the issues of all files at once.
    """
    issues = [
        Issue(f"--predictions {name!r}: a method of the study has this name", hint="Take another.")
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
    found: list[tuple[str, Answers]] = []
    for name, columns in files:
        try:
            found.append((name, read_answers(columns, labels)))
        except BadInput as error:
            issues += error.issues
    if issues:
        raise BadInput(issues)
    truth = truth or _truth_of([answers for _, answers in found], metric)
    seeds: Counter[str] = Counter()
    runs = []
    for name, answers in found:
        try:
            runs.append(_run(name, seeds[name], answers, truth))
        except BadInput as error:
            issues += error.issues
        seeds[name] += 1
    if issues:
        raise BadInput(issues)
    return truth, runs


def _truth_of(files: Sequence[Answers], metric: str) -> Truth:
    """Labels and rows as the files say them; texts from the first file that has them."""
    import pandas as pd

    labelled = next((a for a in files if a.labels is not None), None)
    if labelled is None or labelled.labels is None:
        raise BadInput(
            Issue(
                "there is no column 'label'",
                file=files[0].file,
                hint="Without a study the true labels come from the files.",
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
    return Truth(labels, rows, data, metric, "")


def _run(name: str, seed: int, answers: Answers, truth: Truth) -> ForeignRun:
    table = _table(answers, truth)
    content = hashlib.sha256(Path(answers.file).read_bytes()).hexdigest()
    quality = {split: _scores(table[table["split"] == split], truth) for split in _SPLITS}
    record = RunRecord(
        run_id=f"{file_name(name)}-s{seed}-{content[:8]}",
        status=Status.FINISHED,
        method=MethodInfo(name, FAMILY, FAMILY, {"file": Path(answers.file).name}),
        seed=seed,
        model=truth.model,
        metric=truth.metric,
        data=truth.data,
        train={},
        quality=Quality(**quality),
        cost=Cost(),
    )
    return ForeignRun(record, table)


_SPLITS = ("validation", "test")


def _table(answers: Answers, truth: Truth) -> pd.DataFrame:
    """`split, row, label, prediction, probability_<label>…, weight` in the order of the truth."""
    import pandas as pd

    issues = FileIssues(answers.file)
    _check_labels(answers, truth, issues)
    known = {(s, r): x for s, r, x in truth.rows[["split", "row", "label"]].itertuples(index=False)}
    _check_rows(answers, known, issues)
    issues.raise_any()
    keys = list(zip(answers.splits, answers.rows, strict=True))
    table: dict[str, Any] = {
        "split": answers.splits,
        "row": answers.rows,
        "label": [known[key] for key in keys],
        "prediction": answers.predicted or _most_probable(answers.probable),
    }
    table |= {f"probability_{x}": answers.probable[x] for x in truth.labels if answers.probable}
    frame = pd.DataFrame(table).assign(weight=1.0)
    order = {key: place for place, key in enumerate(known)}
    return frame.iloc[np.argsort([order[key] for key in keys])].reset_index(drop=True)


def _most_probable(probable: Mapping[str, list[float]]) -> list[str]:
    names = list(probable)
    places = np.array([probable[name] for name in names]).argmax(0)
    return [names[place] for place in places]


def _check_labels(answers: Answers, truth: Truth, issues: FileIssues) -> None:
    """Every label that the file names is one of the task's, and none of its columns is missing."""
    for column, names in (("label", answers.labels), ("prediction", answers.predicted)):
        for place, name in enumerate(names or ()):
            if name not in truth.labels:
                issues.add(
                    f"{name!r} is no label of the task",
                    row=answers.line(place),
                    column=column,
                    hint=nearest(name, truth.labels),
                )
    if answers.probable:
        for name in answers.probable.keys() - set(truth.labels):
            hint = nearest(name, truth.labels)
            issues.add(f"a column is for {name!r}, which is no label of the task", hint=hint)
        for name in [x for x in truth.labels if x not in answers.probable]:
            hint = "Give one for each label of the task."
            issues.add(f"no probability or logit of the label {name!r}", hint=hint)


def _check_rows(answers: Answers, known: Mapping[Any, str], issues: FileIssues) -> None:
    """The file holds the task's test rows, all and no others, under the task's labels."""
    keys = list(zip(answers.splits, answers.rows, strict=True))
    for place, (split, row) in enumerate(keys):
        label = known.get((split, row))
        given = answers.labels[place] if answers.labels else None
        if label is None:
            issues.add(
                f"{row!r} is no {split} row of the task",
                row=answers.line(place),
                column="row",
                hint="Rows are counted from 0 in the file that the task was read from.",
            )
        elif given is not None and given != label:
            issues.add(
                f"the label is {given!r} here and {label!r} in the task",
                row=answers.line(place),
                column="label",
                hint="Are these the same rows?",
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
                hint="All methods are compared on the same rows; predict them, too.",
            )


def _scores(table: pd.DataFrame, truth: Truth) -> Scores | None:
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
