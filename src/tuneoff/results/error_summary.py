"""Types of `errors` in `summary.json`: the error analysis without texts of the data.

Rates and fractions are in [0, 1]. Counts are numbers of test rows.
"""

from typing import TypedDict


class LabelErrorCounts(TypedDict):
    """Errors of one method for one label, means over the seeds."""

    label: str
    """Name of the label."""
    rows: int
    """Number of test rows with this label."""
    missed: float
    """False negatives: rows with this label that were predicted as another one."""
    mistaken: float
    """False positives: rows with other labels that were predicted as this one."""


class FrequentWordCounts(TypedDict):
    """A word that occurs in many errors."""

    word: str
    """The word, case-folded."""
    side: str
    """`first` or `second` text of a pair; empty for single texts."""
    errors: int
    """Number of wrong rows that contain the word."""
    share_of_errors: float
    """Fraction of the wrong rows that contain the word."""
    share_of_rows: float
    """Fraction of all rows that contain the word."""


class SuspectWordTest(TypedDict):
    """A word whose rows have a higher error rate than all rows."""

    word: str
    """The word, case-folded."""
    side: str
    """`first` or `second` text of a pair; empty for single texts."""
    rows: int
    """Number of test rows that contain the word."""
    errors: int
    """Number of these rows that are wrong."""
    rate: float
    """Error rate: errors / rows."""
    low: float
    """Lower end of the 95 % interval of the rate."""
    high: float
    """Upper end of the interval."""
    q: float
    """False discovery rate over all words of all methods."""
    significant: bool
    """Whether q is at most 0.05."""


class MethodWordSummary(TypedDict):
    """Words in the errors of one method."""

    errors: int
    """Number of errors."""
    rate: float
    """Error rate on all test rows."""
    significant: int
    """Number of all significant words, whether listed or not."""
    frequent: list[FrequentWordCounts]
    """The 10 words that occur in most errors."""
    suspect: list[SuspectWordTest]
    """The 10 most significantly over-represented words."""


class WordRates(TypedDict):
    """Error rates of a word for all methods."""

    word: str
    """The word, case-folded."""
    side: str
    """`first` or `second` text of a pair; empty for single texts."""
    rows: int
    """Number of test rows that contain the word."""
    rates: dict[str, float]
    """Error rate of these rows by method."""
    significant: list[str]
    """Methods for which the word is significantly over-represented."""


class WordSummary(TypedDict):
    """Words associated with errors."""

    tested: int
    """Number of distinct words with enough rows."""
    methods: dict[str, MethodWordSummary]
    """Words of each method."""
    across: list[WordRates]
    """The 10 first significant words, by number of methods and then by smallest q."""


class SliceTest(TypedDict):
    """Error rate of one method on a part of the test rows."""

    kind: str
    """`length`, `label`, `rare words` or `group`."""
    name: str
    """Description of the rows."""
    rows: int
    """Number of rows."""
    errors: int
    """Number of errors."""
    rate: float
    """Error rate: errors / rows."""
    low: float
    """Lower end of the 95 % interval of the rate."""
    high: float
    """Upper end of the interval."""
    rest: float
    """Error rate of all other rows."""
    q: float
    """False discovery rate over all slices of all methods."""
    significant: bool
    """Whether q is at most 0.05."""


class SliceSummary(TypedDict):
    """Error rates of slices of the test rows."""

    tested: int
    """Number of slices."""
    methods: dict[str, list[SliceTest]]
    """The 10 most significant slices of each method."""


class DisagreementCount(TypedDict):
    """A combination of different predictions of two methods."""

    first: str
    """Label predicted by the first method."""
    second: str
    """Label predicted by the second method."""
    rows: float
    """Number of test rows, mean over the pairs of seeds."""


