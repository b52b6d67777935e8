from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.parquet", "x.ndjson"])
def test_every_format_gives_the_same_run(files: Any, name: str) -> None:
    truth, (run,) = files.read(files.write(name))
    assert truth.labels == ["neg", "pos"]
    assert run.predictions["row"].tolist() == [0, 2, 4, 6, 8, 10]
    assert run.predictions["prediction"].tolist() == ["neg", "pos", "pos", "pos", "neg", "neg"]
    scores = run.record.quality.test
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.confusion_matrix == [[2, 1], [1, 2]]
    assert scores.log_loss == pytest.approx(-(4 * np.log(0.75) + 2 * np.log(0.25)) / 6)
    assert run.record.quality.validation is None


def test_costs_are_unknown(files: Any) -> None:
    _, (run,) = files.read(files.write("x.csv"))
    assert run.record.cost.train_seconds is None
    assert run.record.cost.peak_memory_bytes is None
    assert run.record.parameters is None
    assert run.record.method.family == "external"


def test_no_log_loss_without_probabilities(files: Any) -> None:
    rows = [{k: r[k] for k in ("row", "label", "prediction")} for r in files.rows()]
    _, (run,) = files.read(files.write("x.csv", rows))
    assert run.record.quality.test.accuracy == pytest.approx(4 / 6)
    assert run.record.quality.test.log_loss is None
    assert run.record.quality.test.ece is None
    assert "probability_pos" not in run.predictions


def test_predictions_from_probabilities(files: Any) -> None:
    rows = [{k: v for k, v in r.items() if k != "prediction"} for r in files.rows()]
    _, (with_labels, without) = files.read(files.write("a.csv"), files.write("b.csv", rows))
    assert with_labels.predictions["prediction"].equals(without.predictions["prediction"])


def test_logits_become_probabilities(files: Any) -> None:
    rows = [
        {key: r[key] for key in ("row", "label")}
        | {f"logit_{x}": np.log(r[f"probability_{x}"]) + 7 for x in files.labels}
        for r in files.rows()
    ]
    _, (logits, probabilities) = files.read(files.write("a.jsonl", rows), files.write("b.csv"))
    assert logits.predictions["probability_pos"].to_numpy() == pytest.approx(
        probabilities.predictions["probability_pos"].to_numpy()
    )


def test_repeated_name_is_another_seed(files: Any) -> None:
    from tuneoff.external_predictions import read_runs

    other = [{**r, "prediction": "pos"} for r in files.rows()]
    sources = [("mine", files.write("a.csv")), ("mine", files.write("b.csv", other))]
    _, runs = read_runs(sources)
    assert [run.record.seed for run in runs] == [0, 1]
    assert len({run.record.run_id for run in runs}) == 2
    assert {run.record.method.name for run in runs} == {"mine"}


def test_rows_are_sorted_like_the_task(files: Any) -> None:
    rows = files.rows()[::-1]
    _, (run,) = files.read(files.write("x.csv", rows), truth=files.truth())
    assert run.predictions["row"].tolist() == [0, 2, 4, 6, 8, 10]
    assert run.record.metric == "accuracy"


def test_label_column_is_optional_with_a_study(files: Any) -> None:
    rows = [{k: v for k, v in r.items() if k != "label"} for r in files.rows()]
    _, (run,) = files.read(files.write("x.csv", rows), truth=files.truth())
    assert run.predictions["label"].tolist() == ["neg", "pos"] * 3
    assert run.record.quality.test.accuracy == pytest.approx(4 / 6)


def test_rows_may_have_names_and_texts(files: Any) -> None:
    rows = [{**r, "row": f"doc-{r['row']}", "text": f"text {r['row']}"} for r in files.rows()]
    truth, (run,) = files.read(files.write("x.csv", rows))
    assert run.predictions["row"][1] == "doc-2"
    assert truth.rows["text"][1] == "text 2"


def test_validation_rows_are_scored_separately(files: Any) -> None:
    rows = [{**r, "split": "validation" if i < 2 else "test"} for i, r in enumerate(files.rows())]
    _, (run,) = files.read(files.write("x.csv", rows))
    assert run.record.quality.validation.accuracy == 1
    assert run.record.quality.test.accuracy == 0.5


def test_unusual_labels(files: Any) -> None:
    rows = [{"row": i, "label": x, "prediction": x} for i, x in enumerate(["NA", "01", "None"])]
    truth, (run,) = files.read(files.write("x.csv", rows))
    assert truth.labels == ["01", "NA", "None"]
    assert run.record.quality.test.accuracy == 1


def test_numeric_labels_of_all_formats(files: Any) -> None:
    rows = [{"row": i, "label": i % 2, "prediction": float(i % 2)} for i in range(4)]
    truth, (run,) = files.read(files.write("x.parquet", rows))
    assert truth.labels == ["0", "1"]
    assert run.record.quality.test.accuracy == 1


