"""Every setting of every method can be given on the command line (`--set KEY=VALUE`)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from tuneoff.cli.train import _settings
from tuneoff.config import TrainSpec, replace_train
from tuneoff.exceptions import BadInput
from tuneoff.methods import methods, parse_config
from tuneoff.methods.search_ranges import Choice, own_ranges

SETTINGS = [
    (name, field.name) for name, method in methods().items() for field in fields(method.config)
]


def typed(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple | list):
        return ",".join(map(typed, value))
    if isinstance(value, dict):
        return ",".join(f"{key}={typed(x)}" for key, x in value.items())
    return str(value)


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
def test_all_values_can_be_typed(name: str, setting: str) -> None:
    method = methods()[name]
    values = [getattr(method.config(), setting)]
    if isinstance(choice := own_ranges(method).get(setting), Choice):
        values += choice.values
    for value in values:
        if value == {}:
            continue
        config = parse_config(method, _settings([f"{setting}={typed(value)}"]))
        assert getattr(config, setting) == value


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("lora", "targets=query,key,value", ("query", "key", "value")),
        ("lora", "targets=query, key", ("query", "key")),
        ("lora", "targets=query key", ("query", "key")),
        ("lora", "targets=query", ("query",)),
        ("lora", "targets=[query, key]", ("query", "key")),
        ("lora", "targets=(query, 'key')", ("query", "key")),
        ("lora", "rank_pattern=query=4,value=8", {"query": 4, "value": 8}),
        ("lora", "rank_pattern=query:4,value:8", {"query": 4, "value": 8}),
        ("lora", "rank_pattern=query: 4, value: 8", {"query": 4, "value": 8}),
        ("lora", "rank_pattern={query: 4}", {"query": 4}),
        ("lora", "layers=0,2,5", "0,2,5"),
        ("lora", "layers=[0, 2]", "0,2"),
        ("lora", "layers=1", 1),
        ("lora", "budget=4.67%", "4.67%"),
        ("lora", "alpha=None", None),
        ("lora", "alpha=16", 16.0),
        ("lora", "bias=none", "none"),
        ("partial", "embeddings=yes", True),
        ("partial", "embeddings=off", False),
        ("tfidf", "c=1e2", 100.0),
        ("peft", "config=peft_type=LORA,r=4", {"peft_type": "LORA", "r": 4}),
    ],
)
def test_common_ways_to_write_a_value(name: str, given: str, read: Any) -> None:
    setting = given.partition("=")[0]
    assert getattr(parse_config(methods()[name], _settings([given])), setting) == read


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"class_weights": "garden=2, attic=0.5"}, {"garden": 2.0, "attic": 0.5}),
        ({"class_weights": "balanced"}, "balanced"),
        ({"class_weights": {1: 2}}, {"1": 2.0}),
        ({"early_stopping_patience": "none"}, None),
        ({"learning_rate": "1e-4"}, 1e-4),
    ],
)
def test_training_settings_of_an_entry(given: dict[str, Any], read: Any) -> None:
    (setting,) = given
    assert getattr(replace_train(TrainSpec(), given), setting) == read


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("rank_pattern=query", "rank_pattern must be a mapping, not 'query'"),
        ("rank=many", "rank must be a whole number, not 'many'"),
        ("targets=querry,key", "targets: 'querry' is not a role"),
    ],
)
def test_invalid_values_are_errors(given: str, said: str) -> None:
    with pytest.raises(BadInput, match=said.replace("(", r"\(")):
        parse_config(methods()["lora"], _settings([given]))
