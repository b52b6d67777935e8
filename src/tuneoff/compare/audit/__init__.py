"""The audit: what in a study keeps its table from carrying a conclusion.

Each check looks for one fault in what a study's folder holds, and tells it by its code with the
rows or runs concerned and the mend. `docs/audit.md` says what each code means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneoff.compare.audit.costs import (
    chance_level_in_cost,
    different_machines,
    head_counted_twice,
    padded_throughput,
    shared_device,
    unequal_budget,
)
from tuneoff.compare.audit.evidence import Evidence, collect
from tuneoff.compare.audit.finding import KINDS, Finding, Kind
from tuneoff.compare.audit.rows import (
    glued_pair,
    group_on_both_sides,
    labels_differ_in_case,
    premise_on_both_sides,
    rows_missing,
    train_test_overlap,
    truncation,
    untested_labels,
)
from tuneoff.compare.audit.scores import (
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
from tuneoff.compare.audit.searches import edge_of_range, unequal_tuning
from tuneoff.compare.audit.show import audit_lines, count_line, faults_in

__all__ = [
    "KINDS",
    "Evidence",
    "Finding",
    "Kind",
    "audit",
    "audit_lines",
    "collect",
    "count_line",
    "faults_in",
]

CHECKS: Sequence[Callable[[Evidence], Finding | None]] = (
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


def audit(evidence: Evidence) -> list[Finding]:
    """What the checks find: faults first, then warnings, each in the order of `CHECKS`.

    Deterministic. A check for which the evidence is missing finds nothing.
    """
    found = [finding for check in CHECKS if (finding := check(evidence)) is not None]
    return sorted(found, key=lambda finding: finding.severity != "fault")
