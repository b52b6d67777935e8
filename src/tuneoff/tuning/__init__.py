"""Search for settings: every method gets the same number of trials on the validation rows.

`search` runs the trials, `space` defines the search space of each method, `propose` chooses the
settings of the next trial, and `trials` holds the results. The test rows are not read before the
settings of all methods are fixed.
"""

from tuneoff.tuning.search import run_tuned, tune_study
from tuneoff.tuning.space import tuning_issues
from tuneoff.tuning.trials import MethodSearch, Tried, Tuned

__all__ = [
    "MethodSearch",
    "Tried",
    "Tuned",
    "run_tuned",
    "tune_study",
    "tuning_issues",
]
