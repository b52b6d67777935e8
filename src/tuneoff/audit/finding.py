"""Findings of the audit, and their kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tuneoff.results.summary import AuditFinding, ScoresWithoutRows, Severity

NAMED = 20
"""Maximum number of rows or runs that a finding lists; the others are counted."""


@dataclass(frozen=True)
class Finding:
    """A problem of a study, as in `summary.json` and the report."""

    code: str
    """Short and stable name for scripts."""
    title: str
    """Title of the problem."""
    severity: Severity
    """Whether it is an error or a warning."""
    what: str
    """Description in one sentence with numbers. Labels may be quoted, texts never."""
    why: str
    """Why the problem matters."""
    hint: str
    """What to do about it."""
    concerned: list[str] = field(default_factory=list)
    """Run ids, or rows as `test row 17` (counted from 0 in their file); at most `NAMED`."""
    concerned_count: int = 0
    """Number of all rows or runs concerned."""
    scores: list[ScoresWithoutRows] = field(default_factory=list)
    """Scores by method with and without the rows concerned."""

    def to_plain(self) -> AuditFinding:
        """Return plain values for JSON."""
        return {
            "code": self.code,
            "title": self.title,
            "severity": self.severity,
            "what": self.what,
            "why": self.why,
            "hint": self.hint,
            "concerned": self.concerned,
            "concerned_count": self.concerned_count,
            "scores": self.scores,
        }


@dataclass(frozen=True)
class Kind:
    """A kind of finding."""

    code: str
    """Short and stable name for scripts."""
    title: str
    """Title of the problem."""
    why: str
    """Why the problem matters."""

    def found(
        self,
        what: str,
        hint: str,
        concerned: Sequence[str] = (),
        *,
        severity: Severity = "error",
        scores: Sequence[ScoresWithoutRows] = (),
    ) -> Finding:
        """Return a finding of this kind.

        Args:
            what: Description in one sentence with numbers.
            hint: What to do about it.
            concerned: All rows or runs concerned; the finding lists the first `NAMED`.
            severity: Whether it is an error or a warning.
            scores: Scores with and without the rows concerned.
        """
        return Finding(
            code=self.code,
            title=self.title,
            severity=severity,
            what=what,
            why=self.why,
            hint=hint,
            concerned=list(concerned[:NAMED]),
            concerned_count=len(concerned),
            scores=list(scores),
        )


SHARED_LEARNING_RATE = Kind(
    "shared-learning-rate",
    "One learning rate for all methods",
    "The best learning rates of these methods differ by a factor of 10 to 100. At a rate that"
    " suits one of them, the others look worse than they are.",
)
TEST_PICKS_CHECKPOINT = Kind(
    "test-picks-checkpoint",
    "The test set selects the checkpoint",
    "The best of several epochs on the test rows is partly luck on these rows. The reported score"
    " is too high, and the bias grows with the number of epochs.",
)
PREMISE_ON_BOTH_SIDES = Kind(
    "premise-on-both-sides",
    "The same first text is in both parts of a split",
    "A model can remember what it learned about a premise in training, so these test rows do not"
    " show how well it does on new premises.",
)
CHANCE_LEVEL_IN_COST = Kind(
    "chance-level-in-cost",
    "The cost comparison includes a run at chance level",
    "A run whose predictions are no better than guessing is useless at any cost. Its time and"
    " memory are misleading in a comparison with methods that learned something.",
)
UNEQUAL_BUDGET = Kind(
    "unequal-budget",
    "The methods were trained with different budgets",
    "Time, memory and throughput depend on epochs, batch size, length and precision at least as"
    " much as on the method.",
)
LABELS_DIFFER_IN_CASE = Kind(
    "labels-differ-in-case",
    "Labels differ only in case or spaces",
    "One class is split into two that no model can distinguish, so the scores of both are too low.",
)
GLUED_PAIR = Kind(
    "glued-pair",
    "A pair of texts is joined into one text",
    "The model was pretrained with token types that mark the first and the second text. A joined"
    " text has none, and truncation only removes tokens of the second text.",
)
SINGLE_SEED = Kind(
    "single-seed",
    "Only one seed per method",
    "Another seed changes the score of a fine-tuned model by a few tenths of a point to several"
    " points. With one seed, this cannot be distinguished from a difference between methods.",
)
HEAD_COUNTED_TWICE = Kind(
    "head-counted-twice",
    "Parameters are counted twice, or do not add up",
    "Some tools keep the original head in addition to the trained copy. Counting both makes the"
    " total too large and the trainable percentage too small.",
)
PADDED_THROUGHPUT = Kind(
    "padded-throughput",
    "The throughput includes padding",
    "If all texts are padded to the maximum length, the speed is that of padding rather than of"
    " the method, and tokens per second are not tokens of the data.",
)
TRAIN_TEST_OVERLAP = Kind(
    "train-test-overlap",
    "Test rows are in the training data",
    "A model may have memorised these rows. They are the same except for case, Unicode form and"
    " white space.",
)
GROUP_ON_BOTH_SIDES = Kind(
    "group-on-both-sides",
    "A group is in both parts of a split",
    "Rows of a group are similar. Test rows of a group in the training data do not show how well"
    " a model does on new groups.",
)
ROWS_MISSING = Kind(
    "rows-missing",
    "Rows are missing",
    "Rows that are not counted, often because of another spelling of their label, are missing in"
    " all scores. Scores on different rows cannot be compared.",
)
DIFFERENT_DATA = Kind(
    "different-data",
    "The runs used different data",
    "Scores on different data cannot be compared: a difference may come from the data rather than"
    " from the methods.",
)
DIFFERENT_MACHINES = Kind(
    "different-machines",
    "The runs are from different machines",
    "Differences in time and memory may come from the machines rather than from the methods.",
)
SHARED_DEVICE = Kind(
    "shared-device",
    "Runs shared a device",
    "Runs on the same GPU or cores slow each other down, by an amount that depends on the other"
    " runs. Their times are not those of the methods alone.",
)
UNDER_TRAINED = Kind(
    "under-trained",
    "Validation was still improving at the last epoch",
    "Training ends too early for a method that learns slowly. More epochs could change the"
    " ranking.",
)
UNTESTED_LABELS = Kind(
    "untested-labels",
    "Labels without test rows",
    "No score covers these labels, and macro averages exclude them. Another split, or more rows,"
    " could change the ranking.",
)
TRUNCATION = Kind(
    "truncation",
    "Truncation removes much of the texts",
    "The models never see what is truncated. If the end of a text matters, all methods do worse,"
    " and the differences between them can change.",
)
SMALL_TEST_SET = Kind(
    "small-test-set",
    "The test set is too small for these differences",
    "With so few rows, the uncertainty of the accuracy is larger than the differences.",
)
UNFINISHED_RUNS = Kind(
    "unfinished-runs",
    "Runs did not finish",
    "A run that did not finish is in no score and no cost, and the audit cannot check it. Results"
    " of methods with fewer finished seeds are less certain.",
)
BROKEN_CONTRACT = Kind(
    "broken-contract",
    "A run failed a check of its model",
    "A trainable parameter did not change, or a frozen one did; the saved model differs from the"
    " one that was measured; or predictions depend on the other rows of the batch. The scores may"
    " not be those of the method or model in the table.",
)
LEARNED_NOTHING = Kind(
    "learned-nothing",
    "A run is no better than guessing",
    "Its predictions on the test rows are no better than guessing, so its model is of no use, and"
    " its cost is irrelevant.",
)
UNEQUAL_TUNING = Kind(
    "unequal-tuning",
    "The methods were not tuned equally",
    "More trials find better settings. A method with a longer search has an advantage over one"
    " with a shorter search or none.",
)
EDGE_OF_RANGE = Kind(
    "edge-of-range",
    "The best setting is at the edge of its range",
    "Scores still improved towards the edge of the range. Values beyond it were not tried.",
)

KINDS: tuple[Kind, ...] = (
    *(SHARED_LEARNING_RATE, TEST_PICKS_CHECKPOINT, PREMISE_ON_BOTH_SIDES, CHANCE_LEVEL_IN_COST),
    *(UNEQUAL_BUDGET, LABELS_DIFFER_IN_CASE, GLUED_PAIR, SINGLE_SEED, HEAD_COUNTED_TWICE),
    *(PADDED_THROUGHPUT, TRAIN_TEST_OVERLAP, GROUP_ON_BOTH_SIDES, ROWS_MISSING, DIFFERENT_DATA),
    *(DIFFERENT_MACHINES, SHARED_DEVICE, UNDER_TRAINED, TRUNCATION, SMALL_TEST_SET),
    *(UNFINISHED_RUNS, UNEQUAL_TUNING, EDGE_OF_RANGE, UNTESTED_LABELS, BROKEN_CONTRACT),
    LEARNED_NOTHING,
)
"""All kinds; the first ten are mistakes of published comparisons."""
