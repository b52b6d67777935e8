"""Read the data of a `DataSpec`, check it, and build the three splits in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd

from tuneoff.config import DataSpec
from tuneoff.engine.data.check import label_issues, same_files, split_warnings
from tuneoff.engine.data.split import Purpose, hold_out, label_order, subsample
from tuneoff.exceptions import BadInput, Issue, IssueList
from tuneoff.tables.choose import choose_columns
from tuneoff.tables.columns import Columns
from tuneoff.tables.source import Role, Table, read_table

ROLES: tuple[Role, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Gathered:
    """Rows of a task."""

    labels: list[str]
    """Label set of the study: the labels of the training rows, in order."""
    splits: dict[str, pd.DataFrame]
    """Rows by split, in the order of `ROLES`; columns as in `Table.frame`."""
    warnings: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """Names of the text and label columns of the training file."""


def gather(data: DataSpec) -> Gathered:
    """Read, check and split the data.

    Rows are held out in this order:

    1. test rows, as a fraction of the whole training file
    2. a subsample of `max_train` of the remaining rows
    3. validation rows, as a fraction of this subsample; so with `max_train` 3000, training and
       validation together have 3,000 rows

    Raises:
        BadInput: Any file is invalid; the exception has the issues of all files.
    """
    tables, columns, collected, warnings = _read(data)
    data = replace(data, text=columns.text, label=columns.label)
    if "train" in tables:
        collected.issues += label_issues(data, tables)
        if data.max_train is not None:
            collected.issues += _too_few(data.max_train, tables["train"], data)
    collected.raise_any()
    warnings += [warning for table in tables.values() for warning in table.warnings]
    train = tables["train"].frame
    labels = label_order(list(train["label"].unique()))
    splits = {role: table.frame for role, table in tables.items()}
    if not isinstance(data.test, str):
        train, splits["test"] = _parted(train, data.test, data.split_seed, "test", warnings)
    if data.max_test is not None:
        splits["test"] = subsample(
            splits["test"], data.max_test, seed=data.split_seed, purpose="max_test"
        )
    if data.max_train is not None:
        least = 1 if isinstance(data.validation, str) else 2
        train = subsample(
            train, data.max_train, seed=data.split_seed, purpose="max_train", least=least
        )
    if not isinstance(data.validation, str):
        train, splits["validation"] = _parted(
            train, data.validation, data.split_seed, "validation", warnings
        )
    splits["train"] = train
    splits = {role: splits[role] for role in ROLES}
    _check_weights(data, splits)
    chosen = {"text": str(columns.text), "label": str(columns.label)}
    return Gathered(labels, splits, [*warnings, *split_warnings(splits)], chosen)


def _read(data: DataSpec) -> tuple[dict[str, Table], Columns, IssueList, list[str]]:
    """Read the files; return the tables, the columns, the issues of invalid files, and warnings.

    The text and label columns of the training file are used for all files.
    """
    collected = IssueList(same_files(data))
    tables: dict[str, Table] = {}
    columns, notes = Columns.of(data), []
    for role in ROLES:
        source = getattr(data, role)
        if isinstance(source, str):
            with collected.collecting():
                own, more = choose_columns(source, columns, role)
                notes += more
                columns = replace(columns, text=own.text, label=own.label)
                tables[role] = read_table(source, own, role)
    return tables, columns, collected, notes


def _too_few(max_train: int, train: Table, data: DataSpec) -> list[Issue]:
    labels = train.frame["label"].nunique()
    needed = labels * (1 if isinstance(data.validation, str) else 2)
    if max_train >= min(needed, len(train.frame)):
        return []
    return [
        Issue(
            f"max_train {max_train} is too small for {labels} labels",
            file=train.source,
            column=data.label,
            hint=f"Set max_train to at least {needed}"
            + (": it includes the validation rows." if needed > labels else "."),
        )
    ]


def _check_weights(data: DataSpec, splits: dict[str, pd.DataFrame]) -> None:
    """Raise `BadInput` if all weights of a split are 0, because scores divide by their sum.

    Weights are checked again here, because the rows of a split may have been drawn at random.
    """
    weightless = [role for role, frame in splits.items() if not frame["weight"].any()]
    if weightless:
        raise BadInput(
            Issue(
                f"all weights of the {weightless[0]} rows are 0",
                file=data.train,
                column=data.weight,
                hint="Give more rows a positive weight, or use another split_seed.",
            )
        )


def _parted(
    frame: pd.DataFrame, fraction: float, seed: int, purpose: Purpose, warnings: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the remaining and the held-out rows, both in the order of the source."""
    held = hold_out(frame, fraction, seed=seed, purpose=purpose)
    share = float(held.mean())
    if abs(share - fraction) * len(frame) >= max(2.0, 0.1 * fraction * len(frame)):
        warnings.append(
            f"{purpose} has {share:.1%} of the rows instead of {fraction:.1%}, because groups and"
            " equal texts are not split"
        )
    return frame[~held].reset_index(drop=True), frame[held].reset_index(drop=True)
