"""Registry of methods: names, settings, and methods of other packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuneoff.exceptions import BadInput
from tuneoff.methods import BUILT_IN, config_to_plain, method, methods, parse_config


def test_every_method_is_described() -> None:
    for found in BUILT_IN:
        assert methods()[found.name] is found
        assert found.summary
        assert found.family
        assert (found.apply is None) != (found.estimator is None)
        assert (found.learning_rate is None) == (found.name in ("tfidf", "baseline"))
        assert parse_config(found, found.defaults()) == found.config()


def test_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(BadInput, match="'lora'") as error:
        method("lorra", file="study.yaml")
    assert error.value.issues[0].file == "study.yaml"
    assert "lorra" in str(error.value)


def test_unknown_setting_suggests_the_nearest() -> None:
    with pytest.raises(BadInput) as error:
        parse_config(method("lora"), {"rankk": 4, "learning_rat": 1e-3})
    first, second = error.value.issues
    assert "rankk" in first.message
    assert first.hint is not None
    assert "'rank'" in first.hint
    assert second.hint is not None
    assert "'learning_rate'" in second.hint


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lora", {"rank": 0}, "rank must be at least 1"),
        ("lora", {"rank": "many"}, "rank"),
        ("lora", {"targets": []}, "at least one role"),
        ("lora", {"targets": ["quary"]}, "targets"),
        ("ia3", {"targets": []}, "at least one role"),
        ("partial", {"k": 0}, "k must be at least 1"),
        ("tfidf", {"ngrams": "two"}, "ngrams"),
    ],
)
def test_invalid_settings_are_errors(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_config(method(name), settings)


def test_json_round_trip_of_a_config() -> None:
    lora = method("lora")
    config = parse_config(lora, {"rank": 4, "targets": ["query", "value"]})
    plain = config_to_plain(config)
    assert plain["targets"] == ["query", "value"]
    assert parse_config(lora, plain) == config


def test_another_package_registers_a_method(tmp_path: Path) -> None:
    info = tmp_path / "tuneoff_bias-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tuneoff-bias\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[tuneoff.methods]\nbias = tuneoff_bias:BIAS\nfull = tuneoff_bias:BIAS\n"
    )
    (tmp_path / "tuneoff_bias.py").write_text(
        "from tuneoff.methods import Method\n"
        "def apply(model, architecture, config):\n"
        "    return model\n"
        "BIAS = Method(name='bias', family='selective', summary='biases', apply=apply)\n"
    )
    code = (
        "from tuneoff.methods import method, methods\n"
        "assert method('bias').summary == 'biases'\n"
        "assert method('full').summary != 'biases'  # nobody replaces a built-in one\n"
        "import sys; assert 'torch' not in sys.modules\n"
        "print(*methods())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "bias"
