"""A study's folder: the only place that knows where its files lie and how they are written.

    study.yaml                      the study, every default filled in
    data/<key>/                     the prepared task: task.json, rows.parquet, token stores
    runs/<run-id>/                  one run: spec.json, record.json, history.jsonl,
                                    predictions.parquet, model/, log.txt
    summary.json, report.html       what the runs say together

Whoever reads sees a file whole or not at all: writing goes to a temporary name, then is renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.errors import BadInput, Fault, nearest
from tuneoff.record import RunRecord, TaskRecord
from tuneoff.spec import DataSpec, RunSpec, StudySpec, TrainSpec, parse_study, read_study, to_plain

if TYPE_CHECKING:
    import pandas as pd


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the report from a web server
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN is refused, because a missing value is `null`."""
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def check_writable(folder: Path) -> None:
    """Raise `BadInput` if nothing can be written in `folder`, which need not exist yet."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise BadInput(Fault("is a file, so nothing can be written in it", file=str(existing)))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BadInput(Fault("cannot be written to", file=str(existing)))


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there, and renames are durable without
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunFolder:
    """`runs/<run-id>/`: one run's spec, record, history, predictions and model."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.spec_file = self.path / "spec.json"
        self.record_file = self.path / "record.json"
        self.history_file = self.path / "history.jsonl"
        self.predictions_file = self.path / "predictions.parquet"
        self.model = self.path / "model"
        self.log_file = self.path / "log.txt"
        self.sample_file = self.path / ".sample.safetensors"

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run; `BadInput` with near names if there is none."""
        folder = cls(path)
        if not folder.spec_file.is_file():
            parent = folder.path.parent
            near = [p.parent.name for p in parent.glob("*/spec.json")] if parent.is_dir() else []
            if runs := sorted(p.parent.name for p in folder.path.glob("runs/*/spec.json")):
                mend = f"It is a study; give one of its runs, {folder.path / 'runs' / runs[0]} say."
                raise BadInput(Fault("is not the folder of a run", file=str(path), mend=mend))
            raise BadInput(
                Fault(
                    "is not the folder of a run (it holds no spec.json)",
                    file=str(path),
                    mend=nearest(folder.path.name, near) if near else None,
                )
            )
        return folder

    def study_data(self) -> DataSpec | None:
        """The data of the study that this run belongs to; None if the run stands alone."""
        for folder in (self.path, self.path.parent.parent):
            if (folder / "study.yaml").is_file():
                return StudyFolder(folder).spec().data
        return None

    def write_spec(self, spec: RunSpec) -> None:
        """Say what is asked, before it runs."""
        write_json(self.spec_file, asdict(spec))

    def spec(self) -> RunSpec:
        """What was asked."""
        plain = json.loads(self.spec_file.read_text(encoding="utf-8"))
        return RunSpec(**{**plain, "train": TrainSpec(**plain["train"])})

    def write_record(self, record: RunRecord) -> None:
        """Say what came out; the last file that a run writes."""
        write_json(self.record_file, record.to_plain())

    def record(self) -> RunRecord | None:
        """What came out, or None while there is nothing yet."""
        if not self.record_file.is_file():
            return None
        return RunRecord.from_plain(json.loads(self.record_file.read_text(encoding="utf-8")))

    def history(self) -> list[dict[str, Any]]:
        """The loss over the steps (`kind` train) and the scores over the epochs (validation)."""
        if not self.history_file.is_file():
            return []
        lines = self.history_file.read_text(encoding="utf-8").split("\n")
        # What follows the last line feed is empty, or half a row of a run that was killed.
        return [json.loads(line) for line in lines[:-1]]

    def clear(self) -> None:
        """Remove what an earlier run left: beside a new record it would be another run's."""
        files = (self.record_file, self.history_file, self.predictions_file, self.log_file)
        for file in (*files, self.sample_file):
            file.unlink(missing_ok=True)
        for folder in (self.model, self.path / "checkpoint"):
            if folder.is_dir():
                shutil.rmtree(folder)

    def write_predictions(self, table: pd.DataFrame) -> None:
        """Write `split, row, label, prediction, probability_<label>…, weight`."""
        temporary = self.predictions_file.with_name(".predictions.parquet")
        table.to_parquet(temporary, index=False)
        os.replace(temporary, self.predictions_file)

    def predictions(self) -> pd.DataFrame:
        """Labels and probabilities of the validation and test rows."""
        import pandas as pd

        return pd.read_parquet(self.predictions_file)


class StudyFolder:
    """A study on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.spec_file = self.path / "study.yaml"
        self.data = self.path / "data"
        self.runs_folder = self.path / "runs"
        self.summary_file = self.path / "summary.json"
        self.report_file = self.path / "report.html"

    @classmethod
    def open(cls, path: str | Path) -> StudyFolder:
        """An existing study; `BadInput` with near names if there is none."""
        folder = cls(path)
        if not folder.spec_file.is_file():
            parent = folder.path.parent
            near = [p.parent.name for p in parent.glob("*/study.yaml")] if parent.is_dir() else []
            raise BadInput(
                Fault(
                    "is not the folder of a study (it holds no study.yaml)",
                    file=str(path),
                    mend=nearest(folder.path.name, near) if near else None,
                )
            )
        return folder

    def write_spec(self, study: StudySpec) -> None:
        """Keep the study as it was asked, every default filled in."""
        import yaml

        text = yaml.safe_dump(to_plain(study), sort_keys=False, allow_unicode=True)
        write_atomic(self.spec_file, text)

    def spec(self) -> StudySpec:
        """The study as it was asked."""
        return parse_study(read_study(self.spec_file), file=str(self.spec_file))

    @property
    def is_run(self) -> bool:
        """Whether this is the folder of a single run, as `tuneoff train` makes it."""
        return RunFolder(self.path).spec_file.is_file()

    def run(self, run_id: str) -> RunFolder:
        """The folder of one run, there or not yet."""
        if self.is_run:
            return RunFolder(self.path)
        return RunFolder(self.runs_folder / run_id)

    def runs(self) -> Iterator[RunFolder]:
        """All runs that were started, by name."""
        if self.is_run:
            yield RunFolder(self.path)
            return
        for path in sorted(self.runs_folder.glob("*/spec.json")):
            yield RunFolder(path.parent)

    def write_task(self, task: TaskRecord) -> None:
        """Keep what preparation found, beside the token stores."""
        write_json(self.data / task.key / "task.json", task.to_plain())

    def task(self, fingerprint: str | None = None) -> TaskRecord | None:
        """The task with this data fingerprint, or the one prepared last."""
        files = sorted(self.data.glob("*/task.json"), key=lambda path: path.stat().st_mtime)
        for path in reversed(files):
            task = TaskRecord.from_plain(json.loads(path.read_text(encoding="utf-8")))
            if fingerprint in (None, task.fingerprint):
                return task
        return None

    def rows(self, task: TaskRecord) -> pd.DataFrame | None:
        """The task's rows with their texts (`split`, `row`, `text`, …); None if they are gone."""
        import pandas as pd

        file = self.data / task.key / "rows.parquet"
        return pd.read_parquet(file) if file.is_file() else None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Keep what the table and the report show."""
        write_json(self.summary_file, summary)

    def summary(self) -> dict[str, Any] | None:
        """What the table and the report show, or None before the first run has ended."""
        if not self.summary_file.is_file():
            return None
        content: dict[str, Any] = json.loads(self.summary_file.read_text(encoding="utf-8"))
        return content
