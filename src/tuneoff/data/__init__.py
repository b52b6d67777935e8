"""A row's way, from the user's file to what the training loop reads.

In the order in which a row passes them:

1. `source`: a file or a hub data set as a table with fixed columns (`delimited` reads CSV and TSV,
   `records` JSONL, Parquet and the hub, `values` and `labels` check what they hold); `choose`
   finds the columns of text and label where nobody names them
2. `check`: what a look across the splits finds wrong or worth a warning
3. `split`: held-out fractions and subsamples
4. `tokens`: the flat token store on disk
5. `task`: all of it in one call, kept under the study's `data/<key>/`; `explore` counts what the
   reader of a report wants to see
6. `batches`: rows of a token store as the model takes them

Importing this package loads neither torch nor transformers nor datasets.
"""

from tuneoff.data.choose import choose_columns
from tuneoff.data.columns import Columns
from tuneoff.data.source import Table, read_table
from tuneoff.data.task import FileReport, Split, Task, check_file, inspect, open_task, prepare
from tuneoff.data.tokens import TokenStore

__all__ = [
    "Columns",
    "FileReport",
    "Split",
    "Table",
    "Task",
    "TokenStore",
    "check_file",
    "choose_columns",
    "inspect",
    "open_task",
    "prepare",
    "read_table",
]
