"""What a check reports, and the kinds of findings there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]
"""An error makes a number or a comparison wrong; a warning makes it say less than it seems to."""

NAMED = 20
"""Rows or runs that a finding names; the rest is counted."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a study, as `summary.json` and the report hold it."""

    code: str
    """Short and stable: scripts may lean on it."""
    title: str
    severity: Severity
    what: str
    """One sentence with the numbers; quotes no text of the data, labels excepted."""
    why: str
    hint: str
    concerned: list[str] = field(default_factory=list)
    """Run ids, or rows as `test row 17` (counted from 0 in their file); `NAMED` at the most."""
    concerned_count: int = 0
    """All that are concerned, named or not."""
    scores: list[dict[str, Any]] = field(default_factory=list)
    """By method, where rows can be left out: `name`, `rows`, `rows_left`, and `accuracy` and
    `macro_f1` with all rows and, as `accuracy_left` and `macro_f1_left`, without them."""

    def to_plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Kind:
    """One kind of finding: its code, its title, and why it matters."""

    code: str
    title: str
    why: str

    def found(
        self,
        what: str,
        hint: str,
        concerned: Sequence[str] = (),
        *,
        severity: Severity = "error",
        scores: Sequence[dict[str, Any]] = (),
    ) -> Finding:
        """A finding of this kind."""
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
    "The best learning rates of these methods differ by a factor of 10 to 100. At a rate that suits"
    " one of them, the others look worse than they are.",
)
TEST_PICKS_CHECKPOINT = Kind(
    "test-picks-checkpoint",
    "The test set picks the checkpoint",
    "The best of several epochs on the test rows is partly luck on these very rows. The score that"
    " is reported is too high, the more so the more epochs there are to pick from.",
)
PREMISE_ON_BOTH_SIDES = Kind(
    "premise-on-both-sides",
    "The same first text stands on both sides of a split",
    "A model can remember what it learned about a premise in training, so these test rows do not"
    " show how it does on a new one.",
)
CHANCE_LEVEL_IN_COST = Kind(
    "chance-level-in-cost",
    "A run that learned nothing is in the cost comparison",
    "Time and memory of a run that answers no better than by chance are the cost of nothing. Beside"
    " the costs of methods that learned, they mislead.",
)
UNEQUAL_BUDGET = Kind(
    "unequal-budget",
    "Cost is compared at different budgets",
    "Time, memory and throughput depend on epochs, batch size, length and precision at least as"
    " much as on the method.",
)
LABELS_DIFFER_IN_CASE = Kind(
    "labels-differ-in-case",
    "Labels differ only in case or spaces",
    "One class becomes two, which no model can tell apart, and the scores of both suffer.",
)
GLUED_PAIR = Kind(
    "glued-pair",
    "A pair of texts is glued into one",
    "The model was pretrained to be told by token types which text is the first and which the"
    " second. In a glued text it is not told, and cutting takes from the second text alone.",
)
SINGLE_SEED = Kind(
    "single-seed",
    "A single seed",
    "Another seed moves the score of a fine-tuned model by a few tenths of a point to several"
    " points. With one seed, nothing tells a difference between methods from that.",
)
HEAD_COUNTED_TWICE = Kind(
    "head-counted-twice",
    "Parameters are counted twice, or do not add up",
    "Some tools keep the original head beside the copy that trains. Counting both makes the total"
    " too large and the trained share too small.",
)
PADDED_THROUGHPUT = Kind(
    "padded-throughput",
    "The throughput counts padding",
    "With every text padded to the maximum length, speed measures the padding and not the method,"
    " and tokens per second are no longer tokens of the data.",
)
TRAIN_TEST_OVERLAP = Kind(
    "train-test-overlap",
    "Test rows stand in the training rows",
    "A model may have learned these rows by heart. They are the same but for case, Unicode form and"
    " white space.",
)
GROUP_ON_BOTH_SIDES = Kind(
    "group-on-both-sides",
    "A group stands on both sides of a split",
    "Rows of one group resemble each other. Test rows of a group that was trained on do not show"
    " how a model does on a new group.",
)
ROWS_MISSING = Kind(
    "rows-missing",
    "Rows vanished",
    "Rows that are not counted, often because their label is spelt in another way, are neither"
    " right nor wrong in any score. Scores over different rows cannot be compared.",
)
DIFFERENT_DATA = Kind(
    "different-data",
    "The runs saw different data",
    "Scores on different rows differ because the rows do.",
)
DIFFERENT_MACHINES = Kind(
    "different-machines",
    "The runs are from different machines",
    "Times and memory compare the machines, too, and not the methods alone.",
)
SHARED_DEVICE = Kind(
    "shared-device",
    "Runs shared a device",
    "Runs that compute on one GPU, or on the same cores, slow each other down, by how much depends"
    " on what else was at work. Their times are not those of the methods.",
)
UNDER_TRAINED = Kind(
    "under-trained",
    "Validation was still improving at the last epoch",
    "A method that learns slowly is cut off earlier than one that learns fast. More epochs could"
    " change the order.",
)
UNTESTED_LABELS = Kind(
    "untested-labels",
    "Labels without a test row",
    "No score says anything of them, and the macro averages leave them out: another split, or more"
    " rows, may give another table.",
)
TRUNCATION = Kind(
    "truncation",
    "Cutting loses much of the texts",
    "What is cut off is never seen. If the end of a text matters, all methods lose, and methods may"
    " differ less or more than they would on whole texts.",
)
SMALL_TEST_SET = Kind(
    "small-test-set",
    "The test set is too small for these differences",
    "The share of right answers on so few rows is uncertain by more than the methods differ.",
)
UNFINISHED_RUNS = Kind(
    "unfinished-runs",
    "Runs did not finish",
    "A run that did not finish is in no score and no cost, and the audit cannot check it. A method"
    " with fewer finished seeds than the others is known less well.",
)
BROKEN_CONTRACT = Kind(
    "broken-contract",
    "A run broke its contract",
    "A weight that should have changed did not, or the other way round; the saved model is not the"
    " one that was measured; or predictions depend on which rows are predicted together. The scores"
    " may be those of another method or model than the table says.",
)
LEARNED_NOTHING = Kind(
    "learned-nothing",
    "A run learned nothing",
    "Its answers on the test rows are no better than guessing, so its model is of no use and its"
    " cost says nothing.",
)
UNEQUAL_TUNING = Kind(
    "unequal-tuning",
    "The methods were not tuned alike",
    "More trials find better settings. A method whose search was longer looks better than it is"
    " beside one whose search was short, or that had none.",
)
EDGE_OF_RANGE = Kind(
    "edge-of-range",
    "The best setting lies at the edge of its range",
    "The search was still getting better where its range ended. What lies beyond was not tried.",
)

KINDS: tuple[Kind, ...] = (
    *(SHARED_LEARNING_RATE, TEST_PICKS_CHECKPOINT, PREMISE_ON_BOTH_SIDES, CHANCE_LEVEL_IN_COST),
    *(UNEQUAL_BUDGET, LABELS_DIFFER_IN_CASE, GLUED_PAIR, SINGLE_SEED, HEAD_COUNTED_TWICE),
    *(PADDED_THROUGHPUT, TRAIN_TEST_OVERLAP, GROUP_ON_BOTH_SIDES, ROWS_MISSING, DIFFERENT_DATA),
    *(DIFFERENT_MACHINES, SHARED_DEVICE, UNDER_TRAINED, TRUNCATION, SMALL_TEST_SET),
    *(UNFINISHED_RUNS, UNEQUAL_TUNING, EDGE_OF_RANGE, UNTESTED_LABELS, BROKEN_CONTRACT),
    LEARNED_NOTHING,
)
"""Every kind there is, the ten that published comparisons committed first."""
