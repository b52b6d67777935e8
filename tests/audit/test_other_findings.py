"""What the audit finds beside the ten, and how findings are shown."""

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
    ("scores", "told"),
    [
        ((0.70, 0.80, 0.87), True),  # beyond the standard error of 100 rows, 3.4 points
        ((0.70, 0.80, 0.83), False),  # within it
        ((0.70, 0.80, 0.805), False),
        ((0.88, 0.80, 0.87), False),  # an earlier epoch was better
        ((0.60,), False),
    ],
)
def test_under_trained(made: Any, scores: tuple[float, ...], told: bool) -> None:
    best = max(range(len(scores)), key=lambda i: scores[i]) + 1
    study = made(history=history(*scores), edit=lambda record: replace(record, best_epoch=best))
    found = study.found()
    assert list(found) == (["under-trained"] if told else [])
    if told:
        assert found["under-trained"].severity == "warning"
        assert "full, lora and head still rose" in found["under-trained"].what
        assert "7.0 points" in found["under-trained"].what


@pytest.mark.parametrize(("max_length", "told"), [(8, True), (14, False)])
def test_truncation(made: Any, max_length: int, told: bool) -> None:
    # 10 words and 2 special tokens: cutting at 8 loses a third
    study = made(singles(300, words=10), singles(200, 1000, words=10), singles(100, 2000),
                 max_length=max_length)  # fmt: skip
    found = study.found()
    assert list(found) == (["truncation"] if told else [])
    if told:
        what = "removes 33.3 % of the train tokens (300 of 300 rows) and 33.3 % of the test tokens"
        assert what in found["truncation"].what
        assert "at most 12 tokens" in found["truncation"].hint
        assert found["truncation"].concerned == ["train split", "test split"]


def test_untested_labels(made: Any) -> None:
    rare = [{"text": "cat bird cat bird", "label": "rare"}, {"text": "snow cat", "label": "rare"}]
    study = made([*singles(300), *rare], singles(200, 1000), singles(100, 2000))
    found = study.found()
    assert found["untested-labels"].severity == "warning"
    assert (
        found["untested-labels"].what == "No test row has the label 'rare' (2 rows in all splits)."
    )
    assert "untested-labels" not in made().found()


def on(key: str, value: Any, method: str) -> Callable[[RunRecord], RunRecord]:
    """An edit that changes what one method's environment says under `key`."""

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
def test_different_machines(made: Any, key: str, value: Any, severity: str) -> None:
    (finding,) = made(edit=on(key, value, "lora")).audit()
    assert (finding.code, finding.severity) == ("different-machines", severity)
    assert value in finding.what
    assert {run.partition("-")[0] for run in finding.concerned} == {"lora"}


GPU = {"device": "NVIDIA A100", "gpu_memory_bytes": 42 * 10**9, "driver": "570.1", "cuda": "13.0"}
"""What an environment says of a GPU."""


@pytest.mark.parametrize(
    ("other", "severity", "said"),
    [
        ({"device": "NVIDIA T4"}, "error", "device NVIDIA A100 or NVIDIA T4"),
        ({"gpu_memory_bytes": 84 * 10**9}, "error", "gpu memory 42.0 GB or 84.0 GB"),
        ({"driver": "535.2"}, "warning", "driver 570.1 or 535.2"),
        ({"cuda": "12.8"}, "warning", "cuda 13.0 or 12.8"),
    ],
)
def test_mixed_cards(made: Any, other: dict[str, Any], severity: str, said: str) -> None:
    def edit(record: RunRecord) -> RunRecord:
        gpu = GPU | (other if record.method.name == "lora" else {})
        return replace(record, environment={**record.environment, **gpu})

    (finding,) = made(edit=edit).audit()
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
def test_runs_that_shared_a_device(made: Any, about: dict[str, Any], what: str | None) -> None:
    """`made` says that the machine has two cores; other methods had their device to themselves."""

    def edit(record: RunRecord) -> RunRecord:
        more = about if record.method.name == "lora" else GPU if "device" in about else {}
        return replace(record, environment={**record.environment, **more})

    found = made(edit=edit).found()
    assert (found["shared-device"].what if found else None) == what
    assert list(found) == (["shared-device"] if what else [])


def test_a_run_on_each_core_shares_nothing(made: Any) -> None:
    def edit(record: RunRecord) -> RunRecord:
        one = {"threads": 1, "concurrent_runs": 2}
        return replace(record, environment={**record.environment, **one})

    assert made(edit=edit).audit() == []


