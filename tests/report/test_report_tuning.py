"""The report of a tuned study: results and costs of each search."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from tuneoff.config import TuneSpec
from tuneoff.display.tuning import render_tuning
from tuneoff.report import build_report
from tuneoff.results.store import StudyFolder
from tuneoff.tuning.outcomes import outcomes

ENDS = ("finished", "finished", "finished", "pruned", "finished", "diverged", "pruned", "finished")


def trial(number: int, score: float, rate: float, seconds: float) -> dict[str, Any]:
    end = ENDS[number - 1]
    return {
        "number": number,
        "settings": {"learning_rate": rate, "targets": ["query", "value"]},
        "run_id": f"t{number}",
        "status": end,
        "score": score if end == "finished" else None,
        "scores": [] if end == "diverged" else [score / 2, score][: 1 if end == "pruned" else 2],
        "seconds": None if end == "diverged" else seconds / (2 if end == "pruned" else 1),
        "error": None,
    }


def tuned(folder: StudyFolder) -> dict[str, Any]:
    """Add searches of 8 trials for each method except `baseline`, and return their content."""
    rng = np.random.default_rng(5)
    spec = replace(folder.spec(), tune=TuneSpec(trials=8, rows=2_000))
    searches = []
    for place, entry in enumerate(spec.methods):
        trials = [
            trial(n, round(0.8 + 0.02 * place + rng.normal(0, 0.03), 4), 5e-5 * n, 20.0 + 5 * place)
            for n in range(1, 9)
        ]
        scored = [t for t in trials if t["score"] is not None]
        found = {
            "name": entry.name,
            "method": entry.method,
            "space": {"learning_rate": {"low": 1e-6, "high": 1.0, "log": True, "whole": False}},
            "best": max(scored, key=lambda t: t["score"])["number"],
            "trials": trials,
        }
        if entry.method == "baseline":
            found |= {"space": {}, "best": None, "trials": []}
        searches.append(found)
    content = {
        "schema": 1,
        "metric": "macro_f1",
        "trials": 8,
        "over": ["learning_rate"],
        "rows": 2_000,
        "seed": 10_000,
        "pruning": True,
        "methods": searches,
    }
    folder.write_spec(spec)
    folder.write_tuned(spec, content)
    return content


def test_report_shows_settings_found_and_cost(
    study: Callable[..., StudyFolder],
) -> None:
    folder = study(labels=5, hostile=True)
    content = tuned(folder)
    page = build_report(folder).read_text(encoding="utf-8")
    summary = folder.summary()
    assert summary is not None
    assert summary["tuning"] == content
    section = page[page.index('<section id="tuning">') : page.index('<section id="training">')]
    assert "8 trials for each method on the validation rows, trained on 2,000 rows." in section
    assert "8 (2 pruned, 1 failed)" in section
    assert "onerror=alert(1)>" not in section  # the hostile name of a method is escaped
    assert section.count("<tr>") == 1 + len(content["methods"])

    figures = json.loads(re.findall(r'id="figures">(.*?)</script>', page, re.S)[0])
    for plot in ("tuning-trials", "tuning-seconds"):
        lines = [t for t in figures[plot]["data"] if t["mode"] == "lines"]
        assert len(lines) == len(content["methods"]) - 1
        for line in lines:  # the best score so far never decreases
            assert line["y"] == sorted(line["y"])
            assert len(line["x"]) == len(line["y"]) == 8
    last = max(t["x"][-1] for t in figures["tuning-seconds"]["data"])
    assert last == max(o.seconds or 0 for o in outcomes(content))


def test_no_section_without_a_search(study: Callable[..., StudyFolder]) -> None:
    folder = study(labels=2)
    page = build_report(folder).read_text(encoding="utf-8")
    assert (folder.summary() or {})["tuning"] is None
    assert 'id="tuning"' not in page
    assert "tuning-trials" not in page


def test_terminal_table_fits_80_columns(study: Callable[..., StudyFolder]) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    content = tuned(study(labels=2))
    console.print(render_tuning(content))
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    full = content["methods"][4]
    best = full["trials"][full["best"] - 1]
    assert f"{best['score']:.3f}" in text
    assert "trained on 2,000 rows." in " ".join(text.split())
