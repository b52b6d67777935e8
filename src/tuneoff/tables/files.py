"""Local files: find and open them, and explain why one cannot be read."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, Literal

from tuneoff.exceptions import BadInput, Issue
from tuneoff.tables.columns import FileIssues

Kind = Literal["csv", "tsv", "jsonl", "parquet"]

_KINDS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_ENDINGS = "tuneoff reads .csv, .tsv, .jsonl, .ndjson, .json (one object per line) and .parquet\
 files, each also compressed with gzip (.gz), and hub data sets as hf:NAME."


PACKING = 100
"""Maximum compression ratio of a file. Text has a ratio of 3 to 10, rarely 30."""

SMALL = 1 << 24
"""Size that a compressed file may always expand to, in bytes."""


class TooLarge(Exception):
    """The content of a compressed file is too large for its size: a decompression bomb."""


@dataclass(frozen=True)
class Cap:
    """Maximum size of the decompressed content of a file."""

    size: int
    """Size of the compressed file, in bytes."""

    def hold(self, unpacked: int) -> None:
        """Raise `TooLarge` if the content, of `unpacked` bytes, is above the maximum."""
        cap = max(SMALL, PACKING * self.size)
        if unpacked > cap:
            raise TooLarge(
                f"the file of {self.size:,} bytes contains more than {cap:,} bytes of data:"
                f" tuneoff decompresses up to {PACKING} times the size of a file"
            )


def unpacked_cap(path: Path) -> Cap:
    """Return the maximum size of the content of the file `path`."""
    return Cap(path.stat().st_size)


class _Capped(io.RawIOBase):
    """Content of a gzip file; reading raises `TooLarge` above the maximum for its size."""

    def __init__(self, path: Path) -> None:
        self._stream = gzip.open(path, "rb")  # noqa: SIM115 - closed with this one
        self._cap = unpacked_cap(path)
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._read += len(data)
        self._cap.hold(self._read)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def find_file(source: str) -> tuple[Path, Kind]:
    """Return the path and the kind of the file `source`.

    Raises:
        BadInput: There is no such file, or its format is not supported.
    """
    path = Path(source).expanduser()
    if "://" in source:
        raise BadInput(
            Issue("this is a URL", source, hint="Download the file and use its local path.")
        )
    if path.is_dir():
        names = _readable(path)
        hint = f"Choose a file in it: {', '.join(names[:10])}." if names else _ENDINGS
        raise BadInput(Issue("this is a folder, not a file", source, hint=hint))
    if not path.is_file():
        raise BadInput(Issue("there is no such file", source, hint=_near(path)))
    kind = _kind(path)
    if kind is None:
        raise BadInput(
            Issue(f"the file format {path.suffix!r} is not supported", source, hint=_ENDINGS)
        )
    return path, kind


def _kind(path: Path) -> Kind | None:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return _KINDS.get(plain.suffix.lower())


def _readable(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file() and _kind(p))


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f"The folder {str(path.parent)!r} does not exist either."
    names = _readable(path.parent)
    close = get_close_matches(path.name, names, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(repr(name) for name in close)}?"
    return f"Files in the folder: {', '.join(names[:10])}." if names else _ENDINGS


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading; if its name ends in .gz, it is decompressed (see `TooLarge`)."""
    if path.suffix.lower() == ".gz":
        # Without a buffer, each of the many short reads of gzip costs a call.
        return io.BufferedReader(_Capped(path), 1 << 20)
    return open(path, "rb")


