"""What exists for speed alone. The tests compare each part with its plain form in PyTorch.

`packed_forward` runs an encoder without padding, with the `attention` over the texts that `packing`
lays out. `low_rank_linear` fuses a linear layer with its low-rank matrices, `dropout` draws masks
from random bytes, `sparse_embedding` updates only the rows of the embeddings that occur,
`half_precision_adamw` fuses AdamW on a GPU, and `arithmetic` sets TF32 and reduction order.
"""
