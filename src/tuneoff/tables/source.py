"""Read a file or a hub data set into one table with fixed columns."""

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
from tuneoff.tables.notes import blank_rows, row_warnings, text_notes
from tuneoff.tables.records import read_jsonl, read_keys, read_names, read_parquet
from tuneoff.tables.values import assemble

Role = Literal["train", "validation", "test", "new"]
"""Use of the rows; `new`: rows without labels that are to be predicted."""

OUTCOMES: dict[Role, str] = {
    "train": "left out",
    "validation": "kept and scored",
    "test": "kept and scored",
    "new": "labelled anyway",
}
"""What is done with rows whose text is empty, as part of a warning."""


@dataclass(frozen=True)
class Table:
    """Checked content of one source."""

    source: str
    frame: pd.DataFrame
    """One row per row of the source, with these columns:

    - `text`, `text_pair`, `label` (str) and `group` (str, "" for a missing one), if requested
    - `weight` (float32)
    - `KEPT + name` for each further column that was requested
    - `row`: row of the source, from 0
    - `line`: line on which the row starts, from 1; text files only
    """
    warnings: list[str] = field(default_factory=list)


def read_table(source: str, columns: Columns, role: Role = "train") -> Table:
    """Read a CSV, TSV, JSONL or Parquet file, also gzipped, or a split of a hub data set.

    Rows whose text is empty (only white space) are removed from the training rows. For the other
    roles they are kept, because the user decides which rows are evaluated. Both cause a warning.

    Args:
        source: Path of a file, or `hf:name` for a hub data set.
        columns: The requested columns.
        role: What the rows are used for, and the name of the split of a hub data set.

    Raises:
        BadInput: The source is invalid; the error has all issues, each with its row and column.
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
    warnings += row_warnings(f"{source}: rows with an empty text, {OUTCOMES[role]}", frame, blank)
    if role == "train":
        frame = frame[~blank].reset_index(drop=True)
    if frame.empty:
        what = "a text" if columns.label is None else "a text and a label"
        issues.add(f"no row has {what}")
        issues.raise_any()
    return Table(source, frame, warnings)


def read_raw(source: str, columns: Columns, role: Role, issues: FileIssues) -> Raw:
    """Return the unchecked columns of the source; format errors are added to `issues`."""
    reader = read_hub if source.startswith(PREFIX) else _read_file
    return reader(source, columns, role, issues)


def is_delimited(source: str) -> bool:
    """Return whether `source` is a CSV or TSV file; raise `BadInput` if there is no such file."""
    return not source.startswith(PREFIX) and find_file(source)[1] in DELIMITERS


def names_of(source: str, role: Role) -> list[str]:
    """Return the first row of a CSV or TSV file, or the column names of another source.

    The column names of a JSONL file are the keys of its first object. The list is empty if the
    source cannot be read.
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
        return []  # `read_raw` reports why


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
            raw.notes.append("starts with a UTF-8 byte order mark, which is ignored")
    except UnicodeDecodeError:
        add_decode_issue(path, issues)
    except TooLarge as error:
        how = "convert it to CSV or JSONL" if kind == "parquet" else "decompress it"
        issues.add(str(error), hint=f"If you trust the file, {how} and use the result.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        issues.add(f"the gzip file is corrupt: {error}", hint="Compress the file again.")
    except OSError as error:
        issues.add(f"the file cannot be read: {error.strerror or error}")
    return raw
