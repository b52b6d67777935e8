"""Load a pretrained model as a classifier and prepare it for a method."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.engine.kernels.dropout import use_byte_dropout
from tuneoff.engine.kernels.low_rank_linear import fuse_low_rank
from tuneoff.engine.kernels.packed_forward import Classifier, choose_padding
from tuneoff.engine.model.architecture import EncoderArchitecture, describe
from tuneoff.engine.model.weights import check_weights
from tuneoff.exceptions import BadInput, MissingExtra
from tuneoff.methods import method as registered
from tuneoff.methods import parse_config
from tuneoff.methods.base import Hook, Method, ParamGroup

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PreparedModel:
    """A classifier to which a method was applied, ready for training."""

    classifier: Classifier
    masters: dict[str, Tensor]
    """Float32 values of the trainable weights, by name."""
    param_groups: dict[str, ParamGroup]
    """Settings of the body's weights, by name, if the method changes those of the run."""
    hook: Hook
    """Callbacks of the method in the training loop."""
    dropout: np.random.Generator | None
    """Random generator of dropout; None: PyTorch's."""


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
) -> PreparedModel:
    """Load the model in `path` with a head for `labels` and apply a method to it.

    Args:
        path: Folder of the pretrained model.
        labels: Label set of the study.
        method: The method.
        config: Settings of the method.
        dtype: Data type of the body's computation; the head computes in float32.
        device: Device of the result.
        attention_dropout: Dropout probability of the attention; "model": keep that of the model.
        seed: Seed of everything that is drawn: the head, weights of adapters, dropout.

    Raises:
        BadInput: The method cannot be applied to the model.
    """
    from transformers import set_seed

    set_seed(seed)
    model, architecture = pretrained(
        path,
        labels,
        quantized=method.quantized,
        dtype=dtype,
        device=device,
        attention_dropout=attention_dropout,
    )
    for name in architecture.head:
        model.get_submodule(name).float()
    assert method.apply is not None
    trained = method.apply(model, architecture, config)
    _set_head(trained, architecture, method.trains_head)
    hook = method.hook(trained, config) if method.hook else Hook()
    padding = choose_padding(trained, architecture, dtype if method.quantized else torch.float32)
    masters = lower(trained, architecture, dtype)
    if not method.quantized:  # after `lower`, so that the device never stores the body in float32
        trained.to(device)
        masters = {name: master.to(device) for name, master in masters.items()}
    fuse_low_rank(trained)
    dropout = use_byte_dropout(trained, seed) if device.type == "cpu" else None
    param_groups = {}
    if method.param_group:
        body = [name for name in masters if not architecture.is_head(name)]
        param_groups = {name: method.param_group(name, architecture, config) for name in body}
    classifier = Classifier(trained, architecture, padding)
    return PreparedModel(classifier, masters, param_groups, hook, dropout)


def check_fits(
    path: Path,
    name: str,
    settings: Mapping[str, Any],
    labels: Sequence[str],
    *,
    longest: int,
) -> None:
    """Check that a method can be applied to a model, without loading the weights.

    Args:
        path: Folder of the pretrained model.
        name: Name of the method.
        settings: Settings of the method.
        labels: Label set of the study.
        longest: Number of tokens of the longest text.

    Raises:
        BadInput: The method cannot be applied. In the message, "it" is the method.
    """
    from transformers import AutoModelForSequenceClassification

    method = registered(name)
    if method.apply is None:
        return
    config = parse_config(method, settings)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(_labelled(path, labels))
        architecture = describe(model)
        try:
            method.apply(model, architecture, config)
        except BadInput:
            raise
        except Exception as error:  # PEFT raises various exceptions for unsupported families
            raise BadInput(
                f"it cannot be applied to a {architecture.model_type} model:"
                f" {type(error).__name__}: {error}",
                hint="Choose another method.",
            ) from error
    if method.virtual_tokens is None or architecture.positions is None:
        return
    room = architecture.positions - method.virtual_tokens(config)
    if longest > room:
        raise BadInput(
            f"its virtual tokens leave room for {room} tokens of a text, but the longest text has"
            f" {longest}",
            hint=f"Set train.max_length to {room} or less."
            if room > 0
            else "Use fewer virtual tokens.",
        )


