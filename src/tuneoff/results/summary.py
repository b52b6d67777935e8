"""Types of `summary.json`, which has the results of all runs of a study.

A missing value is None (JSON `null`). Sizes are in bytes, times in seconds, and shares and scores
in [0, 1], unless a field says otherwise. Dictionaries from names to values are keyed by the metrics
of a record's `quality` (`accuracy`, …), by the fields of its `cost` (`train_seconds`, …), or by the
methods' names in the study.
"""

# `from __future__ import annotations` would hide `NotRequired` from `__required_keys__`.

from typing import Any, Literal, NotRequired, TypedDict, final

Answer = Literal["better", "worse", "equivalent", "not_resolved"]
"""Result of a comparison of a first method with a second one."""
Scope = Literal["methods", "models"]
"""What a comparison covers: the methods with any seed, or only the two trained models."""
Whose = Literal["both", "first", "second"]
"""Methods of a pair."""
Severity = Literal["error", "warning"]
"""An error makes a number or a comparison wrong; a warning limits what it means."""
ParetoPlace = Literal["surely", "possibly", "off"]
"""Place of a method relative to a Pareto front."""
Stopped = Literal["settled", "limit", "unlikely", "time", "unfinished", "nothing"]
"""Reason why no further seeds were run."""


class Statistic(TypedDict):
    """A number over the seeds of a method."""

    mean: float | None
    """Mean over the seeds; None if no run has the number."""
    std: float | None
    """Sample standard deviation; None with fewer than two seeds."""
    low: float | None
    """Lower end of the 95 % interval of the mean; None with fewer than two seeds."""
    high: float | None
    """Upper end of the interval."""
    n: int
    """Number of runs with the number."""


def half_width(stat: Statistic | None) -> float | None:
    """Return half the width of a statistic's 95 % interval; None if there is no interval."""
    if stat is None or stat["low"] is None or stat["high"] is None:
        return None
    return (stat["high"] - stat["low"]) / 2


class FailedRun(TypedDict):
    """A run without a result."""

    run_id: str
    """Id of the run."""
    status: str
    """How the run ended, as in `record.json`."""
    error: str | None
    """Error message."""


class ParameterCounts(TypedDict):
    """Numbers of parameters of a method's model."""

    total: int
    """All parameters, including the head."""
    trainable: int
    """Trainable parameters."""
    trainable_body: int
    """Trainable parameters outside of the head."""
    trainable_head: int
    """Trainable parameters of the head."""
    trainable_percent: float
    """100 x trainable / total."""


class MethodSummary(TypedDict):
    """One method with the scores and costs of its runs."""

    name: str
    """Name in the study."""
    method: str | None
    """Name of the registered method."""
    family: str | None
    """Family of the method; None without a run."""
    status: str | None
    """`finished` if a run finished, else the status of the first failure; None without a run."""
    seeds: list[int]
    """Seeds of all runs, sorted."""
    runs: list[str]
    """Ids of all runs, by seed."""
    failed: list[FailedRun]
    """Runs without a result."""
    quality: dict[str, Statistic]
    """Scores on the test rows, by metric."""
    validation: dict[str, Statistic]
    """Scores on the validation rows, by metric."""
    parameters: ParameterCounts | None
    """Numbers of parameters; None without a finished run that has them."""
    cost: dict[str, Statistic]
    """Costs by field of a record's `cost`."""


class RowCounts(TypedDict):
    """Numbers of rows of the splits; None if a split is unknown or missing."""

    train: int | None
    """Training rows."""
    validation: int | None
    """Validation rows."""
    test: int | None
    """Test rows."""


class Majority(TypedDict):
    """Test scores of always predicting the most frequent training label."""

    label: str
    """The most frequent training label."""
    accuracy: float
    """Accuracy on the test rows."""
    macro_f1: float
    """Macro-averaged F1 on the test rows."""


class Reference(TypedDict):
    """Reference scores that need no training."""

    majority: Majority | None
    """Majority baseline; None without a prepared task."""


class SeedUse(TypedDict):
    """Seeds and runs used by a study with an adaptive number of seeds."""

    first: int
    """Number of seeds that every method gets."""
    last: int
    """Maximum number of seeds of a method."""
    of: dict[str, int]
    """Number of seeds used, by method, without methods that have a single model."""
    runs: int
    """Number of runs used."""
    most: int
    """Number of runs if every method had all seeds."""
    stopped: Stopped
    """`settled`; `limit` (after the last seed); `unlikely` (further seeds were unlikely to settle
    it); `time` (time limit); `unfinished` (runs are missing); `nothing` (nothing to compare)."""


