"""Fingerprints of a task: of its rows, and of the rows together with the tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

LAYOUT = 1
"""Version of the layout of a task's folder; incremented when the meaning of its files changes."""

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
    """Return the SHA-256 of the label list and the rows of each split, in order.

    A row is hashed with its text, pair, label, weight, group and position in the source.
    Predictions identify rows by this position, so a task with moved rows is a different task.
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
    """Hash the lengths before the characters, so that different columns never give equal bytes."""
    for start in range(0, len(column), _CHUNK):
        encoded = [text.encode() for text in column.iloc[start : start + _CHUNK]]
        digest.update(np.array([len(text) for text in encoded], "<i8").tobytes())
        digest.update(b"".join(encoded))


def task_key(fingerprint: str, model_path: Path, model_type: str, max_length: int) -> str:
    """Return the key of a task: 16 hex digits that depend on all that determines its files.

    These are the rows, the tokenizer files, the model type and the maximum length.
    """
    digest = hashlib.sha256(f"{LAYOUT}\0{fingerprint}\0{model_type}\0{max_length}".encode())
    files = {file for pattern in _TOKENIZER_FILES for file in model_path.glob(pattern)}
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"\0{file.name}\0{content}".encode())
    return digest.hexdigest()[:16]
