"""A saved model opens in a new process with Transformers or PEFT alone, with equal logits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tuneoff.engine.model.saved import load_trained
from tuneoff.methods import method
from tuneoff.methods.base import Method

RunToy = Callable[..., Any]
TinyModel = Callable[[str], Path]

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="the extra 'qlora' is not installed"
)

# Code of a user without tuneoff, with only the folder. It computes the probabilities of single
# texts, so that no padding is needed.
OPENER = """
import json, sys
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer
for line in sys.stdin:
    folder, adapter, texts = json.loads(line)
    kind = AutoPeftModelForSequenceClassification if adapter else AutoModelForSequenceClassification
    model = kind.from_pretrained(folder).eval()
    assert all(p.dtype == torch.float32 for p in model.parameters())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [model(**tokenizer(*t, return_tensors="pt")).logits.softmax(-1)[0] for t in texts]
    assert not any(name.split(".")[0] == "tuneoff" for name in sys.modules)
    print(json.dumps([model.config.id2label, torch.stack(rows).tolist()]), flush=True)
"""

OpenElsewhere = Callable[[Path, list[tuple[str, ...]]], tuple[dict[str, str], Any]]


@pytest.fixture(scope="module")
def open_elsewhere() -> Iterator[OpenElsewhere]:
    """Predict with saved folders in a process without tuneoff.

    One process is used for all folders, because it takes seconds to start.
    """
    with subprocess.Popen(
        [sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(folder: Path, texts: list[tuple[str, ...]]) -> tuple[dict[str, str], Any]:
            adapter = (folder / "adapter_config.json").is_file()
            print(json.dumps([str(folder), adapter, texts]), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            assert answer, "the process ended; its error stands above"
            id2label, probabilities = json.loads(answer)
            return id2label, np.array(probabilities)

        yield ask
        process.stdin.close()


def recorded_rows(made: Any, split: str = "test") -> tuple[list[tuple[str, ...]], Any]:
    found = made.task.splits[split]
    pairs = found.pairs()
    texts = (
        [(t,) for t in found.texts()]
        if pairs is None
        else list(zip(found.texts(), pairs, strict=True))
    )
    table = made.folder.predictions()
    table = table[table["split"] == split]
    columns = [f"probability_{label}" for label in made.task.labels]
    return texts, table[columns].to_numpy()


CASES = [
    ("full", "bert"),
    ("head", "bert"),
    ("partial", "roberta"),
    ("baseline", "bert"),
    ("lora", "bert"),
    ("lora", "distilbert"),
    ("lora", "mpnet"),
    ("ia3", "roberta"),
]


@pytest.mark.parametrize(("name", "architecture"), CASES)
def test_opens_with_transformers_or_peft_alone(
    run_toy: RunToy, open_elsewhere: OpenElsewhere, name: str, architecture: str
) -> None:
    made = run_toy(name, architecture, epochs=2)
    assert made.record.status == "finished", made.record.error
    texts, recorded = recorded_rows(made)
    id2label, answered = open_elsewhere(made.folder.model, texts)
    assert id2label == {str(i): label for i, label in enumerate(made.task.labels)}
    assert recorded.std() > 0.01
    np.testing.assert_allclose(answered, recorded, atol=2e-5)


def test_pairs_and_bf16(
    run_toy: RunToy, toy_task: Callable[..., Any], open_elsewhere: OpenElsewhere
) -> None:
    made = run_toy("lora", "bert", task=toy_task("bert", pairs=True), precision="bf16")
    assert made.record.status == "finished", made.record.error
    texts, recorded = recorded_rows(made)
    assert len(texts[0]) == 2
    _, answered = open_elsewhere(made.folder.model, texts)
    np.testing.assert_allclose(answered, recorded, atol=0.1)
    assert np.abs(answered - recorded).mean() < 0.02


def bare(name: str) -> str:
    """Return a weight's name without the wrappers of PEFT."""
    for part in ("base_model.model.", "base_layer.", "modules_to_save.default."):
        name = name.replace(part, "")
    return name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("full", ("",)),
        ("partial", ("bert.encoder.layer.1.", "bert.encoder.layer.2.", "bert.pooler.", "class")),
        ("head", ("bert.pooler.", "classifier.")),
        ("baseline", ()),
    ],
)
def test_only_trainable_weights_have_changed(
    run_toy: RunToy,
    tiny_model: TinyModel,
    name: str,
    trained: tuple[str, ...],
    precision: str,
) -> None:
    """Frozen weights are saved unchanged, bit for bit, even if the run used fewer bits."""
    made = run_toy(name, "bert", epochs=1, precision=precision)
    assert made.record.status == "finished", made.record.error
    before = load_file(tiny_model("bert") / "model.safetensors")
    after = load_file(made.folder.model / "model.safetensors")
    assert all(value.dtype == torch.float32 for value in after.values())
    for key, value in before.items():
        saved = after[f"bert.{key}"]
        if f"bert.{key}".startswith(trained):
            assert not torch.equal(saved, value), key
        else:
            assert torch.equal(saved, value), key
    assert set(after) == {f"bert.{key}" for key in before} | {
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize(("name", "kind"), [("lora", "lora_"), ("ia3", "ia3_l")])
def test_adapter_folder_has_adapter_and_head(run_toy: RunToy, name: str, kind: str) -> None:
    made = run_toy(name, "bert", epochs=1)
    saved = load_file(made.folder.model / "adapter_model.safetensors")
    assert all(
        kind in key or bare(key).startswith(("bert.pooler", "classifier")) for key in saved
    ), sorted(saved)
    assert sum(v.numel() for v in saved.values()) == made.record.parameters.trainable
    assert all(value.dtype == torch.float32 for value in saved.values())
    # The weights of the base model are linked, not copied.
    link = made.folder.model / "base" / "model.safetensors"
    assert link.is_symlink()
    assert link.resolve() == (made.model / "model.safetensors").resolve()


def load_again(made: Any, dtype: torch.dtype = torch.float32) -> Any:
    chosen: Method = method(made.record.method.method)
    return load_trained(
        made.folder.model, quantized=chosen.quantized, dtype=dtype, device=torch.device("cpu")
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["full", "baseline", "lora", "ia3"])
def test_logits_are_equal_in_the_same_precision(run_toy: RunToy, name: str, precision: str) -> None:
    from tuneoff.engine.model.precision import DTYPES
    from tuneoff.engine.training.predict import predict

    made = run_toy(name, "bert", epochs=1, precision=precision)
    classifier = load_again(made, DTYPES[precision])
    _, recorded = recorded_rows(made)
    answered = predict(classifier, made.task.splits["test"], torch.device("cpu"))
    np.testing.assert_array_equal(answered, recorded)


def test_folder_is_replaced_atomically(run_toy: RunToy) -> None:
    made = run_toy("head", "bert", epochs=1)
    (made.folder.model / "leftover").write_text("of an earlier run")
    again = run_toy("head", "bert", task=made.task, epochs=1)
    assert again.folder.model == made.folder.model
    assert not (again.folder.model / "leftover").exists()
    assert {p.name for p in again.folder.path.iterdir()} == {
        ".sample.safetensors",  # for the process that compares the saved model with the run
        "history.jsonl",
        "model",
        "predictions.parquet",
        "record.json",
        "spec.json",
    }


@needs_bitsandbytes
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_qlora(run_toy: RunToy, open_elsewhere: OpenElsewhere, precision: str) -> None:
    from bitsandbytes.nn import Linear4bit

    from tuneoff.engine.model.precision import DTYPES
    from tuneoff.engine.training.predict import predict

    made = run_toy("qlora", "bert", epochs=2, precision=precision)
    assert made.record.status == "finished", made.record.error
    classifier = load_again(made, DTYPES[precision])
    quantised = {bare(n) for n, m in classifier.model.named_modules() if isinstance(m, Linear4bit)}
    assert len(quantised) == 6 * 3  # all linear layers of the body
    assert not any(name.startswith(("bert.pooler", "classifier")) for name in quantised)
    texts, recorded = recorded_rows(made)
    answered = predict(classifier, made.task.splits["test"], torch.device("cpu"))
    np.testing.assert_allclose(answered, recorded, atol=1e-5)
    # PEFT alone opens it with the base model in full precision, which differs by NF4's rounding.
    id2label, plain = open_elsewhere(made.folder.model, texts)
    assert list(id2label.values()) == made.task.labels
    assert np.abs(plain - recorded).mean() < 0.2
    # 4-bit weights are counted as weights, not as bytes.
    lora = run_toy("lora", "bert", task=made.task, epochs=1)
    assert made.record.parameters == lora.record.parameters
    assert made.record.cost.memory["weights"] < lora.record.cost.memory["weights"]


@pytest.mark.parametrize(
    ("name", "opener"),
    [
        ("full", "transformers.AutoModelForSequenceClassification"),
        ("lora", "peft.AutoPeftModelForSequenceClassification"),
        ("adapter", "tuneoff.load"),
    ],
)
def test_model_card(run_toy: Any, name: str, opener: str) -> None:
    made = run_toy(name, epochs=1)
    card = (made.folder.model / "README.md").read_text(encoding="utf-8")
    assert f"# Text classifier trained with `{name}`" in card
    assert f"**Base model**: `{made.model}`" in card
    assert "`animals`, `food`, `weather`" in card
    assert f"**Open with**: `{opener}" in card
    assert "More Information Needed" not in card
