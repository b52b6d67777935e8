"""The ten faults of published comparisons: a study that commits each is told so by its code, and
its mended twin is not."""

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
"""What a study is made with that commits a fault, and what its mended twin is made with."""


def sentence(number: int) -> str:
    return " ".join(WORDS[int(digit)] for digit in f"{number:05d}")


def singles(count: int, start: int, **odd: str) -> list[Row]:
    """Texts of their own; every tenth label is the one that `odd` gives for it."""
    table = [{"text": sentence(start + i), "label": LABELS[i % 3]} for i in range(count)]
    for row in table[::10]:
        row["label"] = odd.get(row["label"], row["label"])
    return table


def pairs(count: int, start: int, *, per_premise: int = 1) -> list[Row]:
    """Pairs with a hypothesis of their own, and so many rows to a premise."""
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
    """As PEFT's own count has it: the original head and the copy that trains."""
    p = record.parameters
    assert p
    if record.method.method != "lora":
        return record
    total = p.total + p.trainable_head
    counts = replace(p, total=total, trainable_percent=100 * p.trainable / total)
    return replace(record, parameters=counts)


def padded(record: RunRecord) -> RunRecord:
    """Every text counts as many tokens as the longest may have."""
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
        {"test": TEST, "validation": TEST},  # a copy: one file for both is refused
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


def test_there_are_ten() -> None:
    assert list(CASES) == [kind.code for kind in KINDS[:10]]


@pytest.mark.parametrize("code", CASES)
def test_the_fault_is_told_by_its_code_and_its_mended_twin_is_clean(made: Any, code: str) -> None:
    miscounted, mended = CASES[code]
    found = made(**miscounted).audit()
    assert [finding.code for finding in found] == [code]
    assert found[0].severity == "error"
    assert found[0].concerned_count >= len(found[0].concerned) > 0
    assert made(**mended).audit() == []


# -- the same faults by other evidence, as it comes from elsewhere --------------------------------


def only(found: Mapping[str, Any], code: str) -> str:
    assert list(found) == [code]
    return str(found[code].what)


def test_each_rate_named_for_itself_is_one_rate_all_the_same(made: Any) -> None:
    entries = [{"method": m, "learning_rate": 2e-5} for m in ("full", "lora", "head")]
    what = only(made(methods=entries).found(), "shared-learning-rate")
    assert "full, lora and head" in what
    assert "2e-5" in what
    assert "differ by a factor of 20" in what


def test_rates_that_were_swept_or_lie_near_each_other_are_no_fault(made: Any) -> None:
    sweep = [
        {"method": method, "name": f"{method}{rate}", "learning_rate": rate}
        for method in ("full", "lora")
        for rate in (2e-5, 2e-4)
    ]
    accuracy = {entry["name"]: 0.9 - 0.05 * i for i, entry in enumerate(sweep)}
    assert made(methods=sweep, accuracy=accuracy).audit() == []
    near = {"methods": ["full", "partial"], "accuracy": {"partial": 0.8}}
    assert made(settings={"learning_rate": 5e-5}, **near).audit() == []


def without_rows(study: Any) -> Any:
    """The study as it is when the prepared rows are gone."""
    shutil.rmtree(study.folder.data)
    return study


def test_the_task_alone_shows_that_validation_is_the_test(made: Any) -> None:
    study = without_rows(made(test=TEST, validation=TEST))
    what = only(study.found(), "test-picks-checkpoint")
    assert "200 of 200 test rows" in what


def from_elsewhere(study: Any) -> Any:
    """Records with neither rows nor a task."""
    return replace(without_rows(study), task=None)


@pytest.mark.parametrize(("copies", "told"), [(90, False), (110, True)])
def test_a_part_of_the_test_rows_in_validation(made: Any, copies: int, told: bool) -> None:
    study = made(test=TEST, validation=[*TEST[:copies], *singles(50, 2000)])
    assert ("test-picks-checkpoint" in study.found()) == told


