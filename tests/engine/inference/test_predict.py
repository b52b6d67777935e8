"""Predictions of a trained model have the same probabilities as in its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.engine.inference import Predictor
from tuneoff.exceptions import BadInput
from tuneoff.results.store import RunFolder

COLUMNS = [f"probability_{x}" for x in ("animals", "food", "weather")]


@pytest.mark.parametrize("name", ["tfidf", "full", "lora"])
def test_predictions_equal_those_of_the_run(finished_study: Any, name: str) -> None:
    folder = RunFolder(next((finished_study.path / "runs").glob(f"{name}-*")))
    texts = pd.read_csv(finished_study.test)["text"].tolist()
    kept = folder.predictions().query("split == 'test'")
    done: list[tuple[int, int]] = []
    found = Predictor(folder).predict(texts, progress=lambda *now: done.append(now))
    assert list(found.columns) == ["prediction", *COLUMNS]
    np.testing.assert_allclose(found[COLUMNS].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[COLUMNS], kept[COLUMNS], atol=1e-6)
    assert found["prediction"].tolist() == kept["prediction"].tolist()
    best = found[COLUMNS].to_numpy().argmax(1)
    assert [COLUMNS[i].removeprefix("probability_") for i in best] == found["prediction"].tolist()
    if name != "tfidf":
        assert done[-1] == (30, 30)


@pytest.mark.parametrize("name", ["tfidf", "full"])
def test_no_texts_give_no_rows(finished_study: Any, name: str) -> None:
    folder = RunFolder(next((finished_study.path / "runs").glob(f"{name}-*")))
    found = Predictor(folder).predict([])
    assert found.empty
    assert list(found.columns) == ["prediction", *COLUMNS]


@pytest.mark.parametrize("method", ["tfidf", "full"])
def test_pairs(run_toy: Any, toy_task: Any, method: str) -> None:
    run = run_toy(method, "bert", task=toy_task("bert", pairs=True), max_length=32)
    predictor = Predictor(run.folder)
    found = predictor.predict(["the cat", "the cat"], ["", "bread and milk"])
    assert len(found) == 2
    assert not np.allclose(found[COLUMNS].iloc[0], found[COLUMNS].iloc[1])
    with pytest.raises(BadInput, match=r"number of texts \(2\) differs"):
        predictor.predict(["a", "b"], ["c"])


def test_run_without_a_model_cannot_predict(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no model to predict with"):
        Predictor(RunFolder(tmp_path))
