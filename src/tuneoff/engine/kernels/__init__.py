"""Optimised operations. The tests compare each of them with the plain operation of PyTorch.

- `packed_forward`: forward pass of an encoder without padding.
- `attention`: attention within each text of a packed row, whose layout is in `packing`.
- `low_rank_linear`: a linear layer fused with its low-rank matrices.
- `dropout`: dropout masks from random bytes.
- `sparse_embedding`: updates of only those embedding rows that occur.
- `half_precision_adamw`: fused AdamW with half-precision gradients on a GPU.
- `arithmetic`: TF32 and deterministic algorithms on CUDA.
"""