def test_equal_scores_on_validation_and_test_are_no_chance(made: Any) -> None:
    def copied(record: RunRecord) -> RunRecord:
        test, data = record.quality.test, record.data
        return replace(
            record,
            quality=replace(record.quality, validation=test),
            data=replace(data, validation_rows=data.test_rows),
        )

    what = only(from_elsewhere(made(edit=copied)).found(), "test-picks-checkpoint")
    assert "9 runs of full, lora and head have identical scores" in what
    assert from_elsewhere(made()).audit() == []


def test_one_file_for_both_in_the_study_file(made: Any) -> None:
    study = from_elsewhere(made())
    data = replace(study.study.data, validation=study.study.data.test)
    what = only(replace(study, study=replace(study.study, data=data)).found(),
                "test-picks-checkpoint")  # fmt: skip
    assert "test.csv" in what


def test_a_history_of_test_scores_shows_that_the_test_was_watched(made: Any) -> None:
    study = from_elsewhere(made())
    file = study.folder.run(study.records[0].run_id).history_file
    file.write_text(file.read_text() + '{"kind": "test", "epoch": 1, "accuracy": 0.9}\n')
    assert "during training" in only(study.found(), "test-picks-checkpoint")


@pytest.mark.parametrize(("kept", "told"), [(2, True), (3, False)])
def test_another_epoch_than_validations_best(made: Any, kept: int, told: bool) -> None:
    study = made(edit=lambda record: replace(record, best_epoch=kept))
    assert ("test-picks-checkpoint" in study.found()) == told


def test_a_checkpoint_picked_without_validation_rows(made: Any) -> None:
    def none(record: RunRecord) -> RunRecord:
        return replace(record, data=replace(record.data, validation_rows=0))

    what = only(from_elsewhere(made(edit=none)).found(), "test-picks-checkpoint")
    assert "without any validation rows" in what


def test_a_glued_premise_is_seen_through(made: Any) -> None:
    found = made(**{**BY_FRACTION, "train": glued(PREMISES, "</s>")}).found()
    assert list(found) == ["premise-on-both-sides", "glued-pair"]


def test_the_premise_may_stand_in_the_second_column(made: Any) -> None:
    swapped = [{"text": r["text_pair"], "text_pair": r["text"], "label": r["label"]}
               for r in PREMISES]  # fmt: skip
    leaking = made(**{**BY_FRACTION, "train": swapped}).found()
    assert "The second text of" in only(leaking, "premise-on-both-sides")
    mended = {**BY_FRACTION, "train": swapped, "data": {"group": "text_pair"}}
    assert made(**mended).audit() == []


def test_a_second_text_that_comes_up_twice_now_and_then_is_no_premise(made: Any) -> None:
    kinds = splits(pairs)
    for row in [*kinds["train"][:10], *kinds["test"][:10]]:
        row["text_pair"] = "a man sleeps"
    assert made(**kinds).audit() == []


def test_a_category_as_the_first_text_is_no_premise(made: Any) -> None:
    kinds = splits(pairs)
    for table in kinds.values():
        for i, row in enumerate(table):
            row["text"] = f"of the {WORDS[i % 10]}"
    assert made(**kinds).audit() == []


def test_a_premise_shared_with_validation_alone_is_a_warning(made: Any) -> None:
    leaking = {**BY_FRACTION, "test": pairs(200, 1000)}
    found = made(**leaking).found()
    assert found["premise-on-both-sides"].severity == "warning"
    assert all(row.startswith("validation row") for row in
               found["premise-on-both-sides"].concerned)  # fmt: skip


def test_a_baseline_may_guess_and_a_run_without_others_has_no_comparison(made: Any) -> None:
    assert made(methods=["full", "head", "baseline"]).audit() == []
    alone = made(methods=["full"], accuracy={"full": 1 / 3}).found()
    assert "accuracy" not in only(alone, "learned-nothing")  # nothing is compared with it
    assert alone["learned-nothing"].severity == "warning"
    assert made(methods=["baseline"], accuracy={"baseline": 1 / 3}).audit() == []


