from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.error_analysis import collect
from tuneoff.error_analysis.confidence import confidence, softened, temperature
from tuneoff.results.scores import scores

LABELS = ["a", "b", "c"]


def calibrated(rows: int, seed: int, sharper: float = 1.0) -> pd.DataFrame:
    """Draw labels from probabilities, and then multiply the logits by `sharper`."""
    rng = np.random.default_rng(seed)
    true_chance = rng.dirichlet([0.7, 0.7, 0.7], rows)
    label = [LABELS[rng.choice(3, p=p)] for p in true_chance]
    shown = softened(true_chance, 1 / sharper)
    frame = pd.DataFrame(
        {
            "split": np.where(np.arange(rows) < rows // 3, "validation", "test"),
            "row": range(rows),
            "label": label,
            "prediction": [LABELS[i] for i in shown.argmax(1)],
        }
    )
    return frame.assign(**{f"probability_{x}": shown[:, i] for i, x in enumerate(LABELS)})


@pytest.mark.parametrize("sharper", [2.0, 0.5])
def test_temperature_scaling_reverses_scaled_logits(sharper: float) -> None:
    found = confidence(collect({"full": [calibrated(6000, 1, sharper)]}, LABELS))["full"]
    assert found.scaling
    assert found.scaling.temperature == pytest.approx(sharper, rel=0.1)
    assert found.scaling.ece < found.ece / 3
    assert found.scaling.log_loss < found.log_loss


def test_calibrated_probabilities_are_unchanged() -> None:
    found = confidence(collect({"full": [calibrated(6000, 2)]}, LABELS))["full"]
    assert found.scaling
    assert found.scaling.temperature == pytest.approx(1, rel=0.08)
    assert found.ece < 0.03
    for b in found.bins:
        if b.rows > 100:
            assert b.accuracy == pytest.approx(b.confidence, abs=0.12)


def test_figures_equal_the_record() -> None:
    table = calibrated(3000, 3, 1.7)
    test = table[table["split"] == "test"]
    true = np.array([LABELS.index(x) for x in test["label"]])
    probabilities = test[[f"probability_{x}" for x in LABELS]].to_numpy()
    record = scores(true, probabilities.argmax(1), probabilities, np.ones(len(true)), LABELS)
    found = confidence(collect({"full": [table]}, LABELS))["full"]
    assert found.ece == pytest.approx(record.ece)
    assert found.log_loss == pytest.approx(record.log_loss)
    gaps = sum(b.rows * abs(b.accuracy - b.confidence) for b in found.bins)
    assert gaps / len(test) == pytest.approx(record.ece)


def test_margins_are_computed_for_errors_only() -> None:
    table = calibrated(3000, 4)
    test = table[(table["split"] == "test") & (table["label"] != table["prediction"])]
    expected = [row[f"probability_{row['prediction']}"] - row[f"probability_{row['label']}"]
                for _, row in test.iterrows()]  # fmt: skip
    found = confidence(collect({"full": [table]}, LABELS))["full"].margins
    assert found
    assert found.errors == len(test)
    assert found.median == pytest.approx(np.median(expected))
    assert found.q05 >= 0


def test_no_temperature_without_validation_rows() -> None:
    table = calibrated(600, 5).assign(split="test")
    assert confidence(collect({"full": [table]}, LABELS))["full"].scaling is None


def test_no_calibration_without_probabilities(toy: Any) -> None:
    table = calibrated(60, 6)[["split", "row", "label", "prediction"]]
    assert confidence(collect({"full": [table]}, LABELS)) == {}


def test_certain_predictions_can_be_scaled() -> None:
    """Probabilities of exactly 0 and 1 have no finite logits."""
    sure = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]] * 20)
    true = np.array([0, 1, 1] * 20)
    found = temperature(true, sure)
    assert 1 < found <= 20
    assert np.isfinite(softened(sure, found)).all()


def test_temperature_without_improvement() -> None:
    from tuneoff.error_analysis import analyze
    from tuneoff.report.error_analysis import findings

    table = calibrated(3000, 1, 2.0)
    told = findings(analyze(collect({"full": [table]}, LABELS)))[-1]
    assert "full is overconfident" in told
    # the model is overconfident on validation rows and underconfident on test rows
    other = calibrated(3000, 1, 0.5)
    mixed = table.where(table["split"] == "validation", other)
    told = findings(analyze(collect({"full": [mixed]}, LABELS)))[-1]
    assert "Temperature scaling does not improve the probabilities" in told
    assert "confident:" not in told
