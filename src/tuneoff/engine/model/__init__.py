"""Models: finding, loading, describing and saving them.

`source` finds a pretrained model and `untrusted_files` refuses unsafe contents, `load` builds the
classifier and `weights` checks that its weights come from the files, `save` writes it for
Transformers and PEFT. `architecture` describes the layers of an encoder, `padding` how to batch its
texts. `activation_cache` keeps what frozen layers compute, `activation_checkpointing` recomputes
what does not fit into memory.
"""
