"""Logits and gradients without padding equal those of Transformers with padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

from tuneoff.engine.data.batches import Batch
from tuneoff.engine.kernels.packed_forward import Classifier, unwrapped
from tuneoff.engine.model.load import PreparedModel

PACKED = ["bert", "distilbert", "electra", "roberta", "xlm-roberta"]
LoadTiny = Callable[..., PreparedModel]
Twins = Callable[[str], tuple[Classifier, Any]]


def make_batch(lengths: Sequence[int], *, types: bool = False, seed: int = 0) -> Batch:
    draw = np.random.default_rng(seed)
    ids = [draw.integers(4, 24, n) for n in lengths]
    return Batch(
        rows=np.arange(len(lengths)),
        lengths=list(lengths),
        input_ids=torch.from_numpy(np.concatenate(ids)),
        position_ids=torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])),
        token_type_ids=torch.from_numpy(
            np.concatenate([np.arange(n) >= (n + 1) // 2 for n in lengths]).astype(np.int64)
        )
        if types
        else None,
        labels=torch.arange(len(lengths)) % 3,
        weights=torch.ones(len(lengths)),
    )


@pytest.fixture
def twins(tiny_model: Callable[[str], Path], load_tiny: LoadTiny) -> Twins:
    """`twins("bert")`: tuneoff's model, and an unmodified Transformers model with its weights."""

    def make(architecture: str) -> tuple[Classifier, Any]:
        classifier = load_tiny("full", architecture).classifier
        inner = unwrapped(classifier.model)
        twin = AutoModelForSequenceClassification.from_pretrained(
            tiny_model(architecture),
            num_labels=inner.config.num_labels,
            attn_implementation="eager",
        )
        twin.load_state_dict(inner.state_dict())
        return classifier.eval(), twin.eval()

    return make


def padded_logits(model: Any, batch: Batch) -> torch.Tensor:
    pad = model.config.pad_token_id
    shape = (len(batch.lengths), max(batch.lengths))
    ids, mask = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long)
    types = torch.zeros(shape, dtype=torch.long)
    start = 0
    for i, n in enumerate(batch.lengths):
        ids[i, :n], mask[i, :n] = batch.input_ids[start : start + n], 1
        if batch.token_type_ids is not None:
            types[i, :n] = batch.token_type_ids[start : start + n]
        start += n
    inputs = {"input_ids": ids, "attention_mask": mask}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = types
    logits: torch.Tensor = model(**inputs).logits
    return logits


LENGTHS = {
    "one": [7],
    "equal": [8, 8, 8],
    "mixed": [3, 4, 9, 17, 40, 41],
    "unsorted": [40, 3, 17, 4],
    "several groups": [3] * 30 + [30, 60, 120, 120],
    "longest": [1, 128],
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("architecture", [*PACKED, "mpnet"])
def test_logits_equal_those_of_the_padded_model(
    twins: Twins, architecture: str, lengths: list[int]
) -> None:
    classifier, twin = twins(architecture)
    assert classifier.packs == (architecture != "mpnet")
    batch = make_batch(lengths)
    with torch.no_grad():
        ours, theirs = classifier(batch), padded_logits(twin, batch)
    assert ours.dtype == torch.float32
    assert theirs.std() > 0.01  # otherwise the comparison would be meaningless
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("architecture", ["bert", "electra"])
def test_token_types_equal_those_of_the_padded_model(twins: Twins, architecture: str) -> None:
    classifier, twin = twins(architecture)
    batch = make_batch([5, 12, 33], types=True)
    with torch.no_grad():
        ours = classifier(batch)
        torch.testing.assert_close(ours, padded_logits(twin, batch), rtol=1e-4, atol=2e-5)
        assert (ours - classifier(replace(batch, token_type_ids=None))).abs().max() > 0.01


@pytest.mark.parametrize("architecture", PACKED)
def test_gradients_equal_those_of_the_padded_model(twins: Twins, architecture: str) -> None:
    classifier, twin = twins(architecture)
    batch = make_batch([3, 4, 9, 17, 40, 64], types=architecture in ("bert", "electra"))
    F.cross_entropy(classifier(batch), batch.labels).backward()
    F.cross_entropy(padded_logits(twin, batch), batch.labels).backward()
    expected = dict(twin.named_parameters())
    # Some gradients are 0 except for rounding, for example those of the keys' biases.
    largest = max(float(p.grad.abs().max()) for p in expected.values() if p.grad is not None)
    compared = 0
    for name, parameter in classifier.model.named_parameters():
        gradient = expected[name].grad
        if gradient is None:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6 * largest)
        compared += 1
    assert compared >= 50


