"""Attention within texts, compared with PyTorch's for each text, forward and backward."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuneoff.engine.kernels import attention
from tuneoff.engine.kernels import packing as packings
from tuneoff.engine.kernels.attention import packed_attention
from tuneoff.engine.kernels.packing import Packing

CPU = torch.device("cpu")
LENGTHS = {
    "one text": [5],
    "one token": [1],
    "no spare place": [8, 8],
    "one padded group": [3, 5, 8, 8, 9],
    "equal group and padded group": [16] * 4 + [3, 7],
    "equal texts and empty places": [16] * 5,
    "many groups": [2, 3, 60, 61, 130, 200],
}


def attend(states: list[Tensor], packing: Packing, **options: Any) -> Tensor:
    """Call the attention with (tokens, heads, size) instead of Transformers' shape."""
    q, k, v = (x.transpose(0, 1)[None] for x in states)
    out, _ = packed_attention(nn.Identity(), q, k, v, None, packing=packing, **options)
    return out[0]


def text_by_text(states: list[Tensor], lengths: list[int], scale: float) -> Tensor:
    parts = []
    for q, k, v in zip(*(x.split(lengths) for x in states), strict=True):
        one = F.scaled_dot_product_attention(
            *(x.transpose(0, 1)[None] for x in (q, k, v)), scale=scale
        )
        parts.append(one[0].transpose(0, 1))
    return torch.cat(parts)


def both(
    lengths: list[int], dtype: torch.dtype, heads: int = 3, size: int = 8, spread: float = 1.0
) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Return outputs and gradients of tuneoff in `dtype`, and of PyTorch in float32."""
    torch.manual_seed(0)
    packing, tokens = Packing(lengths, CPU), sum(lengths)
    row = tokens + packing.spare
    states = [(spread * torch.randn(row, heads, size)).to(dtype) for _ in range(3)]
    outgoing = torch.randn(tokens, heads, size).to(dtype)

    ours = [x.clone().requires_grad_() for x in states]
    out = attend(ours, packing, scaling=0.3)
    assert out.shape == (row, heads, size)
    assert not out[tokens:].any()
    out[:tokens].backward(outgoing)

    theirs = [x[:tokens].float().requires_grad_() for x in states]
    expected = text_by_text(theirs, lengths, 0.3)
    expected.backward(outgoing.float())
    assert all(x.grad is not None and not x.grad[tokens:].any() for x in ours)
    return (
        SimpleNamespace(out=out[:tokens].float(), grads=[x.grad[:tokens].float() for x in ours]),
        SimpleNamespace(out=expected, grads=[x.grad for x in theirs]),
    )


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_float32_equals_pytorch(lengths: list[int]) -> None:
    ours, theirs = both(lengths, torch.float32)
    torch.testing.assert_close(ours.out, theirs.out, rtol=1e-5, atol=1e-5)
    for mine, yours in zip(ours.grads, theirs.grads, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spread", [1.0, 4.0])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_bfloat16_is_close_to_float32(lengths: list[int], spread: float) -> None:
    """This includes log-sum-exp values that are so large that bf16 rounds them by 0.1."""
    ours, theirs = both(lengths, torch.bfloat16, spread=spread)
    for mine, yours in zip([ours.out, *ours.grads], [theirs.out, *theirs.grads], strict=True):
        # A gradient of 0 (a single token attends only to itself) has the size of rounding errors.
        assert (mine - yours).norm() < 0.02 * (yours.norm() + spread**2)


@pytest.mark.parametrize(("piece", "pieces"), [(1, [1] * 7), (1024, [4, 4]), (8192, [16])])
def test_blocks_give_the_same_result(
    monkeypatch: pytest.MonkeyPatch, piece: int, pieces: list[int]
) -> None:
    """This includes blocks with places for more texts than there are."""
    lengths = [9, 10, 10, 11, 11, 11, 12]
    whole, _ = both(lengths, torch.float32)
    monkeypatch.setattr(packings, "_PIECE", piece)
    assert [group.pieces for group in Packing(lengths, CPU).groups] == [pieces]
    found, _ = both(lengths, torch.bfloat16)
    for mine, yours in zip([found.out, *found.grads], [whole.out, *whole.grads], strict=True):
        assert (mine - yours).norm() < 0.02 * yours.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maximum_of_a_row_from_its_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rows = torch.randn(200, 24).to(dtype)
    rows[:50] = -rows[:50].abs()  # negative values only
    rows[:80, 7:] = -torch.inf
    rows[100], rows[101, 3], rows[102, 0] = 0.0, -0.0, torch.inf
    assert torch.equal(attention._largest(rows), rows.amax(-1, keepdim=True))
    rows[150, 2] = torch.nan
    assert attention._largest(rows)[150].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_with_very_low_scores(dtype: torch.dtype) -> None:
    """Padding has a score of 0, which must not be added to real scores of -300."""
    lengths, size = [5, 8], 8
    packing = Packing(lengths, CPU)
    q = torch.full((sum(lengths) + packing.spare, 1, size), 10.0)
    k = -q - 0.1 * torch.randn(q.shape)
    v = torch.randn(q.shape)
    states = [x.to(dtype).requires_grad_() for x in (q, k, v)]
    out = attend(states, packing)
    out.square().sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in states)


def test_default_scale_is_that_of_the_head_size() -> None:
    torch.manual_seed(0)
    packing = Packing([4, 6], CPU)
    states = [torch.randn(10 + packing.spare, 2, 16) for _ in range(3)]
    explicit = attend(states, packing, scaling=0.25)
    assert torch.equal(attend(states, packing), explicit)
    assert not torch.allclose(attend(states, packing, scaling=0.5), explicit)


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    lengths = [4, 6, 30]
    packing = Packing(lengths, CPU)
    states = [torch.randn(sum(lengths) + packing.spare, 2, 16) for _ in range(2)]
    states.append(torch.ones_like(states[0]))  # every output is the sum of the kept weights
    states[0].requires_grad_()
    outputs = torch.stack([attend(states, packing, dropout=0.5)[:40] for _ in range(300)])
    assert outputs.std(0).min() > 0.1
    assert abs(outputs.mean().item() - 1) < 0.02
    outputs.sum().backward()
    assert states[0].grad is not None
    assert states[0].grad.isfinite().all()


def test_grouped_attention_without_dropout_is_the_same() -> None:
    """The code with dropout uses PyTorch's attention over the same groups."""
    torch.manual_seed(0)
    lengths = [3, 3, 50, 70]
    packing = Packing(lengths, CPU)
    rows = sum(lengths) + packing.spare
    states = [torch.randn(rows, 2, 16).bfloat16() for _ in range(3)]
    by_groups = attention._by_groups(*states, packing, 0.25, 0.0)
    torch.testing.assert_close(by_groups, attend(states, packing), rtol=0.02, atol=0.02)
