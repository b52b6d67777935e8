"""Checks of the rows: labels, text pairs, overlap of splits, and truncation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff import formatting as fmt
from tuneoff.audit.evidence import (
    AuditEvidence,
    fold,
    folded,
    joined,
    named_rows,
    names_of,
    run_ids,
)
from tuneoff.audit.finding import Finding, Kind, check
from tuneoff.comparison.summary import statistic
from tuneoff.results.summary import ScoresWithoutRows, Severity

if TYPE_CHECKING:
    import pandas as pd

SHARED_SHARE = 0.01
"""Fraction of the test rows from which overlap is an error; below, it is a warning."""

GLUED_SHARE = 0.2
"""Fraction of the rows with a separator token from which texts count as joined pairs. A few rows
may mention such a token in their text."""

CATEGORY_ROWS = 20
"""Mean number of rows per first text above which it is a category (an aspect, a topic) rather than
a premise."""

PREMISE_SHARE = 0.5
"""Fraction of rows with a repeated second text from which the second text counts as a premise. A
hypothesis such as "A man sleeps" is occasionally repeated, too (5 % of SNLI's rows)."""

CUT_SHARE = 0.05
"""Fraction of a split's tokens above which truncation is reported."""

SEPARATOR = r"\[SEP\]|\[sep\]|</s>|<sep>"
"""Separator tokens that BERT, RoBERTa and XLNet put between two texts."""


@check(
    "labels-differ-in-case",
    "Labels differ only in case or spaces",
    "One class is split into two that no model can distinguish, so the scores of both are too low.",
    published=True,
)
def labels_differ_in_case(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find labels that are equal after normalisation, in the task or else in the records."""
    task, rows = evidence.task, evidence.rows
    labels = task.labels if task else [x for r in evidence.finished for x in r.data.labels]
    alike: dict[str, dict[str, None]] = {}
    for label in labels:
        alike.setdefault(fold(label), {})[label] = None
    groups = [list(group) for group in alike.values() if len(group) > 1]
    if not groups:
        return None
    splits = list(task.splits.values()) if task else []
    counts = {
        label: sum(split.label_counts.get(label, 0) for split in splits)
        for label in (labels if task else [])
    }

    def with_count(label: str) -> str:
        return f"{label!r}" + (f" ({counts[label]:,} rows)" if label in counts else "")

    rare = [x for group in groups for x in sorted(group, key=lambda x: -counts.get(x, 0))[1:]]
    spellings = [joined([with_count(label) for label in group]) for group in groups]
    return kind.found(
        f"Different labels for the same class: {joined(spellings, 3)}.",
        "Use one spelling per class in all files, and rerun the study.",
        named_rows(rows[rows["label"].isin(rare)]) if rows is not None else [],
    )


@check(
    "untested-labels",
    "Labels without test rows",
    "No score covers these labels, and macro averages exclude them. Another split, or more rows,"
    " could change the ranking.",
)
def untested_labels(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find labels of the study that no test row has."""
    test = evidence.task.splits.get("test") if evidence.task else None
    if evidence.task is None or test is None:
        return None
    absent = [label for label in evidence.task.labels if not test.label_counts.get(label)]
    if not absent:
        return None
    known = {
        label: sum(split.label_counts.get(label, 0) for split in evidence.task.splits.values())
        for label in absent
    }
    labels = joined([f"{label!r} ({known[label]:,} rows in all splits)" for label in absent], 5)
    return kind.found(
        f"No test row has the label {labels}.",
        "Add rows with this label, merge it with another label, or remove it from the study.",
        severity="warning",
    )


@check(
    "glued-pair",
    "A pair of texts is joined into one text",
    "The model was pretrained with token types that mark the first and the second text. A joined"
    " text has none, and truncation only removes tokens of the second text.",
    published=True,
)
def glued_pair(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find texts with a written separator token between two parts, if there are many."""
    rows = evidence.rows
    if rows is None:
        return None
    # two steps, because the second pattern alone takes seconds on 50,000 reviews
    glued = rows[rows["text"].str.contains(SEPARATOR, regex=True)]
    glued = glued[glued["text"].str.contains(rf"\S\s*(?:{SEPARATOR})\s*\S", regex=True)]
    if len(glued) < GLUED_SHARE * len(rows):
        return None
    return kind.found(
        f"{len(glued):,} of {len(rows):,} texts contain a separator token such as [SEP] between two"
        " parts.",
        "Put the two texts into separate columns and name the second one with --text-pair.",
        named_rows(glued),
    )


@check(
    "premise-on-both-sides",
    "The same first text is in both parts of a split",
    "A model can remember what it learned about a premise in training, so these test rows do not"
    " show how well it does on new premises.",
    published=True,
)
def premise_on_both_sides(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find premises that are in the training rows and in a held-out split.

    The premise is the first text of a pair, also in joined texts, or the second text if that is the
    one that several rows share. Identical pairs belong to `train-test-overlap`.
    """
    for side, column in (("first", _first_texts(evidence)), ("second", _second_texts(evidence))):
        if column is not None and (finding := _both_sides(kind, evidence, column, side)):
            return finding
    return None


def _both_sides(
    kind: Kind, evidence: AuditEvidence, texts: pd.Series[Any], side: str
) -> Finding | None:
    import pandas as pd

    assert evidence.rows is not None
    split = evidence.rows["split"]
    known = set(texts[split == "train"]) - {""}
    shared: dict[str, pd.DataFrame] = {}
    rows: dict[str, int] = {}
    for role in ("test", "validation"):
        own = evidence.rows[(split == role) & texts.isin(known)]
        same = evidence.shared("train", role)
        shared[role] = own.drop(same.index, errors="ignore") if same is not None else own
        rows[role] = int((split == role).sum())
    leaking = {role: x for role, x in shared.items() if len(x) >= max(1, SHARED_SHARE * rows[role])}
    if not leaking:
        return None
    counts = [
        f"{len(x):,} of {rows[role]:,} {role} rows ({fmt.percent(100 * len(x) / rows[role])})"
        for role, x in leaking.items()
    ]
    return kind.found(
        f"The {side} text of {joined(counts)} is also in the training rows.",
        "Name the column of the premise with --group, so that all rows of a premise are in the same"
        " split.",
        named_rows(pd.concat(leaking.values())),
        severity="error" if "test" in leaking else "warning",
    )


def _first_texts(evidence: AuditEvidence) -> pd.Series[Any] | None:
    """Return the (rows,) normalised first texts; None without pairs, or if they are categories."""
    rows = evidence.rows
    if rows is None:
        return None
    if "text_pair" in rows:
        texts = folded(rows["text"])
    elif glued_pair(evidence) is not None:
        texts = folded(rows["text"].str.split(SEPARATOR, n=1, regex=True).str[0])
    else:
        return None
    return texts if len(texts) <= CATEGORY_ROWS * texts.nunique() else None


def _second_texts(evidence: AuditEvidence) -> pd.Series[Any] | None:
    rows = evidence.rows
    if rows is None or "text_pair" not in rows:
        return None
    texts = folded(rows["text_pair"])
    repeated = float(texts.duplicated(keep=False).mean())
    few = len(texts) > CATEGORY_ROWS * texts.nunique()
    return None if few or repeated < PREMISE_SHARE else texts


@check(
    "group-on-both-sides",
    "A group is in both parts of a split",
    "Rows of a group are similar. Test rows of a group in the training data do not show how well"
    " a model does on new groups.",
)
def group_on_both_sides(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find groups that have rows in the training split and in a held-out split."""
    rows = evidence.rows
    if rows is None or "group" not in rows:
        return None
    known = set(rows["group"][rows["split"] == "train"]) - {""}
    shared = rows[(rows["split"] != "train") & rows["group"].isin(known)]
    if not len(shared):
        return None
    test = int((shared["split"] == "test").sum())
    return kind.found(
        f"{test:,} test rows and {len(shared) - test:,} validation rows belong to a group that also"
        " has training rows.",
        "Remove these groups from the training file, or let tuneoff hold out a fraction of the"
        " rows, which keeps groups whole.",
        named_rows(shared),
        severity="error" if test else "warning",
    )


@check(
    "train-test-overlap",
    "Test rows are in the training data",
    "A model may have memorised these rows. They are the same except for case, Unicode form and"
    " white space.",
)
def train_test_overlap(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find test rows whose normalised text (and pair) is in the training rows."""
    shared = evidence.shared("train", "test")
    rows, count = evidence.test_rows, 0 if shared is None else len(shared)
    if shared is None and evidence.task is not None:  # without the rows: only exact matches
        count = evidence.task.shared_rows.get("train/test", 0)
    if not count or not rows:
        return None
    scores = [] if shared is None else _scores_without(evidence, set(shared["row"]))
    severity: Severity = "error" if count >= SHARED_SHARE * rows else "warning"
    drops = [
        (s["accuracy"] - s["accuracy_left"], s)
        for s in scores
        if s["accuracy"] is not None and s["accuracy_left"] is not None
    ]
    change = ""
    if drops:
        _, most = max(drops, key=lambda pair: abs(pair[0]))
        change = (
            f"; without them, the accuracy of {most['name']} is"
            f" {fmt.score(most['accuracy_left'])} instead of {fmt.score(most['accuracy'])}"
        )
    return kind.found(
        f"{count:,} of {rows:,} test rows ({fmt.percent(100 * count / rows)}) are also in the"
        f" training rows{change}.",
        "Remove these rows from the training file, or report the scores without them.",
        [] if shared is None else named_rows(shared),
        severity=severity,
        scores=scores,
    )


def _scores_without(evidence: AuditEvidence, rows: set[int]) -> list[ScoresWithoutRows]:
    """Return each method's mean accuracy and macro-F1 with and without the given test rows."""
    lines: list[ScoresWithoutRows] = []
    labels = evidence.task.labels if evidence.task else []
    for name in names_of(evidence.finished):
        counts: tuple[int, int] | None = None
        on_all: list[_Scores] = []
        on_rest: list[_Scores] = []
        for record in evidence.finished:
            if record.method.name != name or evidence.folder is None:
                continue
            table = evidence.folder.predictions(record.run_id)
            if table is None:
                continue
            test = table[table["split"] == "test"]
            left = test[~test["row"].isin(rows)]
            known = labels or record.data.labels
            counts = counts or (len(test), len(left))
            on_all.append(_accuracy_f1(test, known))
            on_rest.append(_accuracy_f1(left, known))
        if counts:
            lines.append(
                {
                    "name": name,
                    "rows": counts[0],
                    "rows_left": counts[1],
                    "accuracy": statistic(accuracy for accuracy, _ in on_all)["mean"],
                    "macro_f1": statistic(f1 for _, f1 in on_all)["mean"],
                    "accuracy_left": statistic(accuracy for accuracy, _ in on_rest)["mean"],
                    "macro_f1_left": statistic(f1 for _, f1 in on_rest)["mean"],
                }
            )
    return lines


_Scores = tuple[float | None, float | None]
"""Accuracy and macro-F1; None if no row is left."""


def _accuracy_f1(table: pd.DataFrame, labels: list[str]) -> _Scores:
    """Return accuracy and macro-F1 over the study's label set; None if no row is left."""
    from sklearn.metrics import accuracy_score, f1_score

    if not len(table) or not table["weight"].any():
        return None, None
    true, predicted, weight = table["label"], table["prediction"], table["weight"]
    f1 = f1_score(
        true, predicted, labels=labels, average="macro", sample_weight=weight, zero_division=0
    )
    accuracy = accuracy_score(true, predicted, sample_weight=weight)
    return float(accuracy), float(f1)


@check(
    "rows-missing",
    "Rows are missing",
    "Rows that are not counted, often because of another spelling of their label, are missing in"
    " all scores. Scores on different rows cannot be compared.",
)
def rows_missing(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find rows without a label of the label set, and test rows that a run did not score."""
    task = evidence.task
    lost = {
        name: split.rows - sum(split.label_counts.values())
        for name, split in (task.splits.items() if task else ())
        if sum(split.label_counts.values()) < split.rows
    }
    short = [
        record
        for record in evidence.finished
        if record.quality.test is not None
        and 0 < sum(map(sum, record.quality.test.confusion_matrix)) < record.data.test_rows
    ]
    if not lost and not short:
        return None
    messages = [f"{n:,} {name} rows have a label outside the label set" for name, n in lost.items()]
    if short:
        assert short[0].quality.test is not None
        counted = sum(map(sum, short[0].quality.test.confusion_matrix))
        messages.append(
            f"{joined(names_of(short))} scored only {counted:,} of {short[0].data.test_rows:,} test"
            " rows"
        )
    return kind.found(
        f"{joined(messages)}.",
        "Find the missing rows, correct the spelling of their labels, and rerun the study.",
        run_ids(short),
    )


@check(
    "truncation",
    "Truncation removes much of the texts",
    "The models never see what is truncated. If the end of a text matters, all methods do worse,"
    " and the differences between them can change.",
)
def truncation(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find splits that lose more than `CUT_SHARE` of their tokens by truncation."""
    task = evidence.task
    cut = {
        name: split
        for name, split in (task.splits.items() if task else ())
        if split.cut_tokens_share > CUT_SHARE
    }
    if not task or not cut:
        return None
    losses = [
        f"{fmt.percent(100 * split.cut_tokens_share)} of the {name} tokens"
        f" ({split.cut_rows:,} of {split.rows:,} rows)"
        for name, split in cut.items()
    ]
    longest = max(split.lengths.q95 for split in cut.values())
    return kind.found(
        f"Truncation to {task.max_length:,} tokens removes {joined(losses)}.",
        "Increase max_length if the model allows it: 95 % of the rows have at most"
        f" {longest:,.0f} tokens.",
        [f"{name} split" for name in cut],
        severity="warning",
    )
