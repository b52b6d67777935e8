"""The models that an evaluation takes: finished runs and exports."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.exceptions import BadInput, Issue
from tuneoff.results.exports import Manifest, is_export
from tuneoff.results.record import Status
from tuneoff.results.store import RunFolder, StudyFolder
from tuneoff.tables import Columns

if TYPE_CHECKING:
    import pandas as pd

    from tuneoff.engine.inference import Predictor, TextClassifier


@dataclass(frozen=True)
class SavedModel:
    """A model on disk that can predict."""

    path: Path
    run_id: str
    name: str
    """Name of the method in its study; of an export, with the format."""
    seed: int
    labels: list[str]
    metric: str
    """Metric of its study."""
    task: tuple[str, str]
    """Fingerprint of the data, and name of the pretrained model."""
    columns: Columns
    """Columns of the training data; a text or label that the study does not name is None."""
    study: StudyFolder | None
    """The study, if the folder is inside one."""
    open: Callable[[str], Predictor | TextClassifier]
    """Loads the model on a device."""
    test_predictions: Callable[[], RunPredictions | None]
    """Reads the predictions on the test rows of the study, or returns None."""

    def study_rows(self) -> pd.DataFrame | None:
        """Return the rows of all splits of the study; None if they do not exist any more."""
        task = None if self.study is None else self.study.task(self.task[0])
        return None if self.study is None or task is None else self.study.rows(task)


def saved_model(path: Path) -> SavedModel:
    """Return the run or the export in a folder; `BadInput` if it has no model."""
    return _export(path) if is_export(path) else _run(RunFolder.open(path))


def _run(folder: RunFolder) -> SavedModel:
    record = folder.record()
    if record is None or record.status != Status.FINISHED:
        how = "it has not been run yet" if record is None else record.status.value
        raise BadInput(Issue(f"the run has no model to evaluate ({how})", file=str(folder.path)))
    labels = record.data.labels
    study = folder.study()

    def load(device: str) -> Predictor:
        from tuneoff.engine.inference import Predictor

        return Predictor(folder, device=device)

    def test_predictions() -> RunPredictions | None:
        if not folder.predictions_file.is_file():
            return None
        return RunPredictions.from_table(folder.predictions(), labels)

    return SavedModel(
        path=folder.path,
        run_id=folder.path.name,
        name=record.method.name,
        seed=record.seed,
        labels=labels,
        metric=record.metric,
        task=(record.data.fingerprint, record.model),
        columns=Columns.of(study.spec().data) if study else Columns(),
        study=study,
        open=load,
        test_predictions=test_predictions,
    )


def _export(path: Path) -> SavedModel:
    manifest = Manifest.read(path)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    places = {int(place): label for place, label in config["id2label"].items()}

    def load(device: str) -> TextClassifier:
        from tuneoff.engine.inference import ExportedModel

        return ExportedModel(path)

    return SavedModel(
        path=path,
        run_id=path.resolve().name,
        name=f"{manifest.method} ({manifest.format})",
        seed=manifest.seed,
        labels=[places[place] for place in sorted(places)],
        metric=manifest.metric,
        task=(manifest.data_fingerprint, manifest.model),
        columns=Columns.named(manifest.columns),
        study=None,
        open=load,
        test_predictions=lambda: None,
    )


def common_labels(models: Sequence[SavedModel]) -> list[str]:
    """Return the labels of all models; `BadInput` if they differ."""
    labels = models[0].labels
    for model in models:
        if model.labels != labels:
            raise BadInput(
                Issue(
                    f"its labels differ from those of {models[0].run_id}",
                    file=str(model.path),
                    hint="Evaluate runs of the same task together.",
                )
            )
    return labels


def names(models: Sequence[SavedModel]) -> list[str]:
    """Return the names of the models; those of different data or models are named by run."""
    tasks: dict[str, set[tuple[str, str]]] = {}
    for model in models:
        tasks.setdefault(model.name, set()).add(model.task)
    return [m.name if len(tasks[m.name]) == 1 else m.run_id for m in models]
