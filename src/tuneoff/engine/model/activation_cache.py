"""Activation cache: the output of the frozen lower layers, computed once per study.

With `head` and `partial`, and with adapters in the last layers only, the embeddings and lower
layers give the same hidden states in every epoch, for every seed and setting, if their dropout is
off. The states are stored in the folder of the prepared task, where all runs of a study read them.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneoff.engine.data.batches import batch, inference_tokens
from tuneoff.engine.data.hidden_states import StateStore, StateWriter
from tuneoff.engine.data.task import Split, Task
from tuneoff.engine.kernels.packed_forward import Classifier, unwrapped
from tuneoff.engine.model.load import PreparedModel
from tuneoff.engine.model.out_of_memory import PassSize, Rows

SHARE_OF_FREE_DISK = 0.25
"""Maximum share of the free disk space; a split that does not fit is computed in each epoch."""


@dataclass(frozen=True)
class CachedActivations:
    """Hidden states that a run reads from disk, and their cost."""

    layers: int
    """Number of lowest layers that training steps skip."""
    seconds: float
    """Time to compute the states of the training rows, in seconds. It counts as training time of
    every run that reads them, no matter which run of the study computed them."""
    bytes: int
    """Size on disk of all splits, in bytes."""


def frozen_layers(prepared: PreparedModel) -> int:
    """Return the number of lowest layers that give the same states in every epoch.

    It is 0 if the embeddings, the first layer or layers with shared weights are trained, or if the
    model does not support packed rows.
    """
    architecture = prepared.classifier.architecture
    if not prepared.classifier.packs or not prepared.masters:
        return 0
    body = [name for name in prepared.masters if not architecture.is_head(name)]
    trained = [architecture.layer_of(name) for name in body]
    first = min((-1 if layer is None else layer for layer in trained), default=None)
    if first is None:
        return len(architecture.layers)
    config = unwrapped(prepared.classifier.model).config
    shared = len(architecture.layers) < config.num_hidden_layers
    return 0 if shared else max(0, first)


def cache_activations(
    prepared: PreparedModel,
    task: Task,
    identity: str,
    device: torch.device,
    layers: int,
    size: PassSize | None = None,
) -> tuple[Task, CachedActivations | None]:
    """Return `task` with the hidden states of the lowest `layers` layers, reading or storing them.

    Args:
        prepared: The model; afterwards its forward pass starts above these layers.
        task: The prepared task.
        identity: Everything else that the states depend on: weights, data types, quantisation.
        device: Device to compute missing states on.
        layers: Number of layers.
        size: Tokens of a forward pass, halved if memory runs out; None: the default of the device.

    Returns:
        The task, and a description of the stored states. Splits are stored in order, the training
        rows first, as long as there is enough disk space. If there is not enough for the training
        rows, the task is unchanged and the second value is None.
    """
    size = size or PassSize(inference_tokens(device))
    depth = len(prepared.classifier.architecture.layers)
    folder = task.splits["train"].path.parent / "states"
    digest = hashlib.sha256(f"{identity} {layers}".encode()).hexdigest()[:12]
    stores: dict[str, StateStore] = {}
    for name in task.splits:
        split, file = task.splits[name], folder / f"{name}-{digest}"
        store = _stored(prepared, split, file, device, layers, size, layers == depth)
        if store is None:
            break
        stores[name] = store
    if not stores:
        return task, None
    prepared.classifier.start_above(layers)
    splits = {n: replace(split, states=stores.get(n)) for n, split in task.splits.items()}
    used = sum(store.bytes for store in stores.values())
    return replace(task, splits=splits), CachedActivations(layers, stores["train"].seconds, used)


def _stored(
    prepared: PreparedModel,
    split: Split,
    file: Path,
    device: torch.device,
    layers: int,
    size: PassSize,
    pooled: bool,
) -> StateStore | None:
    """Return the store of a split, computing it if necessary; None without enough disk space."""
    classifier = prepared.classifier
    width = classifier.architecture.hidden_size
    dtype = next(
        p.dtype for n, p in classifier.model.named_parameters() if _is_body(classifier, n, p)
    )
    offsets = np.arange(len(split) + 1) if pooled else split.tokens.offsets
    existing = StateStore.open(file, offsets, dtype, width, pooled)
    if existing is not None:
        return existing
    needed = int(offsets[-1]) * width * dtype.itemsize
    if needed > SHARE_OF_FREE_DISK * shutil.disk_usage(split.path.parent).free:
        return None
    writer = StateWriter(file, offsets, dtype, width)
    start = time.perf_counter()
    try:
        for rows, states in _states(classifier, split, device, layers, size):
            writer.write(rows, states)
    except BaseException:
        writer.give_up()
        raise
    writer.finish(time.perf_counter() - start)
    return StateStore.open(file, offsets, dtype, width, pooled)


def _is_body(classifier: Classifier, name: str, parameter: Tensor) -> bool:
    return parameter.is_floating_point() and not classifier.architecture.is_head(name)


@torch.inference_mode()
def _states(
    classifier: Classifier, split: Split, device: torch.device, layers: int, size: PassSize
) -> Any:
    """Yield batches of rows with their states on the CPU."""
    classifier.eval()

    def states(piece: Rows) -> tuple[Rows, Tensor]:
        inputs = batch(split, piece)
        return inputs.rows, classifier.states_below(inputs.to(device), layers).cpu()

    yield from size.over(split.tokens.lengths, np.arange(len(split)), states)
