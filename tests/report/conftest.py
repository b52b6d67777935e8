"""A study as the engine writes it, with consistent numbers and hostile names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.config import DataSpec, MethodSpec, RunSpec, StudySpec, TrainSpec
from tuneoff.results.record import (
    ClassScores,
    Cost,
    DataInfo,
    MethodInfo,
    Parameters,
    Quality,
    Quantiles,
    RunRecord,
    Scores,
    SplitRecord,
    Status,
    TaskRecord,
)
from tuneoff.results.store import StudyFolder

OpenReport = Callable[..., Any]
Matrix = np.ndarray[Any, np.dtype[Any]]
BODY = 22_565_376
HOSTILE = "</script><script>alert('label')</script>"
HOSTILE_METHOD = "lora<img src=x onerror=alert(1)>&\u2028%{x}"

# name: (family, accuracy at 2 labels, at many, trainable body, seconds, bytes, storage, config)
METHODS: dict[str, tuple[str, float, float, int, float, float, float, dict[str, Any]]] = {
    "tfidf": ("classical", 0.87, 0.86, 0, 1.4, 1.8e8, 4.1e6, {"ngram_range": [1, 2]}),
    "baseline": ("baseline", 0.51, 0.012, 0, 0.0, 3.1e8, 0.0, {}),
    "head": ("selective", 0.83, 0.79, 0, 18.2, 2.4e8, 6.1e5, {}),
    "partial": ("selective", 0.885, 0.905, 3_548_928, 47.0, 5.2e8, 1.48e7, {"layers": 2}),
    "full": ("selective", 0.905, 0.928, BODY, 131.0, 8.12e8, 9.09e7, {}),
    "weighted": ("loss", 0.903, 0.926, BODY, 133.0, 8.13e8, 9.09e7, {}),
    "lora": ("low rank", 0.901, 0.921, 331_776, 96.0, 5.9e8, 1.9e6, {"rank": 8, "alpha": 16}),
    "qlora": ("quantised", 0.894, 0.915, 331_776, 188.0, 3.9e8, 1.9e6, {"rank": 8, "bits": 4}),
    "ia3": ("scaling", 0.88, 0.868, 13_824, 88.0, 5.6e8, 6.7e5, {"targets": ["key", "value"]}),
}


def labels_of(count: int) -> list[str]:
    if count == 2:
        return ["negative", "positive"]
    topics = ["card", "transfer", "top up", "exchange", "refund", "pin", "identity", "cash"]
    states = ["pending", "declined", "not_recognised", "fee_charged", "limits", "not_working"]
    names = [f"{topic.replace(' ', '_')}_{state}" for topic in topics for state in states]
    names += [f"{name}_or_where_is_it_now" for name in names]
    return sorted(names[:count])


def _scores(matrix: Matrix, labels: list[str], log_loss: float) -> Scores:
    hits = np.diag(matrix).astype(float)
    precision = hits / np.maximum(matrix.sum(0), 1)
    recall = hits / np.maximum(matrix.sum(1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    support = matrix.sum(1)
    accuracy = hits.sum() / matrix.sum()
    return Scores(
        {
            "accuracy": float(accuracy),
            "macro_f1": float(f1.mean()),
            "weighted_f1": float((f1 * support).sum() / support.sum()),
            "macro_precision": float(precision.mean()),
            "macro_recall": float(recall.mean()),
            "mcc": float(2 * accuracy - 1),
            "log_loss": log_loss,
            "ece": 0.03,
        },
        per_class={
            name: ClassScores(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(labels)
        },
        confusion_matrix=matrix.astype(int).tolist(),
    )


def _matrix(rng: np.random.Generator, support: list[int], accuracy: float) -> Matrix:
    n = len(support)
    near = np.exp(-np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / 1.5)
    np.fill_diagonal(near, 0)
    # some labels are harder than others for every method
    hard = 0.4 + 1.6 * ((np.arange(n) * 7919) % 13) / 12
    matrix = np.zeros((n, n))
    for i, rows in enumerate(support):
        wrong = min((1 - accuracy) * hard[i], 0.99)
        share = near[i] / near[i].sum() * wrong
        share[i] = 1 - wrong
        matrix[i] = rng.multinomial(rows, share)
    return matrix


def _history(rng: np.random.Generator, accuracy: float, labels: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    start, end = np.log(labels), -np.log(max(accuracy, 0.02)) + 0.05
    for step in range(10, 601, 10):
        epoch = step / 200
        loss = end * 0.6 + (start - end * 0.6) * np.exp(-2.1 * epoch) + rng.normal(0, 0.03)
        rows.append(
            {
                "kind": "train",
                "step": step,
                "epoch": epoch,
                "loss": float(max(loss, 0.01)),
                "learning_rate": 2e-4 * (1 - epoch / 3),
                "seconds": step * 0.1,
            }
        )
        if step % 200 == 0:
            rows.append(
                {
                    "kind": "validation",
                    "step": step,
                    "epoch": epoch,
                    "loss": float(end + (start - end) * np.exp(-2.1 * epoch) + 0.03 * epoch),
                    "accuracy": accuracy * (1 - 0.5 * np.exp(-1.6 * epoch)),
                    "macro_f1": accuracy * (1 - 0.6 * np.exp(-1.6 * epoch)),
                }
            )
    return rows


def _split(rng: np.random.Generator, labels: list[str], rows: int, max_length: int) -> SplitRecord:
    weights = 1 / (1 + np.arange(len(labels)) * (1.5 / len(labels)))
    counts = {
        name: max(int(rows * weight / weights.sum()), 3)
        for name, weight in zip(labels, weights, strict=True)
    }
    lengths = np.clip(rng.lognormal(2.6, 0.55, rows), 4, 140).astype(int)
    bins = [
        [start, int(((lengths >= start) & (lengths < start + 4)).sum())]
        for start in range(4, 144, 4)
    ]
    return SplitRecord(
        rows=sum(counts.values()),
        label_counts=counts,
        lengths=_quantiles(lengths),
        length_histogram=bins,
        cut_rows=int((lengths > max_length).sum()),
        cut_tokens_share=0.0123,
        duplicate_rows=3,
    )


def _quantiles(lengths: Matrix) -> Quantiles:
    q25, median, q75, q95, q99 = (
        float(q) for q in np.quantile(lengths, [0.25, 0.5, 0.75, 0.95, 0.99])
    )
    return Quantiles(
        int(lengths.min()), q25, median, q75, q95, q99, int(lengths.max()), float(lengths.mean())
    )


def _task(rng: np.random.Generator, labels: list[str]) -> TaskRecord:
    splits = {
        name: _split(rng, labels, rows, 64)
        for name, rows in (("train", 8000), ("validation", 900), ("test", 3000))
    }
    return TaskRecord(
        fingerprint="f" * 64,
        key="0123abcd",
        labels=labels,
        pair=False,
        max_length=64,
        splits=splits,
        shared_rows={"train/test": 4, "train/validation": 0},
        lengths_by_label={
            name: _quantiles(np.clip(rng.lognormal(2.5 + 0.3 * rng.random(), 0.5, 100), 4, 140))
            for name in labels
        },
        model="sentence-transformers/all-MiniLM-L6-v2",
        model_fingerprint="0" * 64,
        model_type="bert",
        warnings=["3 training rows have a text that stood there before."],
    )


def _record(
    rng: np.random.Generator, name: str, method: str, seed: int, task: TaskRecord, run_id: str
) -> RunRecord:
    family, few, many, body, seconds, memory, storage, config = METHODS[method]
    labels = task.labels
    test = list(task.splits["test"].label_counts.values())
    validation = list(task.splits["validation"].label_counts.values())
    accuracy = (few if len(labels) == 2 else many) + rng.normal(0, 0.004)
    head = 0 if family == "baseline" else 385 * len(labels) + 147_840
    total = 22_713_216 + 385 * len(labels)
    trainable = body + head
    classical = family == "classical"
    return RunRecord(
        run_id=run_id,
        status=Status.FINISHED,
        method=MethodInfo(name, method, family, config),
        seed=seed,
        model=task.model,
        metric="macro_f1",
        data=DataInfo(
            task.fingerprint,
            *(task.splits[s].rows for s in ("train", "validation", "test")),
            labels,
        ),
        train={} if family in ("classical", "baseline") else _train(method),
        parameters=Parameters(total, trainable, body, head, 100 * trainable / total),
        quality=Quality(
            _scores(_matrix(rng, validation, accuracy), labels, 0.4),
            _scores(_matrix(rng, test, accuracy), labels, 0.41),
        ),
        cost=Cost(
            train_seconds=seconds * (1 + rng.normal(0, 0.02)) or None,
            total_seconds=seconds + 6.4,
            samples_per_second=24_000 / seconds if seconds else None,
            tokens_per_second=24_000 * 16 / seconds if seconds else None,
            peak_memory_bytes=int(memory * (1 + rng.normal(0, 0.01))),
            storage_bytes=None if classical else int(storage),
        ),
        best_epoch=None if family in ("classical", "baseline") else 3,
        environment=ENVIRONMENT,
        deviations={"attention_dropout": "0 in place of 0.1"} if not classical else {},
        warnings=["The tokenizer cut 41 rows."] if not classical else [],
    )


ENVIRONMENT = {
    "machine": "x86_64, 2 cores",
    "memory_bytes": 8_223_563_776,
    "python": "3.11.9",
    "versions": {"torch": "2.13.0", "transformers": "5.3.0"},
}


def _train(method: str) -> dict[str, Any]:
    rates = {"full": 5e-5, "weighted": 5e-5, "partial": 1e-4, "head": 1e-3}
    return {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": rates.get(method, 5e-4),
        "weight_decay": 0.01,
        "warmup_ratio": 0.1,
        "precision": "bf16",
        "device": "cpu",
        "class_weights": "balanced" if method == "weighted" else "none",
    }


def _predictions(record: RunRecord) -> pd.DataFrame:
    """Return predictions with the run's confusion matrix and high confidence."""
    assert record.quality.test
    matrix, labels = np.array(record.quality.test.confusion_matrix), np.array(record.data.labels)
    truth, answer = (
        np.repeat(places.ravel(), matrix.ravel()) for places in np.indices(matrix.shape)
    )
    columns = {f"probability_{x}": (answer == i) * 1.0 for i, x in enumerate(labels)}
    kept = {"split": "test", "row": np.arange(len(truth)), "label": labels[truth]}
    return pd.DataFrame({**kept, "prediction": labels[answer], **columns, "weight": 1.0})


