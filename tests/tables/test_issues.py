"""Errors of files: each message has the line or row, the column and a hint."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from tuneoff.exceptions import BadInput, Issue
from tuneoff.tables import Columns, read_table
from tuneoff.tables.columns import LISTED


def issues_of(path: Path | str, **columns: str) -> Sequence[Issue]:
    with pytest.raises(BadInput) as caught:
        read_table(str(path), Columns(**columns))
    assert all(issue.file == str(path) for issue in caught.value.issues)
    return caught.value.issues


def only_issue(path: Path | str, **columns: str) -> Issue:
    (issue,) = issues_of(path, **columns)
    return issue


def test_missing_file_suggests_similar_names(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n")
    issue = only_issue(tmp_path / "trian.csv")
    assert "no such file" in issue.message
    assert issue.hint == "Did you mean 'train.csv'?"
    assert only_issue(tmp_path / "q.tsv").hint == "Files in the folder: train.csv."
    assert "does not exist either" in (only_issue(tmp_path / "gone" / "a.csv").hint or "")


def test_folder_url_and_unsupported_format(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text("")
    issue = only_issue(tmp_path)
    assert (issue.message, issue.hint) == (
        "this is a folder, not a file",
        "Choose a file in it: b.jsonl.",
    )
    assert only_issue("https://example.org/a.csv").message == "this is a URL"
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    issue = only_issue(tmp_path / "a.xlsx")
    assert issue.message == "the file format '.xlsx' is not supported"
    assert ".parquet" in (issue.hint or "")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \r\n\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_empty_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert only_issue(tmp_path / name).message == "the file is empty"


def test_header_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n\n")
    assert only_issue(tmp_path / "a.csv").message == "the file has a header but no rows"
    pd.DataFrame({"text": pd.Series([], dtype="str"), "label": []}).to_parquet(
        tmp_path / "a.parquet"
    )
    assert only_issue(tmp_path / "a.parquet").message == "the file has no rows"


@pytest.mark.parametrize(
    ("asked", "missing", "option", "guess"),
    [
        ({}, "text", "--text", "Did you mean 'Text'?"),
        ({"text": "Text", "label": "lable"}, "lable", "--label", "Did you mean 'label'?"),
        ({"text": "Text", "text_pair": "zzz"}, "zzz", "--text-pair", None),
        ({"text": "Text", "weight": "zzz"}, "zzz", "--weight", None),
        ({"text": "Text", "group": "zzz"}, "zzz", "--group", None),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_missing_column(
    tmp_path: Path, name: str, asked: dict[str, str], missing: str, option: str, guess: str | None
) -> None:
    frame = pd.DataFrame({"Text": ["x", "y"], "label": ["a", "b"]})
    if name == "a.csv":
        frame.to_csv(tmp_path / name, index=False)
    elif name == "a.jsonl":
        frame.to_json(tmp_path / name, orient="records", lines=True)
    else:
        frame.to_parquet(tmp_path / name)
    issue = only_issue(tmp_path / name, **asked)
    assert issue.message == f"there is no column {missing!r}"
    assert issue.line == (1 if name == "a.csv" else None)
    assert issue.hint is not None
    assert issue.hint.startswith("Columns of the source: 'Text', 'label'.")
    assert issue.hint.endswith(f"Choose the column with {option}.")
    assert guess is None or guess in issue.hint
    assert guess is not None or "Did you mean" not in issue.hint


def test_duplicate_column_and_column_with_two_roles(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,text,x,x\none,a,two,1,1\n")
    issue = only_issue(path)
    assert (issue.line, issue.column) == (1, "text")
    assert "2 times in the header (fields 1, 3)" in issue.message
    path.write_text("text,label\none,a\ntwo,b\n")
    issue = only_issue(path, label="text")
    assert "--text and --label" in issue.message
    grouped = read_table(str(path), Columns(group="text")).frame  # each distinct text is a group
    assert grouped["group"].tolist() == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "delimiter", "word", "hint"),
    [
        ("a.csv", ";", "a semicolon", "with commas (.csv)"),
        ("a.csv", "\t", "a tab", "Rename the file to .tsv."),
        ("a.tsv", ",", "a comma", "Rename the file to .csv."),
    ],
)
def test_wrong_delimiter(tmp_path: Path, name: str, delimiter: str, word: str, hint: str) -> None:
    (tmp_path / name).write_text(f"text{delimiter}label\none{delimiter}a\n")
    issue = only_issue(tmp_path / name)
    assert issue.line == 1
    assert f"the delimiter seems to be {word}, not a " in issue.message
    assert hint in (issue.hint or "")


@pytest.mark.parametrize("pack", [False, True])
def test_bytes_that_are_not_utf8(tmp_path: Path, pack: bool) -> None:
    content = "text,label\nfine é,a\n".encode() + "caf\u00e9,b\n".encode("cp1252")
    path = tmp_path / ("a.csv.gz" if pack else "a.csv")
    path.write_bytes(gzip.compress(content) if pack else content)
    issue = only_issue(path)
    assert issue.line == 3
    offset = content.index(b"\xe9,b")
    assert f"byte 0xe9, at byte offset {offset}" in issue.message
    assert "iconv -f cp1252 -t UTF-8 > a.utf8.csv" in (issue.hint or "")


def test_bytes_that_are_not_utf8_beyond_the_first_buffer(tmp_path: Path) -> None:
    lines = [b"text,label", *[b"some words,a"] * 200_000, b"caf\xe9,b"]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    issue = only_issue(tmp_path / "a.csv")
    assert issue.line == 200_002
    assert f"offset {11 + 13 * 200_000 + 3}" in issue.message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\none,a\n".encode(encoding))
    issue = only_issue(tmp_path / "a.csv")
    assert issue.line == 1
    assert "iconv -f UTF-16" in (issue.hint or "")


def test_compressed_files_with_the_wrong_name(tmp_path: Path) -> None:
    packed = gzip.compress(b"text,label\n" + b"one,a\ntwo,b\n" * 1000)
    (tmp_path / "a.csv").write_bytes(packed)
    assert "gzip" in only_issue(tmp_path / "a.csv").message
    (tmp_path / "b.csv.gz").write_bytes(b"text,label\none,a\n")
    assert "gzip file is corrupt" in only_issue(tmp_path / "b.csv.gz").message
    (tmp_path / "c.csv.gz").write_bytes(packed[:-12])
    assert "gzip file is corrupt" in only_issue(tmp_path / "c.csv.gz").message
    (tmp_path / "d.csv").write_bytes(b"PK\x03\x04rest")
    assert "spreadsheet" in only_issue(tmp_path / "d.csv").message
    (tmp_path / "e.parquet").write_bytes(b"text,label\n" * 10)
    assert "contains CSV, but its name says Parquet" in only_issue(tmp_path / "e.parquet").message
    (tmp_path / "f.parquet").write_bytes(b"PAR1rest")
    assert "not a valid Parquet file" in only_issue(tmp_path / "f.parquet").message


CSV, TSV = b"text,label\none,a\ntwo,b\n", b"text\tlabel\none\ta\n"
JSON = b'{"text": "one, two", "label": "a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "format_name", "right"),
    [
        ("a.csv", JSON, "JSON lines", "a.jsonl"),
        ("a.tsv", JSON, "JSON lines", "a.jsonl"),
        ("a.parquet", JSON, "JSON lines", "a.jsonl"),
        ("a.csv", b"PAR1\x15\x04\xac", "Parquet", "a.parquet"),
        ("a.jsonl", b"PAR1\x15\x04\xac", "Parquet", "a.parquet"),
        ("a.jsonl", CSV, "CSV", "a.csv"),
        ("a.jsonl", TSV, "tab-separated text", "a.tsv"),
        ("a.parquet", TSV, "tab-separated text", "a.tsv"),
    ],
)
def test_a_file_of_another_format_than_its_name_says(
    tmp_path: Path, name: str, content: bytes, format_name: str, right: str
) -> None:
    (tmp_path / name).write_bytes(content)
    issue = only_issue(tmp_path / name)
    assert f"the file contains {format_name}, but its name says" in issue.message
    assert issue.hint == f"Rename the file: mv {tmp_path / name} {tmp_path / right}"


@pytest.mark.parametrize("content", [b"[" + JSON + b"]", b"[\n  " + JSON + b"]"])
def test_json_list_with_another_suffix(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    issue = only_issue(tmp_path / "a.csv")
    assert "the file contains a JSON list" in issue.message
    assert (issue.hint or "").endswith(f"| jq -c '.[]' > {tmp_path / 'a.jsonl'}")


def test_a_csv_text_in_braces_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n{one},a\n[two],b\n")
    assert len(read_table(str(path), Columns()).frame) == 2
    for first in ('{"a":1},pos', "{} is great,pos", "[,pos"):
        path.write_text(f"{first}\nplain,neg\n")
        read = read_table(str(path), Columns(text="1", label="2", header=False)).frame
        assert read["label"].tolist() == ["pos", "neg"]


def test_ragged_rows_are_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"two\nlines",a\nx,y,z\nfine,b\nalone\n')
    issues = issues_of(path)
    assert [issue.line for issue in issues] == [4, 6]
    assert issues[0].message == "the row has 3 fields, but the header has 2"
    assert issues[1].message == "the row has 1 field, but the header has 2"


def test_many_issues_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "only text\n" * 100)
    issues = issues_of(path)
    assert len(issues) == LISTED + 1
    assert issues[-1].message == f"further issues that are not listed: {100 - LISTED}"


def test_quote_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\none,a\n"tw""o\nstill two",b\nthree,"b\nfour,a\n')
    issue = only_issue(path)
    assert issue.line == 5
    assert issue.message == "the quote that opens in field 2 is never closed"


def test_doubled_quotes_do_not_close_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\none,a\n"a ""quoted"" word\n""","b\nthree,a\n')
    issue = only_issue(path)
    assert issue.line == 4
    assert issue.message == "the quote that opens in field 2 is never closed"


