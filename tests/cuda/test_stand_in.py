"""The simulated device behaves like a real one where tests rely on it."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable

import pytest
import torch
from stand_in import CudaStandIn, on_card
from torch import nn
from torch.nn.attention import varlen

Card = Callable[..., CudaStandIn]


def test_no_device_without_simulation(card: Card) -> None:
    before = torch.cuda.is_available()
    with CudaStandIn((7, 5)):
        assert torch.cuda.get_device_capability() == (7, 5)
        assert torch.zeros(2, device="cuda").device == torch.device("cuda", 0)
    assert torch.cuda.is_available() == before
    if not before:
        with pytest.raises((AssertionError, RuntimeError)):
            torch.zeros(2, device="cuda")


def test_mixed_devices_raise_an_error(card: Card) -> None:
    card()
    here, away = torch.ones(3, device="cuda"), torch.ones(3)
    with pytest.raises(RuntimeError, match=r"same device.*test_stand_in"):
        here + away
    with pytest.raises(RuntimeError, match="same device"):
        here @ away
    with pytest.raises(TypeError, match="numpy"):
        here.numpy()
    assert (here * torch.tensor(2.0)).is_cuda  # a number may come from the host
    assert not away.is_cuda


def test_device_follows_the_storage(card: Card) -> None:
    card()
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.LayerNorm(4)).cuda()
    x = torch.ones(2, 4, device="cuda", requires_grad=True)
    (model(x).sum() * 2).backward()
    found = [x, x.grad, x[0], x.detach().view(-1), x.data, *model.parameters()]
    found += [p.grad for p in model.parameters()]
    assert all(t is not None and t.is_cuda for t in found)
    assert not x.cpu().is_cuda
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    optimizer.step()
    assert all(t.is_cuda for state in optimizer.state.values() for t in state.values())
    started = threading.Thread(target=lambda: found.append(torch.ones(1, device="cuda")))
    started.start()
    started.join()
    assert on_card(found[-1])


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.item(),
        lambda x: bool(x),
        lambda x: float(x),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.view(1)[[0]],
        lambda x: torch.ones(2).to("cuda"),
        lambda x: torch.tensor([1.0], device="cuda"),
        lambda x: x.copy_(torch.ones(())),
        lambda x: torch.cuda.synchronize(),
        lambda x: torch.cuda.current_stream().synchronize(),
    ],
)
def test_synchronisations_are_counted_by_line(
    card: Card, wait: Callable[[torch.Tensor], object]
) -> None:
    found = card()
    x = torch.ones((), device="cuda")
    assert found.synchronisations.total() == 0
    wait(x)
    ((line, count),) = found.synchronisations.items()
    assert count == 1
    assert "test_stand_in.py:" in line


def test_operations_without_synchronisation(card: Card) -> None:
    found = card()
    host = torch.ones(4).pin_memory()
    assert host.is_pinned()
    x = host.to("cuda", non_blocking=True)
    x.add_(1).sum().detach()
    assert not found.synchronisations
    assert not found.staged_copies
    torch.ones(4).to("cuda", non_blocking=True)
    assert found.staged_copies.total() == 1


def test_operations_are_counted(card: Card) -> None:
    found = card()
    x = torch.ones(2, 3, device="cuda", requires_grad=True)
    found.clear()
    y = x.view(3, 2)  # launches nothing
    (y * 2).sum().backward()
    assert found.operations == {"aten.mul": 2, "aten.sum": 1, "aten.ones_like": 1}


def test_allocator_counts_and_has_a_limit(card: Card) -> None:
    found = card(memory=1000)
    x = torch.zeros(100, device="cuda")
    y = x + 1
    assert torch.cuda.memory_allocated() == 800
    del y
    gc.collect()
    assert (torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()) == (400, 800)
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == 400
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.zeros(200, device="cuda")
    torch.cuda.set_per_process_memory_fraction(0.5)
    with pytest.raises(torch.OutOfMemoryError):
        x + 1
    assert found.allocated == 400


def test_cuda_graphs_cannot_be_captured(card: Card) -> None:
    card()
    with pytest.raises(RuntimeError, match="graphs"):
        torch.cuda.CUDAGraph()


def packed(size: int = 16, dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(8, 2, size).to("cuda", dtype).requires_grad_() for _ in range(3)]


def offsets(*ends: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.tensor([0, *ends], dtype=dtype).to("cuda")


def test_varlen_attention_separates_texts_and_leaves_other_rows_undefined(card: Card) -> None:
    found = card()
    q, k, v = packed()
    found.clear()
    out = varlen.varlen_attn(q, k, v, (ends := offsets(2, 5)), ends, 3, 3)
    for begin, end in ((0, 2), (2, 5)):
        rows = [x[begin:end].float().transpose(0, 1) for x in (q, k, v)]
        expected = nn.functional.scaled_dot_product_attention(*rows).transpose(0, 1)
        assert torch.allclose(out[begin:end].float(), expected, atol=1e-2)
    assert bool(out[5:].isnan().all())
    out[:5].sum().backward()
    assert bool(q.grad[5:].isnan().all())
    assert bool(q.grad[:5].isfinite().all())
    assert found.operations["varlen_attn"] == found.operations["varlen_attn_backward"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 26}, "multiple of 8"),
        ({"size": 264}, "at most 256"),
        ({"dtype": torch.float32}, "fp16 and bf16"),
        ({"ends": torch.int64}, "int32"),
        ({"capability": (7, 5)}, "Ampere"),
        ({"longest": 2}, "longer"),
    ],
)
def test_varlen_attention_checks_the_conditions_of_the_kernel(
    card: Card, change: dict[str, object], message: str
) -> None:
    card(change.pop("capability", (8, 0)))
    ends = offsets(2, 5, dtype=change.pop("ends", torch.int32))
    longest = change.pop("longest", 3)
    q, k, v = packed(**change)
    with pytest.raises(RuntimeError, match=message):
        varlen.varlen_attn(q, k, v, ends, ends, longest, longest)


def test_values_are_those_of_the_cpu(card: Card) -> None:
    card()
    x = torch.arange(6.0).to("cuda").view(2, 3)
    assert math.isclose((x @ x.T).diagonal().sum().item(), 55.0)