def make_study(
    path: Path,
    *,
    labels: int = 77,
    seeds: int = 3,
    hostile: bool = False,
    label_names: Sequence[str] = (),
    method_names: Sequence[str] = (),
    failures: bool = True,
    predictions: bool = False,
) -> StudyFolder:
    """Write a study of all methods; with `failures`, one seed of qlora and all of ia3 failed.

    `label_names` and `method_names` replace the first names.
    """
    rng = np.random.default_rng(7)
    names = labels_of(labels)
    entries = {name: name for name in METHODS}
    if hostile:
        names[0], names[1] = HOSTILE, "2020<!--"
        entries = {HOSTILE_METHOD if key == "lora" else key: key for key in entries}
    names[: len(label_names)] = label_names
    renamed = [*method_names, *list(entries)[len(method_names) :]]
    entries = dict(zip(renamed, entries.values(), strict=True))
    task = _task(rng, names)
    folder = StudyFolder(path)
    folder.write_spec(
        StudySpec(
            model=task.model,
            data=DataSpec(train="train.csv", test="test.csv"),
            methods=tuple(MethodSpec(method=m, name=n) for n, m in entries.items()),
            seeds=tuple(range(seeds)),
        )
    )
    folder.write_task(task)
    for name, method in entries.items():
        for seed in range(seeds):
            spec = RunSpec(
                name=name, method=method, config={}, model=task.model, train=TrainSpec(),
                seed=seed, metric="macro_f1", data_fingerprint=task.fingerprint,
                model_fingerprint=task.model_fingerprint,
            )  # fmt: skip
            run = folder.run(spec.run_id)
            run.write_spec(spec)
            record = _record(rng, name, method, seed, task, spec.run_id)
            if failures and (method == "ia3" or (method == "qlora" and seed == 2)):
                record = _failed(record, method)
            elif method not in ("tfidf", "baseline"):
                assert record.quality.test
                rows = _history(rng, record.quality.test.accuracy, labels)
                run.history_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            if predictions and record.status is Status.FINISHED:
                run.write_predictions(_predictions(record))
            run.write_record(record)
    return folder


