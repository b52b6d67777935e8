"""Checks of untrusted model folders: no code, no references to code or other folders, valid sizes.

Pickles are never opened. This module imports neither torch nor transformers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuneoff.exceptions import Issue, ModelUnavailable

CODE_KEYS = {
    "auto_map": "custom code",
    "custom_pipelines": "custom code",
    "quantization_config": "its own quantiser, but tuneoff quantises models itself",
    "kernel_config": "external kernels",
    "auto_mapping": "a class of another library",
    "megatron_config": "another library",
}
"""Configuration keys that refer to code, with what the model needs because of them."""

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "experts_implementation")
"""Keys that name an implementation in Transformers, or a repository with an implementation."""

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
"""Suffixes of files that can run code when they are loaded."""

LARGEST_HEADER = 100_000_000
"""Maximum size of a safetensors header in bytes, the same as in the safetensors library."""

LARGEST_JSON = 200_000_000
"""Maximum size of a JSON file of a model in bytes; the largest tokenizers have 35 MB."""


OPENVINO_WEIGHTS = "openvino_model.bin"
"""Weights of an OpenVINO export. The suffix is that of a pickle, but the file is plain numbers."""


def check_no_code(name: str, path: Path) -> None:
    """Check that no file of a model folder runs code, loads other models or leaves the folder.

    Args:
        name: Name of the model, for messages.
        path: Folder of the model.

    Raises:
        ModelUnavailable: A file does.
    """
    for file in sorted(path.glob("*.json")):
        if file.stat().st_size > LARGEST_JSON:
            raise ModelUnavailable(
                Issue(
                    f"the file is too large: the maximum for a model is {LARGEST_JSON:,} bytes",
                    file=str(file),
                )
            )
        if file.name == "tokenizer.json":  # vocabulary and rules only; its library runs no code
            continue
        for key, value in _items(_read(file)):
            _check_item(name, file, key, value)
    if (path / "adapter_config.json").is_file():
        raise ModelUnavailable(
            f"the model {name!r} is an adapter, which would load the base model in its settings.",
            hint="If you trust both, merge the adapter into its base model and use that folder.",
        )


def check_saved(path: Path) -> None:
    """Check the folder `model/` of a run, which may also come from somebody else.

    This is the same as `check_no_code`, except that an adapter is allowed: it is loaded with the
    base model in the same folder, whatever its settings say.

    Raises:
        ModelUnavailable: The folder has unsafe files.
    """
    for folder in filter(Path.is_dir, (path, path / "base")):
        files = [file for file in folder.iterdir() if file.name != OPENVINO_WEIGHTS]
        if pickled := sorted(file.name for file in files if file.suffix in PICKLES):
            raise ModelUnavailable(
                Issue(
                    f"the folder has a pickle, {pickled[0]}, and loading a pickle can run code",
                    file=str(folder),
                )
            )
        for file in sorted(folder.glob("*.json")):
            if file.name == "tokenizer.json":
                continue
            for key, value in _items(_read(file)):
                own = key == "quantization_config" and isinstance(value, Mapping)
                if not (own and value.get("quant_method") == "bitsandbytes"):
                    _check_item(str(path), file, key, value)
        for file in folder.glob("*.safetensors"):
            check_header(file)


def _check_item(name: str, file: Path, key: str, value: Any) -> None:
    needs = CODE_KEYS.get(key) if value else None
    if key in ATTENTION_KEYS and isinstance(value, str) and not value.replace("_", "").isalnum():
        needs = "an external attention implementation"
    if needs:
        raise ModelUnavailable(
            f"the model {name!r} needs {needs} ({key} in its {file.name}).",
            hint="tuneoff runs no code of a model. Use a model that Transformers supports.",
        )
    if key == "weight_map" and isinstance(value, Mapping):
        for shard in value.values():
            if not isinstance(shard, str) or Path(shard).name != shard:
                raise ModelUnavailable(
                    Issue(f"the shard {shard!r} is not a file in this folder", file=str(file))
                )


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelUnavailable(
            Issue(f"the file is not valid JSON: {error}", file=str(file))
        ) from None


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys with their values, at any depth."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            yield from part.items()
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def check_header(file: Path) -> None:
    """Raise `ModelUnavailable` if the file is not valid safetensors; this reads the header only."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if start == b"version ":  # https://git-lfs.github.com/spec/v1
            message = f"the file is a Git LFS pointer of {size} bytes and not the weights"
            hint = "In the model's repository run: git lfs pull"
            raise ModelUnavailable(Issue(message, file=str(file), hint=hint))
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            message = (
                f"the file is not valid safetensors: its header would have {length:,} of the"
                f" {size:,} bytes"
            )
            raise ModelUnavailable(Issue(message, file=str(file), hint="Download the file again."))
        try:
            header = json.loads(stream.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
            valid = max(ends, default=0) == size - 8 - length
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError, IndexError):
            valid = False
    if not valid:
        message = "the file is not valid safetensors or is truncated: its header and size disagree"
        raise ModelUnavailable(Issue(message, file=str(file), hint="Download the file again."))
