"""Reading of prediction files (CSV, TSV, JSON lines or Parquet) as plain columns.

Cells of a CSV remain strings, so labels such as "NA" and "01" are not converted.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff.exceptions import BadInput, Issue, nearest

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
ENDINGS = (*_DELIMITERS, *_JSON, ".parquet")


@dataclass(frozen=True)
class Columns:
    """Columns of a file by name."""

    file: str
    """Path of the file."""
    values: dict[str, list[Any]]
    """Values by column, all of the same length; None if a JSON object lacks the key."""
    lines: Sequence[int]
    """(rows,) line of the file in which each row starts, where the header is line 1; for Parquet,
    the number of the row from 1."""


def read_columns(path: Path) -> Columns:
    """Read the columns of a file; the format follows from the file's extension.

    Raises:
        BadInput: If the file cannot be read, with the line of the first format error.
    """
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*") if p.suffix.lower() in ENDINGS]
        hint = nearest(path.name, near) if near else None
        raise BadInput(Issue("there is no such file", file=str(path), hint=hint))
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise BadInput(
            Issue(
                f"predictions cannot be read from files with the extension {ending!r}",
                file=str(path),
                hint=f"Use one of the formats {', '.join(ENDINGS)}.",
            )
        )
    try:
        if ending == ".parquet":
            columns = _parquet(path)
        elif ending in _JSON:
            columns = _json_lines(path)
        else:
            columns = _delimited(path, _DELIMITERS[ending])
    except UnicodeDecodeError as error:
        raise BadInput(
            Issue(
                f"the file is not encoded as UTF-8 (byte 0x{error.object[error.start]:02x})",
                file=str(path),
                hint="Re-encode the file as UTF-8.",
            )
        ) from None
    except OSError as error:
        raise BadInput(
            Issue(f"the file cannot be read: {error.strerror or error}", file=str(path))
        ) from None
    if not columns.lines:
        raise BadInput(Issue("the file has no rows", file=str(path)))
    return columns


def _delimited(path: Path, delimiter: str) -> Columns:
    lines: list[int] = []
    rows: list[list[str]] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(filter(None, reader), [])
            _check_header(header, str(path))
            start = reader.line_num + 1
            for fields in reader:
                if fields and len(fields) != len(header):
                    message = f"the row has {len(fields)} fields, but the header has {len(header)}"
                    hint = "Put quotation marks around texts that contain the separator."
                    raise BadInput(Issue(message, file=str(path), line=start, hint=hint))
                if fields:
                    rows.append(fields)
                    lines.append(start)
                start = reader.line_num + 1
        except csv.Error as error:
            raise BadInput(Issue(str(error), file=str(path), line=reader.line_num)) from None
    columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in header)
    return Columns(str(path), dict(zip(header, columns, strict=True)), lines)


def _check_header(header: list[str], file: str) -> None:
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise BadInput(
            Issue(
                "the column occurs twice",
                file=file,
                line=1,
                column=twice,
                hint="Remove one of them.",
            )
        )


def _json_lines(path: Path) -> Columns:
    lines, objects = [], []
    for line, record in _objects(path):
        lines.append(line)
        objects.append(record)
    names = dict.fromkeys(name for record in objects for name in record)
    values = {name: [record.get(name) for record in objects] for name in names}
    return Columns(str(path), values, lines)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                hint = "Each line must be one complete JSON object."
                raise BadInput(Issue("not a JSON object", file=str(path), line=line, hint=hint))
            yield line, record


def _parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        message = f"not a valid Parquet file: {str(error).splitlines()[0][:200]}"
        raise BadInput(Issue(message, file=str(path))) from None
    values = {name: table.column(name).to_pylist() for name in table.column_names}
    return Columns(str(path), values, range(1, table.num_rows + 1))
