"""Optimizer steps on a CUDA device: number of operations, and no synchronisation."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in import CudaStandIn
from transformers import AutoModel, BertConfig

from tuneoff.engine.training import stop
from tuneoff.engine.training.cuda_graphs import StepGraphs

Card = Callable[..., CudaStandIn]
RunToy = Callable[..., Any]
ToyTask = Callable[..., Any]

MOST_OPERATIONS = {"full": 640, "lora": 1_060}
"""Maximum operations of a step with BERT-base's twelve layers: now 627 and 1,044, in the first
version 904 and 1,269. A step that is replayed as a CUDA graph needs one launch."""

SIZES: dict[str, Any] = {"vocab_size": 64, "max_position_embeddings": 128, "intermediate_size": 128}


@pytest.fixture
def bert(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """`bert(layers=12, heads=4, size=16)`: the tiny BERT with these sizes."""

    def make(*, layers: int, heads: int, size: int) -> Path:
        folder = tmp_path / f"bert-{layers}-{heads}-{size}"
        shutil.copytree(tiny_model("bert"), folder)
        config = BertConfig.from_pretrained(
            folder, num_hidden_layers=layers, num_attention_heads=heads, hidden_size=heads * size
        )
        AutoModel.from_config(config).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(autouse=True)
def _no_signal() -> Iterator[None]:
    yield
    stop._asked.clear()


def steps_of(
    card: CudaStandIn, monkeypatch: pytest.MonkeyPatch, count: int
) -> list[tuple[int, Counter[str], Counter[str]]]:
    """Return operations, synchronisations and staged copies of each of the first `count` steps."""
    found: list[tuple[int, Counter[str], Counter[str]]] = []

    def asked_to() -> bool:
        operations = card.operations.total()
        found.append((operations, card.synchronisations.copy(), card.staged_copies.copy()))
        card.clear()
        if len(found) == count:
            stop._asked.append(15)
        return bool(stop._asked)

    monkeypatch.setattr(stop, "asked_to", asked_to)
    return found


@pytest.mark.parametrize("capability", [(8, 0), (7, 5)])
@pytest.mark.parametrize("name", MOST_OPERATIONS)
def test_steps_do_not_synchronise(
    card: Card,
    run_toy: RunToy,
    toy_task: ToyTask,
    bert: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    capability: tuple[int, int],
) -> None:
    found = steps_of(card(capability), monkeypatch, 9)
    options = {"batch_size": 8, "epochs": 100, "device": "cuda", "precision": "auto"}
    record = run_toy(
        name,
        task=toy_task("bert", rows=60),
        model=bert(layers=12, heads=4, size=8),
        cuda_graphs=False,
        **options,
    ).record
    assert record.status == "interrupted", record.error
    # Excluded: the first steps; the sixth, whose loss is read for the history; and the following
    # validation, which is counted with the seventh.
    for operations, waits, staged in found[2:5] + found[7:9]:
        assert waits == {}
        assert staged == {}
        if capability >= (8, 0):  # otherwise there is one attention kernel per group of lengths
            assert operations <= MOST_OPERATIONS[name]


@pytest.mark.parametrize("name", ["full", "lora"])
def test_steps_run_without_graphs_if_capture_fails(
    card: Card, run_toy: RunToy, toy_task: ToyTask, name: str
) -> None:
    card()
    options = {"task": toy_task("bert", rows=30), "device": "cuda", "precision": "bf16"}
    options |= {"batch_size": 2, "epochs": 3}
    made = run_toy(name, **options)  # 33 steps, enough for a graph
    assert made.record.status == "finished", made.record.error
    plain = run_toy(name, cuda_graphs=False, **options)
    assert made.folder.predictions().equals(plain.folder.predictions())


def test_batches_of_graphs_have_normalised_class_weights(
    card: Card, run_toy: RunToy, toy_task: ToyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    card()
    batches = []

    def keep(self: Any, batch: Any, number: int) -> None:
        batches.append((batch.labels.tolist(), batch.weights.tolist()))

    monkeypatch.setattr(StepGraphs, "run", keep)
    task = toy_task("bert", rows=30)
    by_class = {label: place + 1.0 for place, label in enumerate(task.labels)}
    options = {"task": task, "device": "cuda", "precision": "bf16", "class_weights": by_class}
    made = run_toy("full", batch_size=4, epochs=1, **options)
    assert made.record.status == "finished", made.record.error
    assert batches
    for labels, weights in batches:
        own = [label + 1.0 for label in labels]
        assert weights == pytest.approx([weight / sum(own) for weight in own])


@pytest.mark.parametrize(("heads", "size"), [(2, 26), (3, 12), (1, 264)])
def test_all_head_sizes_work(
    card: Card,
    run_toy: RunToy,
    toy_task: ToyTask,
    bert: Callable[..., Path],
    heads: int,
    size: int,
) -> None:
    task, model = toy_task("bert", rows=30), bert(layers=2, heads=heads, size=size)
    options = {"task": task, "model": model, "epochs": 1, "batch_size": 8, "precision": "bf16"}
    on_cpu = run_toy("baseline", device="cpu", **options).folder.predictions()
    found = card()
    record = run_toy("full", device="cuda", **options).record
    assert record.status == "finished", record.error
    assert ("varlen_attn" in found.operations) == (size <= 256)
    on_card = run_toy("baseline", device="cuda", **options).folder.predictions()
    columns = [c for c in on_cpu if c.startswith("probability_")]
    assert (on_cpu[columns] - on_card[columns]).abs().to_numpy().max() < 0.05
