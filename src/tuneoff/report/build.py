"""Summary and report of a study's folder, or of external predictions without a study."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff import audit as checks
from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.comparison.summary import summarize
from tuneoff.config import DataSpec, MethodSpec, StudySpec
from tuneoff.error_analysis import ErrorAnalysis, analyze, collect
from tuneoff.exceptions import BadInput, Issue
from tuneoff.external_predictions import FAMILY, ExternalRun, TaskTruth
from tuneoff.forecasting.actual import beside_actual
from tuneoff.report.html import write_report
from tuneoff.results.record import DataInfo, RunRecord, Status, TaskRecord
from tuneoff.results.store import StudyFolder
from tuneoff.results.summary import Summary
from tuneoff.scheduling import Launcher
from tuneoff.scheduling.study import Watcher
from tuneoff.tuning import run_tuned

if TYPE_CHECKING:
    import pandas as pd


Annotations = Mapping[Hashable, Sequence[str]]
"""Labels of several annotators by the number of the test row."""


def run_and_report(
    study: StudySpec,
    folder: StudyFolder,
    *,
    launcher: Launcher,
    watch: Watcher,
    fresh: bool,
    command: str,
) -> tuple[list[RunRecord], Path]:
    """Run a study, including seeds that are added adaptively, and write its report.

    Args:
        study: Specification of the study.
        folder: Folder of the study.
        launcher: Executes the runs.
        watch: Displays the progress.
        fresh: Whether to repeat finished runs.
        command: Command that the report shows as its origin.

    Returns:
        The records of all runs, and the path of the report.

    Raises:
        BadInput: If the input is invalid; this is checked before the first run.
    """
    _, records = run_tuned(
        study,
        folder,
        launcher=launcher,
        watch=watch,
        fresh=fresh,
        undecided=partial(_undecided, folder),
    )
    return records, build_report(folder, command, run_ids=[r.run_id for r in records])


def _undecided(folder: StudyFolder, run_ids: Collection[str]) -> list[str]:
    """Return the methods that need another seed, given these runs."""
    recommendation = summary_of(folder, run_ids)["recommendation"]
    return recommendation["undecided"] if recommendation else []


def build_report(
    folder: StudyFolder,
    command: str | None = None,
    *,
    run_ids: Collection[str] | None = None,
    external: Sequence[ExternalRun] = (),
    annotations: Annotations | None = None,
    list_rows: bool = True,
) -> Path:
    """Write `summary.json` and `report.html` from the content of a study's folder.

    Args:
        folder: Folder of the study.
        command: Command that created the study; by default the one in the last summary.
        run_ids: Runs that belong to the study. By default, these are the newest record of each of
            the study's methods and seeds, because a folder may contain runs of earlier settings.
        external: External predictions to include.
        annotations: Labels of several annotators.
        list_rows: Whether the report shows rows of the data with their texts.

    Returns:
        The path of the report.

    Raises:
        BadInput: If no test row has annotations of two annotators.
    """
    study = folder.spec()
    records = _records(folder, run_ids)
    task = folder.task(records[0].data.fingerprint) if records else folder.task()
    if command is None:
        last = folder.summary()
        command = last.get("command") if last else None
    found = checks.audit(checks.collect(folder, study, task, records))
    findings = [finding.to_plain() for finding in found]
    histories = {r.run_id: folder.run(r.run_id).history() for r in records}
    predictions = _predictions(folder, records)
    rows = folder.rows(task) if task else None
    study = _with_external(study, external)
    records += [run.record for run in external]
    predictions |= {run.record.run_id: run.predictions for run in external}
    by_run = _Predictions.of(records, predictions, groups_of(rows))
    errors = _errors(study, records, by_run.tables, rows, annotations)
    summary = _summary(folder, study, task, records, by_run, errors)
    summary["command"] = command
    summary |= {"audit": findings, "tuning": folder.trials() if study.tune else None}
    summary["forecast"] = beside_actual(folder.forecast(), records) or None
    folder.write_summary(summary)
    errors = errors if list_rows or errors is None else replace(errors, listed=[])
    return write_report(folder, summary, records, histories, task, command, errors=errors)


def report_predictions(
    out: Path,
    truth: TaskTruth,
    runs: Sequence[ExternalRun],
    command: str | None = None,
    *,
    annotations: Annotations | None = None,
    list_rows: bool = True,
) -> Path:
    """Write `summary.json` and `report.html` from external predictions without a study.

    Costs and training data are then unknown.

    Args:
        out: Folder for the two files.
        truth: Rows and labels.
        runs: The external predictions.
        command: Command that the report shows as its origin.
        annotations: Labels of several annotators.
        list_rows: Whether the report shows rows of the data with their texts.

    Returns:
        The path of the report.

    Raises:
        BadInput: If no test row has annotations of two annotators.
    """
    folder = StudyFolder(out)
    study = StudySpec(model="", data=DataSpec(train=""), metric=truth.metric, seeds=())
    study = _with_external(study, runs)
    records = [run.record for run in runs]
    predictions = {run.record.run_id: run.predictions for run in runs}
    rows = truth.rows if "text" in truth.rows else None
    by_run = _Predictions.of(records, predictions, groups_of(truth.rows))
    errors = _errors(study, records, by_run.tables, rows, annotations)
    summary = _summary(folder, study, None, records, by_run, errors)
    summary["command"] = command
    summary["rows"] |= {"train": None, "validation": truth.data.validation_rows or None}
    folder.write_summary(summary)
    errors = errors if list_rows or errors is None else replace(errors, listed=[])
    return write_report(folder, summary, records, {}, None, command, errors=errors)


def summary_of(folder: StudyFolder, run_ids: Collection[str] | None = None) -> Summary:
    """Return the summary of a study without audit and error analysis, and write no file.

    Args:
        folder: Folder of the study.
        run_ids: Runs that belong to the study, see `build_report`.
    """
    study, records = folder.spec(), _records(folder, run_ids)
    task = folder.task(records[0].data.fingerprint) if records else folder.task()
    groups = groups_of(folder.rows(task) if task else None)
    by_run = _Predictions.of(records, _predictions(folder, records), groups)
    return _summary(folder, study, task, records, by_run, None)


def truth_of(folder: StudyFolder) -> TaskTruth:
    """Return the rows and labels that external predictions must have to be included in a study.

    Raises:
        BadInput: If the folder has no prepared data.
    """
    study, records = folder.spec(), _records(folder, None)
    task = folder.task(records[0].data.fingerprint) if records else folder.task()
    rows = folder.rows(task) if task else None
    if task is None or rows is None:
        hint = "Rerun the study to prepare the data again. Finished runs are reused."
        raise BadInput(Issue("the folder has no prepared data", file=str(folder.path), hint=hint))
    data = DataInfo(
        fingerprint=task.fingerprint,
        train_rows=task.splits["train"].rows,
        validation_rows=task.splits["validation"].rows,
        test_rows=task.splits["test"].rows,
        labels=task.labels,
    )
    return TaskTruth(task.labels, rows[rows["split"] != "train"], data, study.metric, study.model)


def _with_external(study: StudySpec, runs: Sequence[ExternalRun]) -> StudySpec:
    names = dict.fromkeys(run.record.method.name for run in runs)
    entries = tuple(MethodSpec(method=FAMILY, name=name) for name in names)
    return replace(study, methods=study.methods + entries)


def _predictions(folder: StudyFolder, records: Sequence[RunRecord]) -> dict[str, pd.DataFrame]:
    """Read the predictions of the finished runs on the same data, by run id."""
    found = {}
    for record in records:
        run = folder.run(record.run_id)
        same = record.data.fingerprint == records[0].data.fingerprint
        if record.status is Status.FINISHED and same:
            with suppress(OSError, ValueError):  # missing, or not a Parquet file
                found[record.run_id] = run.predictions()
    return found


@dataclass(frozen=True)
class _Predictions:
    """Predictions by run id: those that can be compared, and why the others cannot."""

    tables: dict[str, pd.DataFrame]
    """Usable predictions in the format of `predictions.parquet`."""
    usable: dict[str, RunPredictions]
    """Usable predictions for the comparison."""
    unusable: dict[str, str]
    """Reason why other predictions cannot be used."""

    @staticmethod
    def of(
        records: Sequence[RunRecord],
        tables: Mapping[str, pd.DataFrame],
        groups: Mapping[Hashable, str] | None,
    ) -> _Predictions:
        labels = {record.run_id: record.data.labels for record in records}
        found = _Predictions({}, {}, {})
        for run_id, table in tables.items():
            try:
                found.usable[run_id] = RunPredictions.from_table(table, labels[run_id], groups)
                found.tables[run_id] = table
            except KeyError as error:
                found.unusable[run_id] = f"its predictions have no column {error}"
            except ValueError as error:  # for example labels of another task
                found.unusable[run_id] = f"its predictions cannot be used: {error}"
        return found


def _errors(
    study: StudySpec,
    records: Sequence[RunRecord],
    predictions: Mapping[str, pd.DataFrame],
    rows: pd.DataFrame | None,
    annotations: Annotations | None,
) -> ErrorAnalysis | None:
    """Run the error analysis, with methods in the study's order; None without predictions."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for record in sorted(records, key=lambda r: r.seed):
        if record.run_id in predictions:
            tables.setdefault(record.method.name, []).append(predictions[record.run_id])
    names = [m.name for m in study.methods] or list(tables)
    tables = {name: tables[name] for name in names if name in tables}
    if not tables:
        return None
    references = [r.method.name for r in records if r.method.family == "baseline"]
    evidence = collect(tables, records[0].data.labels, rows, references=references)
    if annotations is None:
        return analyze(evidence)
    of_row = [annotations.get(row) for row in evidence.ids]
    if not any(labels is not None and len(labels) > 1 for labels in of_row):
        hint = "Rows are numbered from 0 in the file with the test rows."
        raise BadInput("no test row has annotations of two annotators.", hint=hint)
    return analyze(evidence, of_row)


