"""Finding and opening a local file, and saying why it cannot be read."""

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
_ENDINGS = "tuneoff reads .csv, .tsv, .jsonl, .ndjson, .json (one object per line) and .parquet,\
 each also with .gz, and hub data sets as hf:NAME."


PACKING = 100
"""A packed file may hold so many times its own size. Text packs 3 to 10 times, rarely 30."""

SMALL = 1 << 24
"""Bytes that a packed file may hold however small it is itself."""


class TooLarge(Exception):
    """A packed file holds more than a file of its size does: a decompression bomb."""


@dataclass(frozen=True)
class Cap:
    """What a packed file may hold."""

    size: int
    """Bytes of the file itself."""

    def hold(self, unpacked: int) -> None:
        """Raise `TooLarge` if so many bytes of content are too many."""
        cap = max(SMALL, PACKING * self.size)
        if unpacked > cap:
            raise TooLarge(
                f"the file of {self.size:,} bytes holds more than {cap:,} bytes of content:"
                f" tuneoff unpacks up to {PACKING} times a file's size"
            )


def unpacked_cap(path: Path) -> Cap:
    """What the packed file `path` may hold."""
    return Cap(path.stat().st_size)


class _Capped(io.RawIOBase):
    """The content of a gzip file, up to what its size allows; then `TooLarge`."""

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
    """The path and the kind of `source`; `BadInput` if it is no file of a kind that is read."""
    path = Path(source).expanduser()
    if "://" in source:
        raise BadInput(
            Issue("is a web address", source, hint="Download the file and give its path.")
        )
    if path.is_dir():
        names = _readable(path)
        hint = f"Name a file in it: {', '.join(names[:10])}." if names else _ENDINGS
        raise BadInput(Issue("is a folder, not a file", source, hint=hint))
    if not path.is_file():
        raise BadInput(Issue("there is no such file", source, hint=_near(path)))
    kind = _kind(path)
    if kind is None:
        raise BadInput(
            Issue(f"files that end in {path.suffix!r} are not read", source, hint=_ENDINGS)
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
    return f"Files there: {', '.join(names[:10])}." if names else _ENDINGS


def open_bytes(path: Path) -> IO[bytes]:
    """The file's content, unpacked if its name ends in .gz; reading raises `TooLarge`."""
    if path.suffix.lower() == ".gz":
        # Buffered, because gzip hands out short reads, which cost a call each.
        return io.BufferedReader(_Capped(path), 1 << 20)
    return open(path, "rb")


def open_text(path: Path, newline: str) -> io.TextIOWrapper:
    """The file as UTF-8, a byte order mark skipped; `newline` as in `open`."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline=newline)


START = 4096
"""Bytes that tell what a file is."""


def check_start(path: Path, issues: FileIssues, kind: Kind) -> bool:
    """Note what the first bytes already tell: an empty, packed or non-text file, or one of another
    kind than its name says. True if fine."""
    with open_bytes(path) as file:
        start = file.read(START)
    text = kind != "parquet"
    if not start.strip(b"\xef\xbb\xbf \t\r\n"):
        issues.add("the file is empty")
    elif start[:2] == b"\x1f\x8b":
        issues.add("the file is gzip-packed", hint="Give it a name that ends in .gz.")
    elif start[:4] == b"PK\x03\x04":
        issues.add(
            "the file is a zip archive or a spreadsheet",
            hint="Unpack it, or save the sheet as 'CSV UTF-8'.",
        )
    elif text and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        _add_encoding(issues, path, 0, 1, "UTF-16", "it starts with the byte order mark of UTF-16")
    elif text and _every_other_is_nul(start):
        offset = start.index(b"\x00")
        row = start.count(b"\n", 0, offset) + 1
        found = "every other byte is NUL, as in UTF-16"
        _add_encoding(issues, path, offset, row, "UTF-16", found)
    elif (is_now := _content(start, kind)) is not None:
        what, ending = is_now
        packed = path.suffix.lower() == ".gz"
        stem = path.with_suffix("").stem if packed else path.stem
        name, right = shlex.quote(str(path)), shlex.quote(str(path.with_name(stem + ending)))
        hint = f"Name it by what it holds: mv {name} {right}{'.gz' * packed}"
        if what == "a JSON list":
            hint = f"Convert it: {'gzip -dc' if packed else 'cat'} {name} | jq -c '.[]' > {right}"
        issues.add(f"the file holds {what}, and its name says {_NAMED[kind]}", hint=hint)
    return not issues


_NAMED: dict[Kind, str] = {
    "csv": "CSV",
    "tsv": "TSV",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
}


def _is_json(first: bytes, start: bytes) -> bool:
    """Whether the `first` line, or a list that begins in it, is JSON; a cell of CSV may look so."""
    if first == b"[":
        return start.partition(b"[")[2].lstrip()[:1] == b"{"
    if first[:1] not in (b"{", b"["):
        return False
    if len(start) == START and b"\n" not in start.strip():  # cut off
        return re.match(rb"\[?\s*\{\s*\"[^\"]*\"\s*:", first) is not None
    try:
        return bool(json.loads(first.rstrip(b",")))
    except ValueError:
        return re.match(rb"\[\s*\{\s*\"[^\"]*\"\s*:.*\},?$", first) is not None


def _content(start: bytes, kind: Kind) -> tuple[str, str] | None:
    """What a file surely holds, and the ending for that, if it is of another kind than `kind`."""
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
    """Whether a third of the even or of the odd bytes is NUL: UTF-16 without its mark."""
    return any(3 * half.count(0) > len(half) > 0 for half in (start[::2], start[1::2]))


def has_mark(path: Path) -> bool:
    """Whether the file starts with the byte order mark of UTF-8."""
    with open_bytes(path) as file:
        return file.read(3) == b"\xef\xbb\xbf"


def add_decode_issue(path: Path, issues: FileIssues) -> None:
    """Find the first byte that is not UTF-8 and note its row and offset; reads the file again."""
    offset = 0
    with open_bytes(path) as file:
        # A UTF-8 sequence never holds the byte of a line feed, so lines can be decoded singly.
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
    issues: FileIssues, path: Path, offset: int, row: int, guess: str, found: str
) -> None:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    unpack = "gzip -dc" if plain != path else "cat"
    target = f"{plain.stem}.utf8{plain.suffix}"
    command = f"{unpack} {path.name} | iconv -f {guess} -t UTF-8 > {target}"
    issues.add(
        f"the file is not UTF-8 ({found}, at byte offset {offset})",
        row=row,
        hint=f"It is probably {guess}. Convert it: {command}",
    )
