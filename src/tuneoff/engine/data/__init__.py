"""Data preparation: splits, checks, tokens and batches.

The modules, in the order in which they process a row:

1. `gather`: build the three splits in memory, from the tables that `tuneoff.tables` reads
2. `check`: find errors and warnings that need several splits or a whole table (`near_duplicates`)
3. `split`: hold out fractions and draw subsamples
4. `tokens`: write the token store (`tokenizer` loads and checks the tokenizer)
5. `task`: do all of this in one call and store the result in the study's `data/<key>/`; `explore`
   computes the statistics for the report
6. `batches`: build the model's inputs from rows of a token store

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
