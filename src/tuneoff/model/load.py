"""From a pretrained model to the classifier that a method trains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tuneoff.errors import MissingExtra
from tuneoff.methods.base import Method
from tuneoff.model.architecture import EncoderArchitecture, describe
from tuneoff.model.dropout import use_byte_dropout
from tuneoff.model.packed import Classifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_classifier(
    path: Path,
    labels: Sequence[str],
    method: Method,
    config: Any,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attention_dropout: float | str,
    seed: int,
) -> tuple[Classifier, dict[str, Tensor]]:
    """The model in `path` with a head for `labels`, made ready for `method`, on `device`.

    The body computes in `dtype`, the head in float32. Beside the classifier come the float32
    masters, by name, of the weights that train. The seed is set before anything is drawn.
    """
    from transformers import set_seed

    set_seed(seed)
    model = _pretrained(path, labels, method, dtype, device, attention_dropout)
    _never_repacked(model)
    architecture = describe(model)
    for name in architecture.head:
        model.get_submodule(name).float()
    assert method.apply is not None
    trained = method.apply(model, architecture, config)
    _set_head(trained, architecture, method.trains_head)
    masters = _lower(trained, architecture, dtype)
    if not method.quantized:  # lowered first: the device never holds the body in float32
        trained.to(device)
        masters = {name: master.to(device) for name, master in masters.items()}
    if device.type == "cpu":
        use_byte_dropout(trained, seed)
    return Classifier(trained, architecture), masters


@torch.no_grad()
def _lower(
    model: nn.Module, architecture: EncoderArchitecture, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Put the body's weights into `dtype`; the float32 values of those that train, by name."""
    masters: dict[str, Tensor] = {}
    for name, parameter in counted_parameters(model).items():
        if parameter.requires_grad:
            masters[name] = parameter.detach().float()
        if parameter.is_floating_point() and not architecture.is_head(name):
            parameter.data = parameter.data.to(dtype)
        if parameter.requires_grad and parameter.dtype == torch.float32:
            masters[name] = parameter  # the model's own tensor is the master
    return masters


def _pretrained(
    path: Path,
    labels: Sequence[str],
    method: Method,
    dtype: torch.dtype,
    device: torch.device,
    attention_dropout: float | str,
) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    _hush()
    config = AutoConfig.from_pretrained(
        path,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="single_label_classification",
        trust_remote_code=False,
    )
    if attention_dropout != "model":
        for key in ("attention_probs_dropout_prob", "attention_dropout"):
            if hasattr(config, key):
                setattr(config, key, float(attention_dropout))
    quantization = _four_bits(config, dtype, device) if method.quantized else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, on keys of a checkpoint's own head
        return AutoModelForSequenceClassification.from_pretrained(  # type: ignore[no-any-return]
            path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # a head for other labels is drawn anew
            **quantization,
        )


def _four_bits(config: Any, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """NF4 with double quantisation for the body; the head is named in full and stays as it is.

    Names of the head's modules must be complete: a skip list with `pooler` alone would not cover
    `bert.pooler.dense`.
    """
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise MissingExtra("bitsandbytes", "qlora", "The method 'qlora'")
    from transformers import AutoModelForSequenceClassification, BitsAndBytesConfig

    with torch.device("meta"):
        architecture = describe(AutoModelForSequenceClassification.from_config(config))
        head = architecture.head
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=list(head),
        ),
        "device_map": {"": device},
    }


def _never_repacked(model: nn.Module) -> None:
    """Keep 4-bit weights as they are.

    On a CPU with bf16 products, bitsandbytes repacks them at the first forward pass in evaluation,
    and from then on no gradient passes through their layer: the second epoch would fail.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _set_head(model: nn.Module, architecture: EncoderArchitecture, trains: bool) -> None:
    """Train the head, or not; of a head that an adapter copied, the copy."""
    for name, parameter in model.named_parameters():
        if architecture.is_head(name):
            parameter.requires_grad_(trains and ".original_module." not in name)


def counted_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every weight once: of a head that an adapter copied, the copy alone."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if ".original_module." not in name
    }


def load_trained(
    folder: Path, *, quantized: bool, dtype: torch.dtype, device: torch.device
) -> Classifier:
    """A saved run's model, ready to predict in the precision that it was trained in."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    _hush()
    adapter = (folder / "adapter_config.json").is_file()
    base = folder / "base" if adapter else folder
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        base,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        **(_four_bits(config, dtype, device) if quantized else {}),
    )
    _never_repacked(model)
    architecture = describe(model)  # type: ignore[arg-type]
    for name in architecture.head:
        model.get_submodule(name).float()
    if adapter:
        import peft

        model = peft.PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
    if not quantized:
        model.to(device)
    model.requires_grad_(False)
    _lower(model, architecture, dtype)
    return Classifier(model, architecture).eval()


def _hush() -> None:
    """Keep Transformers' remarks on a head that is drawn anew, as it is meant to be, to itself."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
