"""A file or a data set of the hub as one table with fixed columns."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from tuneoff.tables.columns import Columns, FileIssues, Raw
from tuneoff.tables.delimited import DELIMITERS, read_delimited, read_first
from tuneoff.tables.files import TooLarge, add_decode_issue, check_start, find_file, has_mark
from tuneoff.tables.hub import PREFIX, hub_names, read_hub
from tuneoff.tables.notes import blank_rows, text_notes, told_of
from tuneoff.tables.records import read_jsonl, read_keys, read_names, read_parquet
from tuneoff.tables.values import assemble

Role = Literal["train", "validation", "test", "new"]
"""What the rows are for; `new`: they have no labels and are predicted."""

OUTCOMES: dict[Role, str] = {
    "train": "left out",
    "validation": "kept and scored",
    "test": "kept and scored",
    "new": "labelled anyway",
}
"""What becomes of a row without any text."""


@dataclass(frozen=True)
class Table:
    """A source, read and checked by itself."""

    source: str
    frame: pd.DataFrame
    """`text`, `text_pair` (if asked for), `label` (str; if asked for), `weight` (float32),
    `group` (str, "" for none; if asked for), a column `KEPT + name` for each one carried along,
    `row` (0-based row of the source) and, of text files, `line` (where the row starts, from 1).
    """
    warnings: list[str] = field(default_factory=list)


def read_table(source: str, columns: Columns, role: Role = "train") -> Table:
    """Read a CSV, TSV, JSONL or Parquet file, also gzipped, or the split `role` of `hf:name`.

    Rows without any text (only white space) are left out of the training rows and kept in the
    others, because what is evaluated is the user's choice; both are a warning. Raises `BadInput`
    with all issues of the file, each with its row and column.
    """
    issues = FileIssues(source)
    raw = read_raw(source, columns, role, issues)
    frame = pd.DataFrame()
    if raw.values:
        frame = assemble(raw, columns, issues, missing_texts=role == "new")
    issues.raise_any()
    warnings = [f"{source}: {note}" for note in raw.notes] + text_notes(source, frame)
    blank = blank_rows(frame)
    if role != "new" and len(blank) and blank.all():
        issues.add("every text is empty", column=columns.text)
        issues.raise_any()
    warnings += told_of(f"{source}: rows with an empty text, {OUTCOMES[role]}", frame, blank)
    if role == "train":
        frame = frame[~blank].reset_index(drop=True)
    if frame.empty:
        what = "a text" if columns.label is None else "a text and a label"
        issues.add(f"no row is left that has {what}")
        issues.raise_any()
    return Table(source, frame, warnings)


def read_raw(source: str, columns: Columns, role: Role, issues: FileIssues) -> Raw:
    """Return the columns as they stand in the source; what is wrong with its form is an issue."""
    reader = read_hub if source.startswith(PREFIX) else _read_file
    return reader(source, columns, role, issues)


def is_delimited(source: str) -> bool:
    """Whether `source` is a CSV or TSV file, which may lack a header; `BadInput` if it is none."""
    return not source.startswith(PREFIX) and find_file(source)[1] in DELIMITERS


def names_of(source: str, role: Role) -> list[str]:
    """Return the first row of a CSV or TSV file, or the names of the columns of another source.

    Of a JSONL file, those of its first object. Empty where the source cannot be read.
    """
    if source.startswith(PREFIX):
        return hub_names(source, role)
    path, kind = find_file(source)
    issues = FileIssues(source)
    try:
        if not check_start(path, issues, kind):
            return []
        if kind == "parquet":
            return read_names(path)
        return read_keys(path) if kind == "jsonl" else read_first(path, DELIMITERS[kind])
    except (UnicodeDecodeError, TooLarge, gzip.BadGzipFile, EOFError, zlib.error, OSError):
        return []  # `read_raw` says why


def _read_file(source: str, columns: Columns, role: Role, issues: FileIssues) -> Raw:
    path, kind = find_file(source)
    raw = Raw()
    try:
        if not check_start(path, issues, kind):
            return raw
        if kind == "parquet":
            return read_parquet(path, columns, issues)
        if kind == "jsonl":
            raw = read_jsonl(path, columns, issues)
        else:
            raw = read_delimited(path, DELIMITERS[kind], columns, issues)
        if has_mark(path):
            raw.notes.append("starts with a byte order mark, which is passed over")
    except UnicodeDecodeError:
        add_decode_issue(path, issues)
    except TooLarge as error:
        issues.add(str(error), hint="Unpack it where you trust it, and give the plain file.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        issues.add(f"the gzip file is broken: {error}", hint="Pack it again.")
    except OSError as error:
        issues.add(f"the file cannot be read: {error.strerror or error}")
    return raw
