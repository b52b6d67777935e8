"""Train every method on every architecture, or check that it is rejected with a reason.

A sample of the combinations runs by default. `make conformance` runs all of them and writes the
matrix in the documentation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from tuneoff.engine.execute import check_saved
from tuneoff.engine.model.architecture import EncoderArchitecture, describe
from tuneoff.engine.model.load import check_fits
from tuneoff.exceptions import BadInput
from tuneoff.methods import methods, parse_config

RunToy = Callable[..., Any]
TinyModel = Callable[[str], Path]
ToyTask = Callable[..., Any]

ARCHITECTURES = (
    *("bert", "distilbert", "roberta", "xlm-roberta", "electra", "albert", "mpnet"),
    *("deberta-v2", "modernbert", "mobilebert", "funnel", "llama"),
)
METHODS = [name for name, m in methods().items() if m.apply is not None]

REFUSED = {
    "prefix": "prefix tuning needs layers that read a key-value cache",
    "bitfit": "bitfit trains biases",
    "partial": "k is 2, but the albert encoder has 1 layer",
}


def _cells() -> Iterator[Any]:
    for i, method in enumerate(METHODS):
        for j, architecture in enumerate(ARCHITECTURES):
            sampled = j in (0, i % len(ARCHITECTURES)) or method in ("lora", "partial")
            yield pytest.param(method, architecture, marks=() if sampled else pytest.mark.grid)


@pytest.fixture(scope="session")
def matrix() -> Iterator[dict[tuple[str, str], str]]:
    """Outcome of each combination; written to the file that `TUNEOFF_MATRIX` names, if any."""
    found: dict[tuple[str, str], str] = {}
    yield found
    if file := os.environ.get("TUNEOFF_MATRIX"):
        Path(file).write_text(_page(found), encoding="utf-8")


@pytest.mark.parametrize(("name", "architecture"), list(_cells()))
def test_method_passes_checks(
    run_toy: RunToy,
    toy_task: ToyTask,
    tiny_model: TinyModel,
    matrix: dict[tuple[str, str], str],
    name: str,
    architecture: str,
) -> None:
    path, method, config = tiny_model(architecture), methods()[name], {}
    matrix[name, architecture] = "fails"
    if name == "vera":
        config = {"rank": 16}
    try:
        check_fits(path, name, config, ["a", "b", "c"], longest=64)
    except BadInput as error:
        reason = error.issues[0].message
    else:
        reason = None
    if reason is not None:
        assert REFUSED[name] in reason
        assert architecture in reason
        matrix[name, architecture] = reason
        return
    # Tiny encoders need larger steps than real ones: at least 2e-3.
    rate = max(4 * (method.learning_rate or 0), 2e-3)
    options = {"epochs": 4, "batch_size": 8, "learning_rate": rate}
    # With some seeds the initial head is already accurate, and the loss hardly decreases.
    made = run_toy(name, architecture, config=config, seed=2, **options)
    record = made.record
    assert record.status == "finished", record.error

    assert record.checks.unchanged == []
    assert record.checks.changed == []
    check_saved(made.folder, made.task.splits["train"].path.parent)
    checks = made.folder.record().checks
    assert checks.problems == []
    assert checks.reopened.rows > 3
    assert (checks.merged is not None) == _merges(name)
    assert made.folder.record().warnings == record.warnings

    if method.learning_rate is not None:
        losses = [row["loss"] for row in made.folder.history() if row["kind"] == "train"]
        epoch = len(losses) // 4
        assert sum(losses[-epoch:]) < sum(losses[:epoch])
    counted = _expected_parameters(name, path)
    if counted is not None:
        assert (record.parameters.trainable, record.parameters.total) == counted
    matrix[name, architecture] = "yes"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2"])
def test_method_passes_checks_in_bf16(run_toy: RunToy, name: str, architecture: str) -> None:
    if name == "prefix" and architecture == "deberta-v2":
        pytest.skip("refused")
    config = {"rank": 16} if name == "vera" else {}
    made = run_toy(name, architecture, config=config, epochs=2, precision="bf16")
    assert made.record.status == "finished", made.record.error
    check_saved(made.folder, made.task.splits["train"].path.parent)
    assert made.folder.record().checks.problems == []


def _merges(name: str) -> bool:
    family = methods()[name].family
    return family in ("low rank", "quantised", "scaling", "any")


def _expected_parameters(name: str, path: Path) -> tuple[int, int] | None:
    """Return the numbers of trainable and of all parameters with the default settings.

    They are calculated from the parameters of the base model. None: there is no short formula.
    """
    config = AutoConfig.from_pretrained(path, num_labels=3)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    architecture = describe(model)
    sizes = {n: p.numel() for n, p in model.named_parameters()}
    head = sum(count for n, count in sizes.items() if architecture.is_head(n))
    body = {n: count for n, count in sizes.items() if not architecture.is_head(n)}
    linears = {n: model.get_submodule(n) for n in _six_roles(architecture)}
    ends = tuple(f"{layer}." for layer in architecture.layers[-2:])
    inner: Any = {
        "baseline": -head,
        "head": 0,
        "full": sum(body.values()),
        "weighted": sum(body.values()),
        "partial": sum(count for n, count in body.items() if n.startswith(ends)),
        "bitfit": sum(count for n, count in body.items() if n.endswith("bias")),
        "lora": sum(8 * (m.in_features + m.out_features) for m in linears.values()),
        "lora_fa": sum(8 * m.out_features for m in linears.values()),
        "dora": sum(8 * m.in_features + 9 * m.out_features for m in linears.values()),
        "vera": sum(16 + m.out_features for m in linears.values()),
        "loha": sum(16 * (m.in_features + m.out_features) for m in linears.values()),
    }
    inner |= dict.fromkeys(("rslora", "pissa", "lora_plus", "qlora", "peft"), inner["lora"])
    if name not in inner:
        return None
    added = 0 if methods()[name].family in ("baseline", "selective", "loss") else inner[name]
    added = inner["lora"] if name == "lora_fa" else added  # its frozen matrices count, too
    return head + inner[name], head + sum(body.values()) + added


def _six_roles(architecture: EncoderArchitecture) -> set[str]:
    return {name for names in architecture.roles.values() for name in names}


def _page(matrix: dict[tuple[str, str], str]) -> str:
    """Return the documentation page with the matrix."""
    shown = [name for name in ARCHITECTURES if any(a == name for _, a in matrix)]
    reasons = sorted({text for text in matrix.values() if text not in ("yes", "fails")})
    rows = [
        [f"`{method}`", *(_mark(matrix.get((method, a), ""), reasons) for a in shown)]
        for method in METHODS
    ]
    lines = [
        "# Methods and architectures",
        "",
        "Generated by `make conformance`, which trains each method on a tiny random encoder of each"
        " architecture. ✓ means that",
        "",
        "- the trainable weights change, and no others;",
        "- the saved model gives the same logits when Transformers or PEFT opens it;",
        "- merging an adapter does not change the logits;",
        "- the loss decreases;",
        "- the numbers of parameters are those of an independent calculation.",
        "",
        "A number refers to the reason why a combination is not supported.",
        "",
        "| method | " + " | ".join(shown) + " |",
        "|---|" + "---|" * len(shown),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(f"{i}. {reason}" for i, reason in enumerate(reasons, 1)),
    ]
    return "\n".join(lines) + "\n"


def _mark(outcome: str, reasons: list[str]) -> str:
    return {"yes": "✓", "fails": "✗", "": "–"}.get(outcome) or str(reasons.index(outcome) + 1)


def test_settings_reach_the_methods() -> None:
    """The defaults of every method can be parsed as settings of a study file."""
    for name in METHODS:
        chosen = methods()[name]
        assert parse_config(chosen, chosen.defaults()) == chosen.config()
