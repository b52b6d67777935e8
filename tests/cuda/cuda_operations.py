"""PyTorch operations by their behaviour on a CUDA device, for `stand_in`."""

from __future__ import annotations

import torch

aten = torch.ops.aten

CROSS = {
    aten.copy_,
    aten._to_copy,
    aten._foreach_copy_,
    aten.set_,
    aten.resize_,
    aten.record_stream,
}
INDEXING = {aten.index, aten.index_put_, aten._index_put_impl_, aten.index_put, aten._unsafe_index}
NO_SCALARS = {
    aten._fused_adamw_,
    aten._fused_adam_,
    aten._amp_foreach_non_finite_check_and_unscale_,
    aten._amp_update_scale_,
}
"""Operations for which tensors without dimensions must be on the device, too."""
WAITING = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.repeat_interleave,
}
"""Operations that synchronise, because the host needs the result or its size."""
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm}
UNDETERMINED = {
    aten.histc,
    aten.kthvalue,
    aten.put,
    aten.put_,
    aten.median,
    aten.nll_loss2d_forward,
}
SORTING = {aten.index_add, aten.index_add_, aten.index_copy, aten.index_copy_, aten.index_put_}
"""Operations that sort in deterministic mode, after the host has checked the indices."""
FREE = {
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
    aten._unsafe_view,
    aten._reshape_alias,
    aten.lift_fresh,
    aten._local_scalar_dense,
}
"""Operations that launch no kernel; a scalar is read by a copy."""