class Needed(TypedDict):
    """Seeds or test rows that would resolve a difference with a power of 80 %."""

    seeds: int | None
    """Number of seeds that suffice on the present test rows."""
    of: Whose
    """Methods that need these seeds."""
    rows: int | None
    """Number of test rows that suffice with the present seeds."""
    both: list[int] | None
    """[seeds, rows] that suffice together, if neither suffices alone."""


class Tested(TypedDict):
    """Difference of two methods by one metric, first minus second, with its tests."""

    answer: Answer
    """Result for the first method compared with the second."""
    difference: float
    """Difference of the mean scores."""
    low: float
    """Lower end of the 95 % interval of the difference, not adjusted for other pairs."""
    high: float
    """Upper end of the interval."""
    standard_error: float
    """Standard error of the difference due to seeds and test rows."""
    from_seeds: float
    """Part of the standard error due to the seeds."""
    from_rows: float
    """Part of the standard error due to the test rows."""
    p: float
    """Two-sided P value of the hypothesis of no difference."""
    p_adjusted: float
    """The same, adjusted for all pairs of the family."""
    p_equivalent: float
    """P value of the hypothesis that the methods differ by the margin or more."""
    p_equivalent_adjusted: float
    """The same, adjusted for all pairs of the family."""
    needed: Needed | None
    """What would resolve the difference; None if it is resolved."""
    chance: NotRequired[float]
    """Probability that the last seed resolves it; only with an adaptive number of seeds."""


class McNemarTest(TypedDict):
    """McNemar's test of the two methods' models on the test rows."""

    only_first: float
    """Test rows that only the first method predicts correctly, mean over the pairs of runs."""
    only_second: float
    """Test rows that only the second method predicts correctly."""
    p: float
    """P value of the hypothesis of equal accuracy."""
    p_adjusted: float
    """The same, adjusted for all pairs by Holm's procedure."""


class Pair(Tested):
    """Comparison of two methods by the study's metric."""

    first: str
    """Name of the first method."""
    second: str
    """Name of the second method."""
    runs: list[int]
    """Numbers of runs of the first and the second method."""
    rows: int
    """Number of common test rows."""
    groups: int | None
    """Number of groups of test rows; None if rows are independent."""
    scope: Scope
    """`models` if a method has a single run, so the answer does not cover other seeds."""
    mcnemar: McNemarTest
    """McNemar's test."""
    also: dict[str, Tested]
    """Comparison by further metrics, each tested separately."""


class SkippedPair(TypedDict):
    """Two methods that were not compared."""

    first: str
    """Name of the first method."""
    second: str
    """Name of the second method."""
    reason: str
    """Why they were not compared."""


class LookRange(TypedDict):
    """Numbers of seeds at which a study may look at its result."""

    first: int
    """Number of seeds at the first look."""
    last: int
    """Number of seeds at the last look."""


class Pairwise(TypedDict):
    """Pairwise comparison of the methods."""

    metric: str
    """Metric of the comparison."""
    margin: float
    """Largest difference of the metric that is irrelevant in practice."""
    level: float
    """Probability of any false claim over all pairs."""
    draws: int
    """Number of bootstrap draws of the test rows."""
    looks: LookRange | None
    """Looks at the result, for which intervals are widened; None with a fixed number of seeds."""
    guessing: list[str]
    """Methods that are no better than guessing; their pairs are adjusted separately."""
    pairs: list[Pair]
    """Compared pairs of methods."""
    skipped: list[SkippedPair]
    """Pairs that were not compared."""
    without_predictions: NotRequired[list[str]]
    """Ids of finished runs without usable predictions."""
    unusable_predictions: NotRequired[dict[str, str]]
    """Why stored predictions cannot be used, by run id; missing in summaries of older versions."""


class BestBounds(TypedDict):
    """Bounds of a method's distance from the best of the others, jointly with 95 % confidence."""

    behind: float
    """Upper bound of how much worse the method is than the best of the others; 0 or more."""
    ahead: float
    """Upper bound of how much better it is; 0 if it is ruled out as the only best method."""


class Action(TypedDict):
    """Action that would probably resolve an open pair."""

    kind: Literal["seeds", "rows", "both", "none"]
    """Run more seeds, label more test rows, do both, or `none` if no feasible number suffices."""
    seeds: int | None
    """Number of seeds per method."""
    rows: int | None
    """Number of test rows."""
    of: list[str]
    """Methods that need more seeds."""


