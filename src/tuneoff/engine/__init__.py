"""The engine: one `RunSpec` goes down, one `RunRecord` comes back. All that imports torch is here.

`execute` resolves what the specification asks, runs it and writes the record, whatever happens.
`run_encoder` trains and measures an encoder, `run_classical` a method without one; `job` holds what
they share. `data` prepares the task, `model` loads and saves models, `kernels` holds what exists
for speed alone, `training` trains, `measure` measures, `verification` checks models before and
after training, and `inference` predicts with a saved model.
"""
