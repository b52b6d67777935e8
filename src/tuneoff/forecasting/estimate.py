"""What a study will take: each method is tried on a few steps, and its parts are scaled up.

A probe is a run like any other, in a process of its own, on an excerpt of the task: twice some
typical steps, and the largest of the whole training, which decide about the peak of memory. What
it takes is measured by the rules of a run; what grows with the rows is scaled by them, the rest
(loading, saving) is taken as it is.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tuneoff.config import RunSpec, StudySpec
from tuneoff.exceptions import BadInput, Issue
from tuneoff.methods import method
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.store import RunFolder, StudyFolder, alone_in, check_writable
from tuneoff.scheduling import LocalLauncher, Prepared
from tuneoff.scheduling.plan import complete, plan, varies_with_seed
from tuneoff.scheduling.process import Event
from tuneoff.scheduling.study import Watcher, check_and_prepare, is_finished, record_of_death

SCHEMA = 1
"""Of `forecast.json`; raised when a field changes its meaning."""

EPOCHS = 2
"""Of a probe: the second comes after a validation, as all but a training's first one do."""

WHOLE_ROWS = 2_000
"""Up to which a classical method is tried on all of them; beyond, on two shares of the rows."""

POINTS_AT_ONCE = 3
"""Points to go on from that lie on disk while one is written."""


@dataclass(frozen=True)
class MethodForecast:
    """What each run of one method will take; None where a probe did not come so far."""

    name: str
    method: str
    status: str
    """How the probe ended: what runs out of memory here does so in the study."""
    error: str | None
    runs: list[str]
    """Run ids, one for each seed."""
    train_seconds: float | None = None
    evaluate_seconds: float | None = None
    total_seconds: float | None = None
    """Of a run that finds the states of the frozen layers on disk."""
    prefix_seconds: float = 0.0
    """More in the run that computes them; 0 where they are there, or none are frozen."""
    prefix_bytes: int = 0
    prefix: str | None = None
    """Identity of those states: methods of the same one share them."""
    around_seconds: float = 0.0
    """Around each run: its process, and opening its saved model for a check."""
    peak_memory_bytes: int | None = None
    storage_bytes: int | None = None
    disk_bytes: int | None = None
    """What a run leaves in its folder."""
    checkpoint_bytes: int = 0
    """More on disk while it runs, at the most."""
    probe_seconds: float = 0.0


def forecast_study(
    study: StudySpec, folder: StudyFolder, *, launcher: LocalLauncher, watch: Watcher
) -> dict[str, Any]:
    """What the runs of `study` will take: the content of `forecast.json`, written into `folder`.

    The data is prepared there, as for the study itself. Raises `BadInput` as a study does, before
    anything is run. Early stopping is not foreseen: trainings are taken to last all epochs.
    """
    study = complete(study)
    if study.tune is not None:
        from tuneoff.tuning.space import tuning_issues

        if issues := tuning_issues(study):
            raise BadInput(issues)
    if folder.is_run:
        raise BadInput(Issue("is the folder of a run, not of a study", file=str(folder.path)))
    check_writable(folder.path)
    with (
        alone_in(folder.path),
        tempfile.TemporaryDirectory(dir=folder.path, prefix=".forecast-") as scratch,
    ):
        prepared = check_and_prepare(study, folder, launcher, watch)
        specs = plan(study, prepared)
        methods = []
        for entry in study.methods:
            watch.preparing({"event": "progress", "phase": "probe", "of": entry.name})
            own = [spec for spec in specs if spec.name == entry.name]
            methods.append(_of_method(own, prepared, Path(scratch), launcher))
        content = _content(study, methods, specs, prepared, launcher.workers)
        records = [folder.run(spec.run_id).record() for spec in specs]
        content["study"]["finished"] = sum(map(is_finished, records))
        folder.write_forecast(content)
    return content


@dataclass(frozen=True)
class _Probe:
    """A run on an excerpt, and the excerpt."""

    record: RunRecord
    taken: Mapping[str, Any]
    history: list[Event]
    seconds: float
    """As the parent process measured it, the check of the saved model included."""
    disk: int
    """Bytes that it left, predictions aside."""
    predictions: int
    states: str | None
    """Identity of the stored states of the frozen layers, as their files are named."""
    state_bytes: int

    def share(self, what: str, *splits: str) -> float:
        """How many times more `what` (tokens, rows) all of these splits have."""
        every, own = self.taken[f"all_{what}"], self.taken[what]
        return float(sum(every[s] for s in splits) / max(1, sum(own[s] for s in splits)))


