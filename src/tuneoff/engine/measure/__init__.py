"""Measurements of time, memory, compute, storage and quality. Definitions: docs/measuring.md.

`clock` takes times, `memory` peaks and their parts, and `meter` combines both for the training
loop. `step_timer` splits the time of the steps, `latency` times single texts, `parameters` counts
weights, `compute` estimates the utilisation of the hardware, `storage` counts bytes on disk,
`quality` scores predictions, and `environment` describes the machine.
"""
