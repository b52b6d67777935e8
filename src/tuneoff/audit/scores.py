"""Checks of the scores: learning rates, checkpoint selection, seeds, epochs and test rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.audit.evidence import AuditEvidence, joined, named_rows, names_of, run_ids
from tuneoff.audit.finding import Finding, Kind, check
from tuneoff.audit.searches import methods_searched
from tuneoff.methods import methods
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.scores import at_chance

RATES_APART = 5.0
"""Ratio of two methods' default learning rates from which one rate does not suit both."""

SAME_SHARE = 0.5
"""Fraction of the test rows in the validation split from which the test set selects the checkpoint.
Test rows in the training file also reach the validation split, but only in its proportion."""

CLOSE = 0.02
"""Difference in accuracy that another seed may reverse: fine-tuned models with different seeds
differ by up to several points (Dodge et al. 2020, Mosbach et al. 2021)."""

STILL_IMPROVING = 0.01
"""Gain on validation in the last epoch, as a fraction, from which training ended too early."""


@check(
    "shared-learning-rate",
    "One learning rate for all methods",
    "The best learning rates of these methods differ by a factor of 10 to 100. At a rate that"
    " suits one of them, the others look worse than they are.",
    published=True,
)
def shared_learning_rate(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find methods trained only at the same rate although their default rates differ much.

    Methods whose learning rate was searched are ignored.
    """
    known = methods()
    searched = methods_searched(evidence, "learning_rate")
    rates: dict[str, set[float]] = {}
    for record in evidence.trained:
        if record.method.name in searched:
            continue
        rate = record.train.get("learning_rate")
        chosen = known.get(record.method.method)
        if isinstance(rate, int | float) and chosen and chosen.learning_rate:
            rates.setdefault(chosen.name, set()).add(float(f"{rate:.6g}"))
    # a method with several rates was swept and is ignored
    by_rate: dict[float, list[str]] = {}
    for name, own in rates.items():
        if len(own) == 1:
            by_rate.setdefault(min(own), []).append(name)
    defaults = {name: known[name].learning_rate or 0.0 for name in rates}
    apart = {
        rate: max(defaults[n] for n in names) / min(defaults[n] for n in names)
        for rate, names in by_rate.items()
    }
    rate, factor = max(apart.items(), key=lambda pair: pair[1], default=(0.0, 0.0))
    if factor < RATES_APART:
        return None
    left = [r for r in evidence.trained if r.method.name not in searched]
    concerned = [r for r in left if r.method.method in by_rate[rate]]
    return kind.found(
        f"{joined(names_of(concerned))} were trained at the same learning rate,"
        f" {fmt.setting(rate)}, but their default rates differ by a factor of {factor:.3g}.",
        "Use each method's default rate (learning_rate: auto), or tune all methods with the same"
        " number of trials on the validation rows (--tune 8).",
        run_ids(concerned),
    )


@check(
    "test-picks-checkpoint",
    "The test set selects the checkpoint",
    "The best of several epochs on the test rows is partly luck on these rows. The reported score"
    " is too high, and the bias grows with the number of epochs.",
    published=True,
)
def test_picks_checkpoint(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find test rows in the validation split, or checkpoints that validation did not select.

    The evidence is searched in this order: the rows; the prepared task; the files of the study;
    validation scores that are identical to the test scores; test scores in the history; a
    checkpoint that is not the one with the best validation score, or that was selected without
    validation rows.
    """
    message, concerned = _same_rows(evidence) or _picked_otherwise(evidence) or ("", [])
    if not message:
        return None
    return kind.found(
        message,
        "Select the checkpoint on separate validation rows (--validation 0.1), and score the test"
        " rows only once, at the end.",
        concerned,
    )


def _same_rows(evidence: AuditEvidence) -> tuple[str, list[str]] | None:
    rows, data = evidence.test_rows or 0, evidence.study.data
    shared = evidence.shared("validation", "test")
    count = len(shared) if shared is not None else 0
    if shared is None and evidence.task is not None:
        count = evidence.task.shared_rows.get("validation/test", 0)
    if rows and count >= SAME_SHARE * rows:
        return (
            f"{count:,} of {rows:,} test rows ({fmt.percent(100 * count / rows)}) are also"
            " validation rows, which select the checkpoint.",
            [] if shared is None else named_rows(shared),
        )
    files = [data.test, data.validation]
    if shared is None and all(isinstance(f, str) for f in files):
        test, validation = (Path(str(f)).expanduser() for f in files)
        if test == validation:
            return (f"The study uses the same file for validation and test: {test.name}.", [])
    return None


def _picked_otherwise(evidence: AuditEvidence) -> tuple[str, list[str]] | None:
    proofs = (
        (_scores_are_the_tests, "have identical scores on the validation and the test rows"),
        (_watched_the_test, "scored the test rows during training"),
        (_not_validations_best, "kept an epoch other than the best one on validation"),
        (_no_validation, "selected a checkpoint without any validation rows"),
    )
    for proof, message in proofs:
        runs = [record for record in evidence.finished if proof(evidence, record)]
        if runs:
            return f"{len(runs)} runs of {joined(names_of(runs))} {message}.", run_ids(runs)
    return None


def _scores_are_the_tests(_: AuditEvidence, record: RunRecord) -> bool:
    """Return whether all scores are equal, including the log loss, which is no coincidence."""
    same = record.quality.validation is not None
    same = same and record.quality.validation == record.quality.test
    return same and record.data.validation_rows == record.data.test_rows


def _watched_the_test(evidence: AuditEvidence, record: RunRecord) -> bool:
    return any(row.get("kind") == "test" for row in evidence.histories.get(record.run_id, ()))


def _not_validations_best(evidence: AuditEvidence, record: RunRecord) -> bool:
    scores = _by_epoch(evidence, record, record.metric)
    if record.best_epoch is None or len(scores) < 2 or record.best_epoch not in scores:
        return False
    return scores[record.best_epoch] < max(scores.values()) - 1e-9


def _no_validation(_: AuditEvidence, record: RunRecord) -> bool:
    return record.data.validation_rows == 0 and record.best_epoch is not None


def _by_epoch(evidence: AuditEvidence, record: RunRecord, metric: str) -> dict[int, float]:
    """Return the validation score after each epoch (higher is better); empty without a history."""
    key, sign = ("loss", -1.0) if metric == "log_loss" else (metric, 1.0)
    return {
        round(row["epoch"]): sign * float(row[key])
        for row in _validations(evidence.histories.get(record.run_id, ()))
        if row.get(key) is not None
    }


def _validations(history: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (row for row in history if row.get("kind") == "validation")


@check(
    "single-seed",
    "Only one seed per method",
    "Another seed changes the score of a fine-tuned model by a few tenths of a point to several"
    " points. With one seed, this cannot be distinguished from a difference between methods.",
    published=True,
)
def single_seed(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find fine-tuned methods with one finished seed in a comparison of several methods.

    The finding is an error if a difference to such a method is less than `CLOSE`, else a warning.
    """
    seeds: dict[str, set[int]] = {}
    for record in evidence.trained:
        if record.quality.test is not None:
            seeds.setdefault(record.method.name, set()).add(record.seed)
    single = [name for name, own in seeds.items() if len(own) == 1]
    accuracy = evidence.accuracy
    pairs = [
        (abs(accuracy[one] - accuracy[other]), one, other)
        for one in single
        for other in accuracy
        if one != other
    ]
    if not pairs:
        return None
    gap, one, other = min(pairs)
    concerned = [r for r in evidence.trained if r.method.name in single]
    return kind.found(
        f"{joined(single)} {'was' if len(single) == 1 else 'were'} run with one seed; the smallest"
        f" difference is {100 * gap:.1f} points of accuracy ({one} and {other}).",
        "Run at least three seeds (--seeds 3). Finished runs are reused.",
        run_ids(concerned),
        severity="error" if gap < CLOSE else "warning",
    )


@check(
    "under-trained",
    "Validation was still improving at the last epoch",
    "Training ends too early for a method that learns slowly. More epochs could change the"
    " ranking.",
)
def under_trained(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find methods whose validation score still rose by `STILL_IMPROVING` in the last epoch.

    The gain is the mean over the seeds. A gain within the standard error of the validation score
    counts as 0.
    """
    gains: dict[str, list[float]] = {}
    for record in evidence.trained:
        metric = record.metric if record.metric in ("accuracy", "macro_f1") else "macro_f1"
        scores = [score for _, score in sorted(_by_epoch(evidence, record, metric).items())]
        if len(scores) > 1:
            last = [later - earlier for earlier, later in pairwise(scores)][-1]
            error = _standard_error(scores[-1], record.data.validation_rows)
            rose = last >= max(STILL_IMPROVING, error) and scores[-1] == max(scores)
            gains.setdefault(record.method.name, []).append(last if rose else 0.0)
    rising = {name: fmean(own) for name, own in gains.items() if fmean(own) >= STILL_IMPROVING}
    if not rising:
        return None
    concerned = [r for r in evidence.trained if r.method.name in rising]
    most = max(rising, key=lambda name: rising[name])
    points = f"{100 * rising[most]:.1f} points"
    gained = f"The validation score of {most} still rose by {points} in the last epoch."
    if len(rising) > 1:
        names = joined(list(rising))
        gained = (
            f"The validation scores of {names} still rose in the last epoch, by up to {points}"
            f" ({most})."
        )
    return kind.found(
        gained,
        "Train all methods for more epochs (--epochs).",
        run_ids(concerned),
        severity="warning",
    )


@check(
    "small-test-set",
    "The test set is too small for these differences",
    "With so few rows, the uncertainty of the accuracy is larger than the differences.",
)
def small_test_set(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Report if all fine-tuned methods are within two standard errors of the best accuracy."""
    names = [name for name in names_of(evidence.trained) if name in evidence.accuracy]
    rows = evidence.test_rows
    if len(names) < 2 or not rows:
        return None
    found = [evidence.accuracy[name] for name in names]
    best, spread = max(found), max(found) - min(found)
    error = _standard_error(best, rows)
    if spread > 2 * error:
        return None
    needed = math.ceil(4 * best * (1 - best) / spread**2) if spread else None
    return kind.found(
        f"With {rows:,} test rows, the standard error of an accuracy is {100 * error:.1f} points,"
        f" and the fine-tuned methods differ by at most {100 * spread:.1f} points.",
        "Use more test rows"
        + (f" (about {_rounded_up(needed):,} for differences of this size)" if needed else "")
        + ", or choose the cheapest of these methods.",
        names,
        severity="warning",
    )


@check(
    "different-data",
    "The runs used different data",
    "Scores on different data cannot be compared: a difference may come from the data rather than"
    " from the methods.",
)
def different_data(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find runs of a study with different fingerprints of the data."""
    seen: dict[str, list[RunRecord]] = {}
    for record in evidence.finished:
        seen.setdefault(record.data.fingerprint, []).append(record)
    if len(seen) < 2:
        return None
    most = max(seen.values(), key=len)
    odd = [r for r in evidence.finished if r.data.fingerprint != most[0].data.fingerprint]
    return kind.found(
        f"{len(odd)} of {len(evidence.finished)} runs used different data from the others"
        f" ({joined(names_of(odd))}).",
        "Rerun the study. Only the runs on outdated data are repeated.",
        run_ids(odd),
    )


@check(
    "unfinished-runs",
    "Runs did not finish",
    "A run that did not finish is in no score and no cost, and the audit cannot check it. Results"
    " of methods with fewer finished seeds are less certain.",
)
def unfinished_runs(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find runs without a result; an error if no run has one, because nothing was audited then."""
    if not evidence.records:
        return kind.found(
            "No run has a record, so the audit had no result to check.",
            "Run the study, then create the report again.",
        )
    failed = [record for record in evidence.records if record.status is not Status.FINISHED]
    if not failed:
        return None
    advice = "See the errors of these runs in the report, fix their cause, and rerun the same"
    advice += " command, which runs only the missing runs."
    if not evidence.finished:
        return kind.found(
            f"None of the {len(failed)} runs finished ({joined(names_of(failed))}), so the audit"
            " had no result to check.",
            advice,
            run_ids(failed),
        )
    return kind.found(
        f"{len(failed)} of {len(evidence.records)} runs did not finish"
        f" ({joined(names_of(failed))}). The audit covers only the others.",
        advice,
        run_ids(failed),
        severity="warning",
    )


@check(
    "broken-contract",
    "A run failed a check of its model",
    "A trainable parameter did not change, or a frozen one did; the saved model differs from the"
    " one that was measured; or predictions depend on the other rows of the batch. The scores may"
    " not be those of the method or model in the table.",
)
def broken_contract(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find runs that failed a check after training."""
    broken = [r for r in evidence.finished if r.checks is not None and r.checks.problems]
    if not broken:
        return None
    first = broken[0]
    assert first.checks is not None
    return kind.found(
        f"{len(broken)} of {len(evidence.finished)} runs failed a check of their model"
        f" ({joined(names_of(broken))}). {first.run_id}: {'; '.join(first.checks.problems)}.",
        "Do not use these runs. If the model is of a common family, please report the message: it"
        " is a bug of tuneoff or of a library that it uses.",
        run_ids(broken),
    )


@check(
    "learned-nothing",
    "A run is no better than guessing",
    "Its predictions on the test rows are no better than guessing, so its model is of no use, and"
    " its cost is irrelevant.",
)
def learned_nothing(evidence: AuditEvidence, kind: Kind) -> Finding | None:
    """Find runs at chance level in a study of one method, see also `chance_level_in_cost`."""
    guessing = [
        record
        for record in evidence.finished
        if record.method.family != "baseline"
        and record.quality.test is not None
        and at_chance([record.quality.test])
    ]
    if not guessing or len(names_of(evidence.finished)) > 1:
        return None
    return kind.found(
        f"{joined(names_of(guessing))} is no better than guessing on the test rows.",
        "Train longer or at another learning rate (--epochs, --learning-rate), and check the labels"
        " with `tuneoff check`.",
        run_ids(guessing),
        severity="warning",
    )


def _standard_error(share: float, rows: int) -> float:
    """Return the binomial standard error of a proportion of `rows` rows."""
    share = min(max(share, 0.0), 1.0)
    return math.sqrt(share * (1 - share) / rows) if rows else 0.0


def _rounded_up(count: int) -> int:
    """Round up to two digits, e.g. 4,137 to 4,200."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit
