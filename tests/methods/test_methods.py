"""Trainable parameters of each method, for real model sizes and by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from tuneoff.engine.measure.parameters import count_parameters
from tuneoff.engine.model.architecture import describe
from tuneoff.engine.model.load import PreparedModel, _set_head, counted_parameters
from tuneoff.exceptions import BadInput
from tuneoff.methods import method, parse_config
from tuneoff.results.record import Parameters

LoadTiny = Callable[..., PreparedModel]
BERT: dict[str, Any] = {}
DISTILBERT: dict[str, Any] = {}
ROBERTA = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}


def counted(
    model_type: str, sizes: dict[str, Any], name: str, config: dict[str, Any]
) -> Parameters:
    """From the configuration alone: no weight is allocated."""
    chosen = method(name)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(model_type, num_labels=2, **sizes)
        )
        architecture = describe(model)
        assert chosen.apply is not None
        trained = chosen.apply(model, architecture, parse_config(chosen, config))
        _set_head(trained, architecture, chosen.trains_head)
    return count_parameters(trained, architecture)


QKV = {"rank": 8, "alpha": 32, "targets": ["query", "key", "value"]}


@pytest.mark.parametrize(
    ("model_type", "sizes", "name", "config", "trainable", "total"),
    [
        ("distilbert", DISTILBERT, "full", {}, 66_955_010, 66_955_010),
        ("distilbert", DISTILBERT, "weighted", {}, 66_955_010, 66_955_010),
        # PEFT itself counts 67,768,324, because it counts the head twice.
        ("distilbert", DISTILBERT, "lora", QKV, 813_314, 66_955_010 + 221_184),
        ("distilbert", DISTILBERT, "head", {}, 592_130, 66_955_010),
        ("distilbert", DISTILBERT, "baseline", {}, 0, 66_955_010),
        ("roberta", ROBERTA, "full", {}, 124_647_170, 124_647_170),
        ("roberta", ROBERTA, "ia3", {}, 647_426, 124_647_170 + 12 * (2 * 768 + 3072)),
        # 12 layers of 7,087,872 weights; the pooler is part of the head.
        ("bert", BERT, "partial", {"k": 2}, 2 * 7_087_872 + 592_130, 109_483_778),
        ("bert", BERT, "full", {}, 109_483_778, 109_483_778),
        ("bert", BERT, "lora", {"rank": 8}, 1_327_104 + 592_130, 109_483_778 + 1_327_104),
    ],
)
def test_parameters_of_real_sizes(
    model_type: str,
    sizes: dict[str, Any],
    name: str,
    config: dict[str, Any],
    trainable: int,
    total: int,
) -> None:
    found = counted(model_type, sizes, name, config)
    assert (found.trainable, found.total) == (trainable, total)
    assert found.trainable_body + found.trainable_head == trainable
    assert found.trainable_percent == pytest.approx(100 * trainable / total)
    if name != "baseline":
        heads = {"roberta": 592_130, "bert": 592_130, "distilbert": 592_130}
        assert found.trainable_head == heads[model_type]


def trainable_names(load_tiny: LoadTiny, *asked: str, **config: Any) -> set[str]:
    prepared = load_tiny(*asked, dtype=torch.bfloat16, **config)
    classifier, masters = prepared.classifier, prepared.masters
    named = counted_parameters(classifier.model)
    trained = {name for name, parameter in named.items() if parameter.requires_grad}
    assert set(masters) == trained
    for name, master in masters.items():
        assert master.dtype == torch.float32
        assert torch.equal(master.to(named[name].dtype), named[name])
    return trained


HEADS = {
    "bert": ("bert.pooler", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "roberta": ("classifier",),
    "electra": ("classifier",),
    "mpnet": ("classifier",),
}


@pytest.mark.parametrize("architecture", HEADS)
def test_every_method_trains_the_same_head(load_tiny: LoadTiny, architecture: str) -> None:
    heads = HEADS[architecture]
    alone = trainable_names(load_tiny, "head", architecture)
    assert alone
    assert all(name.startswith(heads) for name in alone)
    for name in ("partial", "full", "lora", "ia3"):
        bare = {
            n.removeprefix("base_model.model.").replace("modules_to_save.default.", "")
            for n in trainable_names(load_tiny, name, architecture)
        }
        assert alone < bare, name
    assert trainable_names(load_tiny, "baseline", architecture) == set()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_partial_trains_the_last_layers(load_tiny: LoadTiny, k: int) -> None:
    trained = trainable_names(load_tiny, "partial", k=k)
    body = {n for n in trained if not n.startswith(("bert.pooler", "classifier"))}
    layers = {int(n.split(".")[3]) for n in body if n.startswith("bert.encoder.layer.")}
    assert layers == set(range(3 - k, 3))
    assert all(n.startswith("bert.encoder.layer.") for n in body)
    assert len(body) == 16 * k


def test_partial_with_too_many_layers_is_an_error(load_tiny: LoadTiny) -> None:
    with pytest.raises(BadInput, match="k is 4, but the bert encoder has 3 layers"):
        trainable_names(load_tiny, "partial", k=4)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "electra", "mpnet"])
def test_lora_finds_all_six_roles_in_every_layer(load_tiny: LoadTiny, architecture: str) -> None:
    trained = trainable_names(load_tiny, "lora", architecture)
    assert sum("lora_A" in name for name in trained) == 6 * 3
    assert sum("lora_B" in name for name in trained) == 6 * 3


def test_lora_uses_the_given_roles(load_tiny: LoadTiny) -> None:
    trained = trainable_names(load_tiny, "lora", targets=["query", "ffn_out"])
    modules = {n.split(".lora_A")[0].split("layer.")[1][2:] for n in trained if "lora_A" in n}
    assert modules == {"attention.self.query", "output.dense"}


def test_ia3_scales_keys_values_and_the_input_of_the_second_feedforward_layer(
    load_tiny: LoadTiny,
) -> None:
    shapes = {
        name.split("layer.0.")[1].split(".ia3")[0]: tuple(p.shape)
        for name, p in load_tiny("ia3").classifier.model.named_parameters()
        if "layer.0." in name and "ia3_l" in name
    }
    assert shapes == {
        "attention.self.key": (64, 1),
        "attention.self.value": (64, 1),
        "output.dense": (1, 128),  # input width 128, output width 64
    }


def test_layers_with_shared_weights_are_found() -> None:
    """ALBERT has one group of weights for all layers."""
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(
                "albert",
                hidden_size=32,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=64,
                num_labels=2,
            )
        )
        architecture = describe(model)
    assert architecture.layers == ("albert.encoder.albert_layer_groups.0",)
    for role in ("query", "key", "value", "attention_output", "ffn_in", "ffn_out"):
        assert len(architecture.linear(role)) == 1, role
