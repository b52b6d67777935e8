"""A file or a data set of the hub as one table with fixed columns."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.data.columns import Columns, Faults, Raw, assemble
from tuneoff.data.delimited import read_delimited
from tuneoff.data.files import add_decode_fault, check_start, find_file
from tuneoff.data.hub import PREFIX, read_hub
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
    if source.startswith(PREFIX):
        raw, warnings = read_hub(source, columns, role, faults)
    else:
        raw, warnings = _read_file(source, columns, faults), []
    frame = assemble(raw, columns, faults) if raw.values else pd.DataFrame()
    faults.raise_any()
    blank = _blank(frame)
    count = int(blank.sum())
    if count and role == "train":
        frame = frame[~blank].reset_index(drop=True)
        warnings = [*warnings, f"{source}: rows without any text, left out: {count}"]
    elif count:
        warnings = [*warnings, f"{source}: rows without any text, kept and scored: {count}"]
    if frame.empty:
        faults.add("no row is left that has a text and a label")
        faults.raise_any()
    return Table(source, frame, warnings)


def _read_file(source: str, columns: Columns, faults: Faults) -> Raw:
    path, kind = find_file(source)
    try:
        if not check_start(path, faults, text=kind != "parquet"):
            return Raw()
        if kind == "parquet":
            return read_parquet(path, columns, faults)
        if kind == "jsonl":
            return read_jsonl(path, columns, faults)
        return read_delimited(path, "\t" if kind == "tsv" else ",", columns, faults)
    except UnicodeDecodeError:
        add_decode_fault(path, faults)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        faults.add(f"the gzip file is broken: {error}", mend="Pack it again.")
    except OSError as error:
        faults.add(f"the file cannot be read: {error.strerror or error}")
    return Raw()


def _blank(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """(rows,) whether a row has no text but white space, in the pair neither."""
    blank = np.ones(len(frame), bool)
    for role in ("text", "text_pair"):
        if role in frame:
            blank &= np.fromiter((not text.strip() for text in frame[role]), bool, len(frame))
    return blank