def test_row_that_differs_from_the_task_is_named(files: Any, error_of: Any) -> None:
    rows = files.rows()
    rows[3]["label"] = "neg"
    text = error_of(files.write("x.csv", rows), truth=files.truth())
    assert (
        "x.csv, line 5, column 'label': the label is 'neg' in this file, but 'pos' in the task"
        in text
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(2), "1 test rows have no prediction: 4"),
        (lambda rows: rows[0].update(row=1),
         "line 2, column 'row': 1 is not a test row of the task"),
        (lambda rows: rows[1].update(row=0),
         "line 3, column 'row': the row '0' is already in line 2"),
        (lambda rows: rows[1].update(prediction="poss"),
         "line 3, column 'prediction': 'poss' is not a label of the task\n  Hint: Did you mean"),
        (lambda rows: rows[4].update(prediction=""), "line 6, column 'prediction'"),
        (lambda rows: rows[0].update(probability_pos=""),
         "line 2, column 'probability_pos': '' is not a finite number"),
        (lambda rows: rows[0].update(probability_pos="inf"), "'inf' is not a finite number"),
        (lambda rows: rows[0].update(probability_pos=3.5), "rename the columns to logit_LABEL"),
        (lambda rows: rows[5].update(probability_pos=0.1),
         "line 7: the sum of the probabilities is 0.850 instead of 1"),
    ],
)  # fmt: skip
def test_issues_name_file_row_and_column(files: Any, error_of: Any, change: Any, said: str) -> None:
    rows = files.rows()
    change(rows)
    text = error_of(files.write("x.csv", rows), truth=files.truth())
    assert "x.csv" in text
    assert said in text


def without(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in names} for row in rows]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("row",), "there is no column 'row'"),
        (("label",), "there is no column 'label'"),
        (("prediction", "probability_neg", "probability_pos"), "neither a column 'prediction' nor"),
        (("probability_neg",), "the sum of the probabilities is"),
    ],
)
def test_missing_columns_are_named(
    files: Any, error_of: Any, names: tuple[str, ...], said: str
) -> None:
    assert said in error_of(files.write("x.csv", without(files.rows(), *names)))


def test_missing_probability_column_is_named(files: Any, error_of: Any) -> None:
    rows = [{**r, "probability_pos": 1.0} for r in without(files.rows(), "probability_neg")]
    text = error_of(files.write("x.csv", rows), truth=files.truth())
    assert "no probability or logit for the label 'neg'" in text


def test_probabilities_and_logits_together_are_an_error(files: Any, error_of: Any) -> None:
    rows = [{**r, "logit_pos": 1.0} for r in files.rows()]
    assert "columns of both probabilities and logits" in error_of(files.write("x.csv", rows))


def test_files_with_different_rows_are_an_error(files: Any, error_of: Any) -> None:
    text = error_of(files.write("a.csv"), files.write("b.csv", files.rows(5)))
    assert "b.csv, column 'row': 1 test rows have no prediction: 10" in text


def test_issues_of_all_files_are_reported_together(files: Any, error_of: Any) -> None:
    text = error_of(
        files.write("a.csv", without(files.rows(), "row")),
        files.write("b.csv", without(files.rows(), "prediction", "probability_neg",
                                     "probability_pos")),
    )  # fmt: skip
    assert "a.csv" in text
    assert "b.csv" in text


def test_many_issues_are_counted(files: Any, error_of: Any) -> None:
    rows = [{**r, "prediction": "?"} for r in files.rows(40)]
    text = error_of(files.write("x.csv", rows), truth=files.truth())
    assert "further issues that are not listed: " in text
    assert len([line for line in text.splitlines() if "line " in line]) == 20


def test_table_has_the_columns_of_the_analysis(files: Any) -> None:
    _, (run,) = files.read(files.write("x.csv"))
    assert isinstance(run.predictions, pd.DataFrame)
    assert list(run.predictions.columns) == [
        "split", "row", "label", "prediction", "probability_neg", "probability_pos", "weight"
    ]  # fmt: skip


def renamed(rows: list[dict[str, Any]], name: Any) -> list[dict[str, Any]]:
    """Return the rows with the probabilities named `name(label)`, without predictions."""
    return [
        {"row": r["row"], "label": r["label"]}
        | {name(x): r[f"probability_{x}"] for x in ("neg", "pos")}
        for r in rows
    ]


@pytest.mark.parametrize("study", [True, False])
def test_probabilities_named_by_the_label_only(files: Any, study: bool) -> None:
    path = files.write("x.csv", renamed(files.rows(), lambda label: label))
    _, (bare,) = files.read(path, truth=files.truth() if study else None)
    _, (named,) = files.read(files.write("y.csv"))
    assert bare.predictions["probability_pos"].equals(named.predictions["probability_pos"])
    assert bare.record.quality.test == named.record.quality.test


@pytest.mark.parametrize("name", ["prob_{}", "{}_score", "p({})", "POS/{}"])
def test_unknown_probability_names_are_an_error(files: Any, error_of: Any, name: str) -> None:
    rows = renamed(files.rows(), lambda label: name.format(label.upper()))
    with_prediction = [{**r, "prediction": r["label"]} for r in rows]
    said = error_of(files.write("x.csv", with_prediction), truth=files.truth())
    columns = f"{name.format('NEG')!r}, {name.format('POS')!r}, …"
    assert f"the columns {columns} have an unknown prefix" in said
    assert "Rename them to probability_LABEL" in said


def test_label_without_column_is_named(files: Any, error_of: Any) -> None:
    rows = [{"row": i, "label": x, "a": 0.5, "b": 0.5} for i, x in enumerate(["a", "b", "c"])]
    said = error_of(files.write("x.csv", rows))
    assert "there is a column 'a', but no column for the label 'c'" in said


@pytest.mark.parametrize(
    "ids",
    [
        [f"{251034921 + i}.jpg#2r1e" for i in range(6)],
        ["007", "7", "8", "9", "10", "11"],  # different ids with the same number
        [10**19 + i for i in range(6)],
    ],
)
def test_ids_of_any_type_are_distinct(files: Any, ids: list[Any]) -> None:
    rows = [{**row, "row": name} for row, name in zip(files.rows(), ids, strict=True)]
    _, (run,) = files.read(files.write("x.csv", rows))
    assert run.predictions["row"].astype(str).tolist() == [str(name) for name in ids]
