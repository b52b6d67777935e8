"""Files of predictions of other tools, and a task for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tuneoff.external_predictions import ExternalRun, TaskTruth, read_runs
from tuneoff.results.record import DataInfo

LABELS = ["neg", "pos"]


def foreign_rows(count: int = 6) -> list[dict[str, Any]]:
    """Return predictions for rows 0, 2, 4, …, of which every third one is wrong."""
    rows = []
    for i in range(count):
        label = LABELS[i % 2]
        said = LABELS[(i + (i % 3 == 2)) % 2]
        p = 0.75 if said == "pos" else 0.25
        rows.append(
            {"row": 2 * i, "label": label, "prediction": said,
             "probability_neg": 1 - p, "probability_pos": p}
        )  # fmt: skip
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a frame in the format of the file's suffix."""
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix in (".jsonl", ".ndjson", ".json"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


class Files:
    """Writes and reads predictions in one folder."""

    labels = LABELS
    rows = staticmethod(foreign_rows)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, rows: list[dict[str, Any]] | None = None) -> Path:
        return write(self.folder / name, foreign_rows() if rows is None else rows)

    def text(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def truth(self, **columns: Any) -> TaskTruth:
        rows = pd.DataFrame(foreign_rows())[["row", "label"]].assign(split="test", **columns)
        return TaskTruth(LABELS, rows, DataInfo("f" * 64, 90, 10, 6, LABELS), "accuracy", "model")

    def read(
        self, *paths: Path, truth: TaskTruth | None = None
    ) -> tuple[TaskTruth, list[ExternalRun]]:
        return read_runs([(path.stem, path) for path in paths], truth)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def error_of(files: Files) -> Callable[..., str]:
    """`error_of(…)`: the message of the error for an invalid file."""
    from tuneoff.exceptions import BadInput

    def call(*paths: Path, truth: TaskTruth | None = None) -> str:
        with pytest.raises(BadInput) as caught:
            files.read(*paths, truth=truth)
        return str(caught.value)

    return call
