"""Model folders need safetensors and must not have code; others are rejected before loading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.engine.model.source import find_model, first_position
from tuneoff.exceptions import ModelUnavailable

TinyModel = Callable[[str], Path]


@pytest.fixture
def copied(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A copy of a model's folder that a test may change."""
    return shutil.copytree(tiny_model("bert"), tmp_path / "my-bert")


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "mpnet"])
def test_folder(tiny_model: TinyModel, architecture: str) -> None:
    found = find_model(str(tiny_model(architecture)))
    assert found.path == tiny_model(architecture)
    assert found.model_type == architecture
    assert found.max_length == 128  # 130 positions, of which the first two are never used
    assert len(found.fingerprint) == 64


def test_fingerprint_depends_on_the_content(copied: Path, tiny_model: TinyModel) -> None:
    original = find_model(str(tiny_model("bert"))).fingerprint
    assert find_model(str(copied)).fingerprint == original
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = find_model(str(copied)).fingerprint
    assert changed != original
    change_config(copied, hidden_act="relu")
    assert find_model(str(copied)).fingerprint not in (original, changed)


def test_pickles_are_rejected(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match=r"only pytorch_model\.bin.*a pickle can run code"):
        find_model(str(copied))


def test_custom_code_is_rejected(copied: Path) -> None:
    change_config(copied, auto_map={"AutoModel": "modeling_mine.Mine"})
    with pytest.raises(ModelUnavailable, match="custom code"):
        find_model(str(copied))


def test_no_weights(copied: Path) -> None:
    """Without weights there is nothing to convert, unlike with a pickle."""
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="no weights") as refused:
        find_model(str(copied))
    assert "Download it again" in str(refused.value)
    assert "convert" not in str(refused.value)
    (copied / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(ModelUnavailable, match=r"has only pytorch_model\.bin.*\n.*convert it"):
        find_model(str(copied))


def test_git_lfs_pointer_is_reported(copied: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"
    (copied / "model.safetensors").write_text(pointer)
    with pytest.raises(ModelUnavailable, match=r"Git LFS pointer(.|\n)*git lfs pull"):
        find_model(str(copied))


def test_no_config(copied: Path) -> None:
    (copied / "config.json").unlink()
    with pytest.raises(
        ModelUnavailable, match=r"my-bert: this is not a model folder: it has no config\.json"
    ):
        find_model(str(copied))


@pytest.mark.parametrize("content", ["{", "[]", '{"hidden_size": 32}', '{"model_type": 3}'])
def test_invalid_config(copied: Path, content: str) -> None:
    (copied / "config.json").write_text(content)
    with pytest.raises(ModelUnavailable, match=r"config\.json"):
        find_model(str(copied))


def test_missing_folder_suggests_the_nearest(copied: Path) -> None:
    with pytest.raises(ModelUnavailable, match="'my-bert'"):
        find_model(str(copied.parent / "my-bret"))


def test_file_instead_of_a_folder(copied: Path) -> None:
    with pytest.raises(ModelUnavailable, match="this is a file, not a model folder"):
        find_model(str(copied / "config.json"))


def test_hub_id_without_network_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="hf download nobody/no-model --local-dir DIR"):
        find_model("nobody/no-model")


def test_name_that_is_not_on_the_hub() -> None:
    with pytest.raises(ModelUnavailable, match="there is no model"):
        find_model("not a hub id at all!")


def test_config_without_a_maximum_length(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    del config["max_position_embeddings"]
    (copied / "config.json").write_text(json.dumps(config))
    assert find_model(str(copied)).max_length == 512


@pytest.mark.parametrize(
    ("model_type", "pad", "first"),
    [
        ("roberta", 1, 2),
        ("xlm-roberta", 1, 2),
        ("camembert", 1, 2),
        ("roberta", None, 2),
        ("roberta", 0, 1),
        ("bert", 0, 0),
        ("electra", 0, 0),
        ("distilbert", 0, 0),
    ],
)
def test_first_position(model_type: str, pad: int | None, first: int) -> None:
    assert first_position(model_type, pad) == first
