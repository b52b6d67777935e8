"""Import of bitsandbytes only in the processes that need it.

PEFT imports bitsandbytes if it is installed. The import takes seconds and initialises CUDA, which
a process must not do before it forks. The process that forks therefore loads PEFT as if
bitsandbytes were not installed, and a child that needs 4-bit weights loads PEFT again.
"""

from __future__ import annotations

import importlib
import sys

NAME = "bitsandbytes"


def hide() -> None:
    """Make imports and `find_spec` behave as if bitsandbytes were not installed, until `reveal`."""
    sys.modules.setdefault(NAME, None)  # type: ignore[arg-type]


def reveal() -> None:
    """Undo `hide`, and remove the modules and cached checks that depend on it."""
    if sys.modules.get(NAME, ...) is not None:
        return
    del sys.modules[NAME]
    for name in [n for n in sys.modules if n == "peft" or n.startswith("peft.")]:
        del sys.modules[name]
    for checks in ("transformers.utils.import_utils", "accelerate.utils.imports"):
        for value in vars(importlib.import_module(checks)).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
