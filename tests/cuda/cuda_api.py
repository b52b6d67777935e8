"""Replacements for parts of `torch.cuda` that need a device, for `stand_in`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.attention.varlen
from stand_in import CUDA, CudaStandIn, on_card
from torch import Tensor
from varlen_reference import varlen


class Event:
    """Replacement for `torch.cuda.Event` with the host's clock."""

    card: CudaStandIn

    def __init__(self, **_: Any) -> None:
        self._time: float | None = None

    def record(self, stream: Any = None) -> None:
        """Record the time; the device is never behind the host."""
        self._time = time.perf_counter()

    def query(self) -> bool:
        return True

    def wait(self, stream: Any = None) -> None:
        """Do nothing, because streams are never behind each other."""

    def synchronize(self) -> None:
        self.card.waits("Event.synchronize")

    def elapsed_time(self, end: Event) -> float:
        """Return milliseconds."""
        assert self._time is not None
        assert end._time is not None
        return (end._time - self._time) * 1000


class Stream:
    """Replacement for `torch.cuda.Stream` that executes everything immediately."""

    card: CudaStandIn

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = CUDA

    def wait_stream(self, stream: Stream) -> None:
        """Do nothing, because streams are never behind each other."""

    def wait_event(self, event: Event) -> None:
        """Do nothing, because streams are never behind each other."""

    def record_event(self, event: Event | None = None) -> Event:
        event = event or torch.cuda.Event()
        event.record()
        return event

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        self.card.waits("Stream.synchronize")


class NoGraph:
    """Replacement for `torch.cuda.CUDAGraph` that cannot capture anything."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA graphs cannot be captured on this device")


def replacements(card: CudaStandIn) -> Iterator[tuple[Any, str, Any]]:
    """Return (module, name, value) of the CUDA functions that fail without a device."""
    group = torch._C._group_tensors_by_device_and_dtype
    run = threading.Thread.run
    name = "NVIDIA stand-in"
    answers = {
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "set_device": None,
        "get_device_capability": card.capability,
        "get_device_name": name,
        "get_device_properties": SimpleNamespace(
            name=name,
            major=card.capability[0],
            minor=card.capability[1],
            total_memory=card.memory,
            multi_processor_count=108,
        ),
        "is_bf16_supported": card.capability >= (8, 0),
        "empty_cache": None,
        "is_current_stream_capturing": False,
        "manual_seed": None,
        "manual_seed_all": None,
        "_lazy_init": None,
        "mem_get_info": (card.memory, card.memory),
        "get_allocator_backend": "native",
    }
    for key, value in answers.items():
        yield torch.cuda, key, lambda *_, _value=value, **__: _value

    def reset(*_: Any) -> None:
        card.peak = card.allocated

    def limit(fraction: float, *_: Any) -> None:
        card.limit = int(card.memory * fraction)

    def run_in_modes(thread: threading.Thread) -> None:
        with card.modes():
            run(thread)

    def by_device(lists: Any, with_indices: bool = False) -> Any:
        return _grouped(group, lists, with_indices)

    kinds = {kind: type(kind.__name__, (kind,), {"card": card}) for kind in (Event, Stream)}
    stream = kinds[Stream]()
    yield torch.cuda, "synchronize", lambda *_, **__: card.waits("torch.cuda.synchronize")
    yield torch.cuda, "memory_allocated", lambda *_: card.allocated
    yield torch.cuda, "max_memory_allocated", lambda *_: card.peak
    yield torch.cuda, "max_memory_reserved", lambda *_: card.peak
    yield torch.cuda, "memory_reserved", lambda *_: card.allocated
    yield torch.cuda, "reset_peak_memory_stats", reset
    yield torch.cuda, "set_per_process_memory_fraction", limit
    # Both devices use one generator, so restoring its state twice has no effect.
    yield torch.cuda, "get_rng_state", lambda *_, **__: torch.get_rng_state()
    yield torch.cuda, "set_rng_state", lambda state, *_, **__: torch.set_rng_state(state)
    yield torch.cuda, "Event", kinds[Event]
    yield torch.cuda, "Stream", kinds[Stream]
    yield torch.cuda, "stream", lambda *_: nullcontext()
    yield torch.cuda, "current_stream", lambda *_: stream
    yield torch.cuda, "default_stream", lambda *_: stream
    yield torch.cuda, "CUDAGraph", NoGraph
    yield torch.nn.attention.varlen, "varlen_attn", varlen(card)
    yield torch._C, "_group_tensors_by_device_and_dtype", by_device
    yield threading.Thread, "run", run_in_modes


def _grouped(group: Callable[..., Any], lists: list[list[Any]], with_indices: bool) -> Any:
    """Group the tensors of each simulated device separately, as PyTorch would."""
    firsts = next(x for x in lists if any(isinstance(t, Tensor) for t in x))
    found = {}
    for here in (True, False):
        places = [i for i, t in enumerate(firsts) if on_card(t) == here]
        if not places:
            continue
        parts = [[x[i] for i in places] if x else x for x in lists]
        for (device, dtype), (tensors, indices) in group(parts, with_indices).items():
            device = CUDA if here else device
            found[device, dtype] = (tensors, [places[i] for i in indices])
    return found
