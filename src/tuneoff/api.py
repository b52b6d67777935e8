"""Python interface: the commands as functions, which also take data frames."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from tuneoff.config import (
    DataSpec,
    StudyOptions,
    StudySpec,
    TrainSpec,
    TunedStudyOptions,
    file_name,
    read_study,
)
from tuneoff.display.study_table import to_frame
from tuneoff.evaluation.evaluate import evaluate_runs
from tuneoff.evaluation.result import Evaluation
from tuneoff.exceptions import BadInput, Issue, nearest
from tuneoff.external_predictions import read_runs
from tuneoff.forecasting.estimate import forecast_study
from tuneoff.report import build_report, run_and_report, summary_of, truth_of
from tuneoff.results.exports import is_export
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.store import RunFolder, StudyFolder
from tuneoff.results.summary import Summary, Tuning
from tuneoff.scheduling import local_launcher
from tuneoff.scheduling.plan import asked_study
from tuneoff.scheduling.study import train_one
from tuneoff.tables.columns import Columns
from tuneoff.tables.objects import as_source, as_sources
from tuneoff.tuning import tune_study

if TYPE_CHECKING:
    import pandas as pd

    from tuneoff.engine.inference import ExportedModel, Predictor


class Run:
    """A run on disk: one training with one method and seed."""

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder.open(path)
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        record = self.folder.record()
        return f"Run({str(self.folder.path)!r}, {record.status if record else 'not run yet'})"

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.folder.path

    @property
    def record(self) -> RunRecord:
        """Record of the run. Raises `BadInput` if the run has not ended yet."""
        record = self.folder.record()
        if record is None:
            raise BadInput(Issue("has no record yet", file=str(self.path)))
        return record

    @property
    def model_path(self) -> Path:
        """Folder of the saved model, which Transformers opens, or PEFT for adapters."""
        return self.folder.model

    def predictions(self) -> pd.DataFrame:
        """Return labels, predictions and probabilities of the validation and test rows."""
        return self.folder.predictions()

    def predict(
        self, texts: str | Iterable[str], pairs: str | Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Predict the labels of new texts. The model is loaded at the first call.

        Args:
            texts: One text or several. The index of a `pandas.Series` is kept.
            pairs: The second texts, for a run that was trained on pairs; as many as `texts`.

        Returns:
            One row per text with the columns `prediction` and `probability_<label>`.

        Raises:
            BadInput: The run has not finished, or a text is missing or not a string.

        Warns:
            UserWarning: Some texts are empty.
        """
        from tuneoff.engine.inference import Predictor, as_texts, blank_note

        given = as_texts(texts)
        seconds = None if pairs is None else as_texts(pairs, "second text")
        if self._predictor is None:
            self._predictor = Predictor(self.folder)
        found = self._predictor.predict(given, seconds)
        if note := blank_note(given, seconds):
            warnings.warn(note, stacklevel=2)
        return _with_index(found, texts)

    def evaluate(self, data: Any, **columns: Any) -> Evaluation:
        """Score the run on labelled rows, as `tuneoff.evaluate` does."""
        return evaluate([self], data, **columns)

    def export(self, out: str | Path, **options: Any) -> Exported:
        """Write the model for other programs, as `tuneoff.export` does."""
        return export(self, out, **options)


