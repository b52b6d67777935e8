"""Detection of the columns of the text and the label, if the user does not name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from tuneoff.exceptions import BadInput, Issue
from tuneoff.tables.columns import KEPT, OPTIONS, Columns, FileIssues, Raw
from tuneoff.tables.delimited import numbered
from tuneoff.tables.source import Role, is_delimited, names_of, read_raw
from tuneoff.tables.value_kinds import SENTENCE, Look, look_at

USUAL = Columns()
"""Default column names, which are used if a source has them."""


def choose_columns(
    source: str,
    asked: Columns,
    role: Role = "train",
    *,
    usual: Columns = USUAL,
) -> tuple[Columns, list[str]]:
    """Detect the columns of the text and the label, and whether a file has a header.

    Args:
        source: A file or hub data set, as for `read_table`.
        asked: The requested columns. `text`, `label` and `header` are detected if they are None;
            the label stays None for the role `new`.
        role: What the rows are used for.
        usual: Column names that are used without looking at the values, if the source has them.

    Returns:
        `asked` with the names of the text and the label filled in, and notes on the choices.

    Raises:
        BadInput: The text, the label or the header is ambiguous or not found. The message lists
            the candidates.
    """
    first = names_of(source, role)
    open_roles = [r for r in ("text", "label") if getattr(asked, r) is None]
    open_roles = [r for r in open_roles if r == "text" or role != "new"]
    by_name = {r: n for r in open_roles if (n := getattr(usual, r)) in first}
    notes: list[str] = []
    header = asked.header if is_delimited(source) else True
    if header is None:
        named = {n for columns in (asked, usual, USUAL) for n in columns.names()}
        header = not first or not named.isdisjoint(first) or _has_header(source, role, first, named)
        if not header:
            notes.append(
                f"{source}: the first row is read as data, not as a header, so the columns are"
                f" numbered from 1 to {len(first)}; use --header if it is a header"
            )
    if not header and first:
        present = numbered(first)
        by_name = {r: n for r in open_roles if (n := getattr(usual, r)) in present}
    else:
        present = first
    chosen = _named(replace(asked, header=header), by_name)
    missing = [r for r in open_roles if r not in by_name]
    if not missing:
        return chosen, notes
    if not present:  # `read_table` reports why the source cannot be read
        return _named(chosen, {r: getattr(USUAL, r) for r in missing}), notes
    if role == "new":  # the label column of the training rows is not the text
        present = [name for name in present if name != usual.label]
    guessed = _guess(source, role, chosen, present, missing)
    named_in = " and ".join(f"column {n!r} as the {r}" for r, n in guessed.items())
    options = " and ".join(OPTIONS[r] for r in guessed)
    whose, other = ("its", "another column") if len(guessed) == 1 else ("their", "other columns")
    notes.append(
        f"{source}: uses {named_in}, judging by {whose} values; choose {other} with {options}"
    )
    return _named(chosen, guessed), notes


def _named(columns: Columns, names: Mapping[str, str]) -> Columns:
    """Return `columns` with these names for the text, the label or both."""
    text, label = names.get("text", columns.text), names.get("label", columns.label)
    return replace(columns, text=text, label=label)


def _guess(
    source: str, role: Role, columns: Columns, present: Sequence[str], missing: Sequence[str]
) -> dict[str, str]:
    """Return a column for each role in `missing`; raise `BadInput` if one is ambiguous."""
    taken = {name for r, name in columns.wanted().items() if not r.startswith(KEPT)}
    names = [name for name in dict.fromkeys(present) if name not in taken]
    raw = _values(source, columns, role, names)
    looks = {name: look_at(raw.values.get(KEPT + name, [])) for name in names}
    texts = text_candidates(looks, with_label="label" in missing)
    candidates = {"text": texts, "label": label_candidates(looks)}
    if "text" not in missing:  # a column that looks like text is the label only as a last resort
        candidates["label"] = candidates["label"] or [n for n in names if looks[n].can_be_label]
    issues = [
        Issue(
            _doubt(which, columns, candidates[which], looks),
            source,
            hint=_hint(which, looks, present),
        )
        for which in missing
        if len(candidates[which]) != 1
    ]
    if issues:
        raise BadInput(issues)
    return {which: candidates[which][0] for which in missing}


def text_candidates(looks: Mapping[str, Look], *, with_label: bool) -> list[str]:
    """Return the columns that can be the text: columns of sentences, or else of a few words.

    Args:
        looks: Summaries of the values by column.
        with_label: Whether one of the columns is the label, whose names may have several words.
    """
    found = [name for name, look in looks.items() if look.can_be_text]
    if with_label:
        found = [name for name in found if not looks[name].can_be_label] or found
    return [name for name in found if looks[name].words >= SENTENCE] or found


def label_candidates(looks: Mapping[str, Look]) -> list[str]:
    """Return the columns that can be the label: few distinct values, and not the text."""
    texts = text_candidates(looks, with_label=True)
    return [name for name, look in looks.items() if look.can_be_label and name not in texts]


def _doubt(
    which: str, columns: Columns, candidates: Sequence[str], looks: Mapping[str, Look]
) -> str:
    usual = getattr(USUAL, which)
    start = f"there is no column {usual!r}" if columns.header else "the file has no header"
    if not candidates:
        what = {"text": "a text", "label": "a label"}[which]
        return f"{start}, and no column looks like {what}"
    listed = ", ".join(f"{name!r} ({looks[name]})" for name in candidates)
    return f"{start}, and several columns can be the {which}: {listed}"


def _hint(which: str, looks: Mapping[str, Look], present: Sequence[str]) -> str:
    listed = ", ".join(f"{n[:60]!r} ({look})" for n, look in list(looks.items())[:20])
    more = f" and {len(looks) - 20} more" if len(looks) > 20 else ""
    pair = " (and the second text of a pair with --text-pair)" if which == "text" else ""
    available = f"Columns of the source: {listed}{more}. " if looks else ""
    close = [n for n in present if n.strip().casefold() == which]
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{available}{guess}Choose the column with {OPTIONS[which]}{pair}."


def _has_header(source: str, role: Role, first: Sequence[str], names: Set[str]) -> bool:
    """Return whether the first row of a CSV or TSV file is a header; raise `BadInput` if unclear.

    `names` are the requested column names.
    """
    numbers = numbered(first)
    raw = _values(source, Columns(text=None, label=None, header=False), role, numbers)
    columns = [raw.values.get(KEPT + number, [])[1:] for number in numbers]
    found = {_is_value(field, column) for field, column in zip(first, columns, strict=True)}
    found.discard(None)
    if len(found) == 1:
        return found == {False}
    wordy = [field for field in first if look_at([field]).words >= SENTENCE]
    if not found and not wordy:
        return True
    if any(name.isdecimal() for name in names):
        return False
    shown = wordy[0] if wordy else first[0]
    raise BadInput(
        Issue(
            f"it is unclear whether the first row is a header or data ({shown[:60]!r})",
            source,
            line=1,
            hint="Add --header or --no-header. Without a header, columns are numbered from 1"
            " (--text 1).",
        )
    )


def _is_value(field: str, column: Sequence[str]) -> bool | None:
    """Return whether the first field of a column is a value like those below it; None: unknown.

    It is a value if it is a number above numbers, or if it occurs again in a column of few
    distinct values. A word above numbers, or one that does not occur in a column of few distinct
    values, is a name.
    """
    look = look_at(column)
    if not field.strip() or not look.values:
        return None
    if look.kind in ("whole numbers", "real numbers", "dates"):
        kind = look_at([field]).kind
        return kind != "strings" if kind != "booleans" else None
    return field in column if look.can_be_label else None


def _values(source: str, columns: Columns, role: Role, names: Sequence[str]) -> Raw:
    """Return the values of the columns `names`; `read_table` reports other problems of the file."""
    issues = FileIssues(source)
    kept = Columns(text=None, label=None, kept=tuple(names), header=columns.header)
    raw = read_raw(source, kept, role, issues)
    if not raw.lines:
        issues.raise_any()
    return raw
