"""The engine executes one `RunSpec` and returns one `RunRecord`. Only this package imports torch.

- `execute`: resolves the specification, executes the run and writes the record of every outcome.
- `run_encoder`, `run_classical`: runs with and without an encoder; `job` has their state.
- `data`: prepares the task.
- `model`: loads and saves models.
- `kernels`: optimised operations.
- `training`, `measure`: the training loop and the measurements.
- `verification`: checks models before and after training.
- `inference`: predictions with a saved model.
"""
