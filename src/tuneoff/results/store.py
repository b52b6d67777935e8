"""Folders of studies and runs: the only module that knows the names of their files.

    study.yaml                      the study, with all defaults filled in
    data/<key>/                     the prepared task: task.json, rows.parquet, token stores
    runs/<run-id>/                  one run: spec.json, record.json, history.jsonl,
                                    predictions.parquet, model/, log.txt, profile/
    trials/<run-id>/                one trial of a search: no predictions, no model
    trials/trials.json              the searches of all methods and their results
    tuned.yaml                      the study with the settings that were found
    forecast.json                   estimated cost of the runs
    summary.json, report.html       results of all runs

Files are written atomically: under a temporary name that is then renamed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.config import (
    DataSpec,
    RunSpec,
    StudySpec,
    TrainSpec,
    Trial,
    parse_study,
    read_study,
    to_plain,
)
from tuneoff.exceptions import BadInput, Issue, nearest
from tuneoff.results.record import RunRecord, TaskRecord
from tuneoff.results.summary import Summary, Tuning

if TYPE_CHECKING:
    import pandas as pd


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file atomically and durably, even if the machine crashes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # a web server could not read a report with mkstemp's 0600
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. NaN raises `ValueError`: missing values are `null`."""
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _read_json(path: Path) -> Any:
    """Read a JSON file; None if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would exceed the maximum size of the file system",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk has an input/output error",
}


def disk_trouble(problem: BaseException) -> str | None:
    """Return a message and hint for an error of the disk; None for other errors.

    Libraries in other languages raise exceptions with the text of the error, but not its number.
    """
    text = str(problem)
    known = _DISK.get(problem.errno or 0) if isinstance(problem, OSError) else None
    for number, said in _DISK.items():
        if known is None and f"os error {number})" in text:
            known = said
    if known is None:
        return None
    return f"{known} ({text}).\n  Hint: Fix this, then rerun the same command to resume."


def sync_tree(folder: Path) -> None:
    """Flush all files below `folder` to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def check_writable(folder: Path) -> None:
    """Raise `BadInput` if `folder` is not writable. It need not exist yet."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise BadInput(Issue("is a file, not a folder", file=str(existing)))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BadInput(Issue("is not writable", file=str(existing)))


def check_inside(path: Path, home: Path) -> None:
    """Raise `BadInput` if `path`, with links resolved, is outside of the folder `home`."""
    if not path.resolve().is_relative_to(home.resolve()):
        hint = "Remove the link: a study writes only in its folder."
        raise BadInput(Issue(f"is a link out of {home}, to {path.resolve()}", str(path), hint=hint))


def sync_folder(folder: Path) -> None:
    """Flush the entries of `folder` to disk, which makes renames durable."""
    if os.name == "nt":  # folders cannot be opened there, and renames are durable
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunFolder:
    """Folder of a run, `runs/<run-id>/`: spec, record, history, predictions and model."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.spec_file = self.path / "spec.json"
        self.record_file = self.path / "record.json"
        self.history_file = self.path / "history.jsonl"
        self.predictions_file = self.path / "predictions.parquet"
        self.model = self.path / "model"
        self.log_file = self.path / "log.txt"
        self.checkpoint = self.path / "checkpoint"
        self.profile = self.path / "profile"
        self.sample_file = self.path / ".sample.safetensors"

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open an existing run; raise `BadInput` with similar names if it is missing."""
        folder = cls(path)
        if not folder.spec_file.is_file():
            parent = folder.path.parent
            near = [p.parent.name for p in parent.glob("*/spec.json")] if parent.is_dir() else []
            if runs := sorted(p.parent.name for p in folder.path.glob("runs/*/spec.json")):
                summary = StudyFolder(path).summary()
                recommended = summary.get("recommendation") if summary else None
                chosen = recommended.get("run_id") if recommended else None
                run = folder.path / "runs" / (chosen or runs[0])
                hint = f"It is a study. Give one of its runs, for example {run}"
                raise BadInput(Issue("is not the folder of a run", file=str(path), hint=hint))
            problem = "is not the folder of a run (it has no spec.json)"
            if not folder.path.exists():
                problem = "does not exist"
            raise BadInput(Issue(problem, file=str(path), hint=_nearest_run(folder.path, near)))
        return folder

    def study(self) -> StudyFolder | None:
        """Return the study of this run; None for a run without a study."""
        for folder in (self.path, self.path.parent.parent):
            if (folder / "study.yaml").is_file():
                return StudyFolder(folder)
        return None

    def study_data(self) -> DataSpec | None:
        """Return the data of the study of this run; None for a run without a study."""
        study = self.study()
        return None if study is None else study.spec().data

    def write_spec(self, spec: RunSpec) -> None:
        """Write the specification of the run."""
        write_json(self.spec_file, asdict(spec))

    def spec(self) -> RunSpec:
        """Read the specification of the run."""
        plain = json.loads(self.spec_file.read_text(encoding="utf-8"))
        trial = plain.get("trial")
        typed = {"train": TrainSpec(**plain["train"]), "trial": trial and Trial.from_plain(trial)}
        return RunSpec(**{**plain, **typed})

    def write_record(self, record: RunRecord) -> None:
        """Write the record, the last file that a run writes."""
        write_json(self.record_file, record.to_plain())

    def record(self) -> RunRecord | None:
        """Read the record; None if the run has not ended yet."""
        plain = _read_json(self.record_file)
        return None if plain is None else RunRecord.from_plain(plain)

    def history(self) -> list[dict[str, Any]]:
        """Read the losses of the steps (`kind` train) and the scores of the epochs (validation)."""
        if not self.history_file.is_file():
            return []
        lines = self.history_file.read_text(encoding="utf-8").split("\n")
        # After the last line feed there is nothing, or a partial row of a killed run.
        return [json.loads(line) for line in lines[:-1]]

    def clear(self, *, keep_checkpoint: bool = False) -> None:
        """Remove the files of an earlier attempt.

        Args:
            keep_checkpoint: Whether to keep a checkpoint, and the history that belongs to it.
        """
        resumes = keep_checkpoint and self.checkpoint.is_dir()
        files = [self.record_file, self.predictions_file, self.log_file, self.sample_file]
        for file in files if resumes else [*files, self.history_file]:
            file.unlink(missing_ok=True)
        folders = (self.model, self.profile)
        for folder in folders if resumes else (*folders, self.checkpoint):
            if folder.is_dir():
                shutil.rmtree(folder)

    def write_predictions(self, table: pd.DataFrame) -> None:
        """Write a table of `split, row, label, prediction, probability_<label>…, weight`."""
        temporary = self.predictions_file.with_name(".predictions.parquet")
        table.to_parquet(temporary, index=False)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, self.predictions_file)

    def predictions(self) -> pd.DataFrame:
        """Read labels, predictions and probabilities of the validation and test rows."""
        import pandas as pd

        return pd.read_parquet(self.predictions_file)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on `folder`; `BadInput` if another process has it.

    The operating system releases the lock when the process ends for any reason.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BadInput(
            Issue(
                "is in use by another tuneoff process",
                file=str(folder),
                hint="Wait until it has ended, or choose another folder with --out.",
            )
        ) from None
    try:
        yield
    finally:
        lock.release()


def _nearest_run(path: Path, near: list[str]) -> str | None:
    if (path.parent / "spec.json").is_file():
        return f"Give {path.parent}"
    begins = sorted(name for name in near if name.startswith(path.name))
    return nearest(begins[0] if begins else path.name, near) if near else None


def _as_yaml(study: StudySpec) -> str:
    import yaml

    text: str = yaml.safe_dump(to_plain(study), sort_keys=False, allow_unicode=True)
    return text


class StudyFolder:
    """Folder of a study."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.spec_file = self.path / "study.yaml"
        self.data = self.path / "data"
        self.runs_folder = self.path / "runs"
        self.trials_folder = self.path / "trials"
        self.trials_file = self.trials_folder / "trials.json"
        self.tuned_file = self.path / "tuned.yaml"
        self.summary_file = self.path / "summary.json"
        self.report_file = self.path / "report.html"
        self.forecast_file = self.path / "forecast.json"

    @classmethod
    def open(cls, path: str | Path) -> StudyFolder:
        """Open an existing study; raise `BadInput` with similar names if it is missing."""
        folder = cls(path)
        if not folder.spec_file.is_file():
            parent = folder.path.parent
            near = [p.parent.name for p in parent.glob("*/study.yaml")] if parent.is_dir() else []
            raise BadInput(
                Issue(
                    "is not the folder of a study (it has no study.yaml)",
                    file=str(path),
                    hint=nearest(folder.path.name, near) if near else None,
                )
            )
        return folder

    def write_spec(self, study: StudySpec) -> None:
        """Write the study with all defaults filled in."""
        write_atomic(self.spec_file, _as_yaml(study))

    def spec(self) -> StudySpec:
        """Read the study."""
        return parse_study(read_study(self.spec_file), file=str(self.spec_file))

    @property
    def is_run(self) -> bool:
        """Whether this is the folder of a single run, written by `tuneoff train`."""
        return RunFolder(self.path).spec_file.is_file()

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run, which need not exist."""
        if self.is_run:
            return RunFolder(self.path)
        return RunFolder(self.runs_folder / run_id)

    def runs(self) -> Iterator[RunFolder]:
        """Yield the folders of all started runs, sorted by name."""
        if self.is_run:
            yield RunFolder(self.path)
            return
        for path in sorted(self.runs_folder.glob("*/spec.json")):
            yield RunFolder(path.parent)

    def task(self, fingerprint: str | None = None) -> TaskRecord | None:
        """Return the task with this data fingerprint; by default the one prepared last."""
        files = sorted(self.data.glob("*/task.json"), key=lambda path: path.stat().st_mtime)
        for path in reversed(files):
            task = TaskRecord.from_plain(json.loads(path.read_text(encoding="utf-8")))
            if fingerprint in (None, task.fingerprint):
                return task
        return None

    def rows(self, task: TaskRecord) -> pd.DataFrame | None:
        """Read `split, row, text, text_pair, label, weight, group` of a task; None if missing."""
        import pandas as pd

        file = self.data / task.key / "rows.parquet"
        return pd.read_parquet(file) if file.is_file() else None

    def predictions(self, run_id: str) -> pd.DataFrame | None:
        """Read the predictions of a run; None if it has none."""
        run = self.run(run_id)
        return run.predictions() if run.predictions_file.is_file() else None

    def trial(self, run_id: str) -> RunFolder:
        """Return the folder of a trial, which need not exist."""
        return RunFolder(self.trials_folder / run_id)

    def write_tuned(self, study: StudySpec, trials: Tuning) -> None:
        """Write the tuned study and its trials."""
        write_json(self.trials_file, trials)
        write_atomic(self.tuned_file, _as_yaml(study))

    def trials(self) -> Tuning | None:
        """Read the trials of all searches; None if nothing was searched."""
        found: Tuning | None = _read_json(self.trials_file)
        return found

    def write_forecast(self, forecast: dict[str, Any]) -> None:
        """Write the forecast."""
        write_json(self.forecast_file, forecast)

    def forecast(self) -> dict[str, Any] | None:
        """Read the forecast, or return None if it is missing."""
        found: dict[str, Any] | None = _read_json(self.forecast_file)
        return found

    def write_summary(self, summary: Summary) -> None:
        """Write the summary."""
        write_json(self.summary_file, summary)

    def summary(self) -> Summary | None:
        """Read the summary; None if it has not been written yet."""
        found: Summary | None = _read_json(self.summary_file)
        return found
