"""Which columns of a source hold the text and the label, where nobody has said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from tuneoff.exceptions import BadInput, Issue
from tuneoff.tables.columns import KEPT, OPTIONS, Columns, FileIssues, Raw
from tuneoff.tables.delimited import numbered
from tuneoff.tables.source import Role, is_delimited, names_of, read_raw
from tuneoff.tables.value_kinds import SENTENCE, Look, look_at

USUAL = Columns()
"""Names that are taken wherever a source has them."""


def choose_columns(
    source: str,
    asked: Columns,
    role: Role = "train",
    *,
    usual: Columns = USUAL,
) -> tuple[Columns, list[str]]:
    """Return `asked` with a name for the text and the label, and notes on what was chosen.

    Args:
        source: A file or hub data set, as `read_table` takes it.
        asked: `text`, `label` and `header` may be None, to be found out; the label stays None in
            the role `new`.
        role: What the rows are for.
        usual: Names to take without a further look where the source has them.

    Raises:
        BadInput: The text, the label or the header is in doubt; the message lists the candidates.
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
                f"{source}: the first row is data and not a header, so the columns are numbered"
                f" from 1 to {len(first)}; --header reads it as a header"
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
    if not present:  # `read_table` says why the source cannot be read
        return _named(chosen, {r: getattr(USUAL, r) for r in missing}), notes
    if role == "new":  # the labels of the training rows are no texts
        present = [name for name in present if name != usual.label]
    guessed = _guess(source, role, chosen, present, missing)
    named_in = " and ".join(f"column {n!r} as the {r}" for r, n in guessed.items())
    options = " and ".join(OPTIONS[r] for r in guessed)
    whose, name = ("its", "names another") if len(guessed) == 1 else ("their", "name others")
    notes.append(f"{source}: took {named_in} by {whose} values ({options} {name})")
    return _named(chosen, guessed), notes


def _named(columns: Columns, names: Mapping[str, str]) -> Columns:
    """Return `columns` with these names for the text, the label or both."""
    text, label = names.get("text", columns.text), names.get("label", columns.label)
    return replace(columns, text=text, label=label)


def _guess(
    source: str, role: Role, columns: Columns, present: Sequence[str], missing: Sequence[str]
) -> dict[str, str]:
    """Return a column for each role in `missing`; `BadInput` where it is in doubt."""
    taken = {name for r, name in columns.wanted().items() if not r.startswith(KEPT)}
    names = [name for name in dict.fromkeys(present) if name not in taken]
    raw = _values(source, columns, role, names)
    looks = {name: look_at(raw.values.get(KEPT + name, [])) for name in names}
    texts = text_candidates(looks, with_label="label" in missing)
    candidates = {"text": texts, "label": label_candidates(looks)}
    if "text" not in missing:  # what reads like a text is the label only if nothing else is
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
    """Return the columns that can be the text: those of sentences, or else those of a few words.

    `with_label`: one of the columns is the label, and may have names of several words.
    """
    found = [name for name, look in looks.items() if look.can_be_text]
    if with_label:
        found = [name for name in found if not looks[name].can_be_label] or found
    return [name for name in found if looks[name].words >= SENTENCE] or found


def label_candidates(looks: Mapping[str, Look]) -> list[str]:
    """Return the columns that can be the label: few different values, and not the text."""
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
    return f"{start}, and more than one can be the {which}: {listed}"


def _hint(which: str, looks: Mapping[str, Look], present: Sequence[str]) -> str:
    listed = ", ".join(f"{n[:60]!r} ({look})" for n, look in list(looks.items())[:20])
    more = f" and {len(looks) - 20} more" if len(looks) > 20 else ""
    pair = " (and the second one of a pair with --text-pair)" if which == "text" else ""
    there = f"Columns there: {listed}{more}. " if looks else ""
    close = [n for n in present if n.strip().casefold() == which]
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{there}{guess}Name the right one with {OPTIONS[which]}{pair}."


def _has_header(source: str, role: Role, first: Sequence[str], names: Set[str]) -> bool:
    """Whether the first row of a CSV or TSV file names the columns; `BadInput` if in doubt.

    `names` are those that columns are asked for by.
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
            f"whether the first row is a header or data is in doubt ({shown[:60]!r})",
            source,
            line=1,
            hint="Say it with --header or --no-header; without a header the columns are numbered"
            " from 1 (--text 1).",
        )
    )


def _is_value(field: str, column: Sequence[str]) -> bool | None:
    """Whether the first field of a column is a value like those below it; None: cannot be told.

    It is if it is a number above numbers or stands again among few values; a word above numbers,
    or one that those few values lack, is a name.
    """
    look = look_at(column)
    if not field.strip() or not look.values:
        return None
    if look.kind in ("whole numbers", "real numbers", "dates"):
        kind = look_at([field]).kind
        return kind != "strings" if kind != "booleans" else None
    return field in column if look.can_be_label else None


def _values(source: str, columns: Columns, role: Role, names: Sequence[str]) -> Raw:
    """Return the values of `names`; what is wrong elsewhere in the file is for `read_table`."""
    issues = FileIssues(source)
    kept = Columns(text=None, label=None, kept=tuple(names), header=columns.header)
    raw = read_raw(source, kept, role, issues)
    if not raw.lines:
        issues.raise_any()
    return raw
