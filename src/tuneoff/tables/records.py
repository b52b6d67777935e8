"""Readers for JSONL and Parquet files, whose values have types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.tables.columns import KEPT, LISTED, Columns, FileIssues, Raw, check_header
from tuneoff.tables.files import Cap, open_bytes, open_text, unpacked_cap
from tuneoff.tables.notes import row_warning

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def read_jsonl(path: Path, columns: Columns, issues: FileIssues) -> Raw:
    """Read the requested keys of a file with one JSON object per line; empty lines are skipped.

    Raises:
        UnicodeDecodeError: The file is not UTF-8.
    """
    wanted = columns.wanted()
    values: dict[str, list[Any]] = {role: [] for role in wanted}
    lines: list[int] = []
    seen: dict[str, None] = {}  # a dict and not a set, to keep the order of the keys
    absent: list[tuple[int, str]] = []
    for line, record in _objects(path, issues):
        seen.update(dict.fromkeys(record))
        for role, name in wanted.items():
            optional = role.startswith(KEPT)
            if name not in record and not optional and len(absent) <= LISTED:
                absent.append((line, name))
            values[role].append(record.get(name, ""))
        lines.append(line)
    if not lines and not issues:
        issues.add("the file has no rows")
    if lines and check_header(list(seen), columns, issues, row=None):
        for line, name in absent:
            issues.add(
                "the key is missing in this row",
                row=line,
                column=name,
                hint="Add the key to the row or remove the row.",
            )
    known = not any(name not in seen for name in wanted.values())
    return Raw(values, lines) if known and not absent else Raw()


def read_keys(path: Path) -> list[str]:
    """Return the keys of the first object of a JSONL file; empty if it cannot be read."""
    return list(next((record for _, record in _objects(path, FileIssues(str(path)))), {}))


def _objects(path: Path, issues: FileIssues) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_text(path, newline="\n") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            if line == 1 and text.lstrip().startswith("["):
                issues.add(
                    "the file is a JSON list, not one object per line",
                    row=line,
                    hint=f"Convert the file: jq -c '.[]' {path.name} > {path.stem}"
                    f"{'.lines' * (path.suffix == '.jsonl')}.jsonl",
                )
                return
            record = _object(text, line, issues)
            if record is not None:
                yield line, record


def _object(text: str, line: int, issues: FileIssues) -> dict[str, Any] | None:
    twice: list[str] = []

    def paired(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            names = [name for name, _ in pairs]
            twice.extend({name for name in names if names.count(name) > 1})
        return record

    try:
        record = json.loads(text.rstrip("\r\n"), object_pairs_hook=paired)
    except (ValueError, RecursionError) as error:  # ValueError: also for a number of 5,000 digits
        problem = str(error)
        if isinstance(error, json.JSONDecodeError):
            problem = f"{error.msg} at character {error.pos + 1}"
        issues.add(
            f"not valid JSON: {problem}",
            row=line,
            hint="Each line must be one complete JSON object.",
        )
        return None
    if not isinstance(record, dict):
        issues.add("the line is not a JSON object", row=line, hint='Write {"text": …, "label": …}.')
        return None
    if twice:
        issues.add(f"the key {twice[0]!r} occurs twice", row=line, hint="Remove one of them.")
        return None
    return record


def read_parquet(path: Path, columns: Columns, issues: FileIssues) -> Raw:
    """Read the requested columns of a Parquet file.

    Raises:
        TooLarge: The content of the file is far larger than the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_bytes(path) as stream:
            packed = path.suffix.lower() == ".gz"
            content = pa.BufferReader(stream.read()) if packed else path
            file = pq.ParquetFile(content)
            if not check_header(file.schema_arrow.names, columns, issues, row=None):
                return Raw()
            if not _plain_types(file.schema_arrow, columns, issues):
                return Raw()
            # Repeated values stay dictionary-encoded, so that memory is bounded by the file size.
            flat = {file.schema.column(i).path for i in range(len(file.schema))}
            file = pq.ParquetFile(content, read_dictionary=flat.intersection(columns.names()))
            table = _read_capped(file, columns, unpacked_cap(path))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        issues.add(f"not a valid Parquet file: {(str(error).splitlines() or ['?'])[0][:200]}")
        return Raw()
    raw = read_arrow(table, columns, issues)
    name_classes(raw, columns, _class_names(file.schema_arrow), issues)
    return raw


