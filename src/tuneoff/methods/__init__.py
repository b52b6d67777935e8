"""The methods: one file each, one line of registration each.

A package outside of tuneoff registers a `Method` under the entry-point group `tuneoff.methods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from tuneoff.config import METHOD_TRAIN_KEYS, read_values, validated
from tuneoff.exceptions import BadInput, Issue, IssueList, MissingExtra, nearest
from tuneoff.methods.adalora import ADALORA
from tuneoff.methods.any_peft import PEFT
from tuneoff.methods.base import Method
from tuneoff.methods.baseline import BASELINE
from tuneoff.methods.bottleneck import ADAPTER
from tuneoff.methods.full import FULL, WEIGHTED
from tuneoff.methods.head import HEAD
from tuneoff.methods.ia3 import IA3
from tuneoff.methods.lora import LORA, QLORA
from tuneoff.methods.lora_variants import DORA, LORA_FA, LORA_PLUS, PISSA, RSLORA
from tuneoff.methods.partial import PARTIAL
from tuneoff.methods.products import LOHA, LOKR
from tuneoff.methods.prompts import PREFIX, PROMPT
from tuneoff.methods.small_parts import BITFIT, LAYERNORM
from tuneoff.methods.tfidf import TFIDF
from tuneoff.methods.vera import VERA

BUILT_IN = (
    *(TFIDF, BASELINE, HEAD, PARTIAL, BITFIT, LAYERNORM, FULL, WEIGHTED),
    *(LORA, RSLORA, DORA, PISSA, LORA_PLUS, LORA_FA, ADALORA, VERA, LOHA, LOKR, QLORA),
    *(IA3, ADAPTER, PREFIX, PROMPT, PEFT),
)

__all__ = ["BUILT_IN", "Method", "check_installed", "method", "methods", "parse_config"]


@cache
def methods() -> Mapping[str, Method]:
    """All registered methods by name, the built-in ones first."""
    found = {m.name: m for m in BUILT_IN}
    for entry in entry_points(group="tuneoff.methods"):
        found.setdefault(entry.name, entry.load())
    return found


def method(name: str, *, file: str | None = None) -> Method:
    """The method of this name; `BadInput` that names the nearest one if there is none."""
    try:
        return methods()[name]
    except KeyError:
        issue = Issue(f"unknown method {name!r}", file=file, hint=nearest(name, methods()))
        raise BadInput(issue) from None


def check_installed(method: Method) -> None:
    """Raise `MissingExtra` if an optional package that the method needs is not installed."""
    for package, extra in method.requires.items():
        if find_spec(package) is None:
            raise MissingExtra(package, extra, f"The method {method.name!r}")


def parse_config(method: Method, settings: Mapping[str, Any], *, file: str | None = None) -> Any:
    """The method's config with `settings` over its defaults.

    Raises `BadInput` for a setting that the method does not have (naming the nearest of its own
    settings and the training settings of an entry) and for a value of a wrong type.
    """
    own = {f.name for f in fields(method.config)}
    found = IssueList(
        Issue(
            f"method {method.name!r} has no setting {key!r}",
            file=file,
            hint=nearest(key, own.union(METHOD_TRAIN_KEYS)),
        )
        for key in settings
        if key not in own
    )
    known = read_values(
        method.config, {key: value for key, value in settings.items() if key in own}
    )
    config: Any = None
    with found.collecting():
        config = validated(method.config, known, file=file, where=f"method {method.name!r}: ")
    found.raise_any()
    return config


def config_to_plain(config: Any) -> dict[str, Any]:
    """A config as JSON and YAML hold it."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(config).items()
    }