def test_quote_closed_by_a_later_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\none,a\n"two,b\nthree,a\n"four",b\n')
    issue = only_issue(path)
    assert issue.line == 3
    assert "field 1 closes on line 5, but text follows it" in issue.message
    assert "write a quote twice" in (issue.hint or "")


def test_issues_before_an_open_quote_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\nalone\nempty,\n"open,a\n')
    assert [issue.line for issue in issues_of(path)] == [2, 4, 3]


def test_missing_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\none,a\ntwo,\nthree, \n")
    issues = issues_of(path)
    assert [(issue.line, issue.column) for issue in issues] == [(3, "label"), (4, "label")]
    assert {issue.message for issue in issues} == {"the label is missing"}


def test_jsonl_values_that_are_not_a_text_or_label(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"text": 3, "label": "a"},
        {"text": None, "label": "a"},
        {"text": ["x"], "label": "a"},
        {"text": "x", "label": ["a", "b"]},
        {"text": "x", "label": None},
        {"text": "x", "label": {"name": "a"}},
        {"text": "fine", "label": "a"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [(f.line, f.column, f.message) for f in issues_of(path)] == [
        (1, "text", "the value is a number, not text"),
        (2, "text", "the value is null, not text"),
        (3, "text", "the value is a list, not text"),
        (4, "label", issues_of(path)[3].message),
        (6, "label", "the value is an object, not a label"),
        (5, "label", "the label is missing"),
    ]
    several = issues_of(path)[3].message
    assert several.startswith(
        "the cell contains several labels, as a list (['a', 'b']; 1 row in total)"
    )


def test_invalid_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "x", "label": "a"}\n\n{"text": "x" "label": "a"}\n[1]\n'
        '{"text": "x", "text": "y", "label": "a"}\n{"text": "x", "label": "\\ud83d"}\n'
        '{"text": "\\ud83c\\udf88", "label": "a"}\n'
    )
    issues = issues_of(path)
    assert [issue.line for issue in issues] == [3, 4, 5, 6]
    assert "not valid JSON: Expecting ',' delimiter at character 14" in issues[0].message
    assert "not a JSON object" in issues[1].message
    assert "'text' occurs twice" in issues[2].message
    assert issues[3].column == "label"
    assert "the label '\\ud83d' contains an unpaired surrogate" in issues[3].message


