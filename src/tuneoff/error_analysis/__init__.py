"""Where the models err, from predictions and texts alone.

`collect` makes `Evidence` of the tables on disk, `analyze` looks at it from every side:

1. `labels`: which labels the errors fall on
2. `words`: which words stand in them more often than by chance
3. `slices`: which parts of the rows go wrong more often than the rest
4. `overlap`: whether methods err on the same rows
5. `confidence`: how sure the models are of their errors, and whether their probabilities hold
6. `suspects`: rows whose label is likely wrong
7. `ambiguity`: whether errors follow the annotators' disagreement
8. `rows`: the rows themselves

`certainty` holds the intervals and tests that all of them share.
"""

from tuneoff.error_analysis.ambiguity import ambiguity
from tuneoff.error_analysis.analysis import ErrorAnalysis, analyze
from tuneoff.error_analysis.evidence import Evidence, MethodAnswers, RunAnswers, collect
from tuneoff.error_analysis.suspects import label_suspects

__all__ = [
    "ErrorAnalysis",
    "Evidence",
    "MethodAnswers",
    "RunAnswers",
    "ambiguity",
    "analyze",
    "collect",
    "label_suspects",
]
