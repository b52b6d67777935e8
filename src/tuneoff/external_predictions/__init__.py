"""External predictions: predictions of other tools in the same table, error analysis and report.

1. `files`: reads a CSV, TSV, JSON lines or Parquet file as plain columns
2. `file_predictions`: converts the columns to predictions and checks all values
3. `runs`: adds the predictions to a study as runs without costs
4. `annotations`: reads labels of several annotators for the same rows
"""

from tuneoff.external_predictions.annotations import read_annotations
from tuneoff.external_predictions.runs import (
    FAMILY,
    ExternalRun,
    TaskTruth,
    parse_sources,
    read_runs,
)

__all__ = ["FAMILY", "ExternalRun", "TaskTruth", "parse_sources", "read_annotations", "read_runs"]
