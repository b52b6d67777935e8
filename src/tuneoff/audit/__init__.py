"""Audit of a study: problems that make its conclusions unsafe.

Each check searches the folder of a study for one problem. It reports a finding with a code, the
rows or runs concerned, and a hint. `docs/audit.md` explains the codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneoff.audit.costs import (
    chance_level_in_cost,
    different_machines,
    head_counted_twice,
    padded_throughput,
    shared_device,
    unequal_budget,
)
from tuneoff.audit.evidence import AuditEvidence, collect
from tuneoff.audit.finding import KINDS, Finding, Kind
from tuneoff.audit.rows import (
    glued_pair,
    group_on_both_sides,
    labels_differ_in_case,
    premise_on_both_sides,
    rows_missing,
    train_test_overlap,
    truncation,
    untested_labels,
)
from tuneoff.audit.scores import (
    broken_contract,
    different_data,
    learned_nothing,
    shared_learning_rate,
    single_seed,
    small_test_set,
    test_picks_checkpoint,
    under_trained,
    unfinished_runs,
)
from tuneoff.audit.searches import edge_of_range, unequal_tuning

__all__ = [
    "KINDS",
    "AuditEvidence",
    "Finding",
    "Kind",
    "audit",
    "collect",
]

CHECKS: Sequence[Callable[[AuditEvidence], Finding | None]] = (
    shared_learning_rate,
    test_picks_checkpoint,
    premise_on_both_sides,
    chance_level_in_cost,
    unequal_budget,
    labels_differ_in_case,
    glued_pair,
    single_seed,
    head_counted_twice,
    padded_throughput,
    train_test_overlap,
    group_on_both_sides,
    rows_missing,
    different_data,
    different_machines,
    shared_device,
    under_trained,
    truncation,
    small_test_set,
    unequal_tuning,
    edge_of_range,
    untested_labels,
    unfinished_runs,
    broken_contract,
    learned_nothing,
)


def audit(evidence: AuditEvidence) -> list[Finding]:
    """Run all checks and return their findings.

    A check finds nothing if its evidence is missing. The result is deterministic.

    Args:
        evidence: Content of the study's folder, see `collect`.

    Returns:
        Errors first, then warnings, each in the order of `CHECKS`.
    """
    found = [finding for check in CHECKS if (finding := check(evidence)) is not None]
    return sorted(found, key=lambda finding: finding.severity != "error")
