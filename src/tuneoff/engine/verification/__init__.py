"""Checks of every model: before training (weights, tokenizer, padding) and after it.

`before_training` compares a loaded model with a plain Transformers forward pass. `after_training`
checks that exactly the trainable weights have changed and that the saved model is the measured one.
"""
