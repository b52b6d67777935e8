"""What the rows themselves show: labels, pairs, splits, cutting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff import formatting as fmt
from tuneoff.audit.evidence import Evidence, fold, folded, joined, named_rows, names_of, run_ids
from tuneoff.audit.finding import (
    GLUED_PAIR,
    GROUP_ON_BOTH_SIDES,
    LABELS_DIFFER_IN_CASE,
    PREMISE_ON_BOTH_SIDES,
    ROWS_MISSING,
    TRAIN_TEST_OVERLAP,
    TRUNCATION,
    UNTESTED_LABELS,
    Finding,
    Severity,
)
from tuneoff.comparison.summary import statistic

if TYPE_CHECKING:
    import pandas as pd

SHARED_SHARE = 0.01
"""Share of the test rows from which a leak is an error; below it, overlap is a warning."""

GLUED_SHARE = 0.2
"""Share of the rows with a separator inside; a few may well write about one."""

CATEGORY_ROWS = 20
"""Mean rows per first text above which it is a category (an aspect, a topic) and no premise."""

PREMISE_SHARE = 0.5
"""Share of the rows whose second text is repeated from which it is the premise of several rows.
A hypothesis such as "A man sleeps" comes up twice now and then (5 % of SNLI's rows)."""

CUT_SHARE = 0.05
"""Share of a split's tokens that cutting may lose unremarked."""

SEPARATOR = r"\[SEP\]|\[sep\]|</s>|<sep>"
"""What BERT, RoBERTa and XLNet put between two texts."""


def labels_differ_in_case(evidence: Evidence) -> Finding | None:
    """Labels that are the same after folding, in the task or, without one, in the records."""
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

    def told(label: str) -> str:
        return f"{label!r}" + (f" ({counts[label]:,} rows)" if label in counts else "")

    rare = [x for group in groups for x in sorted(group, key=lambda x: -counts.get(x, 0))[1:]]
    alike_told = [joined([told(label) for label in group]) for group in groups]
    return LABELS_DIFFER_IN_CASE.found(
        f"Classes of their own that look like one: {joined(alike_told, 3)}.",
        "Give each class one spelling in all files, and run again.",
        named_rows(rows[rows["label"].isin(rare)]) if rows is not None else [],
    )


def untested_labels(evidence: Evidence) -> Finding | None:
    """Labels of the study that no test row has."""
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
    told = joined([f"{label!r} ({known[label]:,} rows in all)" for label in absent], 5)
    return UNTESTED_LABELS.found(
        f"No test row has the label {told}.",
        "Add rows of it, merge it with another label, or take it out.",
        severity="warning",
    )


def glued_pair(evidence: Evidence) -> Finding | None:
    """A separator token written out between two parts of a text, in many rows."""
    rows = evidence.rows
    if rows is None:
        return None
    # in two steps: the second pattern alone takes seconds on 50,000 reviews
    glued = rows[rows["text"].str.contains(SEPARATOR, regex=True)]
    glued = glued[glued["text"].str.contains(rf"\S\s*(?:{SEPARATOR})\s*\S", regex=True)]
    if len(glued) < GLUED_SHARE * len(rows):
        return None
    return GLUED_PAIR.found(
        f"{len(glued):,} of {len(rows):,} texts hold a separator token such as [SEP] between two"
        " parts.",
        "Keep the two texts in columns of their own and name the second with --text-pair.",
        named_rows(glued),
    )


def premise_on_both_sides(evidence: Evidence) -> Finding | None:
    """First texts of pairs (glued ones, too) that stand in training and in a held-out split.

    The second text counts where it is the one that several rows share. Rows that are wholly the
    same are `train-test-overlap`.
    """
    for side, column in (("first", _first_texts(evidence)), ("second", _second_texts(evidence))):
        if column is not None and (finding := _both_sides(evidence, column, side)):
            return finding
    return None


def _both_sides(evidence: Evidence, texts: pd.Series[Any], side: str) -> Finding | None:
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
    told = [
        f"{len(x):,} of {rows[role]:,} {role} rows ({fmt.percent(100 * len(x) / rows[role])})"
        for role, x in leaking.items()
    ]
    return PREMISE_ON_BOTH_SIDES.found(
        f"The {side} text of {joined(told)} stands in the training rows, too.",
        "Name the column of the premise with --group, so that all its rows stay on one side.",
        named_rows(pd.concat(leaking.values())),
        severity="error" if "test" in leaking else "warning",
    )


def _first_texts(evidence: Evidence) -> pd.Series[Any] | None:
    """(rows,) folded first texts; None where the rows are no pairs, or the text is a category."""
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


def _second_texts(evidence: Evidence) -> pd.Series[Any] | None:
    rows = evidence.rows
    if rows is None or "text_pair" not in rows:
        return None
    texts = folded(rows["text_pair"])
    repeated = float(texts.duplicated(keep=False).mean())
    few = len(texts) > CATEGORY_ROWS * texts.nunique()
    return None if few or repeated < PREMISE_SHARE else texts


def group_on_both_sides(evidence: Evidence) -> Finding | None:
    """Values of the group column that stand in training and in a held-out split."""
    rows = evidence.rows
    if rows is None or "group" not in rows:
        return None
    known = set(rows["group"][rows["split"] == "train"]) - {""}
    shared = rows[(rows["split"] != "train") & rows["group"].isin(known)]
    if not len(shared):
        return None
    test = int((shared["split"] == "test").sum())
    return GROUP_ON_BOTH_SIDES.found(
        f"{test:,} test rows and {len(shared) - test:,} validation rows are of a group that stands"
        " in the training rows, too.",
        "Take these groups out of the training file, or let tuneoff hold out a fraction, which"
        " keeps groups whole.",
        named_rows(shared),
        severity="error" if test else "warning",
    )


def train_test_overlap(evidence: Evidence) -> Finding | None:
    """Test rows whose folded text (and pair) stands in training, with the scores without them."""
    shared = evidence.shared("train", "test")
    rows, count = evidence.test_rows, 0 if shared is None else len(shared)
    if shared is None and evidence.task is not None:  # exact matches alone
        count = evidence.task.shared_rows.get("train/test", 0)
    if not count or not rows:
        return None
    scores = [] if shared is None else _scores_without(evidence, set(shared["row"]))
    severity: Severity = "error" if count >= SHARED_SHARE * rows else "warning"
    drops = [
        (s["accuracy"] - s["accuracy_left"], s) for s in scores if s["accuracy_left"] is not None
    ]
    told = ""
    if drops:
        _, most = max(drops, key=lambda pair: abs(pair[0]))
        told = (
            f"; without them the accuracy of {most['name']} is"
            f" {fmt.score(most['accuracy_left'])} in place of {fmt.score(most['accuracy'])}"
        )
    return TRAIN_TEST_OVERLAP.found(
        f"{count:,} of {rows:,} test rows ({fmt.percent(100 * count / rows)}) stand in the training"
        f" rows, too{told}.",
        "Take these rows out of the training file, or report the scores without them.",
        [] if shared is None else named_rows(shared),
        severity=severity,
        scores=scores,
    )


def _scores_without(evidence: Evidence, rows: set[int]) -> list[dict[str, Any]]:
    """By method, means over the seeds: accuracy and macro-F1 on the test rows, with and without."""
    lines = []
    labels = evidence.task.labels if evidence.task else []
    for name in names_of(evidence.finished):
        found: list[dict[str, float | None]] = []
        for record in evidence.finished:
            if record.method.name != name or evidence.folder is None:
                continue
            table = evidence.folder.predictions(record.run_id)
            if table is None:
                continue
            test = table[table["split"] == "test"]
            left = test[~test["row"].isin(rows)]
            known = labels or record.data.labels
            scores = {**_accuracy_f1(test, known, ""), **_accuracy_f1(left, known, "_left")}
            found.append({"rows": len(test), "rows_left": len(left), **scores})
        if found:
            counts = {key: found[0][key] for key in ("rows", "rows_left")}
            means = {key: statistic(f[key] for f in found)["mean"] for key in found[0]}
            lines.append({"name": name, **means, **counts})
    return lines


def _accuracy_f1(table: pd.DataFrame, labels: list[str], end: str) -> dict[str, float | None]:
    """Accuracy and macro-F1 over the study's label set; None where no row is left."""
    from sklearn.metrics import accuracy_score, f1_score

    if not len(table) or not table["weight"].any():
        return {f"accuracy{end}": None, f"macro_f1{end}": None}
    true, predicted, weight = table["label"], table["prediction"], table["weight"]
    f1 = f1_score(
        true, predicted, labels=labels, average="macro", sample_weight=weight, zero_division=0
    )
    accuracy = accuracy_score(true, predicted, sample_weight=weight)
    return {f"accuracy{end}": float(accuracy), f"macro_f1{end}": float(f1)}


def rows_missing(evidence: Evidence) -> Finding | None:
    """Rows of a split that no label counts, and test rows that no confusion matrix counts."""
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
    told = [f"{n:,} {name} rows have a label outside the label set" for name, n in lost.items()]
    if short:
        assert short[0].quality.test is not None
        counted = sum(map(sum, short[0].quality.test.confusion_matrix))
        told.append(
            f"{joined(names_of(short))} scored {counted:,} of {short[0].data.test_rows:,} test rows"
        )
    return ROWS_MISSING.found(
        f"{joined(told)}.",
        "Find the rows that were left out, spell their labels as the others are, and run again.",
        run_ids(short),
    )


def truncation(evidence: Evidence) -> Finding | None:
    """Splits of which cutting at `max_length` loses more than `CUT_SHARE` of the tokens."""
    task = evidence.task
    cut = {
        name: split
        for name, split in (task.splits.items() if task else ())
        if split.cut_tokens_share > CUT_SHARE
    }
    if not task or not cut:
        return None
    told = [
        f"{fmt.percent(100 * split.cut_tokens_share)} of the {name} tokens"
        f" ({split.cut_rows:,} of {split.rows:,} rows)"
        for name, split in cut.items()
    ]
    longest = max(split.lengths.q95 for split in cut.values())
    return TRUNCATION.found(
        f"Cutting at {task.max_length:,} tokens loses {joined(told)}.",
        f"Raise max_length where the model allows it: 95 % of the rows fit {longest:,.0f} tokens.",
        [f"{name} split" for name in cut],
        severity="warning",
    )