@torch.no_grad()
def lower(
    model: nn.Module, architecture: EncoderArchitecture, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Convert the weights of the body to `dtype`.

    Returns:
        Float32 values of the trainable weights, by name.
    """
    masters: dict[str, Tensor] = {}
    for name, parameter in counted_parameters(model).items():
        if parameter.requires_grad:
            masters[name] = parameter.detach().float()
        if parameter.is_floating_point() and not architecture.is_head(name):
            parameter.data = parameter.data.to(dtype)
        if parameter.requires_grad and parameter.dtype == torch.float32:
            masters[name] = parameter  # no copy is needed
    for module in model.modules():
        if type(module).__name__ == "BufferDict":  # PEFT's frozen matrices that adapters share
            module.to(dtype)
    return masters


def _labelled(path: Path, labels: Sequence[str]) -> Any:
    """Return the configuration in `path` for a classifier with the given labels."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        path,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="single_label_classification",
        trust_remote_code=False,
    )
    if config.pad_token_id is None:  # decoders: the head finds the last token by the padding
        config.pad_token_id = pad_token(path)
    without_cache(config)
    return config


def without_cache(config: Any) -> None:
    """Disable the key-value cache of decoders, because a classifier reads each text only once."""
    if hasattr(config, "use_cache"):
        config.use_cache = False


def pretrained(
    path: Path,
    labels: Sequence[str],
    *,
    quantized: bool,
    dtype: torch.dtype,
    device: torch.device,
    attention_dropout: float | str = "model",
) -> tuple[PreTrainedModel, EncoderArchitecture]:
    """Load the model in `path` with a head for `labels`, and describe it.

    Args:
        path: Folder of the pretrained model.
        labels: Label set of the study.
        quantized: Whether to quantise the body to 4 bits.
        dtype: Data type of the computation of a quantised body.
        device: Device of a quantised model.
        attention_dropout: Dropout probability of the attention; "model": keep that of the model.

    Returns:
        The model, in float32 on the CPU unless it is quantised, and its description.

    Raises:
        ModelUnavailable: The files do not contain all weights of the body.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    hush_libraries()
    config = _labelled(path, labels)
    if attention_dropout != "model":
        for key in ("attention_probs_dropout_prob", "attention_dropout"):
            if hasattr(config, key):
                setattr(config, key, float(attention_dropout))
    four_bits = quantization(config, dtype, device) if quantized else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about weights of the checkpoint's head
        model, loading_info = AutoModelForSequenceClassification.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # checked below: only the head may differ in size
            output_loading_info=True,
            **four_bits,
        )
    architecture = describe(model)
    check_weights(path, model, architecture, loading_info)
    never_repacked(model)
    original = AutoConfig.from_pretrained(path, trust_remote_code=False).id2label
    if [original[i] for i in sorted(original)] != list(labels):
        _forget_labels(model, architecture, loading_info)
    return model, architecture


@torch.no_grad()
def _forget_labels(
    model: PreTrainedModel, architecture: EncoderArchitecture, loading_info: Mapping[str, Any]
) -> None:
    """Initialise the output layer at random, because its labels or their order are different.

    Nothing is done if `loading_info` shows that Transformers already initialised the layer.
    """
    drawn = {*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])}
    name, layer = [
        (name, module)
        for part in architecture.head
        for name, module in model.get_submodule(part).named_modules(prefix=part)
        if isinstance(module, nn.Linear)
    ][-1]
    if f"{name}.weight" in drawn:
        return
    layer.weight.normal_(0, _initial_spread(model.config))
    if layer.bias is not None:
        layer.bias.zero_()


def _initial_spread(config: Any) -> float:
    """Return the standard deviation of new weights; by default that of Transformers.

    BART, XLM and FlauBERT call it `init_std`.
    """
    values = (getattr(config, key, None) for key in ("initializer_range", "init_std"))
    return float(next((value for value in values if value is not None), 0.02))


def quantization(config: Any, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return options of `from_pretrained` for NF4 with double quantisation of the body.

    The head is not quantised. Its modules are listed with complete names, because a skip list with
    `pooler` would not cover `bert.pooler.dense`.

    Args:
        config: Configuration of the model.
        dtype: Data type of the computation.
        device: Device of the model.

    Raises:
        MissingExtra: bitsandbytes is not installed.
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


def never_repacked(model: nn.Module) -> None:
    """Prevent bitsandbytes from repacking 4-bit weights.

    On a CPU with bf16 instructions, it repacks them at the first forward pass in evaluation mode.
    Afterwards no gradient passes through the layer, and the second epoch would fail.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _set_head(model: nn.Module, architecture: EncoderArchitecture, trains: bool) -> None:
    """Make the head trainable or not; if an adapter copied the head, only the copy may train."""
    for name, parameter in model.named_parameters():
        if architecture.is_head(name):
            parameter.requires_grad_(trains and ".original_module." not in name)


def pad_token(path: Path) -> int:
    """Return the id of the tokenizer's padding token, or of its end token if it has none."""
    tokenizer = load_tokenizer(path)
    token = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id or 0) if token is None else int(token)


def counted_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return all weights by name, each once; if an adapter copied the head, only the copy."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if ".original_module." not in name
    }


def hush_libraries() -> None:
    """Hide warnings of libraries: a new head is intended, and bitsandbytes may lack CPU kernels."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