def test_tfidf_stays_on_the_processor_beside_a_gpu(made: Any) -> None:
    def gpu(record: RunRecord) -> RunRecord:
        device = "cpu" if record.method.name == "tfidf" else "H200"
        return replace(record, environment={**record.environment, "device": device})

    assert made(methods=["full", "head", "tfidf"], edit=gpu).audit() == []


def test_small_test_set(made: Any) -> None:
    close = {"full": 0.90, "lora": 0.90, "head": 0.88}
    (finding,) = made(accuracy=close).audit()
    assert finding.code == "small-test-set"
    # the accuracies are 0.905 and 0.885 over the seeds: sqrt(0.905 x 0.095 / 200) = 0.0207
    assert "With 200 test rows, the standard error of an accuracy is 2.1 points" in finding.what
    assert "differ by at most 2.0 points" in finding.what
    # 4 x 0.905 x 0.095 / 0.02^2 = 860
    assert "about 860 for" in finding.hint
    apart = made(accuracy={**close, "head": 0.84}).audit()
    assert apart == []


def disguised(text: str) -> str:
    """The same to the eye: full-width capitals, a no-break space."""
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text.upper())
    return f" {wide.replace(' ', chr(0xA0))}  "


def test_overlap_after_folding_and_the_scores_without(made: Any) -> None:
    train, test = singles(300), singles(200, 1000)
    # every 3rd of the first 60 test rows is a training row
    copies = list(range(0, 60, 3))
    for row in copies:
        test[row]["text"] = disguised(train[row]["text"])
    study = made(train, test)
    assert study.task.shared_rows["train/test"] == 0  # to the byte, they are different
    (finding,) = study.audit()
    assert (finding.code, finding.severity) == ("train-test-overlap", "error")
    assert finding.concerned == [f"test row {row}" for row in copies]
    assert "20 of 200 test rows (10.0 %)" in finding.what
    for scores in finding.scores:
        accuracy, left = _by_hand(study, scores["name"], set(copies))
        assert scores["accuracy"] == pytest.approx(accuracy)
        assert scores["accuracy_left"] == pytest.approx(left)
        assert (scores["rows"], scores["rows_left"]) == (200, 180)
    most = max(finding.scores, key=lambda s: abs(s["accuracy"] - s["accuracy_left"]))
    assert f"the accuracy of {most['name']} is {most['accuracy_left']:.3f}" in finding.what


def _by_hand(study: Any, name: str, without: set[int]) -> tuple[float, float]:
    """Accuracy over the seeds on all test rows, and on those that are left."""
    whole, left = [], []
    for record in study.records:
        if record.method.name == name:
            table = study.folder.run(record.run_id).predictions().query("split == 'test'")
            right = [a == b for a, b in zip(table["label"], table["prediction"], strict=True)]
            kept = [r for r, row in zip(right, table["row"], strict=True) if row not in without]
            whole.append(sum(right) / len(right))
            left.append(sum(kept) / len(kept))
    return sum(whole) / len(whole), sum(left) / len(left)


def test_macro_f1_without_the_rows_is_that_of_the_rest(made: Any) -> None:
    from sklearn.metrics import f1_score

    train, test = singles(300), singles(200, 1000)
    test[:40] = [dict(row) for row in train[:40]]
    study = made(train, test, methods=["full"], seeds=1)
    (finding,) = study.audit()
    table = study.folder.run(study.records[0].run_id).predictions().query("split == 'test'")
    rest = table[table["row"] >= 40]
    expected = f1_score(rest["label"], rest["prediction"], average="macro")
    assert finding.scores[0]["macro_f1_left"] == pytest.approx(expected)


def test_a_test_set_that_was_trained_on_throughout_leaves_nothing_to_score(made: Any) -> None:
    (finding,) = made(test=singles(200), methods=["full"], seeds=2).audit()
    (scores,) = finding.scores
    assert (scores["rows_left"], scores["accuracy_left"], scores["macro_f1_left"]) == (
        0,
        None,
        None,
    )
    assert "without them" not in finding.what


def test_one_row_in_a_hundred_is_a_fault_and_fewer_a_warning(made: Any) -> None:
    for copies, severity in ((1, "warning"), (2, "error")):
        test = [*singles(200 - copies, 1000), *singles(copies)]
        (finding,) = made(test=test).audit()
        assert (finding.code, finding.severity) == ("train-test-overlap", severity)


