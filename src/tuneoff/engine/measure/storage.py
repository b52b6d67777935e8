"""Bytes on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def storage_bytes(folder: Path, model: nn.Module | None = None) -> int:
    """Bytes of a saved model that are needed beside the base model.

    Links to the base model count nothing, nor does the tokenizer, which is the base model's own,
    nor do the weights of `model` that a whole model's file repeats from its base (in float32).
    """
    files = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not _is_tokenizer(path.name)
    )
    if model is None or not any(folder.glob("model*.safetensors")):  # what trained lies apart
        return files
    return files - sum(4 * w.numel() for w in model.parameters() if not w.requires_grad)


def _is_tokenizer(name: str) -> bool:
    return name.startswith(("tokenizer", "special_tokens", "vocab", "merges", "spiece", "README"))
