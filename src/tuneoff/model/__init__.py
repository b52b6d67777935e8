"""2: the model: found and loaded, described, and run without padding.

`source` finds a pretrained model and says who it is, `load` builds the classifier from it, `save`
writes it for Transformers and PEFT. `architecture` describes its parts, `packed` runs it on batches
without padding, with the `attention` that this takes; `dropout` and `precision` are what a CPU
needs for that to be fast.
"""
