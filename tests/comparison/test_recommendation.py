"""Recommendation of the cheapest competitive method, and its reasons."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rich.console import Console

from tuneoff.comparison.bootstrap import RunPredictions
from tuneoff.comparison.pairwise import compare_methods
from tuneoff.comparison.recommendation import recommend
from tuneoff.comparison.summary import summarize
from tuneoff.config import StudySpec
from tuneoff.display.study_table import render_table, to_frame
from tuneoff.results.record import Checks, LogitDifference, RunRecord

Study = Callable[..., StudySpec]
Record = Callable[..., RunRecord]
Answers = Callable[..., RunPredictions]


FULL = (0.9, {"train_seconds": 240.0})


def test_cheapest_of_equivalent_methods_is_recommended(judged: Any) -> None:
    found = judged({"full": FULL, "lora": (0.899, {"train_seconds": 90.0})})["recommendation"]
    assert (found["name"], found["best"]) == ("lora", "full")
    assert found["evidence"]["answer"] == "equivalent"
    assert found["evidence"]["first"] == "lora"
    assert found["sentences"][0] == (
        "Take lora: it is equivalent to full (within 1 point), at 37.5 % of its training time."
    )
    behind = found["bounds"]["lora"]["behind"]
    assert 0.001 < behind < 0.01
    assert found["sentences"][1] == (
        f"With 95 % confidence, it is at most {100 * behind:.1f} points of accuracy below the "
        "method that is truly best."
    )
    assert found["sentences"][2] == (
        "lora costs 1m 30s of training per seed, 812 MB of memory and 90.9 MB of storage."
    )
    assert (found["ruled_out"], found["action"]) == ([], None)
    assert found["runner_up"]["name"] == "full"
    assert found["runner_up"]["costs"]["train_seconds"] == 240
    assert found["costs"]["train_seconds"] == 90
    # the seed is chosen by the validation score
    assert found["run_id"] == "lora-s2-00000000"
    assert found["command"] == (
        "tuneoff predict 'studies/my study/runs/lora-s2-00000000' new.csv --out predictions.csv"
    )


def test_method_without_comparison_is_excluded_with_reason(
    judged: Any, record: Record, answers: Answers
) -> None:
    summary = judged({"full": FULL, "lora": (0.9, {"train_seconds": 90.0}), "head": (0.5, {})})
    best = summary["recommendation"]["best"]
    assert best == "full"
    records = [record(row["name"], 0, 0.9) for row in summary["methods"]]
    runs = {"full": [answers(0.9, 0)], "lora": [answers(0.9, 1)], "head": [answers(0.5, 2)]}
    other = {"full": "f", "lora": "g", "head": "f"}
    compared = compare_methods(runs, "accuracy", labels=2, data=other)
    assert {s["reason"] for s in compared.plain["skipped"]} == {"they were run on different data"}
    found = recommend(summary["methods"], compared, records)
    assert found is not None
    assert {"name": "lora", "reason": "could not be compared with full"} in found["excluded"]
    assert "lora" not in (found["name"], *found["not_worse"])


def test_cheaper_but_worse_method_is_not_recommended(judged: Any) -> None:
    found = judged({"full": FULL, "head": (0.8, {"train_seconds": 9.0})})["recommendation"]
    assert (found["name"], found["worse"]) == ("full", ["head"])
    assert found["sentences"][:2] == [
        "Take full: it has the highest accuracy, 0.901.",
        "With 95 % confidence, no other candidate is better.",
    ]
    assert found["sentences"][-1] == "Ruled out as the best: head."
    assert found["evidence"] is None
    assert found["runner_up"]["name"] == "head"
    assert found["runner_up"]["evidence"]["answer"] == "better"


def test_open_question_is_stated_with_an_action(judged: Any) -> None:
    methods = {"full": FULL, "head": (0.895, {"train_seconds": 9.0})}
    found = judged(methods, rows=200)["recommendation"]
    assert found["name"] == "head"
    assert found["evidence"]["answer"] == "not_resolved"
    first, *_, last = found["sentences"]
    assert first.startswith("Take head: no significant difference from full (−0.5 points of ")
    assert first.endswith("at 3.75 % of its training time.")
    assert found["action"]["kind"] == "none"
    assert last.startswith("No feasible number of seeds or test rows would resolve the difference")
    assert "seeds each and" in last


def test_lower_score_is_not_competitive_with_few_rows(judged: Any) -> None:
    methods = {
        "full": FULL,
        "lora": (0.87, {"train_seconds": 90.0}),
        "head": (0.865, {"train_seconds": 9.0}),
    }
    found = judged(methods, rows=200)["recommendation"]
    assert (found["name"], found["worse"]) == ("full", [])
    assert found["cheaper"]["name"] == "lora"
    first, sure, price, out, cheaper, action = found["sentences"]
    assert first == (
        "Take full: it has the highest accuracy, 0.901, but a cheaper method may be as good."
    )
    assert sure.startswith("With 95 % confidence, it is at most ")
    assert cheaper.startswith(
        "Cheaper: lora, at 37.5 % of the training time of full, scored lower, but the difference "
        "is not resolved (−3.0 points of accuracy, 95 % interval "
    )
    assert price.startswith("full costs 4m 00s of training per seed")
    assert out == "Ruled out as the best: head."
    assert found["action"]["kind"] == "rows"
    rows = found["action"]["rows"]
    assert f"about {float(f'{rows:.2g}'):,.0f} test rows (now 200)" in action
    assert action.endswith("more seeds alone would not help.")
    # with a margin of 4 points the cheaper method is competitive
    assert judged(methods, rows=200, margin=0.04)["recommendation"]["name"] == "lora"
    # with enough rows there is no open question
    assert judged(methods, rows=20_000)["recommendation"]["cheaper"] is None


def test_limits_exclude_methods(judged: Any) -> None:
    methods = {
        "full": (0.95, {"peak_memory_bytes": 3_000_000_000}),
        "lora": (0.9, {"peak_memory_bytes": 900_000_000, "storage_bytes": 2_000_000}),
        "head": (0.8, {"peak_memory_bytes": 300_000_000, "storage_bytes": 600_000}),
        "tfidf": (0.9, {"peak_memory_bytes": 100_000_000, "storage_bytes": None}),
    }
    limits = {"peak_memory_bytes": 2e9, "storage_bytes": 10e6}
    found = judged(methods, limits=limits)["recommendation"]
    assert (found["name"], found["best"]) == ("lora", "lora")
    assert {e["name"]: e["reason"] for e in found["excluded"]} == {
        "full": "has a peak memory of 3.00 GB, above the limit of 2.00 GB and "
        "has a storage size of 90.9 MB, above the limit of 10.0 MB",
        "tfidf": "has no measured storage size (limit 10.0 MB)",
    }
    nothing = judged(methods, limits={"train_seconds": 1.0})["recommendation"]
    assert nothing["name"] is nothing["command"] is None
    said = nothing["sentences"][0]
    assert said.startswith("No method can be recommended: full has a training time of 1m 42s")


def test_latency_limit_excludes_slower_and_unknown(judged: Any) -> None:
    methods = {
        "full": (0.9, {"latency_seconds": 0.031}),
        "lora": (0.9, {"latency_seconds": 0.012}),
        "head": (0.9, {}),  # a record of an earlier version
    }
    summary = judged(methods, limits={"latency_seconds": 0.02})
    found = summary["recommendation"]
    assert found["name"] == "lora"
    assert {e["name"]: e["reason"] for e in found["excluded"]} == {
        "full": "has a latency per text of 31.0 ms, above the limit of 20.0 ms",
        "head": "has no measured latency per text (limit 20.0 ms)",
    }
    assert "Excluded: full has a latency per text of 31.0 ms" in " ".join(rendered(summary).split())


def test_batch_dependent_predictions_exclude_a_method(
    judged: Any, record: Record, answers: Answers
) -> None:
    summary = judged({"full": FULL, "lora": (0.9, {"train_seconds": 90.0})})
    assert summary["recommendation"]["name"] == "lora"
    records = [record(name, seed, 0.9) for name in ("full", "lora") for seed in (0, 1)]
    checks = Checks([], [], alone=LogitDifference(4, 2.5, 0.25))
    records[-1] = replace(records[-1], checks=checks)
    runs = {"full": [answers(0.9, 0)], "lora": [answers(0.9, 1)]}
    compared = compare_methods(runs, "accuracy", labels=2)
    found = recommend(summary["methods"], compared, records)
    assert found is not None
    assert found["name"] == "full"
    reason = "has predictions that depend on the other rows of the batch"
    assert found["excluded"] == [{"name": "lora", "reason": reason}]


def test_min_recall_excludes_a_method(judged: Any) -> None:
    methods = {"full": FULL, "head": (0.8, {"train_seconds": 9.0})}
    found = judged(methods, min_recall={"yes": 0.85})["recommendation"]
    # the recall of a made record is its score: 0.8, 0.8005 and 0.801 of head
    assert [e["reason"] for e in found["excluded"]] == [
        "has a recall of 0.800 for 'yes', below the minimum of 0.85"
    ]
    assert found["name"] == "full"
    assert found["limits"] == {"min_recall": {"yes": 0.85}}
    assert judged(methods, min_recall={"yes": 0.8})["recommendation"]["excluded"] == []
    unknown = judged(methods, min_recall={"maybe": 0.1})["recommendation"]
    assert unknown["name"] is None
    assert "full has no measured recall for 'maybe'" in unknown["sentences"][0]


def test_cost_order_is_time_memory_storage(judged: Any) -> None:
    def of(**costs: tuple[float, float, float]) -> str:
        methods = {
            name: (0.9, {"train_seconds": s, "peak_memory_bytes": m, "storage_bytes": d})
            for name, (s, m, d) in costs.items()
        }
        return str(judged(methods, rows=5000)["recommendation"]["name"])

    assert of(full=(100, 9e8, 9e7), lora=(50, 9e9, 9e8)) == "lora"
    assert of(full=(100, 9e8, 9e7), lora=(95, 9e9, 9e6)) == "full"  # as fast, with less memory
    assert of(full=(100, 9e8, 9e7), lora=(105, 9.1e8, 2e6)) == "lora"  # equal except for storage


def test_method_at_chance_is_not_recommended(judged: Any) -> None:
    methods = {"baseline": (0.51, {"train_seconds": None}), "full": (0.52, {}), "head": (0.6, {})}
    found = judged(methods, rows=50)["recommendation"]
    assert found["name"] == "head"
    assert [e["name"] for e in found["excluded"]] == ["baseline", "full"]
    # a pretrained model with a head that already knows the labels
    good = {"baseline": (0.9, {"train_seconds": None}), "full": (0.901, {})}
    assert judged(good)["recommendation"]["name"] == "baseline"


def test_single_method_has_no_recommendation(judged: Any) -> None:
    summary = judged({"full": FULL})
    assert summary["pairwise"] is summary["recommendation"] is None


def test_one_seed_has_the_scope_models(judged: Any) -> None:
    found = judged({"full": FULL, "lora": (0.899, {"train_seconds": 90.0})}, seeds=1)
    assert {pair["scope"] for pair in found["pairwise"]["pairs"]} == {"models"}
    sure = found["recommendation"]["sentences"][1]
    assert sure.startswith("With 95 % confidence for these models (one seed), ")
    text = rendered(found)
    assert "One seed: the variance between seeds is unknown" in text


def rendered(summary: dict[str, Any]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80, color_system=None).print(render_table(summary))
    return stream.getvalue()


def test_terminal_begins_with_the_recommendation(judged: Any) -> None:
    long = "lora-with-rank-16-on-query-key-value-and-the-feed-forward-layers"
    methods = {"full": FULL, long: (0.9, {"train_seconds": 90.0}), "head": (0.7, {})}
    summary = judged(methods)
    text = rendered(summary)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Take lora")
    assert f"Take {long}" in " ".join(text.split())
    assert "Ruled out as the best: head." in " ".join(text.split())


def test_short_frame_compares_each_method_with_the_best(judged: Any) -> None:
    methods = {"full": FULL, "lora": (0.899, {"latency_seconds": 0.01}), "head": (0.8, {})}
    frame = to_frame(judged(methods), full=False)
    assert list(frame.columns) == [
        *("method", "accuracy", "accuracy_std", "accuracy_low", "accuracy_high", "macro_f1"),
        *("trainable_parameters", "train_seconds", "peak_memory_bytes", "storage_bytes"),
        *("latency_seconds", "compared_with_best"),
    ]
    assert frame["compared_with_best"].to_dict() == {
        "full": "best",
        "lora": "equivalent",
        "head": "worse",
    }
    assert frame.loc["lora", "latency_seconds"] == 0.01
    assert frame["latency_seconds"].isna().sum() == 2


def test_summary_is_json(judged: Any) -> None:
    summary = judged({"full": FULL, "lora": (0.899, {}), "head": (0.8, {})}, seeds=2)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_run_without_predictions_is_named(study: Study, record: Record, answers: Answers) -> None:
    records = [record(name, seed, 0.9) for name in ("full", "lora") for seed in range(2)]
    kept = {r.run_id: answers(0.9, place) for place, r in enumerate(records[:3])}
    found = summarize(study("full", "lora", seeds=2), None, records, kept)["pairwise"]
    assert found["without_predictions"] == ["lora-s1-00000000"]
    assert found["pairs"][0]["runs"] == [2, 1]
    assert found["pairs"][0]["scope"] == "models"
