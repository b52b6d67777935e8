"""Size of saved models on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def storage_bytes(folder: Path, model: nn.Module | None = None) -> int:
    """Return the size of a saved model without what the base model has, in bytes.

    Not counted are links to the base model, the tokenizer (that of the base model), and, if the
    full model is saved, the frozen weights of `model` (in float32).
    """
    files = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not _is_tokenizer(path.name)
    )
    # Without a file of the full model, the trained weights are in a file of their own.
    if model is None or not any(folder.glob("model*.safetensors")):
        return files
    return files - sum(4 * w.numel() for w in model.parameters() if not w.requires_grad)


def _is_tokenizer(name: str) -> bool:
    return name.startswith(("tokenizer", "special_tokens", "vocab", "merges", "spiece", "README"))
