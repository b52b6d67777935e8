"""Exports open without tuneoff and predict the same as the run's model, or are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tuneoff as package
from tuneoff.engine.export import FORMATS
from tuneoff.engine.inference import ExportedModel
from tuneoff.exceptions import BadInput
from tuneoff.exporting import ExportRefused, Parity, export_run
from tuneoff.exporting.result import Shape, Speed
from tuneoff.methods import methods
from tuneoff.results.store import RunFolder

RunToy = Callable[..., Any]

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="the extra 'export' is not installed",
)
needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="the extra 'export' is not installed"
)
REFUSED = {
    "tfidf": "it has no neural network",
    "prefix": "its virtual tokens are an input of each text",
    "prompt": "its virtual tokens are an input of each text",
}
"""Methods that no format holds, with the reason."""
SETTINGS: dict[str, dict[str, Any]] = {
    "peft": {"config": {"peft_type": "LOHA", "r": 2}},
    "qlora": {"rank": 2},
}

# Code of a user without tuneoff: the class of Transformers, and ONNX Runtime, with only the folder.
PLAIN = """
import json, sys
import numpy as np
from transformers import AutoTokenizer
folder, kind, texts = json.loads(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(folder)
batch = tokenizer(*map(list, zip(*texts)), truncation=True, padding=True, return_tensors="np")
if kind == "onnx":
    import onnxruntime
    session = onnxruntime.InferenceSession(folder + "/model.onnx")
    names = {value.name for value in session.get_inputs()}
    given = {k: v.astype(np.int64) for k, v in batch.items() if k in names}
    logits = session.run(["logits"], given)[0]
else:
    import torch
    from transformers import AutoModelForSequenceClassification, pipeline
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    logits = model(**{k: torch.tensor(v) for k, v in batch.items()}).logits.detach().numpy()
    if len(texts[0]) == 1:
        made = pipeline("text-classification", folder)([text for text, in texts], truncation=True)
        names = [model.config.id2label[int(i)] for i in logits.argmax(1)]
        assert [one["label"] for one in made] == names
assert not any(name.split(".")[0] == "tuneoff" for name in sys.modules)
print(json.dumps(logits.tolist()))
"""


def plain_logits(folder: Path, kind: str, texts: list[tuple[str, ...]]) -> Any:
    """Return the logits that a program without tuneoff computes."""
    given = json.dumps([str(folder), kind, texts])
    done = subprocess.run(
        [sys.executable, "-P", "-c", PLAIN, given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def printed_by_the_card(folder: Path) -> str:
    """Run the code of the model card, and return the last line that it prints."""
    card = (folder / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("PATH", str(folder))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def rows_of(made: Any, file: Path) -> str:
    """Write the validation rows of a toy run to a file, and return its path."""
    split = made.task.splits["validation"]
    table = pd.DataFrame({"text": split.texts()})
    if split.pairs() is not None:
        table["text_pair"] = split.pairs()
    table.to_csv(file, index=False)
    return str(file)


@pytest.fixture
def exported(run_toy: RunToy, tmp_path: Path) -> Callable[..., Any]:
    """`exported("lora", "onnx", …)`: the toy run of a method, and its export."""

    def make(method: str, format: str, architecture: str = "bert", **more: Any) -> Any:
        config = SETTINGS.get(method, {})
        made = run_toy(method, architecture, config=config, epochs=1, max_length=64, **more)
        assert made.record.status == "finished", made.record.error
        data = rows_of(made, tmp_path / "rows.csv")
        found = export_run(made.folder, tmp_path / "out", format=format, data=data)
        return made, found

    return make


@pytest.mark.parametrize("method", methods())
def test_every_method_as_a_folder_of_transformers(
    exported: Callable[..., Any], method: str, tmp_path: Path
) -> None:
    if method == "qlora" and find_spec("bitsandbytes") is None:
        pytest.skip("the extra 'qlora' is not installed")
    reason = REFUSED.get(method)
    if method == "adapter":
        reason = "adds modules that the classes of Transformers do not have"
    if reason is not None:
        with pytest.raises(BadInput, match=reason):
            exported(method, "transformers")
        assert not (tmp_path / "out").exists()
        return
    made, found = exported(method, "transformers")
    # the kernels of a 4-bit base compute products in bf16 and are the reference here
    assert found.parity.largest_difference < (0.1 if method == "qlora" else 1e-4)
    assert found.parity.changed == 0
    assert {file.name for file in found.path.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "parity.json",
        "tuneoff.json",
        "README.md",
    }
    assert not (found.path / "adapter_config.json").exists()
    if method in ("full", "dora", "qlora"):
        texts = [(text,) for text in made.task.splits["validation"].texts()]
        logits = plain_logits(found.path, "transformers", texts)
        exported_model = ExportedModel(found.path)
        expected = exported_model.logits([text for (text,) in texts])
        np.testing.assert_allclose(logits, expected, atol=1e-5)
    if method == "full":
        label = exported_model.predict("A text")["prediction"][0]
        assert f"'label': '{label}'" in printed_by_the_card(found.path)


@needs_onnx
@pytest.mark.parametrize(
    ("method", "architecture", "pairs"),
    [("lora", "bert", True), ("adapter", "roberta", False), ("full", "xlnet", False)],
)
def test_onnx_without_tuneoff(
    exported: Callable[..., Any],
    toy_task: Callable[..., Any],
    method: str,
    architecture: str,
    pairs: bool,
) -> None:
    """Texts of any number and length, with adapters as modules, and with padding on the left."""
    task = toy_task(architecture, pairs=pairs)
    made, found = exported(method, "onnx", architecture, task=task)
    parity = found.parity
    assert parity.largest_difference < 1e-4
    assert parity.changed == 0
    assert len(parity.shapes) == 20
    assert all(shape.error is None and (shape.difference or 0) < 1e-4 for shape in parity.shapes)
    split = made.task.splits["validation"]
    parts = [split.texts()] + ([split.pairs()] if pairs else [])
    logits = plain_logits(found.path, "onnx", list(zip(*parts, strict=True)))
    expected = ExportedModel(found.path).logits(*parts)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@needs_onnx
def test_int8_reports_its_loss(exported: Callable[..., Any]) -> None:
    _, found = exported("full", "onnx-int8")
    assert 1e-4 < found.parity.largest_difference < 1
    assert found.parity.lossy
    assert found.parity.bound == 0.01
    place = ExportedModel(found.path).logits(["A text"]).argmax()
    assert printed_by_the_card(found.path) == f"[{place}]"
    import onnx

    weights = onnx.load(str(found.path / "model.onnx")).graph.initializer
    matrices = [weight for weight in weights if len(weight.dims) == 2]
    rounded = [weight for weight in matrices if weight.data_type == onnx.TensorProto.INT8]
    assert len(rounded) > 10


@needs_openvino
def test_openvino(exported: Callable[..., Any]) -> None:
    _, found = exported("ia3", "openvino")
    place = ExportedModel(found.path).logits(["A text"]).argmax()
    assert printed_by_the_card(found.path) == f"[{place}]"
    assert found.parity.largest_difference < 1e-3
    assert found.parity.changed == 0


# Faults that the comparison has to find: they are written into a correct export.


def permuted_labels(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    names = list(config["id2label"].values())
    config["id2label"] = dict(enumerate([*names[1:], names[0]]))
    (folder / "config.json").write_text(json.dumps(config))


def other_pooling(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("pooler.dense.weight"))
    weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def padding_counts(folder: Path) -> None:
    """Let the tokenizer mark its padding as text."""
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["model_input_names"] = ["input_ids", "token_type_ids"]
    file.write_text(json.dumps(config))


@pytest.mark.parametrize("fault", [permuted_labels, other_pooling, padding_counts])
def test_broken_exports_are_refused(
    run_toy: RunToy,
    tmp_path: Path,
    fault: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = run_toy("full", "bert", epochs=3, max_length=64)
    data = rows_of(made, tmp_path / "rows.csv")
    right = FORMATS["transformers"]

    def write(merged: Any, tokenizer: Any, folder: Path) -> None:
        right.write(merged, tokenizer, folder)
        save = tokenizer.save_pretrained

        def then_break(place: Path) -> None:
            save(place)
            fault(folder)

        monkeypatch.setattr(tokenizer, "save_pretrained", then_break, raising=False)

    monkeypatch.setitem(FORMATS, "transformers", broken("transformers", write))
    with pytest.raises(ExportRefused, match="not written") as refused:
        export_run(made.folder, tmp_path / "out", format="transformers", data=data)
    assert refused.value.parity is not None
    assert refused.value.parity.largest_difference > 0.01
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def broken(name: str, write: Callable[..., None]) -> Any:
    right = FORMATS[name]
    return type(right)(right.name, right.summary, write, right.runtime)


@needs_onnx
def test_export_of_a_single_shape_is_refused(
    run_toy: RunToy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dynamic dimensions, the exporter takes those of its sample for constants."""
    from transformers.exporters import configs

    class Fixed(configs.OnnxConfig):
        def __init__(self, dynamic: bool) -> None:
            super().__init__(dynamic=False)

    monkeypatch.setattr(configs, "OnnxConfig", Fixed)
    made = run_toy("full", "bert", epochs=1, max_length=64)
    data = rows_of(made, tmp_path / "rows.csv")
    with pytest.raises(ExportRefused, match="it fails on these rows") as refused:
        export_run(made.folder, tmp_path / "out", format="onnx", data=data)
    assert refused.value.parity is None
    assert not (tmp_path / "out").exists()


def parity(**changes: Any) -> Parity:
    speed = Speed(0.01, 100.0)
    figures: dict[str, Any] = {
        "split": "validation",
        "rows": 300,
        "largest_difference": 1e-6,
        "changed": 0,
        "changed_from_record": None,
        "metric": None,
        "worst": [],
        "shapes": [Shape(1, 8, 1e-6)],
        "original_speed": speed,
        "exported_speed": speed,
        "bound": 1e-3,
        "lossy": False,
    }
    return Parity(**figures | changes)


def test_reasons_for_a_refusal() -> None:
    assert parity().failures == []
    assert "logits differ by up to 0.002" in parity(largest_difference=2e-3).failures[0]
    assert (
        "a batch of 5 with up to 9 tokens fails: no"
        in parity(shapes=[Shape(5, 9, None, "no")]).failures
    )
    assert "in a batch of 5 with" in parity(shapes=[Shape(5, 9, 0.1)]).failures[0]
    rounded = {"lossy": True, "bound": 0.01, "largest_difference": 0.4}
    assert parity(**rounded, changed=3, shapes=[Shape(5, 9, 0.4)]).failures == []
    too_much = parity(**rounded, changed=7)
    assert "7 of 300 labels change (2.33 %)" in too_much.failures[0]
    # The hint names a limit that suffices, so it is rounded up.
    assert "--accept-loss 2.4%" in str(ExportRefused(Path("x"), too_much.failures, too_much))


def test_a_loss_can_be_accepted(
    run_toy: RunToy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of changed labels takes the place of that of the logits."""
    made = run_toy("full", "bert", epochs=3, max_length=64)
    data = rows_of(made, tmp_path / "rows.csv")
    right = FORMATS["transformers"]

    def write(merged: Any, tokenizer: Any, folder: Path) -> None:
        merged.model.classifier.bias.data += 0.05
        right.write(merged, tokenizer, folder)

    monkeypatch.setitem(FORMATS, "transformers", broken("transformers", write))
    options: dict[str, Any] = {"format": "transformers", "data": data}
    with pytest.raises(ExportRefused, match="logits differ"):
        export_run(made.folder, tmp_path / "out", **options)
    found = export_run(made.folder, tmp_path / "out", **options, accept_loss=0.0)
    assert found.parity.changed == 0
    assert found.parity.largest_difference > 0.01


def test_command_and_python(tuneoff: Any, finished_study: Any, tmp_path: Path) -> None:
    """The rows are the study's validation rows, and `predict` reads the export."""
    run = next((finished_study.path / "runs").glob("lora*"))
    out = tmp_path / "export"
    done = tuneoff("export", run, "--format", "transformers", "--out", out, "--license", "mit")
    assert done.code == 0, done.err
    assert f"export: {out}" in done.out.replace("\n", "")
    parity = json.loads((out / "parity.json").read_text())
    record = RunFolder(run).record()
    assert record is not None
    assert parity["split"] == "validation"
    assert parity["rows"] == record.data.validation_rows
    assert parity["changed_from_record"] == 0
    assert parity["metric"]["change"] == 0
    card = (out / "README.md").read_text()
    assert "license: mit" in card
    assert "model-index" in card
    assert "| learning_rate | `" in card
    assert "> Take " in card
    assert str(finished_study.path) not in card
    new = tmp_path / "new.csv"
    new.write_text("text\nrain and wind\nthe goal of the match\n")
    for folder in (run, out):
        assert tuneoff("predict", folder, new, "--out", tmp_path / f"{folder.name}.csv").code == 0
    expected = pd.read_csv(tmp_path / f"{run.name}.csv")
    found = pd.read_csv(tmp_path / "export.csv")
    assert found["prediction"].tolist() == expected["prediction"].tolist()
    np.testing.assert_allclose(found.iloc[:, 3:], expected.iloc[:, 3:], atol=1e-4)
    loaded = package.load(out)
    assert isinstance(loaded, package.Exported)
    assert loaded.predict("rain and wind")["prediction"][0] == expected["prediction"][0]
    # Its scores are those of the run, and both are compared.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on rows that the study knows
        both = package.evaluate([run, out], finished_study.test)
        alone = loaded.evaluate(finished_study.test)
    assert [found.name for found in both.runs] == ["lora/r 2", "lora/r 2 (transformers)"]
    first, second = (found.scores for found in both.runs)
    assert first.accuracy == second.accuracy
    assert first.log_loss == pytest.approx(second.log_loss, abs=1e-4)
    assert alone.runs[0].scores.accuracy == first.accuracy
    assert tuneoff("evaluate", out, finished_study.test).code == 0
    # An export is written again in the place of an earlier one, and nowhere else.
    again = package.export(run, out, format="transformers-bf16")
    assert again.parity["lossy"]
    with pytest.raises(BadInput, match="a folder with other files"):
        package.export(run, tmp_path, format="transformers")


def test_bad_arguments(tuneoff: Any, finished_study: Any, tmp_path: Path) -> None:
    run = next((finished_study.path / "runs").glob("lora*"))
    for arguments, message in (
        (("--format", "onx"), "unknown export format 'onx'"),
        (("--accept-loss", "much"), "not a proportion"),
        (("--accept-loss", "101%"), "not a proportion"),
    ):
        done = tuneoff("export", run, "--out", tmp_path / "x", *arguments)
        assert done.code == 2
        assert message in " ".join(done.err.split())
    study = shutil.copytree(finished_study.path, tmp_path / "study")
    shutil.rmtree(study / "data")
    lost = next((study / "runs").glob("lora*"))
    done = tuneoff("export", lost, "--format", "transformers", "--out", tmp_path / "x")
    assert "--data FILE" in done.err
