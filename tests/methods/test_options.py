"""Settings of the methods: targets, layers, ranks, budgets, parameter groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from tuneoff.engine.measure.parameters import count_parameters
from tuneoff.engine.model.architecture import EncoderArchitecture, describe
from tuneoff.engine.model.load import PreparedModel, _set_head, check_fits
from tuneoff.exceptions import BadInput
from tuneoff.methods import method, parse_config
from tuneoff.results.record import Parameters

TinyModel = Callable[..., Path]
LoadTiny = Callable[..., PreparedModel]
RunToy = Callable[..., Any]
ROBERTA = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}


def adapted(prepared: PreparedModel) -> dict[str, int]:
    """Return the rank of each adapted module, without the common prefix of the layers."""
    return {
        name.split("layer.")[1].split(".lora_A")[0]: weight.shape[0]
        for name, weight in prepared.masters.items()
        if ".lora_A." in name
    }


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        ("all", {0, 1, 2}),
        ("last 2", {1, 2}),
        ("first 1", {0}),
        ("0-1", {0, 1}),
        ("0,2", {0, 2}),
        ("0, 1-2", {0, 1, 2}),
        (1, {1}),
    ],
)
def test_layers(load_tiny: LoadTiny, layers: str | int, chosen: set[int]) -> None:
    found = adapted(load_tiny("lora", layers=layers, targets=["query"]))
    assert {int(name.split(".")[0]) for name in found} == chosen


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layers": "last 4"}, "layers is 'last 4', but the bert encoder has 3 layers"),
        ({"layers": "2-3"}, "layers is '2-3', but the bert encoder has 3 layers, counted from 0"),
        ({"layers": "2-1"}, "layers is '2-1'"),
        ({"targets": ["Wqkv"]}, "'Wqkv' is neither a role nor a linear layer of this model"),
        (
            {"rank_pattern": {"ffn_in": 4}, "targets": ["query"]},
            "'ffn_in' is not among the targets",
        ),
    ],
)
def test_targets_missing_in_the_model_are_an_error(
    tiny_model: TinyModel, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        check_fits(tiny_model("bert"), "lora", config, ["a", "b"], longest=9)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layers": "the last"}, "layers must be 'all'"),
        ({"targets": ["quary"]}, "'quary' is not a role. Did you mean 'query'"),
        ({"budget": "4.67"}, "budget must be a percentage"),
        ({"budget": "4.67%", "rank_pattern": {"query": 2}}, "cannot be combined with rank_pattern"),
        ({"rank_pattern": {"query": 0}}, "rank must be at least 1"),
        ({"init": "orthogonal", "rank": 3}, "needs an even rank"),
        ({"alpha": 0}, "alpha must be positive"),
    ],
)
def test_contradictory_settings(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_config(method("lora"), config)


def test_targets_by_suffix_of_module_name(load_tiny: LoadTiny) -> None:
    found = adapted(load_tiny("lora", targets=["self.query", "intermediate.dense"]))
    assert set(found) == {
        f"{i}.{name}" for i in range(3) for name in ("attention.self.query", "intermediate.dense")
    }


def test_rank_pattern(load_tiny: LoadTiny) -> None:
    made = load_tiny("lora", targets=["query", "value"], rank_pattern={"value": 2}, rank=4)
    ranks = {
        n.split("self.")[1].split(".")[0]: w.shape[0]
        for n, w in made.masters.items()
        if ".lora_A." in n
    }
    assert ranks == {"query": 4, "value": 2}
    scales = {
        name.rsplit(".", 1)[-1]: module.scaling["default"]
        for name, module in made.classifier.model.named_modules()
        if isinstance(getattr(module, "scaling", None), dict)
    }
    assert scales == {"query": 2.0, "value": 2.0}  # alpha is twice the rank by default


def test_trainable_biases(load_tiny: LoadTiny) -> None:
    named = {b: set(load_tiny("lora", bias=b).masters) for b in ("none", "lora_only", "all")}
    extra = named["lora_only"] - named["none"]
    assert len(extra) == 18
    assert all(name.endswith("base_layer.bias") for name in extra)
    assert any("LayerNorm.bias" in name for name in named["all"] - named["lora_only"])


def test_partial_with_embeddings(load_tiny: LoadTiny) -> None:
    more = set(load_tiny("partial", k=1, embeddings=True).masters)
    more -= set(load_tiny("partial", k=1).masters)
    assert more
    assert all(name.startswith("bert.embeddings.") for name in more)


def counted(model_type: str, sizes: dict[str, Any], name: str, **config: Any) -> Parameters:
    """From the configuration alone: no weight is allocated."""
    trained, architecture = outline(model_type, sizes, name, **config)
    return count_parameters(trained, architecture)


def outline(
    model_type: str, sizes: dict[str, Any], name: str, **config: Any
) -> tuple[Any, EncoderArchitecture]:
    chosen = method(name)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(model_type, num_labels=2, **sizes)
        )
        architecture = describe(model)
        assert chosen.apply is not None
        trained = chosen.apply(model, architecture, parse_config(chosen, config))
        _set_head(trained, architecture, chosen.trains_head)
    return trained, architecture


def test_published_counts() -> None:
    """Counts of reports R3 and R5; both figures if a head of another size was trained."""
    qkv, qv = ["query", "key", "value"], ["query", "value"]
    assert counted("distilbert", {}, "lora", rank=8, targets=qkv).trainable == 813_314
    assert counted("roberta", ROBERTA, "lora", rank=16, targets=qkv).trainable == 1_476_866
    assert counted("roberta", ROBERTA, "ia3").trainable == 647_426
    # R5's QLoRA trained only the head's output projection; here every method trains the whole head.
    trained, architecture = outline("roberta", ROBERTA, "qlora", rank=8, targets=qv)
    found = count_parameters(trained, architecture)
    output = sum(
        p.numel()
        for n, p in trained.named_parameters()
        if "out_proj" in n and "classifier" in n and p.requires_grad
    )
    assert found.trainable_body + output == 296_450
    assert found.trainable == 294_912 + 592_130


@pytest.mark.parametrize("targets", [["query", "value"], None])
@pytest.mark.parametrize("percent", [4.67, 1.0, 20.0])
def test_budget(percent: float, targets: list[str] | None) -> None:
    config = {"targets": targets} if targets else {}
    found = counted("bert", {}, "lora", budget=f"{percent}%", **config)
    assert found.trainable_percent == pytest.approx(percent, abs=0.05)


def test_budget_below_rank_1_is_an_error() -> None:
    with pytest.raises(BadInput, match=r"rank 1 and the head need 0\.69%"):
        counted("bert", {}, "lora", budget="0.5%")


@pytest.mark.parametrize("name", ["lora", "rslora", "lora_fa", "qlora"])
def test_run_keeps_the_budget(run_toy: RunToy, name: str) -> None:
    made = run_toy(name, config={"budget": "12%"}, epochs=1)
    assert made.record.status == "finished", made.record.error
    if name != "lora_fa":  # half of its budget is frozen
        assert made.record.parameters.trainable_percent == pytest.approx(12, abs=0.3)


def test_lora_plus_learning_rates(load_tiny: LoadTiny) -> None:
    made = load_tiny("lora_plus", ratio=4.0, bias="all")
    for matrix, rate in (("A", 0.5), ("B", 2.0)):
        ran = {n for n, group in made.param_groups.items() if group.rate == pytest.approx(rate)}
        assert ran == {n for n in made.masters if f".lora_{matrix}." in n} != set()
    assert {group.rate for n, group in made.param_groups.items() if n.endswith("bias")} == {1.0}
    assert not any("classifier" in name or "pooler" in name for name in made.param_groups)


def test_layer_decay_and_gradual_unfreezing(load_tiny: LoadTiny) -> None:
    param_groups = load_tiny("full", layer_decay=0.5, unfreeze="gradual").param_groups
    by_place = {
        "bert.encoder.layer.2.output.dense.weight": (0.5, 1 / 5),
        "bert.encoder.layer.0.output.dense.weight": (0.125, 3 / 5),
        "bert.embeddings.word_embeddings.weight": (0.0625, 4 / 5),
    }
    for name, (rate, start) in by_place.items():
        assert param_groups[name].rate == pytest.approx(rate)
        assert param_groups[name].start == pytest.approx(start)
    plain = load_tiny("full").param_groups
    assert {(group.rate, group.start) for group in plain.values()} == {(1.0, 0.0)}


def test_gradual_unfreezing_finally_trains_all_layers(run_toy: RunToy) -> None:
    made = run_toy("full", config={"unfreeze": "gradual"}, epochs=5)
    assert made.record.status == "finished", made.record.error
    assert made.record.checks.unchanged == []
    assert made.record.best_epoch is not None


def test_adalora_changes_its_ranks(run_toy: RunToy) -> None:
    from safetensors.torch import load_file

    # Ranks are final after the first of six epochs, of three steps each.
    config = {"init_rank": 6, "rank": 3, "warmup": 0.05, "settle": 0.85, "interval": 1}
    made = run_toy("adalora", config=config, epochs=6, learning_rate=8e-3)
    assert made.record.status == "finished", made.record.error
    saved = load_file(made.folder.model / "adapter_model.safetensors")
    ranks = [len(value) for name, value in saved.items() if name.endswith("lora_E")]
    assert len(ranks) == 18
    assert made.record.checks.problems == []
    assert len(set(ranks)) > 1  # some layers kept higher ranks than others
    assert sum(ranks) <= 3 * 18 + sum(rank == 1 for rank in ranks)


def test_pissa_starts_at_the_base_model(load_tiny: LoadTiny) -> None:
    """The principal part moves from the weight into the adapter; their sum is unchanged."""
    model = load_tiny("pissa", rank=4).classifier.model
    plain = load_tiny("head").classifier.model
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    whole = plain.bert.encoder.layer[0].attention.self.query.weight
    assert not torch.allclose(layer.base_layer.weight, whole, atol=1e-3)
    together = layer.base_layer.weight + layer.get_delta_weight("default")
    torch.testing.assert_close(together, whole, atol=1e-5, rtol=0)


def test_untrained_adapter_adds_nothing(load_tiny: LoadTiny) -> None:
    for placement, blocks in (("houlsby", 6), ("pfeiffer", 3)):
        model = load_tiny("adapter", placement=placement).classifier.model
        ups = [w for name, w in model.named_parameters() if name.endswith("bottleneck.2.weight")]
        assert len(ups) == blocks
        assert not any(w.any() for w in ups)


def test_peft_method_accepts_peft_settings(load_tiny: LoadTiny) -> None:
    made = load_tiny("peft", config={"peft_type": "LORA", "r": 3}, targets=["query"])
    assert set(adapted(made).values()) == {3}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "LORRA"}, "unknown peft_type 'LORRA'"),
        ({"peft_type": "LORA", "rank": 3}, "LORA has no setting 'rank'"),
        ({"peft_type": "OFT", "r": 3, "oft_block_size": 7}, "peft: OFT cannot be built"),
    ],
)
def test_peft_method_reports_peft_errors(
    tiny_model: TinyModel, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        check_fits(tiny_model("bert"), "peft", {"config": config}, ["a", "b"], longest=9)


def test_virtual_tokens_and_maximum_length(tiny_model: TinyModel) -> None:
    path = tiny_model("bert")  # of 128 positions
    check_fits(path, "prompt", {"tokens": 20}, ["a", "b"], longest=108)
    with pytest.raises(
        BadInput, match="leave room for 108 tokens of a text, but the longest text has 109"
    ):
        check_fits(path, "prompt", {"tokens": 20}, ["a", "b"], longest=109)
    check_fits(tiny_model("llama"), "prompt", {"tokens": 20}, ["a", "b"], longest=500)


@pytest.mark.parametrize("skipped", [(), (6,), (6, 7)])
def test_adalora_reduces_ranks_if_that_step_is_skipped(
    load_tiny: Any, skipped: tuple[int, ...]
) -> None:
    """The hook is not called for a step that overflows in fp16; the sixth of ten reduces ranks."""
    prepared = load_tiny(
        "adalora", rank=1, init_rank=8, warmup=0.1, settle=0.4, interval=3, orthogonal=0.0
    )
    hook, masters = prepared.hook, prepared.masters
    hook.begin(10)
    draw = torch.Generator().manual_seed(0)
    vectors = [w for name, w in masters.items() if ".lora_E." in name]
    kept = []
    for step in range(1, 11):
        for name, weight in masters.items():
            if ".lora_" in name:
                weight.data.copy_(torch.randn(weight.shape, generator=draw))
                weight.grad = torch.randn(weight.shape, generator=draw)
        if step not in skipped:
            hook.after_step(step, masters)
            kept.append(torch.cat([vector != 0 for vector in vectors]).flatten().tolist())
    assert 0 < sum(kept[-1]) <= len(vectors)  # a mean rank of 1
    after = kept[5:]  # the reduction and the steps after it
    assert all(ranks == after[0] for ranks in after)  # the ranks no longer change