def test_jsonl_row_without_the_key_and_json_list(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": "a"}\n{"text": "y"}\n')
    issue = only_issue(path)
    assert (issue.line, issue.column) == (2, "label")
    assert issue.message == "the key is missing in this row"
    path = tmp_path / "a.json"
    path.write_text('[\n{"text": "x", "label": "a"}\n]\n')
    issue = only_issue(path)
    assert "a JSON list, not one object per line" in issue.message
    assert issue.hint == "Convert the file: jq -c '.[]' a.json > a.jsonl"


def test_parquet_column_of_numbers_is_one_issue(tmp_path: Path) -> None:
    pd.DataFrame({"text": [1, 2], "label": ["a", "b"]}).to_parquet(tmp_path / "a.parquet")
    issue = only_issue(tmp_path / "a.parquet")
    assert (issue.column, issue.message) == ("text", "the column has the type int64, not text")


def test_null_text_and_label_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["x", None, "z"], "label": ["a", "b", None]})
    frame.to_parquet(tmp_path / "a.parquet")
    issues = issues_of(tmp_path / "a.parquet")
    assert [(f.line, f.row, f.column) for f in issues] == [(None, 1, "text"), (None, 2, "label")]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_real_valued_labels(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"text": ["x", "y", "z"], "label": [1.0, 0.37, 2.5]})
    if name == "a.csv":
        frame.to_csv(tmp_path / name, index=False)
    elif name == "a.jsonl":
        frame.to_json(tmp_path / name, orient="records", lines=True)
    else:
        frame.to_parquet(tmp_path / name)
    issue = only_issue(tmp_path / name)
    place = {"a.csv": (3, None), "a.jsonl": (2, None), "a.parquet": (None, 1)}[name]
    assert ((issue.line, issue.row), issue.column) == (place, "label")
    assert "(0.37; 2 rows in total); tuneoff supports classification" in issue.message