def test_overlap_is_known_from_the_task_alone(made: Any) -> None:
    study = made(test=[*singles(190, 1000), *singles(10)])
    (study.folder.data / study.task.key / "rows.parquet").unlink()
    (finding,) = study.audit()
    assert finding.code == "train-test-overlap"
    assert (finding.concerned, finding.scores) == ([], [])


def test_pairs_overlap_only_as_pairs(made: Any) -> None:
    def pairs(count: int, start: int, second: int) -> list[dict[str, str]]:
        return [
            {"text": row["text"], "text_pair": other["text"], "label": row["label"]}
            for row, other in zip(singles(count, start), singles(count, second), strict=True)
        ]

    validation = pairs(100, 20_000, 30_000)
    same = made(pairs(300, 0, 5000), pairs(200, 0, 5000), validation).found()
    assert list(same) == ["train-test-overlap"]
    crossed = made(pairs(300, 0, 5000), pairs(200, 0, 7000), validation).found()
    assert list(crossed) == ["premise-on-both-sides"]


def test_a_group_on_both_sides_of_given_files(made: Any) -> None:
    def grouped(count: int, start: int, group: Callable[[int], str]) -> list[dict[str, str]]:
        return [{**row, "film": group(i)} for i, row in enumerate(singles(count, start))]

    train = grouped(300, 0, lambda i: f"film {i // 10}")
    validation = grouped(100, 2000, lambda i: f"other {i // 10}")
    test = grouped(200, 1000, lambda i: f"film {25 + i // 10}")  # films 25 to 29 are trained on
    (finding,) = made(train, test, validation, data={"group": "film"}).audit()
    assert (finding.code, finding.severity) == ("group-on-both-sides", "error")
    assert "50 test rows and 0 validation rows" in finding.what
    assert finding.concerned_count == 50
    assert finding.concerned[0] == "test row 0"
    assert len(finding.concerned) == 20
    clean = grouped(200, 1000, lambda i: f"new {i // 10}")
    assert made(train, clean, validation, data={"group": "film"}).audit() == []


def test_rows_that_no_score_counts(made: Any) -> None:
    def short(record: RunRecord) -> RunRecord:
        test = record.quality.test
        if record.method.name != "head" or test is None:
            return record
        matrix = [row.copy() for row in test.confusion_matrix]
        matrix[0][0] -= 8
        test = replace(test, confusion_matrix=matrix)
        return replace(record, quality=replace(record.quality, test=test))

    (finding,) = made(edit=short).audit()
    assert finding.code == "rows-missing"
    assert "head scored only 192 of 200 test rows" in finding.what
    assert len(finding.concerned) == 3


def test_rows_outside_the_label_set(made: Any) -> None:
    study = made()
    test = study.task.splits["test"]
    lost = replace(test, label_counts={**test.label_counts, "no": test.label_counts["no"] - 5})
    task: TaskRecord = replace(study.task, splits={**study.task.splits, "test": lost})
    (finding,) = replace(study, task=task).audit()
    assert finding.code == "rows-missing"
    assert "5 test rows have a label outside the label set" in finding.what


def test_runs_of_different_data(made: Any) -> None:
    def edit(record: RunRecord) -> RunRecord:
        older = record.method.name == "lora" and record.seed == 0
        data = replace(record.data, fingerprint="0" * 64) if older else record.data
        return replace(record, data=data)

    (finding,) = made(edit=edit).audit()
    assert finding.code == "different-data"
    assert "1 of 9 runs" in finding.what
    assert [run.rpartition("-")[0] for run in finding.concerned] == ["lora-s0"]


# -- how findings are shown -----------------------------------------------------------------------


def everything(record: RunRecord) -> RunRecord:
    """Wrong in many ways at once."""
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
def miscounted(made: Any) -> Any:
    test = singles(200, 1000)
    return made(test=test, validation=test, seeds=1, settings={"learning_rate": 2e-5},
                accuracy={"head": 1 / 3, "lora": 0.94}, edit=everything,
                history=history(0.5, 0.6, 0.9))  # fmt: skip


def test_faults_come_first_each_code_once(miscounted: Any) -> None:
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


def test_the_terminal_names_six_and_counts_the_rest(miscounted: Any) -> None:
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


def test_a_clean_study_says_so_in_one_line(made: Any) -> None:
    study = made(seeds=2)
    build_report(study.folder)
    summary = study.folder.summary()
    assert summary["audit"] == []
    assert rendered(summary)[-1] == "Audit: no problem found"
    page = study.folder.report_file.read_text(encoding="utf-8")
    assert "No problem was found in this study" in page


