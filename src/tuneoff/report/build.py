"""From a study's folder to its summary and its report."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tuneoff.compare import RunPredictions, summarize
from tuneoff.compare.audit import audit, collect
from tuneoff.record import RunRecord, Status
from tuneoff.report.html import write_report
from tuneoff.store import StudyFolder


def build_report(
    folder: StudyFolder,
    command: str | None = None,
    *,
    run_ids: Collection[str] | None = None,
) -> Path:
    """Write `summary.json` and `report.html` from what the study's folder holds; the report's path.

    `command` is what made the study; without it, the one that the last summary names.
    `run_ids` are the runs that belong to the study as it stands. Without them, it is the newest
    record of each of the study's methods and seeds: a folder may hold runs of earlier settings.
    """
    study = folder.spec()
    records = _records(folder, run_ids)
    task = folder.task(records[0].data.fingerprint) if records else folder.task()
    if command is None:
        command = (folder.summary() or {}).get("command")
    predictions = _predictions(folder, records)
    summary = {**summarize(study, task, records, predictions, folder.path), "command": command}
    summary["audit"] = [f.to_plain() for f in audit(collect(folder, study, task, records))]
    folder.write_summary(summary)
    histories = {r.run_id: folder.run(r.run_id).history() for r in records}
    return write_report(folder, summary, records, histories, task, command)


def _predictions(folder: StudyFolder, records: Collection[RunRecord]) -> dict[str, RunPredictions]:
    """What the finished runs answered, by run id; the summary names those whose file is broken."""
    found = {}
    for record in records:
        if record.status is not Status.FINISHED:
            continue
        # missing, not a Parquet file, without a column, with labels of another task
        with suppress(OSError, ValueError, KeyError):
            table = folder.run(record.run_id).predictions()
            found[record.run_id] = RunPredictions.from_table(table, record.data.labels)
    return found


def _records(folder: StudyFolder, run_ids: Collection[str] | None) -> list[RunRecord]:
    study = folder.spec()
    names = {m.name for m in study.methods}
    found: dict[tuple[str, int], tuple[float, RunRecord]] = {}
    for run in folder.runs():
        record = run.record()
        if record is None or (run_ids is not None and record.run_id not in run_ids):
            continue
        key = (record.method.name, record.seed)
        if names and (key[0] not in names or record.seed not in study.seeds):
            continue
        written = run.record_file.stat().st_mtime
        if key not in found or written > found[key][0]:
            found[key] = (written, record)
    return [record for _, record in found.values()]
