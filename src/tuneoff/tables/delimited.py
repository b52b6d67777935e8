"""CSV and TSV, read strictly and as strings: "NA" and "None" are labels like any other."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.tables.columns import KEPT, Columns, FileIssues, Raw, check_header
from tuneoff.tables.files import open_text
from tuneoff.tables.notes import told

if TYPE_CHECKING:
    from _csv import Reader

FIELD_LIMIT = 1 << 24
"""Characters of one field; the csv module's own limit of 131,072 cuts off long documents."""

_DELIMITERS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
"""By the kind of a file."""
_RENAME = {"\t": "Name the file .tsv.", ",": "Name the file .csv."}


class _Lines:
    """The file's lines, those of the current record kept: an error in it is looked up there."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.record: list[str] = []
        self.windows = True
        """Whether every line so far ended in CR LF."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.windows = self.windows and line.endswith("\r\n")
        self.record.append(line)
        return line


def read_delimited(path: Path, delimiter: str, columns: Columns, issues: FileIssues) -> Raw:
    """The columns asked for, as strings; issues of the file's form go into `issues`.

    In a file without a header the columns are called 1, 2 and so on.
    Reading stops at a header that cannot be used and at a quote that is never closed. Raises
    `UnicodeDecodeError` where the file is not UTF-8.
    """
    raw = Raw()
    with open_text(path, newline="") as file, _field_limit():
        lines = _Lines(iter(file))
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            first = next(filter(None, reader))
            header = first if columns.header else numbered(first)
            if _usable(header, delimiter, columns, issues, row=reader.line_num):
                rows: Iterator[list[str]] = reader
                if columns.header:
                    lines.record.clear()
                else:
                    rows = chain([first], reader)
                _read_rows(rows, reader, lines, header, columns, raw, issues)
        except csv.Error as error:
            start = reader.line_num - len(lines.record) + 1
            _add_quote_issue(lines.record, start, delimiter, str(error), issues)
    _to_line_feeds(raw, lines.windows)
    if not raw.lines and not issues:
        issues.add("the file holds a header and no rows")
    return raw


def read_first(path: Path, delimiter: str) -> list[str]:
    """Return the fields of the first row, which may be a header; none if they cannot be read.

    Raises `UnicodeDecodeError` where the file is not UTF-8.
    """
    with open_text(path, newline="") as file, _field_limit():
        try:
            return next(filter(None, csv.reader(file, delimiter=delimiter, strict=True)), [])
        except csv.Error:  # `read_delimited` says where
            return []


def numbered(row: Sequence[str]) -> list[str]:
    """Return the names of the columns of a file without a header, whose first row is `row`."""
    return [str(place) for place in range(1, len(row) + 1)]


def _read_rows(
    rows: Iterator[list[str]],
    reader: Reader,
    lines: _Lines,
    header: list[str],
    columns: Columns,
    raw: Raw,
    issues: FileIssues,
) -> None:
    """Append `rows`, which `reader` reads; a ragged one is an issue, an empty line is no row."""
    starts: list[int] = []
    raw.lines = starts
    first = "header" if columns.header else "first row"
    places = []
    for role, name in columns.wanted().items():
        raw.values[role] = []
        places.append((raw.values[role].append, header.index(name)))
    for fields in rows:
        start = reader.line_num - len(lines.record) + 1
        lines.record.clear()
        if len(fields) == len(header):
            for append, place in places:
                append(fields[place])
            starts.append(start)
        elif fields:
            issues.add(
                f"fields in the row: {len(fields)}, in the {first}: {len(header)}",
                row=start,
                hint="Put quotes around a text that holds the separator; remove stray ones.",
            )


def _to_line_feeds(raw: Raw, windows: bool) -> None:
    """The texts of a file with CR LF throughout as they were before something put that there."""
    if not windows:
        return
    for role, texts in raw.values.items():
        if role not in ("text", "text_pair") and not role.startswith(KEPT):
            continue
        places = [i for i, text in enumerate(texts) if "\r\n" in text]
        for i in places:
            texts[i] = texts[i].replace("\r\n", "\n")
        if places and not role.startswith(KEPT):
            what = f"{role}s with line ends in them, read as LF where the whole file has CR LF"
            raw.notes.append(told(what, [raw.lines[i] for i in places]))


def _usable(
    header: list[str], delimiter: str, columns: Columns, issues: FileIssues, *, row: int
) -> bool:
    """Whether the header has the columns; a single one that holds separators is pointed out."""
    others = [other for other in _DELIMITERS if other != delimiter and other in header[0]]
    if len(header) > 1 or not others or not columns.header:
        return check_header(header, columns, issues, row=row)
    other = max(others, key=header[0].count)
    issues.add(
        f"the header is one column, {header[0][:80]!r}: the file seems to be separated by"
        f" {_DELIMITERS[other]}, not by {_DELIMITERS[delimiter]}",
        row=row,
        hint=_RENAME.get(other, "Save it separated by commas (.csv) or tabs (.tsv)."),
    )
    return False


@contextmanager
def _field_limit() -> Iterator[None]:
    before = csv.field_size_limit(FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _add_quote_issue(
    record: list[str], start: int, delimiter: str, problem: str, issues: FileIssues
) -> None:
    """Say where the quote opens that the csv module stumbled over; `record` starts in row `start`.

    A quote that is never closed runs on to the next one in the file, so the place where reading
    fails is not the place to hint.
    """
    row, field, end = _last_quote(record, start, delimiter)
    if end is not None:
        message = (
            f"the quote that opens in field {field} is closed in line {end}, but text goes on"
            " behind it: it is not closed where it should be, or holds a single quote"
        )
    elif "larger" in problem:
        message = f"field {field} is longer than {FIELD_LIMIT:,} characters: is a quote not closed?"
    else:
        message = f"the quote that opens in field {field} is never closed"
    issues.add(
        message, row=row, hint='Close it; inside a quoted text a quote is written twice ("").'
    )


def _last_quote(record: list[str], start: int, delimiter: str) -> tuple[int, int, int | None]:
    """Where the last quoted field of a record opens: line, field from 1; and, if text goes on
    behind its end, the line of that end."""
    row, place, field, state = start, 1, 1, "fresh"
    for line, text in enumerate(record, start):
        for character in text:
            if state == "quoted":
                state = "closed" if character == '"' else "quoted"
            elif character == delimiter:
                field, state = field + 1, "fresh"
            elif state == "fresh" and character == '"':
                row, place, state = line, field, "quoted"
            elif state == "closed" and character == '"':  # written twice: one quote of the text
                state = "quoted"
            elif state == "closed" and character not in "\r\n":
                return row, place, line
            elif state == "fresh":
                state = "plain"
    return row, place, None
