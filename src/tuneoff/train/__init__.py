"""3: training.

`loop` is the page to read; `loss`, `optimizer`, `rate` and `checkpoint` are its parts. `classical`
trains the methods that have no encoder.
"""