class MethodOverlap(TypedDict):
    """Overlap of the errors of two methods, means over the pairs of seeds."""

    first: str
    """Name of the first method."""
    second: str
    """Name of the second method; if it is the same one, its different seeds are compared."""
    both_right: float
    """Fraction of rows that both methods predict correctly."""
    first_only: float
    """Fraction of rows that only the first method predicts correctly."""
    second_only: float
    """Fraction of rows that only the second method predicts correctly."""
    both_wrong: float
    """Fraction of rows that both methods predict wrongly."""
    both_wrong_by_chance: float
    """Expected value of `both_wrong` for independent errors."""
    same_wrong_label: float
    """Among the rows that both predict wrongly, the fraction with the same wrong label."""
    consistency: float | None
    """Cohen's kappa of being correct; None if one method has no errors, or only errors."""
    disagreements: list[DisagreementCount]
    """Most frequent combinations of different predictions."""


class OverlapSummary(TypedDict):
    """Overlap of the errors of all methods."""

    pairs: list[MethodOverlap]
    """All pairs of methods, and the seeds of each method."""
    contenders: list[str]
    """Methods that the following counts cover: all except the untrained baseline."""
    all_right: int
    """Number of rows that all contenders predict correctly."""
    all_wrong: int
    """Number of rows that all contenders predict wrongly."""
    best: str
    """Contender with the highest accuracy, by majority vote of its seeds."""
    best_accuracy: float
    """Accuracy of the best contender."""
    oracle_accuracy: float
    """Fraction of rows that at least one contender predicts correctly."""


class MarginQuantiles(TypedDict):
    """Quantiles of the predicted minus the true label's probability, over all seeds' errors."""

    errors: int
    """Number of errors of all seeds."""
    q05: float
    """5 % quantile."""
    q25: float
    """25 % quantile."""
    median: float
    """Median."""
    q75: float
    """75 % quantile."""
    q95: float
    """95 % quantile."""


class ScalingSummary(TypedDict):
    """Effect of temperature scaling, means over the seeds."""

    temperature: float
    """Best temperature on the validation rows; above 1 if the model was overconfident."""
    log_loss: float
    """Log loss in nats on the test rows with this temperature."""
    ece: float
    """Expected calibration error on the test rows with this temperature."""


class CalibrationSummary(TypedDict):
    """Calibration of one method's probabilities, means over the seeds."""

    log_loss: float
    """Log loss in nats."""
    ece: float
    """Expected calibration error over 15 bins of equal width."""
    margins: MarginQuantiles | None
    """Confidence in wrong predictions; None without errors."""
    scaling: ScalingSummary | None
    """Effect of temperature scaling; None without validation rows."""


class AmbiguityLevelSummary(TypedDict):
    """Error rate of one method on rows with similar annotator agreement."""

    low: float
    """Smallest agreement: fraction of annotators who chose a row's most frequent label."""
    high: float
    """Largest agreement."""
    rows: int
    """Number of rows."""
    errors: int
    """Number of errors."""
    rate: float
    """Error rate: errors / rows."""
    rate_low: float
    """Lower end of the 95 % interval of the rate."""
    rate_high: float
    """Upper end of the interval."""


class AmbiguitySummary(TypedDict):
    """Relation of one method's errors to the annotators' disagreement."""

    levels: list[AmbiguityLevelSummary]
    """Error rates by agreement, lowest agreement first."""
    correlation: float | None
    """Spearman's correlation of the annotations' entropy with being wrong; None if constant."""
    p: float | None
    """P value of the correlation."""


class ErrorSummary(TypedDict):
    """Error analysis of all methods."""

    rows: int
    """Number of test rows."""
    labels: dict[str, list[LabelErrorCounts]]
    """Errors by label, for each method."""
    words: WordSummary | None
    """Words associated with errors; None without texts."""
    slices: SliceSummary
    """Error rates of parts of the test rows."""
    overlap: OverlapSummary
    """Overlap of the methods' errors."""
    calibration: dict[str, CalibrationSummary]
    """Calibration of each method with probabilities."""
    label_suspects: int | None
    """Number of rows whose label is probably wrong; None without probabilities or cleanlab."""
    ambiguity: dict[str, AmbiguitySummary] | None
    """Relation to the annotators' disagreement, by method; None without annotations."""
