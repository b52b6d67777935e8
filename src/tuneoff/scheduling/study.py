"""Execution of a study: skip finished runs, submit the others, add seeds where needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, TypeVar

from tuneoff.config import MethodSpec, RunSpec, StudySpec
from tuneoff.exceptions import BadInput, Issue, nearest
from tuneoff.methods import method
from tuneoff.results.record import DataInfo, MethodInfo, RunRecord, Status, TaskRecord
from tuneoff.results.store import RunFolder, StudyFolder, alone_in, check_inside, check_writable
from tuneoff.scheduling import Launcher, Prepared
from tuneoff.scheduling.launcher import Exit
from tuneoff.scheduling.plan import complete, plan, plan_seed
from tuneoff.scheduling.process import Event

T = TypeVar("T")

GRACE = 25.0
"""Time for a run to write a checkpoint when its study is interrupted, in seconds."""

PATIENCE = 3
"""Number of failures after which a run is skipped, unless `fresh`."""

Undecided = Callable[[Collection[str]], Collection[str]]
"""Return the methods that should get a further seed, after the runs with these ids."""


class Watcher(Protocol):
    """Receives the progress of a study."""

    def preparing(self, event: Event) -> None:
        """The data is being prepared."""

    def planned(self, runs: int, finished: int, task: TaskRecord, kind: str = "run") -> None:
        """The study has this many runs or trials, of which some have already finished."""

    def started(self, spec: RunSpec) -> None:
        """A run starts."""

    def progress(self, spec: RunSpec, event: Event) -> None:
        """A run has made progress."""

    def ended(self, spec: RunSpec, record: RunRecord) -> None:
        """A run has ended, with success or not."""


def run_study(
    study: StudySpec,
    folder: StudyFolder,
    *,
    launcher: Launcher,
    watch: Watcher,
    fresh: bool = False,
    settings: Sequence[MethodSpec] | None = None,
    undecided: Undecided | None = None,
) -> tuple[TaskRecord, list[RunRecord]]:
    """Execute the runs of a study that have not finished yet.

    A failed run is recorded and does not stop the others.

    Args:
        study: Specification of the study.
        folder: Its folder.
        launcher: Executes the runs.
        watch: Receives the progress.
        fresh: Whether to repeat finished runs.
        settings: The methods of the study with the settings that a search has found.
        undecided: Returns the methods that get the next one of `more_seeds`; without it no further
            seed is run. A resumed study calls it again after the same runs, with the same result.

    Returns:
        The prepared task and the records of all runs.

    Raises:
        BadInput: The study is invalid; nothing was run.
    """
    study = complete(study)
    if folder.is_run:
        raise BadInput(Issue("is the folder of a run, not of a study", file=str(folder.path)))
    check_writable(folder.path)
    with alone_in(folder.path):
        prepared = prepare(study, folder, launcher, watch)
        study = replace(study, methods=tuple(settings or study.methods))
        run_all = partial(
            _run_all,
            prepared=prepared,
            folder=folder,
            launcher=launcher,
            watch=watch,
            fresh=fresh,
        )
        records = run_all(plan(study, prepared))
        for seed in study.more_seeds:
            if undecided is None:
                break
            names = undecided([record.run_id for record in records])
            specs = [spec for spec in plan_seed(study, prepared, seed) if spec.name in names]
            if not specs or _too_long(study, specs, records, launcher.workers):
                break
            records += run_all(specs)
        return prepared.task, records


def _too_long(
    study: StudySpec, specs: Sequence[RunSpec], records: Sequence[RunRecord], workers: int
) -> bool:
    """Return whether the next runs would probably exceed the time limit of the study.

    They are expected to take as long as the earlier runs of their method. The time of a study is
    that of its runs, seed by seed; interruptions and trials of a search do not count.
    """
    if study.max_study_seconds is None:
        return False
    known = [(r, t) for r in records if (t := r.cost.total_seconds) is not None]
    batches: dict[int, list[float]] = {}
    for record, seconds in known:
        batches.setdefault(record.seed, []).append(seconds)
    batches[specs[0].seed] = [
        fmean([t for r, t in known if r.method.name == spec.name] or [0.0]) for spec in specs
    ]
    took = (max(max(batch), sum(batch) / workers) for batch in batches.values())
    return sum(took) > study.max_study_seconds


def _run_all(
    specs: Sequence[RunSpec],
    prepared: Prepared,
    folder: StudyFolder,
    launcher: Launcher,
    watch: Watcher,
    fresh: bool,
) -> list[RunRecord]:
    for spec in specs:
        run = folder.run(spec.run_id)
        for path in (run.path, run.model, run.checkpoint, run.history_file, run.log_file):
            check_inside(path, folder.path)
    known = {} if fresh else {spec.run_id: folder.run(spec.run_id).record() for spec in specs}
    done = {key: record for key, record in known.items() if is_finished(record)}
    aside = {key: record for key, record in known.items() if is_set_aside(record)}
    watch.planned(len(specs), len(done), prepared.task)

    def finish(spec: RunSpec) -> RunRecord:
        if (record := aside.get(spec.run_id)) is not None:
            watch.ended(spec, record)
            return record
        run = folder.run(spec.run_id)
        if (record := done.get(spec.run_id)) is not None:
            return _checked(record, run, prepared, launcher)
        return run_one(spec, run, prepared, launcher=launcher, watch=watch, fresh=fresh)

    return in_parallel([partial(finish, spec) for spec in specs], launcher)


def in_parallel(jobs: Sequence[Callable[[], T]], launcher: Launcher) -> list[T]:
    """Return the results of the jobs, executing as many at a time as `launcher` has workers.

    An interrupt or another exception ends the active runs.
    """
    with ThreadPoolExecutor(launcher.workers) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            launcher.close(grace=GRACE)  # ends the active runs, so that the threads end
            raise


def train_one(
    study: StudySpec,
    out: Path,
    *,
    launcher: Launcher,
    watch: Watcher,
    fresh: bool = False,
    profile: bool = False,
) -> tuple[TaskRecord, RunRecord]:
    """Execute the only run of a study with one method and one seed, in the folder `out` itself.

    Args:
        study: The completed specification.
        out: Folder of the run.
        launcher: Executes the run.
        watch: Receives the progress.
        fresh: Whether to train again if the run has finished.
        profile: Whether to write a trace of some steps.

    Raises:
        BadInput: The specification is invalid, or there is nothing to profile.
    """
    home, folder = StudyFolder(out), RunFolder(out)
    if home.runs_folder.is_dir():
        raise BadInput(Issue("is the folder of a study, not of a run", file=str(out)))
    check_writable(out)
    with alone_in(out):
        prepared = prepare(study, home, launcher, watch)
        (spec,) = plan(study, prepared)
        known = folder.record()
        if profile and method(spec.method).learning_rate is None:
            raise BadInput(f"{spec.method} has no training steps to profile.")
        if not fresh and known is not None and known.run_id == spec.run_id and is_finished(known):
            if profile:
                hint = "Train again with --fresh, or choose another folder with --out."
                raise BadInput(Issue("the run has already finished", file=str(out), hint=hint))
            watch.planned(1, 1, prepared.task)
            return prepared.task, _checked(known, folder, prepared, launcher)
        watch.planned(1, 0, prepared.task)
        return prepared.task, run_one(
            spec, folder, prepared, launcher=launcher, watch=watch, fresh=fresh, profile=profile
        )


def prepare(study: StudySpec, folder: StudyFolder, launcher: Launcher, watch: Watcher) -> Prepared:
    """Prepare the task and write the completed study file; `BadInput` if it is invalid."""
    prepared = check_and_prepare(study, folder, launcher, watch)
    folder.write_spec(with_columns(study, prepared))
    return prepared


def with_columns(study: StudySpec, prepared: Prepared) -> StudySpec:
    """Return the study with the names of the columns that were chosen for text and label."""
    names: dict[str, Any] = prepared.task.columns
    return replace(study, data=replace(study.data, **names))


def check_and_prepare(
    study: StudySpec, folder: StudyFolder, launcher: Launcher, watch: Watcher
) -> Prepared:
    """Like `prepare`, without writing the study file."""
    check_inside(folder.data, folder.path)
    prepared = launcher.prepare(study, folder.data, watch.preparing)
    labels = prepared.task.labels
    specs = plan(study, prepared)
    weighed = {x for s in specs if isinstance(w := s.train.class_weights, dict) for x in w}
    issues = [
        Issue(f"{where}: {x!r} is not a label of the data", hint=nearest(x, labels))
        for where, named in (("class_weights", weighed), ("min_recall", study.min_recall))
        for x in sorted(set(named) - set(labels))
    ]
    if issues:
        raise BadInput(issues)
    return prepared


def is_finished(record: RunRecord | None) -> bool:
    """Return whether the run has finished."""
    return record is not None and record.status == Status.FINISHED


def is_set_aside(record: RunRecord | None) -> bool:
    """Return whether the run is skipped after too many failures."""
    return record is not None and not is_finished(record) and record.failures >= PATIENCE


def run_one(
    spec: RunSpec,
    folder: RunFolder,
    prepared: Prepared,
    *,
    launcher: Launcher,
    watch: Watcher,
    fresh: bool = False,
    profile: bool = False,
) -> RunRecord:
    """Execute a run in its own process. If the process dies, a record is written for it.

    An interrupted run resumes from its last checkpoint, unless `fresh`.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    before = folder.record()
    folder.clear(keep_checkpoint=not fresh)
    folder.write_spec(spec)
    watch.started(spec)
    more: dict[str, Any] = {"profile": True} if profile else {}
    ended = launcher.run(spec, folder, prepared, lambda event: watch.progress(spec, event), **more)
    record = folder.record()
    if record is None:
        record = record_of_death(spec, folder, prepared.task, ended)
        folder.write_record(record)
    elif ended.trouble is not None and is_finished(record):
        note = f"the saved model was not reopened for a check: {ended.trouble}"
        record = replace(record, warnings=[*record.warnings, note])
        folder.write_record(record)
    counted = _counted(record, None if fresh else before)
    if counted != record:
        folder.write_record(counted)
    watch.ended(spec, counted)
    return counted