def read_names(path: Path) -> list[str]:
    """Return the column names of a Parquet file; empty if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_bytes(path) as stream:
            packed = path.suffix.lower() == ".gz"
            names: list[str] = pq.read_schema(
                pa.BufferReader(stream.read()) if packed else path
            ).names
            return names
    except (pa.ArrowException, OSError):  # `read_parquet` reports why
        return []


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the class names of columns that `datasets` wrote as class numbers, by column."""
    try:
        written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = written.get("info", {}).get("features", {})
        return {
            name: [str(one) for one in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}  # the metadata was not written by `datasets`


def name_classes(
    raw: Raw, columns: Columns, classes: Mapping[str, list[str]], issues: FileIssues
) -> None:
    """Replace class numbers by names in place, and drop rows of class -1 with a warning.

    Args:
        raw: The values, which are changed in place.
        columns: The requested columns.
        classes: Names of the classes, in the order of their numbers, by column.
        issues: Issues of the source, to which invalid class numbers are added.
    """
    named = {role: classes[name] for role, name in columns.wanted().items() if name in classes}
    named = {role: names for role, names in named.items() if role in raw.values}
    for role, names in named.items():
        values = raw.values[role]
        if beyond := [i for i, v in enumerate(values) if not _is_class(v, len(names))]:
            issues.add(
                f"{values[beyond[0]]!r} is not the number of one of the {len(names)} classes in"
                f" the metadata of the file ({len(beyond)} rows in total)",
                row=raw.lines[beyond[0]],
                column=columns.wanted()[role],
                hint="Store the class names as strings in the column.",
            )
            return
        raw.values[role] = [names[i] if i is not None and i >= 0 else None for i in values]
    if "label" not in named:
        return
    kept = [i for i, label in enumerate(raw.values["label"]) if label is not None]
    dropped = [raw.lines[i] for i, label in enumerate(raw.values["label"]) if label is None]
    if not dropped:
        return
    for role, values in raw.values.items():
        raw.values[role] = [values[i] for i in kept]
    raw.lines, raw.rows = [raw.lines[i] for i in kept], kept
    raw.notes.append(
        row_warning("rows without a label (class -1), left out", dropped, word=raw.word)
    )


def _is_class(value: object, count: int) -> bool:
    return value is None or (isinstance(value, int) and -1 <= value < count)


def _plain_types(schema: pa.Schema, columns: Columns, issues: FileIssues) -> bool:
    """Add an issue for each requested column of an extension type; return whether there is none.

    The meaning of an extension type is defined by third-party code, which is not executed.
    """
    import pyarrow as pa

    for name in columns.names():
        field = schema.field(name)
        named = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode(errors="replace")
        if named or isinstance(field.type, pa.BaseExtensionType):
            issues.add(
                f"the column has the extension type {named or str(field.type)!r}",
                column=name,
                hint="Store the values as plain strings or numbers.",
            )
    return not issues


def _read_capped(file: pq.ParquetFile, columns: Columns, cap: Cap) -> pa.Table:
    """Read the requested columns in batches; raise `TooLarge` if they are larger than `cap`.

    The sizes in the footer of the file are not read, because pyarrow aborts the process if a
    corrupt footer lacks them. Memory is bounded by the cap and one page, at most 2 GiB.
    """
    import pyarrow as pa

    batches, held = [], 0
    for batch in file.iter_batches(batch_size=8192, columns=columns.names(), use_threads=False):
        held += batch.num_rows + sum(map(_written_out, batch.columns))
        cap.hold(held)
        batches.append(batch)
    return pa.Table.from_batches(batches, file.schema_arrow if not batches else None)


def _written_out(column: pa.Array) -> int:
    """Return the size of a column without dictionary encoding, in bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0)


def read_arrow(table: pa.Table, columns: Columns, issues: FileIssues) -> Raw:
    """Read the requested columns of an Arrow table; a text column of another type is one issue."""
    import pyarrow as pa

    issues.lined = False
    raw = Raw(lines=range(table.num_rows), lined=False)
    for role, name in columns.wanted().items():
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        text = text or pa.types.is_string_view(kind) or pa.types.is_null(kind)
        if role in ("text", "text_pair") and not text:
            issues.add(
                f"the column has the type {kind}, not text",
                column=name,
                hint="Choose a column of strings, or convert the column.",
            )
        if pa.types.is_float16(kind) or pa.types.is_float32(kind):
            raw.exact[role] = 2**11 if pa.types.is_float16(kind) else 2**24
        try:
            raw.values[role] = column.to_pylist()
        except UnicodeDecodeError:
            _add_bad_bytes(column, name, issues)
    if table.num_rows == 0:
        issues.add("the file has no rows")
    return raw if not issues else Raw()


def _add_bad_bytes(column: pa.ChunkedArray, name: str, issues: FileIssues) -> None:
    """Add an issue for each string of a column that is not UTF-8."""
    import pyarrow as pa

    for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError as error:
            issues.add(
                f"the text is not UTF-8 (byte 0x{value[error.start]:02x}, at byte offset"
                f" {error.start} of the text)",
                row=row,
                column=name,
                hint="Write the file again with UTF-8 strings.",
            )
