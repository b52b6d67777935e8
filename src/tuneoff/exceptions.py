"""Exceptions. Everything that tuneoff raises on purpose is a `TuneoffError`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters but tab and line feed, those of the writing direction, lone surrogates."""


def printable(text: str) -> str:
    """`text` with what would steer a terminal, or could not be written, as `\\u001b` and the like.

    JSON stays the same JSON.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class TuneoffError(Exception):
    """Base of all errors raised on purpose; its message is fit to be shown to a user."""


@dataclass(frozen=True)
class Issue:
    """One problem of the input: what is wrong, where, and a hint how to fix it."""

    message: str
    file: str | None = None
    line: int | None = None
    """Line of a text file, counted from 1; a header is line 1."""
    column: str | None = None
    hint: str | None = None
    row: int | None = None
    """Row of a source without lines, counted from 0 as in `predictions.parquet`."""

    def __str__(self) -> str:
        place = ", ".join(
            part
            for part in (
                self.file,
                f"line {self.line}" if self.line is not None else None,
                f"row {self.row}" if self.row is not None else None,
                f"column {self.column!r}" if self.column is not None else None,
            )
            if part
        )
        text = f"{place}: {self.message}" if place else self.message
        return f"{text}\n  Hint: {self.hint}" if self.hint else text


class BadInput(TuneoffError):
    """The user's input cannot be used; nothing was run (exit code 2).

    `issues` has everything that was found.
    """

    def __init__(self, issues: Issue | str | Sequence[Issue], *, hint: str | None = None) -> None:
        if isinstance(issues, str):
            issues = Issue(issues, hint=hint)
        self.issues: tuple[Issue, ...] = (issues,) if isinstance(issues, Issue) else tuple(issues)
        super().__init__("\n".join(str(issue) for issue in self.issues))


class IssueList:
    """Issues of independent steps, to be raised together."""

    def __init__(self, issues: Iterable[Issue] = ()) -> None:
        self.issues = list(issues)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """A `BadInput` of what is done in here is kept; what comes after goes on."""
        try:
            yield
        except BadInput as error:
            self.issues += error.issues

    def raise_any(self) -> None:
        """Raise `BadInput` with all that was found, if anything was."""
        if self.issues:
            raise BadInput(self.issues)


class ModelUnavailable(BadInput):
    """The pretrained model cannot be reached or must not be loaded."""


class MissingExtra(BadInput):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str, *, more: str = "") -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed.",
            hint=f"Install it with: pip install 'tuneoff[{extra}]'{more}",
        )


class RunFailed(TuneoffError):
    """A run ended without a result; the message is what its record says."""


class Interrupted(TuneoffError):
    """A run was asked to end; it goes on from its checkpoint."""


class Pruned(TuneoffError):
    """A trial of a search fell behind the others and was ended."""


class Diverged(TuneoffError):
    """The loss became NaN or infinite in training."""


LISTED = 12
"""Known words that a message lists at the most."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A half-sentence with the known word nearest to `word`, or else with what is known."""
    known = sorted(known)
    by_folded = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {by_folded[close[0]]!r}?"
    more = f", … ({len(known)} in all)" if len(known) > LISTED else ""
    return f"Known: {', '.join(known[:LISTED])}{more}."