def failing(*names: str) -> Callable[[RunRecord], RunRecord]:
    """An edit after which the runs of these methods have no result."""

    def edit(record: RunRecord) -> RunRecord:
        if record.method.name not in names:
            return record
        return replace(record, status=Status.FAILED, error="broken", quality=Quality(), cost=Cost())

    return edit


def test_an_audit_of_nothing_says_so(made: Any) -> None:
    study = made(methods=["full", "lora"], edit=failing("full", "lora"))
    (finding,) = study.audit()
    assert (finding.code, finding.severity) == ("unfinished-runs", "error")
    assert finding.what.startswith("None of the 6 runs finished (full and lora)")
    page = build_report(study.folder).read_text(encoding="utf-8")
    assert "the audit had no result to check" in page
    assert "No problem was found in this study" not in page
    lines = " ".join(rendered(study.folder.summary()))
    assert "no problem found" not in lines
    assert "Audit: 1 error" in lines


def test_runs_that_the_audit_could_not_see_are_a_warning(made: Any) -> None:
    (finding,) = made(edit=failing("lora")).audit()
    assert (finding.code, finding.severity) == ("unfinished-runs", "warning")
    assert finding.what == "3 of 9 runs did not finish (lora). The audit covers only the others."
    assert all(run_id.startswith("lora-s") for run_id in finding.concerned)


def test_a_study_without_any_record_is_no_clean_study(made: Any) -> None:
    study = made()
    (finding,) = replace(study, records=[]).audit()
    assert finding.what.startswith("No run has a record")


def test_the_summary_and_the_report_hold_every_finding(miscounted: Any) -> None:
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


def test_the_report_shows_scores_with_and_without_the_overlap(made: Any) -> None:
    study = made(test=[*singles(150, 1000), *singles(50)], methods=["full", "head"])
    page = build_report(study.folder).read_text(encoding="utf-8")
    (finding,) = study.audit()
    section = page[page.index('<section id="audit">') : page.index('<section id="settings">')]
    for scores in finding.scores:
        assert f"<td>{scores['accuracy']:.3f}</td><td>{scores['accuracy_left']:.3f}</td>" in section
    assert "Runs or rows concerned: 50" in section
    assert "and 30 more" in section


def test_a_broken_contract_is_a_fault(made: Any) -> None:
    def broken(record: RunRecord) -> RunRecord:
        held = Checks(unchanged=[], changed=[], reopened=LogitDifference(64, 0.01, 0.25))
        differs = replace(held, reopened=LogitDifference(64, 0.27, 0.25))
        odd = record.method.name == "lora" and record.seed == 1
        return replace(record, checks=differs if odd else held)

    (finding,) = made(edit=broken).audit()
    assert (finding.code, finding.severity) == ("broken-contract", "error")
    assert finding.what.startswith("1 of 9 runs failed a check of their model (lora). lora-s1-")
    assert "the reopened model gives different logits: by 0.27" in finding.what
    assert len(finding.concerned) == 1


def test_no_text_of_the_data_is_quoted(made: Any) -> None:
    secret = [{"text": f"{row['text']} marzipan", "label": row["label"]} for row in singles(300)]
    study = made(secret, secret[:200], secret[:100])
    build_report(study.folder)
    assert {"test-picks-checkpoint", "train-test-overlap"} <= study.found().keys()
    # The error analysis shows words, and on demand rows; the audit shows neither.
    assert "marzipan" not in json.dumps(study.folder.summary()["audit"])
    page = study.folder.report_file.read_text(encoding="utf-8")
    audited = page[page.index('<section id="audit">') : page.index('<section id="settings">')]
    assert "marzipan" not in audited


def test_labels_are_text_in_the_report_and_on_the_terminal(made: Any) -> None:
    def marked(table: list[dict[str, str]]) -> list[dict[str, str]]:
        for i, row in enumerate(table):
            row["label"] = ("<b>[red]x", "<B>[red]x", "no")[i % 3]
        return table

    study = made(marked(singles(300)), marked(singles(200, 1000)), marked(singles(100, 2000)))
    page = build_report(study.folder).read_text(encoding="utf-8")
    section = page[page.index('<section id="audit">') : page.index('<section id="settings">')]
    assert "&lt;b&gt;[red]x" in section
    assert "<b>[red]" not in section
    assert "'<b>[red]x' (" in "".join(rendered(study.folder.summary()))


def test_every_code_is_explained_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    explained = [line[4:].strip("`") for line in text.splitlines() if line.startswith("### `")]
    assert explained == [kind.code for kind in KINDS]