def test_numbers_and_words_as_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,0.5\ny,half\nz,-3\n")
    frame = read_table(str(tmp_path / "a.csv"), Columns()).frame
    assert frame["label"].tolist() == ["0.5", "half", "-3"]


def test_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = ["1", "-1", "nan", "inf", "", "heavy", "1e39", "0"]
    path.write_text("text,label,w\n" + "".join(f"x,a,{weight}\n" for weight in rows))
    issues = issues_of(path, weight="w")
    assert [issue.line for issue in issues] == [3, 4, 5, 6, 7, 8]
    assert {issue.column for issue in issues} == {"w"}
    assert issues[4].message == "'heavy' is not a valid weight"
    path.write_text("text,label,w\nx,a,0\ny,b,0.0\n")
    assert only_issue(path, weight="w").message == "all weights are 0"


def test_every_text_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n ,a\n,b\n")
    issue = only_issue(tmp_path / "a.csv")
    assert (issue.message, issue.column) == ("every text is empty", "text")
    with pytest.raises(BadInput, match="every text is empty"):
        read_table(str(tmp_path / "a.csv"), Columns(), "test")


def test_invalid_json_is_reported_with_its_position(tmp_path: Path) -> None:
    line = '{"text": "oops", "label": '
    (tmp_path / "a.jsonl").write_text('{"text": "one", "label": "a"}\n' + line + "\n")
    issue = only_issue(tmp_path / "a.jsonl")
    assert issue.line == 2
    assert f"at character {len(line) + 1}" in issue.message


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("nan", "usually mean a missing value"),
        (" N/A ", "usually mean a missing value"),
        ("a cafÃ© in town", "decoded with the wrong encoding"),
        ("she said â€œyesâ€\x9d", "decoded with the wrong encoding"),
        ("SÃO PAULO, née à la carte", None),
        ("nothing is missing", None),
    ],
)
def test_texts_that_are_suspicious_cause_a_warning(
    tmp_path: Path, text: str, note: str | None
) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": text, "label": "a"}, {"text": "plain", "label": "b"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = read_table(str(path), Columns()).warnings
    assert [note in warning for warning in notes] == [True] if note else notes == []