def _of_method(
    specs: Sequence[RunSpec], prepared: Prepared, scratch: Path, launcher: LocalLauncher
) -> MethodForecast:
    start = time.perf_counter()
    classical = method(specs[0].method).family == "classical"
    rows = prepared.task.splits["train"].rows
    sizes: list[int | None] = [None]
    if classical and rows > WHOLE_ROWS:
        sizes = [max(WHOLE_ROWS // 2, rows // 8), max(WHOLE_ROWS, rows // 4)]
    elif classical:
        sizes = [rows]
    probes = []
    for size in sizes:
        probes.append(_probe(specs, prepared, scratch, launcher, size))
        if probes[-1].record.status is not Status.FINISHED:
            break
    last = probes[-1]
    found = MethodForecast(
        name=specs[0].name,
        method=specs[0].method,
        status=str(last.record.status),
        error=last.record.error,
        runs=[spec.run_id for spec in specs],
    )
    if last.record.status is Status.FINISHED:
        found = _fitted(found, probes) if classical else _trained(found, last, specs[0], prepared)
    return replace(found, probe_seconds=time.perf_counter() - start)


def _probe(
    specs: Sequence[RunSpec],
    prepared: Prepared,
    scratch: Path,
    launcher: LocalLauncher,
    train_rows: int | None,
) -> _Probe:
    """Run the first of `specs` on an excerpt, in the folder `scratch`; empty afterwards."""
    train = specs[0].train
    taken = launcher.excerpt(
        prepared,
        scratch / "data" / "excerpt",
        batch_size=train.batch_size,
        epochs=train.epochs,
        seeds=[spec.seed for spec in specs],
        train_rows=train_rows,
    )
    spec = replace(specs[0], train=replace(train, epochs=EPOCHS, early_stopping_patience=None))
    folder = RunFolder(scratch / "run")
    folder.write_spec(spec)
    start = time.perf_counter()
    ended = launcher.run(
        spec,
        folder,
        replace(prepared, task_path=Path(taken["path"])),
        lambda event: None,
        whole=prepared.task_path,
    )
    seconds = time.perf_counter() - start
    record = folder.record() or record_of_death(spec, folder, prepared.task, ended)
    states = Path(taken["path"]) / "states"
    names = [file.name.removeprefix("train-") for file in states.glob("train-*[!n]")]
    predictions = _bytes(folder.predictions_file)
    probe = _Probe(
        record,
        taken,
        folder.history(),
        seconds,
        disk=_bytes(folder.path) - predictions,
        predictions=predictions,
        states=names[0] if names else None,
        state_bytes=_bytes(states),
    )
    for path in scratch.iterdir():
        shutil.rmtree(path)
    return probe


def _trained(
    found: MethodForecast, probe: _Probe, spec: RunSpec, prepared: Prepared
) -> MethodForecast:
    """From a probe of an encoder's method."""
    record, cost, train = probe.record, probe.record.cost, spec.train
    splits = ("train", "validation", "test")
    seconds = dict(cost.seconds)
    other = (cost.total_seconds or 0.0) - sum(seconds.values())
    trains = cost.train_seconds is not None
    epochs = train.epochs if trains else 0
    steps = _step_seconds(probe, train.epochs) if trains else 0.0
    prefix_of_train = (cost.train_seconds or 0.0) - seconds.get("train", 0.0)
    validate = seconds["validate"] * (epochs / EPOCHS if trains else 1)
    evaluate = seconds.get("evaluate", 0.0) * probe.share("tokens", "test")
    keep = seconds.get("checkpoint", 0.0) / max(1, record.best_epoch or 1)
    trainable = record.parameters.trainable if record.parameters else 0
    points = math.floor(steps / train.checkpoint_seconds) if train.checkpoint_seconds else 0
    total = (
        seconds["load"]
        + steps
        + validate * probe.share("tokens", "validation")
        + evaluate
        + seconds.get("latency", 0.0)
        + keep * (epochs + 3 * points)  # a point holds the weights and two moments of each
        + seconds["save"]
        + other
    )
    there = probe.states and (prepared.task_path / "states" / f"train-{probe.states}").is_file()
    return replace(
        found,
        train_seconds=steps + prefix_of_train * probe.share("tokens", "train") if trains else None,
        evaluate_seconds=evaluate,
        total_seconds=total,
        prefix=probe.states,
        prefix_seconds=0.0
        if there
        else seconds.get("prefix", 0.0) * probe.share("tokens", *splits),
        prefix_bytes=round(probe.state_bytes * probe.share("tokens", *splits)),
        around_seconds=max(0.0, probe.seconds - (cost.total_seconds or 0.0)),
        peak_memory_bytes=cost.peak_memory_bytes,
        storage_bytes=cost.storage_bytes,
        disk_bytes=probe.disk + _predictions(probe),
        checkpoint_bytes=(2 + 3 * POINTS_AT_ONCE * bool(points)) * 4 * trainable if trains else 0,
    )


def _predictions(probe: _Probe) -> int:
    return round(probe.predictions * probe.share("rows", "validation", "test"))


def _step_seconds(probe: _Probe, epochs: int) -> float:
    """Of all steps of a training: the mean of typical ones for each, and what the first two took
    longer than the same steps did in the second epoch."""
    taken = probe.taken
    at = [row["seconds"] for row in probe.history if row["kind"] == "train"]
    took = [after - before for before, after in zip([0.0, *at], at, strict=False)]
    count, extremes = taken["steps"], taken["extremes"]
    again = took[count : 2 * count]
    typical = took[max(2, extremes) : count] + again[extremes:]
    cold = sum(max(0.0, a - b) for a, b in zip(took[:2], again[:2], strict=False))
    return float(sum(typical) / len(typical) * taken["all_steps"] * epochs + cold)


def _fitted(found: MethodForecast, probes: Sequence[_Probe]) -> MethodForecast:
    """From probes of a classical method on two shares of the rows, or on all of them."""
    last = probes[-1]
    cost, seconds = last.record.cost, last.record.cost.seconds

    def grown(values: Sequence[float | None]) -> float:
        """The last of `values` at all rows, by the power law through both."""
        known = [value or 0.0 for value in values]
        if len(probes) == 1 or min(known) <= 0:
            return known[-1]
        a, b = (probe.taken["rows"]["train"] for probe in probes)
        power = math.log(known[1] / known[0]) / math.log(b / a)
        return float(known[1] * last.share("rows", "train") ** min(2.0, max(0.0, power)))

    fit = grown([p.record.cost.train_seconds for p in probes])
    stored = round(grown([p.record.cost.storage_bytes for p in probes]))
    evaluate = seconds["evaluate"] * last.share("rows", "test")
    save = grown([p.record.cost.seconds["save"] for p in probes])
    other = (cost.total_seconds or 0.0) - sum(seconds.values())
    validate = seconds["validate"] * last.share("rows", "validation")
    return replace(
        found,
        train_seconds=fit,
        evaluate_seconds=evaluate,
        total_seconds=fit + validate + evaluate + seconds.get("latency", 0.0) + save + other,
        around_seconds=max(0.0, last.seconds - (cost.total_seconds or 0.0)),
        peak_memory_bytes=round(grown([p.record.cost.peak_memory_bytes for p in probes])),
        storage_bytes=stored,
        disk_bytes=last.disk - (cost.storage_bytes or 0) + stored + _predictions(last),
    )


def _content(
    study: StudySpec,
    methods: Sequence[MethodForecast],
    specs: Sequence[RunSpec],
    prepared: Prepared,
    workers: int,
) -> dict[str, Any]:
    """`forecast.json`: per method, per run in the order of the study, and of the whole study."""
    by_name = {m.name: m for m in methods}
    computed: set[str] = set()
    runs: list[dict[str, Any]] = []
    for spec in specs:
        own = by_name[spec.name]
        first = own.prefix is not None and own.prefix not in computed
        computed |= {own.prefix} if own.prefix else set()
        more = own.prefix_seconds if first else 0.0
        total = None if own.total_seconds is None else own.total_seconds + more
        run = {"run_id": spec.run_id, "name": spec.name, "seed": spec.seed, "total_seconds": total}
        runs.append(run | {"computes_prefix": first and more > 0})
    known = [m for m in methods if m.total_seconds is not None]
    seconds: float = sum(r["total_seconds"] or 0.0 for r in runs)
    seconds += sum(m.around_seconds * len(m.runs) for m in known)
    prefixes = {m.prefix: m.prefix_bytes for m in known if m.prefix}
    disk = sum((m.disk_bytes or 0) * len(m.runs) for m in known) + sum(prefixes.values())
    data = _bytes(prepared.task_path) - _bytes(prepared.task_path / "states")
    return {
        "schema": SCHEMA,
        "model": study.model,
        "device": prepared.device,
        "methods": [asdict(m) for m in methods],
        "runs": runs,
        "study": {
            "seconds": seconds / max(1, min(workers, len(specs))),
            "workers": workers,
            "peak_memory_bytes": max((m.peak_memory_bytes or 0 for m in known), default=None),
            "disk_bytes": disk + data,
            "checkpoint_bytes": max((m.checkpoint_bytes for m in known), default=0),
            "trials_seconds": _trials(study, known),
            "more_seeds_seconds": _more_seeds(study, known, workers),
        },
    }


def _trials(study: StudySpec, methods: Sequence[MethodForecast]) -> float | None:
    """The most that the trials of a search take, none of them ended early; None without one."""
    if study.tune is None:
        return None
    once = sum(
        (m.total_seconds or 0.0) - (m.evaluate_seconds or 0.0) + m.around_seconds
        for m in methods
        if method(m.method).learning_rate is not None
    )
    return once * study.tune.trials


def _more_seeds(study: StudySpec, methods: Sequence[MethodForecast], workers: int) -> float | None:
    """The most that further seeds take, if every method gets all of them; None without any."""
    if not study.more_seeds:
        return None
    varying = {entry.name for entry in study.methods if varies_with_seed(entry)}
    once = sum((m.total_seconds or 0.0) + m.around_seconds for m in methods if m.name in varying)
    most = once * len(study.more_seeds) / max(1, min(workers, len(varying)))
    return min(most, study.max_study_seconds or math.inf)


def _bytes(path: Path) -> int:
    """Of a file or a folder; links count nothing."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.lstat().st_size for f in files if f.is_file() and not f.is_symlink())


def to_json(forecast: Mapping[str, Any]) -> str:
    """As `--json` prints it."""
    return json.dumps(forecast, indent=1, ensure_ascii=False)
