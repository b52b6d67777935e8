"""Findings of the audit that are not published mistakes, and the display of findings."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tuneoff.audit import KINDS
from tuneoff.comparison.summary import summarize
from tuneoff.display.study_table import render_table
from tuneoff.report import build_report
from tuneoff.results.record import (
    Checks,
    Cost,
    LogitDifference,
    Quality,
    RunRecord,
    Status,
    TaskRecord,
)

WORDS = ("cat", "dog", "bird", "horse", "bread", "milk", "soup", "rain", "snow", "wind")
LABELS = ("maybe", "no", "yes")


def singles(count: int, start: int = 0, *, words: int = 5) -> list[dict[str, str]]:
    texts = [f"{number:0{words}d}" for number in range(start, start + count)]
    return [
        {"text": " ".join(WORDS[int(digit)] for digit in text), "label": LABELS[i % 3]}
        for i, text in enumerate(texts)
    ]


def history(*scores: float) -> list[dict[str, Any]]:
    return [{"epoch": float(i), "macro_f1": score} for i, score in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("scores", "reported"),
    [
        ((0.70, 0.80, 0.87), True),  # more than the standard error for 100 rows, 3.4 points
        ((0.70, 0.80, 0.83), False),  # less than the standard error
        ((0.70, 0.80, 0.805), False),
        ((0.88, 0.80, 0.87), False),  # an earlier epoch was better
        ((0.60,), False),
    ],
)
def test_under_trained(make_study: Any, scores: tuple[float, ...], reported: bool) -> None:
    best = max(range(len(scores)), key=lambda i: scores[i]) + 1
    study = make_study(
        history=history(*scores), edit=lambda record: replace(record, best_epoch=best)
    )
    found = study.found()
    assert list(found) == (["under-trained"] if reported else [])
    if reported:
        assert found["under-trained"].severity == "warning"
        assert "full, lora and head still rose" in found["under-trained"].what
        assert "7.0 points" in found["under-trained"].what


@pytest.mark.parametrize(("max_length", "reported"), [(8, True), (14, False)])
def test_truncation(make_study: Any, max_length: int, reported: bool) -> None:
    # 10 words and 2 special tokens: truncation at 8 loses a third
    study = make_study(singles(300, words=10), singles(200, 1000, words=10), singles(100, 2000),
                 max_length=max_length)  # fmt: skip
    found = study.found()
    assert list(found) == (["truncation"] if reported else [])
    if reported:
        what = "removes 33.3 % of the train tokens (300 of 300 rows) and 33.3 % of the test tokens"
        assert what in found["truncation"].what
        assert "at most 12 tokens" in found["truncation"].hint
        assert found["truncation"].concerned == ["train split", "test split"]


def test_untested_labels(make_study: Any) -> None:
    rare = [{"text": "cat bird cat bird", "label": "rare"}, {"text": "snow cat", "label": "rare"}]
    study = make_study([*singles(300), *rare], singles(200, 1000), singles(100, 2000))
    found = study.found()
    assert found["untested-labels"].severity == "warning"
    assert (
        found["untested-labels"].what == "No test row has the label 'rare' (2 rows in all splits)."
    )
    assert "untested-labels" not in make_study().found()


def on(key: str, value: Any, method: str) -> Callable[[RunRecord], RunRecord]:
    """Return an edit that changes `key` in one method's environment."""

    def edit(record: RunRecord) -> RunRecord:
        if record.method.name != method:
            return record
        return replace(record, environment={**record.environment, key: value})

    return edit


@pytest.mark.parametrize(
    ("key", "value", "severity"),
    [
        ("processor", "another", "error"),
        ("device", "H200", "error"),
        ("preload", "libjemalloc.so.2", "error"),
        ("torch", "2.10", "warning"),
    ],
)
def test_different_machines(make_study: Any, key: str, value: Any, severity: str) -> None:
    (finding,) = make_study(edit=on(key, value, "lora")).audit()
    assert (finding.code, finding.severity) == ("different-machines", severity)
    assert value in finding.what
    assert {run.partition("-")[0] for run in finding.concerned} == {"lora"}


GPU = {"device": "NVIDIA A100", "gpu_memory_bytes": 42 * 10**9, "driver": "570.1", "cuda": "13.0"}
"""Environment of a run on a GPU."""


