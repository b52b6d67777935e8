"""Audit of a study: problems that make its conclusions unsafe.

Each check searches the folder of a study for one problem. It reports a finding with a code, the
rows or runs concerned, and a hint. `docs/audit.md` explains the codes.
"""

from __future__ import annotations

from tuneoff.audit import costs, rows, scores, searches
from tuneoff.audit.evidence import AuditEvidence, collect
from tuneoff.audit.finding import CHECKS, Finding, Kind

__all__ = ["KINDS", "AuditEvidence", "Finding", "Kind", "audit", "collect"]

MODULES = (costs, rows, scores, searches)
"""Modules whose import registers their checks."""

KINDS = sorted(CHECKS, key=lambda kind: not kind.published)
"""All kinds of findings, mistakes of published comparisons first."""


def audit(evidence: AuditEvidence) -> list[Finding]:
    """Run all checks and return their findings.

    A check finds nothing if its evidence is missing. The result is deterministic.

    Args:
        evidence: Content of the study's folder, see `collect`.

    Returns:
        Errors first, then warnings, each in the order of `KINDS`.
    """
    found = [finding for kind in KINDS if (finding := CHECKS[kind](evidence)) is not None]
    return sorted(found, key=lambda finding: finding.severity != "error")
