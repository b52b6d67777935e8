"""Labels and groups: one spelling for each value, and errors for invalid values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.config import DataSpec, parse_study
from tuneoff.config.label_names import label_name
from tuneoff.engine.data.gather import gather
from tuneoff.exceptions import BadInput, Issue
from tuneoff.tables import Columns, read_table


def file_of(folder: Path, labels: list[Any], ending: str = ".csv", name: str = "a") -> str:
    """Write a file of the labels with distinct texts."""
    path = folder / f"{name}{ending}"
    frame = pd.DataFrame({"text": [f"{name} {i}" for i in range(len(labels))], "label": labels})
    if ending == ".csv":
        frame.to_csv(path, index=False)
    elif ending == ".jsonl":
        rows = [{"text": t, "label": x} for t, x in zip(frame["text"], labels, strict=True)]
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        frame.to_parquet(path)
    return str(path)


def labels_of(path: str) -> list[str]:
    return list(read_table(path, Columns()).frame["label"])


def issue_of(path: str, **columns: str) -> Issue:
    with pytest.raises(BadInput) as caught:
        read_table(path, Columns(**columns))
    (issue,) = caught.value.issues
    return issue


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([True, False, True], ["true", "false", "true"]),
        ([0.0, 1.0, 10.0], ["0", "1", "10"]),
        ([0, 1, 10], ["0", "1", "10"]),
        (["True", "FALSE", "true"], ["true", "false", "true"]),
        (["0.0", "1.", "-2.00"], ["0", "1", "-2"]),
        (["True", "False", "Unknown"], ["true", "false", "Unknown"]),
        (["01", "1", "2"], ["01", "1", "2"]),
        (["1.0", "v2", "1.0.0"], ["1", "v2", "1.0.0"]),
        (["-0.0", "+3.0", "truer"], ["0", "3", "truer"]),
    ],
)
def test_labels_are_equal_in_all_formats(
    tmp_path: Path, ending: str, values: list[Any], names: list[str]
) -> None:
    assert labels_of(file_of(tmp_path, values, ending)) == names


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ((["True", "False"], ".csv"), ([True, False], ".parquet")),
        (([0.0, 1.0], ".csv"), ([0, 1], ".csv")),
        (([0.0, 1.0], ".parquet"), ([0, 1], ".jsonl")),
        ((["0.0", "1.0"], ".csv"), ([0, 1], ".parquet")),
        ((["True", "False", "Unknown"], ".csv"), (["True", "False"], ".csv")),
        ((["1.0", "2.0", "n/a"], ".csv"), (["1.0", "2.0"], ".csv")),
    ],
)
def test_formats_can_be_combined(tmp_path: Path, train: Any, test: Any) -> None:
    files = {
        role: file_of(tmp_path, values * 5, ending, role)
        for role, (values, ending) in {"train": train, "test": test}.items()
    }
    found = gather(DataSpec(**files))
    assert set(found.splits["test"]["label"]) <= set(found.labels)


def test_labels_in_a_study_file_are_normalised() -> None:
    content = {
        "model": "m",
        "data": {"train": "a.csv"},
        "train": {"class_weights": {True: 3.0, 2.0: 1.5, "x": 1.0}},
        "limits": {"min_recall": {False: 0.5}},
    }
    study = parse_study(content)
    assert study.train.class_weights == {"true": 3.0, "2": 1.5, "x": 1.0}
    assert study.min_recall == {"false": 0.5}
    assert [label_name(value) for value in (1.0, 2, True, None, [1])] == [
        "1",
        "2",
        "true",
        "",
        None,
    ]


@pytest.mark.parametrize(
    ("labels", "how"),
    [
        (["['a', 'b']", "['a']", "['c']"], "as a list (['a', 'b']; 3 rows in total)"),
        (['["a", "b"]', "a", "b"], "as a list"),
        (["[a, b]", "a", "b"], "as a list"),
        (["[0, 1, 1]", "[1, 0, 0]"], "as a list"),
        (["['a' 'b']", "['a']"], "as a list"),
        (["('a', 'b')", "('a',)"], "as a list"),
        (["{'a', 'b'}", "{'a'}"], "as a list"),
        (["a|b", "a", "b"], "joined by '|' (a|b; 1 row in total)"),
        (["a;b", "b;c", "c;a"], "joined by ';'"),
        (["a|in", "b|in", "a|out", "b|out"], "joined by '|'"),
        (["a|in", "a", "b"], "joined by '|'"),
        (["a , b", "a", "b"], "joined by ', '"),
        (["a, b", "a", "b", "c"], "joined by ', '"),
        (["2,5", "2", "5"], "joined by ','"),
        (["a,x", "b,x", "a"], "joined by ','"),
        *(
            ([f"a{x}b", f"b{x}c", f"a{x}c", "a", "b", "c"], f"joined by {x!r}")
            for x in (" & ", "+", "::", " and ", "/", "\n")
        ),
        (["{'a': 1, 'b': 1}", "{'a': 1}"], "as a list"),
    ],
)
def test_several_labels_in_one_cell(tmp_path: Path, labels: list[str], how: str) -> None:
    issue = issue_of(file_of(tmp_path, labels * 2))
    assert issue.message.startswith("the cell contains several labels, ")
    assert how.replace("1 row ", "2 rows ").replace("3 rows", "6 rows") in issue.message
    assert "multi-label classification is not supported" in issue.message
    assert (issue.line, issue.column) == (2, "label")
    assert "one label per row" in (issue.hint or "")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_lists_of_labels_are_one_issue(tmp_path: Path, ending: str) -> None:
    issue = issue_of(file_of(tmp_path, [["a", "b"], ["a"], ["c"]] * 10, ending))
    assert "the cell contains several labels, as a list" in issue.message
    assert "; 30 rows in total)" in issue.message


@pytest.mark.parametrize(
    "labels",
    [
        ["[deleted]", "(none)", "{x}"],
        ["news|sports", "news|politics", "tech|phones"],
        ["Arts; Crafts", "Food; Drink"],
        ["yes, surely", "no, surely", "yes, perhaps"],
        ["Arts, Crafts", "Food, Drink", "Arts"],
        ["a|", "|b", "c"],
    ],
)
def test_names_with_brackets_and_separators_are_labels(tmp_path: Path, labels: list[str]) -> None:
    assert labels_of(file_of(tmp_path, labels)) == labels


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_identifiers_stored_as_floats_are_errors(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c", "d"], "label": ["x", "y", "x", "y"]})
    frame["thread"] = pd.Series([1234567890123456789, 1234567890123456790, None, 5], dtype=float)
    path = tmp_path / f"a{ending}"
    frame.to_csv(path, index=False) if ending == ".csv" else frame.to_parquet(path)
    issue = issue_of(str(path), group="thread")
    assert issue.column == "thread"
    assert "stored as floating-point numbers above 9,007,199,254,740,992" in issue.message
    assert "; 2 rows in total, distinct values left: 1)" in issue.message
    assert "64-bit integers" in (issue.hint or "")


def test_limit_depends_on_the_stored_type(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": np.array([16_777_216, 2e8], np.float32)})
    frame.to_parquet(tmp_path / "a.parquet")
    assert "above 16,777,216" in issue_of(str(tmp_path / "a.parquet")).message


def test_large_integers_are_groups(tmp_path: Path) -> None:
    ids = [1234567890123456789, 1234567890123456790]
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"], "thread": ids})
    for ending in (".csv", ".parquet"):
        path = tmp_path / f"a{ending}"
        frame.to_csv(path, index=False) if ending == ".csv" else frame.to_parquet(path)
        read = read_table(str(path), Columns(group="thread")).frame
        assert read["group"].tolist() == [str(one) for one in ids]


def test_class_names_of_datasets(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1]}
    path = str(tmp_path / "a.parquet")
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    table = read_table(path, Columns(), "test")
    assert table.frame["label"].tolist() == ["pos", "neg"]
    assert table.frame["row"].tolist() == [0, 1]
    assert table.warnings == [f"{path}: rows without a label (class -1), left out: 1 (row 2)"]


def test_class_number_without_name_is_an_issue(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    for metadata, labels in (
        (json.dumps({"info": {"features": features}}), None),
        (json.dumps({"info": {"features": "broken"}}), ["2", "0"]),
        ("no JSON", ["2", "0"]),
        (json.dumps([1]), ["2", "0"]),
    ):
        table = pa.table({"text": ["a", "b"], "label": [2, 0]})
        pq.write_table(
            table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "a.parquet"
        )
        if labels is None:
            issue = issue_of(str(tmp_path / "a.parquet"))
            assert "2 is not the number of one of the 2 classes" in issue.message
            assert issue.row == 0
        else:
            assert labels_of(str(tmp_path / "a.parquet")) == labels


def test_values_that_may_be_several_labels_cause_a_warning(tmp_path: Path) -> None:
    """`joy` and `anger` are labels and parts of others; `surprise` is only a part."""
    path = tmp_path / "a.csv"
    path.write_text('text,label\n1,joy\n2,anger\n3,"joy, surprise"\n4,"anger, surprise"\n')
    (note,) = read_table(str(path), Columns()).warnings
    assert "'anger, surprise' and 'joy, surprise' may be several labels in one cell" in note
    assert "(parts that also occur as labels: 'anger', 'joy')" in note
    path.write_text("text,label\n1,Food\n2,Drink\n3,Food & Drink\n")
    (note,) = read_table(str(path), Columns()).warnings
    assert "'Food & Drink' may be several labels" in note
    path.write_text('text,label\n1,Paris\n2,"Paris, Texas"\n3,"London, Ontario"\n')
    assert read_table(str(path), Columns()).warnings == []


@pytest.mark.parametrize("labels", [["1,0", "0,0"], ["0,5", "1,5"]])
def test_decimal_comma(tmp_path: Path, labels: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f'x{i},"{x}"\n' for i, x in enumerate(labels)))
    assert "the labels are real numbers" in issue_of(str(path)).message


@pytest.mark.parametrize(
    "ids", [["1234567890123456768.0"], ["1,23457E+18"], ["1.23457E+18"], ["12345678901234567680,"]]
)
def test_groups_that_are_already_rounded_are_an_error(tmp_path: Path, ids: list[str]) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\tthread\n" + f"x\ta\t{ids[0]}\ny\tb\t{ids[0]}\n")
    issue = issue_of(str(path), group="thread")
    assert "the groups are whole numbers stored as floating-point" in issue.message


def test_a_list_is_not_a_group(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": "x", "label": name, "thread": [i]} for i, name in enumerate("ab")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInput, match="the value is a list, not a group"):
        read_table(str(path), Columns(group="thread"))


def test_ids_that_look_like_floats_are_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,thread\nx,a,5e123456\ny,b,5e12345\nz,b,0ab45c1d\n")
    assert len(read_table(str(path), Columns(group="thread")).frame) == 3