@pytest.mark.parametrize(
    ("other", "severity", "said"),
    [
        ({"device": "NVIDIA T4"}, "error", "device NVIDIA A100 or NVIDIA T4"),
        ({"gpu_memory_bytes": 84 * 10**9}, "error", "gpu memory 42.0 GB or 84.0 GB"),
        ({"driver": "535.2"}, "warning", "driver 570.1 or 535.2"),
        ({"cuda": "12.8"}, "warning", "cuda 13.0 or 12.8"),
    ],
)
def test_mixed_cards(make_study: Any, other: dict[str, Any], severity: str, said: str) -> None:
    def edit(record: RunRecord) -> RunRecord:
        gpu = GPU | (other if record.method.name == "lora" else {})
        return replace(record, environment={**record.environment, **gpu})

    (finding,) = make_study(edit=edit).audit()
    assert (finding.code, finding.severity) == ("different-machines", severity)
    assert said in finding.what
    assert ("CUDA_VISIBLE_DEVICES" in finding.hint) == (severity == "error")


@pytest.mark.parametrize(
    ("about", "what"),
    [
        ({**GPU, "concurrent_runs": 2}, "Up to 2 simultaneous runs shared one GPU (lora)."),
        ({**GPU, "concurrent_runs": 1}, None),
        ({"threads": 2, "concurrent_runs": 1}, None),
        (
            {"threads": 2, "concurrent_runs": 3},
            "Up to 3 simultaneous runs used more threads in total than the machine has CPU cores"
            " (lora).",
        ),
    ],
)
def test_runs_that_shared_a_device(
    make_study: Any, about: dict[str, Any], what: str | None
) -> None:
    """The machine has two cores; the other methods used their device alone."""

    def edit(record: RunRecord) -> RunRecord:
        more = about if record.method.name == "lora" else GPU if "device" in about else {}
        return replace(record, environment={**record.environment, **more})

    found = make_study(edit=edit).found()
    assert (found["shared-device"].what if found else None) == what
    assert list(found) == (["shared-device"] if what else [])


def test_one_run_per_core_is_not_a_shared_device(make_study: Any) -> None:
    def edit(record: RunRecord) -> RunRecord:
        one = {"threads": 1, "concurrent_runs": 2}
        return replace(record, environment={**record.environment, **one})

    assert make_study(edit=edit).audit() == []


def test_tfidf_on_cpu_does_not_share_the_gpu(make_study: Any) -> None:
    def gpu(record: RunRecord) -> RunRecord:
        device = "cpu" if record.method.name == "tfidf" else "H200"
        return replace(record, environment={**record.environment, "device": device})

    assert make_study(methods=["full", "head", "tfidf"], edit=gpu).audit() == []


def test_small_test_set(make_study: Any) -> None:
    close = {"full": 0.90, "lora": 0.90, "head": 0.88}
    (finding,) = make_study(accuracy=close).audit()
    assert finding.code == "small-test-set"
    # the accuracies are 0.905 and 0.885 over the seeds: sqrt(0.905 x 0.095 / 200) = 0.0207
    assert "With 200 test rows, the standard error of an accuracy is 2.1 points" in finding.what
    assert "differ by at most 2.0 points" in finding.what
    # 4 x 0.905 x 0.095 / 0.02^2 = 860
    assert "about 860 for" in finding.hint
    apart = make_study(accuracy={**close, "head": 0.84}).audit()
    assert apart == []


def disguised(text: str) -> str:
    """Replace characters by equivalent ones: full-width capitals, a no-break space."""
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text.upper())
    return f" {wide.replace(' ', chr(0xA0))}  "


def test_overlap_after_normalisation_and_scores_without_it(make_study: Any) -> None:
    train, test = singles(300), singles(200, 1000)
    # every 3rd of the first 60 test rows is a training row
    copies = list(range(0, 60, 3))
    for row in copies:
        test[row]["text"] = disguised(train[row]["text"])
    study = make_study(train, test)
    assert study.task.shared_rows["train/test"] == 0  # the bytes are different
    (finding,) = study.audit()
    assert (finding.code, finding.severity) == ("train-test-overlap", "error")
    assert finding.concerned == [f"test row {row}" for row in copies]
    assert "20 of 200 test rows (10.0 %)" in finding.what
    for scores in finding.scores:
        accuracy, left = _expected_scores(study, scores["name"], set(copies))
        assert scores["accuracy"] == pytest.approx(accuracy)
        assert scores["accuracy_left"] == pytest.approx(left)
        assert (scores["rows"], scores["rows_left"]) == (200, 180)
    most = max(finding.scores, key=lambda s: abs(s["accuracy"] - s["accuracy_left"]))
    assert f"the accuracy of {most['name']} is {most['accuracy_left']:.3f}" in finding.what


