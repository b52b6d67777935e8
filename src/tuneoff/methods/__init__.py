"""Registry of the methods, each of which has its own file.

Other packages register a `Method` under the entry-point group `tuneoff.methods`.
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
    """Return all registered methods by name, the built-in ones first."""
    registered = {m.name: m for m in BUILT_IN}
    for entry in entry_points(group="tuneoff.methods"):
        registered.setdefault(entry.name, entry.load())
    return registered


def method(name: str, *, file: str | None = None) -> Method:
    """Return the method of this name.

    Args:
        name: Name of the method.
        file: Study file that names it, for the message.

    Raises:
        BadInput: There is no such method; the hint names the most similar one.
    """
    try:
        return methods()[name]
    except KeyError:
        issue = Issue(f"unknown method {name!r}", file=file, hint=nearest(name, methods()))
        raise BadInput(issue) from None


def check_installed(method: Method) -> None:
    """Raise `MissingExtra` if an optional dependency of the method is not installed."""
    for package, extra in method.requires.items():
        if find_spec(package) is None:
            raise MissingExtra(package, extra, f"The method {method.name!r}")


def parse_config(method: Method, settings: Mapping[str, Any], *, file: str | None = None) -> Any:
    """Return the config of a method, with its defaults for all that is not in `settings`.

    Args:
        method: The method.
        settings: Values of its own settings.
        file: Study file that they come from, for the messages.

    Raises:
        BadInput: The method has no such setting, or a value has the wrong type or range. For an
            unknown setting, the hint names the most similar setting of the method or of training.
    """
    own = {f.name for f in fields(method.config)}
    issues = IssueList(
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
    with issues.collecting():
        config = validated(method.config, known, file=file, where=f"method {method.name!r}: ")
    issues.raise_any()
    return config


def config_to_plain(config: Any) -> dict[str, Any]:
    """Return a config as plain values for JSON and YAML."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(config).items()
    }
