"""From a run's folder to one plain float32 classifier, with the adapter merged into the weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tuneoff.engine.kernels.packed_forward import has_virtual_tokens
from tuneoff.engine.model.load import quantization
from tuneoff.engine.model.padding import SAME, Padding, find_padding
from tuneoff.engine.model.saved import REBUILT, open_saved
from tuneoff.engine.model.untrusted_files import check_saved
from tuneoff.engine.training import classical
from tuneoff.exceptions import BadInput, Issue
from tuneoff.methods import method
from tuneoff.results.record import RunRecord
from tuneoff.results.store import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFIX = "base_model.model."
"""Prefix that PEFT adds to the names of a model's parameters."""


@dataclass(frozen=True)
class MergedModel:
    """The classifier of a run as one Transformers model, in float32 on the CPU."""

    model: PreTrainedModel
    padding: Padding
    """Padding under which a text's logits do not depend on the other texts of its batch."""
    quantized: bool = False
    """Whether the run's model has a 4-bit base, whose kernels round more than float32 does."""
    added_modules: bool = False
    """Whether the model has modules that its Transformers class does not build by itself."""
    notes: list[str] = field(default_factory=list)
    """How the model differs from the one that was trained."""


def merge(folder: RunFolder, record: RunRecord) -> MergedModel:
    """Load a run's model and merge its adapter into the weights.

    A 4-bit base is dequantised to float32 first, so that the merged model computes with the values
    that the adapter was trained on.

    Args:
        folder: Folder of a finished run.
        record: Its record.

    Raises:
        BadInput: The run has no encoder, or its method cannot be merged.
    """
    name = record.method.method
    if classical.is_saved_in(folder.model):
        raise _refused(folder, name, "it has no neural network", "Use tuneoff predict instead.")
    check_saved(folder.model)
    quantized = method(name).quantized
    model, notes = _opened(folder, name, quantized=quantized)
    model.requires_grad_(False)
    padding = find_padding(model, model, SAME[torch.float32])
    added_modules = (folder.model / REBUILT).is_file()
    return MergedModel(model, padding, quantized, added_modules, notes)


def _opened(folder: RunFolder, name: str, *, quantized: bool) -> tuple[Any, list[str]]:
    if quantized:
        opened, notes = _dequantized(folder.model)
    else:
        opened, notes = open_saved(folder.model, quantized=False), []
    if not hasattr(opened, "peft_config"):
        return opened, notes
    if has_virtual_tokens(opened):
        raise _refused(
            folder,
            name,
            "its virtual tokens are an input of each text, not a change of the weights, so they"
            " cannot be merged",
            "Use the run's folder with tuneoff predict, or export a run of another method.",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # Not `merge_and_unload`, which fails in PEFT 0.21 if a head has submodules.
            opened.base_model.merge_adapter()
        except (ValueError, NotImplementedError, AttributeError) as error:
            problem = f"PEFT cannot merge its adapter: {error}"
            raise _refused(folder, name, problem, "Export a run of another method.") from error
    notes.append("The adapter was merged into the weights in float32.")
    return _without_wrapper(opened, folder.model / "base"), notes


def _refused(folder: RunFolder, name: str, problem: str, hint: str) -> BadInput:
    return BadInput(
        Issue(
            f"a model of the method {name!r} cannot be exported: {problem}",
            str(folder.path),
            hint=hint,
        )
    )


def _dequantized(folder: Path) -> tuple[Any, list[str]]:
    """Return a model with a 4-bit base, with the base's weights as the float32 values they mean."""
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification

    base = folder / "base" if (folder / "base").is_dir() else folder
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    four_bits = quantization(config, torch.float32, torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            base, config=config, dtype=torch.float32, use_safetensors=True, **four_bits
        )
        model = model.dequantize(dtype=torch.float32).float()
        if base != folder:
            model = PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
    return model.eval(), ["The 4-bit weights of the base model were dequantised to float32."]


def _without_wrapper(adapted: Any, base: Path) -> PreTrainedModel:
    """Return a Transformers model with the merged weights of a PEFT model.

    Args:
        adapted: The PEFT model, merged.
        base: Folder with the configuration of the base model.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    plain: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    merged = _merged_state(adapted)
    expected = plain.state_dict()
    missing = [key for key in expected if key not in merged]
    if missing:
        raise BadInput(f"the merged model has no weight {missing[0]!r}.")
    plain.load_state_dict({key: merged[key] for key in expected})
    plain.eval()
    return plain  # type: ignore[no-any-return]


def _merged_state(adapted: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a merged PEFT model by the names that they have without PEFT."""
    found: dict[str, Tensor] = {}
    for key, value in adapted.state_dict().items():
        if ".original_module." in key:  # the head before training, of which PEFT trains a copy
            continue
        plain = key.removeprefix(PREFIX).replace(".base_layer.", ".")
        plain = plain.replace(".modules_to_save.default.", ".")
        found[plain] = value.float() if value.is_floating_point() else value
    return found