class Exported:
    """An exported model on disk, which ONNX Runtime, OpenVINO or Transformers runs."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._model: ExportedModel | None = None

    def __repr__(self) -> str:
        return f"Exported({str(self.path)!r})"

    @property
    def parity(self) -> dict[str, Any]:
        """Comparison with the run's model, the content of `parity.json`."""
        found: dict[str, Any] = json.loads((self.path / "parity.json").read_text(encoding="utf-8"))
        return found

    def predict(
        self, texts: str | Iterable[str], pairs: str | Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Predict the labels of new texts, with the arguments and the result of `Run.predict`."""
        from tuneoff.engine.inference import ExportedModel

        if self._model is None:
            self._model = ExportedModel(self.path)
        return _with_index(self._model.predict(texts, pairs), texts)

    def evaluate(self, data: Any, **columns: Any) -> Evaluation:
        """Score the export on labelled rows, as `tuneoff.evaluate` does."""
        return evaluate([self], data, **columns)


class Study:
    """A study on disk: its runs, table and report."""

    def __init__(self, path: str | Path) -> None:
        self.folder = StudyFolder.open(path)

    def __repr__(self) -> str:
        return f"Study({str(self.folder.path)!r}, {len(self.runs)} runs)"

    @property
    def path(self) -> Path:
        """Folder of the study."""
        return self.folder.path

    @property
    def spec(self) -> StudySpec:
        """Specification of the study, with all defaults filled in."""
        return self.folder.spec()

    @property
    def runs(self) -> list[Run]:
        """All runs in the study's folder."""
        return [Run(run.path) for run in self.folder.runs()]

    @property
    def summary(self) -> Summary:
        """Content of `summary.json`. It is computed from the records if the file is missing."""
        found = self.folder.summary()
        return summary_of(self.folder) if found is None else found

    def table(self, full: bool = False) -> pd.DataFrame:
        """Return scores and costs of the methods, as means over their seeds.

        Args:
            full: Whether to return all scores and costs of a record, about 45 columns.

        Returns:
            One row per method, the best one first. The study's metric has the additional columns
            `_std`, `_low` and `_high` (95 % interval over the seeds). `compared_with_best` compares
            a method with the best one: `best`, `worse`, `equivalent`, `not_resolved`, or None if
            the two were not compared.
        """
        return to_frame(self.summary, full=full)

    def report(self, predictions: Mapping[str, Any] | None = None) -> Path:
        """Write `report.html` again and return its path.

        Args:
            predictions: Predictions of other tools to include as further methods: by name, a file,
                a data frame, or a list of them with one per seed. Their columns are those of
                `tuneoff report --predictions NAME=FILE`. Data frames are saved in the folder
                `external` of the study.

        Raises:
            BadInput: The predictions do not fit the study; no report is written.
        """
        if not predictions:
            return build_report(self.folder)
        sources: list[tuple[str, Path]] = []
        for name, given in predictions.items():
            for one in given if isinstance(given, list | tuple) else [given]:
                place = f"{len(sources)}-{file_name(str(name))}.parquet"
                kept = as_source(one, self.path / "external" / place)
                sources.append((str(name), Path(kept)))
        taken = [m.name for m in self.spec.methods]
        _, runs = read_runs(sources, truth_of(self.folder), taken=taken)
        return build_report(self.folder, external=runs)

    def best(self) -> Run:
        """Return the finished run with the best validation score, by the study's metric.

        Raises:
            BadInput: No run has finished.
        """
        current = {run_id for row in self.summary["methods"] for run_id in row["runs"]}
        metric = self.spec.metric
        sign = 1 if QUALITY_METRICS[metric].higher_is_better else -1
        scored = [
            (sign * getattr(record.quality.validation, metric), run)
            for run in self.runs
            if run.path.name in current  # the folder may have runs of an earlier study
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
    fresh: bool = False,
    progress: bool = True,
    **options: Unpack[TunedStudyOptions],
) -> Study:
    """Run methods x seeds on one task and compare them, as `tuneoff compare` does.

    A run that fails is recorded and does not stop the others. Finished runs in `out` are not
    repeated: calling the function again resumes the study.

    Args:
        study: A study file, or its content.
        out: Folder of the study.
        methods: Names of methods, or entries of a study file's `methods`.
        seeds: A number, a list, or a range such as "2:8": two seeds of each method, and up to eight
            of those that may still be the recommendation.
        workers: Number of concurrent runs; "auto" is one per GPU, and on a CPU the fastest number.
        fresh: Whether to repeat finished runs.
        progress: Whether to show progress.
        **options: Settings that override the study, by the names of the study file's keys in any
            section: `model`, `train`, `text`, `epochs`, `metric` and so on. `train`, `test` and
            `validation` also take a `pandas.DataFrame` or a `datasets.Dataset`.

    Raises:
        BadInput: The study is invalid; nothing was run.
    """
    content = _content(study, options, Path(out), methods)
    if seeds is not None:
        content["seeds"] = seeds
    asked = asked_study(content)
    folder = StudyFolder(out)
    with (
        _arguments_named(Path(out) / "data"),
        local_launcher(workers) as launch,
        _watcher(progress) as watch,
    ):
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
    fresh: bool = False,
    progress: bool = True,
    **options: Unpack[StudyOptions],
) -> Tuning:
    """Search settings of each method with equally many trials, as `tuneoff tune` does.

    The trials are scored on the validation rows; the test rows are not read. `tuned.yaml` in the
    folder `out` is the study with the settings that were found.

    Args:
        study: As for `compare`, like all arguments that are not listed here.
        out: Folder of the study.
        methods: Methods to search settings for.
        tune: Number of trials of each method, or the `tune` section of a study file.
        workers: Number of concurrent trials.
        fresh: Whether to repeat finished trials.
        progress: Whether to show progress.
        **options: Settings of the study.

    Returns:
        The content of `trials/trials.json`.

    Raises:
        BadInput: The study is invalid; nothing was run.
    """
    content = {**_content(study, options, Path(out), methods), "tune": tune}
    asked = asked_study(content)
    with (
        _arguments_named(Path(out) / "data"),
        local_launcher(workers) as launch,
        _watcher(progress) as watch,
    ):
        found = tune_study(asked, StudyFolder(out), launcher=launch, watch=watch, fresh=fresh)
    return found.to_plain()


