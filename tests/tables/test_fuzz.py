"""Fuzz tests of the readers: each file is read or refused with `BadInput`.

The tests use a small number of examples; `make fuzz` uses the number in TUNEOFF_FUZZ.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tuneoff.exceptions import BadInput
from tuneoff.tables import Columns, read_table
from tuneoff.tables.columns import LISTED

EXAMPLES = int(os.environ.get("TUNEOFF_FUZZ", "40"))
"""Number of examples of each test."""

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize="TUNEOFF_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
KINDS = ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.jsonl.gz"]
COLUMNS = Columns(weight="w", group="g")


def assert_read_or_refused(
    name: str, content: bytes, columns: Columns = COLUMNS
) -> pd.DataFrame | None:
    """Return the rows of a file, or None if it is refused; any other outcome is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        table, refused = None, None
        try:
            table = read_table(str(path), columns, "test")
        except BadInput as error:
            refused = error
    if table is None:
        assert refused is not None
        assert 1 <= len(refused.issues) <= LISTED + 1
        assert all(issue.file == str(path) for issue in refused.issues)
        assert str(refused).encode()  # the message can be printed
        return None
    frame = table.frame
    assert len(frame) > 0
    assert frame["text"].map(lambda text: type(text) is str and text.encode() is not None).all()
    assert frame["label"].map(lambda label: type(label) is str and label != "").all()
    assert frame["weight"].between(0, np.finfo(np.float32).max).all()
    assert frame["row"].is_unique
    assert len(str(table.warnings).encode()) < 10_000
    return frame


@fuzzed
@given(name=st.sampled_from(KINDS), content=st.binary(max_size=2000))
@example(name="a.csv", content=b"text,label,w,g\n\x00,\xc3\xa9,1e999,\r\n")
@example(name="a.parquet", content=b"PAR1\x00\x00\x00\x00PAR1")
def test_arbitrary_bytes(name: str, content: bytes) -> None:
    assert_read_or_refused(name, content)


MARKS = st.sampled_from([*',;\t|"\n\r{}[]:\\ \0', "text", "label", "w", "g", "1", "é", "\ufeff"])


@fuzzed
@given(
    name=st.sampled_from(["a.csv", "a.tsv", "a.jsonl"]),
    parts=st.lists(MARKS | st.text(max_size=5), max_size=200),
    headed=st.booleans(),
)
def test_arbitrary_marks(name: str, parts: list[str], headed: bool) -> None:
    """Delimiters, quotes and other syntax of the formats, in any order."""
    separator = "\t" if name == "a.tsv" else ","
    head = separator.join(["text", "label", "w", "g"]) + "\n" if headed else ""
    assert_read_or_refused(name, (head + "".join(parts)).encode(errors="surrogatepass"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
RECORD = st.fixed_dictionaries(
    {"text": st.text() | JSON, "label": st.text() | JSON},
    optional={"w": st.just(1) | JSON, "g": st.text() | JSON},
)


@fuzzed
@given(st.lists(RECORD | JSON, min_size=1, max_size=8))
def test_arbitrary_values(records: list[Any]) -> None:
    content = "\n".join(map(json.dumps, records)).encode()
    plain = assert_read_or_refused("a.jsonl", content, Columns())
    weighted = assert_read_or_refused("a.jsonl", content)
    if weighted is not None:  # further columns do not change the texts and labels
        assert plain is not None
        assert weighted[["text", "label"]].equals(plain[["text", "label"]])


CELLS = st.text(st.characters(codec="utf-8"), max_size=30)
LABELS = CELLS.filter(lambda label: label.strip() != "")
TABLE = st.lists(st.tuples(CELLS, CELLS, LABELS), min_size=1, max_size=8).filter(
    # Labels that are numbers with fractions are refused as regression.
    lambda rows: not all(row[2].strip()[-1:].isdigit() for row in rows)
)


def as_csv(frame: pd.DataFrame) -> bytes:
    # A file with CR LF throughout is read like one with LF (see test_hard_files). With LF, the
    # csv module does not quote a lone CR unless it quotes everything.
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(frame.columns)
    writer.writerows(frame.itertuples(index=False))
    return out.getvalue().encode()


def as_jsonl(frame: pd.DataFrame) -> bytes:
    return "\n".join(map(json.dumps, frame.to_dict("records"))).encode()


def as_parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "write"), [("a.csv", as_csv), ("a.jsonl", as_jsonl), ("a.parquet", as_parquet)]
)
def test_round_trip_of_any_table(name: str, write: Any) -> None:
    @fuzzed
    @given(TABLE)
    @example([("a\r\nb", "\r", "\ufeff"), ('"', '""', ","), ("\0", "=1+1", "x\u2028y")])
    def check(rows: list[tuple[str, str, str]]) -> None:
        frame = pd.DataFrame(rows, columns=["text", "other", "label"], dtype="str")
        found = assert_read_or_refused(name, write(frame), Columns(text_pair="other"))
        assert found is not None
        assert found["text"].tolist() == [row[0] for row in rows]
        assert found["text_pair"].tolist() == [row[1] for row in rows]
        assert found["label"].tolist() == [row[2] for row in rows]

    check()


PARQUET = as_parquet(
    pd.DataFrame({"text": ["one", "two"] * 20, "label": ["a", "b"] * 20, "w": 1.0, "g": "x"})
)


@fuzzed
@given(st.lists(st.tuples(st.integers(0, len(PARQUET) - 1), st.integers(0, 255)), max_size=4))
@example([])
@example([(len(PARQUET) - 300 + i, 0) for i in range(0, 280, 70)])
def test_modified_parquet(changes: list[tuple[int, int]]) -> None:
    content = bytearray(PARQUET)
    for place, byte in changes:
        content[place] = byte
    found = assert_read_or_refused("a.parquet", bytes(content))
    assert found is not None or content != PARQUET
