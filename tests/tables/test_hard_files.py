"""Invalid and unusual data files, as seen by a user of `tuneoff check`: errors and warnings."""

from __future__ import annotations

import gzip
import json
import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneoff.config import DataSpec
from tuneoff.engine.data.gather import gather
from tuneoff.exceptions import BadInput
from tuneoff.tables import Columns, read_table
from tuneoff.tables.files import PACKING, SMALL

Files = dict[str, bytes]
ANIMALS, FOOD = ["cat", "dog", "bird", "horse"], ["bread", "milk", "soup", "cheese"]


def rows(count: int, start: int = 0) -> list[list[str]]:
    """Return rows of two labels, whose texts are all different."""
    found = []
    for i in range(start, start + count):
        words, label = ((ANIMALS, "animals"), (FOOD, "food"))[i % 2]
        found.append([f"{words[i % 4]} n{i} {words[i // 2 % 4]} x{i * 7919 % 997} here", label])
    return found


def csv(lines: list[list[str]], header: str = "text,label", end: str = "\n") -> bytes:
    """Return a CSV file in which every value is quoted."""
    quoted = [",".join('"' + v.replace('"', '""') + '"' for v in line) for line in lines]
    return end.join([header, *quoted, ""]).encode()


def jsonl(*records: Any) -> bytes:
    return "\n".join(r if isinstance(r, str) else json.dumps(r) for r in records).encode()


GOOD, TEST = rows(40), rows(20, 100)


def with_row(*added: list[str]) -> bytes:
    """Return a CSV file with 40 valid rows in lines 2 to 41, followed by `added`."""
    return csv([*GOOD, *added])


@dataclass(frozen=True)
class Case:
    """Files, and parts of the expected messages."""

    name: str
    expected: list[str]
    train: bytes | None = None
    test: bytes | None = field(default_factory=lambda: csv(TEST))
    file: str = "train.csv"
    options: tuple[str, ...] = ()


