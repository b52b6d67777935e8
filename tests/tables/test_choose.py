"""Detection of the text and label columns, and errors if a column is ambiguous."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tuneoff.config import DataSpec
from tuneoff.engine.data.gather import gather
from tuneoff.exceptions import BadInput
from tuneoff.tables import Columns, choose_columns, read_table
from tuneoff.tables.value_kinds import look_at

WORDS = [
    "cold",
    "rain",
    "fell",
    "on",
    "a",
    "red",
    "roof",
    "and",
    "an",
    "old",
    "dog",
    "slept",
    "by",
    "fire",
]
TEXTS = [" ".join(WORDS[i % 7 : 7 + i % 8]) + f" and then {i} more came" for i in range(24)]
NAMES = [f"{first} {last}" for first in ("Ada", "Bo", "Cy", "Di") for last in "ABCDEF"]
MOODS = ["glad", "sad", "calm"] * 8
COLUMNS: dict[str, list[Any]] = {
    "content": TEXTS,
    "emotion": MOODS,
    "id": list(range(7001, 7025)),
    "uid": [f"251034921.jpg#{i}r" for i in range(24)],
    "date": [f"2024-02-{i % 9 + 1:02d}" for i in range(24)],
    "stamp": [f"Mon Apr 06 22:19:{i % 5 + 10} PDT 2009" for i in range(24)],
    "score": [i % 4 + 0.5 for i in range(24)],
    "words": [31 + 2 * i for i in range(24)],
    "author": NAMES,
    "constant": ["NO_QUERY"] * 24,
    "empty": [None] * 24,
    "title": [f"Part {i} of this story" for i in range(24)],
    "lang": ["en", "de"] * 12,
    "stars": [1, 2, 3, 4] * 6,
    "spam": [True, False] * 12,
}
OPEN = Columns(text=None, label=None, header=None)


def written(folder: Path, names: Sequence[str], ending: str = ".csv", header: bool = True) -> str:
    """Write these columns to a file."""
    path = folder / f"a{ending}"
    frame = pd.DataFrame({name: COLUMNS[name] for name in names})
    if ending == ".parquet":
        frame.to_parquet(path)
    elif ending == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, header=header, sep="\t" if ending == ".tsv" else ",")
    return str(path)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("names", "text", "label"),
    [
        (["content", "emotion"], "content", "emotion"),
        (["emotion", "id", "content"], "content", "emotion"),
        (["uid", "date", "stamp", "score", "content", "emotion"], "content", "emotion"),
        (["author", "content", "constant", "empty", "words", "emotion"], "content", "emotion"),
        (["content", "stars"], "content", "stars"),
        (["content", "spam"], "content", "spam"),
        (["author", "lang"], "author", "lang"),
    ],
)
def test_unambiguous_columns(
    tmp_path: Path, ending: str, names: list[str], text: str, label: str
) -> None:
    path = written(tmp_path, names, ending)
    columns, notes = choose_columns(path, OPEN)
    assert (columns.text, columns.label) == (text, label)
    assert notes == [
        f"{path}: uses column {text!r} as the text and column {label!r} as the label, judging by"
        " their values; choose other columns with --text and --label"
    ]
    assert read_table(path, columns).frame["text"].tolist() == COLUMNS[text]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["title", "content", "emotion"],
            ["can be the text: 'title' (text, median of 4", "'content' (text"],
        ),
        (["content", "emotion", "lang"], ["can be the label: 'emotion' (3 distinct", "'lang' (2"]),
        (["content", "emotion", "stars"], ["can be the label", "'stars' (whole numbers, 4"]),
        (["uid", "emotion"], ["no column looks like a text", "'uid' (a different value in each"]),
        (["content", "id"], ["no column looks like a label", "'id' (whole numbers, 24 distinct"]),
        (["content", "date"], ["no column looks like a label", "'date' (dates)"]),
        (["content", "score"], ["no column looks like a label", "'score' (real numbers)"]),
    ],
)
def test_ambiguous_columns_are_an_error_with_the_candidates(
    tmp_path: Path, names: list[str], expected: list[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        choose_columns(written(tmp_path, names), OPEN)
    message = str(caught.value)
    for part in expected:
        assert part in message
    assert "Choose the column with --" in message


def test_default_and_requested_names_are_used_unchecked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    frame = pd.DataFrame({"label": MOODS, "lang": COLUMNS["lang"], "text": TEXTS})
    frame.assign(title=COLUMNS["title"], stars=COLUMNS["stars"]).to_csv(path, index=False)
    columns, notes = choose_columns(str(path), OPEN)
    assert (columns.text, columns.label, notes) == ("text", "label", [])
    columns, notes = choose_columns(str(path), Columns(text="title", label="lang", header=None))
    assert (columns.text, columns.label, notes) == ("title", "lang", [])
    usual = Columns(text="title", label="stars")
    columns, notes = choose_columns(str(path), OPEN, usual=usual)
    assert (columns.text, columns.label, notes) == ("title", "stars", [])


def test_a_column_with_another_role_is_not_a_candidate(tmp_path: Path) -> None:
    path = written(tmp_path, ["title", "content", "emotion", "stars", "lang"])
    asked = Columns(text=None, text_pair="title", label=None, weight="stars", group="lang")
    columns, _ = choose_columns(path, asked)
    assert (columns.text, columns.label) == ("content", "emotion")


def test_label_of_several_words_and_repeated_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    topics = ["News of arts and shows", "All kinds of sport today"] * 12
    pd.DataFrame({"body": TEXTS, "topic": topics}).to_csv(path, index=False)
    columns, _ = choose_columns(str(path), OPEN)
    assert (columns.text, columns.label) == ("body", "topic")
    pd.DataFrame({"text": TEXTS, "topic": topics}).to_csv(path, index=False)
    assert choose_columns(str(path), OPEN)[0].label == "topic"


def test_repeated_text_is_a_candidate(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    premises = [text for text in TEXTS[:8] for _ in range(3)]
    frame = pd.DataFrame({"premise": premises, "hypothesis": TEXTS, "label": MOODS})
    frame.to_csv(path, index=False)
    for role in ("train", "new"):
        with pytest.raises(BadInput, match=r"can be the text: 'premise' .*, 'hypothesis' .*"):
            choose_columns(str(path), OPEN, role)  # type: ignore[arg-type]
    asked = Columns(text=None, text_pair="hypothesis", label=None)
    assert choose_columns(str(path), asked)[0].text == "premise"
    frame.rename(columns={"label": "gold"}).to_csv(path, index=False)
    with pytest.raises(BadInput, match=r"can be the label: 'premise' .*, 'gold' "):
        choose_columns(str(path), OPEN)


def test_the_label_of_the_training_is_not_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    topics = ["News of arts and shows", "All kinds of sport today"] * 12
    pd.DataFrame({"body": TEXTS, "topic": topics}).to_csv(path, index=False)
    usual = Columns(text="words", label="topic")
    assert choose_columns(str(path), OPEN, "new", usual=usual)[0].text == "body"


def test_scripts_without_spaces(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    texts = [f"今天天气非常好我们去公园散步吧{chr(0x4E00 + i)}" for i in range(24)]
    pd.DataFrame({"评论": texts, "情感": ["正面", "负面"] * 12}).to_csv(path, index=False)
    columns, _ = choose_columns(str(path), OPEN)
    assert (columns.text, columns.label) == ("评论", "情感")


def test_training_file_determines_the_columns(tmp_path: Path) -> None:
    train = written(tmp_path, ["content", "emotion", "id"])
    test = tmp_path / "test.csv"
    one_label = {"content": ["a text", "b text"], "emotion": ["sad", "sad"], "id": [1, 2]}
    pd.DataFrame(one_label).to_csv(test, index=False)
    found = gather(DataSpec(train=train, test=str(test)))
    assert found.columns == {"text": "content", "label": "emotion"}
    assert sum("uses column" in warning for warning in found.warnings) == 1
    pd.DataFrame({"body": ["a text"], "emotion": ["sad"]}).to_csv(test, index=False)
    with pytest.raises(BadInput, match=r"test.csv, line 1: there is no column 'content'"):
        gather(DataSpec(train=train, test=str(test)))


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize(
    ("names", "text", "label"),
    [
        (["content", "stars"], "1", "2"),
        (["content", "emotion"], "1", "2"),
        (["spam", "id", "content"], "3", "1"),
        (["stars", "id", "stamp", "constant", "uid", "content"], "6", "1"),
    ],
)
def test_file_without_header(
    tmp_path: Path, ending: str, names: list[str], text: str, label: str
) -> None:
    path = written(tmp_path, names, ending, header=False)
    columns, notes = choose_columns(path, OPEN)
    assert (columns.header, columns.text, columns.label) == (False, text, label)
    assert "the first row is read as data, not as a header" in notes[0]
    assert f"from 1 to {len(names)}; use --header" in notes[0]
    frame = read_table(path, columns).frame
    assert frame["text"].tolist() == TEXTS
    assert frame["line"].tolist() == list(range(1, 25))
    assert frame["row"].tolist() == list(range(24))
    explicit = Columns(text=text, label=label, header=False)
    assert choose_columns(path, explicit) == (explicit, [])


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize("names", [["content", "emotion"], ["author", "stars", "date"], ["title"]])
def test_file_with_header(tmp_path: Path, ending: str, names: list[str]) -> None:
    columns, notes = choose_columns(
        written(tmp_path, names, ending), Columns(text=None, label=None, header=None), "new"
    )
    assert columns.header is True
    assert columns.text == names[0]
    assert not any("not as a header" in note for note in notes)


def test_an_unclear_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([text] for text in TEXTS)
    unclear = "it is unclear whether the first row is a header or data"
    with pytest.raises(BadInput, match=f"line 1: {unclear}") as caught:
        choose_columns(str(path), OPEN, "new")
    assert "--header or --no-header" in str(caught.value)
    for header, rows in ((True, 23), (False, 24)):
        asked = Columns(text=None, label=None, header=header)
        columns, _ = choose_columns(str(path), asked, "new")
        assert len(read_table(str(path), columns, "new").frame) == rows
    # The training used numbered columns, so this file has no header either.
    columns, _ = choose_columns(str(path), OPEN, "new", usual=Columns(text="1", label="2"))
    assert (columns.header, columns.text) == (False, "1")
    # A number above numbers suggests data, but a new name above the labels suggests a header.
    with open(path, "w", newline="") as file:
        rows = zip(TEXTS, MOODS, COLUMNS["id"], strict=True)
        csv.writer(file).writerows([["What people say", "mood", "2019"], *rows])
    with pytest.raises(BadInput, match=unclear):
        choose_columns(str(path), OPEN)


def test_files_with_and_without_a_header(tmp_path: Path) -> None:
    train = written(tmp_path, ["content", "emotion"], ".tsv", header=False)
    test = written(tmp_path, ["content", "emotion"], ".csv", header=False)
    found = gather(DataSpec(train=train, test=test))
    assert len(found.splits["test"]) == 24
    assert sum("not as a header" in warning for warning in found.warnings) == 2
    test = written(tmp_path, ["content", "emotion"], ".csv", header=True)
    with pytest.raises(BadInput, match=r"a.csv, line 1: there is no column '1'"):
        gather(DataSpec(train=train, test=test))


def test_ragged_row_in_a_file_without_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"some words {i},{i % 2}\n" for i in range(9)) + "a,b,c\n")
    columns, _ = choose_columns(str(path), OPEN)
    with pytest.raises(BadInput, match="line 10: the row has 3 fields, but the first row has 2"):
        read_table(str(path), columns)


def test_the_reader_reports_an_unreadable_file(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"body,mood\n", "a header but no rows"),
        ("a.csv", b"body,mood\ncaf\xe9,b\n", "not UTF-8"),
        ("a.csv", b'body,mood\n"open,b\n', "never closed"),
        ("a.jsonl", b"{broken", "not valid JSON"),
        ("a.jsonl", json.dumps([{"body": "x"}]).encode(), "a JSON list, not one object per line"),
        ("a.parquet", b"PAR1 broken", "not a valid Parquet file"),
        ("a.csv.gz", b"\x1f\x8bbroken", "gzip file is corrupt"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BadInput, match=message):
            gather(DataSpec(train=str(path)))


def test_key_that_some_objects_lack(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"content": t, "mood": m} for t, m in zip(TEXTS, MOODS, strict=True)]
    path.write_text(
        "\n".join(json.dumps(r | ({"x": [1]} if i % 2 == 0 else {})) for i, r in enumerate(rows))
    )
    columns, _ = choose_columns(str(path), OPEN)
    assert (columns.text, columns.label) == ("content", "mood")
    kept = read_table(str(path), Columns(text="content", label="mood", kept=("x",))).frame
    assert kept["kept x"].tolist()[:2] == [[1], ""]


def test_descriptions_of_columns() -> None:
    assert str(look_at([None, " ", float("nan")])) == "empty"
    assert str(look_at([[1], [2]])) == "lists or objects"
    assert str(look_at([b"x", b"y"])) == "lists or objects"
    assert str(look_at(["10:30", "11:45"])) == "dates"
    assert str(look_at([True, False])) == "booleans, 2 distinct"
    assert look_at(["Monday is fine", "Sunday was better"]).kind == "strings"
    assert look_at(["May 5 be with you", "Mary has 3 lambs"]).kind == "strings"
