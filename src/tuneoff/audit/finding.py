"""Findings of the audit, their kinds, and the registration of checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps

from tuneoff.audit.evidence import AuditEvidence
from tuneoff.results.summary import AuditFinding, ScoresWithoutRows, Severity

NAMED = 20
"""Maximum number of rows or runs that a finding lists; the others are counted."""


@dataclass(frozen=True)
class Finding:
    """A problem of a study, as in `summary.json` and the report."""

    code: str
    """Short and stable name for scripts."""
    title: str
    """Title of the problem."""
    severity: Severity
    """Whether it is an error or a warning."""
    what: str
    """Description in one sentence with numbers. Labels may be quoted, texts never."""
    why: str
    """Why the problem matters."""
    hint: str
    """What to do about it."""
    concerned: list[str] = field(default_factory=list)
    """Run ids, or rows as `test row 17` (counted from 0 in their file); at most `NAMED`."""
    concerned_count: int = 0
    """Number of all rows or runs concerned."""
    scores: list[ScoresWithoutRows] = field(default_factory=list)
    """Scores by method with and without the rows concerned."""

    def to_plain(self) -> AuditFinding:
        """Return plain values for JSON."""
        return {
            "code": self.code,
            "title": self.title,
            "severity": self.severity,
            "what": self.what,
            "why": self.why,
            "hint": self.hint,
            "concerned": self.concerned,
            "concerned_count": self.concerned_count,
            "scores": self.scores,
        }


@dataclass(frozen=True)
class Kind:
    """A kind of finding."""

    code: str
    """Short and stable name for scripts."""
    title: str
    """Title of the problem."""
    why: str
    """Why the problem matters."""
    published: bool = False
    """Whether it is a mistake of published comparisons."""

    def found(
        self,
        what: str,
        hint: str,
        concerned: Sequence[str] = (),
        *,
        severity: Severity = "error",
        scores: Sequence[ScoresWithoutRows] = (),
    ) -> Finding:
        """Return a finding of this kind.

        Args:
            what: Description in one sentence with numbers.
            hint: What to do about it.
            concerned: All rows or runs concerned; the finding lists the first `NAMED`.
            severity: Whether it is an error or a warning.
            scores: Scores with and without the rows concerned.
        """
        return Finding(
            code=self.code,
            title=self.title,
            severity=severity,
            what=what,
            why=self.why,
            hint=hint,
            concerned=list(concerned[:NAMED]),
            concerned_count=len(concerned),
            scores=list(scores),
        )


Check = Callable[[AuditEvidence], Finding | None]

CHECKS: dict[Kind, Check] = {}
"""All registered checks by the kind of their finding."""


def check(
    code: str, title: str, why: str, *, published: bool = False
) -> Callable[[Callable[[AuditEvidence, Kind], Finding | None]], Check]:
    """Register a function as a check of the audit.

    The function gets the evidence and the kind of its finding, and returns `kind.found(…)`, or None
    if it finds nothing or its evidence is missing.

    Args:
        code: Short and stable name for scripts.
        title: Title of the problem.
        why: Why the problem matters.
        published: Whether it is a mistake of published comparisons.
    """
    kind = Kind(code, title, why, published)

    def register(function: Callable[[AuditEvidence, Kind], Finding | None]) -> Check:
        @wraps(function)
        def run(evidence: AuditEvidence) -> Finding | None:
            return function(evidence, kind)

        CHECKS[kind] = run
        return run

    return register
