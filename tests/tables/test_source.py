"""Reading of files and hub data sets: all formats give the same table."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tuneoff.exceptions import BadInput
from tuneoff.tables import Columns, read_table

ROWS = [
    {"text": "plain", "other": "x", "label": "NA", "w": 1.0, "g": "a"},
    {"text": 'comma, and "quote"', "other": "y", "label": "None", "w": 0.5, "g": "a"},
    {"text": "two\nlines", "other": "", "label": "null", "w": 2.0, "g": ""},
    {"text": "Ünïcödé 🎈", "other": "nan", "label": " padded ", "w": 0.0, "g": "b"},
]
COLUMNS = Columns(text="text", text_pair="other", label="label", weight="w", group="g")


def write(folder: Path, ending: str) -> str:
    plain = ending.removesuffix(".gz")
    path = folder / f"rows{plain}"
    frame = pd.DataFrame(ROWS)
    if plain == ".csv":
        frame.to_csv(path, index=False)
    elif plain == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif plain == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n", encoding="utf-8")
    if ending.endswith(".gz"):
        packed = Path(f"{path}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    return str(path)


@pytest.mark.parametrize("pack", ["", ".gz"])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"])
def test_all_formats_give_the_same_table(tmp_path: Path, ending: str, pack: str) -> None:
    frame = read_table(write(tmp_path, ending + pack), COLUMNS).frame
    assert frame["text"].tolist() == [row["text"] for row in ROWS]
    assert frame["text_pair"].tolist() == ["x", "y", "", "nan"]
    assert frame["label"].tolist() == ["NA", "None", "null", " padded "]
    assert frame["weight"].dtype == np.float32
    assert frame["weight"].tolist() == [1.0, 0.5, 2.0, 0.0]
    assert frame["group"].tolist() == ["a", "a", "", "b"]
    assert frame["row"].tolist() == [0, 1, 2, 3]
    # The third row spans two lines in CSV and TSV, so the fourth starts one line later.
    lines = {".csv": [2, 3, 4, 6], ".tsv": [2, 3, 4, 6]}.get(ending, [1, 2, 3, 4])
    assert list(frame.get("line", [])) == ([] if ending == ".parquet" else lines)


def test_only_the_requested_columns_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, ".csv")
    assert list(read_table(path, Columns()).frame) == ["text", "label", "weight", "row", "line"]
    unlabelled = read_table(path, Columns(label=None)).frame
    assert list(unlabelled) == ["text", "weight", "row", "line"]
    assert unlabelled["weight"].tolist() == [1.0] * 4


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_byte_order_mark_line_endings_and_empty_lines(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "a.csv"
    lines = ["text,label", "one,a", "", '"two, too",b', ""]
    path.write_bytes(b"\xef\xbb\xbf" + newline.join(lines).encode())
    frame = read_table(str(path), Columns()).frame
    assert frame["text"].tolist() == ["one", "two, too"]
    assert frame["line"].tolist() == [2, 4]
    assert frame["row"].tolist() == [0, 1]


def test_text_longer_than_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    import csv

    long = "word " * 100_000
    path = tmp_path / "a.csv"
    path.write_text(f'text,label\n"{long}",a\nshort,b\n', encoding="utf-8")
    before = csv.field_size_limit()
    assert read_table(str(path), Columns()).frame["text"].tolist() == [long, "short"]
    assert csv.field_size_limit() == before


def test_typed_labels_become_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for labels, names in (
        ([1, -2, 3.0], ["1", "-2", "3"]),
        ([True, False], ["true", "false"]),
        (["1", "x", "true"], ["1", "x", "true"]),
    ):
        path.write_text("\n".join(json.dumps({"text": "t", "label": v}) for v in labels))
        assert read_table(str(path), Columns()).frame["label"].tolist() == names


def test_parquet_categories_and_integers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"text": pd.Categorical(["a", "b", "a"]), "label": [0, 1, 1]})
    frame.to_parquet(path)
    read = read_table(str(path), Columns()).frame
    assert read["text"].tolist() == ["a", "b", "a"]
    assert read["label"].tolist() == ["0", "1", "1"]


def test_rows_without_text_are_removed_from_training_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,other,label\none,x,a\n  ,\t,b\n,pair,b\ntwo,,a\n")
    columns = Columns(text_pair="other")
    train = read_table(str(path), columns, "train")
    assert train.frame["row"].tolist() == [0, 2, 3]
    assert train.warnings == [f"{path}: rows with an empty text, left out: 1 of 4 (line 3)"]
    test = read_table(str(path), columns, "test")
    assert test.frame["row"].tolist() == [0, 1, 2, 3]
    assert test.warnings == [f"{path}: rows with an empty text, kept and scored: 1 of 4 (line 3)"]
    assert len(read_table(str(path), Columns(), "train").frame) == 2


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `datasets` reads like a hub data set, with its cache in tmp_path."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "reviews"
    folder.mkdir()
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    for split, labels in {"train": [1, 0, -1, 1], "test": [0, 1], "validation": [0]}.items():
        rows = {"text": [f"{split} {i}" for i in range(len(labels))], "label": labels}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(
            str(folder / f"{split}.parquet")
        )
    return folder


def test_hub_data_set_by_role_with_class_names(hub_folder: Path) -> None:
    train = read_table(f"hf:{hub_folder}", Columns(), "train")
    assert train.frame["label"].tolist() == ["pos", "neg", "pos"]
    assert train.frame["text"].tolist() == ["train 0", "train 1", "train 3"]
    assert "line" not in train.frame
    assert train.frame["row"].tolist() == [0, 1, 3]
    assert train.warnings == [
        f"hf:{hub_folder}: rows without a label (class -1), left out: 1 (row 2)"
    ]
    validation = read_table(f"hf:{hub_folder}", Columns(), "validation")
    assert validation.frame["text"].tolist() == ["validation 0"]


def test_hub_data_set_without_the_split_or_column(hub_folder: Path) -> None:
    (hub_folder / "validation.parquet").unlink()
    with pytest.raises(BadInput, match=r"no split 'validation'\n.*Available splits: train, test"):
        read_table(f"hf:{hub_folder}", Columns(), "validation")
    with pytest.raises(BadInput, match=r"no column 'review'\n.*'text', 'label'.*--text"):
        read_table(f"hf:{hub_folder}", Columns(text="review"), "train")


def test_hub_data_set_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def refuse(name: str, config: str | None) -> None:
        assert (name, config) == ("stanfordnlp/snli", "plain_text")
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(BadInput) as caught:
        read_table("hf:stanfordnlp/snli:plain_text", Columns())
    message = str(caught.value)
    assert message.startswith("hf:stanfordnlp/snli:plain_text: the data set cannot be loaded")
    assert "datasets.load_dataset('stanfordnlp/snli', 'plain_text')" in message
    assert "or use a CSV, JSONL or Parquet file" in message


def test_import_is_light() -> None:
    code = (
        "import sys, tuneoff.engine.data;"
        "print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
