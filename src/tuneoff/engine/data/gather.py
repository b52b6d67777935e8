"""From a `DataSpec` to the three splits in memory, with every check of the input on the way."""

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
    """The rows of a task."""

    labels: list[str]
    """The study's label set: those of the training rows, in order."""
    splits: dict[str, pd.DataFrame]
    """In the order of `ROLES`; the columns of `Table.frame`."""
    warnings: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """Names of the columns of text and label in the training file."""


def gather(data: DataSpec) -> Gathered:
    """Read, check and split; `BadInput` with the issues of all files at once.

    A fraction of test rows is held out first, from the whole training file; `max_train` then
    keeps so many of what remains; the fraction of validation rows is taken out of those. So
    `max_train` 3000 with a validation fraction means 3,000 rows for both together.
    """
    tables, columns, found, warnings = _read(data)
    data = replace(data, text=columns.text, label=columns.label)
    if "train" in tables:
        found.issues += label_issues(data, tables)
        if data.max_train is not None:
            found.issues += _too_few(data.max_train, tables["train"], data)
    found.raise_any()
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
    """The files that could be read, their columns, the issues of the others, and notes.

    The columns of the training file are those of all.
    """
    found = IssueList(same_files(data))
    tables: dict[str, Table] = {}
    columns, notes = Columns.of(data), []
    for role in ROLES:
        source = getattr(data, role)
        if isinstance(source, str):
            with found.collecting():
                own, said = choose_columns(source, columns, role)
                notes += said
                columns = replace(columns, text=own.text, label=own.label)
                tables[role] = read_table(source, own, role)
    return tables, columns, found, notes


def _too_few(max_train: int, train: Table, data: DataSpec) -> list[Issue]:
    labels = train.frame["label"].nunique()
    needed = labels * (1 if isinstance(data.validation, str) else 2)
    if max_train >= min(needed, len(train.frame)):
        return []
    return [
        Issue(
            f"max_train {max_train} is too few for {labels} labels",
            file=train.source,
            column=data.label,
            hint=f"Give at least {needed}"
            + (": validation is held out of them." if needed > labels else "."),
        )
    ]


def _check_weights(data: DataSpec, splits: dict[str, pd.DataFrame]) -> None:
    """Rows held out by a fraction or a limit may all weigh nothing; a score divides by the sum."""
    weightless = [role for role, frame in splits.items() if not frame["weight"].any()]
    if weightless:
        raise BadInput(
            Issue(
                f"all weights of the {weightless[0]} rows are 0",
                file=data.train,
                column=data.weight,
                hint="Give more rows a positive weight, or another split_seed.",
            )
        )


def _parted(
    frame: pd.DataFrame, fraction: float, seed: int, purpose: Purpose, warnings: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What stays and what is held out, both in the order of the source."""
    held = hold_out(frame, fraction, seed=seed, purpose=purpose)
    share = float(held.mean())
    if abs(share - fraction) * len(frame) >= max(2.0, 0.1 * fraction * len(frame)):
        warnings.append(
            f"{purpose} holds {share:.1%} of the rows instead of {fraction:.1%}: groups and equal"
            " texts stay together"
        )
    return frame[~held].reset_index(drop=True), frame[held].reset_index(drop=True)
