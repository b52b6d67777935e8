"""Models that read a key-value cache are detected by trial, whatever the argument's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoConfig, AutoModelForSequenceClassification

from tuneoff.engine.model.kv_cache import cache_argument, pass_prefix

TinyModel = Callable[[str], Path]


def outline(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize(
    ("architecture", "reads"),
    [
        *((name, True) for name in ("bert", "roberta", "xlm-roberta", "electra", "llama")),
        *((name, False) for name in ("distilbert", "albert", "mpnet", "deberta-v2", "modernbert")),
        *((name, False) for name in ("mobilebert", "funnel")),
    ],
)
def test_models_that_read_a_cache(tiny_model: TinyModel, architecture: str, reads: bool) -> None:
    found = cache_argument(outline(AutoConfig.from_pretrained(tiny_model(architecture))))
    assert (found is not None) == reads


@pytest.mark.parametrize("architecture", ["flaubert", "xlm"])
def test_cache_argument_with_another_purpose(architecture: str) -> None:
    """The `cache` of these models has another purpose: its tokens are not part of the input."""
    config = AutoConfig.for_model(architecture, emb_dim=64, n_layers=2, n_heads=4, vocab_size=40)
    assert cache_argument(outline(config)) is None


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_saved_prefix_opens_as_its_model_card_says(
    run_toy: Callable[..., Any], architecture: str
) -> None:
    made = run_toy("prefix", architecture, epochs=1)
    assert made.record.status == "finished", made.record.error
    card = (made.folder.model / "README.md").read_text(encoding="utf-8")
    model = AutoPeftModelForSequenceClassification.from_pretrained(made.folder.model).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3).long()}
    needed = "**Open with**: `tuneoff.load" in card
    if needed:
        with pytest.raises(ValueError, match="past key values"):
            model(**inputs)
    assert pass_prefix(model) == needed
    assert pass_prefix(model) == needed  # nothing is renamed twice
    prefixed = model(**inputs).logits
    base = model.get_base_model()
    assert not torch.allclose(base(**inputs).logits, prefixed)


def test_model_without_prefix_is_unchanged(load_tiny: Callable[..., Any]) -> None:
    assert not pass_prefix(load_tiny("lora").classifier.model)
    assert not pass_prefix(load_tiny("full").classifier.model)
