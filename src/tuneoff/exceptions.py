"""Exceptions of tuneoff, all of them subclasses of `TuneoffError`, and their messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters except tab and line feed, bidirectional controls and unpaired surrogates."""


def printable(text: str) -> str:
    r"""Return `text` with control characters and unpaired surrogates escaped, such as `\u001b`.

    The result cannot control a terminal and can be encoded as UTF-8. JSON text keeps its meaning.
    """
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class TuneoffError(Exception):
    """Base class of all errors that tuneoff raises; the message is written for users."""


@dataclass(frozen=True)
class Issue:
    """One problem of the input: what is wrong, where it is, and how to fix it.

    `str(issue)` is `file, line, column: message`, followed by a line `Hint: …` if there is a hint.
    """

    message: str
    file: str | None = None
    line: int | None = None
    """Line of a text file, counted from 1. A header is line 1."""
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
    """The input of the user is invalid and nothing was run (exit code 2).

    Args:
        issues: All problems that were found; a string is the message of a single one.
        hint: How to fix the problem, if `issues` is a string.

    Attributes:
        issues: The problems as a tuple of `Issue`.
    """

    def __init__(self, issues: Issue | str | Sequence[Issue], *, hint: str | None = None) -> None:
        if isinstance(issues, str):
            issues = Issue(issues, hint=hint)
        self.issues: tuple[Issue, ...] = (issues,) if isinstance(issues, Issue) else tuple(issues)
        super().__init__("\n".join(str(issue) for issue in self.issues))


class IssueList:
    """Issues of several independent checks, which are raised together."""

    def __init__(self, issues: Iterable[Issue] = ()) -> None:
        self.issues = list(issues)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Catch a `BadInput` in the body of the `with` statement and keep its issues."""
        try:
            yield
        except BadInput as error:
            self.issues += error.issues

    def raise_any(self) -> None:
        """Raise `BadInput` with all collected issues, if there are any."""
        if self.issues:
            raise BadInput(self.issues)


class ModelUnavailable(BadInput):
    """The pretrained model cannot be downloaded or is not safe to load."""


class MissingExtra(BadInput):
    """A required optional dependency is not installed.

    Args:
        package: Name of the package.
        extra: Extra of tuneoff that installs the package.
        purpose: What needs the package; the subject of the message.
        more: Text that is added to the hint.
    """

    def __init__(self, package: str, extra: str, purpose: str, *, more: str = "") -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed.",
            hint=f"Install it with: pip install 'tuneoff[{extra}]'{more}",
        )


class RunFailed(TuneoffError):
    """A run failed; the message is the error in its record."""


class Interrupted(TuneoffError):
    """A run was interrupted; it can resume from its checkpoint."""


class Pruned(TuneoffError):
    """A trial of a search was stopped early, because its score is below the pruning threshold."""


class Diverged(TuneoffError):
    """The loss became NaN or infinite during training."""


LISTED = 12
"""Maximum number of valid words that a message lists."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint with the known word most similar to `word`, or else a list of known words."""
    known = sorted(known)
    by_folded = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {by_folded[close[0]]!r}?"
    more = f", … ({len(known)} in total)" if len(known) > LISTED else ""
    return f"Available: {', '.join(known[:LISTED])}{more}."
