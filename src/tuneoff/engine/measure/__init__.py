"""Measurements of time, memory, compute, storage and quality. Definitions: docs/measuring.md.

- `clock`, `memory` and `meter`: time and peak memory of a training, and both together.
- `step_timer`: time of the training steps by part.
- `latency`: time of single texts.
- `parameters`: number of weights.
- `compute`: utilisation of the hardware.
- `storage`: size on disk.
- `quality`: scores of predictions.
- `environment`: description of the machine.
- `profile`: trace of a few training steps.
"""