@pytest.mark.parametrize("architecture", [*PACKED, "mpnet"])
def test_texts_of_a_row_are_independent(load_tiny: LoadTiny, architecture: str) -> None:
    """Any other attention would mix the texts of a packed row without an error."""
    classifier = load_tiny("full", architecture).classifier.eval()
    batch = make_batch([6, 9, 9, 30])
    changed = batch.input_ids.clone()
    changed[6:15] = (changed[6:15] - 4 + 7) % 20 + 4  # all tokens of the second text
    with torch.no_grad():
        before = classifier(batch)
        after = classifier(replace(batch, input_ids=changed))
    assert (before[1] - after[1]).abs().max() > 0.01
    torch.testing.assert_close(before[[0, 2, 3]], after[[0, 2, 3]], rtol=0, atol=1e-6)


def test_transformers_attention_would_mix_the_texts(twins: Twins) -> None:
    """The test above detects the error: it fails with Transformers' own attention."""
    classifier, twin = twins("bert")
    batch = make_batch([6, 9, 9, 30])
    unwrapped(classifier.model).config._attn_implementation = "sdpa"
    with torch.no_grad():
        assert (classifier(batch) - padded_logits(twin, batch)).abs().max() > 0.01


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_positions_start_after_the_pad_id(load_tiny: LoadTiny, architecture: str) -> None:
    classifier = load_tiny("full", architecture).classifier.eval()
    assert classifier.architecture.first_position == 2
    batch = make_batch([6, 9])
    with torch.no_grad():
        right = classifier(batch)
        classifier.architecture = replace(classifier.architecture, first_position=0)
        assert (right - classifier(batch)).abs().max() > 0.01


def test_order_of_texts_does_not_matter(load_tiny: LoadTiny) -> None:
    classifier = load_tiny("full").classifier.eval()
    batch = make_batch([5, 8, 20])
    alone = []
    start = 0
    for n in batch.lengths:
        part = slice(start, start + n)
        alone.append(
            replace(
                batch,
                lengths=[n],
                input_ids=batch.input_ids[part],
                position_ids=batch.position_ids[part],
            )
        )
        start += n
    with torch.no_grad():
        each = torch.cat([classifier(one) for one in alone])
        torch.testing.assert_close(classifier(batch), each, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lora", "ia3"])
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
def test_untrained_adapter_does_not_change_logits(
    load_tiny: LoadTiny, architecture: str, name: str
) -> None:
    """Both start at the identity, so the logits must be those of the base model."""
    plain, adapted = (load_tiny(n, architecture).classifier.eval() for n in ("full", name))
    batch = make_batch([5, 8, 20])
    with torch.no_grad():
        torch.testing.assert_close(plain(batch), adapted(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", [*PACKED, "mpnet"])
def test_bf16_is_close_and_the_head_is_float32(load_tiny: LoadTiny, architecture: str) -> None:
    batch = make_batch([5, 8, 20])
    high = load_tiny("full", architecture).classifier.eval()
    low = load_tiny("full", architecture, dtype=torch.bfloat16).classifier.eval()
    with torch.no_grad():
        exact, rough = high(batch), low(batch)
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.15 * exact.abs().max()
    for name, parameter in low.model.named_parameters():
        of_head = low.architecture.is_head(name)
        assert parameter.dtype == (torch.float32 if of_head else torch.bfloat16), name


@pytest.mark.parametrize("architecture", [*PACKED, "albert"])
def test_last_layer_is_computed_for_first_tokens_only(
    load_tiny: LoadTiny, architecture: str
) -> None:
    classifier = load_tiny("full", architecture).classifier.eval()
    inner = unwrapped(classifier.model)
    widths: dict[str, int] = {}
    for layer in classifier.architecture.layers:
        name = next(n for n in classifier.architecture.roles["ffn_in"] if n.startswith(layer))

        def count(module: Any, inputs: tuple[torch.Tensor], name: str = name) -> None:
            widths[name] = inputs[0].shape[1]

        inner.get_submodule(name).register_forward_pre_hook(count)
    with torch.no_grad():
        classifier(make_batch([3, 9, 20]))
        *lower, last = widths.values()
        # ALBERT's last layer is also its first one, which needs every token
        assert last == (32 if architecture == "albert" else 16)  # 3 texts, rounded up
        assert set(lower) <= {32}
