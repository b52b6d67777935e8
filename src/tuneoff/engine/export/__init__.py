"""Conversion of a run's model to files that other programs open.

`merge` builds the plain float32 classifier of a run, and `formats` writes it: with Transformers, or
with the exporters of Transformers for ONNX Runtime and OpenVINO.
"""

from tuneoff.engine.export.formats import FORMATS, Format, format_of
from tuneoff.engine.export.merge import MergedModel, merge

__all__ = ["FORMATS", "Format", "MergedModel", "format_of", "merge"]
