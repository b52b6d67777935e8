"""The frozen prefix: what the layers below the first trained one give, computed once per study.

With `head` and `partial`, and with adapters in the last layers alone, embeddings and lower layers
give the same states in every epoch, for every seed and setting, once their dropout is off. They lie
on disk beside the prepared task, where all runs of a study find them.
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
from tuneoff.engine.model.load import Trainee
from tuneoff.engine.model.out_of_memory import PassSize, Rows

SHARE_OF_FREE_DISK = 0.25
"""What stored states may take at the most; a split that does not fit is computed in each epoch."""


@dataclass(frozen=True)
class Prefix:
    """What was stored for a run, and what it took."""

    layers: int
    """Layers that no step runs."""
    seconds: float
    """Computing the states of the training rows; counted as training in every run that uses them,
    whichever run of the study it was that computed them."""
    bytes: int
    """On disk, all splits."""


def frozen_layers(trainee: Trainee) -> int:
    """How many layers from the embeddings up give the same states in every epoch.

    0 where the embeddings or the first layer train, and for a model that cannot be packed.
    """
    architecture = trainee.classifier.architecture
    if not trainee.classifier.packs or not trainee.masters:
        return 0
    body = [name for name in trainee.masters if not architecture.is_head(name)]
    trained = [architecture.layer_of(name) for name in body]
    first = min((-1 if layer is None else layer for layer in trained), default=None)
    if first is None:
        return len(architecture.layers)
    shared = len(architecture.layers) < unwrapped(trainee.classifier.model).config.num_hidden_layers
    return 0 if shared else max(0, first)


def store_prefix(
    trainee: Trainee,
    task: Task,
    identity: str,
    device: torch.device,
    layers: int,
    size: PassSize | None = None,
) -> tuple[Task, Prefix | None]:
    """`task` with the states that the lowest `layers` layers give, read or computed and stored.

    `identity` names all that the states depend on beside the task: weights, types, quantisation.
    `size` is halved where memory runs out; None: it starts at the device's usual one.
    Splits are taken in their order, the training rows first, as far as the disk allows; without the
    training rows there is nothing to gain, and the task comes back as it was, with None.
    """
    size = size or PassSize(inference_tokens(device))
    depth = len(trainee.classifier.architecture.layers)
    folder = task.splits["train"].path.parent / "states"
    digest = hashlib.sha256(f"{identity} {layers}".encode()).hexdigest()[:12]
    stores: dict[str, StateStore] = {}
    for name in task.splits:
        split, file = task.splits[name], folder / f"{name}-{digest}"
        store = _stored(trainee, split, file, device, layers, size, layers == depth)
        if store is None:
            break
        stores[name] = store
    if not stores:
        return task, None
    trainee.classifier.start_above(layers)
    splits = {n: replace(split, states=stores.get(n)) for n, split in task.splits.items()}
    used = sum(store.bytes for store in stores.values())
    return replace(task, splits=splits), Prefix(layers, stores["train"].seconds, used)


def _stored(
    trainee: Trainee,
    split: Split,
    file: Path,
    device: torch.device,
    layers: int,
    size: PassSize,
    pooled: bool,
) -> StateStore | None:
    classifier = trainee.classifier
    width = classifier.architecture.hidden_size
    dtype = next(
        p.dtype for n, p in classifier.model.named_parameters() if _is_body(classifier, n, p)
    )
    offsets = np.arange(len(split) + 1) if pooled else split.tokens.offsets
    known = StateStore.open(file, offsets, dtype, width, pooled)
    if known is not None:
        return known
    wanted = int(offsets[-1]) * width * dtype.itemsize
    if wanted > SHARE_OF_FREE_DISK * shutil.disk_usage(split.path.parent).free:
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
    """Rows, and their states on the CPU, piece by piece."""
    classifier.eval()

    def states(piece: Rows) -> tuple[Rows, Tensor]:
        inputs = batch(split, piece)
        return inputs.rows, classifier.states_below(inputs.to(device), layers).cpu()

    yield from size.over(split.tokens.lengths, np.arange(len(split)), states)
