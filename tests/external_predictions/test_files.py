from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneoff.exceptions import BadInput
from tuneoff.external_predictions import parse_sources
from tuneoff.external_predictions.file_predictions import read_predictions
from tuneoff.external_predictions.files import read_columns


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"", "the file has no rows"),
        ("x.csv", b"row,label\n", "the file has no rows"),
        ("x.csv", b"row,label\n1,a\n2,a,b\n", "line 3: the row has 3 fields, but the header has 2"),
        ("x.csv", b"row,row\n1,2\n", "line 1, column 'row': the column occurs twice"),
        ("x.csv", b'row,label\n1,"a\n', "line 2: unexpected end of data"),
        ("x.csv", b"row,label\n1,caf\xe9\n", "not encoded as UTF-8 (byte 0xe9)"),
        ("x.jsonl", b'{"row": 1}\n\n{"row": 2\n', "line 3: not a JSON object"),
        ("x.jsonl", b"[1, 2]\n", "line 1: not a JSON object"),
        ("x.jsonl", b"\n", "the file has no rows"),
        ("x.parquet", b"PAR1 and nothing else", "not a valid Parquet file"),
        ("x.xlsx", b"PK", "files with the extension '.xlsx'"),
    ],
)
def test_invalid_file_is_an_error(files: Any, name: str, content: bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_columns(files.text(name, content))
    assert name in str(caught.value)
    assert said in str(caught.value)


def test_missing_file_suggests_a_similar_name(files: Any) -> None:
    files.write("predictions.csv")
    with pytest.raises(BadInput, match=r"no such file\n  Hint: Did you mean 'predictions.csv'"):
        read_columns(files.folder / "prediction.csv")


def test_row_is_located_at_its_first_line(files: Any) -> None:
    found = read_columns(files.text("x.csv", 'row,text\n1,"two\nlines"\n\n2,b\n'))
    assert found.lines == [2, 5]
    assert found.values["text"] == ["two\nlines", "b"]


def test_byte_order_mark_is_ignored(files: Any) -> None:
    assert "row" in read_columns(files.text("x.csv", b"\xef\xbb\xbfrow,label\n1,a\n")).values


def test_option_is_a_name_and_a_file() -> None:
    assert parse_sources(["a b=x/y=z.csv"]) == [("a b", Path("x/y=z.csv"))]
    for option in ("x.csv", "=x.csv", "name="):
        with pytest.raises(BadInput, match="Write NAME=FILE"):
            parse_sources([option])


def test_labels_are_normalised_like_the_data(tmp_path: Path) -> None:
    for kind in ("probability_", ""):
        file = tmp_path / "x.csv"
        file.write_text(f"row,label,{kind}True,{kind}False\n0,True,0.9,0.1\n1,False,0.2,0.8\n")
        for labels, expected in (
            (["false", "true"], ["true", "false"]),
            (["False", "True"], ["True", "False"]),  # labels of a study of an earlier version
        ):
            answers = read_predictions(read_columns(file), labels)
            assert answers.labels == expected
            assert sorted(answers.probable) == labels
