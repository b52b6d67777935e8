"""2: the model: found and loaded, described, and run without padding.

`source` finds a pretrained model and says who it is, `load` builds the classifier from it,
`architecture` describes its parts, `packed` runs it on batches without padding, `dropout` and
`precision` are what a CPU needs for that to be fast.
"""
