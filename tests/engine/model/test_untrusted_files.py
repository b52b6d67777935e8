"""Malicious model folders: each would create a file, and none of them does."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.engine.model.source import find_model
from tuneoff.engine.model.untrusted_files import check_saved
from tuneoff.exceptions import ModelUnavailable

WIRE = "TUNEOFF_TRIPWIRE"


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a payload would create; it must not exist at the end."""
    file = tmp_path / "fired"
    monkeypatch.setenv(WIRE, str(file))
    return file


@pytest.fixture
def copied(tiny_model: Any, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model("bert"), tmp_path / "model")


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'touch "${WIRE}"',)


PICKLE = pickle.dumps(_Payload())
CODE = f"import os, pathlib\npathlib.Path(os.environ['{WIRE}']).touch()\nclass Mine: ...\n"


def setting(folder: Path, file: str = "config.json", **changes: Any) -> None:
    path = folder / file
    plain = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**plain, **changes}))


def pickled(folder: Path, name: str = "pytorch_model.bin") -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(PICKLE)


def remote(folder: Path, file: str, **auto: str) -> None:
    for name in ("modeling_mine", "configuration_mine", "tokenization_mine"):
        (folder / f"{name}.py").write_text(CODE)
    setting(folder, file, auto_map=auto)


def header(folder: Path, length: int, content: bytes = b"{}") -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + content)


def sharded(folder: Path, shard: str) -> None:
    setting(folder, "model.safetensors.index.json", weight_map={"w": shard}, metadata={})


REFUSED: dict[str, Callable[[Path], None]] = {
    "pickle": pickled,
    "pickle by another name": lambda f: pickled(f, "model.pt"),
    "pickle named safetensors": lambda f: (f / "model.safetensors").write_bytes(PICKLE) and None,
    "code for the model": lambda f: remote(f, "config.json", AutoModel="modeling_mine.Mine"),
    "code for the settings": lambda f: remote(
        f, "config.json", AutoConfig="configuration_mine.Mine"
    ),
    "code for the tokenizer": lambda f: remote(
        f, "tokenizer_config.json", AutoTokenizer="tokenization_mine.Mine"
    ),
    "code of another repository": lambda f: setting(f, auto_map={"AutoModel": "evil/x--m.Mine"}),
    "code deep in the settings": lambda f: setting(f, text_config={"auto_map": {"A": "m.M"}}),
    "a pipeline of its own": lambda f: setting(f, custom_pipelines={"x": {"impl": "m.P"}}),
    "attention from a repository": lambda f: setting(f, attn_implementation="evil/kernels"),
    "attention with a revision": lambda f: setting(f, _attn_implementation="evil/k@main:f"),
    "a quantiser": lambda f: setting(f, quantization_config={"quant_method": "gptq"}),
    "an adapter": lambda f: setting(f, "adapter_config.json", base_model_name_or_path="/evil"),
    "weights outside": lambda f: sharded(f, "../../outside.safetensors"),
    "weights at the root": lambda f: sharded(f, "/etc/passwd"),
    "header longer than the file": lambda f: header(f, 1 << 40),
    "header of 99 MB that is none": lambda f: header(f, 99_000_000, b"x" * 100),
    "header that is no JSON": lambda f: header(f, 8, b"{{{{{{{{"),
    "header that is deep": lambda f: header(f, 200_000, b"[" * 200_000),
    "tensors beyond the end": lambda f: header(
        f, 62, b'{"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}'
    ),
    "settings that are deep": lambda f: (f / "x.json").write_text("[" * 200_000) and None,
    "packed settings": lambda f: (f / "config.json").write_bytes(gzip.compress(b"{}")) and None,
}


@pytest.mark.parametrize("name", REFUSED)
def test_rejected_before_anything_is_loaded(
    name: str, copied: Path, canary: Path, tuneoff: Any, toy_csv: Any
) -> None:
    REFUSED[name](copied)
    with pytest.raises(ModelUnavailable):
        find_model(str(copied))
    ended = tuneoff("check", toy_csv(20), "--model", copied)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert not canary.exists()


def test_files_next_to_valid_weights_are_not_opened(
    copied: Path, canary: Path, run_toy: Any, tuneoff: Any, toy_csv: Any
) -> None:
    """Such files are no error, because many repositories have them for older libraries."""
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl"):
        (copied / name).write_bytes(PICKLE)
    for name in ("modeling_mine", "tokenization_mine", "handler", "setup", "__init__", "torch"):
        (copied / f"{name}.py").write_text(CODE)
    setting(copied, "tokenizer_config.json", tokenizer_class="Mine", processor_class="Mine")
    (copied / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.system('x') }}")
    tuneoff("check", toy_csv(20), "--model", copied)
    made = run_toy("full", model=copied, epochs=1)
    assert made.record.status in ("finished", "failed")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pickle", "code", "library"])
def test_model_of_a_run_from_another_person(copied: Path, canary: Path, name: str) -> None:
    (copied / "base").mkdir()
    check_saved(copied)
    if name == "pickle":
        (copied / "adapter_model.bin").write_bytes(PICKLE)
    elif name == "code":
        remote(copied, "config.json", AutoModel="modeling_mine.Mine")
    else:
        setting(copied, "adapter_config.json", auto_mapping={"parent_library": "os"})
    with pytest.raises(ModelUnavailable):
        check_saved(copied)
    assert not canary.exists()