def _checked(
    record: RunRecord, folder: RunFolder, prepared: Prepared, launcher: Launcher
) -> RunRecord:
    """Return the record of a finished run, after checking its model if that was interrupted."""
    if not folder.sample_file.is_file():
        return record
    launcher.check(folder, prepared)
    return folder.record() or record


def _counted(record: RunRecord, before: RunRecord | None) -> RunRecord:
    """Return the record with its number of failures, including earlier attempts."""
    known = before.failures if before is not None and before.run_id == record.run_id else 0
    if is_finished(record) or record.status in (Status.INTERRUPTED, Status.PRUNED):
        return replace(record, failures=known) if known else record
    error, failures = record.error or "", known + 1
    if failures >= PATIENCE:
        error += f" (skipped after {failures} failures; retry with --fresh)"
    return replace(record, failures=failures, error=error)


def record_of_death(spec: RunSpec, folder: RunFolder, task: TaskRecord, ended: Exit) -> RunRecord:
    """Return a record for a run whose process ended without writing one."""
    status = Status.INTERRUPTED if ended.interrupted else Status.FAILED
    status = Status.OUT_OF_MEMORY if ended.out_of_memory else status
    how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    killer = {
        Status.OUT_OF_MEMORY: " by the system, which was out of memory",
        Status.INTERRUPTED: " because the study was interrupted",
    }.get(status, "")
    chosen = method(spec.method)
    return RunRecord(
        run_id=spec.run_id,
        status=status,
        error=ended.trouble
        or f"the process of the run was ended{killer} ({how}); see its log: {folder.log_file}",
        method=MethodInfo(spec.name, chosen.name, chosen.family, spec.config),
        seed=spec.seed,
        model=spec.model,
        metric=spec.metric,
        data=DataInfo(
            fingerprint=task.fingerprint,
            train_rows=task.splits["train"].rows,
            validation_rows=task.splits["validation"].rows,
            test_rows=0 if spec.trial else task.splits["test"].rows,
            labels=task.labels,
        ),
        train=asdict(spec.train),
        trial=spec.trial is not None,
    )
