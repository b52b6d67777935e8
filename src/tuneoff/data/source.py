"""A file or a data set of the hub as one table with fixed columns."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from tuneoff.data.columns import Columns, Faults, Raw, assemble
from tuneoff.data.delimited import read_delimited
from tuneoff.data.files import TooLarge, add_decode_fault, check_start, find_file, has_mark
from tuneoff.data.hub import PREFIX, read_hub
from tuneoff.data.notes import blank_rows, text_notes, told_of
from tuneoff.data.records import read_jsonl, read_parquet

Role = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Table:
    """A source, read and checked by itself."""

    source: str
    frame: pd.DataFrame
    """`text`, `text_pair` (if asked for), `label` (str; if asked for), `weight` (float32),
    `group` (str, "" for none; if asked for), `row` (0-based row of the source) and `line` (the
    line of the file where the row starts, the header being 1; where there are no lines, row + 1).
    """
    warnings: list[str] = field(default_factory=list)


def read_table(source: str, columns: Columns, role: Role = "train") -> Table:
    """Read a CSV, TSV, JSONL or Parquet file, also gzipped, or the split `role` of `hf:name`.

    Rows without any text (only white space) are left out of the training rows and kept in the
    others, because what is evaluated is the user's choice; both are a warning. Raises `BadInput`
    with all faults of the file, each with its row and column.
    """
    faults = Faults(source)
    reader = read_hub if source.startswith(PREFIX) else _read_file
    raw = reader(source, columns, role, faults)
    frame = assemble(raw, columns, faults) if raw.values else pd.DataFrame()
    faults.raise_any()
    warnings = [f"{source}: {note}" for note in raw.notes] + text_notes(source, frame)
    blank, outcome = blank_rows(frame), "left out" if role == "train" else "kept and scored"
    warnings += told_of(f"{source}: rows without any text, {outcome}", frame, blank)
    if role == "train":
        frame = frame[~blank].reset_index(drop=True)
    if frame.empty:
        faults.add("no row is left that has a text and a label")
        faults.raise_any()
    return Table(source, frame, warnings)


def _read_file(source: str, columns: Columns, role: Role, faults: Faults) -> Raw:
    path, kind = find_file(source)
    raw = Raw()
    try:
        if not check_start(path, faults, text=kind != "parquet"):
            return raw
        if kind == "parquet":
            return read_parquet(path, columns, faults)
        if kind == "jsonl":
            raw = read_jsonl(path, columns, faults)
        else:
            raw = read_delimited(path, "\t" if kind == "tsv" else ",", columns, faults)
        if has_mark(path):
            raw.notes.append("starts with a byte order mark, which is passed over")
    except UnicodeDecodeError:
        add_decode_fault(path, faults)
    except TooLarge as error:
        faults.add(str(error), mend="Unpack it where you trust it, and give the plain file.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        faults.add(f"the gzip file is broken: {error}", mend="Pack it again.")
    except OSError as error:
        faults.add(f"the file cannot be read: {error.strerror or error}")
    return raw