def _expected_scores(study: Any, name: str, without: set[int]) -> tuple[float, float]:
    """Return the mean accuracy on all test rows, and on those that do not overlap."""
    whole, left = [], []
    for record in study.records:
        if record.method.name == name:
            table = study.folder.run(record.run_id).predictions().query("split == 'test'")
            right = [a == b for a, b in zip(table["label"], table["prediction"], strict=True)]
            kept = [r for r, row in zip(right, table["row"], strict=True) if row not in without]
            whole.append(sum(right) / len(right))
            left.append(sum(kept) / len(kept))
    return sum(whole) / len(whole), sum(left) / len(left)


def test_macro_f1_without_overlapping_rows(make_study: Any) -> None:
    from sklearn.metrics import f1_score

    train, test = singles(300), singles(200, 1000)
    test[:40] = [dict(row) for row in train[:40]]
    study = make_study(train, test, methods=["full"], seeds=1)
    (finding,) = study.audit()
    table = study.folder.run(study.records[0].run_id).predictions().query("split == 'test'")
    rest = table[table["row"] >= 40]
    expected = f1_score(rest["label"], rest["prediction"], average="macro")
    assert finding.scores[0]["macro_f1_left"] == pytest.approx(expected)


def test_no_score_if_all_test_rows_overlap(make_study: Any) -> None:
    (finding,) = make_study(test=singles(200), methods=["full"], seeds=2).audit()
    (scores,) = finding.scores
    assert (scores["rows_left"], scores["accuracy_left"], scores["macro_f1_left"]) == (
        0,
        None,
        None,
    )
    assert "without them" not in finding.what


def test_overlap_is_an_error_from_one_percent(make_study: Any) -> None:
    for copies, severity in ((1, "warning"), (2, "error")):
        test = [*singles(200 - copies, 1000), *singles(copies)]
        (finding,) = make_study(test=test).audit()
        assert (finding.code, finding.severity) == ("train-test-overlap", severity)


def test_overlap_is_found_from_the_task_alone(make_study: Any) -> None:
    study = make_study(test=[*singles(190, 1000), *singles(10)])
    (study.folder.data / study.task.key / "rows.parquet").unlink()
    (finding,) = study.audit()
    assert finding.code == "train-test-overlap"
    assert (finding.concerned, finding.scores) == ([], [])


def test_pairs_overlap_if_both_texts_are_equal(make_study: Any) -> None:
    def pairs(count: int, start: int, second: int) -> list[dict[str, str]]:
        return [
            {"text": row["text"], "text_pair": other["text"], "label": row["label"]}
            for row, other in zip(singles(count, start), singles(count, second), strict=True)
        ]

    validation = pairs(100, 20_000, 30_000)
    same = make_study(pairs(300, 0, 5000), pairs(200, 0, 5000), validation).found()
    assert list(same) == ["train-test-overlap"]
    crossed = make_study(pairs(300, 0, 5000), pairs(200, 0, 7000), validation).found()
    assert list(crossed) == ["premise-on-both-sides"]


def test_group_in_training_and_test_file(make_study: Any) -> None:
    def grouped(count: int, start: int, group: Callable[[int], str]) -> list[dict[str, str]]:
        return [{**row, "film": group(i)} for i, row in enumerate(singles(count, start))]

    train = grouped(300, 0, lambda i: f"film {i // 10}")
    validation = grouped(100, 2000, lambda i: f"other {i // 10}")
    test = grouped(200, 1000, lambda i: f"film {25 + i // 10}")  # films 25 to 29 are training rows
    (finding,) = make_study(train, test, validation, data={"group": "film"}).audit()
    assert (finding.code, finding.severity) == ("group-on-both-sides", "error")
    assert "50 test rows and 0 validation rows" in finding.what
    assert finding.concerned_count == 50
    assert finding.concerned[0] == "test row 0"
    assert len(finding.concerned) == 20
    clean = grouped(200, 1000, lambda i: f"new {i // 10}")
    assert make_study(train, clean, validation, data={"group": "film"}).audit() == []


