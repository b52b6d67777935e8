"""Each architecture agrees with Transformers' plain forward pass, or is refused by name."""

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
Spoil = Callable[[Callable[[dict[str, Any]], dict[str, Any]]], Path]

LABELS = ["animals", "food", "weather"]
PADDING = {
    **dict.fromkeys(("bert", "distilbert", "roberta", "xlm-roberta", "electra", "albert"), None),
    **dict.fromkeys(("mpnet", "deberta-v2", "modernbert", "llama"), "right"),
    **dict.fromkeys(("flaubert", "xlm", "bart", "roformer", "squeezebert", "longformer"), "right"),
    "xlnet": "left",
    **dict.fromkeys(("mobilebert", "funnel", "convbert", "fnet"), "none"),
}
"""How the texts of a batch are joined; None: without padding."""


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
def test_a_family_that_cannot_run_is_refused_by_name(
    tiny_model: TinyModel, toy_task: ToyTask, architecture: str
) -> None:
    with pytest.raises(ModelUnavailable, match=f"the {architecture} model cannot be run"):
        check(tiny_model(architecture), toy_task(architecture))


def test_a_family_that_lacks_a_precision(tiny_model: TinyModel, toy_task: ToyTask) -> None:
    check(tiny_model("bert"), toy_task("bert"), "bf16")
    with pytest.raises(ModelUnavailable, match="the fnet model in bf16 cannot be run") as refused:
        check(tiny_model("fnet"), toy_task("fnet"), "bf16")
    assert "--precision fp32" in str(refused.value)


