"""Study specifications: parsing, serialisation, run ids, and invalid values."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tuneoff.config import (
    STUDY_WIDE,
    RunSpec,
    TrainSpec,
    file_name,
    parse_study,
    quantity,
    read_study,
    replace_train,
    to_plain,
)
from tuneoff.exceptions import BadInput, nearest
from tuneoff.methods import BUILT_IN
from tuneoff.scheduling.plan import DEFAULT_METHODS, asked_study, complete

LEAST: dict[str, Any] = {"model": "m", "data": {"train": "t.csv"}, "methods": ["full"]}


def issues(**changes: Any) -> str:
    with pytest.raises(BadInput) as refused:
        asked_study({**LEAST, **changes}, file="s.yaml")
    return str(refused.value)


# Parsing and serialisation.

names = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=12)
fractions = st.floats(0.01, 0.99)
train_settings = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 99),
        "batch_size": st.integers(1, 999),
        "max_length": st.none() | st.integers(4, 512),
        "learning_rate": st.just("auto") | st.floats(1e-7, 1.0),
        "class_weights": st.sampled_from(["none", "balanced"])
        | st.dictionaries(names, st.floats(0.1, 9), min_size=1, max_size=3),
        "precision": st.sampled_from(["auto", "bf16", "fp16", "fp32"]),
        "attention_dropout": st.just("model") | st.floats(0, 0.9),
        "early_stopping_patience": st.none() | st.integers(1, 9),
    },
)
studies = st.fixed_dictionaries(
    {
        "model": names,
        "data": st.fixed_dictionaries(
            {"train": names},
            optional={"test": names | fractions, "text": names, "group": st.none() | names},
        ),
    },
    optional={
        "methods": st.lists(
            st.sampled_from([m.name for m in BUILT_IN]), unique=True, min_size=1, max_size=4
        ),
        "train": train_settings,
        "seeds": st.integers(1, 5) | st.lists(st.integers(0, 99), unique=True, min_size=1),
        "metric": st.sampled_from(["accuracy", "macro_f1", "log_loss"]),
    },
)


@given(studies)
def test_yaml_round_trip_of_a_completed_study(plain: dict[str, Any]) -> None:
    asked = complete(parse_study(plain))
    text = yaml.safe_dump(to_plain(asked), sort_keys=False, allow_unicode=True)
    assert complete(parse_study(yaml.safe_load(text))) == asked


def test_every_default_is_filled_in() -> None:
    plain = to_plain(complete(parse_study({**LEAST, "methods": ["lora", "weighted"]})))
    assert plain["seeds"] == [0, 1, 2]
    assert plain["data"]["test"] == 0.2
    assert plain["train"]["learning_rate"] == "auto"
    lora, weighted = plain["methods"]
    assert lora["rank"] == 8
    assert "targets" in lora
    assert weighted["class_weights"] == "balanced"


def test_a_study_without_methods_gets_the_default_ones() -> None:
    asked = complete(parse_study({"model": "m", "data": {"train": "t.csv"}, "methods": None}))
    assert [m.name for m in asked.methods] == list(DEFAULT_METHODS)


def test_empty_section_is_ignored() -> None:
    asked = parse_study({**LEAST, "train": None, "seeds": None, "metric": None})
    assert asked == parse_study(LEAST)


def test_numbers_that_yaml_misreads() -> None:
    # YAML 1.1 parses 2e-5 as text, and the keys of class_weights as numbers.
    text = "{learning_rate: 2e-5, class_weights: {0: 1, 1: 2.5}}"
    train = parse_study({**LEAST, "train": yaml.safe_load(text)}).train
    assert train.learning_rate == 2e-5
    assert train.class_weights == {"0": 1.0, "1": 2.5}


def test_all_issues_are_reported_together() -> None:
    text = issues(
        modle="x",
        data={"train": "t.csv", "tests": "x", "max_train": "many"},
        methods=[
            7,
            "lorra",
            {"method": "lora", "rnk": 4, "alpha": "large", "epochs": "few"},
            {"method": "full", "max_length": 9, "learning_rate": -1},
        ],
        train={"epochs": "many", "EPOCH": 1},
        seeds=[],
        metric="f1",
        limits={"storage_bytes": "some", "time": 3},
        tune={"trials": "all"},
        margin=2,
    )
    for part in (
        *("'modle'", "'data.tests'", "data.max_train should be", "not 7", "'lorra'", "'rnk'"),
        *("alpha should be", "'lora': epochs should be", "'full': max_length is the same"),
        *("'full': learning_rate must be positive", "train.epochs should be", "'train.EPOCH'"),
        *("seeds must name", "unknown metric 'f1'", "limits.storage_bytes", "'limits.time'"),
        *("tune.trials should be", "margin must lie"),
    ):
        assert text.count(part) == 1, part
    assert len(text.split("s.yaml: ")) - 1 == 18


def test_range_error_of_the_study_is_reported_once() -> None:
    text = issues(train={"epochs": 0}, methods=["full", "lora", "ful"])
    assert text.count("epochs must be at least 1") == 1
    assert "unknown method 'ful'" in text


# Invalid values.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modle": "x"}, ["'modle'", "'model'"]),
        ({"data": {"train": "t", "tests": "x"}}, ["'data.tests'", "'test'"]),
        ({"train": {"EPOCH": 1}}, ["'train.EPOCH'", "'epochs'"]),
        ({"methods": [{"method": "lora", "rnk": 4}]}, ["'lora'", "'rnk'", "'rank'"]),
        ({"methods": ["lorra"]}, ["'lorra'", "'lora'"]),
        ({"methods": [{"method": "full", "learning_rat": 1}]}, ["'learning_rate'"]),
        ({"metric": "macro-f1"}, ["'macro-f1'", "'macro_f1'"]),
    ],
)
def test_unknown_key_suggests_the_nearest(changes: dict[str, Any], said: list[str]) -> None:
    text = issues(**changes)
    assert text.startswith("s.yaml: ")
    for part in said:
        assert part in text


@pytest.mark.parametrize("key", STUDY_WIDE)
def test_study_setting_in_a_method_entry_is_an_error(key: str) -> None:
    text = issues(methods=[{"method": "lora", key: 1}])
    assert f"'lora': {key} is the same for all methods of a study" in text
    assert f"Set train.{key}." in text
    near = issues(methods=[{"method": "lora", key[:-1]: 1}])  # invalid settings are not suggested
    assert f"has no setting {key[:-1]!r}" in near
    assert f"{key!r}" not in near


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "t.csv"}, "data should be a mapping of keys to values, not 't.csv'"),
        ({"data": {"text": "x"}}, "'data.train' is missing"),
        ({"train": 3}, "train should be a mapping of keys to values, not 3"),
        ({"train": {"epochs": "many"}}, "train.epochs should be a whole number, not 'many'"),
        ({"train": {"epochs": 2.5}}, "train.epochs should be a whole number, not 2.5"),
        ({"train": {"epochs": 0}}, "train.epochs must be at least 1"),
        ({"train": {"batch_size": 0}}, "train.batch_size must be at least 1"),
        ({"train": {"threads": 0}}, "train.threads must be at least 1"),
        ({"train": {"learning_rate": "x"}}, "learning_rate should be a number or 'auto', not 'x'"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate must be positive"),
        ({"train": {"class_weights": "balance"}}, "'none' or 'balanced' or a mapping"),
        ({"train": {"class_weights": {"a": -1}}}, "train.class_weights must be positive"),
        ({"train": {"precision": "f16"}}, "'auto', 'bf16', 'fp16' or 'fp32', not 'f16'"),
        ({"train": {"weight_decay": -1}}, "train.weight_decay must not be negative"),
        ({"data": {"train": "t", "validation": 1.5}}, "data.validation is a file, or a fraction"),
        ({"data": {"train": "t", "test": [1]}}, "data.test should be a text or a number, not [1]"),
        ({"methods": "full"}, "methods is a list of names and mappings, not 'full'"),
        ({"methods": [{"name": "x"}]}, "with the key 'method', not {'name': 'x'}"),
        ({"methods": ["full", "full"]}, "two methods are named 'full'"),
        ({"methods": [{"method": "partial", "k": "all"}]}, "k should be a whole number, not 'all'"),
        ({"methods": [{"method": "partial", "k": 0}]}, "method 'partial': k must be at least 1"),
        ({"methods": [{"method": "full", "name": "f", "epochs": 0}]}, "method 'f': epochs must be"),
        ({"methods": [{"method": "full", "max_length": 9}]}, "Set train.max_length."),
        ({"seeds": []}, "seeds must name at least one seed"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": [-1]}, "a seed lies in [0, 2^32), not -1"),
        (
            {"seeds": "three"},
            "seeds is a number (3), a range (2:8) or a list of seeds, not 'three'",
        ),
        ({"seeds": 10**9}, "seeds is at most 1000, not 1000000000"),
        ({"seeds": "2:1001"}, "seeds is at most 1000, not 1001"),
        ({"seeds": "1:3"}, "a range of seeds starts with two or more"),
        ({"seeds": "5:2"}, "seeds 5:2 ends before it starts"),
        ({"seeds": "0:2"}, "seeds must name at least one seed"),
        ({"seeds": "2:8", "max_study_seconds": "soon"}, "max_study_seconds should be 10m,"),
        ({"max_study_seconds": "2h"}, "max_study_seconds bounds further seeds: give seeds a range"),
        ({"seeds": ["a"]}, "seeds.0 should be a whole number, not 'a'"),
    ],
)
def test_invalid_value_message_uses_names_of_the_file(changes: dict[str, Any], said: str) -> None:
    text = issues(**changes)
    assert said in text
    assert "pydantic" not in text
    assert "Spec" not in text  # internal class names are not shown


def test_all_invalid_values_are_named() -> None:
    text = issues(methods=["ful", {"method": "lora", "rnk": 1}], metric="f")
    assert text.count("s.yaml: ") == 3


def test_study_must_be_a_mapping() -> None:
    with pytest.raises(BadInput, match="mapping of keys"):
        parse_study(["full"])  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "- a\n", "model: [\n", "a: b: c\n"])
def test_file_without_a_study(tmp_path: Path, text: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as refused:
        read_study(file)
    assert str(file) in str(refused.value)


def test_missing_study_file_suggests_a_similar_name(tmp_path: Path) -> None:
    (tmp_path / "reviews.yaml").touch()
    with pytest.raises(BadInput, match=r"Did you mean 'reviews\.yaml'\?"):
        read_study(tmp_path / "review.yaml")


def test_nearest_lists_few_names() -> None:
    assert nearest("Rnak", ["rank", "alpha"]) == "Did you mean 'rank'?"
    assert nearest("zzz", ["b", "a"]) == "Available: a, b."
    many = nearest("zzz", [f"label{i:03}" for i in range(150)])
    assert many.endswith("label011, … (150 in total).")


# Run ids.


def spec(**changes: Any) -> RunSpec:
    least = RunSpec(
        name="full",
        method="full",
        config={},
        model="m",
        train=TrainSpec(),
        seed=0,
        metric="macro_f1",
        data_fingerprint="d",
        model_fingerprint="f",
    )
    return replace(least, **changes)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"config": {"rank": 4}},
        {"data_fingerprint": "e"},
        {"model_fingerprint": "g"},
        {"task_key": "another tokenizer"},
        {"metric": "accuracy"},
        {"train": TrainSpec(epochs=4)},
    ],
)
def test_relevant_settings_change_the_run_id(change: dict[str, Any]) -> None:
    assert spec(**change).content_hash() != spec().content_hash()


@pytest.mark.parametrize("change", [{"model": "elsewhere/m"}, {"train": TrainSpec(threads=3)}])
def test_paths_do_not_change_the_run_id(change: dict[str, Any]) -> None:
    assert spec(**change).run_id == spec().run_id


@given(st.text(max_size=200))
def test_any_name_gives_a_safe_folder_name(name: str) -> None:
    folder = file_name(name)
    assert Path(folder).name == folder
    assert folder not in ("", ".", "..")
    assert not folder.startswith((".", "-"))
    assert len(folder) <= 80


def test_a_run_id_is_name_seed_and_hash() -> None:
    assert spec(name="../../etc/x y", seed=7).run_id.startswith("etc-x-y-s7-")
    assert len(spec().run_id.rpartition("-")[2]) == 8


def test_replaced_training_settings_are_checked() -> None:
    assert replace_train(TrainSpec(), {"learning_rate": "3e-4"}).learning_rate == 3e-4
    with pytest.raises(BadInput, match="method 'x': epochs must be at least 1"):
        replace_train(TrainSpec(), {"epochs": 0}, where="method 'x': ")


# Settings of the verdict.


def test_round_trip_of_latency_and_recall_limits() -> None:
    limits = {"latency_seconds": "20 ms", "min_recall": {1: 0.8, "no": 0.5}}
    study = parse_study({**LEAST, "limits": limits})
    assert study.limits == {"latency_seconds": 0.02}
    assert study.min_recall == {"1": 0.8, "no": 0.5}
    plain = to_plain(study)
    assert plain["limits"] == {"latency_seconds": 0.02, "min_recall": {"1": 0.8, "no": 0.5}}
    assert parse_study(yaml.safe_load(yaml.safe_dump(plain))) == study
    assert parse_study({**LEAST, "limits": {"min_recall": None}}).min_recall == {}


def test_limits_accept_units() -> None:
    limits = {"peak_memory_bytes": "2GB", "storage_bytes": "1.5 MiB", "train_seconds": "1h 30m"}
    study = parse_study({**LEAST, "limits": limits, "margin": 0.02})
    assert study.limits == {
        "peak_memory_bytes": 2e9,
        "storage_bytes": 1.5 * 2**20,
        "train_seconds": 5400.0,
    }
    assert study.margin == 0.02
    assert parse_study(to_plain(study)) == study


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        (600, "seconds", 600),
        ("600", "seconds", 600),
        ("10m", "seconds", 600),
        ("90 s", "seconds", 90),
        ("1d", "seconds", 86_400),
        ("500kb", "bytes", 500_000),
        ("1_000", "bytes", 1000),
        ("1e6", "bytes", 1e6),
        ("2GB", "seconds", None),
        ("10m", "bytes", None),
        ("1GB 2MB", "bytes", None),
        ("1h 30", "seconds", None),
        ("-5", "seconds", None),
        ("1.2.3", "bytes", None),
        ("", "bytes", None),
        (True, "seconds", None),
        (None, "seconds", None),
    ],
)
def test_quantities(text: Any, unit: str, value: float | None) -> None:
    assert quantity(text, unit) == value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"margin": -0.1}, "margin must lie in [0, 1)"),
        ({"margin": 1}, "margin must lie in [0, 1)"),
        ({"margin": "small"}, "margin should be a number"),
        ({"limits": {"memory": "2GB"}}, "unknown key 'limits.memory'"),
        ({"limits": {"storage_bytes": "2 hours"}}, "limits.storage_bytes should be 2GB"),
        ({"limits": {"train_seconds": -1}}, "limits.train_seconds should be 10m"),
        ({"limits": [1]}, "limits is a mapping"),
        ({"limits": {"min_recall": 0.8}}, "limits.min_recall is a mapping of labels"),
        ({"limits": {"min_recall": {"yes": "all"}}}, "min_recall.yes should be a number"),
        ({"limits": {"min_recall": {"yes": 80}}}, "'yes' must lie in [0, 1]"),
        ({"min_recall": {"yes": 0.8}}, "unknown key 'min_recall'"),
    ],
)
def test_invalid_margins_and_limits_are_errors(changes: dict[str, Any], said: str) -> None:
    assert said in issues(**changes)


def test_verdict_settings_do_not_change_runs() -> None:
    """Another margin does not require new runs."""
    assert not {"margin", "limits"} & {f.name for f in fields(RunSpec)}


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[2].glob("examples/*.yaml")))
def test_examples_are_valid(file: Path) -> None:
    study = complete(parse_study(read_study(file), file=str(file)), file=str(file))
    assert study.methods


@pytest.mark.parametrize("content", ['text,label\n"a: b": c: d\n', "text,label\na,b\n"])
def test_data_file_instead_of_a_study_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(BadInput, match=r"Give data with --train .*train\.csv"):
        read_study(tmp_path / "train.csv")


@pytest.mark.parametrize("written", ["2:5", "'2:5'"])
def test_seeds_may_be_a_range(tmp_path: Path, written: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"model: m\ndata: {{train: t.csv}}\nseeds: {written}\nmax_study_seconds: 2h\n")
    study = parse_study(read_study(file))
    assert (study.seeds, study.more_seeds) == ((0, 1), (2, 3, 4))
    assert study.max_study_seconds == 7200
    assert to_plain(study)["seeds"] == "2:5"
    assert parse_study(to_plain(study)) == study
    assert parse_study({**LEAST, "seeds": "3"}).seeds == (0, 1, 2)
    assert parse_study({**LEAST, "seeds": "3:3"}).more_seeds == ()


def test_numbers_in_a_study_file_are_decimal(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("a: 1:30\nb: 12:30:45.5\nc: -12\nd: 1.5e-3\ne: 0x10\nf: .5\ng: 1_000\n")
    assert read_study(file) == {
        "a": "1:30",
        "b": "12:30:45.5",
        "c": -12,
        "d": 0.0015,
        "e": 16,
        "f": 0.5,
        "g": 1000,
    }