class RunnerUp(TypedDict):
    """An alternative to the recommended method."""

    name: str
    """Name of the method."""
    costs: dict[str, float | None]
    """Mean costs over the seeds."""
    evidence: Pair | None
    """Pair with the recommended or the best method; None if they were not compared."""


class CheaperMethod(TypedDict):
    """A faster method that scored lower than the recommended one without being ruled out."""

    name: str
    """Name of the method."""
    costs: dict[str, float | None]
    """Mean costs over the seeds."""
    evidence: Pair
    """Pair with the best method."""


class GoalRunnerUp(TypedDict):
    """The second method for a goal."""

    name: str
    """Name of the method."""
    figure: float | None
    """Value that decides for the goal."""


class Goal(TypedDict):
    """Recommendation for one goal."""

    goal: str
    """Description of the goal, such as `lowest memory`."""
    key: str
    """Study's metric or cost that decides."""
    name: str
    """Name of the recommended method."""
    figure: float | None
    """Value of `key`, mean over the seeds."""
    evidence: Pair | None
    """Pair with the best method; for the best method, with the runner-up."""
    runner_up: GoalRunnerUp | None
    """The second method; None if there is no other."""
    run_id: str | None
    """Run of the method with the best validation score."""
    command: str | None
    """Command to predict with this run."""


class Exclusion(TypedDict):
    """A method that cannot be recommended."""

    name: str
    """Name of the method."""
    reason: str
    """Why it cannot be recommended."""


class Recommendation(TypedDict):
    """The cheapest method that is competitive with the best, within the limits."""

    name: str | None
    """Recommended method; None if no candidate is left."""
    run_id: str | None
    """Its run with the best validation score."""
    command: str | None
    """Command to predict with this run."""
    best: str | None
    """Candidate with the best mean score."""
    evidence: Pair | None
    """Pair of the recommended method with the best one; None if they are the same."""
    runner_up: RunnerUp | None
    """The alternative to the recommended method; None if there is no other candidate."""
    cheaper: CheaperMethod | None
    """The best faster method that scored lower without being ruled out."""
    score: float | None
    """Mean score of the recommended method by the study's metric."""
    costs: dict[str, float | None]
    """Its mean costs over the seeds."""
    bounds: dict[str, BestBounds]
    """Bounds of each candidate's distance from the best of the others."""
    not_worse: list[str]
    """Candidates that are not ruled out as the best."""
    ruled_out: list[str]
    """Candidates that are ruled out as the best."""
    open: list[str]
    """Candidates whose difference from the best is not resolved."""
    undecided: list[str]
    """Methods that need another seed; empty if the recommendation is settled."""
    action: Action | None
    """What would resolve the question that the recommendation depends on; None without one."""
    by_goal: list[Goal]
    """Recommendation for each goal."""
    worse: list[str]
    """Methods that are significantly worse than the best."""
    limits: dict[str, float | dict[str, float]]
    """Upper bounds of costs; `min_recall` has lower bounds of recall by label."""
    excluded: list[Exclusion]
    """Methods that cannot be recommended."""
    sentences: list[str]
    """The recommendation as text."""


class ParetoEntry(TypedDict):
    """A method relative to the Pareto front of quality against one cost."""

    name: str
    """Name of the method."""
    cost: float
    """Mean cost over the seeds."""
    score: float | None
    """Mean score by the study's metric."""
    place: ParetoPlace
    """`off` if it is dominated, `surely` on the front, or `possibly` if that is not resolved."""
    dominated_by: list[str]
    """Methods that dominate it."""


class ScoresWithoutRows(TypedDict):
    """Scores of a method with and without the test rows of a finding, means over the seeds."""

    name: str
    """Name of the method."""
    rows: int
    """Number of all test rows."""
    rows_left: int
    """Number of test rows without those concerned."""
    accuracy: float | None
    """Accuracy on all test rows."""
    macro_f1: float | None
    """Macro-averaged F1 on all test rows."""
    accuracy_left: float | None
    """Accuracy on the rows left; None if no row is left."""
    macro_f1_left: float | None
    """Macro-averaged F1 on the rows left."""


