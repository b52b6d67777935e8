"""Tables: files, hub data sets and objects in memory as rows with typed columns, without torch.

`source` reads a file or a hub data set as one table with fixed columns. `delimited` reads CSV and
TSV, `records` JSONL and Parquet, `hub` data sets of the Hugging Face hub, and `objects` data frames
and `datasets.Dataset` objects. `choose` finds the columns of text and label where none are named
(`value_kinds` recognises what a column holds), `values` and `labels` check every value, `columns`
collects the issues and `notes` the warnings.
"""

from tuneoff.tables.choose import choose_columns
from tuneoff.tables.columns import Columns
from tuneoff.tables.source import Table, read_table

__all__ = ["Columns", "Table", "choose_columns", "read_table"]
