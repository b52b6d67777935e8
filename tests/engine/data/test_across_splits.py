"""Checks of several files together, or of a complete file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from tuneoff.config import DataSpec
from tuneoff.engine.data.check import shared_counts, split_warnings
from tuneoff.engine.data.explore import histogram, lengths_by_label, quantiles, split_record
from tuneoff.engine.data.gather import gather
from tuneoff.exceptions import BadInput

HEADER = ["text", "label"]


def rows(labels: str, prefix: str = "text") -> list[tuple[str, str]]:
    return [(f"{prefix} {i}", label) for i, label in enumerate(labels)]


def frame(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """Return rows as read from a CSV without quoted line endings."""
    found = pd.DataFrame(pairs, columns=HEADER, dtype="str")
    return found.assign(line=range(2, len(found) + 2))


def test_label_in_test_rows_only(write_csv: Callable[..., str]) -> None:
    train = write_csv("train.csv", HEADER, rows("ab" * 10))
    test = write_csv("test.csv", HEADER, rows("abAcacccccc", "other"))
    with pytest.raises(BadInput) as caught:
        gather(DataSpec(train=train, test=test))
    assert [(f.file, f.line, f.column) for f in caught.value.issues] == [
        (test, 4, "label"),
        (test, 5, "label"),
    ]
    assert "'A' is in the test rows" in caught.value.issues[0].message
    assert "(7 times: lines 5, 7, 8, 9, 10, …)" in caught.value.issues[1].message


def test_label_in_validation_rows_only_suggests_the_nearest(write_csv: Callable[..., str]) -> None:
    train = write_csv("train.csv", HEADER, [("x", "positive"), ("y", "negative")] * 4)
    validation = write_csv("v.csv", HEADER, [("x", "positve")])
    with pytest.raises(BadInput, match=r"validation rows[\s\S]*Did you mean 'positive'\?"):
        gather(DataSpec(train=train, validation=validation))


def test_single_label(write_csv: Callable[..., str]) -> None:
    train = write_csv("train.csv", HEADER, rows("aaaa"))
    with pytest.raises(BadInput, match="all training rows have the label 'a'"):
        gather(DataSpec(train=train))


def test_label_with_one_row_cannot_be_split(write_csv: Callable[..., str]) -> None:
    train = write_csv("train.csv", HEADER, rows("aabbc"))
    with pytest.raises(BadInput) as caught:
        gather(DataSpec(train=train))
    (issue,) = caught.value.issues
    assert (issue.line, issue.column) == (6, "label")
    assert issue.message == (
        "the label 'c' has only one row, so none can be held out for test (0.2) and"
        " validation (0.1)"
    )
    other = write_csv("other.csv", HEADER, rows("abc", "other"))
    third = write_csv("third.csv", HEADER, rows("abc", "third"))
    found = gather(DataSpec(train=train, test=other, validation=third))
    assert found.labels == ["a", "b", "c"]


def test_same_file_twice(write_csv: Callable[..., str], tmp_path: Path) -> None:
    train = write_csv("train.csv", HEADER, rows("abab"))
    detour = str(tmp_path / "gone" / ".." / "train.csv")
    (tmp_path / "gone").mkdir()
    with pytest.raises(BadInput, match="the same file is given for train and test"):
        gather(DataSpec(train=train, test=detour))
    other = write_csv("other.csv", HEADER, rows("ab"))
    with pytest.raises(BadInput, match="given for validation and test"):
        gather(DataSpec(train=train, test=other, validation=other))


def test_issues_of_all_files_are_reported_together(write_csv: Callable[..., str]) -> None:
    train = write_csv("train.csv", HEADER, [("x", ""), ("y", "b")])
    test = write_csv("test.csv", ["text", "class"], rows("ab"))
    with pytest.raises(BadInput) as caught:
        gather(DataSpec(train=train, test=test, validation="gone.csv"))
    assert [issue.file for issue in caught.value.issues] == [train, "gone.csv", test]


def test_max_train_includes_validation_rows(write_csv: Callable[..., str]) -> None:
    train = write_csv("train.csv", HEADER, rows("ab" * 200))
    data = DataSpec(train=train, test=0.25, validation=0.1, max_train=100, max_test=20)
    found = gather(data)
    sizes = {role: len(split) for role, split in found.splits.items()}
    assert sizes == {"train": 90, "validation": 10, "test": 20}
    taken = pd.concat(found.splits.values())["row"]
    assert taken.is_unique
    # The test rows are drawn from all rows, so max_train does not change them.
    assert gather(replace(data, max_train=50)).splits["test"].equals(found.splits["test"])
    for split in found.splits.values():
        assert split["row"].is_monotonic_increasing
        assert split["label"].value_counts().nunique() == 1
        expected = [f"text {row}" for row in split["row"]]
        assert split["text"].tolist() == expected


def test_max_train_below_the_number_of_labels(write_csv: Callable[..., str]) -> None:
    train = write_csv("train.csv", HEADER, rows("abcdef" * 10))
    with pytest.raises(BadInput, match="max_train 8 is too small for 6 labels"):
        gather(DataSpec(train=train, max_train=8))
    skewed = write_csv("skewed.csv", HEADER, rows("a" * 100 + "b" * 100 + "c" * 4))
    found = gather(
        DataSpec(train=skewed, max_train=8)
    )  # two rows of each label, one of them held out
    kept = pd.concat([found.splits["train"], found.splits["validation"]])["label"]
    assert kept.value_counts().to_dict() == {"a": 3, "b": 3, "c": 2}
    assert set(found.splits["train"]["label"]) == {"a", "b", "c"}


def test_rows_without_weight_cannot_be_scored(write_csv: Callable[..., str]) -> None:
    lines = [(f"t {i}", "ab"[i % 2], 0) for i in range(40)]
    train = write_csv("train.csv", [*HEADER, "w"], [*lines, ("u", "a", 1)])
    with pytest.raises(BadInput, match=r"all weights of the [a-z]+ rows are 0"):
        gather(DataSpec(train=train, weight="w"))


def test_fraction_that_groups_prevent_is_a_warning(write_csv: Callable[..., str]) -> None:
    lines = [(f"t {i}", "ab"[i % 2], i // 30) for i in range(120)]
    train = write_csv("train.csv", [*HEADER, "g"], lines)
    test = write_csv("test.csv", [*HEADER, "g"], [("u", "a", 99), ("v", "b", 3)])
    found = gather(DataSpec(train=train, test=test, group="g"))
    assert any(
        "validation has 25.0% of the rows instead of 10.0%" in warning for warning in found.warnings
    )
    validation = set(found.splits["validation"]["group"])
    assert len(validation) == 1
    shared = "test rows whose group is also in train: 1 of 2 (line 3)"
    assert (shared in found.warnings) == ("3" not in validation)


def test_warnings_of_the_splits() -> None:
    train = frame(
        [("x", "a"), ("x", "a"), ("y", "b"), ("z", "A"), ("x", "b"), ("w", "b "), ("v", "c")]
    )
    test = frame([("x", "a"), ("q", "b"), ("q", "b"), ("p", "A")])
    warnings = split_warnings({"train": train, "test": test})
    assert warnings == [
        "labels that differ only in case or surrounding spaces are treated as different labels:"
        " 'A' (2 times), 'a' (3 times)",
        "labels that differ only in case or surrounding spaces are treated as different labels:"
        " 'b' (4 times), 'b ' (1 times)",
        "no test row has the label 'b ', 'c': it cannot be scored there",
        "train rows with the same text as an earlier row: 2 of 7 (lines 3, 6)",
        "test rows with the same text as an earlier row: 1 of 4 (line 4)",
        "test rows whose text is also in train: 1 of 4 (line 2)",
        "train rows whose text also occurs with another label: 3 of 7 (lines 2, 3, 6)",
        "test rows whose text also occurs with another label: 1 of 4 (line 2)",
    ]
    assert shared_counts({"train": train, "test": test}) == {"train/test": 1}


def test_clean_splits_give_no_warning() -> None:
    splits = {"train": frame(rows("abab")), "test": frame(rows("ab", "other"))}
    assert split_warnings(splits) == []


def test_shared_premise_is_a_warning() -> None:
    train, test = frame(rows("ab")), frame([("text 0", "a"), ("new", "b")])
    train["text_pair"] = pd.Series(["p", "q"], dtype="str")
    test["text_pair"] = pd.Series(["r", "s"], dtype="str")
    (warning,) = split_warnings({"train": train, "test": test})
    assert warning.startswith("test rows whose first text is also in train: 1 of 2 (line 2); name")


def test_split_record_counts() -> None:
    table = frame([("x", "a"), ("y", "b"), ("x", "a"), ("z", "a")])
    lengths = pd.Series([4, 10, 4, 30]).to_numpy("int32")
    record = split_record(table, ["a", "b", "c"], lengths, max_length=8)
    assert record.rows == 4
    assert record.label_counts == {"a": 3, "b": 1, "c": 0}
    assert record.cut_rows == 2
    assert record.cut_tokens_share == pytest.approx((2 + 22) / 48)
    assert record.duplicate_rows == 1
    assert (record.lengths.least, record.lengths.median, record.lengths.most) == (4, 7.0, 30)
    assert record.lengths.mean == 12.0
    by_label = lengths_by_label(table, ["a", "b", "c"], lengths)
    assert by_label == {"a": quantiles(lengths[[0, 2, 3]]), "b": quantiles(lengths[[1]])}


def test_histogram_has_equal_bins_and_all_rows() -> None:
    lengths = pd.Series([3, 3, 4, 6]).to_numpy("int32")
    assert histogram(lengths) == [[3, 2], [4, 1], [5, 0], [6, 1]]
    wide = pd.Series(range(10, 1010)).to_numpy("int32")
    bins = histogram(wide)
    assert len(bins) == 40
    assert {right[0] - left[0] for left, right in pairwise(bins)} == {25}
    assert [rows for _, rows in bins] == [25] * 40
