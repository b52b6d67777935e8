"""Audit of searches for settings: shared rates, unequal budgets, edges of ranges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tuneoff.audit import Finding, audit, collect
from tuneoff.config import TuneSpec

RATE = {"low": 1e-5, "high": 1e-3, "log": True, "whole": False}
RANK = {"low": 2, "high": 64, "log": True, "whole": True}


def trial(number: int, score: float | None, **settings: Any) -> dict[str, Any]:
    return {
        "number": number,
        "settings": settings,
        "run_id": f"trial-{number}",
        "status": "diverged" if score is None else "finished",
        "score": score,
        "scores": [],
        "seconds": 1.0,
        "error": None,
    }


def search(name: str, space: dict[str, Any], *trials: dict[str, Any]) -> dict[str, Any]:
    scored = [t for t in trials if t["score"] is not None]
    best = max(scored, key=lambda t: t["score"])["number"] if scored else None
    return {"name": name, "method": name, "space": space, "best": best, "trials": list(trials)}


def rates(name: str, *values: float, best: int = 1) -> dict[str, Any]:
    trials = [
        trial(i + 1, 0.9 if i == best else 0.5 + i / 100, learning_rate=rate)
        for i, rate in enumerate(values)
    ]
    return search(name, {"learning_rate": RATE}, *trials)


def found(study: Any, *searches: dict[str, Any]) -> dict[str, Finding]:
    """Return the findings for a study whose settings come from these searches."""
    content = {"metric": "macro_f1", "trials": 3, "rows": None, "methods": list(searches)}
    tuned = replace(study.study, tune=TuneSpec(trials=3))
    study.folder.write_tuned(tuned, content)
    evidence = collect(study.folder, tuned, study.task, study.records)
    return {finding.code: finding for finding in audit(evidence)}


INSIDE = (1e-4, 3e-5, 3e-4)


def test_study_without_search_has_no_finding(make_study: Any) -> None:
    study = make_study()
    assert study.found() == {}
    study.folder.write_tuned(study.study, {"methods": []})  # of an earlier study
    assert study.found() == {}


def test_searched_rates_are_not_shared(make_study: Any) -> None:
    def at_one_rate(record: Any) -> Any:
        return replace(record, train={**record.train, "learning_rate": 2e-5})

    study = make_study(edit=at_one_rate)
    assert "shared-learning-rate" in study.found()
    names = ("full", "lora", "head")
    assert found(study, *(rates(name, *INSIDE) for name in names)) == {}
    left = found(study, rates("head", *INSIDE))
    assert set(left) == {"shared-learning-rate", "unequal-tuning"}
    assert left["shared-learning-rate"].what.startswith("full and lora were trained at the same")
    fixed = found(study, *(rates(name, 2e-5, 2e-5, 2e-5) for name in names))
    assert "shared-learning-rate" in fixed  # trials with the same rate are no search


def test_unequal_budgets(make_study: Any) -> None:
    study = make_study()
    finding = found(study, rates("full", *INSIDE), rates("lora", *INSIDE[:2]))["unequal-tuning"]
    assert finding.severity == "error"
    assert finding.what == (
        "The settings of full were searched with 3 trials, those of lora and head with fewer"
        " (lora 2 and head 0)."
    )
    runs = [r.run_id for r in study.records if r.method.name in ("lora", "head")]
    assert sorted(finding.concerned) == sorted(runs)

    spent = [rates("full", *INSIDE), rates("lora", *INSIDE), rates("head", *INSIDE)]
    spent[1]["trials"][2] |= {"score": None, "status": "diverged"}
    assert found(study, *spent) == {}  # a diverged trial counts


@pytest.mark.parametrize(
    ("values", "best", "reported"),
    [
        ((1e-4, 9e-4, 3e-5), 1, "9e-4 (upper end)"),
        ((1e-4, 1.1e-5, 3e-5), 1, "1.1e-5 (lower end)"),
        ((1e-4, 3e-4, 9e-4), 1, ""),  # a more extreme value was tried
        ((1e-4, 4e-4, 3e-5), 1, ""),  # the most extreme value, but far from the edge
        ((9e-4, 9e-4, 9e-4), 1, ""),  # nothing to compare it with
    ],
)
def test_best_value_at_edge_of_range(
    make_study: Any, values: tuple[float, ...], best: int, reported: str
) -> None:
    study = make_study()
    others = [rates(name, *INSIDE) for name in ("full", "head")]
    findings = found(study, *others, rates("lora", *values, best=best))
    assert list(findings) == (["edge-of-range"] if reported else [])
    if reported:
        finding = findings["edge-of-range"]
        assert finding.severity == "warning"
        assert finding.what.endswith(f"range: lora learning rate {reported}.")
        assert "tune.rate_factor" in finding.hint
        assert {r.partition("-")[0] for r in finding.concerned} == {"lora"}


def test_edges_at_natural_limits_are_not_reported(make_study: Any) -> None:
    study = make_study()
    space = {
        "rank": RANK,
        "dropout": {"low": 0.0, "high": 0.3, "log": False, "whole": False},
        "layers": {"values": ["all", "last 2"]},
    }
    trials = [
        trial(1, 0.5, rank=8, dropout=0.1, layers="all"),
        trial(2, 0.9, rank=64, dropout=0.0, layers="last 2"),
    ]
    others = [rates(name, *INSIDE[:2]) for name in ("full", "head")]
    finding = found(study, *others, search("lora", space, *trials))["edge-of-range"]
    assert finding.what.endswith("range: lora rank 64 (upper end).")
    assert "tune.ranges" in finding.hint
