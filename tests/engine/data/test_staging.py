"""A batch in one block of memory, with padding that does not change the logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuneoff.engine.data.batches import Batch, Staging, batch, cuda_places


@given(st.integers(1, 70_000))
def test_row_has_little_padding(tokens: int) -> None:
    places = cuda_places(tokens)
    assert tokens < places <= tokens + max(64, tokens / 16)


def test_rows_have_few_sizes() -> None:
    assert len({cuda_places(tokens) for tokens in range(1, 20_000)}) < 100


def staged(plain: Batch) -> Batch:
    """Stage `plain` as for a GPU, in the memory of the CPU."""
    layout = Staging.of(plain)
    block = torch.full((layout.bytes,), 255, dtype=torch.uint8)
    layout.fill(block, plain)
    views: dict[str, Any] = {**layout.views(block)}
    return replace(plain, **views)


@pytest.fixture
def plain(toy_task: Any) -> Batch:
    rows = toy_task("bert").splits["train"]
    return batch(rows, np.arange(7))


def test_block_contains_the_batch(plain: Batch) -> None:
    found = staged(plain)
    assert found.tokens == plain.tokens
    assert torch.equal(found.input_ids[: plain.tokens], plain.input_ids)
    assert torch.equal(found.position_ids[: plain.tokens], plain.position_ids)
    assert not found.input_ids[plain.tokens :].any()  # id 0, which every vocabulary has
    assert torch.equal(found.labels, plain.labels)
    assert torch.equal(found.weights, plain.weights)
    assert found.offsets is not None
    ends = [0, *np.cumsum(plain.lengths).tolist(), cuda_places(plain.tokens)]
    assert found.offsets.tolist() == ends


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_padding_does_not_change_logits(load_tiny: Any, toy_task: Any, architecture: str) -> None:
    plain = batch(toy_task(architecture).splits["train"], np.arange(7))
    classifier = load_tiny("full", architecture).classifier.eval()
    with torch.inference_mode():
        torch.testing.assert_close(classifier(staged(plain)), classifier(plain))
