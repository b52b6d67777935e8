"""The ten mistakes of published comparisons.

For each of them, the audit finds its code in a study with the mistake, and not in the same study
without it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tuneoff.audit import KINDS
from tuneoff.results.record import RunRecord

WORDS = ("cat", "dog", "bird", "horse", "bread", "milk", "soup", "rain", "snow", "wind")
LABELS = ("maybe", "no", "yes")

Row = dict[str, str]
Case = tuple[dict[str, Any], dict[str, Any]]
"""Arguments of a study with a mistake, and of the same study without it."""


def sentence(number: int) -> str:
    return " ".join(WORDS[int(digit)] for digit in f"{number:05d}")


def singles(count: int, start: int, **odd: str) -> list[Row]:
    """Return distinct texts; every tenth label is replaced by `odd`."""
    table = [{"text": sentence(start + i), "label": LABELS[i % 3]} for i in range(count)]
    for row in table[::10]:
        row["label"] = odd.get(row["label"], row["label"])
    return table


def pairs(count: int, start: int, *, per_premise: int = 1) -> list[Row]:
    """Return pairs with distinct hypotheses, and several rows per premise."""
    return [
        {
            "text": sentence(start + i // per_premise),
            "text_pair": f"then {sentence(start + i)}",
            "label": LABELS[i % 3],
        }
        for i in range(count)
    ]


def glued(table: list[Row], separator: str) -> list[Row]:
    return [
        {"text": f"{row['text']} {separator} {row['text_pair']}", "label": row["label"]}
        for row in table
    ]


def splits(make: Callable[[int, int], list[Row]]) -> dict[str, list[Row]]:
    return {"train": make(300, 0), "test": make(200, 1000), "validation": make(100, 2000)}


def head_counted_twice(record: RunRecord) -> RunRecord:
    """Count the original head and the trained copy, as PEFT does."""
    p = record.parameters
    assert p
    if record.method.method != "lora":
        return record
    total = p.total + p.trainable_head
    counts = replace(p, total=total, trainable_percent=100 * p.trainable / total)
    return replace(record, parameters=counts)


def padded(record: RunRecord) -> RunRecord:
    """Count every text as if it had the maximum length."""
    samples = record.cost.samples_per_second
    assert samples
    tokens = samples * record.train["max_length"]
    return replace(record, cost=replace(record.cost, tokens_per_second=tokens))


TEST = singles(200, 1000)
PREMISES = pairs(1200, 0, per_premise=3)
BY_FRACTION = {"train": PREMISES, "test": 0.3, "validation": 0.1}

CASES: dict[str, Case] = {
    "shared-learning-rate": ({"settings": {"learning_rate": 2e-5}}, {}),
    "test-picks-checkpoint": (
        {"test": TEST, "validation": TEST},  # a copy, because the same file for both is an error
        {"test": TEST},
    ),
    "premise-on-both-sides": (BY_FRACTION, {**BY_FRACTION, "data": {"group": "text"}}),
    "chance-level-in-cost": ({"accuracy": {"head": 1 / 3}}, {}),
    "unequal-budget": (
        {"methods": ["full", {"method": "lora", "batch_size": 8}, "head"]},
        {"methods": ["full", "lora", "head"]},
    ),
    "labels-differ-in-case": (splits(lambda n, at: singles(n, at, yes="Yes")), splits(singles)),
    "glued-pair": (splits(lambda n, at: glued(pairs(n, at), "[SEP]")), splits(pairs)),
    "single-seed": ({"seeds": 1, "accuracy": {"lora": 0.945}}, {"accuracy": {"lora": 0.945}}),
    "head-counted-twice": ({"edit": head_counted_twice}, {}),
    "padded-throughput": ({"edit": padded}, {}),
}


def test_each_published_mistake_has_a_case() -> None:
    assert set(CASES) == {kind.code for kind in KINDS if kind.published}
    assert len(CASES) == 10


@pytest.mark.parametrize("code", CASES)
def test_mistake_is_found_and_corrected_study_is_clean(make_study: Any, code: str) -> None:
    miscounted, corrected = CASES[code]
    found = make_study(**miscounted).audit()
    assert [finding.code for finding in found] == [code]
    assert found[0].severity == "error"
    assert found[0].concerned_count >= len(found[0].concerned) > 0
    assert make_study(**corrected).audit() == []


# The same mistakes, found by other evidence.


def only(found: Mapping[str, Any], code: str) -> str:
    assert list(found) == [code]
    return str(found[code].what)


def test_equal_rates_set_for_each_method_are_one_rate(make_study: Any) -> None:
    entries = [{"method": m, "learning_rate": 2e-5} for m in ("full", "lora", "head")]
    what = only(make_study(methods=entries).found(), "shared-learning-rate")
    assert "full, lora and head" in what
    assert "2e-5" in what
    assert "differ by a factor of 20" in what


def test_searched_or_similar_rates_are_not_an_error(make_study: Any) -> None:
    sweep = [
        {"method": method, "name": f"{method}{rate}", "learning_rate": rate}
        for method in ("full", "lora")
        for rate in (2e-5, 2e-4)
    ]
    accuracy = {entry["name"]: 0.9 - 0.05 * i for i, entry in enumerate(sweep)}
    assert make_study(methods=sweep, accuracy=accuracy).audit() == []
    near = {"methods": ["full", "partial"], "accuracy": {"partial": 0.8}}
    assert make_study(settings={"learning_rate": 5e-5}, **near).audit() == []


def without_rows(study: Any) -> Any:
    """Return the study without its prepared rows."""
    shutil.rmtree(study.folder.data)
    return study


def test_validation_equal_to_test_is_found_from_the_task(make_study: Any) -> None:
    study = without_rows(make_study(test=TEST, validation=TEST))
    what = only(study.found(), "test-picks-checkpoint")
    assert "200 of 200 test rows" in what


def without_task(study: Any) -> Any:
    """Return records without rows and task."""
    return replace(without_rows(study), task=None)


@pytest.mark.parametrize(("copies", "reported"), [(90, False), (110, True)])
def test_some_test_rows_in_validation(make_study: Any, copies: int, reported: bool) -> None:
    study = make_study(test=TEST, validation=[*TEST[:copies], *singles(50, 2000)])
    assert ("test-picks-checkpoint" in study.found()) == reported


def test_equal_validation_and_test_scores_are_found(make_study: Any) -> None:
    def copied(record: RunRecord) -> RunRecord:
        test, data = record.quality.test, record.data
        return replace(
            record,
            quality=replace(record.quality, validation=test),
            data=replace(data, validation_rows=data.test_rows),
        )

    what = only(without_task(make_study(edit=copied)).found(), "test-picks-checkpoint")
    assert "9 runs of full, lora and head have identical scores" in what
    assert without_task(make_study()).audit() == []


def test_same_file_for_validation_and_test(make_study: Any) -> None:
    study = without_task(make_study())
    data = replace(study.study.data, validation=study.study.data.test)
    what = only(replace(study, study=replace(study.study, data=data)).found(),
                "test-picks-checkpoint")  # fmt: skip
    assert "test.csv" in what


def test_test_scores_in_the_history_are_found(make_study: Any) -> None:
    study = without_task(make_study())
    file = study.folder.run(study.records[0].run_id).history_file
    file.write_text(file.read_text() + '{"kind": "test", "epoch": 1, "accuracy": 0.9}\n')
    assert "during training" in only(study.found(), "test-picks-checkpoint")


@pytest.mark.parametrize(("kept", "reported"), [(2, True), (3, False)])
def test_checkpoint_other_than_the_best_on_validation(
    make_study: Any, kept: int, reported: bool
) -> None:
    study = make_study(edit=lambda record: replace(record, best_epoch=kept))
    assert ("test-picks-checkpoint" in study.found()) == reported


def test_checkpoint_chosen_without_validation_rows(make_study: Any) -> None:
    def none(record: RunRecord) -> RunRecord:
        return replace(record, data=replace(record.data, validation_rows=0))

    what = only(without_task(make_study(edit=none)).found(), "test-picks-checkpoint")
    assert "without any validation rows" in what


def test_premise_concatenated_with_hypothesis_is_found(make_study: Any) -> None:
    found = make_study(**{**BY_FRACTION, "train": glued(PREMISES, "</s>")}).found()
    assert set(found) == {"premise-on-both-sides", "glued-pair"}


def test_premise_in_second_column_is_found(make_study: Any) -> None:
    swapped = [{"text": r["text_pair"], "text_pair": r["text"], "label": r["label"]}
               for r in PREMISES]  # fmt: skip
    leaking = make_study(**{**BY_FRACTION, "train": swapped}).found()
    assert "The second text of" in only(leaking, "premise-on-both-sides")
    corrected = {**BY_FRACTION, "train": swapped, "data": {"group": "text_pair"}}
    assert make_study(**corrected).audit() == []


def test_occasionally_repeated_text_is_not_a_premise(make_study: Any) -> None:
    kinds = splits(pairs)
    for row in [*kinds["train"][:10], *kinds["test"][:10]]:
        row["text_pair"] = "a man sleeps"
    assert make_study(**kinds).audit() == []


def test_category_as_first_text_is_not_a_premise(make_study: Any) -> None:
    kinds = splits(pairs)
    for table in kinds.values():
        for i, row in enumerate(table):
            row["text"] = f"of the {WORDS[i % 10]}"
    assert make_study(**kinds).audit() == []


def test_premise_shared_with_validation_only_is_a_warning(make_study: Any) -> None:
    leaking = {**BY_FRACTION, "test": pairs(200, 1000)}
    found = make_study(**leaking).found()
    assert found["premise-on-both-sides"].severity == "warning"
    assert all(row.startswith("validation row") for row in
               found["premise-on-both-sides"].concerned)  # fmt: skip


def test_chance_level_is_no_error_for_baseline_or_single_run(make_study: Any) -> None:
    assert make_study(methods=["full", "head", "baseline"]).audit() == []
    alone = make_study(methods=["full"], accuracy={"full": 1 / 3}).found()
    assert "accuracy" not in only(alone, "learned-nothing")  # there is no comparison
    assert alone["learned-nothing"].severity == "warning"
    assert make_study(methods=["baseline"], accuracy={"baseline": 1 / 3}).audit() == []


def test_constant_prediction_is_chance_level(make_study: Any) -> None:
    table = splits(singles)
    for rows in table.values():
        for i, row in enumerate(rows):
            row["label"] = "yes" if i % 10 else "no"

    def collapsed(record: RunRecord) -> RunRecord:
        test = record.quality.test
        if record.method.name != "head" or test is None:
            return record
        recall = {label: float(label == "yes") for label in test.per_class}
        per_class = {name: replace(c, recall=recall[name]) for name, c in test.per_class.items()}
        metrics = {**test.metrics, "accuracy": 0.9}
        test = replace(test, metrics=metrics, per_class=per_class)
        return replace(record, quality=replace(record.quality, test=test))

    assert "head (accuracy 90.0 %)" in only(
        make_study(**table, edit=collapsed).found(), "chance-level-in-cost"
    )
    assert make_study(**table).audit() == []


def test_each_different_setting_is_reported(make_study: Any) -> None:
    entries = ["full", {"method": "lora", "epochs": 5, "precision": "fp32"}, "head"]
    what = only(make_study(methods=entries).found(), "unequal-budget")
    assert "epochs 3 (full and head) and 5 (lora)" in what
    assert "precision auto (full and head) and fp32 (lora)" in what


def test_tfidf_has_no_training_budget(make_study: Any) -> None:
    assert make_study(methods=["full", "head", "tfidf"]).audit() == []


def test_rarer_spelling_is_reported(make_study: Any) -> None:
    finding = make_study(**CASES["labels-differ-in-case"][0]).found()["labels-differ-in-case"]
    assert "'yes' (" in finding.what
    assert "'Yes' (" in finding.what
    rows = {role: [f"{role} row {i}" for i in range(0, len(table), 10) if i % 3 == 2]
            for role, table in CASES["labels-differ-in-case"][0].items()}  # fmt: skip
    everything = {name for names in rows.values() for name in names}
    assert set(finding.concerned) <= everything
    assert finding.concerned_count == len(everything)


def test_few_texts_with_separator_are_not_reported(make_study: Any) -> None:
    table = splits(singles)
    for row in table["train"][:50]:
        row["text"] += " the [SEP] token"
    assert make_study(**table).audit() == []


def test_single_seed_is_a_warning_for_large_differences(make_study: Any) -> None:
    clear = {"methods": ["full", "head"], "seeds": 1}
    found = make_study(**clear).found()
    assert found["single-seed"].severity == "warning"
    assert make_study(methods=["full"], seeds=1).audit() == []


def test_method_with_failed_seeds(make_study: Any) -> None:
    study = make_study()
    left = [r for r in study.records if r.method.name != "lora" or r.seed == 0]
    what = only(replace(study, records=left).found(), "single-seed")
    assert "lora was run with one seed" in what


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"trainable_body": 0},
            "1,770 trainable parameters are stated, but body and head together have 770",
        ),
        ({"total": 1_000}, "1,770 trainable parameters are more than the total of 1,000"),
        (
            {"trainable_percent": 5.0},
            "5.00 % trainable parameters are stated, but the counts give 8.13 %",
        ),
    ],
)
def test_inconsistent_parameter_counts(make_study: Any, change: dict[str, Any], said: str) -> None:
    def edit(record: RunRecord) -> RunRecord:
        p = record.parameters
        assert p
        return replace(record, parameters=replace(p, **change) if p.total == 21_770 else p)

    assert said in only(without_task(make_study(edit=edit)).found(), "head-counted-twice")


def test_parameters_of_full_fine_tuning_alone(make_study: Any) -> None:
    def edit(record: RunRecord) -> RunRecord:
        p = record.parameters
        assert p
        total = p.total + p.trainable_head
        counts = replace(p, total=total, trainable_percent=100 * p.trainable / total)
        return replace(record, parameters=counts)

    study = make_study(methods=["full"], edit=edit)
    assert "exactly the size of the head" in only(study.found(), "head-counted-twice")


@pytest.mark.parametrize("setting", [{"padding": "max_length"}, {"pad_to_max_length": True}])
def test_declared_padding(make_study: Any, setting: dict[str, Any]) -> None:
    def edit(record: RunRecord) -> RunRecord:
        return replace(record, train={**record.train, **setting})

    assert "every text was padded" in only(without_task(make_study(edit=edit)).found(),
                                       "padded-throughput")  # fmt: skip


def test_padding_is_found_in_total_tokens(make_study: Any) -> None:
    def whole(record: RunRecord, per_text: float) -> RunRecord:
        tokens = per_text * record.data.train_rows * record.train["epochs"]
        cost = replace(record.cost, samples_per_second=None, tokens_per_second=tokens / 10.0)
        return replace(record, cost=cost)

    real = make_study().task.splits["train"].lengths.mean
    assert make_study(edit=lambda r: whole(r, real)).audit() == []
    what = only(make_study(edit=lambda r: whole(r, 64)).found(), "padded-throughput")
    assert "count 64 tokens per text" in what
