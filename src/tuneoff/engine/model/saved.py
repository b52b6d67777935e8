"""Opening the saved model of a run: to predict with tuneoff's kernels, or as other programs do."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuneoff.engine.kernels.low_rank_linear import fuse_low_rank
from tuneoff.engine.kernels.packed_forward import Classifier, choose_padding
from tuneoff.engine.model.architecture import EncoderArchitecture, describe
from tuneoff.engine.model.kv_cache import pass_prefix
from tuneoff.engine.model.load import (
    hush_libraries,
    lower,
    never_repacked,
    quantization,
    without_cache,
)
from tuneoff.engine.model.weights import check_weights
from tuneoff.methods import method as registered
from tuneoff.methods import parse_config

REBUILT = "method.json"
"""File that marks a saved model with added modules that neither Transformers nor PEFT can build."""


def load_trained(
    folder: Path, *, quantized: bool, dtype: torch.dtype, device: torch.device
) -> Classifier:
    """Load the saved model of a run for prediction.

    Args:
        folder: Folder of the saved model.
        quantized: Whether the body is quantised to 4 bits.
        dtype: Data type of the body's computation.
        device: Device of the model.

    Returns:
        The model in evaluation mode.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    hush_libraries()
    adapter, rebuilt = folder / "adapter_config.json", folder / REBUILT
    base = folder / "base" if adapter.is_file() or rebuilt.is_file() else folder
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    without_cache(config)
    model: nn.Module
    model, loading_info = AutoModelForSequenceClassification.from_pretrained(
        base,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        **(quantization(config, dtype, device) if quantized else {}),
    )
    architecture = describe(model)  # type: ignore[arg-type]
    check_weights(base, model, architecture, loading_info, with_head=base == folder)  # type: ignore[arg-type]
    never_repacked(model)
    for name in architecture.head:
        model.get_submodule(name).float()
    if rebuilt.is_file():
        model = _rebuild(model, architecture, folder)
    elif adapter.is_file():
        import peft

        model = peft.PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
    padding = choose_padding(model, architecture, dtype if quantized else torch.float32)
    if not quantized:
        model.to(device)
    model.requires_grad_(False)
    lower(model, architecture, dtype)
    fuse_low_rank(model)
    return Classifier(model, architecture, padding).eval()


def open_saved(folder: Path, *, quantized: bool) -> nn.Module:
    """Load a saved model in float32 on the CPU, as a program without tuneoff's kernels does.

    Transformers or PEFT opens it, and prefixes that PEFT cannot pass on are fixed. A method whose
    modules neither can build is applied again.

    Args:
        folder: Folder of the saved model.
        quantized: Whether to load the base in 4 bits.
    """
    if (folder / REBUILT).is_file():
        return _open_rebuilt(folder)
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoConfig, AutoModelForSequenceClassification

    hush_libraries()
    adapter = (folder / "adapter_config.json").is_file()
    kind = AutoPeftModelForSequenceClassification if adapter else AutoModelForSequenceClassification
    options: dict[str, Any] = {"dtype": torch.float32}
    if quantized:
        base = AutoConfig.from_pretrained(folder / "base" if adapter else folder)
        options |= quantization(base, torch.float32, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, about the ranks of AdaLoRA
        model: nn.Module = kind.from_pretrained(folder, **options).eval()
    pass_prefix(model)
    return model


def _open_rebuilt(folder: Path) -> nn.Module:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    hush_libraries()
    base = folder / "base"
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    without_cache(config)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, config=config, dtype=torch.float32, use_safetensors=True
    )
    _rebuild(model, describe(model), folder)
    model.eval()
    return model  # type: ignore[no-any-return]


def _rebuild(model: nn.Module, architecture: EncoderArchitecture, folder: Path) -> nn.Module:
    """Apply the method again to add its modules, and load the trained weights."""
    from safetensors.torch import load_file

    saved = json.loads((folder / REBUILT).read_text(encoding="utf-8"))
    method = registered(saved["method"])
    assert method.apply is not None
    model = method.apply(model, architecture, parse_config(method, saved["config"]))
    model.load_state_dict(load_file(folder / "trained.safetensors"), strict=False)
    return model
