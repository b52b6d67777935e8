"""Checks that need a whole table or several splits: issues (errors) and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from tuneoff.config import DataSpec
from tuneoff.engine.data.near_duplicates import near_rows
from tuneoff.engine.data.split import text_codes
from tuneoff.exceptions import Issue, nearest
from tuneoff.tables.columns import LISTED
from tuneoff.tables.notes import SHOWN, missing_names, place_name, row_warnings
from tuneoff.tables.source import Table

ONE_SIDED = 0.99
"""Proportion of one label above which accuracy is not informative."""

PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))


def same_files(data: DataSpec) -> list[Issue]:
    """Return an issue for each pair of splits that use the same file."""
    files = {
        role: Path(source).expanduser()
        for role in ("train", "validation", "test")
        if isinstance(source := getattr(data, role), str) and not source.startswith("hf:")
    }
    return [
        Issue(
            f"the same file is given for {one} and {other}",
            file=str(getattr(data, other)),
            hint=f"Use another file, or for {other} a fraction such as 0.1.",
        )
        for one, other in combinations(files, 2)
        if files[one].exists() and files[other].exists() and files[one].samefile(files[other])
    ]


def label_issues(data: DataSpec, tables: Mapping[str, Table]) -> list[Issue]:
    """Return the issues of the labels in the files, before any rows are held out."""
    train = tables["train"]
    counts = train.frame["label"].value_counts()
    issues = single_label(data, train)
    if not issues and not (isinstance(data.test, str) and isinstance(data.validation, str)):
        issues += _too_small(data, train, counts)
    for role in ("validation", "test"):
        if role in tables:
            issues += _unknown_labels(role, data.label, train, tables[role])
    return issues


FEW = 20
"""Number of rows up to which it is plausible that each row has a different label."""


def single_label(data: DataSpec, train: Table) -> list[Issue]:
    """Return an issue if all rows of a table have the same label, or each has a different one."""
    labels = train.frame["label"].unique()
    if len(labels) == len(train.frame) > FEW:
        problem = f"each of the {len(labels)} rows has a different label: is the column an id?"
        hint = "Set the column of the labels with --label."
        return [Issue(problem, file=train.source, column=data.label, hint=hint)]
    if len(labels) > 1:
        return []
    return [
        Issue(
            f"all training rows have the label {labels[0]!r}",
            file=train.source,
            column=data.label,
            hint="A classifier needs at least two labels.",
        )
    ]


def _too_small(data: DataSpec, train: Table, counts: pd.Series[int]) -> list[Issue]:
    purposes = " and ".join(
        f"{role} ({share:g})"
        for role in ("test", "validation")
        if not isinstance(share := getattr(data, role), str)
    )
    small = sorted(str(label) for label in counts.index[counts < 2])
    word = place_name(train.frame)
    places = train.frame.drop_duplicates("label").set_index("label")[word]
    return _capped(
        [
            Issue(
                f"the label {label!r} has only one row, so none can be held out for {purposes}",
                file=train.source,
                column=data.label,
                hint="Add rows with this label, remove the row, or give the splits as files.",
                **{word: int(places[label])},
            )
            for label in small
        ]
    )


def _unknown_labels(role: str, column: str | None, train: Table, other: Table) -> list[Issue]:
    known = set(train.frame["label"])
    unknown = other.frame[~other.frame["label"].isin(known)]
    issues = []
    word = place_name(other.frame)
    for label, rows in unknown.groupby("label", sort=True):
        places = ", ".join(str(place) for place in rows[word][:SHOWN])
        more = ", …" if len(rows) > SHOWN else ""
        issues.append(
            Issue(
                f"the label {label!r} is in the {role} rows but not in the training rows"
                f" ({len(rows)} times: {word}s {places}{more})",
                file=other.source,
                column=column,
                hint=f"{nearest(str(label), known)[:200]} Or remove these rows, or add training"
                " rows with this label.",
                **{word: int(rows[word].iloc[0])},
            )
        )
    return _capped(issues)


def _capped(issues: list[Issue]) -> list[Issue]:
    if len(issues) <= LISTED:
        return issues
    more = Issue(f"more issues of this kind: {len(issues) - LISTED}", file=issues[0].file)
    return [*issues[:LISTED], more]


def split_warnings(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return warnings about the final splits.

    A warning identifies rows by their line in the source file, or by their number, and never quotes
    a text.
    """
    labels = pd.concat([frame["label"] for frame in splits.values()])
    return [
        *missing_names(labels),
        *_labels_alike(labels),
        *_absent_labels(splits),
        *_one_sided(splits),
        *_repeated(splits),
        *_shared(splits),
        *_near(splits),
        *_contradictions(splits),
    ]