def forecast(
    study: str | Path | Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    methods: str | Sequence[str | Mapping[str, Any]] | None = None,
    seeds: int | str | Sequence[int] | None = None,
    workers: int | str = "auto",
    progress: bool = True,
    **options: Unpack[TunedStudyOptions],
) -> dict[str, Any]:
    """Estimate the time, memory and disk space of a study, as `tuneoff forecast` does.

    Each method is tried on a few steps. The arguments are those of `compare`; without `out` nothing
    is left on disk.

    Returns:
        The content of `forecast.json`: seconds and bytes of a run of each method, and of the study.

    Raises:
        BadInput: The study is invalid; nothing was run.
    """
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch:
        folder = Path(out or scratch)
        content = _content(study, options, folder, methods)
        if seeds is not None:
            content["seeds"] = seeds
        asked = asked_study(content)
        with (
            _arguments_named(folder / "data"),
            local_launcher(workers) as launch,
            _watcher(progress) as watch,
        ):
            return forecast_study(asked, StudyFolder(folder), launcher=launch, watch=watch)


def train(
    method: str | Mapping[str, Any],
    *,
    out: str | Path,
    seed: int = 0,
    fresh: bool = False,
    progress: bool = True,
    **options: Unpack[TunedStudyOptions],
) -> Run:
    """Run one method with one seed, as `tuneoff train` does.

    Args:
        method: Name of the method, or an entry of a study's `methods`, such as
            `{"method": "lora", "rank": 16}`.
        out: Folder of the run.
        seed: Random seed of initialisation and data order.
        fresh: Whether to train again if the run has finished.
        progress: Whether to show progress.
        **options: Settings of the study, as for `compare`.

    Raises:
        BadInput: The specification is invalid; nothing was run.
    """
    content = _with_options({}, options, Path(out))
    asked = asked_study({**content, "methods": [method], "seeds": [seed]})
    with (
        _arguments_named(Path(out) / "data"),
        local_launcher() as launch,
        _watcher(progress) as watch,
    ):
        train_one(asked, Path(out), launcher=launch, watch=watch, fresh=fresh)
    return Run(out)


def evaluate(
    runs: Run | Exported | str | Path | Sequence[Run | Exported | str | Path],
    data: Any,
    *,
    text: str | int | None = None,
    text_pair: str | int | None = None,
    label: str | int | None = None,
    weight: str | int | None = None,
    group: str | int | None = None,
    header: bool | None = None,
    device: str = "auto",
) -> Evaluation:
    """Score trained runs on newly labelled rows, as `tuneoff evaluate` does.

    Args:
        runs: A run or an export, or several ones, or their folders. Several are also compared.
        data: The rows: a file, a hub data set, a `pandas.DataFrame` or a `datasets.Dataset`.
        text: Column of the text; by default that of the study, or the only possible one.
        text_pair: Column of the second text; by default that of the study.
        label: Column of the label; by default that of the study, or the only possible one.
        weight: Column of row weights.
        group: Column of groups, which the intervals resample as wholes.
        header: Whether CSV and TSV files start with a header; by default this is detected.
        device: Device of the predictions.

    Raises:
        BadInput: A run has no model, or the rows cannot be used.

    Warns:
        UserWarning: Notes on the data, such as rows that the study has trained on.
    """
    given = [runs] if isinstance(runs, Run | Exported | str | Path) else list(runs)
    paths = [run.path if isinstance(run, Run | Exported) else Path(run) for run in given]
    names = {"text": text, "text_pair": text_pair, "label": label}
    names |= {"weight": weight, "group": group}
    named: dict[str, Any] = {k: None if v is None else str(v) for k, v in names.items()}
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch, _arguments_named(scratch):
        file = Path(scratch) / "data.parquet"
        found = evaluate_runs(
            paths,
            as_source(data, file),
            Columns(**named, header=header),
            device=device,
            note=lambda note: warnings.warn(note.replace(str(file), "data"), stacklevel=4),
        )
    return replace(found, source="data") if found.source == str(file) else found


