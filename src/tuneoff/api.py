"""The Python door: the same as the command line, with data frames welcome."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.config import DataSpec, StudySpec, TrainSpec, file_name, read_study
from tuneoff.display.study_table import to_frame
from tuneoff.exceptions import BadInput, Issue, nearest
from tuneoff.external_predictions import read_runs
from tuneoff.forecasting.estimate import forecast_study
from tuneoff.report import build_report, run_and_report, summary_of, truth_of
from tuneoff.results.record import QUALITY_METRICS, RunRecord, Status
from tuneoff.results.store import RunFolder, StudyFolder
from tuneoff.scheduling import launcher as open_launcher
from tuneoff.scheduling.plan import asked_study
from tuneoff.scheduling.study import train_one
from tuneoff.tables.objects import as_source, as_sources
from tuneoff.tuning import tune_study

if TYPE_CHECKING:
    import pandas as pd

    from tuneoff.engine.inference import Predictor


class Run:
    """One training on disk."""

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder.open(path)
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        record = self.folder.record()
        return f"Run({str(self.folder.path)!r}, {record.status if record else 'not run yet'})"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def record(self) -> RunRecord:
        """What came out; `BadInput` while there is nothing."""
        record = self.folder.record()
        if record is None:
            raise BadInput(Issue("has no record yet", file=str(self.path)))
        return record

    @property
    def model_path(self) -> Path:
        """The saved model: opens with Transformers, or with PEFT for adapters."""
        return self.folder.model

    def predictions(self) -> pd.DataFrame:
        """Labels and probabilities of the validation and test rows."""
        return self.folder.predictions()

    def predict(
        self, texts: str | Iterable[str], pairs: str | Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Return columns `prediction` and `probability_<label>`, a row per text.

        The model is loaded at the first call.

        Args:
            texts: One text or several; the index of a `pandas.Series` becomes that of the result.
            pairs: The second texts of a run that was trained on pairs, as many.

        Raises:
            BadInput: The run did not finish, or a text is missing or not a string.

        Warns:
            UserWarning: Rows have no text but white space.
        """
        from tuneoff.engine.inference import Predictor, as_texts, blank_note

        given = as_texts(texts)
        seconds = None if pairs is None else as_texts(pairs, "second text")
        if self._predictor is None:
            self._predictor = Predictor(self.folder)
        found = self._predictor.predict(given, seconds)
        if note := blank_note(given, seconds):
            warnings.warn(note, stacklevel=2)
        index = getattr(texts, "index", None)
        return found if index is None or callable(index) else found.set_axis(index)


