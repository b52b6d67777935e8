"""Preparation of a task: from the rows of the tables to what the training loop reads.

In the order in which a row passes them:

1. `gather`: the three splits in memory, from the tables that `tuneoff.tables` reads
2. `check`: errors and warnings that only a look across the splits finds (`near_duplicates`)
3. `split`: held-out fractions and subsamples
4. `tokens`: the flat token store on disk (`tokenizer` loads and checks the tokenizer)
5. `task`: all of it in one call, kept under the study's `data/<key>/`; `explore` counts what the
   reader of a report wants to see
6. `batches`: rows of a token store as the model takes them

Importing this package loads neither torch nor transformers nor datasets.
"""

from tuneoff.engine.data.task import (
    FileReport,
    Split,
    Task,
    check_file,
    inspect,
    open_task,
    prepare,
)
from tuneoff.engine.data.tokens import TokenStore

__all__ = [
    "FileReport",
    "Split",
    "Task",
    "TokenStore",
    "check_file",
    "inspect",
    "open_task",
    "prepare",
]