def duplicate_count(frame: pd.DataFrame) -> int:
    """Return the number of rows whose text (and pair) is the same as that of an earlier row."""
    (codes,) = text_codes(frame)
    return len(codes) - len(np.unique(codes))


def shared_counts(splits: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """Return, by `"train/test"` etc., the rows of the second split whose text is in the first."""
    codes = dict(zip(splits, text_codes(*splits.values()), strict=True))
    return {
        f"{one}/{other}": int(np.isin(codes[other], codes[one]).sum())
        for one, other in PAIRS
        if one in codes and other in codes
    }


def _labels_alike(labels: pd.Series[str]) -> list[str]:
    counts = labels.value_counts()
    alike: dict[str, list[str]] = {}
    for label in sorted(str(label) for label in counts.index):
        alike.setdefault(label.strip().casefold(), []).append(label)
    return [
        "labels that differ only in case or surrounding spaces are treated as different labels: "
        + ", ".join(f"{label!r} ({counts[label]} times)" for label in labels)
        for labels in alike.values()
        if len(labels) > 1
    ]


def _absent_labels(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    if "train" not in splits:
        return []
    known = set(splits["train"]["label"])
    warnings = []
    for role in ("validation", "test"):
        absent = sorted(known - set(splits[role]["label"])) if role in splits else []
        if absent:
            names = ", ".join(repr(label) for label in absent[:SHOWN])
            more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
            warnings.append(f"no {role} row has the label {names}{more}: it cannot be scored there")
    return warnings


def _one_sided(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    warnings = []
    for role, frame in splits.items():
        counts = frame["label"].value_counts()
        if len(counts) > 1 and counts.iloc[0] > ONE_SIDED * len(frame):
            most = counts.index[0]
            what = f"more than 99 % of the {_rows_of(role)} have the label {most!r}; other labels"
            warnings += row_warnings(what, frame, (frame["label"] != most).to_numpy())
    return warnings


def _repeated(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    return [
        note
        for role, frame in splits.items()
        for note in row_warnings(
            f"{_rows_of(role)} with the same text as an earlier row",
            frame,
            pd.Series(text_codes(frame)[0]).duplicated().to_numpy(),
        )
    ]


def _rows_of(role: str) -> str:
    """Return `train rows` etc.; only `rows` for a file that has no role."""
    return f"{role} rows".strip()


def _shared(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    codes = dict(zip(splits, text_codes(*splits.values()), strict=True))
    warnings = [
        note
        for one, other in PAIRS
        if one in codes and other in codes
        for note in row_warnings(
            f"{other} rows whose text is also in {one}",
            splits[other],
            np.isin(codes[other], codes[one]),
        )
    ]
    train = splits.get("train", pd.DataFrame())
    for column, what in (("group", "group"), ("text_pair", "first text")):
        if column not in train:
            continue
        values = "group" if column == "group" else "text"
        known = set(train[values]) - {""}
        hint = "" if column == "group" else "; name its column with --group to keep them together"
        for role in ("validation", "test"):
            if role in splits:
                shared = splits[role][values].isin(known).to_numpy()
                notes = row_warnings(
                    f"{role} rows whose {what} is also in train", splits[role], shared
                )
                warnings += [note + hint for note in notes]
    return warnings


def _near(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    return [
        note
        for one, other in PAIRS
        if one in splits and other in splits
        for note in row_warnings(
            f"{other} rows whose text is almost the same as one in {one} (a few words, case or"
            " punctuation differ)",
            splits[other],
            near_rows(splits[one], splits[other]),
        )
    ]


def _contradictions(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    codes = text_codes(*splits.values())
    labels = pd.concat([frame["label"] for frame in splits.values()]).to_numpy()
    kinds = pd.DataFrame({"code": np.concatenate(codes), "label": labels}).drop_duplicates()["code"]
    ambiguous = kinds[kinds.duplicated()].unique()
    return [
        note
        for (role, frame), own in zip(splits.items(), codes, strict=True)
        for note in row_warnings(
            f"{_rows_of(role)} whose text also occurs with another label",
            frame,
            np.isin(own, ambiguous),
        )
    ]
