"""Search with a launcher that computes nothing: budgets, resuming, and settings found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneoff.config import StudySpec, parse_study
from tuneoff.display.progress import Lines, Quiet
from tuneoff.exceptions import BadInput
from tuneoff.results.store import StudyFolder
from tuneoff.scheduling.plan import complete
from tuneoff.tuning import run_tuned, tune_study

METHODS = ("baseline", "head", "full", {"method": "lora", "name": "mine", "learning_rate": 2e-5})


def asked(tune: Any, *methods: Any) -> StudySpec:
    content: dict[str, Any] = {"model": "m", "data": {"train": "t.csv"}, "seeds": 2}
    content |= {"train": {"epochs": 2}, "methods": list(methods or METHODS), "tune": tune}
    return complete(parse_study(content))


def searched(study: StudySpec, path: Path, launcher: Any, **more: Any) -> dict[str, Any]:
    return tune_study(study, StudyFolder(path), launcher=launcher, watch=Quiet(), **more).to_plain()


def test_every_method_gets_the_same_budget(graded: Any, tmp_path: Path) -> None:
    launcher = graded()
    found = searched(asked(6), tmp_path, launcher)
    assert {s["name"]: len(s["trials"]) for s in found["methods"]} == {
        "baseline": 0,
        **dict.fromkeys(("head", "full", "mine"), 6),
    }
    assert len(launcher.ran) == 18
    assert all(spec.trial is not None and spec.seed == 10_000 for spec in launcher.ran)
    assert [t["number"] for t in found["methods"][1]["trials"]] == [1, 2, 3, 4, 5, 6]
    assert StudyFolder(tmp_path).trials() == json.loads(json.dumps(found))


def test_first_trial_has_the_settings_of_the_study(graded: Any, tmp_path: Path) -> None:
    found = searched(asked(2), tmp_path, graded())
    first = {s["name"]: s["trials"][0]["settings"] for s in found["methods"] if s["trials"]}
    rates = {"head": 1e-3, "full": 5e-5, "mine": 2e-5}
    assert first == {name: {"learning_rate": rate} for name, rate in rates.items()}


def test_best_settings_are_run_with_the_seeds_of_the_study(graded: Any, tmp_path: Path) -> None:
    launcher = graded()
    folder = StudyFolder(tmp_path)
    _, records = run_tuned(asked(6), folder, launcher=launcher, watch=Quiet())
    runs = [spec for spec in launcher.ran if spec.trial is None]
    assert len(runs) == len(records) == 8
    assert {spec.seed for spec in runs} == {0, 1}
    # no run starts before the last trial
    assert [spec.trial is None for spec in launcher.ran] == [False] * 18 + [True] * 8

    content = folder.trials()
    assert content is not None
    best = {s["name"]: s["trials"][s["best"] - 1] for s in content["methods"] if s["best"]}
    for spec in runs:
        if spec.name == "head":  # its default is the best rate, so nothing was changed
            assert best["head"]["number"] == 1
            assert spec.train.learning_rate == "auto"
        elif spec.name != "baseline":
            assert spec.train.learning_rate == best[spec.name]["settings"]["learning_rate"]
    for search in content["methods"][1:]:
        scores = [t["score"] for t in search["trials"] if t["score"] is not None]
        assert best[search["name"]]["score"] == max(scores)

    # The study is unchanged; the settings found are in a separate study file.
    assert folder.spec() == asked(6)
    tuned = complete(parse_study(yaml.safe_load(folder.tuned_file.read_text())))
    assert tuned.tune is None
    assert tuned.methods[2].train == best["full"]["settings"]
    # Trials are not runs.
    assert {run.path.name for run in folder.runs()} == {r.run_id for r in records}
    assert all(record.trial is False for record in records)


def test_interrupted_search_has_the_same_trials(graded: Any, tmp_path: Path) -> None:
    whole = searched(asked(6), tmp_path / "whole", graded())
    for dies_at in (0, 11):
        path = tmp_path / str(dies_at)
        first = graded(dies_at)
        with pytest.raises(KeyboardInterrupt):
            searched(asked(6), path, first)
        assert not StudyFolder(path).trials_file.exists()
        second = graded()
        assert searched(asked(6), path, second) == whole
        assert len(first.ran) + len(second.ran) == 18
        third = graded()
        assert searched(asked(6), path, third) == whole
        assert third.ran == []


def test_further_trials_continue_the_search(graded: Any, tmp_path: Path) -> None:
    three = searched(asked(3), tmp_path, graded())
    launcher = graded()
    five = searched(asked(5), tmp_path, launcher)
    assert len(launcher.ran) == 6
    for before, after in zip(three["methods"], five["methods"], strict=True):
        assert after["trials"][:3] == before["trials"]
    again = graded()
    searched(asked(5), tmp_path, again, fresh=True)
    assert len(again.ran) == 15


def test_repeated_proposals_are_not_run_again(graded: Any, tmp_path: Path) -> None:
    # two values for six trials
    over = {"trials": 6, "over": ["rank"], "ranges": {"rank": [4, 5]}, "prune": False}
    launcher = graded()
    found = searched(asked(over, "lora"), tmp_path, launcher)
    trials = found["methods"][0]["trials"]
    assert [t["number"] for t in trials] == [1, 2, 3, 4, 5, 6]  # it still counts as a trial
    settings = {t["settings"]["rank"] for t in trials}
    assert settings <= {4, 5}
    assert sorted(spec.config["rank"] for spec in launcher.ran) == sorted(settings)
    scores = {(t["settings"]["rank"], t["score"]) for t in trials}
    assert len(scores) == len(settings)  # with the score of the previous run


def test_trial_below_the_threshold_is_pruned(graded: Any, tmp_path: Path) -> None:
    found = searched(asked(8), tmp_path / "pruning", graded())
    ends = {s["name"]: [t["status"] for t in s["trials"]] for s in found["methods"]}
    assert all(e[:3] == ["finished"] * 3 for name, e in ends.items() if name != "baseline")
    assert any("pruned" in e for e in ends.values())
    without = searched(asked({"trials": 8, "prune": False}), tmp_path / "without", graded())
    assert {t["status"] for s in without["methods"] for t in s["trials"]} == {"finished"}
    # Scores by epoch are not compared if the number of epochs differs.
    over = {"trials": 8, "over": ["learning_rate", "epochs"]}
    varied = searched(asked(over, "full"), tmp_path / "epochs", graded())
    assert {t["status"] for s in varied["methods"] for t in s["trials"]} == {"finished"}


def test_invalid_settings_are_errors_before_any_run(graded: Any, tmp_path: Path) -> None:
    launcher = graded()
    with pytest.raises(BadInput, match="no method of the study has a searchable setting 'rnk'"):
        searched(asked({"trials": 2, "over": ["rnk"]}), tmp_path / "s", launcher)
    assert launcher.ran == []
    assert not (tmp_path / "s").exists()


def test_progress_in_lines(graded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = StudyFolder(tmp_path)
    study = asked(2, "full")
    launcher = graded()
    launcher.workers = 1
    run_tuned(study, folder, launcher=launcher, watch=Lines())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("2 trials on 1,200 / 1,200 / 1,200 rows")
    assert lines[1] == "full, trial 1: started"
    assert lines[2].startswith("[1/2] full, trial 1: macro-F1 0.7699 on validation at")
    assert lines[2].endswith(" at learning rate 5e-5, in 2.0 s")
    assert lines[5].startswith("2 runs on 1,200 / 1,200 / 1,200 rows")
    assert lines[7].startswith("[1/2] full, seed 0: accuracy")
