"""Texts as token ids, flat on disk and memory-mapped, so that rows cost no memory.

A store is a folder:

    ids.bin            the ids of all rows, one after the other (`dtype` of meta.json)
    type_ids.bin       token types beside them (uint8), only where any differs from 0
    offsets.npy        int64 of rows + 1: row i is ids[offsets[i]:offsets[i + 1]]
    full_lengths.npy   int32 of rows: tokens before cutting, special ones included
    unknown.npy        bool of rows: not one of the tokens is known
    meta.json          rows, dtype, max_length; written last
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tuneoff.results.store import write_json

CHUNK = 4096
"""Rows tokenised at once: enough to keep the tokenizer's threads busy, a few MB of Python lists."""

IntArray = npt.NDArray[Any]


class TokenStore:
    """A memory-mapped token store, opened for reading."""

    def __init__(
        self,
        path: Path,
        ids: IntArray,
        type_ids: npt.NDArray[np.uint8] | None,
        offsets: npt.NDArray[np.int64],
        max_length: int,
    ) -> None:
        self.path = path
        self.ids = ids
        """(tokens,) uint16 or int32: the ids of all rows, one after the other."""
        self.type_ids = type_ids
        """(tokens,) uint8, or None where all are 0."""
        self.offsets = offsets
        """(rows + 1,) int64."""
        self.max_length = max_length
        self.lengths: npt.NDArray[np.int64] = np.diff(offsets)
        """(rows,) int64: tokens of each row, after cutting."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        """The ids of one row, (tokens of the row,), without copying."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of a token store of {len(self)} rows")
        row %= len(self)
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def full_lengths(self) -> npt.NDArray[np.int32]:
        """(rows,) int32: tokens before cutting, special ones included; read at each call."""
        full: npt.NDArray[np.int32] = np.load(self.path / "full_lengths.npy")
        return full

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """(rows,) whether a row has tokens and the tokenizer knows none of them; read at each call.

        None is, in a store of an older version.
        """
        file = self.path / "unknown.npy"
        unknown: npt.NDArray[np.bool_]
        unknown = np.load(file) if file.is_file() else np.zeros(len(self), bool)
        return unknown

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """Map an existing store; `FileNotFoundError` if there is none."""
        folder = Path(folder)
        meta = json.loads((folder / "meta.json").read_text())
        offsets = np.load(folder / "offsets.npy")
        types = folder / "type_ids.bin"
        return cls(
            folder,
            ids=_mapped(folder / "ids.bin", np.dtype(meta["dtype"])),
            type_ids=_mapped(types, np.dtype(np.uint8)) if types.is_file() else None,
            offsets=offsets,
            max_length=meta["max_length"],
        )

    @classmethod
    def build(
        cls,
        folder: str | Path,
        tokenizer: Any,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        max_length: int,
    ) -> TokenStore:
        """Tokenise `texts` (with `pairs`) into `folder`, replacing what stands there, and open it.

        `tokenizer` is a fast tokenizer of transformers. A row longer than `max_length` tokens is
        cut by its truncation `longest_first`. The folder appears whole or not at all.
        """
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            _write(temporary, tokenizer, texts, pairs, max_length)
            temporary.chmod(0o755)  # mkdtemp's 0700 would hide a shared study from its readers
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls.open(folder)


def _mapped(file: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if file.stat().st_size == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(file, dtype=dtype, mode="r")


def _write(
    folder: Path,
    tokenizer: Any,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
) -> None:
    dtype = np.dtype(np.uint16 if len(tokenizer) < 2**16 else np.int32)
    lengths = np.zeros(len(texts), np.int64)
    full_lengths = np.zeros(len(texts), np.int32)
    unknown = np.zeros(len(texts), bool)
    typed = False
    with open(folder / "ids.bin", "wb") as ids_file, open(folder / "type_ids.bin", "wb") as types:
        for start in range(0, len(texts), CHUNK):
            chunk = slice(start, start + CHUNK)
            ids, type_ids, full = _tokenize(
                tokenizer,
                list(texts[chunk]),
                None if pairs is None else list(pairs[chunk]),
                max_length,
            )
            full_lengths[chunk] = full
            lengths[chunk] = [len(row) for row in ids]
            unknown[chunk] = _unknown(tokenizer, ids)
            ids_file.write(_flat(ids, dtype).tobytes())
            if type_ids is not None:
                flat = _flat(type_ids, np.dtype(np.uint8))
                typed = typed or bool(flat.any())
                types.write(flat.tobytes())
        for file in (ids_file, types):
            file.flush()
            os.fsync(file.fileno())
    if not typed:
        (folder / "type_ids.bin").unlink()
    np.save(folder / "offsets.npy", np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))
    np.save(folder / "full_lengths.npy", full_lengths)
    np.save(folder / "unknown.npy", unknown)
    meta = {"rows": len(texts), "dtype": dtype.name, "max_length": max_length}
    write_json(folder / "meta.json", meta)


def _tokenize(
    tokenizer: Any, texts: list[str], pairs: list[str] | None, max_length: int
) -> tuple[list[list[int]], list[list[int]] | None, list[int]]:
    """Ids and token types of each row, cut, and the token counts before cutting.

    Only the rows that are too long are tokenised again with truncation, because the count before
    cutting is wanted of all and few are too long.
    """
    options = {
        "add_special_tokens": True,
        "padding": False,
        "return_attention_mask": False,
        "return_token_type_ids": "token_type_ids" in tokenizer.model_input_names,
        "verbose": False,  # no warning that a text is longer than the model takes: it is cut below
    }
    whole = tokenizer(texts, pairs, truncation=False, **options)
    ids, types = whole["input_ids"], whole.get("token_type_ids")
    full = [len(row) for row in ids]
    long = [row for row, length in enumerate(full) if length > max_length]
    if long:
        cut = tokenizer(
            [texts[row] for row in long],
            None if pairs is None else [pairs[row] for row in long],
            truncation="longest_first",
            max_length=max_length,
            **options,
        )
        for position, row in enumerate(long):
            ids[row] = cut["input_ids"][position]
            if types is not None:
                types[row] = cut["token_type_ids"][position]
    return ids, types, full


def _unknown(tokenizer: Any, ids: list[list[int]]) -> list[bool]:
    """Of each row: whether it has tokens and all of them stand for unknown words."""
    missing = tokenizer.unk_token_id
    hollow = {*tokenizer.all_special_ids, missing}
    return [missing in row and all(token in hollow for token in row) for row in ids]


def _flat(rows: Iterable[Iterable[int]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.fromiter(chain.from_iterable(rows), dtype)