def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    format: str = "onnx",
    accept_loss: float | None = None,
    data: Any = None,
    license: str | None = None,
) -> Exported:
    """Write the model of a run for other programs, as `tuneoff export` does.

    The export is compared with the run's model, and not written if they disagree.

    Args:
        run: A finished run, or its folder.
        out: Folder to write.
        format: "transformers", "transformers-bf16", "transformers-fp16", "onnx", "onnx-int8" or
            "openvino".
        accept_loss: Accepted proportion of changed labels; by default 0.01 for the formats with
            rounded weights, and a limit of the logits for the others.
        data: Rows to compare on, as a file or a data frame; by default the validation rows.
        license: License for the model card, such as "apache-2.0".

    Raises:
        BadInput: The run has no model, or its method cannot be exported.
        ExportRefused: The export predicts something else.

    Warns:
        UserWarning: Notes on the rows in `data`.
    """
    from tuneoff.exporting import export_run

    folder = run.folder if isinstance(run, Run) else RunFolder.open(run)
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch:
        source = None if data is None else str(as_source(data, Path(scratch) / "data.parquet"))
        export_run(
            folder,
            Path(out),
            format=format,
            accept_loss=accept_loss,
            data=source,
            license=license,
            note=lambda text: warnings.warn(text, stacklevel=3),
        )
    return Exported(out)


def load(path: str | Path) -> Study | Run | Exported:
    """Return the study, the run or the export in the folder `path`.

    Raises:
        BadInput: The folder contains none of them.
    """
    if is_export(path):
        return Exported(path)
    if RunFolder(path).spec_file.is_file():
        return Run(path)
    return Study(path)


_DATA = {f.name for f in fields(DataSpec)}
_TRAIN = {f.name for f in fields(TrainSpec)}
_PLAIN = ("margin", "limits", "tune", "max_study_seconds")
_OWN = {"methods", "seeds", "workers", "out", "fresh", "progress"}


def _content(
    study: str | Path | Mapping[str, Any] | None,
    options: Mapping[str, Any],
    out: Path,
    methods: str | Sequence[str | Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """Return the content of a study, overridden by the options."""
    content = dict(study) if isinstance(study, Mapping) else read_study(study) if study else {}
    content = _with_options(content, options, out)
    if isinstance(methods, str):  # separated by commas, as on the command line
        methods = [name.strip() for name in methods.split(",")]
    return content if methods is None else {**content, "methods": list(methods)}


def _with_options(content: dict[str, Any], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    known = _DATA | _TRAIN | {"model", "metric", *_PLAIN}
    for key in options.keys() - known:
        raise BadInput(f"unknown option {key!r}.", hint=nearest(key, known | _OWN))
    data, train = dict(content.get("data") or {}), dict(content.get("train") or {})
    top: dict[str, Any] = {}
    for key, value in options.items():
        # `train` is the training data here; training settings are separate options.
        if key in _DATA:
            data[key] = value
        elif key in _TRAIN:
            train[key] = value
        else:
            top[key] = value if key in _PLAIN else str(value)
    return {**content, **top, "data": as_sources(data, out / "data"), "train": train}


@contextmanager
def _arguments_named(folder: str | Path) -> Iterator[None]:
    """Replace the files of objects in memory in issues by the arguments: `train`, not its file.

    Args:
        folder: Folder to which data frames are written, each as `<argument>.parquet`.
    """
    try:
        yield
    except BadInput as error:
        inside = {str(file): file.stem for file in Path(folder).glob("*.parquet")}
        issues = [replace(x, file=inside.get(x.file or "", x.file)) for x in error.issues]
        if issues == list(error.issues):
            raise
        raise BadInput(issues) from None


def _with_index(found: pd.DataFrame, texts: Any) -> pd.DataFrame:
    """Return a table with the index of `texts`, if they are a `pandas.Series`."""
    index = getattr(texts, "index", None)
    return found if index is None or callable(index) else found.set_axis(index)


def _watcher(progress: bool) -> Any:
    from tuneoff.display.progress import watcher

    return watcher(quiet=not progress)
