"""Training. Start reading at `loop`; the other modules are its parts.

`step` computes one optimizer step with `loss` and `optimizer`, on a GPU with `cuda_graphs` if
possible. `checkpoint` and `resume` save and restore the state of a training. `classical` trains
methods that have no encoder.
"""
