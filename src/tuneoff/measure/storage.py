"""Bytes on disk."""

from __future__ import annotations

from pathlib import Path


def storage_bytes(folder: Path) -> int:
    """Files of a saved model that are needed beside the base model, in bytes.

    Links to the base model count nothing, nor does the tokenizer, which is the base model's own.
    """
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not _is_tokenizer(path.name)
    )


def _is_tokenizer(name: str) -> bool:
    return name.startswith(("tokenizer", "special_tokens", "vocab", "merges", "spiece", "README"))
