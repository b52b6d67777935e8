"""Each architecture agrees with Transformers' forward pass, or is rejected by name."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tuneoff.engine.execute import check_saved
from tuneoff.engine.inference.predict import Predictor
from tuneoff.engine.kernels.packed_forward import choose_padding
from tuneoff.engine.model.load import _initial_spread, pretrained
from tuneoff.engine.model.precision import Precision
from tuneoff.engine.verification import before_training as guard
from tuneoff.engine.verification.before_training import check_model
from tuneoff.exceptions import ModelUnavailable
from tuneoff.results.record import Checks, LogitDifference

TinyModel = Callable[[str], Path]
ToyTask = Callable[..., Any]
RunToy = Callable[..., Any]
Modify = Callable[[Callable[[dict[str, Any]], dict[str, Any]]], Path]

LABELS = ["animals", "food", "weather"]
PADDING = {
    **dict.fromkeys(("bert", "distilbert", "roberta", "xlm-roberta", "electra", "albert"), None),
    **dict.fromkeys(("mpnet", "deberta-v2", "modernbert", "llama"), "right"),
    **dict.fromkeys(("flaubert", "xlm", "bart", "roformer", "squeezebert", "longformer"), "right"),
    "xlnet": "left",
    **dict.fromkeys(("mobilebert", "funnel", "convbert", "fnet"), "none"),
}
"""Padding of a batch; None: texts are concatenated without padding."""


def check(path: Path, task: Any, precision: Precision = "fp32") -> None:
    check_model(
        path,
        task.labels,
        task.splits["train"],
        quantized=False,
        device=torch.device("cpu"),
        precision=precision,
    )


@pytest.mark.parametrize("architecture", PADDING)
def test_agrees_with_transformers(
    tiny_model: TinyModel, toy_task: ToyTask, architecture: str
) -> None:
    path = tiny_model(architecture)
    check(path, toy_task(architecture))
    model, described = pretrained(
        path, LABELS, quantized=False, dtype=torch.float32, device=torch.device("cpu")
    )
    assert choose_padding(model, described) == PADDING[architecture]


@pytest.mark.parametrize("architecture", ["nystromformer"])
def test_unsupported_architecture_is_rejected_by_name(
    tiny_model: TinyModel, toy_task: ToyTask, architecture: str
) -> None:
    with pytest.raises(ModelUnavailable, match=f"the {architecture} model cannot be run"):
        check(tiny_model(architecture), toy_task(architecture))


def test_architecture_without_a_precision(tiny_model: TinyModel, toy_task: ToyTask) -> None:
    check(tiny_model("bert"), toy_task("bert"), "bf16")
    with pytest.raises(ModelUnavailable, match="the fnet model in bf16 cannot be run") as refused:
        check(tiny_model("fnet"), toy_task("fnet"), "bf16")
    assert "--precision fp32" in str(refused.value)


def test_token_types_that_the_token_store_omits(
    tiny_model: TinyModel, toy_task: ToyTask, tmp_path: Path
) -> None:
    """For XLM, a token type of 0 is not the same as none."""
    folder = shutil.copytree(tiny_model("xlm"), tmp_path / "xlm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelUnavailable, match="cannot run the xlm model correctly"):
        check(folder, toy_task("xlm"))


def test_different_forward_pass_is_rejected_by_name(
    tiny_model: TinyModel, toy_task: ToyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding on the right, whatever the model needs, as before the check existed."""
    monkeypatch.setattr(guard, "choose_padding", lambda *_, **__: "right")
    check(tiny_model("bart"), toy_task("bart"))
    with pytest.raises(ModelUnavailable, match="cannot run the xlnet model correctly"):
        check(tiny_model("xlnet"), toy_task("xlnet"))


