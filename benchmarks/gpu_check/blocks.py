"""Blocks of the check in order of importance, with their time limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from check import Check


@dataclass(frozen=True)
class Block:
    """One part of the check, run in its own process."""

    name: str
    where: str
    """`module:function` in this folder; the function takes a `Check` and `options`."""
    timeout: float
    """Seconds after which its process is killed."""
    alone: bool = False
    """Whether it measures speed, so that no other block may run at the same time."""
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, check: Check) -> None:
        """Run the block in this process."""
        module, function = self.where.split(":")
        getattr(import_module(module), function)(check, **self.options)


def _trainer(texts: str, method: str, batch_size: int, steps: int, eager: bool = False) -> Block:
    options: dict[str, Any] = {"texts": texts, "method": method, "batch_size": batch_size}
    options |= {"steps": steps, "eager": eager}
    name = f"trainer-{'reviews' if texts == 'imdb' else texts}-{method}-{batch_size}"
    return Block(name, "training:side_by_side", 90, alone=True, options=options)


METHOD_SHARES = 4
"""Number of processes over which the methods are distributed."""

BLOCKS = (
    Block("versions", "machine_facts:versions", 60),
    Block("rates", "rates:rates", 45, alone=True),
    Block("varlen", "attention_error:varlen", 60),
    *(
        Block(f"methods-{i + 1}", "methods:methods", 120, options={"share": i})
        for i in range(METHOD_SHARES)
    ),
    Block("resume", "methods:resume", 150),
    Block("graphs", "methods:graphs", 120),
    Block("precisions", "methods:precisions", 90),
    Block("memory", "memory:memory", 90),
    Block("compare", "studies:compare", 120),
    Block("synchronisations", "steps:synchronisations", 90),
    _trainer("snli", "full", 8, 150, eager=True),
    _trainer("imdb", "full", 32, 120),
    Block("profile-snli-full-8", "steps:profile", 60, alone=True, options={"texts": "snli"}),
    Block("profile-reviews-full-32", "steps:profile", 60, alone=True, options={"texts": "imdb"}),
    _trainer("snli", "lora", 8, 150),
    _trainer("imdb", "lora", 32, 120),
    _trainer("snli", "full", 32, 150),
    _trainer("imdb", "qlora", 16, 120),
)


def chosen(names: str | None) -> list[Block]:
    """Return the blocks that `names` lists, separated by commas, in this order; None: all.

    A name may also be a prefix: "trainer" selects all blocks whose names begin with it.
    """
    if names is None:
        return list(BLOCKS)
    asked = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [a for a in asked if not any(b.name.startswith(a) for b in BLOCKS)]
    if unknown:
        known = ", ".join(block.name for block in BLOCKS)
        raise SystemExit(f"There is no block {unknown[0]!r}. Blocks: {known}.")
    found = [block for a in asked for block in BLOCKS if block.name.startswith(a)]
    return list({block.name: block for block in found}.values())
