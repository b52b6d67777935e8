"""Identities by content: of the rows, of a tokenizer, of the two together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

LAYOUT = 1
"""Of a task's folder; raised when its files change their meaning."""

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)

_CHUNK = 65_536


def rows_fingerprint(splits: Mapping[str, pd.DataFrame], labels: Sequence[str]) -> str:
    """SHA-256 over the label list and the rows of each split, in their order.

    A row is its text, pair, label, weight, group and its place in the source: predictions name
    rows by that place, so a moved row is a changed task.
    """
    digest = hashlib.sha256(json.dumps(list(labels)).encode())
    for role, frame in splits.items():
        for column in ("text", "text_pair", "label", "weight", "group", "row"):
            if column not in frame:
                continue
            digest.update(f"\0{role}\0{column}\0{len(frame)}\0".encode())
            if column in ("weight", "row"):
                kind = "<f4" if column == "weight" else "<i8"
                digest.update(frame[column].to_numpy().astype(kind).tobytes())
            else:
                _update_strings(digest, frame[column])
    return digest.hexdigest()


def _update_strings(digest: hashlib._Hash, column: pd.Series[str]) -> None:
    """Lengths before the characters, so that no two columns of strings run into the same bytes."""
    for start in range(0, len(column), _CHUNK):
        encoded = [text.encode() for text in column.iloc[start : start + _CHUNK]]
        digest.update(np.array([len(text) for text in encoded], "<i8").tobytes())
        digest.update(b"".join(encoded))


def task_key(fingerprint: str, model_path: Path, model_type: str, max_length: int) -> str:
    """16 hex digits of what decides a task's files: rows, tokenizer files, length."""
    digest = hashlib.sha256(f"{LAYOUT}\0{fingerprint}\0{model_type}\0{max_length}".encode())
    files = {file for pattern in _TOKENIZER_FILES for file in model_path.glob(pattern)}
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"\0{file.name}\0{content}".encode())
    return digest.hexdigest()[:16]
