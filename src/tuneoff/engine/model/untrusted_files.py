"""What a model's folder must not hold: code, ways to code, paths out of it, false sizes.

Pickles are never opened, and nothing here imports torch or transformers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuneoff.exceptions import Issue, ModelUnavailable

CODE_KEYS = {
    "auto_map": "code of its own",
    "custom_pipelines": "code of its own",
    "quantization_config": "a quantiser of its own choice, and tuneoff quantises by itself",
    "kernel_config": "kernels from elsewhere",
    "auto_mapping": "a class of another library",
    "megatron_config": "another library",
}
"""Keys of a configuration by which code, or what runs code, is named."""

ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "experts_implementation")
"""Keys that may name an implementation of Transformers, or else a repository with one."""

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
"""Endings of files whose loading can run code."""

LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, as the format's own library has it."""

LARGEST_JSON = 200_000_000
"""Bytes of a JSON file of a model; the largest tokenizers have 35 MB."""


OPENVINO_WEIGHTS = "openvino_model.bin"
"""Weights of an OpenVINO export. The suffix is that of a pickle, but the file is plain numbers."""


def check_no_code(name: str, path: Path) -> None:
    """Raise `ModelUnavailable` if a file of the model's folder would have code run, loads other
    models, or reaches out of the folder."""
    for file in sorted(path.glob("*.json")):
        if file.stat().st_size > LARGEST_JSON:
            raise ModelUnavailable(Issue("is too large for a model's settings", file=str(file)))
        if file.name == "tokenizer.json":  # vocabulary and rules, read by a library without code
            continue
        for key, value in _items(_read(file)):
            _check_item(name, file, key, value)
    if (path / "adapter_config.json").is_file():
        raise ModelUnavailable(
            f"the model {name!r} is an adapter, which would load the model that its settings name.",
            hint="Merge it into its base where you trust both, and give that folder.",
        )


def check_saved(path: Path) -> None:
    """As `check_no_code`, of a run's `model/`, which may come from somebody else, too.

    Its adapter is loaded onto the base beside it, whatever the adapter's settings name.
    """
    for folder in filter(Path.is_dir, (path, path / "base")):
        files = [file for file in folder.iterdir() if file.name != OPENVINO_WEIGHTS]
        if pickled := sorted(file.name for file in files if file.suffix in PICKLES):
            raise ModelUnavailable(
                Issue(f"holds {pickled[0]}: loading a pickle can run code", file=str(folder))
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
        needs = "an attention function from elsewhere"
    if needs:
        raise ModelUnavailable(
            f"the model {name!r} needs {needs} ({key} in its {file.name}).",
            hint="tuneoff runs no code that comes with a model; take one that Transformers knows.",
        )
    if key == "weight_map" and isinstance(value, Mapping):
        for shard in value.values():
            if not isinstance(shard, str) or Path(shard).name != shard:
                raise ModelUnavailable(
                    Issue(f"names {shard!r}, which is no file of this folder", file=str(file))
                )


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelUnavailable(Issue(f"is not valid JSON: {error}", file=str(file))) from None


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    """All keys with their values, at any depth."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            yield from part.items()
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def check_header(file: Path) -> None:
    """Raise `ModelUnavailable` if a safetensors file is none: its header is read, no weight."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if start == b"version ":  # https://git-lfs.github.com/spec/v1
            said = f"is a Git LFS pointer of {size} bytes, not the weights themselves"
            hint = "In the model's repository run: git lfs pull"
            raise ModelUnavailable(Issue(said, file=str(file), hint=hint))
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            said = f"is no safetensors file: its header would have {length:,} of {size:,} bytes"
            raise ModelUnavailable(Issue(said, file=str(file), hint="Get the file again."))
        try:
            header = json.loads(stream.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
            whole = max(ends, default=0) == size - 8 - length
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError, IndexError):
            whole = False
    if not whole:
        said = "is no safetensors file, or cut off: its header does not fit its size"
        raise ModelUnavailable(Issue(said, file=str(file), hint="Get the file again."))