class Study:
    """A study on disk: its runs, table and report."""

    def __init__(self, path: str | Path) -> None:
        self.folder = StudyFolder.open(path)

    def __repr__(self) -> str:
        return f"Study({str(self.folder.path)!r}, {len(self.runs)} runs)"

    @property
    def path(self) -> Path:
        """The study's folder."""
        return self.folder.path

    @property
    def spec(self) -> StudySpec:
        """What was asked, every default filled in."""
        return self.folder.spec()

    @property
    def runs(self) -> list[Run]:
        """All runs in the study's folder."""
        return [Run(run.path) for run in self.folder.runs()]

    @property
    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`; made from the records if it is not there."""
        found = self.folder.summary()
        return summary_of(self.folder) if found is None else found

    def table(self, full: bool = False) -> pd.DataFrame:
        """One row per method, best first: quality and cost, means over the seeds.

        The study's metric comes with `_std`, `_low` and `_high` (95 % interval over the seeds), and
        `beside_best` is how a method stands to the best: `best`, `worse`, `equivalent`,
        `not_resolved`, or None where the two were not compared. `full`: every score and cost that a
        record holds, about 45 columns.
        """
        return to_frame(self.summary, full=full)

    def report(self, predictions: Mapping[str, Any] | None = None) -> Path:
        """Write `report.html` anew; its path.

        `predictions` made by other tools stand beside the study's methods: by the name of each, a
        file, a data frame, or a list of them, one for each seed. What they hold is what
        `tuneoff report --predictions NAME=FILE` reads; data frames are kept in the study's folder,
        under `elsewhere/`. Raises `BadInput`, and writes no report, if they do not fit the study.
        """
        if not predictions:
            return build_report(self.folder)
        sources: list[tuple[str, Path]] = []
        for name, given in predictions.items():
            for one in given if isinstance(given, list | tuple) else [given]:
                place = f"{len(sources)}-{file_name(str(name))}.parquet"
                kept = as_source(one, self.path / "elsewhere" / place)
                sources.append((str(name), Path(kept)))
        taken = [m.name for m in self.spec.methods]
        _, runs = read_runs(sources, truth_of(self.folder), taken=taken)
        return build_report(self.folder, elsewhere=runs)

    def best(self) -> Run:
        """The finished run with the best score on validation, by the study's metric.

        Raises `BadInput` if no run has finished.
        """
        asked = {run_id for row in self.summary["methods"] for run_id in row["runs"]}
        metric = self.spec.metric
        sign = 1 if QUALITY_METRICS[metric].higher_is_better else -1
        scored = [
            (sign * getattr(record.quality.validation, metric), run)
            for run in self.runs
            if run.path.name in asked  # the folder may hold runs of an earlier question
            and (record := run.folder.record()) is not None
            and record.status == Status.FINISHED
            and record.quality.validation is not None
        ]
        if not scored:
            raise BadInput(Issue("has no finished run", file=str(self.path)))
        return max(scored, key=lambda pair: pair[0])[1]


def compare(
    study: str | Path | Mapping[str, Any] | None = None,
    *,
    out: str | Path = "studies/study",
    methods: str | Sequence[str | Mapping[str, Any]] | None = None,
    seeds: int | str | Sequence[int] | None = None,
    workers: int | str = "auto",
    launcher: str = "local",
    fresh: bool = False,
    progress: bool = True,
    **options: Any,
) -> Study:
    """Run methods x seeds on one task, as `tuneoff compare` does.

    `study` is a study file or its content; `options` go over it by the names of the study file's
    keys, whatever their section: `model`, `metric`, `margin`, `limits`, `tune` (a number of trials,
    or a mapping), `max_study_seconds`, those of `data` (`train`, `test`, `text`, …; data frames may
    stand in place of files) and those of `train` (`epochs`, …).

    `seeds` is a number, a list, or a range such as "2:8": two seeds of each method, and then up to
    eight of those that may still be the recommendation.

    `workers` is the number of runs at the same time; "auto" is one per GPU, and on a CPU the
    fastest number of runs.

    Raises `BadInput` before anything is run. A run that fails is a record, and the others go on.
    """
    content = _content(study, options, Path(out), methods)
    if seeds is not None:
        content["seeds"] = seeds
    asked = asked_study(content)
    folder = StudyFolder(out)
    with open_launcher(launcher, workers) as launch, _watcher(progress) as watch:
        run_and_report(
            asked, folder, launcher=launch, watch=watch, fresh=fresh, command="tuneoff.compare(…)"
        )
    return Study(out)


def tune(
    study: str | Path | Mapping[str, Any] | None = None,
    *,
    out: str | Path = "studies/study",
    methods: str | Sequence[str | Mapping[str, Any]] | None = None,
    tune: int | Mapping[str, Any] = 8,
    workers: int | str = "auto",
    launcher: str = "local",
    fresh: bool = False,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """The same number of trials for each method, as `tuneoff tune` does; what they found.

    That is the content of `trials/trials.json` in the folder `out`, where `tuned.yaml` is the study
    with the settings found. `tune` is the number of trials, or the `tune` section of a study file;
    the other options are those of `compare`. The test rows are not read.
    """
    content = {**_content(study, options, Path(out), methods), "tune": tune}
    asked = asked_study(content)
    with open_launcher(launcher, workers) as launch, _watcher(progress) as watch:
        found = tune_study(asked, StudyFolder(out), launcher=launch, watch=watch, fresh=fresh)
    return found.to_plain()


def forecast(
    study: str | Path | Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    methods: str | Sequence[str | Mapping[str, Any]] | None = None,
    seeds: int | str | Sequence[int] | None = None,
    workers: int | str = "auto",
    launcher: str = "local",
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """What a study will take, as `tuneoff forecast` says it: the content of `forecast.json`.

    Arguments are those of `compare`. Seconds and bytes of each method's run, and of the study; each
    method is tried on a few steps. Without `out` nothing is left on disk. Raises `BadInput` before
    anything is run.
    """
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch:
        folder = Path(out or scratch)
        content = _content(study, options, folder, methods)
        if seeds is not None:
            content["seeds"] = seeds
        asked = asked_study(content)
        with open_launcher(launcher, workers) as launch, _watcher(progress) as watch:
            return forecast_study(asked, StudyFolder(folder), launcher=launch, watch=watch)


def train(
    method: str | Mapping[str, Any],
    *,
    out: str | Path,
    seed: int = 0,
    launcher: str = "local",
    fresh: bool = False,
    progress: bool = True,
    **options: Any,
) -> Run:
    """One run with one method, as `tuneoff train` does.

    `method` is a name or an entry of a study's `methods` (`{"method": "lora", "rank": 16}`);
    `options` are those of `compare`. Raises `BadInput` before anything is run.
    """
    content = _with_options({}, options, Path(out))
    asked = asked_study({**content, "methods": [method], "seeds": [seed]})
    with open_launcher(launcher) as launch, _watcher(progress) as watch:
        train_one(asked, Path(out), launcher=launch, watch=watch, fresh=fresh)
    return Run(out)


def load(path: str | Path) -> Study | Run:
    """The study or the run in the folder `path`; `BadInput` if it is neither."""
    if RunFolder(path).spec_file.is_file():
        return Run(path)
    return Study(path)


_DATA = {f.name for f in fields(DataSpec)}
_TRAIN = {f.name for f in fields(TrainSpec)}
_PLAIN = ("margin", "limits", "tune", "max_study_seconds")
_OWN = {"methods", "seeds", "workers", "out", "launcher", "fresh", "progress"}


def _content(
    study: str | Path | Mapping[str, Any] | None,
    options: dict[str, Any],
    out: Path,
    methods: str | Sequence[str | Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """A study file's content, with options over it."""
    content = dict(study) if isinstance(study, Mapping) else read_study(study) if study else {}
    content = _with_options(content, options, out)
    if isinstance(methods, str):  # as on the command line
        methods = [name.strip() for name in methods.split(",")]
    return content if methods is None else {**content, "methods": list(methods)}


def _with_options(content: dict[str, Any], options: dict[str, Any], out: Path) -> dict[str, Any]:
    known = _DATA | _TRAIN | {"model", "metric", *_PLAIN}
    for key in options.keys() - known:
        raise BadInput(f"unknown option {key!r}.", hint=nearest(key, known | _OWN))
    data, train = dict(content.get("data") or {}), dict(content.get("train") or {})
    top: dict[str, Any] = {}
    for key, value in options.items():
        # `train` and `test` are data: the training settings are options of their own.
        if key in _DATA:
            data[key] = value
        elif key in _TRAIN:
            train[key] = value
        else:
            top[key] = value if key in _PLAIN else str(value)
    return {**content, **top, "data": as_sources(data, out / "data"), "train": train}


def _watcher(progress: bool) -> Any:
    from tuneoff.display.progress import watcher

    return watcher(quiet=not progress)
