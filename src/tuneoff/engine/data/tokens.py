"""Token store: token ids of texts in memory-mapped files, so that rows need no memory.

A store is a folder with these files:

    ids.bin            concatenated ids of all rows, in the `dtype` of meta.json
    type_ids.bin       token types of the ids (uint8), if any of them is not 0
    offsets.npy        int64 of shape (rows + 1,): row i is ids[offsets[i]:offsets[i + 1]]
    full_lengths.npy   int32 of shape (rows,): tokens before truncation, with special tokens
    unknown.npy        bool of shape (rows,): whether all tokens of the row are unknown
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
"""Number of rows per call of the tokenizer, enough to use all of its threads. The Python lists of a
chunk take a few MB."""

IntArray = npt.NDArray[Any]


class TokenStore:
    """A memory-mapped token store, open for reading."""

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
        """Concatenated ids of all rows, uint16 or int32 of shape (tokens,)."""
        self.type_ids = type_ids
        """Token types, uint8 of shape (tokens,); None if all are 0."""
        self.offsets = offsets
        """Start of each row, and the total number of tokens; int64 of shape (rows + 1,)."""
        self.max_length = max_length
        """Number of tokens to which rows were truncated."""
        self.lengths: npt.NDArray[np.int64] = np.diff(offsets)
        """Number of tokens of each row after truncation, int64 of shape (rows,)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        """Return the ids of one row as a view, of shape (tokens of the row,)."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} is out of range: the token store has {len(self)} rows")
        row %= len(self)
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def full_lengths(self) -> npt.NDArray[np.int32]:
        """Number of tokens before truncation, including special tokens; int32 of shape (rows,).

        Each access reads them from disk.
        """
        full: npt.NDArray[np.int32] = np.load(self.path / "full_lengths.npy")
        return full

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows that have tokens, all of which are unknown; of shape (rows,).

        Each access reads it from disk. It is all false in a store of an older version.
        """
        file = self.path / "unknown.npy"
        unknown: npt.NDArray[np.bool_]
        unknown = np.load(file) if file.is_file() else np.zeros(len(self), bool)
        return unknown

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """Open an existing store; raise `FileNotFoundError` if it is missing."""
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
        """Tokenise texts into a store, replace an existing one atomically, and open it.

        Args:
            folder: Folder of the store.
            tokenizer: Fast tokenizer of Transformers.
            texts: The texts.
            pairs: The second texts, one for each text.
            max_length: Maximum number of tokens; longer rows are truncated (`longest_first`).
        """
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            _write(temporary, tokenizer, texts, pairs, max_length)
            temporary.chmod(0o755)  # mkdtemp sets 0700: other users could not read the study
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
    """Return the truncated ids and token types of each row, and the token counts before truncation.

    Rows are first tokenised without truncation, because the counts before truncation are needed.
    Only rows that are too long, usually few, are tokenised again with truncation.
    """
    options = {
        "add_special_tokens": True,
        "padding": False,
        "return_attention_mask": False,
        "return_token_type_ids": "token_type_ids" in tokenizer.model_input_names,
        "verbose": False,  # no warnings about texts that are too long: they are truncated below
    }
    complete = tokenizer(texts, pairs, truncation=False, **options)
    ids, types = complete["input_ids"], complete.get("token_type_ids")
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
    """Return, for each row, whether it has only unknown and special tokens, and an unknown one."""
    unknown = tokenizer.unk_token_id
    special = {*tokenizer.all_special_ids, unknown}
    return [unknown in row and all(token in special for token in row) for row in ids]


def _flat(rows: Iterable[Iterable[int]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.fromiter(chain.from_iterable(rows), dtype)
