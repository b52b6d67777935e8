"""Forecast of the cost of a study: a probe of each method on a few steps, scaled to the full task.

A probe is a normal run in its own process, on an excerpt of the task: two epochs of some typical
steps and of the largest steps of the whole training, which determine the peak memory. Its costs
are measured as those of any run. Costs that grow with the number of rows or tokens are scaled; the
others (loading, saving) are not.
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
from tuneoff.scheduling import Launcher, Prepared
from tuneoff.scheduling.plan import complete, plan, varies_with_seed
from tuneoff.scheduling.process import Event
from tuneoff.scheduling.study import Watcher, check_and_prepare, is_finished, record_of_death

SCHEMA = 1
"""Version of `forecast.json`, raised when the meaning of a field changes."""

EPOCHS = 2
"""Epochs of a probe. The second one follows a validation, as all but the first of a training."""

WHOLE_ROWS = 2_000
"""Maximum number of rows for a probe of a classical method on all rows.

With more rows it has two probes, on subsamples of different sizes.
"""

POINTS_AT_ONCE = 3
"""Maximum number of checkpoints on disk at a time, while one is written."""


@dataclass(frozen=True)
class MethodForecast:
    """Forecast of the costs of each run of one method; None where the probe failed before it."""

    name: str
    method: str
    status: str
    """Status of the probe. If it runs out of memory, so will the runs of the study."""
    error: str | None
    """Error of the probe."""
    runs: list[str]
    """Run ids, one for each seed."""
    train_seconds: float | None = None
    evaluate_seconds: float | None = None
    total_seconds: float | None = None
    """Total time of a run that finds the outputs of the frozen layers in the cache on disk."""
    prefix_seconds: float = 0.0
    """Additional time of the run that computes them; 0 if they exist or no layers are frozen."""
    prefix_bytes: int = 0
    """Size of the cached outputs."""
    prefix: str | None = None
    """Key of the cached outputs, which methods with the same key share."""
    around_seconds: float = 0.0
    """Additional time for the process of each run and for the check of its saved model."""
    peak_memory_bytes: int | None = None
    storage_bytes: int | None = None
    disk_bytes: int | None = None
    """Size of the folder of a finished run."""
    checkpoint_bytes: int = 0
    """Maximum additional disk space during a run."""
    probe_seconds: float = 0.0
    """Time of the probes themselves."""


def forecast_study(
    study: StudySpec, folder: StudyFolder, *, launcher: Launcher, watch: Watcher
) -> dict[str, Any]:
    """Forecast the costs of the runs of a study, and write `forecast.json`.

    The data is prepared in the folder, as for the study itself. Early stopping is ignored: all
    trainings are assumed to last all epochs.

    Args:
        study: Specification of the study.
        folder: Its folder.
        launcher: Executes the probes.
        watch: Receives the progress.

    Returns:
        The content of `forecast.json`.

    Raises:
        BadInput: The study is invalid; nothing was run.
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
    """A run on an excerpt of the task."""

    record: RunRecord
    taken: Mapping[str, Any]
    """Numbers of rows, tokens and steps of the excerpt and of the task."""
    history: list[Event]
    seconds: float
    """Time measured by the parent process, including the check of the saved model."""
    disk: int
    """Size of its folder without predictions, in bytes."""
    predictions: int
    """Size of the predictions, in bytes."""
    states: str | None
    """Key of the cached outputs of the frozen layers, part of their file names."""
    state_bytes: int
    """Size of the cached outputs."""

    def share(self, what: str, *splits: str) -> float:
        """Return how many times as many tokens or rows the full splits have as the excerpt."""
        every, own = self.taken[f"all_{what}"], self.taken[what]
        return float(sum(every[s] for s in splits) / max(1, sum(own[s] for s in splits)))


