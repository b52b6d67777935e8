"""Strict reader for CSV and TSV files.

All values are read as strings: "NA" and "None" are ordinary labels, not missing values.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.tables.columns import KEPT, Columns, FileIssues, Raw, check_header
from tuneoff.tables.files import open_text
from tuneoff.tables.notes import row_warning

if TYPE_CHECKING:
    from _csv import Reader

FIELD_LIMIT = 1 << 24
"""Maximum number of characters of a field; the default of the csv module, 131,072, is too low."""

_DELIMITERS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a vertical bar"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
"""Delimiter by kind of file."""
_RENAME = {"\t": "Rename the file to .tsv.", ",": "Rename the file to .csv."}


class _Lines:
    """Iterator over lines that keeps those of the current record for error messages."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.record: list[str] = []
        self.windows = True
        """Whether every line so far ends with CR LF."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.windows = self.windows and line.endswith("\r\n")
        self.record.append(line)
        return line


def read_delimited(path: Path, delimiter: str, columns: Columns, issues: FileIssues) -> Raw:
    """Read the requested columns as strings; format errors are added to `issues`.

    The columns of a file without a header are named `1`, `2` and so on. Reading stops at an
    invalid header and at an unclosed quote.

    Raises:
        UnicodeDecodeError: The file is not UTF-8.
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
        issues.add("the file has a header but no rows")
    return raw


def read_first(path: Path, delimiter: str) -> list[str]:
    """Return the fields of the first row, which may be a header; empty if it cannot be read.

    Raises:
        UnicodeDecodeError: The file is not UTF-8.
    """
    with open_text(path, newline="") as file, _field_limit():
        try:
            return next(filter(None, csv.reader(file, delimiter=delimiter, strict=True)), [])
        except csv.Error:  # `read_delimited` reports where
            return []


def numbered(row: Sequence[str]) -> list[str]:
    """Return the column names `1`, `2`, … of a file without a header whose first row is `row`."""
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
    """Append `rows` to `raw`; a row of the wrong length is an issue, an empty line is skipped."""
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
            count = f"{len(fields)} field{'s' * (len(fields) != 1)}"
            issues.add(
                f"the row has {count}, but the {first} has {len(header)}",
                row=start,
                hint="Enclose a text that contains the delimiter in quotes, and remove surplus"
                " delimiters.",
            )


def _to_line_feeds(raw: Raw, windows: bool) -> None:
    """Replace CR LF in texts by LF if every line of the file ends with CR LF (added by a tool)."""
    if not windows:
        return
    for role, texts in raw.values.items():
        if role not in ("text", "text_pair") and not role.startswith(KEPT):
            continue
        places = [i for i, text in enumerate(texts) if "\r\n" in text]
        for i in places:
            texts[i] = texts[i].replace("\r\n", "\n")
        if places and not role.startswith(KEPT):
            what = (
                f"{role}s with line breaks, read as LF because all lines of the file end in CR LF"
            )
            raw.notes.append(row_warning(what, [raw.lines[i] for i in places]))


def _usable(
    header: list[str], delimiter: str, columns: Columns, issues: FileIssues, *, row: int
) -> bool:
    """Check the header; if its only column contains another delimiter, the issue names that one."""
    others = [other for other in _DELIMITERS if other != delimiter and other in header[0]]
    if len(header) > 1 or not others or not columns.header:
        return check_header(header, columns, issues, row=row)
    other = max(others, key=header[0].count)
    issues.add(
        f"the header is a single column, {header[0][:80]!r}: the delimiter seems to be"
        f" {_DELIMITERS[other]}, not {_DELIMITERS[delimiter]}",
        row=row,
        hint=_RENAME.get(other, "Save the file with commas (.csv) or tabs (.tsv) as delimiters."),
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
    """Add an issue at the opening quote of the field that cannot be parsed.

    An unclosed quote extends to the next quote in the file, so the place where parsing fails is
    not the place to fix.

    Args:
        record: Lines of the record.
        start: Line of the file, from 1, on which the record starts.
        delimiter: Delimiter of the fields.
        problem: Message of the csv module.
        issues: Issues of the file.
    """
    row, field, end = _last_quote(record, start, delimiter)
    if end is not None:
        message = (
            f"the quote that opens in field {field} closes on line {end}, but text follows"
            " it: the closing quote is missing, or a quote inside the text is not doubled"
        )
    elif "larger" in problem:
        message = f"field {field} has more than {FIELD_LIMIT:,} characters: is a quote not closed?"
    else:
        message = f"the quote that opens in field {field} is never closed"
    issues.add(
        message, row=row, hint='Close the quote. Inside a quoted text, write a quote twice ("").'
    )


def _last_quote(record: list[str], start: int, delimiter: str) -> tuple[int, int, int | None]:
    """Return where the last quoted field of a record opens, and where it closes if text follows.

    Returns:
        The line and the field (from 1) of the opening quote, and the line of the closing quote if
        text follows it.
    """
    row, place, field, state = start, 1, 1, "fresh"
    for line, text in enumerate(record, start):
        for character in text:
            if state == "quoted":
                state = "closed" if character == '"' else "quoted"
            elif character == delimiter:
                field, state = field + 1, "fresh"
            elif state == "fresh" and character == '"':
                row, place, state = line, field, "quoted"
            elif state == "closed" and character == '"':  # a doubled quote is one quote of the text
                state = "quoted"
            elif state == "closed" and character not in "\r\n":
                return row, place, line
            elif state == "fresh":
                state = "plain"
    return row, place, None