def test_rows_without_weight_are_not_scored(make_study: Any) -> None:
    def short(record: RunRecord) -> RunRecord:
        test = record.quality.test
        if record.method.name != "head" or test is None:
            return record
        matrix = [row.copy() for row in test.confusion_matrix]
        matrix[0][0] -= 8
        test = replace(test, confusion_matrix=matrix)
        return replace(record, quality=replace(record.quality, test=test))

    (finding,) = make_study(edit=short).audit()
    assert finding.code == "rows-missing"
    assert "head scored only 192 of 200 test rows" in finding.what
    assert len(finding.concerned) == 3


def test_rows_outside_the_label_set(make_study: Any) -> None:
    study = make_study()
    test = study.task.splits["test"]
    lost = replace(test, label_counts={**test.label_counts, "no": test.label_counts["no"] - 5})
    task: TaskRecord = replace(study.task, splits={**study.task.splits, "test": lost})
    (finding,) = replace(study, task=task).audit()
    assert finding.code == "rows-missing"
    assert "5 test rows have a label outside the label set" in finding.what


def test_runs_with_different_data(make_study: Any) -> None:
    def edit(record: RunRecord) -> RunRecord:
        older = record.method.name == "lora" and record.seed == 0
        data = replace(record.data, fingerprint="0" * 64) if older else record.data
        return replace(record, data=data)

    (finding,) = make_study(edit=edit).audit()
    assert finding.code == "different-data"
    assert "1 of 9 runs" in finding.what
    assert [run.rpartition("-")[0] for run in finding.concerned] == ["lora-s0"]


def everything(record: RunRecord) -> RunRecord:
    """A study with many problems."""
    p = record.parameters
    assert p
    other = record.method.name == "lora"
    return replace(
        record,
        train={**record.train, "padding": "max_length", "epochs": 3 + 2 * other},
        environment={**record.environment, "processor": "two" if other else "one"},
        parameters=replace(p, trainable_head=0),
    )


@pytest.fixture
def miscounted(make_study: Any) -> Any:
    test = singles(200, 1000)
    return make_study(test=test, validation=test, seeds=1, settings={"learning_rate": 2e-5},
                accuracy={"head": 1 / 3, "lora": 0.94}, edit=everything,
                history=history(0.5, 0.6, 0.9))  # fmt: skip


def test_errors_come_first_and_each_code_once(miscounted: Any) -> None:
    found = miscounted.audit()
    severities = [finding.severity for finding in found]
    assert severities == sorted(severities)  # "error" before "warning"
    assert set(severities) == {"error", "warning"}
    codes = [finding.code for finding in found]
    assert len(codes) == len(set(codes)) > 6
    assert set(codes) <= {kind.code for kind in KINDS}
    assert found == miscounted.audit()