@pytest.mark.parametrize("architecture", ["xlnet", "flaubert", "bart", "funnel", "fnet"])
def test_predictions_do_not_depend_on_other_rows(
    run_toy: RunToy, tiny_model: TinyModel, tmp_path: Path, architecture: str
) -> None:
    """The model has the same labels in another order, so its output layer is initialised."""
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_model(architecture), num_labels=3, id2label=dict(enumerate(reversed(LABELS)))
    )
    folder = shutil.copytree(tiny_model(architecture), tmp_path / "model")
    model.save_pretrained(folder)
    made = run_toy("full", architecture, model=folder, epochs=1, max_length=64)
    assert made.record.status == "finished", made.record.error
    assert made.record.checks.alone.passed
    check_saved(made.folder, made.task.splits["train"].path.parent)
    checks = made.folder.record().checks
    assert checks.reopened.passed
    assert not checks.depends_on_batch

    texts = [
        "the cat was here",
        "the bread was red " * 8,
        "snow on the wind and rain here and there",
    ]
    predictor = Predictor(made.folder)
    together = predictor.predict(texts)["probability_food"]
    alone = [predictor.predict([text])["probability_food"][0] for text in texts]
    saved = AutoModelForSequenceClassification.from_pretrained(made.folder.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(made.folder.model)
    with torch.no_grad():
        plain = [
            saved(**tokenizer(t, return_tensors="pt")).logits.softmax(-1)[0, 1].item()
            for t in texts
        ]
    assert together.tolist() == pytest.approx(alone, abs=1e-4)
    assert together.tolist() == pytest.approx(plain, abs=1e-4)


@pytest.fixture
def modified(tiny_model: TinyModel, tmp_path: Path) -> Modify:
    """`modified(change)`: a BERT whose named tensors were replaced by `change`."""

    def make(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
        folder = shutil.copytree(tiny_model("bert"), tmp_path / "spoilt")
        file = folder / "model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        save_file(change(tensors), file, metadata={"format": "pt"})
        return folder

    return make


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("prefix", "origin"),
    [
        ("_orig_mod.", "torch.compile"),
        ("module.", "DistributedDataParallel"),
        ("module._orig_mod.bert.", "DistributedDataParallel"),
        ("encoder_model.", "a wrapper class"),
        ("_fsdp_wrapped_module.", "FullyShardedDataParallel"),
    ],
)
def test_prefixed_tensors(modified: Modify, toy_task: ToyTask, prefix: str, origin: str) -> None:
    folder = modified(lambda tensors: {prefix + name: x for name, x in tensors.items()})
    shown = prefix.removesuffix("bert.")
    with pytest.raises(ModelUnavailable, match="begin with") as refused:
        check(folder, toy_task())
    (issue,) = refused.value.issues
    assert repr(shown) in issue.message
    assert "bert.embeddings.LayerNorm.bias" in issue.message
    assert f"comes from {origin}" in (issue.hint or "")
    follow(issue.hint)
    check(folder, toy_task())


def test_unmerged_peft_model_has_a_hint(modified: Modify, toy_task: ToyTask) -> None:
    """With renamed tensors, the adapter would be missing."""
    folder = modified(lambda tensors: {f"base_model.model.{n}": x for n, x in tensors.items()})
    with pytest.raises(ModelUnavailable, match=r"comes from PEFT\. Merge the adapter") as refused:
        check(folder, toy_task())
    assert "rename" not in str(refused.value)


def follow(hint: str | None) -> None:
    """Run the code lines of a hint."""
    exec(textwrap.dedent((hint or "").partition("\n")[2]), {})


def test_prefixed_tensors_in_several_files(
    tiny_model: TinyModel, toy_task: ToyTask, tmp_path: Path
) -> None:
    folder = tmp_path / "sharded"
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model("bert"))
    AutoTokenizer.from_pretrained(tiny_model("bert")).save_pretrained(folder)
    model.save_pretrained(folder, max_shard_size="100KB")
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 1
    for file in files:
        tensors = {f"module.{name}": x for name, x in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    (index,) = folder.glob("*.index.json")
    content = json.loads(index.read_text())
    content["weight_map"] = {f"module.{k}": v for k, v in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    with pytest.raises(ModelUnavailable, match="begin with 'module") as refused:
        check(folder, toy_task())
    follow(refused.value.issues[0].hint)
    check(folder, toy_task())


@pytest.mark.parametrize("part", ["_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrapped_layers(modified: Modify, toy_task: ToyTask, part: str) -> None:
    def wrapped(tensors: dict[str, Any]) -> dict[str, Any]:
        return {re.sub(r"(layer\.\d+\.)", rf"\g<1>{part}.", n): x for n, x in tensors.items()}

    folder = modified(wrapped)
    with pytest.raises(ModelUnavailable, match=f"contain '{part}") as refused:
        check(folder, toy_task())
    follow(refused.value.issues[0].hint)
    check(folder, toy_task())


def test_unexpected_tensors_are_named(modified: Modify, toy_task: ToyTask) -> None:
    old = "encoder.layer.1.output.dense.weight"
    folder = modified(lambda t: {n.replace(old, f"{old}_orig"): x for n, x in t.items()})
    with pytest.raises(ModelUnavailable, match=rf"The file has {old}_orig instead"):
        check(folder, toy_task())


def test_non_finite_weight(modified: Modify, toy_task: ToyTask) -> None:
    name = "encoder.layer.1.output.dense.weight"
    folder = modified(lambda t: {n: x * float("nan") if n == name else x for n, x in t.items()})
    with pytest.raises(ModelUnavailable, match=rf"NaN or infinite: bert\.{name}"):
        check(folder, toy_task())


def test_a_missing_weight(modified: Modify, toy_task: ToyTask) -> None:
    name = "encoder.layer.1.output.dense.weight"
    folder = modified(lambda tensors: {n: x for n, x in tensors.items() if n != name})
    with pytest.raises(ModelUnavailable, match=rf"1 of the model's \d+ weights is not .*{name}"):
        check(folder, toy_task())


def test_unused_weight(tiny_model: TinyModel, toy_task: ToyTask, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model("bert"), tmp_path / "shorter")
    change_config(folder, num_hidden_layers=2)
    with pytest.raises(ModelUnavailable, match=r"does not have: encoder\.layer\.2"):
        check(folder, toy_task())


def test_unused_heads_are_allowed(modified: Modify, toy_task: ToyTask) -> None:
    """These are heads of the pretraining, and a head for another number of labels."""
    extra = {
        "cls.predictions.bias": torch.zeros(3),
        "classifier.weight": torch.zeros(7, 64),
        "classifier.bias": torch.zeros(7),
    }
    check(modified(lambda t: {**{f"bert.{n}": x for n, x in t.items()}, **extra}), toy_task())


@pytest.mark.parametrize("key", ["vocab_size", "max_position_embeddings"])
def test_weights_of_another_shape(
    tiny_model: TinyModel, toy_task: ToyTask, tmp_path: Path, key: str
) -> None:
    folder = shutil.copytree(tiny_model("bert"), tmp_path / "resized")
    size = json.loads((folder / "config.json").read_text())[key]
    change_config(folder, **{key: 3 * size})
    with pytest.raises(ModelUnavailable, match=rf"{size} × 64 in the file but {3 * size}") as found:
        check(folder, toy_task())
    assert f"change {key} from {3 * size} to {size}" in str(found.value)


def test_saved_model_without_weights(run_toy: RunToy) -> None:
    made = run_toy("full", epochs=1, max_length=64)
    file = made.folder.model / "model.safetensors"
    kept = {name: x for name, x in load_file(file).items() if not name.startswith("classifier")}
    save_file({name: x.clone() for name, x in kept.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=r"classifier\.bias, classifier\.weight"):
        Predictor(made.folder)


def test_commands_fail_before_training(
    tuneoff: Any, modified: Modify, toy_csv: Callable[..., Path], tmp_path: Path
) -> None:
    folder = modified(lambda tensors: {f"_orig_mod.{name}": x for name, x in tensors.items()})
    out = tmp_path / "study"
    data = ("--train", toy_csv(60), "--methods", "full", "--seeds", 1, "--out", out)
    ended = tuneoff("compare", "--model", folder, *data)
    assert ended.code == 2
    assert "_orig_mod." in ended.err
    assert not (out / "runs").exists()

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<user>", "<url>"])
    tokenizer.save_pretrained(folder)
    ended = tuneoff("compare", "--model", folder, *data)
    assert ended.code == 2
    assert "the tokenizer has 30 token ids" in ended.err.replace("\n", " ")


def test_earlier_checks_can_be_read() -> None:
    old = TypeAdapter(Checks).validate_python({"unchanged": [], "changed": []})
    assert old.alone is None
    assert not old.depends_on_batch
    apart = replace(old, alone=LogitDifference(4, 2.5, 2e-3))
    assert "predictions depend on the other rows" in apart.problems[0]


@pytest.mark.parametrize(
    ("settings", "spread"),
    [({"initializer_range": 0.5, "init_std": 0.1}, 0.5), ({"init_std": 0.1}, 0.1), ({}, 0.02)],
)
def test_standard_deviation_of_new_weights(settings: dict[str, float], spread: float) -> None:
    """BART, XLM and FlauBERT name the setting `init_std`, and some architectures have none."""
    assert _initial_spread(SimpleNamespace(**settings)) == spread
