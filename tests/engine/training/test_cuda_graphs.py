"""Selection of a CUDA graph for a step; `make gpu-check` compares replays with other steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tuneoff.engine.data.batches import Staging
from tuneoff.engine.training.cuda_graphs import (
    MOST_SPARE,
    WARM_UP,
    WORTH,
    StepGraphs,
    _Size,
    compute_stream,
)

SIZE = _Size(Staging(texts=8, places=256, types=True), pooled=None)


def resized(places: int, **changes: object) -> _Size:
    return _Size(replace(SIZE.layout, places=places, **changes), SIZE.pooled)  # type: ignore[arg-type]


def test_graph_is_used_for_its_size_and_slightly_smaller_ones() -> None:
    assert SIZE.can_serve(SIZE)
    assert SIZE.can_serve(resized(64))
    assert not SIZE.can_serve(resized(320))
    large, (most, share) = resized(9216), MOST_SPARE
    assert large.can_serve(resized(8192))
    assert most < 1536 > 7680 * share
    assert not large.can_serve(resized(7680))


@pytest.mark.parametrize("other", [{"texts": 7}, {"types": False}])
def test_graph_is_used_for_one_kind_of_batch(other: dict[str, object]) -> None:
    assert not SIZE.can_serve(resized(256, **other))
    assert not SIZE.can_serve(replace(SIZE, pooled=True))


def test_frequent_sizes_are_captured_after_warm_up() -> None:
    graphs = StepGraphs(lambda batch: torch.zeros(()), torch.device("cpu"), total=100)
    graphs._seen[SIZE] = WARM_UP
    assert not graphs._is_worth_it(SIZE, WARM_UP)  # not warmed up yet
    graphs._seen[SIZE] = WARM_UP + 1
    assert graphs._is_worth_it(SIZE, WARM_UP + 1)
    assert not graphs._is_worth_it(SIZE, 100 - WORTH + 1)  # too few steps are left
    rare = resized(512)
    graphs._seen[rare] = 1
    graphs._seen[SIZE] = 49
    assert not graphs._is_worth_it(rare, 50)  # a size with few remaining steps
    graphs.failure = "a capture failed"
    assert not graphs._is_worth_it(SIZE, 50)


def test_cpu_has_no_stream() -> None:
    with compute_stream(torch.device("cpu")):
        assert torch.zeros(1).item() == 0