def test_one_answer_throughout_is_chance_however_uneven_the_labels(made: Any) -> None:
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
        made(**table, edit=collapsed).found(), "chance-level-in-cost"
    )
    assert made(**table).audit() == []


def test_each_setting_that_differs_is_told(made: Any) -> None:
    entries = ["full", {"method": "lora", "epochs": 5, "precision": "fp32"}, "head"]
    what = only(made(methods=entries).found(), "unequal-budget")
    assert "epochs 3 (full and head) and 5 (lora)" in what
    assert "precision auto (full and head) and fp32 (lora)" in what


def test_tfidf_has_no_budget_to_differ_in(made: Any) -> None:
    assert made(methods=["full", "head", "tfidf"]).audit() == []


def test_the_rarer_spelling_is_what_is_concerned(made: Any) -> None:
    finding = made(**CASES["labels-differ-in-case"][0]).found()["labels-differ-in-case"]
    assert "'yes' (" in finding.what
    assert "'Yes' (" in finding.what
    rows = {role: [f"{role} row {i}" for i in range(0, len(table), 10) if i % 3 == 2]
            for role, table in CASES["labels-differ-in-case"][0].items()}  # fmt: skip
    everything = {name for names in rows.values() for name in names}
    assert set(finding.concerned) <= everything
    assert finding.concerned_count == len(everything)


def test_a_few_texts_may_write_about_a_separator(made: Any) -> None:
    table = splits(singles)
    for row in table["train"][:50]:
        row["text"] += " the [SEP] token"
    assert made(**table).audit() == []


def test_a_single_seed_is_a_warning_where_methods_lie_far_apart(made: Any) -> None:
    clear = {"methods": ["full", "head"], "seeds": 1}
    found = made(**clear).found()
    assert found["single-seed"].severity == "warning"
    assert made(methods=["full"], seeds=1).audit() == []


def test_one_method_whose_other_seeds_failed(made: Any) -> None:
    study = made()
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
def test_counts_that_do_not_add_up(made: Any, change: dict[str, Any], said: str) -> None:
    def edit(record: RunRecord) -> RunRecord:
        p = record.parameters
        assert p
        return replace(record, parameters=replace(p, **change) if p.total == 21_770 else p)

    assert said in only(from_elsewhere(made(edit=edit)).found(), "head-counted-twice")


def test_full_fine_tuning_is_its_own_measure(made: Any) -> None:
    def edit(record: RunRecord) -> RunRecord:
        p = record.parameters
        assert p
        total = p.total + p.trainable_head
        counts = replace(p, total=total, trainable_percent=100 * p.trainable / total)
        return replace(record, parameters=counts)

    study = made(methods=["full"], edit=edit)
    assert "exactly the size of the head" in only(study.found(), "head-counted-twice")


@pytest.mark.parametrize("setting", [{"padding": "max_length"}, {"pad_to_max_length": True}])
def test_declared_padding(made: Any, setting: dict[str, Any]) -> None:
    def edit(record: RunRecord) -> RunRecord:
        return replace(record, train={**record.train, **setting})

    assert "every text was padded" in only(from_elsewhere(made(edit=edit)).found(),
                                       "padded-throughput")  # fmt: skip


def test_padding_shows_in_the_tokens_of_the_whole_training(made: Any) -> None:
    def whole(record: RunRecord, per_text: float) -> RunRecord:
        tokens = per_text * record.data.train_rows * record.train["epochs"]
        cost = replace(record.cost, samples_per_second=None, tokens_per_second=tokens / 10.0)
        return replace(record, cost=cost)

    real = made().task.splits["train"].lengths.mean
    assert made(edit=lambda r: whole(r, real)).audit() == []
    what = only(made(edit=lambda r: whole(r, 64)).found(), "padded-throughput")
    assert "count 64 tokens per text" in what
