"""Predictions made by any tool, brought into the same table, error analysis and report.

1. `files`: a CSV, TSV, JSON lines or Parquet file as plain columns
2. `answers`: the columns as predictions, every value checked
3. `runs`: predictions as runs of a study that have no cost
4. `annotations`: several annotators' labels of the same rows
"""

from tuneoff.external_predictions.annotations import read_annotations
from tuneoff.external_predictions.runs import FAMILY, ForeignRun, Truth, parse_sources, read_runs

__all__ = ["FAMILY", "ForeignRun", "Truth", "parse_sources", "read_annotations", "read_runs"]
