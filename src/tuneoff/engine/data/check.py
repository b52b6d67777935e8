"""What only a look at a whole table, or across the splits, finds: issues and warnings."""

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
from tuneoff.tables.notes import SHOWN, missing_names, place_name, told_of
from tuneoff.tables.source import Table

ONE_SIDED = 0.99
"""Share of one label above which accuracy says nothing."""

PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))


def same_files(data: DataSpec) -> list[Issue]:
    """One issue for each two splits that name the same file."""
    named = {
        role: Path(source).expanduser()
        for role in ("train", "validation", "test")
        if isinstance(source := getattr(data, role), str) and not source.startswith("hf:")
    }
    return [
        Issue(
            f"the same file is given for {one} and {other}",
            file=str(getattr(data, other)),
            hint=f"Give another file, or for {other} a fraction such as 0.1.",
        )
        for one, other in combinations(named, 2)
        if named[one].exists() and named[other].exists() and named[one].samefile(named[other])
    ]


def label_issues(data: DataSpec, tables: Mapping[str, Table]) -> list[Issue]:
    """Return the issues of the labels of the files as they were read, before any split."""
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
"""Rows of which each may well be an example of another label."""


def single_label(data: DataSpec, train: Table) -> list[Issue]:
    """The issue of a table whose rows all have one label, or each a label of its own."""
    labels = train.frame["label"].unique()
    if len(labels) == len(train.frame) > FEW:
        problem = f"each of the {len(labels)} rows has a label of its own: is the column an id?"
        hint = "Name the column of the label with --label."
        return [Issue(problem, file=train.source, column=data.label, hint=hint)]
    if len(labels) > 1:
        return []
    return [
        Issue(
            f"all training rows have the label {labels[0]!r}",
            file=train.source,
            column=data.label,
            hint="A classifier needs two labels at least.",
        )
    ]


def _too_small(data: DataSpec, train: Table, counts: pd.Series[int]) -> list[Issue]:
    wanted = " and ".join(
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
                f"the label {label!r} has one row; none can be held out for {wanted}",
                file=train.source,
                column=data.label,
                hint="Add rows of this label, remove it, or give the splits as files.",
                **{word: int(places[label])},
            )
            for label in small
        ]
    )


def _unknown_labels(role: str, column: str | None, train: Table, other: Table) -> list[Issue]:
    known = set(train.frame["label"])
    strange = other.frame[~other.frame["label"].isin(known)]
    issues = []
    word = place_name(other.frame)
    for label, rows in strange.groupby("label", sort=True):
        places = ", ".join(str(place) for place in rows[word][:SHOWN])
        more = ", …" if len(rows) > SHOWN else ""
        issues.append(
            Issue(
                f"the label {label!r} stands in the {role} rows and not in the training rows"
                f" ({len(rows)} times: {word}s {places}{more})",
                file=other.source,
                column=column,
                hint=f"{nearest(str(label), known)[:200]} Or remove these rows, or add training"
                " rows of this label.",
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
    """What is worth a look in the splits as they will be used; no text is quoted.

    Rows are named by their line in the file that they come from, or their number.
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
    """Rows whose text (and pair) stands in an earlier row."""
    (codes,) = text_codes(frame)
    return len(codes) - len(np.unique(codes))


def shared_counts(splits: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """By `"train/test"` and so on: rows of the second split whose text stands in the first."""
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
        "labels that differ only in case or surrounding spaces are taken as different: "
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
            what = f"more than 99 % of the {_rows_of(role)} have the label {most!r}; the others"
            warnings += told_of(what, frame, (frame["label"] != most).to_numpy())
    return warnings


def _repeated(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    return [
        note
        for role, frame in splits.items()
        for note in told_of(
            f"{_rows_of(role)} that repeat the text of an earlier one",
            frame,
            pd.Series(text_codes(frame)[0]).duplicated().to_numpy(),
        )
    ]


def _rows_of(role: str) -> str:
    """`train rows`; a file alone has no role."""
    return f"{role} rows".strip()


def _shared(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    codes = dict(zip(splits, text_codes(*splits.values()), strict=True))
    warnings = [
        note
        for one, other in PAIRS
        if one in codes and other in codes
        for note in told_of(
            f"{other} rows whose text stands in {one} too",
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
        hint = "" if column == "group" else "; name that column as the group to part them"
        for role in ("validation", "test"):
            if role in splits:
                found = splits[role][values].isin(known).to_numpy()
                notes = told_of(
                    f"{role} rows whose {what} stands in train too", splits[role], found
                )
                warnings += [note + hint for note in notes]
    return warnings


def _near(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    return [
        note
        for one, other in PAIRS
        if one in splits and other in splits
        for note in told_of(
            f"{other} rows whose text is nearly one of {one} (a few words differ, or case and"
            " punctuation)",
            splits[other],
            near_rows(splits[one], splits[other]),
        )
    ]


def _contradictions(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    codes = text_codes(*splits.values())
    labels = pd.concat([frame["label"] for frame in splits.values()]).to_numpy()
    kinds = pd.DataFrame({"code": np.concatenate(codes), "label": labels}).drop_duplicates()["code"]
    twofold = kinds[kinds.duplicated()].unique()
    return [
        note
        for (role, frame), own in zip(splits.items(), codes, strict=True)
        for note in told_of(
            f"{_rows_of(role)} whose text also stands with another label",
            frame,
            np.isin(own, twofold),
        )
    ]