ERRORS = [
    Case("missing file", ["train.csv: there is no such file", "Did you mean 'trains.csv'?"]),
    Case("empty file", ["train.csv: the file is empty"], b""),
    Case("header only", ["the file has a header but no rows"], b"text,label\n"),
    Case(
        "missing column",
        ["train.csv: there is no column 'label', and no", "Did you mean 'Label'?", "--label"],
        csv([[text, str(i)] for i, (text, _) in enumerate(GOOD)], "text,Label"),
    ),
    Case(
        "duplicate column",
        ["train.csv, line 1, column 'text'", "2 times", "Rename or remove"],
        csv([[a, b, a] for a, b in GOOD], "text,label,text"),
    ),
    Case(
        "ragged row",
        [
            "train.csv, line 42: the row has 3 fields, but the header has 2",
            "Enclose a text that contains the delimiter in quotes",
        ],
        with_row(["a", "b", "c"]),
    ),
    Case(
        "unclosed quote",
        ["train.csv, line 42: the quote that opens in field 1 is never closed", "Close the quote"],
        csv(GOOD) + b'"one,animals\ntwo,food\n',
    ),
    Case(
        "wrong delimiter",
        ["train.csv, line 1", "'text;label'", "seems to be a semicolon, not a comma"],
        csv(GOOD).replace(b",", b";"),
    ),
    Case(
        "UTF-16",
        ["train.csv, line 1: the file is not UTF-8", "byte offset 0", "iconv -f UTF-16"],
        csv(GOOD).decode().encode("utf-16"),
    ),
    Case(
        "invalid UTF-8",
        ["train.csv, line 42", "byte 0xe9", f"byte offset {len(csv(GOOD)) + 3}", "cp1252"],
        csv(GOOD) + "café,food\n".encode("latin-1"),
    ),
    Case(
        "broken JSONL line",
        ["train.jsonl, line 2: not valid JSON: Expecting ',' delimiter at character 14"],
        jsonl({"text": "x", "label": "a"}, '{"text": "x" "label": "a"}'),
        file="train.jsonl",
    ),
    Case(
        "text that is not a string",
        [
            "train.jsonl, line 2, column 'text': the value is a number, not text",
            "Replace it by a string",
        ],
        jsonl({"text": "x", "label": "a"}, {"text": 7, "label": "b"}),
        file="train.jsonl",
    ),
    Case(
        "null text",
        ["train.jsonl, line 2, column 'text': the value is null, not text"],
        jsonl({"text": "x", "label": "a"}, {"text": None, "label": "b"}),
        file="train.jsonl",
    ),
    Case(
        "training row without a label",
        ["train.csv, line 42, column 'label': the label is missing", "Add a label to the row"],
        with_row(["a cat", ""]),
    ),
    Case(
        "test row without a label",
        ["test.csv, line 22, column 'label': the label is missing"],
        csv(GOOD),
        csv([*TEST, ["a cat", " "]]),
    ),
    Case(
        "label in the test only",
        ["test.csv, line 22, column 'label': the label 'Foot\\x07'", "Did you mean 'food'?"],
        csv(GOOD),
        csv([*TEST, ["a cat", "Foot\a"]]),
    ),
    Case(
        "single class",
        ["train.csv, column 'label': all training rows have the label 'food'"],
        csv([[text, "food"] for text, _ in GOOD]),
        csv([[text, "food"] for text, _ in TEST]),
    ),
    Case(
        "class too small to split",
        ["train.csv, line 42, column 'label': the label 'rare' has only one row", "Add rows"],
        with_row(["a cat", "rare"]),
    ),
    Case(
        "labels that are real numbers",
        ["train.csv, line 2, column 'label': the labels are real numbers (0.5; 40 rows in total)"],
        csv([[text, f"{i}.5"] for i, (text, _) in enumerate(GOOD)]),
        csv([[text, f"{i}.5"] for i, (text, _) in enumerate(TEST)]),
    ),
    Case(
        "labels of different types",
        [
            "train.jsonl, line 2, column 'label': the labels have different types:",
            '1 numbers (1 in line 1), 1 strings ("1" in line 2), 1 booleans (true in line 3)',
            "Write all labels as strings",
        ],
        jsonl(*({"text": f"t {label}", "label": label} for label in (1, "1", True))),
        file="train.jsonl",
    ),
    Case(
        "the same file for train and test",
        ["test.csv: the same file is given for train and test"],
        csv(GOOD),
        b"as train",
    ),
    Case(
        "decompression bomb",
        ["train.csv.gz: the file of", f"contains more than {SMALL:,} bytes", f"to {PACKING} times"],
        gzip.compress(b"text,label\n" + b"a,b\n" * (SMALL // 4)),
        file="train.csv.gz",
    ),
]


@pytest.fixture
def checked(tuneoff: Any, tiny_model: Any, tmp_path: Path, monkeypatch: Any) -> Callable[..., Any]:
    """Run `tuneoff check` and return its exit code, output and errors with folded white space."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trains.csv").write_bytes(csv(GOOD))

    def check(case: Case) -> tuple[int, str, str]:
        if case.train is not None:
            (tmp_path / case.file).write_bytes(case.train)
        test = tmp_path / "test.csv"
        if case.test == b"as train":
            test.hardlink_to(tmp_path / case.file)
        elif case.test is not None:
            test.write_bytes(case.test)
        options = ("--test", "test.csv") if case.test is not None else ()
        model = tiny_model("bert")
        ended = tuneoff("check", case.file, *options, "--model", model, *case.options)
        return ended.code, *(" ".join(text.split()) for text in (ended.out, ended.err))

    return check


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_errors(case: Case, checked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors
    import transformers.modeling_utils  # noqa: F401  (it keeps the functions that it imports now)

    import tuneoff.engine.execute  # noqa: F401

    def loaded(*_: Any, **__: Any) -> None:
        pytest.fail("weights were opened")

    monkeypatch.setattr(safetensors, "safe_open", loaded)
    code, out, err = checked(case)
    assert (code, out) == (2, "")
    for part in case.expected:
        assert part in err
    assert "Traceback" not in err


def test_issues_of_all_files_are_reported_together(checked: Any) -> None:
    train = csv(GOOD) + b"a,b,c\nd,\n"
    code, _, err = checked(Case("", [], train, csv([*TEST, ["x", ""], ["y", ""]])))
    assert code == 2
    for place in ("train.csv, line 42:", "train.csv, line 43, column", "test.csv, line 22, column"):
        assert place in err
    assert "test.csv, line 23, column 'label': the label is missing" in err


LONG = "cat " * 33_000
TWENTY = [[f"{text} again", label] for text, label in rows(20, 300)]
WARNINGS = [
    Case(
        "byte order mark",
        ["train.csv: starts with a UTF-8 byte order mark, which is ignored"],
        b"\xef\xbb\xbf" + csv(GOOD),
    ),
    Case(
        "NUL bytes",
        ["train.csv: texts with NUL bytes: 6 of 46 (lines 42, 43, 44, 45, 46, …)"],
        with_row(*([f"a\0 cat {i}", "animals"] for i in range(6))),
    ),
    Case(
        "lone surrogates",
        [
            "train.jsonl: texts of column 'text' with an unpaired surrogate, replaced by U+FFFD:",
            "1 (line 41)",
        ],
        jsonl(
            *({"text": text, "label": label} for text, label in GOOD),
            '{"text": "a \\ud83d cat", "label": "animals"}',
        ),
        file="train.jsonl",
    ),
    Case(
        "fields over 131,072 characters",
        ["train.csv: texts with more than 131,072 characters: 1 of 41 (line 42)"],
        with_row([LONG + LONG, "animals"]),
    ),
    Case(
        "a line of 10 MB",
        ["train.csv: texts with more than 131,072 characters: 1 of 41 (line 42)"],
        with_row(["cat" * 3_333_333, "animals"]),
    ),
    Case(
        "CRLF and quoted line breaks",
        ["train.csv: texts with line breaks, read as LF", "of the file end in CR LF: 1 (line 42)"],
        csv([*GOOD, ["two\r\nlines", "food"], ["more", "food"]], end="\r\n"),
    ),
    Case(
        "rows without text",
        [
            "train.csv: rows with an empty text, left out: 2 of 42 (lines 42, 43)",
            "test.csv: rows with an empty text, kept and scored: 1 of 21 (line 22)",
            "test: 21 rows",
        ],
        with_row(["", "food"], [" \t", "food"]),
        csv([*TEST, ["", "food"]]),
    ),
    Case(
        "texts without a known word",
        ["train rows with only unknown tokens: ", "test rows with only", "(line 22)"],
        with_row(*([f"qqq{i} zzz", "food"] for i in range(20))),
        csv([*TEST, ["xyzzy", "food"]]),
    ),
    Case(
        "labels that look like missing values",
        ["mean a missing value are used as labels: 'NA' (30 times), 'None' (30 times)"],
        csv([[text, ("NA", "None")[i % 2]] for i, (text, _) in enumerate(GOOD)]),
        csv([[text, ("NA", "None")[i % 2]] for i, (text, _) in enumerate(TEST)]),
    ),
    Case(
        "labels that differ in case or spaces",
        ["differ only in case or surrounding spaces", "'Food' (20 times), 'food' (30 times)"],
        csv([*GOOD, *([text, "Food"] for text, _ in TWENTY)]),
    ),
    Case(
        "label absent from the test",
        ["no test row has the label 'weather': it cannot be scored there"],
        csv([*GOOD, *([text, "weather"] for text, _ in TWENTY)]),
    ),
    Case(
        "nearly all of one class",
        ["more than 99 % of the train rows have the label 'food'; other labels: "],
        csv([[t, "food"] for t, _ in rows(600, 1000)] + [[t, "animals"] for t, _ in GOOD[:4]]),
    ),
    Case(
        "duplicates",
        ["test rows with the same text as an earlier row: 6 of 26 (lines 22, 23, 24, 25, 26, …)"],
        csv(GOOD),
        csv(TEST + TEST[:6]),
    ),
    Case(
        "the same text with different labels",
        ["rows whose text also occurs with another label: ", "(lines 22, 23)"],
        with_row(["one cat", "animals"], ["two cats", "food"]),
        csv([*TEST, ["one cat", "food"], ["two cats", "animals"]]),
    ),
    Case(
        "test rows among the training rows",
        ["test rows whose text is also in train: ", "lines 22, 23, 24, 25, 26, …)"],
        csv(GOOD),
        csv(TEST + GOOD),
    ),
    Case(
        "near-duplicates across the splits",
        [
            "test rows whose text is almost the same as one in train (a few words",
            "(lines 22, 23, 24)",
        ],
        with_row(
            ["The quick brown fox jumps over the lazy dog today", "animals"],
            ["a bowl of hot soup with bread and cheese for lunch", "food"],
            ["Milk is good.", "food"],
        ),
        csv(
            [
                *TEST,
                ["the quick brown fox jumps over the lazy dog, today!", "animals"],
                ["a bowl of cold soup with bread and cheese for lunch", "food"],
                ["MILK  is good", "food"],
                ["a bowl of something else that no other text holds", "food"],
            ]
        ),
    ),
    Case(
        "over the maximum length",
        ["test rows with more than 16 tokens, which are truncated: 1 of 21 (line 22)"],
        csv(GOOD),
        csv([*TEST, ["cat " * 30, "animals"]]),
        options=("--max-length", "16"),
    ),
    Case(
        "bidirectional text and emoji",
        ["texts with bidirectional control characters: 1 of 43 (line 42)"],
        with_row(["a \u202ecat\u202c", "animals"], ["🎈 חתול", "animals"], ["قط", "animals"]),
    ),
]


@pytest.mark.parametrize("case", WARNINGS, ids=lambda case: case.name)
def test_warnings(case: Case, checked: Any) -> None:
    code, out, err = checked(case)
    assert (code, err) == (0, "")
    for part in case.expected:
        assert part in out


def test_number_of_cases() -> None:
    assert (len(ERRORS), len(WARNINGS)) == (22, 18)


def test_valid_file_has_no_warning(checked: Any) -> None:
    code, out, _ = checked(Case("", [], csv(GOOD)))
    assert code == 0
    assert "rows with" not in out
    assert "warning" not in out.lower()


def test_texts_are_read_unchanged(tmp_path: Path) -> None:
    texts = [
        "a\0b",
        "🎈 👩‍👩‍👧",
        "\u202eabc\u202c",
        "e\u0301 é",
        "\ufeffmark",
        "tab\there",
        "  padded ",
    ]
    (tmp_path / "a.csv").write_bytes(csv([[text, "x"] for text in texts]))
    assert read_table(str(tmp_path / "a.csv"), Columns()).frame["text"].tolist() == texts


def test_crlf_and_lf_give_the_same_rows(tmp_path: Path) -> None:
    lines = [*GOOD, ["two\nlines", "food"], ["last", "animals"]]
    found = []
    for name, end in (("lf.csv", "\n"), ("crlf.csv", "\r\n")):
        (tmp_path / name).write_bytes(csv(lines).replace(b"\n", end.encode()))
        found.append(read_table(str(tmp_path / name), Columns()).frame)
    pd.testing.assert_frame_equal(*found)


def test_memory_for_a_line_of_10_mb(tmp_path: Path) -> None:
    size = 10_000_000
    (tmp_path / "a.csv").write_bytes(with_row(["cat " * (size // 4), "animals"]))
    tracemalloc.start()
    try:
        read_table(str(tmp_path / "a.csv"), Columns())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * size


def test_no_test_row_is_ever_dropped(tmp_path: Path) -> None:
    odd = [["", "food"], ["\0", "food"], [LONG, "food"], TEST[0], GOOD[0], ["zzz", "animals"]]
    (tmp_path / "train.csv").write_bytes(csv(GOOD))
    (tmp_path / "test.csv").write_bytes(csv(TEST + odd))
    data = DataSpec(train=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"))
    split = gather(data).splits["test"]
    assert split["row"].tolist() == list(range(len(TEST) + len(odd)))


@pytest.mark.parametrize("kind", ["stored", "repeated"])
def test_parquet_decompression_bombs(tmp_path: Path, kind: str) -> None:
    path, large = tmp_path / "a.parquet", "x" * (1 << 20)
    column = [large] * 64 if kind == "repeated" else [large + str(i) for i in range(64)]
    frame = pd.DataFrame({"text": column, "label": [i % 2 for i in range(64)]})
    frame.to_parquet(path, compression="zstd", use_dictionary=kind == "repeated")
    assert path.stat().st_size * PACKING < 1 << 26
    with pytest.raises(BadInput, match="contains more than"):
        read_table(str(path), Columns())


@pytest.mark.parametrize("name", ["arrow.py_extension_type", "somebody.type"])
def test_parquet_extension_types_are_rejected(tmp_path: Path, name: str) -> None:
    fired = tmp_path / "fired"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return fired.touch, ()

    extension = {
        "ARROW:extension:name": name,
        "ARROW:extension:metadata": pickle.dumps(Payload()),
    }
    fields = [pa.field("text", pa.string(), metadata=extension), pa.field("label", pa.string())]
    table = pa.table([["x", "y"], ["a", "b"]], schema=pa.schema(fields))
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(
        BadInput, match=f"column 'text': the column has the extension type .*{name}"
    ):
        read_table(str(tmp_path / "a.parquet"), Columns())
    assert not fired.exists()


def test_warnings_are_in_the_report(tuneoff: Any, tiny_model: Any, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(with_row(["", "food"], ["a\0cat", "food"]))
    (tmp_path / "test.csv").write_bytes(csv(TEST + GOOD[:7]))
    files = ("--train", tmp_path / "train.csv", "--test", tmp_path / "test.csv")
    command = ("compare", "--model", tiny_model("bert"), *files, "--methods", "tfidf")
    assert tuneoff(*command, "--seeds", 1, "--out", tmp_path / "study").code == 0
    page = (tmp_path / "study" / "report.html").read_text()
    assert "rows with an empty text, left out: 1 of 42 (line 42)" in page
    assert "texts with NUL bytes: 1 of 42 (line 43)" in page
    assert "test rows whose text is also in train: 7 of 27 (lines 22, 23, 24, 25, 26, …)" in page
