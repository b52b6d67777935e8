"""Labels and groups: normalise the spelling of each value and reject invalid labels."""

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
"""Large integers converted to floats, as Python, pandas and spreadsheets write them."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_KINDS: dict[type, str] = {str: "strings", int: "numbers", float: "numbers", bool: "booleans"}
_SEPARATORS = ("|", ";", ",")
"""Separators that are rarely part of a name."""
_IN_NAMES = (", ", " & ", "+", " and ", "/", "::", "\n", "\t")
"""Separators that are also common in the name of a single label."""
FEWEST_JOINED = 3
"""Number of combined labels from which they count as several labels.

Fewer may be names, such as `Food & Drink` next to `Food` and `Drink`.
"""


def read_labels(raw: Raw, column: str, issues: FileIssues) -> list[str]:
    """Return the labels as strings, and add an issue for every value that is not a valid label."""
    are_several = _check_several(raw, column, issues)
    labels = _names(raw, "label", column, issues)
    for label, place in zip(labels, raw.lines, strict=True):
        if not label:
            issues.add(
                "the label is missing",
                row=place,
                column=column,
                hint="Add a label to the row or remove the row.",
            )
    _check_kinds(raw, column, issues)
    _check_exact(raw, "label", column, issues)
    if not are_several:
        _check_real(labels, raw, column, issues)
    return labels


def read_groups(raw: Raw, column: str, issues: FileIssues) -> list[str]:
    """Return the groups as strings, "" for a missing one."""
    _check_exact(raw, "group", column, issues)
    return _names(raw, "group", column, issues)


def _names(raw: Raw, role: str, column: str, issues: FileIssues) -> list[str]:
    """Return labels or groups as strings, "" for missing; values of other types are issues."""
    names = []
    for value, place in zip(raw.values[role], raw.lines, strict=True):
        name = label_name(value)
        if name is None and not (role == "label" and _is_list(value)):
            issues.add(
                f"the value is {kind_of(value)}, not a {role}",
                row=place,
                column=column,
                hint=f"Each row needs one {role}: a string or a whole number.",
            )
        elif name is not None and not name.isascii() and SURROGATE.search(name):
            issues.add(
                f"the {role} {name!r} contains an unpaired surrogate",
                row=place,
                column=column,
                hint="Re-encode the file as UTF-8.",
            )
            name = None
        # An invalid value has an issue already; with "?" it is not also reported as missing.
        names.append("?" if name is None else name)
    return names


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _check_several(raw: Raw, column: str, issues: FileIssues) -> bool:
    """Return whether cells contain several labels (a list, or joined), and add one issue if so."""
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
        f"the cell contains several labels, {how} ({shown!s:.60}; {count} in total);"
        " multi-label classification is not supported, each text needs exactly one label",
        row=raw.lines[places[0]],
        column=column,
        hint="Keep one label per row, or put each of the labels into its own column and choose one"
        " column with --label. If the values are names of single classes, write them without"
        " brackets, and replace the separator by '_'.",
    )
    return True


def _is_written_list(name: str) -> bool:
    """Return whether a string is a list in the notation of Python, NumPy or JSON."""
    text = name.strip()
    if text[:1] not in "[({" or text[-1:] not in "])}" or len(text) > 10_000:
        return False
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return re.fullmatch(r"\[[^\[\],]+(,[^\[\],]+)+\]", text) is not None
    return isinstance(value, list | tuple | set | dict)


def _perhaps_several(names: set[str], column: str) -> list[str]:
    """Return a warning about labels of which only some parts are labels themselves."""
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
                f"column {column!r}: {examples} may be several labels in one cell (parts that also"
                f" occur as labels: {parts}); each value is used as one label"
            ]
    return []


def _joined_labels(names: set[str], separator: str) -> set[str]:
    """Return the values that are several labels joined by `separator`; empty if this is unsure.

    Paths in a hierarchy (`news|sports`, `news|politics`) are single labels: each part has one
    parent, and no part is a label itself. The separators `_IN_NAMES` also occur in ordinary names,
    and a comma in decimal numbers; for these, all parts of a value must be labels themselves, in
    at least `FEWEST_JOINED` values (one for `, ` and decimal numbers).
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
    """Add one issue if the labels have several types: 1 and "1" may or may not be the same label.

    Missing labels are ignored.
    """
    by_kind: dict[str, list[int]] = {}
    values = raw.values["label"]
    for place, value in enumerate(values):
        kind = _KINDS.get(type(value))
        if kind and value != "" and value == value:  # NaN is a missing label
            by_kind.setdefault(kind, []).append(place)
    if len(by_kind) < 2:
        return
    examples = [
        f"{len(places)} {kind} ({json.dumps(values[places[0]])[:60]} in"
        f" {raw.word} {raw.lines[places[0]]})"
        for kind, places in by_kind.items()
    ]
    issues.add(
        f"the labels have different types: {', '.join(examples)}",
        row=raw.lines[sorted(places[0] for places in by_kind.values())[1]],
        column=column,
        hint='Write all labels as strings ("1", "true") or all as whole numbers.',
    )


def _check_exact(raw: Raw, role: str, column: str, issues: FileIssues) -> None:
    """Add one issue if integers are stored as floats that are too large to be exact."""
    limit = raw.exact.get(role, 2**53)
    values = raw.values[role]
    large = [i for i, value in enumerate(values) if _is_inexact(value, limit)]
    texts = (v.replace(",", ".") for v in values if isinstance(v, str) and v.strip())
    # Ids such as 5e123456 look like floats, but other ids of their column are not numbers.
    if not large or not all(map(_NUMBER.fullmatch, texts)):
        return
    left = len({values[i] for i in large})
    issues.add(
        f"the {role}s are whole numbers stored as floating-point numbers above {limit:,}, where"
        f" neighbouring numbers become equal ({values[large[0]]}; {len(large)} rows in total,"
        f" distinct values left: {left})",
        row=raw.lines[large[0]],
        column=column,
        hint=f"Write the {role}s as strings or as 64-bit integers (in pandas, read the original"
        " file with dtype 'Int64' or 'string').",
    )


def _is_inexact(value: Any, limit: int) -> bool:
    if isinstance(value, str):
        is_float = _FLOAT.fullmatch(value) is not None
        return is_float and limit < abs(float(value.replace(",", "."))) < math.inf
    return isinstance(value, float) and limit < abs(value) < math.inf


def _check_real(labels: list[str], raw: Raw, column: str, issues: FileIssues) -> None:
    """Add one issue if the labels are numbers with fractions: the task is a regression."""
    distinct = {label.replace(",", ".") for label in labels} - {""}
    if not distinct or not all(_NUMBER.fullmatch(label) for label in distinct):
        return
    real = {label for label in distinct if not float(label).is_integer()}
    commas = any("," in label for label in labels)
    if not real and not commas:
        return
    rows = [i for i, x in enumerate(labels) if x.replace(",", ".") in real or "," in x]
    issues.add(
        f"the labels are real numbers ({labels[rows[0]]}; {len(rows)} rows in total);"
        " tuneoff supports classification, not regression",
        row=raw.lines[rows[0]],
        column=column,
        hint="Use classes as labels. If the numbers are names of classes, write them as words"
        " ('r0.5').",
    )
