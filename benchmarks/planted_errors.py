"""Measure the false and missed findings of the error analysis.

    python benchmarks/planted_errors.py STUDY [--shuffles 100]

On the test rows and predictions of a finished study:

1. shuffled: The errors of every method are moved to random rows, so they are not related to any
   word or slice. Counted are the repetitions in which any word or slice is called sure.
2. planted word: In a copy, additional rows that contain one word are made wrong. Counted is how
   often this word is listed first and sure, by the increase of its error rate in points.
3. planted slice: The same for the longest quarter of the rows. Counted is how often a slice by
   length is listed first and sure. The error analysis uses quintiles, so the quarter is not one of
   its slices.

The script prints aggregates only.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from tuneoff.error_analysis import ErrorEvidence, collect
from tuneoff.error_analysis.evidence import Bools, MethodPredictions, RunAnswers
from tuneoff.error_analysis.slices import slices
from tuneoff.error_analysis.words import words, words_of
from tuneoff.results.record import Status
from tuneoff.results.store import StudyFolder


def evidence_of(study: Path) -> ErrorEvidence:
    """Return the predictions of a study's finished runs, one seed per method."""
    folder = StudyFolder.open(study)
    tables, references, labels = {}, [], None
    for run in folder.runs():
        record = run.record()
        if record and record.status is Status.FINISHED and record.method.name not in tables:
            tables[record.method.name] = [run.predictions()]
            labels = record.data.labels
            if record.method.family == "baseline":
                references.append(record.method.name)
    task = folder.task()
    assert task
    assert labels
    return collect(tables, labels, folder.rows(task), references=references)


def with_errors(
    evidence: ErrorEvidence, wrong: dict[str, Bools], rng: np.random.Generator
) -> ErrorEvidence:
    """Return the same rows, with methods whose errors are exactly the rows `wrong`."""
    size = len(evidence.labels)
    methods = []
    for name, rows in wrong.items():
        other = (evidence.true + rng.integers(1, size, len(evidence))) % size
        answer = np.where(rows, other, evidence.true)
        methods.append(MethodPredictions(name, (RunAnswers(answer),)))
    return replace(evidence, methods=tuple(methods))


def shuffled(evidence: ErrorEvidence, times: int, rng: np.random.Generator) -> None:
    """Count and print the false findings without any effect."""
    alarms = {"words": 0, "slices": 0}
    for _ in range(times):
        # one order for all methods, so that their errors remain correlated
        order = rng.permutation(len(evidence))
        moved = with_errors(evidence, {n: w[order] for n, w in evidence.wrong.items()}, rng)
        found = words(moved)
        alarms["words"] += bool(found and any(m.sure for m in found.methods.values()))
        alarms["slices"] += any(s.sure for own in slices(moved).methods.values() for s in own)
    for view, count in alarms.items():
        print(f"shuffled: anything called sure among the {view} in {count} of {times}")


def planted(evidence: ErrorEvidence, name: str, times: int, rng: np.random.Generator) -> None:
    """Count and print how often a planted effect is listed first and sure."""
    held = [words_of(text) for text in (evidence.pairs or evidence.texts or [])]
    vocabulary = sorted({word for own in held for word in own})
    lengths = np.array([len(text) for text in evidence.joined])
    longest = lengths > np.quantile(lengths, 0.75)
    for points in (10, 20, 30):
        hits = {"word": 0, "slice": 0}
        for _ in range(times):
            clean = evidence.wrong[name][rng.permutation(len(evidence))]
            inside = np.zeros(len(evidence), bool)
            while not 80 <= inside.sum() <= 400:
                word = vocabulary[rng.integers(len(vocabulary))]
                inside = np.array([word in own for own in held])
            made = with_errors(evidence, {name: worse(clean, inside, points, rng)}, rng)
            found = words(made)
            first = found.methods[name].suspect[0] if found else None
            hits["word"] += bool(first and first.word == word and first.sure)
            made = with_errors(evidence, {name: worse(clean, longest, points / 3, rng)}, rng)
            part = slices(made).methods[name][0]
            hits["slice"] += part.kind == "length" and part.sure and part.rate > part.rest
        print(
            f"planted: word raised by {points} points first and sure in {hits['word']} of {times};"
            f" longest quarter raised by {points / 3:.1f} points: {hits['slice']} of {times}"
        )


def worse(wrong: Bools, inside: Bools, points: float, rng: np.random.Generator) -> Bools:
    """Raise the error rate of the rows `inside` by `points` percentage points."""
    right = inside & ~wrong
    share = points / 100 * inside.sum() / max(int(right.sum()), 1)
    more: Bools = wrong | (right & (rng.random(len(wrong)) < share))
    return more


def main() -> None:
    """Read the study and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--shuffles", type=int, default=100)
    parser.add_argument("--plantings", type=int, default=20)
    parser.add_argument("--method", default="full")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    evidence = evidence_of(options.study)
    print(f"{len(evidence)} test rows, {len(evidence.methods)} methods, {options.study.name}")
    shuffled(evidence, options.shuffles, rng)
    planted(evidence, options.method, options.plantings, rng)


if __name__ == "__main__":
    main()