def _of_method(
    specs: Sequence[RunSpec], prepared: Prepared, scratch: Path, launcher: Launcher
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
    forecast = MethodForecast(
        name=specs[0].name,
        method=specs[0].method,
        status=str(last.record.status),
        error=last.record.error,
        runs=[spec.run_id for spec in specs],
    )
    if last.record.status is Status.FINISHED:
        forecast = (
            _fitted(forecast, probes) if classical else _trained(forecast, last, specs[0], prepared)
        )
    return replace(forecast, probe_seconds=time.perf_counter() - start)


def _probe(
    specs: Sequence[RunSpec],
    prepared: Prepared,
    scratch: Path,
    launcher: Launcher,
    train_rows: int | None,
) -> _Probe:
    """Execute the first of `specs` on an excerpt in the folder `scratch`, and empty the folder."""
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
    forecast: MethodForecast, probe: _Probe, spec: RunSpec, prepared: Prepared
) -> MethodForecast:
    """Return the forecast of a method with an encoder from its probe."""
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
    checkpoints = math.floor(steps / train.checkpoint_seconds) if train.checkpoint_seconds else 0
    total = (
        seconds["load"]
        + steps
        + validate * probe.share("tokens", "validation")
        + evaluate
        + seconds.get("latency", 0.0)
        + keep * (epochs + 3 * checkpoints)  # a checkpoint has the weights and two moments of each
        + seconds["save"]
        + other
    )
    cached = probe.states and (prepared.task_path / "states" / f"train-{probe.states}").is_file()
    return replace(
        forecast,
        train_seconds=steps + prefix_of_train * probe.share("tokens", "train") if trains else None,
        evaluate_seconds=evaluate,
        total_seconds=total,
        prefix=probe.states,
        prefix_seconds=0.0
        if cached
        else seconds.get("prefix", 0.0) * probe.share("tokens", *splits),
        prefix_bytes=round(probe.state_bytes * probe.share("tokens", *splits)),
        around_seconds=max(0.0, probe.seconds - (cost.total_seconds or 0.0)),
        peak_memory_bytes=cost.peak_memory_bytes,
        storage_bytes=cost.storage_bytes,
        disk_bytes=probe.disk + _predictions(probe),
        checkpoint_bytes=(2 + 3 * POINTS_AT_ONCE * bool(checkpoints)) * 4 * trainable
        if trains
        else 0,
    )


def _predictions(probe: _Probe) -> int:
    return round(probe.predictions * probe.share("rows", "validation", "test"))


def _step_seconds(probe: _Probe, epochs: int) -> float:
    """Return the time of all steps of a training.

    It is the mean time of typical steps for each step, plus the time by which the first two steps
    were slower than the same steps in the second epoch.
    """
    taken = probe.taken
    ends = [row["seconds"] for row in probe.history if row["kind"] == "train"]
    durations = [after - before for before, after in zip([0.0, *ends], ends, strict=False)]
    count, extremes = taken["steps"], taken["extremes"]
    second_epoch = durations[count : 2 * count]
    typical = durations[max(2, extremes) : count] + second_epoch[extremes:]
    cold = sum(max(0.0, a - b) for a, b in zip(durations[:2], second_epoch[:2], strict=False))
    return float(sum(typical) / len(typical) * taken["all_steps"] * epochs + cold)


def _fitted(forecast: MethodForecast, probes: Sequence[_Probe]) -> MethodForecast:
    """Return the forecast of a classical method.

    It is computed from two probes on subsamples or one on all rows.
    """
    last = probes[-1]
    cost, seconds = last.record.cost, last.record.cost.seconds

    def grown(values: Sequence[float | None]) -> float:
        """Extrapolate `values` of the probes to all rows, by a power law with exponent 0 to 2."""
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
        forecast,
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
    """Return the content of `forecast.json`: by method, by run in their order, and in total."""
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
    """Return the maximum time of the trials of a search, without pruning; None without a search."""
    if study.tune is None:
        return None
    once = sum(
        (m.total_seconds or 0.0) - (m.evaluate_seconds or 0.0) + m.around_seconds
        for m in methods
        if method(m.method).learning_rate is not None
    )
    return once * study.tune.trials


def _more_seeds(study: StudySpec, methods: Sequence[MethodForecast], workers: int) -> float | None:
    """Return the time of further seeds if all methods get all of them; None without any."""
    if not study.more_seeds:
        return None
    varying = {entry.name for entry in study.methods if varies_with_seed(entry)}
    once = sum((m.total_seconds or 0.0) + m.around_seconds for m in methods if m.name in varying)
    most = once * len(study.more_seeds) / max(1, min(workers, len(varying)))
    return min(most, study.max_study_seconds or math.inf)


def _bytes(path: Path) -> int:
    """Return the size of a file or folder, without symbolic links."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.lstat().st_size for f in files if f.is_file() and not f.is_symlink())


def to_json(forecast: Mapping[str, Any]) -> str:
    """Return a forecast as JSON text for `--json`."""
    return json.dumps(forecast, indent=1, ensure_ascii=False)