def rendered(summary: dict[str, Any], width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(render_table(summary))
    return stream.getvalue().splitlines()


def test_terminal_lists_six_findings_and_counts_the_others(miscounted: Any) -> None:
    found = miscounted.audit()
    summary = summarize(miscounted.study, miscounted.task, miscounted.records)
    assert not any("Audit" in line for line in rendered(summary))
    summary["audit"] = [finding.to_plain() for finding in found]
    lines = rendered(summary)
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    errors = sum(finding.severity == "error" for finding in found)
    assert f"Audit: {errors} errors and {len(found) - errors} warning" in text
    for finding in found[:6]:
        assert f"{finding.code}: {finding.what}" in text
        assert f"Hint: {finding.hint}" in text
    assert f"and {len(found) - 6} more in the report" in text
    assert found[6].code not in text


def test_study_without_findings_is_one_line(make_study: Any) -> None:
    study = make_study(seeds=2)
    build_report(study.folder)
    summary = study.folder.summary()
    assert summary["audit"] == []
    assert rendered(summary)[-1] == "Audit: no problem found"
    page = study.folder.report_file.read_text(encoding="utf-8")
    assert "No problem was found in this study" in page


def failing(*names: str) -> Callable[[RunRecord], RunRecord]:
    """Return an edit after which the runs of these methods have failed."""

    def edit(record: RunRecord) -> RunRecord:
        if record.method.name not in names:
            return record
        return replace(record, status=Status.FAILED, error="broken", quality=Quality(), cost=Cost())

    return edit


def test_audit_without_results(make_study: Any) -> None:
    study = make_study(methods=["full", "lora"], edit=failing("full", "lora"))
    (finding,) = study.audit()
    assert (finding.code, finding.severity) == ("unfinished-runs", "error")
    assert finding.what.startswith("None of the 6 runs finished (full and lora)")
    page = build_report(study.folder).read_text(encoding="utf-8")
    assert "the audit had no result to check" in page
    assert "No problem was found in this study" not in page
    lines = " ".join(rendered(study.folder.summary()))
    assert "no problem found" not in lines
    assert "Audit: 1 error" in lines


def test_runs_without_predictions_are_a_warning(make_study: Any) -> None:
    (finding,) = make_study(edit=failing("lora")).audit()
    assert (finding.code, finding.severity) == ("unfinished-runs", "warning")
    assert finding.what == "3 of 9 runs did not finish (lora). The audit covers only the others."
    assert all(run_id.startswith("lora-s") for run_id in finding.concerned)


def test_study_without_records_is_not_clean(make_study: Any) -> None:
    study = make_study()
    (finding,) = replace(study, records=[]).audit()
    assert finding.what.startswith("No run has a record")


def test_summary_and_report_have_every_finding(miscounted: Any) -> None:
    page = build_report(miscounted.folder).read_text(encoding="utf-8")
    plain = json.loads(miscounted.folder.summary_file.read_text())["audit"]
    assert plain == [finding.to_plain() for finding in miscounted.audit()]
    section = page[page.index('<section id="audit">') : page.index('<section id="settings">')]
    for finding in plain:
        assert f"<code>{finding['code']}</code>" in section
        assert finding["title"] in section
    assert section.count("<article") == len(plain)
    assert 'href="#audit"' in page
    assert miscounted.records[0].run_id in section


def test_report_shows_scores_with_and_without_overlap(make_study: Any) -> None:
    study = make_study(test=[*singles(150, 1000), *singles(50)], methods=["full", "head"])
    page = build_report(study.folder).read_text(encoding="utf-8")
    (finding,) = study.audit()
    section = page[page.index('<section id="audit">') : page.index('<section id="settings">')]
    for scores in finding.scores:
        assert f"<td>{scores['accuracy']:.3f}</td><td>{scores['accuracy_left']:.3f}</td>" in section
    assert "Runs or rows concerned: 50" in section
    assert "and 30 more" in section


def test_failed_check_is_an_error(make_study: Any) -> None:
    def broken(record: RunRecord) -> RunRecord:
        held = Checks(unchanged=[], changed=[], reopened=LogitDifference(64, 0.01, 0.25))
        differs = replace(held, reopened=LogitDifference(64, 0.27, 0.25))
        odd = record.method.name == "lora" and record.seed == 1
        return replace(record, checks=differs if odd else held)

    (finding,) = make_study(edit=broken).audit()
    assert (finding.code, finding.severity) == ("broken-contract", "error")
    assert finding.what.startswith("1 of 9 runs failed a check of their model (lora). lora-s1-")
    assert "the reopened model gives different logits: by 0.27" in finding.what
    assert len(finding.concerned) == 1


def test_findings_do_not_quote_texts(make_study: Any) -> None:
    secret = [{"text": f"{row['text']} marzipan", "label": row["label"]} for row in singles(300)]
    study = make_study(secret, secret[:200], secret[:100])
    build_report(study.folder)
    assert {"test-picks-checkpoint", "train-test-overlap"} <= study.found().keys()
    # The error analysis shows words and optionally rows; the audit shows neither.
    assert "marzipan" not in json.dumps(study.folder.summary()["audit"])
    page = study.folder.report_file.read_text(encoding="utf-8")
    audited = page[page.index('<section id="audit">') : page.index('<section id="settings">')]
    assert "marzipan" not in audited


def test_labels_are_escaped_in_report_and_terminal(make_study: Any) -> None:
    def marked(table: list[dict[str, str]]) -> list[dict[str, str]]:
        for i, row in enumerate(table):
            row["label"] = ("<b>[red]x", "<B>[red]x", "no")[i % 3]
        return table

    study = make_study(marked(singles(300)), marked(singles(200, 1000)), marked(singles(100, 2000)))
    page = build_report(study.folder).read_text(encoding="utf-8")
    section = page[page.index('<section id="audit">') : page.index('<section id="settings">')]
    assert "&lt;b&gt;[red]x" in section
    assert "<b>[red]" not in section
    assert "'<b>[red]x' (" in "".join(rendered(study.folder.summary()))


def test_every_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    explained = [line[4:].strip("`") for line in text.splitlines() if line.startswith("### `")]
    assert sorted(explained) == sorted(kind.code for kind in KINDS)
    assert set(explained[:10]) == {kind.code for kind in KINDS if kind.published}