def _failed(record: RunRecord, method: str) -> RunRecord:
    out_of_memory = method == "ia3"
    return RunRecord(
        run_id=record.run_id,
        status=Status.OUT_OF_MEMORY if out_of_memory else Status.FAILED,
        method=record.method,
        seed=record.seed,
        model=record.model,
        metric=record.metric,
        data=record.data,
        train=record.train,
        error="The process was killed at 7.9 GB <b>resident</b>."
        if out_of_memory
        else "bitsandbytes has no kernel for this processor\nTraceback …",
    )


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., StudyFolder]:
    def make(**settings: Any) -> StudyFolder:
        return make_study(tmp_path / "study", **settings)

    return make


ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the path")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_report(browser: Any) -> Iterator[OpenReport]:
    """`open_report(report, viewport=…)`: the page of a report after it is drawn.

    Until the test ends, it checks that no hostile string is executed, nothing is logged, and
    nothing but the report is requested. Other keywords are passed to the page.
    """
    reports: list[str] = []
    requests: list[str] = []
    said: list[str] = []

    def assert_silent() -> None:
        assert said == []
        assert requests == reports

    def draw(report: Path, **options: Any) -> Any:
        reports.append(report.as_uri())
        page = browser.new_page(**options)
        page.set_default_timeout(1_200_000)  # milliseconds
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached")
        assert page.evaluate("window.fired") is None  # hostile strings would set it
        assert_silent()
        return page

    yield draw
    assert_silent()
