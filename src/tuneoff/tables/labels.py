"""Labels and groups: one spelling for each value, and what cannot be a label."""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from typing import Any

from tuneoff.config.label_names import label_name
from tuneoff.tables.columns import SURROGATE, FileIssues, Raw, kind_of

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|[+-]?inf")
_FLOAT = re.compile(r"[+-]?(\d([.,]\d+)?[eE]\+?\d+|\d+[.,]0*)")
"""As Python, pandas and spreadsheets write large whole numbers that became floats."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_KINDS: dict[type, str] = {str: "texts", int: "numbers", float: "numbers", bool: "booleans"}
_SEPARATORS = ("|", ";", ",")
"""Rarely part of a name."""
_IN_NAMES = (", ", " & ", "+", " and ", "/", "::", "\n", "\t")
"""Common in names of single labels, too."""
FEWEST_JOINED = 3
"""Labels made of others from which these are no names: `Food`, `Drink`, `Food & Drink` are."""


def read_labels(raw: Raw, column: str, issues: FileIssues) -> list[str]:
    """Return the labels as strings, and note every value that cannot be the label of its row."""
    are_several = _check_several(raw, column, issues)
    labels = _names(raw, "label", column, issues)
    for label, place in zip(labels, raw.lines, strict=True):
        if not label:
            issues.add(
                "the label is missing",
                row=place,
                column=column,
                hint="Label the row or remove it.",
            )
    _check_kinds(raw, column, issues)
    _check_exact(raw, "label", column, issues)
    if not are_several:
        _check_real(labels, raw, column, issues)
    return labels


def read_groups(raw: Raw, column: str, issues: FileIssues) -> list[str]:
    """Return the groups as strings, "" for none."""
    _check_exact(raw, "group", column, issues)
    return _names(raw, "group", column, issues)


def _names(raw: Raw, role: str, column: str, issues: FileIssues) -> list[str]:
    """Return labels or groups as strings, "" for none; other kinds of values are issues."""
    names = []
    for value, place in zip(raw.values[role], raw.lines, strict=True):
        name = label_name(value)
        if name is None and not (role == "label" and _is_list(value)):
            issues.add(
                f"holds {kind_of(value)}, not a {role}",
                row=place,
                column=column,
                hint=f"Give each row one {role}: a string or a whole number.",
            )
        elif name is not None and not name.isascii() and SURROGATE.search(name):
            issues.add(
                f"the {role} {name!r} contains an unpaired surrogate",
                row=place,
                column=column,
                hint="Re-encode the file as UTF-8.",
            )
            name = None
        # A issue already stands for it; "?" keeps it from being reported as missing too.
        names.append("?" if name is None else name)
    return names


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _check_several(raw: Raw, column: str, issues: FileIssues) -> bool:
    """Whether cells hold several labels, as a list or joined by a separator: that is one issue."""
    values = raw.values["label"]
    names = {value for value in values if isinstance(value, str)}
    lists = {name for name in names if _is_written_list(name)}
    places = [i for i, v in enumerate(values) if _is_list(v) or (isinstance(v, str) and v in lists)]
    how = "as a list"
    if not places:
        for separator in _SEPARATORS + _IN_NAMES:
            if joined := _joined_labels(names, separator):
                places = [i for i, v in enumerate(values) if isinstance(v, str) and v in joined]
                how = f"joined by {separator!r}"
                break
    if not places:
        raw.notes += _perhaps_several(names, column)
        return False
    shown, count = values[places[0]], f"{len(places)} row{'s' * (len(places) != 1)}"
    issues.add(
        f"several labels in one cell, {how} ({shown!s:.60} here, {count} in all);"
        " multi-label classification is not supported, each text needs exactly one label",
        row=raw.lines[places[0]],
        column=column,
        hint="Keep one label per row, or make a column of its own for each question and name one"
        " of them with --label. If these are names of single classes, write them without"
        " brackets, and '_' in place of the separator.",
    )
    return True


def _is_written_list(name: str) -> bool:
    """Whether a string is a list as Python, NumPy or JSON writes it; `[deleted]` is not."""
    text = name.strip()
    if text[:1] not in "[({" or text[-1:] not in "])}" or len(text) > 10_000:
        return False
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return re.fullmatch(r"\[[^\[\],]+(,[^\[\],]+)+\]", text) is not None
    return isinstance(found, list | tuple | set | dict)


def _perhaps_several(names: set[str], column: str) -> list[str]:
    """A note on labels of which some parts are labels by themselves, and some are not."""
    for separator in _IN_NAMES:
        alone = {name.strip() for name in names if separator not in name}
        shared = {
            part: name
            for name in sorted(names)
            if separator in name
            for piece in name.split(separator)
            if (part := piece.strip()) in alone
        }
        if len(shared) > 1:
            (_, first), (_, second), *_ = sorted(shared.items())
            examples = " and ".join(dict.fromkeys((repr(first), repr(second))))
            parts = ", ".join(map(repr, sorted(shared)[:4]))
            return [
                f"column {column!r}: {examples} may be several labels in one cell (parts that are"
                f" labels by themselves, too: {parts}); each is taken as a label of its own"
            ]
    return []


def _joined_labels(names: set[str], separator: str) -> set[str]:
    """Return the labels that are several ones joined by `separator`; empty if none surely is.

    Names of a hierarchy (`news|sports`, `news|politics`) are single ones: there, a part has one
    parent and no label stops half-way. The separators `_IN_NAMES` also stand in ordinary names, so
    every part of one label has to be a label by itself, and in numbers with a decimal comma.
    """

    parts = {
        name: [part for piece in name.split(separator) if (part := piece.strip())]
        for name in names
        if separator in name and not (separator == "," and ", " in name)
    }
    joined = {name: found for name, found in parts.items() if len(found) > 1}
    alone = {name.strip() for name in names if separator not in name}
    decimals = separator == "," and all(map(_DECIMAL_COMMA.fullmatch, joined))
    if separator in _IN_NAMES or decimals:
        of_labels = [name for name, found in joined.items() if alone.issuperset(found)]
        several = len(of_labels) >= (1 if separator == ", " or decimals else FEWEST_JOINED)
    else:
        nodes = {tuple(found[: i + 1]) for found in joined.values() for i in range(len(found))}
        parents = Counter(node[-1] for node in nodes)
        several = any(count > 1 for count in parents.values())
        several = several or any(not alone.isdisjoint(found) for found in joined.values())
    return set(joined) if several else set()


def _check_kinds(raw: Raw, column: str, issues: FileIssues) -> None:
    """Note one issue if labels are of several kinds: nobody can say whether 1 and "1" are the same.

    A missing label is of no kind.
    """
    found: dict[str, list[int]] = {}
    values = raw.values["label"]
    for place, value in enumerate(values):
        kind = _KINDS.get(type(value))
        if kind and value != "" and value == value:  # NaN is a missing number
            found.setdefault(kind, []).append(place)
    if len(found) < 2:
        return
    told = [
        f"{len(places)} {kind} ({json.dumps(values[places[0]])[:60]} in"
        f" {raw.word} {raw.lines[places[0]]})"
        for kind, places in found.items()
    ]
    issues.add(
        f"the labels are of different kinds: {', '.join(told)}",
        row=raw.lines[sorted(places[0] for places in found.values())[1]],
        column=column,
        hint='Write all of them as strings ("1", "true") or all as whole numbers.',
    )


def _check_exact(raw: Raw, role: str, column: str, issues: FileIssues) -> None:
    """Note one issue if whole numbers are stored as floats that are too large to be exact."""
    limit = raw.exact.get(role, 2**53)
    values = raw.values[role]
    large = [i for i, value in enumerate(values) if _is_inexact(value, limit)]
    texts = (v.replace(",", ".") for v in values if isinstance(v, str) and v.strip())
    if not large or not all(map(_NUMBER.fullmatch, texts)):  # an id such as 5e123456 is none
        return
    left = len({values[i] for i in large})
    issues.add(
        f"the {role}s are whole numbers stored as floating-point numbers above {limit:,}, where"
        f" neighbouring numbers are the same ({values[large[0]]} here; {len(large)} rows, distinct"
        f" values left: {left})",
        row=raw.lines[large[0]],
        column=column,
        hint=f"Write the {role}s as strings or as 64-bit integers (in pandas: dtype 'Int64' or"
        " 'string' when the original file is read).",
    )


def _is_inexact(value: Any, limit: int) -> bool:
    if isinstance(value, str):
        is_float = _FLOAT.fullmatch(value) is not None
        return is_float and limit < abs(float(value.replace(",", "."))) < math.inf
    return isinstance(value, float) and limit < abs(value) < math.inf


def _check_real(labels: list[str], raw: Raw, column: str, issues: FileIssues) -> None:
    """Note one issue if the labels are numbers, some of them not whole: that is a regression."""
    distinct = {label.replace(",", ".") for label in labels} - {""}
    if not distinct or not all(_NUMBER.fullmatch(label) for label in distinct):
        return
    real = {label for label in distinct if not float(label).is_integer()}
    commas = any("," in label for label in labels)
    if not real and not commas:
        return
    rows = [i for i, x in enumerate(labels) if x.replace(",", ".") in real or "," in x]
    issues.add(
        f"the labels are real numbers ({labels[rows[0]]} here, {len(rows)} rows in all);"
        " tuneoff classifies, it does not predict quantities",
        row=raw.lines[rows[0]],
        column=column,
        hint="Give classes. If the numbers are names of classes, write them as words ('r0.5').",
    )
