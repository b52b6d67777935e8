"""Find, load, describe and save models.

- `source` finds a pretrained model; `untrusted_files` rejects unsafe files.
- `load` builds the classifier; `weights` checks that its weights come from the files.
- `save` writes a trained model in the formats of Transformers and PEFT; `saved` opens it again.
- `architecture` describes the layers of an encoder; `padding` determines how to batch its texts.
- `activation_cache` stores the output of frozen layers; `activation_checkpointing` recomputes
  activations that do not fit into memory.
"""
