"""Reading of data files, hub data sets and data frames into tables with fixed columns.

The package does not import torch. Its modules:

- `source` reads a file or a hub data set into one table. It calls `delimited` for CSV and TSV,
  `records` for JSONL and Parquet, and `hub` for data sets of the Hugging Face hub.
- `objects` writes data frames and `datasets.Dataset` objects to files.
- `choose` detects the columns of the text and the label if the user does not name them, with the
  statistics of `value_kinds`.
- `values` and `labels` check every value, `columns` collects the issues, and `notes` the warnings.
"""

from tuneoff.tables.choose import choose_columns
from tuneoff.tables.columns import Columns
from tuneoff.tables.source import Table, read_table

__all__ = ["Columns", "Table", "choose_columns", "read_table"]
