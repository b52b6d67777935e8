"""Simulated CUDA device: the code uses its branches for CUDA while the CPU computes.

Tensors are CPU tensors with their real values. The device of a tensor is a mark on its storage, so
that views, `.data`, gradients and saved tensors have the same device. Two modes of PyTorch maintain
the marks: `_Calls` handles calls from Python (requested devices, `.to`, `.device`, `.numpy`), and
`_Kernels` handles every operation below autograd, including those of the backward pass.

The simulated device behaves like a real one in these respects:

- An operation on tensors of both devices raises an error, and so does `.numpy()` of a CUDA tensor.
- The allocator has a limit, counts bytes and their peak, and raises `torch.OutOfMemoryError`.
- The compute capability determines the support of bf16 and of `varlen_attn`. The conditions of the
  latter are checked, and its rows after the last offset are undefined (NaN, to make it visible).

It counts what a real device does not show, by line of tuneoff: `synchronisations`, for which the
host waits for the device; `staged_copies`, which are asynchronous copies from memory that is not
pinned; and `operations`, each of which would be a kernel launch.

It does not simulate the speed, the rounding on a GPU, or kernels that differ from their
documentation. CUDA graphs cannot be captured: `torch.cuda.CUDAGraph` raises an error.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import cuda_operations as operations
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")

aten = torch.ops.aten


class CudaStandIn:
    """Simulated device, as a context manager.

    Args:
        capability: Compute capability. Below (8, 0) there is neither bf16 nor `varlen_attn`.
        memory: Capacity of the allocator in bytes.
    """

    def __init__(self, capability: tuple[int, int] = (8, 0), memory: int = 80 << 30) -> None:
        self.capability = capability
        self.memory = self.limit = memory
        self.allocated = self.peak = 0
        self.synchronisations: Counter[str] = Counter()
        """Number of times that the host waited for the device, by "operation at file:line"."""
        self.staged_copies: Counter[str] = Counter()
        """Number of asynchronous copies from memory that is not pinned, likewise."""
        self.operations: Counter[str] = Counter()
        """Number of operations that would be kernel launches, by name."""
        self._calls, self._kernels = _Calls(self), _Kernels(self)
        self._active = ExitStack()

    def __enter__(self) -> Self:
        from cuda_api import replacements

        for place, name, value in replacements(self):
            self._active.enter_context(_replaced(place, name, value))
        self._active.enter_context(self.modes())
        return self

    def __exit__(self, *_: object) -> None:
        self._active.close()

    @contextmanager
    def modes(self) -> Iterator[None]:
        """Enter the modes. They are local to a thread, so new threads enter them, too."""
        with self._kernels, self._calls:
            yield

    def clear(self) -> None:
        """Reset the counts."""
        for counter in (self.synchronisations, self.staged_copies, self.operations):
            counter.clear()

    def waits(self, what: str) -> None:
        """Count a synchronisation."""
        self.synchronisations[f"{what} at {_line()}"] += 1

    def allocate(self, storage: torch.UntypedStorage) -> None:
        """Move a new `storage` to the card."""
        size = storage.nbytes()
        if self.allocated + size > self.limit:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size} bytes. GPU 0 has a total capacity of"
                f" {self.limit} bytes of which {self.limit - self.allocated} are free."
            )
        storage.allocation = _Allocation(self, size)  # type: ignore[attr-defined]
        self.allocated += size
        self.peak = max(self.peak, self.allocated)


class _Allocation:
    """Mark of a storage on the device, with the lifetime of the storage."""

    def __init__(self, card: CudaStandIn, size: int) -> None:
        self._card, self._size = card, size

    def __del__(self) -> None:
        self._card.allocated -= self._size


def on_card(tensor: Tensor) -> bool:
    """Return whether `tensor` is on the simulated device."""
    with torch._C.DisableTorchFunction():
        return getattr(tensor.untyped_storage(), "allocation", None) is not None


def _is_neutral(tensor: Tensor) -> bool:
    """Return whether PyTorch created `tensor` in a backward pass without a device."""
    with torch._C.DisableTorchFunction():
        return getattr(tensor.untyped_storage(), "neutral", False)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Return the tensors among the arguments of a call, including those in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


_OWN_FILES = {"stand_in.py", "cuda_api.py", "varlen_reference.py", "contextlib.py"}


def _line() -> str:
    """Return the current position in tuneoff, or else in the test: `file:line`."""
    frame, outside = sys._getframe(1), "?"
    while frame is not None:
        file = frame.f_code.co_filename
        if "/tuneoff/" in file and "/site-packages/" not in file:
            return f"{file.rpartition('/tuneoff/')[2]}:{frame.f_lineno}"
        name = file.rpartition("/")[2]
        if outside == "?" and "/torch/" not in file and name not in _OWN_FILES:
            outside = f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return outside


@dataclass(frozen=True)
class _Call:
    """A call from Python, and the device of its results."""

    on_card: bool
    asked: bool
    """Whether the caller named the device; otherwise it is that of the inputs."""


class _Calls(TorchFunctionMode):
    """Mode that answers calls about devices, and records the requested device."""

    def __init__(self, card: CudaStandIn) -> None:
        super().__init__()
        self._card = card

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if (answer := _ANSWERS.get(func)) is not None:
            return answer(func, *args)
        if func in _MOVES:
            return self._move(func, *args, **kwargs)
        if func is Tensor.backward:
            return self._backward(*args, **kwargs)
        if kwargs.pop("pin_memory", False):
            return _pinned(func(*args, **kwargs))
        if func in _FROM_HOST and kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            return self._move(Tensor.to, func(*args, **kwargs), device)
        here = any(on_card(x) for x in _tensors((args, *kwargs.values())))
        if here:
            self._look_at(func, args)
        call = _Call(here, asked=False)
        if (device := kwargs.get("device")) is not None and _type(device) != "meta":
            call = _Call(_type(device) == "cuda", asked=True)
            kwargs["device"] = CPU
        with _within(call):
            result = func(*args, **kwargs)
        if func is Tensor.__deepcopy__ and here and not on_card(result):
            self._card.allocate(result.untyped_storage())
        return result

    def _backward(
        self, tensor: Tensor, gradient: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Run `Tensor.backward` in this mode, because custom functions are Python."""
        with self:
            torch.autograd.backward(tensor, gradient, *args, **kwargs)

    def _look_at(self, func: Any, args: tuple[Any, ...]) -> None:
        """Handle calls that read the device without an operation."""
        if func in (Tensor.numpy, Tensor.__array__):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the"
                " tensor to host memory first."
            )
        if func is Tensor.tolist:
            self._card.waits("tolist")
        if func == Tensor.grad.__set__ and args[1] is not None and not on_card(args[1]):
            raise RuntimeError("the gradient lies on the CPU, its tensor on the card")

    def _move(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Handle `Tensor.to`, `.cuda` and `.cpu`."""
        device, dtype, non_blocking, copy = _parsed(func, args, kwargs)
        was_here = on_card(tensor)
        is_there = was_here if device is None else device.type == "cuda"
        if device is not None and device.type == "meta":
            return tensor.to(device, dtype)
        dtype = dtype or tensor.dtype
        crosses = was_here != is_there
        if crosses and was_here:
            self._card.waits("copy to the host")
        elif crosses and not non_blocking:
            self._card.waits("blocking copy to the device")
        elif crosses and not _is_pinned(tensor):
            self._card.staged_copies[f"copy at {_line()}"] += 1
        with _within(_Call(is_there, asked=crosses)):
            return tensor.to(dtype, copy=copy or crosses)


def _parsed(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.device | None, torch.dtype | None, bool, bool]:
    """Return device, type, non_blocking and copy of a call of `Tensor.to`, `.cuda` or `.cpu`."""
    kwargs = dict(kwargs)
    kwargs.pop("memory_format", None)
    copy = kwargs.pop("copy", False)
    if func is not Tensor.to:
        return (CUDA if func is Tensor.cuda else CPU), None, kwargs.get("non_blocking", False), copy
    other = kwargs.pop("other", args[0] if args else None)
    if isinstance(other, Tensor):
        device = CUDA if on_card(other) else CPU
        return device, other.dtype, kwargs.get("non_blocking", False), copy
    device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
    return device, dtype, non_blocking, copy


def _type(device: Any) -> str:
    """Return the type of a device in any form that PyTorch accepts; a number is a CUDA device."""
    return "cuda" if isinstance(device, int) else torch.device(device).type


def _pinned(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().pinned = True  # type: ignore[attr-defined]
    return tensor


def _is_pinned(tensor: Tensor) -> bool:
    return getattr(tensor.untyped_storage(), "pinned", False)


_LOCAL = threading.local()


@contextmanager
def _within(call: _Call) -> Iterator[None]:
    outer = getattr(_LOCAL, "call", None)
    _LOCAL.call = call
    try:
        yield
    finally:
        _LOCAL.call = outer


_MOVES = {Tensor.to, Tensor.cuda, Tensor.cpu}
_FROM_HOST = {torch.tensor, torch.as_tensor, torch.asarray}

_ANSWERS: dict[Any, Callable[..., Any]] = {
    Tensor.device.__get__: lambda get, x, *_: CUDA if on_card(x) else get(x),
    Tensor.is_cuda.__get__: lambda _, x, *__: on_card(x),
    Tensor.is_cpu.__get__: lambda get, x, *_: not on_card(x) and get(x),
    Tensor.get_device: lambda get, x: 0 if on_card(x) else get(x),
    Tensor.is_pinned: lambda _, x, *__: _is_pinned(x),
    Tensor.pin_memory: lambda _, x, *__: _pinned(x.clone()),
    Tensor.record_stream: lambda *_: None,
}


class _Kernels(TorchDispatchMode):
    """Mode that maintains the marks, rejects mixed devices, and counts."""

    def __init__(self, card: CudaStandIn) -> None:
        super().__init__()
        self._card = card

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Disable a check of torch.compile that would be slower than the rest of this class."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(_LOCAL, "inside_kernel", False):
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            return self._computed(func, args, kwargs)

    def _computed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = list(_tensors((args, *kwargs.values())))
        here = [x for x in tensors if on_card(x)]
        packet = func.overloadpacket
        if here:
            self._check(packet, here, tensors)
            self._count(func, packet, args, kwargs)
            if torch.are_deterministic_algorithms_enabled():
                self._hold_deterministic(packet, here[0])
        result = func(*args, **kwargs)
        self._mark(result, here, tensors)
        return result

    def _check(self, packet: Any, here: list[Tensor], tensors: list[Tensor]) -> None:
        if packet in operations.CROSS:
            return
        away = [x for x in tensors if not on_card(x) and not _is_neutral(x)]
        if packet in operations.INDEXING:  # indices may be on the CPU, which costs a copy
            if any(x.dtype in (torch.int64, torch.bool) and x.ndim for x in away):
                self._card.waits("index on the CPU")
            away = [x for x in away if x.dtype not in (torch.int64, torch.bool)]
        strict = packet in operations.NO_SCALARS
        if wrong := [x for x in away if x.device.type != "meta" and (x.ndim > 0 or strict)]:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices,"
                f" cuda:0 and cpu! ({packet}: {tuple(here[0].shape)} on cuda:0 and"
                f" {tuple(wrong[0].shape)} on cpu, at {_line()})"
            )

    def _count(self, func: Any, packet: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        if packet in operations.WAITING:
            self._card.waits(str(packet).removeprefix("aten."))
        elif packet in operations.INDEXING and any(
            x.dtype == torch.bool for x in _tensors(args[1:2])
        ):
            self._card.waits("index by a mask")
        elif packet is aten.copy_ and on_card(args[0]) != on_card(args[1]):
            self._copies(*args, **kwargs)
        elif packet is aten._foreach_copy_:
            for one, other in zip(args[0], args[1], strict=True):
                if on_card(one) != on_card(other):
                    self._copies(one, other, kwargs.get("non_blocking", False))
        if func.namespace != "profiler" and not _is_view(func) and packet not in operations.FREE:
            self._card.operations[str(packet)] += 1

    def _hold_deterministic(self, packet: Any, first: Tensor) -> None:
        """Raise an error or count synchronisations, as in PyTorch's deterministic mode."""
        if packet in operations.PRODUCTS and "CUBLAS_WORKSPACE_CONFIG" not in os.environ:
            raise RuntimeError(
                "Deterministic behavior was enabled, but CuBLAS is not deterministic"
            )
        if packet in operations.UNDETERMINED or (
            packet is aten.cumsum and first.is_floating_point()
        ):
            raise RuntimeError(f"{packet} does not have a deterministic implementation")
        if packet in operations.SORTING:
            self._card.waits(f"deterministic {packet}")

    def _copies(self, into: Tensor, source: Tensor, non_blocking: bool = False) -> None:
        host = source if on_card(into) else into
        if not non_blocking:
            self._card.waits("blocking copy")
        elif not _is_pinned(host):
            self._card.staged_copies[f"copy at {_line()}"] += 1

    def _mark(self, result: Any, here: list[Tensor], tensors: list[Tensor]) -> None:
        """Mark the results with the requested device, or else with that of the inputs."""
        call: _Call | None = getattr(_LOCAL, "call", None)
        known = {x.untyped_storage() for x in tensors}
        for x in _tensors((result,)):
            if x.device.type == "meta":
                continue
            storage = x.untyped_storage()
            if storage in known:  # a view, or in place
                if here and getattr(storage, "neutral", False):
                    storage.neutral = False  # type: ignore[attr-defined]
                    self._card.allocate(storage)
                continue
            if call is not None and (call.asked or not tensors):
                there = call.on_card
            else:
                there = bool(here)
                if not there and not tensors and call is None:
                    storage.neutral = True  # type: ignore[attr-defined]
            if there and getattr(storage, "allocation", None) is None:
                self._card.allocate(storage)


@contextmanager
def one_kernel(card: CudaStandIn, name: str) -> Iterator[None]:
    """Count everything inside this context as a single kernel."""
    card.operations[name] += 1
    _LOCAL.inside_kernel = True
    try:
        with torch._C.DisableTorchFunction():
            yield
    finally:
        _LOCAL.inside_kernel = False


def _has_mask(args: tuple[Any, ...]) -> bool:
    """Return whether an operation indexes by a mask, whose count the host needs."""
    return any(x.dtype == torch.bool for x in _tensors(args[1:2]))


@cache
def _is_view(func: Any) -> bool:
    """Return whether `func` returns a view of its input."""
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


@contextmanager
def _replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)
