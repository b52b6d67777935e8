"""Scores of all and of resampled rows, compared with scikit-learn."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tuneoff.comparison.bootstrap import PairedPredictions, RunPredictions
from tuneoff.comparison.pairwise import pairwise
from tuneoff.comparison.statistics import method_means
from tuneoff.results.metrics import QUALITY_METRICS

LABELS = ["a", "b", "c", "never"]


def table(seed: int, rows: int = 60, *, split: str = "test") -> pd.DataFrame:
    """About two of three rows are correct; label `never` is sometimes predicted, never true."""
    random = np.random.default_rng(seed)
    truth = np.random.default_rng(0).integers(0, 3, rows)
    scores = random.dirichlet(np.ones(4), rows)
    scores[np.arange(rows), truth] += 0.5
    scores /= scores.sum(1, keepdims=True)
    names = np.array(LABELS, dtype=object)
    return pd.DataFrame(
        {
            "split": split,
            "row": np.arange(rows) + 100,
            "label": names[truth],
            "prediction": names[scores.argmax(1)],
            **{f"probability_{x}": scores[:, i].astype(np.float32) for i, x in enumerate(LABELS)},
            "weight": np.linspace(0.5, 2, rows).astype(np.float32),
        }
    )


def sklearn_scores(frame: pd.DataFrame, times: np.ndarray) -> dict[str, float]:
    """Return each metric on rows repeated `times`, by scikit-learn or by its definition."""
    from sklearn import metrics

    frame = frame.loc[frame.index.repeat(times)]
    truth, answer, weights = frame["label"], frame["prediction"], frame["weight"].to_numpy(float)
    there = sorted(truth.unique())  # labels without rows are excluded
    macro = metrics.precision_recall_fscore_support(
        truth, answer, labels=there, sample_weight=weights, average="macro", zero_division=0
    )
    weighted = metrics.f1_score(
        truth, answer, labels=LABELS, sample_weight=weights, average="weighted", zero_division=0
    )
    probabilities = frame[[f"probability_{x}" for x in LABELS]].to_numpy(float)
    exact = probabilities / probabilities.sum(1, keepdims=True)  # float32 sums are only close to 1
    confidence, right = probabilities.max(1), (truth == answer).to_numpy(float)
    bins = np.digitize(confidence, np.arange(1, 15) / 15)
    gaps = [weights[bins == b] @ (right - confidence)[bins == b] for b in range(15)]
    return {
        "accuracy": metrics.accuracy_score(truth, answer, sample_weight=weights),
        "macro_f1": macro[2],
        "weighted_f1": weighted,
        "macro_precision": macro[0],
        "macro_recall": macro[1],
        "mcc": metrics.matthews_corrcoef(truth, answer, sample_weight=weights),
        "log_loss": metrics.log_loss(truth, exact, labels=LABELS, sample_weight=weights),
        "ece": np.abs(gaps).sum() / weights.sum(),
    }


def test_every_metric_equals_scikit_learn() -> None:
    frames = [table(1), table(2)]
    panel = PairedPredictions.of(
        [RunPredictions.from_table(f, LABELS) for f in frames], len(LABELS)
    )
    found = panel.scores(list(QUALITY_METRICS))
    assert set(found) == set(QUALITY_METRICS)
    for place, frame in enumerate(frames):
        expected = sklearn_scores(frame, np.ones(len(frame), int))
        for key, value in expected.items():
            assert found[key][place] == pytest.approx(value, abs=1e-6), key


def test_draw_is_the_score_of_rows_common_to_all_runs() -> None:
    frames = [table(1), table(2)]
    panel = PairedPredictions.of(
        [RunPredictions.from_table(f, LABELS) for f in frames], len(LABELS)
    )
    draws = panel.bootstrap(list(QUALITY_METRICS), 7)
    times = np.concatenate(list(panel._draws(7)), axis=1).astype(int)
    assert times.shape == (60, 7)
    assert (times.sum(0) == 60).all()
    for place, frame in enumerate(frames):
        for draw in (0, 6):
            for key, value in sklearn_scores(frame, times[:, draw]).items():
                assert draws[key][draw, place] == pytest.approx(value, abs=1e-6), key


def test_draws_depend_on_the_test_set_only() -> None:
    runs = [RunPredictions.from_table(table(seed), LABELS) for seed in (1, 2, 3)]
    alone = PairedPredictions.of(runs[:1], 4).bootstrap(["accuracy"], 50)["accuracy"]
    among = PairedPredictions.of(runs, 4).bootstrap(["accuracy"], 50)["accuracy"]
    np.testing.assert_array_equal(alone[:, 0], among[:, 0])


def test_draws_in_blocks_are_equivalent(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = PairedPredictions.of([RunPredictions.from_table(table(1), LABELS)], 4)
    monkeypatch.setattr(sys.modules[PairedPredictions.__module__], "BLOCK", 60 * 8)
    drawn = np.concatenate(list(panel._draws(20)), axis=1)
    assert drawn.shape == (60, 20)
    assert (drawn.sum(0) == 60).all()
    assert drawn.std(1).min() > 0.3  # no row is special


def test_bootstrap_variance_is_that_of_a_proportion() -> None:
    panel = PairedPredictions.of(
        [RunPredictions.from_table(table(1, 400).assign(weight=1), LABELS)], 4
    )
    accuracy = panel.scores(["accuracy"])["accuracy"][0]
    draws = panel.bootstrap(["accuracy"], 4000)["accuracy"]
    assert draws.std() == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / 400), rel=0.05)


def test_runs_are_compared_on_common_rows() -> None:
    first = RunPredictions.from_table(table(1), LABELS)
    second = RunPredictions.from_table(table(2).iloc[20:].sample(frac=1, random_state=0), LABELS)
    panel = PairedPredictions.of([first, second], 4)
    assert panel.predictions.shape == (2, 40)
    expected = (table(1)["label"] == table(1)["prediction"]).to_numpy()[20:]
    np.testing.assert_array_equal(panel.correct[0], expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.assign(row=f["row"] + 1000), "no test row in common"),
        (lambda f: f.assign(label=f["label"].iloc[::-1].to_numpy()), "different true labels"),
        (lambda f: f.assign(weight=1.0), "different weights"),
    ],
)
def test_runs_with_different_test_rows_are_not_compared(change: object, said: str) -> None:
    assert callable(change)
    runs = [RunPredictions.from_table(f, LABELS) for f in (table(1), change(table(2)))]
    with pytest.raises(ValueError, match=said):
        PairedPredictions.of(runs, 4)


def test_invalid_tables_are_rejected() -> None:
    twice = pd.concat([table(1), table(1).head(1)])
    with pytest.raises(ValueError, match="twice"):
        RunPredictions.from_table(twice, LABELS)
    with pytest.raises(ValueError, match="'c' is not in"):
        RunPredictions.from_table(table(1), ["a", "b", "never"])


def test_only_test_rows_are_used_and_probabilities_are_optional() -> None:
    both = pd.concat([table(1, split="validation"), table(2)])
    run = RunPredictions.from_table(both[["split", "row", "label", "prediction"]], LABELS)
    assert len(run.rows) == 60
    assert run.weights.tolist() == [1.0] * 60
    panel = PairedPredictions.of([run], 4)
    assert panel.metrics(["log_loss", "accuracy", "ece"]) == ["accuracy"]


def test_rows_of_a_group_are_drawn_together() -> None:
    rng = np.random.default_rng(4)
    single = rng.integers(0, 2, (2, 60))
    labels = rng.integers(0, 2, 60)
    panel = PairedPredictions(labels, np.ones(60), single, 2)
    # every row five times as one group: the copies add no information
    often = np.repeat(np.arange(60), 5)
    grouped = PairedPredictions(labels[often], np.ones(300), single[:, often], 2, groups=often)
    alone = PairedPredictions(labels[often], np.ones(300), single[:, often], 2)
    spread = {
        name: float(np.var(np.subtract(*found.bootstrap(["accuracy"], 4000)["accuracy"].T)))
        for name, found in {"rows": panel, "groups": grouped, "alone": alone}.items()
    }
    assert spread["groups"] == pytest.approx(spread["rows"], rel=0.12)
    assert spread["alone"] == pytest.approx(spread["rows"] / 5, rel=0.12)
    assert (panel.clusters, grouped.clusters) == (60, 60)
    for weights in grouped._draws(50):
        assert (weights.reshape(60, 5, -1) == weights.reshape(60, 5, -1)[:, :1]).all()
        assert (weights[::5].sum(0) == 60).all()


def test_few_groups_give_wider_intervals() -> None:
    draws = np.random.default_rng(0).normal(0, 0.01, (20_000, 2))
    labels, points = np.zeros(1000, np.int64), np.array([0.4, 0.3])
    rows = PairedPredictions(labels, np.ones(1000), np.zeros((2, 1000), np.int64), 2)
    groups = replace(rows, groups=np.arange(1000) // 200)
    for panel, quantile in ((rows, 1.962), (groups, 2.776)):  # Student's t
        found = method_means(panel, "log_loss", points, draws, [[0], [1]]).difference(0, 1)
        assert found.half_width == pytest.approx(quantile * 0.01 * np.sqrt(2), rel=0.03)


def test_too_few_groups_are_not_compared() -> None:
    grouped = {row: f"g{row % 7}" for row in range(1000)}
    runs = {str(seed): [RunPredictions.from_table(table(seed), LABELS, grouped)] for seed in (1, 2)}
    found = pairwise(runs, "accuracy", labels=4)
    assert found["pairs"] == []
    assert found["skipped"][0]["reason"] == "their test rows are in 7 groups; a comparison needs 10"


def test_groups_are_assigned_by_row_number() -> None:
    table = pd.DataFrame(
        {"split": "test", "row": [4, 2, 9, 7], "label": "a", "prediction": "a", "weight": 1.0}
    )
    found = RunPredictions.from_table(table, ["a"], {2: "x", 4: "", 7: "", 9: "x"})
    assert found.rows.tolist() == [2, 4, 7, 9]
    assert found.groups is not None
    first, second, third, fourth = found.groups.tolist()
    assert first == fourth
    assert len({first, second, third}) == 3  # a row without a group is its own group
    one_each = RunPredictions.from_table(table, ["a"], {2: "x", 4: "y", 7: "z", 9: ""})
    assert one_each.groups is None
    taken = PairedPredictions.of([found.take(np.array([4, 7, 9]))], 1)
    assert taken.clusters == 3
