"""The `tune` section of a study: valid values and messages for invalid ones."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tuneoff.config import RunSpec, StudySpec, TrainSpec, Trial, TuneSpec, parse_study, to_plain
from tuneoff.exceptions import BadInput
from tuneoff.scheduling.plan import complete
from tuneoff.tuning import tuning_issues


def asked(tune: Any, *methods: Any, **more: Any) -> StudySpec:
    content = {"model": "m", "data": {"train": "t.csv"}, "methods": list(methods) or ["full"]}
    return complete(parse_study({**content, "tune": tune, **more}))


def test_short_forms() -> None:
    assert asked(8).tune == TuneSpec(trials=8)
    study = asked({"trials": 4, "over": "learning_rate, rank"}, "lora")
    assert study.tune == TuneSpec(trials=4, over=("learning_rate", "rank"))
    assert asked(None).tune is None


def test_yaml_round_trip() -> None:
    tune = {"trials": 6, "over": ["rank", "targets"], "rows": 500, "prune": False}
    study = asked({**tune, "ranges": {"rank": [4, 8], "targets": [["query"], ["value"]]}}, "lora")
    text = yaml.safe_dump(to_plain(study))
    assert complete(parse_study(yaml.safe_load(text))) == study


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ({"trial": 4}, "unknown key 'tune.trial'\n  Hint: Did you mean 'trials'?"),
        ({"over": ["rank"]}, "'tune.trials' is missing"),
        ("many", "tune must be a mapping of keys to values, not 'many'"),
        ({"trials": "many"}, "tune.trials must be a whole number, not 'many'"),
        (0, "tune.trials must be at least 1"),
        ({"trials": 2, "over": []}, "tune.over must name at least one setting"),
        ({"trials": 2, "over": "rank,rank"}, "tune.over must name each setting once"),
        ({"trials": 2, "rate_factor": 1}, "tune.rate_factor must be more than 1"),
        ({"trials": 2, "rows": 1}, "tune.rows must be at least 2"),
        ({"trials": 2, "seed": 1}, "tune.seed must not be one of the study's seeds"),
        ({"trials": 2, "ranges": {"rank": [2, 4]}}, "tune.ranges.rank: rank is not in tune.over"),
    ],
)
def test_invalid_values(tune: Any, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        asked(tune)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        (
            {"trials": 2, "over": ["ranks"]},
            "no method of the study has a searchable setting 'ranks'",
        ),
        ({"trials": 2, "over": ["ranks"]}, "Did you mean 'rank'?"),
        (
            {"trials": 2, "over": ["rank"], "ranges": {"rank": [8, 4]}},
            "tune.ranges.rank must be the smallest and the largest number, not [8, 4]",
        ),
    ],
)
def test_setting_that_no_method_has(tune: Any, said: str) -> None:
    assert said in "\n".join(map(str, tuning_issues(asked(tune, "full", "lora"))))


def test_setting_that_some_methods_have() -> None:
    assert (
        tuning_issues(asked({"trials": 2, "over": ["rank", "layer_decay"]}, "full", "lora")) == []
    )
    assert tuning_issues(asked(2, "tfidf")) == []  # its C replaces the learning rate


def test_run_id_of_a_trial() -> None:
    def spec(trial: Trial | None) -> RunSpec:
        return RunSpec(
            name="full",
            method="full",
            config={},
            model="m",
            train=TrainSpec(),
            seed=0,
            metric="macro_f1",
            data_fingerprint="d",
            model_fingerprint="f",
            trial=trial,
        )

    first = spec(Trial(number=1)).run_id
    assert first != spec(None).run_id
    assert spec(Trial(number=2)).run_id == first
    assert spec(Trial(number=1, floors=(0.5,))).run_id != first
    assert spec(Trial(number=1, rows=50)).run_id != first
