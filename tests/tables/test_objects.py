"""Data frames and data sets in Python are written to files that a study can refer to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

import tuneoff
from tuneoff.config import DataSpec, parse_study
from tuneoff.engine.data.gather import gather
from tuneoff.exceptions import BadInput
from tuneoff.tables.objects import as_source, as_sources

TEXTS = [f"some words {i}" for i in range(12)]
NAMED = datasets.Features(
    {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
)


def dataset(rows: int = 12, start: int = 0) -> datasets.Dataset:
    texts = [f"row {start + i}" for i in range(rows)]
    return datasets.Dataset.from_dict(
        {"text": texts, "label": [i % 2 for i in range(rows)]}, features=NAMED
    )


def test_dataset_keeps_class_names_and_selected_rows(tmp_path: Path) -> None:
    chosen = dataset().shuffle(seed=1).select(range(10))
    data = as_sources({"train": chosen, "test": dataset(4, 50)}, tmp_path)
    assert data == {role: str(tmp_path / f"{role}.parquet") for role in ("train", "test")}
    found = gather(DataSpec(**data))
    assert found.labels == ["neg", "pos"]
    assert sorted([*found.splits["train"]["text"], *found.splits["validation"]["text"]]) == sorted(
        chosen["text"]
    )


def test_splits_of_a_dataset_dict(tmp_path: Path) -> None:
    splits = datasets.DatasetDict(train=dataset(), test=dataset(4, 50), validation=dataset(4, 90))
    data = as_sources({"train": splits, "validation": 0.25}, tmp_path)
    assert data["validation"] == 0.25
    assert data["test"] == str(tmp_path / "test.parquet")
    assert set(as_sources({"train": splits}, tmp_path)) == {"train", "test", "validation"}
    with pytest.raises(BadInput, match=r"without a split 'train' \(splits: test\)"):
        as_sources({"train": datasets.DatasetDict(test=dataset())}, tmp_path)


def test_compare_with_a_dataset_dict(tiny_model: Any, tmp_path: Path) -> None:
    study = tuneoff.compare(
        model=tiny_model("bert"),
        train=datasets.DatasetDict(train=dataset(40), test=dataset(8, 50)),
        methods=["tfidf"],
        seeds=1,
        out=tmp_path / "study",
        progress=False,
    )
    assert study.runs[0].record.data.labels == ["neg", "pos"]
    assert study.spec.data.test == str(tmp_path / "study" / "data" / "test.parquet")
    assert (study.spec.data.text, study.spec.data.label) == ("text", "label")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ([{"text": text, "label": "a"} for text in TEXTS], "list"),
        ({"text": TEXTS, "label": TEXTS}, "dict"),
        (pd.Series(TEXTS), "pandas.Series"),
        (np.array(TEXTS), "numpy.ndarray"),
        (dataset().to_iterable_dataset(), "datasets.IterableDataset"),
        (b"a.csv", "bytes"),
    ],
)
def test_unsupported_objects_are_an_error_with_their_type(
    tmp_path: Path, value: Any, name: str
) -> None:
    with pytest.raises(BadInput) as caught:
        tuneoff.compare(model="m", train=value, out=tmp_path / "out", progress=False)
    message = str(caught.value)
    assert message.startswith(f"train has the unsupported type {name}.")
    assert "pandas.DataFrame or a datasets.Dataset" in message
    assert "some words" not in message


def test_a_long_value_in_a_study_is_not_printed() -> None:
    for value, shown in (
        ([1] * 500, "a list"),
        ({"x": ["some words"] * 50}, "a dict"),
        ([1, 2], "[1, 2]"),
        (7, "7"),
    ):
        with pytest.raises(BadInput) as caught:
            parse_study({"model": "m", "data": {"train": value}})
        assert f"data.train must be a string, not {shown}" in str(caught.value)


def test_paths_fractions_and_numeric_names(tmp_path: Path) -> None:
    assert as_source(Path("a.csv"), tmp_path / "x.parquet") == "a.csv"
    assert as_source(0.2, tmp_path / "x.parquet") == 0.2
    frame = pd.DataFrame({0: TEXTS, 1: ["a", "b"] * 6})
    study = parse_study(
        {
            "model": "m",
            "data": {**as_sources({"train": frame}, tmp_path), "text": 0, "label": 1},
        }
    )
    assert (study.data.text, study.data.label) == ("0", "1")
    assert len(gather(study.data).splits["train"]) > 0
    assert list(frame.columns) == [0, 1]
    frame.columns = pd.MultiIndex.from_tuples([("a", "text"), ("a", "label")])
    with pytest.raises(BadInput, match="the data frame has a MultiIndex as columns"):
        as_sources({"train": frame}, tmp_path)
    mixed = pd.DataFrame({"text": TEXTS, "label": [5, *TEXTS[1:]]})
    with pytest.raises(BadInput, match=r"the pandas.DataFrame for 'train' cannot be written"):
        as_sources({"train": mixed}, tmp_path)


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev", "eval"])
def test_usual_names_of_splits(tmp_path: Path, name: str) -> None:
    splits = datasets.DatasetDict({"train": dataset(), name: dataset(4, 50)})
    found = as_sources({"train": splits}, tmp_path)
    assert len(pd.read_parquet(found["validation"])) == 4
    assert "test" not in found


def test_unused_splits_cause_a_warning(tmp_path: Path) -> None:
    splits = datasets.DatasetDict(train=dataset(), test=dataset(4), unsupervised=dataset(4, 50))
    with pytest.warns(
        UserWarning, match="the splits 'unsupervised' of the DatasetDict are not used"
    ):
        found = as_sources({"train": splits}, tmp_path)
    assert set(found) == {"train", "test"}