def open_text(path: Path, newline: str) -> io.TextIOWrapper:
    """Open a file as UTF-8 text, without a byte order mark; `newline` as in `open`."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline=newline)


START = 4096
"""Number of bytes that are read to detect the format of a file."""


def check_start(path: Path, issues: FileIssues, kind: Kind) -> bool:
    """Check the first bytes of a file and add an issue if it is unreadable; return True if valid.

    Issues are: the file is empty, compressed without the ending .gz, not text, or of another
    format than the ending of its name says.
    """
    with open_bytes(path) as file:
        start = file.read(START)
    text = kind != "parquet"
    if not start.strip(b"\xef\xbb\xbf \t\r\n"):
        issues.add("the file is empty")
    elif start[:2] == b"\x1f\x8b":
        issues.add("the file is compressed with gzip", hint="Add .gz to the name of the file.")
    elif start[:4] == b"PK\x03\x04":
        issues.add(
            "the file is a zip archive or a spreadsheet",
            hint="Extract the archive, or save the sheet as 'CSV UTF-8'.",
        )
    elif text and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        _add_encoding(issues, path, 0, 1, "UTF-16", "it starts with a UTF-16 byte order mark")
    elif text and _every_other_is_nul(start):
        offset = start.index(b"\x00")
        row = start.count(b"\n", 0, offset) + 1
        reason = "every second byte is NUL, as in UTF-16"
        _add_encoding(issues, path, offset, row, "UTF-16", reason)
    elif (detected := _content(start, kind)) is not None:
        what, ending = detected
        packed = path.suffix.lower() == ".gz"
        stem = path.with_suffix("").stem if packed else path.stem
        name, right = shlex.quote(str(path)), shlex.quote(str(path.with_name(stem + ending)))
        hint = f"Rename the file: mv {name} {right}{'.gz' * packed}"
        if what == "a JSON list":
            unpack = "gzip -dc" if packed else "cat"
            hint = f"Convert the file: {unpack} {name} | jq -c '.[]' > {right}"
        issues.add(f"the file contains {what}, but its name says {_NAMED[kind]}", hint=hint)
    return not issues


_NAMED: dict[Kind, str] = {
    "csv": "CSV",
    "tsv": "TSV",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
}


def _is_json(first: bytes, start: bytes) -> bool:
    """Return whether the first line starts a JSON object or list (a CSV cell may look similar)."""
    if first == b"[":
        return start.partition(b"[")[2].lstrip()[:1] == b"{"
    if first[:1] not in (b"{", b"["):
        return False
    if len(start) == START and b"\n" not in start.strip():  # truncated
        return re.match(rb"\[?\s*\{\s*\"[^\"]*\"\s*:", first) is not None
    try:
        return bool(json.loads(first.rstrip(b",")))
    except ValueError:
        return re.match(rb"\[\s*\{\s*\"[^\"]*\"\s*:.*\},?$", first) is not None


def _content(start: bytes, kind: Kind) -> tuple[str, str] | None:
    """Return the content of a file and the right ending if it is certainly not of kind `kind`."""
    first = start.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")[0].strip()
    is_parquet = start[:4] == b"PAR1"
    is_json = _is_json(first, start)
    if is_parquet and kind != "parquet":
        return "Parquet", ".parquet"
    if is_parquet:
        return None
    if is_json and kind != "jsonl":
        return ("a JSON list" if first[:1] == b"[" else "JSON lines"), ".jsonl"
    if kind == "parquet" or (kind == "jsonl" and first[:1] not in b"{["):
        for mark, what, ending in ((b"\t", "tab-separated text", ".tsv"), (b",", "CSV", ".csv")):
            if mark in first and b"\x00" not in start:
                return what, ending
    return None


def _every_other_is_nul(start: bytes) -> bool:
    """Return whether over a third of the even or odd bytes is NUL, as in UTF-16 without a mark."""
    return any(3 * half.count(0) > len(half) > 0 for half in (start[::2], start[1::2]))


def has_mark(path: Path) -> bool:
    """Return whether the file starts with a UTF-8 byte order mark."""
    with open_bytes(path) as file:
        return file.read(3) == b"\xef\xbb\xbf"


def add_decode_issue(path: Path, issues: FileIssues) -> None:
    """Find the first byte that is not UTF-8 and add an issue; this reads the file again."""
    offset = 0
    with open_bytes(path) as file:
        # No multi-byte UTF-8 sequence contains a line feed, so lines can be decoded separately.
        for row, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                _add_encoding(
                    issues, path, offset + error.start, row, "cp1252", f"byte 0x{byte:02x}"
                )
                return
            offset += len(line)


def _add_encoding(
    issues: FileIssues, path: Path, offset: int, row: int, guess: str, reason: str
) -> None:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    unpack = "gzip -dc" if plain != path else "cat"
    target = f"{plain.stem}.utf8{plain.suffix}"
    command = f"{unpack} {path.name} | iconv -f {guess} -t UTF-8 > {target}"
    issues.add(
        f"the file is not UTF-8 ({reason}, at byte offset {offset})",
        row=row,
        hint=f"The encoding is probably {guess}. Convert the file: {command}",
    )
