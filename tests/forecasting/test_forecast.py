"""`tuneoff forecast`: probes of a tiny encoder in worker processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tuneoff.display.forecast import render_forecast
from tuneoff.forecasting.actual import beside_actual
from tuneoff.results.store import StudyFolder


@pytest.fixture(scope="session")
def arguments(
    tiny_model: Any, shared_csv: Any, tmp_path_factory: pytest.TempPathFactory
) -> list[Any]:
    """Options of a study with more steps than a probe, frozen layers, and a classical method."""
    train = shared_csv(300, seed=3, name="forecast-train.csv")
    test = shared_csv(60, seed=4, name="forecast-test.csv")
    return [
        "--model", tiny_model("bert"), "--train", train, "--test", test, "--methods",
        "tfidf,full,partial,head", "--seeds", 2, "--epochs", 3, "--batch-size", 8, "--precision",
        "fp32", "--threads", 1, "--learning-rate", "3e-3",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def forecast(
    tuneoff: Any, arguments: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """The folder, output and file of the forecast; do not change them."""
    out = tmp_path_factory.mktemp("forecast") / "study"
    return out, tuneoff("forecast", *arguments, "--out", out)


@pytest.fixture(scope="session")
def compared(tuneoff: Any, arguments: list[Any], forecast: tuple[Path, Any]) -> tuple[Path, Any]:
    """The study, run in the folder of its forecast."""
    return forecast[0], tuneoff("compare", *arguments, "--out", forecast[0])


def written(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "forecast.json").read_text())
    return content


def test_forecast_prints_a_table_without_runs(forecast: tuple[Path, Any]) -> None:
    out, ended = forecast
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert " ".join(lines[0].split()) == "method runs training total memory storage on disk"
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["tfidf", "1"],  # deterministic, one run
        *([name, "2"] for name in ("full", "partial", "head")),
    ]
    assert all(len(line) <= 80 for line in lines)
    assert "Study: 7 runs in" in ended.out
    assert "once, for the cached output of the frozen layers" in " ".join(ended.out.split())
    assert "measuring partial" in ended.err
    assert not (out / "runs").exists()
    assert not (out / "study.yaml").exists()
    assert not list(out.glob(".forecast-*"))  # the probes leave no files


def test_forecast_file(forecast: tuple[Path, Any]) -> None:
    found = written(forecast[0])
    assert found["schema"] == 1
    assert [m["name"] for m in found["methods"]] == ["tfidf", "full", "partial", "head"]
    for own in found["methods"]:
        assert own["status"] == "finished"
        assert own["error"] is None
        for key in ("train_seconds", "total_seconds", "evaluate_seconds", "disk_bytes"):
            assert own[key] > 0, key
        assert own["peak_memory_bytes"] >= 0
        assert own["storage_bytes"] > 0
        assert len(own["runs"]) == (1 if own["name"] == "tfidf" else 2)
    tfidf, full, partial, head = found["methods"]
    assert full["prefix"] is tfidf["prefix"] is None
    assert partial["prefix"] != head["prefix"]  # different layers are frozen
    computing = [r["run_id"] for r in found["runs"] if r["computes_prefix"]]
    assert computing == [
        partial["runs"][0],
        head["runs"][0],
    ]  # the first seed computes the states for all
    assert full["checkpoint_bytes"] > head["checkpoint_bytes"] > 0
    study = found["study"]
    assert study["disk_bytes"] > sum(len(m["runs"]) * m["disk_bytes"] for m in found["methods"])
    seconds = sum(len(m["runs"]) * m["total_seconds"] for m in found["methods"])
    assert study["seconds"] * study["workers"] > seconds
    assert study["trials_seconds"] is None
    assert study["more_seeds_seconds"] is None


def test_forecasts_other_than_times_are_exact(compared: tuple[Path, Any]) -> None:
    out, ended = compared
    assert ended.code == 0, ended.err
    found, folder = written(out), StudyFolder(out)
    names = {run_id: m for m in found["methods"] for run_id in m["runs"]}
    for run in folder.runs():
        record, own = run.record(), names[run.path.name]  # the forecast has all run ids
        assert record is not None
        assert record.cost.storage_bytes == pytest.approx(own["storage_bytes"], rel=0.01)
        disk = sum(
            f.lstat().st_size for f in run.path.rglob("*") if f.is_file() and not f.is_symlink()
        )
        assert disk == pytest.approx(own["disk_bytes"], rel=0.1), own["name"]
    states = sum(f.stat().st_size for f in out.glob("data/*/states/*"))
    expected = sum(m["prefix_bytes"] for m in found["methods"])
    assert states == pytest.approx(expected, rel=0.1)


def test_report_shows_forecast_and_actual_costs(compared: tuple[Path, Any]) -> None:
    folder = StudyFolder(compared[0])
    summary = folder.summary()
    assert summary is not None
    rows = {row["name"]: row for row in summary["forecast"]}
    assert list(rows) == ["tfidf", "full", "partial", "head"]
    own = next(m for m in written(folder.path)["methods"] if m["name"] == "full")
    assert rows["full"]["train_seconds"]["forecast"] == own["train_seconds"]
    actual = next(m for m in summary["methods"] if m["name"] == "full")["cost"]
    assert rows["full"]["train_seconds"]["actual"] == actual["train_seconds"]["mean"]
    page = folder.report_file.read_text(encoding="utf-8")
    assert "Forecast and actual" in page
    assert "Time by part" in page


def test_report_without_forecast(finished_study: Any) -> None:
    folder = StudyFolder(finished_study.path)
    assert (folder.summary() or {})["forecast"] is None
    assert "Forecast and actual" not in folder.report_file.read_text(encoding="utf-8")


def test_runs_with_other_settings_are_not_compared(compared: tuple[Path, Any]) -> None:
    folder = StudyFolder(compared[0])
    records = [record for run in folder.runs() if (record := run.record()) is not None]
    content = written(compared[0])
    for own in content["methods"]:
        own["runs"] = [f"{run_id[:-8]}00000000" for run_id in own["runs"]]
    assert beside_actual(content, records) == []
    assert beside_actual(None, records) == []


def test_dry_run_as_json(tuneoff: Any, arguments: list[Any], tmp_path: Path) -> None:
    command = [
        "compare",
        *arguments,
        "--methods",
        "full",
        "--seeds",
        "2:4",
        "--dry-run",
        "--json",
    ]
    ended = tuneoff(*command, "--out", tmp_path / "study")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found == written(tmp_path / "study")
    assert not (tmp_path / "study" / "runs").exists()
    once = found["methods"][0]["total_seconds"] + found["methods"][0]["around_seconds"]
    assert found["study"]["more_seeds_seconds"] == pytest.approx(2 * once)
    page = Console(width=80)
    with page.capture() as shown:
        page.print(render_forecast(found))
    assert "Further seeds: up to" in " ".join(shown.get().split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--methods", "fulll"], "Did you mean 'full'?"),
        (["--epochs", 0], "epochs must be at least 1"),
        (["--train", "nowhere.csv"], "nowhere.csv"),
        (["--text", "txt"], "txt"),
        (["--tune", 0], "tune"),
    ],
)
def test_invalid_input_is_an_error_as_in_compare(
    tuneoff: Any, arguments: list[Any], tmp_path: Path, more: list[Any], said: str
) -> None:
    ended = tuneoff("forecast", *arguments, *more, "--out", tmp_path / "one")
    again = tuneoff("compare", *arguments, *more, "--out", tmp_path / "two")
    assert ended.code == again.code == 2
    assert ended.err.splitlines()[-1] == again.err.splitlines()[-1]
    assert said in ended.err
    assert not (tmp_path / "one" / "forecast.json").exists()


def test_method_that_cannot_run_is_reported(
    tuneoff: Any, arguments: list[Any], tmp_path: Path
) -> None:
    """Its probe fails like its runs would; the other methods are still forecast."""
    rate = ["--learning-rate", "1e30", "--methods", "full,tfidf"]
    ended = tuneoff("forecast", *arguments, *rate, "--json", "--out", tmp_path / "study")
    assert ended.code == 1
    full, tfidf = json.loads(ended.out)["methods"]
    assert full["status"] == "diverged"
    assert full["total_seconds"] is None
    assert tfidf["status"] == "finished"


def test_sample_has_the_largest_steps_first(toy_task: Any, tmp_path: Path) -> None:
    from tuneoff.engine.data.batches import steps
    from tuneoff.engine.data.excerpt import TYPICAL, take_excerpt
    from tuneoff.engine.data.task import open_task

    task = toy_task("bert", rows=400)
    path = task.splits["train"].path.parent
    taken = take_excerpt(path, tmp_path / "excerpt", batch_size=8, epochs=2, seeds=[0, 1])
    found = open_task(tmp_path / "excerpt")
    train, whole = found.splits["train"], task.splits["train"]
    assert taken.extremes == 2
    assert taken.steps == TYPICAL + 2 == len(train) // 8
    assert taken.all_steps == -(-len(whole) // 8)
    sizes = []
    for seed in (0, 1):
        order = np.random.default_rng(seed)
        for _ in range(2):
            sizes += [whole.tokens.lengths[rows].sum() for rows in steps(whole, 8, order)]
    first, *others = (train.tokens.lengths[i : i + 8].sum() for i in range(0, len(train), 8))
    assert first == max(sizes)
    assert np.mean(others[1:]) == pytest.approx(np.mean(sizes), rel=0.1)
    texts, every = train.texts(), dict(zip(whole.rows.tolist(), whole.texts(), strict=True))
    assert texts == [every[row] for row in train.rows.tolist()]
    place = whole.rows.tolist().index(int(train.rows[5]))
    assert train.tokens[5].tolist() == whole.tokens[place].tolist()
    assert taken.all_tokens["train"] == whole.tokens.lengths.sum()


def test_sample_of_rows_keeps_label_fractions(toy_task: Any, tmp_path: Path) -> None:
    from tuneoff.engine.data.excerpt import take_excerpt
    from tuneoff.engine.data.task import open_task

    path = toy_task("bert", rows=400).splits["train"].path.parent
    take_excerpt(path, tmp_path / "excerpt", batch_size=8, epochs=2, seeds=[0], train_rows=60)
    labels = open_task(tmp_path / "excerpt").splits["train"].labels
    assert np.bincount(labels).tolist() == pytest.approx([20, 20, 20], abs=1)
