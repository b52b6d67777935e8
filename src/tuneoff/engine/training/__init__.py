"""Training. `loop` is the page to read; the other modules are its parts.

`step` makes one optimizer step with `loss` and `optimizer`, on a GPU as `cuda_graphs`;
`checkpoint` and `resume` write and read what a run needs to continue. `classical` trains methods
that have no encoder.
"""