def _summary(
    folder: StudyFolder,
    study: StudySpec,
    task: TaskRecord | None,
    records: Sequence[RunRecord],
    by_run: _Predictions,
    errors: ErrorAnalysis | None,
) -> Summary:
    """Return the summary with comparison and errors, and list runs with unusable predictions."""
    given = by_run.usable if by_run.usable or by_run.unusable else None
    summary = summarize(study, task, records, given, folder.path)
    if summary["pairwise"]:
        summary["pairwise"]["unusable_predictions"] = by_run.unusable
    return {**summary, "errors": errors.compact() if errors else None}


def groups_of(rows: pd.DataFrame | None) -> dict[Hashable, str] | None:
    """Return the group of each test row by row number; None without groups."""
    if rows is None or "group" not in rows:
        return None
    test = rows[rows["split"] == "test"]
    return dict(zip(test["row"].tolist(), test["group"].astype(str).tolist(), strict=True))


def _records(folder: StudyFolder, run_ids: Collection[str] | None) -> list[RunRecord]:
    study = folder.spec()
    names = {m.name for m in study.methods}
    found: dict[tuple[str, int], tuple[float, RunRecord]] = {}
    for run in folder.runs():
        record = run.record()
        if record is None or (run_ids is not None and record.run_id not in run_ids):
            continue
        key = (record.method.name, record.seed)
        if names and (key[0] not in names or record.seed not in study.seeds + study.more_seeds):
            continue
        written = run.record_file.stat().st_mtime
        if key not in found or written > found[key][0]:
            found[key] = (written, record)
    return [record for _, record in found.values()]
