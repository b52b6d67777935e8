"""The summaries of small studies have exactly the keys of their types."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.error_analysis.ambiguity import MethodAmbiguity
from tuneoff.error_analysis.confidence import Margins
from tuneoff.error_analysis.labels import LabelErrors
from tuneoff.error_analysis.overlap import Overlap
from tuneoff.error_analysis.slices import Slice
from tuneoff.error_analysis.words import MethodWords, WordAcross
from tuneoff.external_predictions import read_runs
from tuneoff.report import report_predictions
from tuneoff.results.summary import Summary


def mismatches(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Yield the places at which plain JSON values differ from their type."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind is typing.NotRequired:
        return
    if origin in (typing.Union, types.UnionType):
        if not any(not list(mismatches(value, arg, where)) for arg in args):
            found = [list(mismatches(value, a, where)) for a in args if a is not type(None)]
            yield from found[0] if len(found) == 1 else [f"{where}: {value!r} is no {kind}"]
    elif origin is typing.Literal:
        if value not in args:
            yield f"{where}: {value!r} is none of {args}"
    elif typing.is_typeddict(kind):
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no object"
            return
        hints = typing.get_type_hints(kind)
        for key in kind.__required_keys__ - value.keys():
            yield f"{where}.{key} is missing"
        for key in value.keys() - hints.keys():
            yield f"{where}.{key} is unknown"
        for key in value.keys() & hints.keys():
            yield from mismatches(value[key], hints[key], f"{where}.{key}")
    elif dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        derived = {name for name, part in vars(kind).items() if isinstance(part, property)}
        for key in hints.keys() - value.keys():
            yield f"{where}.{key} is missing"
        for key in value.keys() - hints.keys() - derived:
            yield f"{where}.{key} is unknown"
        for key in value.keys() & hints.keys():
            yield from mismatches(value[key], hints[key], f"{where}.{key}")
    elif origin is list:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for place, item in enumerate(value):
            yield from mismatches(item, args[0], f"{where}[{place}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no object"
            return
        for key, item in value.items():
            yield from mismatches(item, args[1], f"{where}[{key!r}]")
    else:
        allowed = (int, float) if kind is float else kind
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            yield f"{where}: {value!r} is no {kind.__name__}"


@pytest.mark.parametrize("seeds", ["3", "2:3"])
def test_comparison_has_the_keys_of_its_types(judged: Any, seeds: str) -> None:
    settings = {"more_seeds": (3, 4)} if seeds == "2:3" else {"limits": {"train_seconds": 5.0}}
    methods = {
        "full": (0.9, {"train_seconds": 9.0, "latency_seconds": 0.01}),
        "lora": (0.895, {"train_seconds": 3.0}),
        "ia3": (0.7, {"train_seconds": 2.0}),
        "baseline": (0.5, {}),
    }
    summary = json.loads(json.dumps(judged(methods, **settings)))
    assert list(mismatches(summary, Summary, "summary")) == []
    assert summary["recommendation"]["by_goal"]
    assert (summary["seeds"] is None) == (seeds == "3")


def test_a_mismatch_is_found(judged: Any) -> None:
    summary = json.loads(json.dumps(judged({"full": (0.9, {}), "lora": (0.8, {})})))
    del summary["methods"][1]["quality"]["mcc"]["std"]
    summary["pairwise"]["pairs"][0]["mcnemar"]["q"] = 0.5
    summary["recommendation"]["action"] = {"kind": "wait", "seeds": 1, "rows": None, "of": []}
    assert set(mismatches(summary, Summary, "summary")) == {
        "summary.methods[1].quality['mcc'].std is missing",
        "summary.pairwise.pairs[0].mcnemar.q is unknown",
        "summary.recommendation.action.kind: 'wait' is none of ('seeds', 'rows', 'both', 'none')",
    }


def test_summary_with_error_analysis_has_the_keys_of_its_types(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, labels = 200, np.array(["a", "b"])
    true = rng.integers(0, 2, rows)
    texts = [f"word{i % 9} {'odd' if i % 7 == 0 else 'even'} text {i}" for i in range(rows)]
    sources = []
    for name, wrong in {"soft": 0.1, "softer": 0.2, "hard": 0.3}.items():
        predicted = true ^ (rng.random(rows) < wrong)
        table = pd.DataFrame({"id": range(rows), "text": texts, "label": labels[true]})
        table["prediction"] = labels[predicted]
        if name != "hard":
            table["probability_a"] = np.where(predicted == 0, 0.8, 0.2)
            table["probability_b"] = 1 - table["probability_a"]
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        sources.append((name, tmp_path / f"{name}.csv"))
    truth, runs = read_runs(sources, metric="macro_f1")
    annotations = {run: ["a", "a", "b"] for run in truth.rows["row"][::3]}
    report = report_predictions(tmp_path / "out", truth, runs, annotations=annotations)
    summary = json.loads(report.with_name("summary.json").read_text(encoding="utf-8"))
    assert list(mismatches(summary, Summary, "summary")) == []
    errors = summary["errors"]
    parts = {
        "labels": (errors["labels"], dict[str, list[LabelErrors]]),
        "words": (errors["words"]["methods"], dict[str, MethodWords]),
        "across": (errors["words"]["across"], list[WordAcross]),
        "slices": (errors["slices"]["methods"], dict[str, list[Slice]]),
        "overlap": (errors["overlap"], Overlap),
        "margins": (errors["calibration"]["soft"]["margins"], Margins),
        "ambiguity": (errors["ambiguity"], dict[str, MethodAmbiguity]),
    }
    for name, (value, kind) in parts.items():
        assert list(mismatches(value, kind, name)) == []
    assert set(errors) == {*parts, "rows", "calibration", "label_suspects"} - {"across", "margins"}
    assert set(errors["words"]) == {"tested", "methods", "across"}
    assert set(errors["slices"]) == {"tested", "methods"}
    assert set(errors["calibration"]["soft"]) == {"log_loss", "ece", "margins", "scaling"}
    assert errors["words"]["methods"]["soft"]["frequent"]
    assert errors["slices"]["methods"]["soft"]
    assert errors["calibration"]["soft"]["margins"]
    assert errors["ambiguity"]["hard"]["levels"]