class AuditFinding(TypedDict):
    """A problem that the audit found."""

    code: str
    """Short and stable name for scripts."""
    title: str
    """Title of the problem."""
    severity: Severity
    """Whether it is an error or a warning."""
    what: str
    """Description in one sentence with numbers."""
    why: str
    """Why the problem matters."""
    hint: str
    """What to do about it."""
    concerned: list[str]
    """Run ids, or rows as `test row 17`; at most 20."""
    concerned_count: int
    """Number of all rows or runs concerned."""
    scores: list[ScoresWithoutRows]
    """Scores with and without the rows concerned."""


@final
class NumberRange(TypedDict):
    """Searched range of a number."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool
    """Whether the search is on a logarithmic scale."""
    whole: bool
    """Whether values are whole numbers."""


@final
class ValueRange(TypedDict):
    """Searched values of a setting without an order."""

    values: list[Any]
    """The values."""


class TrialResult(TypedDict):
    """One trial of a search."""

    number: int
    """Number from 1, which has the study's own settings."""
    settings: dict[str, Any]
    """Values of the searched settings."""
    run_id: str
    """Id of the trial's run."""
    status: str
    """How the trial ended, as in `record.json`."""
    score: float | None
    """Validation score at the best epoch by the study's metric; None if it did not finish."""
    scores: list[float]
    """Validation score after each epoch."""
    seconds: float | None
    """Time from the start of the trial's process to its record."""
    error: str | None
    """Error message."""


class MethodTuning(TypedDict):
    """Search of one method's settings."""

    name: str
    """Name in the study."""
    method: str
    """Name of the registered method."""
    space: dict[str, NumberRange | ValueRange]
    """Searched range by setting; empty if the method has no setting to search."""
    best: int | None
    """Number of the best trial; None if no trial finished."""
    trials: list[TrialResult]
    """All trials."""


class Tuning(TypedDict):
    """Searches of all methods, the content of `trials.json`."""

    schema: int
    """Version of `trials.json`."""
    metric: str
    """Metric of the search, on the validation rows."""
    trials: int
    """Number of trials of each method."""
    over: list[str]
    """Names of the searched settings."""
    rows: int | None
    """Number of training rows of a trial; None if a trial uses all of them."""
    seed: int
    """Random seed of all trials and of the sampler."""
    pruning: bool
    """Whether trials with low scores are stopped early."""
    methods: list[MethodTuning]
    """Searches in the order of the study."""


class ForecastCost(TypedDict):
    """Forecast and actual value of a cost, means over the finished runs."""

    forecast: float | None
    """Value before the study was run."""
    actual: float | None
    """Measured value."""


class ForecastComparison(TypedDict):
    """Forecast costs of one method compared with the actual costs of its finished runs."""

    name: str
    """Name of the method."""
    runs: int
    """Number of finished runs."""
    train_seconds: ForecastCost
    """Training time of a run."""
    total_seconds: ForecastCost
    """Total time of a run."""
    peak_memory_bytes: ForecastCost
    """Peak memory of a run."""
    storage_bytes: ForecastCost
    """Size of the saved weights in addition to the base model."""


class Summary(TypedDict):
    """Content of `summary.json`."""

    schema: int
    """Version of `summary.json`, increased if a field changes its meaning."""
    metric: str
    """Metric of the study."""
    labels: list[str]
    """Labels of the study, in the order of confusion matrices."""
    rows: RowCounts
    """Numbers of rows of the splits."""
    model: str
    """Base model; empty for external predictions without a study."""
    methods: list[MethodSummary]
    """Methods in the order of the study."""
    reference: Reference
    """Reference scores that need no training."""
    seeds: SeedUse | None
    """Seeds used; None with a fixed number of seeds."""
    pairwise: Pairwise | None
    """Pairwise comparison; None with fewer than two methods with predictions."""
    audit: list[AuditFinding] | None
    """Findings of the audit, errors first; None if there was no audit."""
    recommendation: Recommendation | None
    """Recommendation; None with fewer than two methods with a result."""
    command_to_use: str | None
    """Command to predict with the only method that has a result; None with several."""
    pareto_fronts: dict[str, list[ParetoEntry]] | None
    """By cost, the methods in order of increasing cost; None if nothing was compared."""
    errors: dict[str, Any] | None
    """Error analysis without texts, see `ErrorAnalysis.compact`; None without predictions."""
    tuning: Tuning | None
    """Searches of settings; None if nothing was searched."""
    environment: list[dict[str, Any]]
    """Distinct environments of the runs: machine, device and versions, as in `record.json`."""
    command: NotRequired[str | None]
    """Command that created the study; None if it is unknown."""
    forecast: NotRequired[list[ForecastComparison] | None]
    """Forecast and actual costs; None without a forecast."""
