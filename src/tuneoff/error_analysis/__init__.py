"""Error analysis of the models, from their predictions and the texts.

`collect` reads `ErrorEvidence` from the tables on disk, and `analyze` runs all parts of the
analysis:

1. `labels`: errors by label
2. `words`: words that are associated with errors
3. `slices`: error rates of parts of the test rows
4. `overlap`: overlap of the errors of different methods
5. `confidence`: calibration, and confidence of the models in their errors
6. `suspects`: rows whose label is probably wrong
7. `ambiguity`: relation of errors to the annotators' disagreement
8. `rows`: a list of selected rows

`certainty` has the intervals and tests that all of them use.
"""

from tuneoff.error_analysis.ambiguity import ambiguity
from tuneoff.error_analysis.analysis import ErrorAnalysis, analyze
from tuneoff.error_analysis.evidence import (
    ErrorEvidence,
    MethodPredictions,
    SeedPredictions,
    collect,
)
from tuneoff.error_analysis.suspects import label_suspects

__all__ = [
    "ErrorAnalysis",
    "ErrorEvidence",
    "MethodPredictions",
    "SeedPredictions",
    "ambiguity",
    "analyze",
    "collect",
    "label_suspects",
]