def test_token_types_that_the_token_store_leaves_out(
    tiny_model: TinyModel, toy_task: ToyTask, tmp_path: Path
) -> None:
    """To XLM a token type of 0 is not the same as none."""
    folder = shutil.copytree(tiny_model("xlm"), tmp_path / "xlm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelUnavailable, match="cannot run the xlm model correctly"):
        check(folder, toy_task("xlm"))


def test_a_forward_pass_of_its_own_is_refused_by_name(
    tiny_model: TinyModel, toy_task: ToyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding on the right, whatever the model needs: as it was before the check."""
    monkeypatch.setattr(guard, "choose_padding", lambda *_, **__: "right")
    check(tiny_model("bart"), toy_task("bart"))
    with pytest.raises(ModelUnavailable, match="cannot run the xlnet model correctly"):
        check(tiny_model("xlnet"), toy_task("xlnet"))


@pytest.mark.parametrize("architecture", ["xlnet", "flaubert", "bart", "funnel", "fnet"])
def test_predictions_do_not_depend_on_other_rows(
    run_toy: RunToy, tiny_model: TinyModel, tmp_path: Path, architecture: str
) -> None:
    """From a classifier of the same labels in another order, whose output layer is drawn again."""
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
def spoilt(tiny_model: TinyModel, tmp_path: Path) -> Spoil:
    """`spoilt(change)`: a BERT whose tensors, by name, went through `change`."""

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
def test_prefixed_tensors(spoilt: Spoil, toy_task: ToyTask, prefix: str, origin: str) -> None:
    folder = spoilt(lambda tensors: {prefix + name: x for name, x in tensors.items()})
    shown = prefix.removesuffix("bert.")
    with pytest.raises(ModelUnavailable, match="begin with") as refused:
        check(folder, toy_task())
    (issue,) = refused.value.issues
    assert repr(shown) in issue.message
    assert "bert.embeddings.LayerNorm.bias" in issue.message
    assert f"comes from {origin}" in (issue.hint or "")
    follow(issue.hint)
    check(folder, toy_task())


def test_a_model_in_peft_s_wrapper_is_to_be_merged(spoilt: Spoil, toy_task: ToyTask) -> None:
    """Renamed tensors would be a model without its adapter."""
    folder = spoilt(lambda tensors: {f"base_model.model.{n}": x for n, x in tensors.items()})
    with pytest.raises(ModelUnavailable, match=r"comes from PEFT\. Merge the adapter") as refused:
        check(folder, toy_task())
    assert "rename" not in str(refused.value)


def follow(hint: str | None) -> None:
    """Run the lines of a hint."""
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
def test_wrapped_layers(spoilt: Spoil, toy_task: ToyTask, part: str) -> None:
    def wrapped(tensors: dict[str, Any]) -> dict[str, Any]:
        return {re.sub(r"(layer\.\d+\.)", rf"\g<1>{part}.", n): x for n, x in tensors.items()}

    folder = spoilt(wrapped)
    with pytest.raises(ModelUnavailable, match=f"contain '{part}") as refused:
        check(folder, toy_task())
    follow(refused.value.issues[0].hint)
    check(folder, toy_task())


def test_what_the_file_has_instead_is_told(spoilt: Spoil, toy_task: ToyTask) -> None:
    old = "encoder.layer.1.output.dense.weight"
    folder = spoilt(lambda t: {n.replace(old, f"{old}_orig"): x for n, x in t.items()})
    with pytest.raises(ModelUnavailable, match=rf"The file has {old}_orig instead"):
        check(folder, toy_task())


def test_a_weight_that_is_no_number(spoilt: Spoil, toy_task: ToyTask) -> None:
    name = "encoder.layer.1.output.dense.weight"
    folder = spoilt(lambda t: {n: x * float("nan") if n == name else x for n, x in t.items()})
    with pytest.raises(ModelUnavailable, match=rf"NaN or infinite: bert\.{name}"):
        check(folder, toy_task())


def test_a_missing_weight(spoilt: Spoil, toy_task: ToyTask) -> None:
    name = "encoder.layer.1.output.dense.weight"
    folder = spoilt(lambda tensors: {n: x for n, x in tensors.items() if n != name})
    with pytest.raises(ModelUnavailable, match=rf"1 of the model's \d+ weights is not .*{name}"):
        check(folder, toy_task())


def test_a_weight_without_a_place(tiny_model: TinyModel, toy_task: ToyTask, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model("bert"), tmp_path / "shorter")
    change_config(folder, num_hidden_layers=2)
    with pytest.raises(ModelUnavailable, match=r"does not have: encoder\.layer\.2"):
        check(folder, toy_task())


def test_parts_that_a_classifier_does_without(spoilt: Spoil, toy_task: ToyTask) -> None:
    """Heads of the pretraining, and a head for another number of labels."""
    extra = {
        "cls.predictions.bias": torch.zeros(3),
        "classifier.weight": torch.zeros(7, 64),
        "classifier.bias": torch.zeros(7),
    }
    check(spoilt(lambda t: {**{f"bert.{n}": x for n, x in t.items()}, **extra}), toy_task())


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


def test_a_saved_model_whose_weights_are_gone(run_toy: RunToy) -> None:
    made = run_toy("full", epochs=1, max_length=64)
    file = made.folder.model / "model.safetensors"
    kept = {name: x for name, x in load_file(file).items() if not name.startswith("classifier")}
    save_file({name: x.clone() for name, x in kept.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=r"classifier\.bias, classifier\.weight"):
        Predictor(made.folder)


def test_commands_end_before_training(
    tuneoff: Any, spoilt: Spoil, toy_csv: Callable[..., Path], tmp_path: Path
) -> None:
    folder = spoilt(lambda tensors: {f"_orig_mod.{name}": x for name, x in tensors.items()})
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


def test_old_checks_can_be_read() -> None:
    old = TypeAdapter(Checks).validate_python({"unchanged": [], "changed": []})
    assert old.alone is None
    assert not old.depends_on_batch
    apart = replace(old, alone=LogitDifference(4, 2.5, 2e-3))
    assert "predictions depend on the other rows" in apart.problems[0]


@pytest.mark.parametrize(
    ("settings", "spread"),
    [({"initializer_range": 0.5, "init_std": 0.1}, 0.5), ({"init_std": 0.1}, 0.1), ({}, 0.02)],
)
def test_new_weights_are_as_wide_as_the_family_has_them(
    settings: dict[str, float], spread: float
) -> None:
    """BART, XLM and FlauBERT call the setting `init_std`, and some families have none."""
    assert _initial_spread(SimpleNamespace(**settings)) == spread
