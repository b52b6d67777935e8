"""From a pretrained model to the classifier that a method trains."""

from __future__ import annotations

import json
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
    """A classifier that a method made ready to train."""

    classifier: Classifier
    masters: dict[str, Tensor]
    """By name, the float32 values of the weights that train."""
    param_groups: dict[str, ParamGroup]
    """By name, the body's weights that train otherwise than the run's settings say."""
    hook: Hook
    """What the method does beside the plain loop."""
    dropout: np.random.Generator | None
    """What dropout draws from; None: PyTorch's own generator."""


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
    """The model in `path` with a head for `labels`, made ready for `method`, on `device`.

    The body computes in `dtype`, the head in float32. The seed is set before anything is drawn.
    Raises `BadInput` where the method does not fit the model.
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
    if not method.quantized:  # lowered first: the device never holds the body in float32
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
    """Try the method `name` on the outline of the model in `path`, without its weights.

    `longest`: tokens of the longest text. Raises `BadInput` with the reason where it does not fit.
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
        except Exception as error:  # of PEFT, on a family that it was not written for
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
            f"its virtual tokens leave room for texts of {room} tokens, and the longest has"
            f" {longest}",
            hint=f"Set train.max_length to {room} or less."
            if room > 0
            else "Take fewer virtual tokens.",
        )


@torch.no_grad()
def lower(
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
    for module in model.modules():
        if type(module).__name__ == "BufferDict":  # PEFT's: frozen matrices that adapters share
            module.to(dtype)
    return masters


def _labelled(path: Path, labels: Sequence[str]) -> Any:
    """The configuration in `path`, of a classifier for `labels`."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        path,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="single_label_classification",
        trust_remote_code=False,
    )
    if config.pad_token_id is None:  # of decoders; their head looks for the last token before it
        config.pad_token_id = pad_token(path)
    _without_cache(config)
    return config


def _without_cache(config: Any) -> None:
    """Let no decoder fill a key-value cache: a classifier reads each text once."""
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
    """Return the model in `path` with a head for `labels`, in float32 on the CPU, and its
    description; a quantised model in 4 bits on `device`, computing in `dtype`.

    Raises:
        ModelUnavailable: A weight other than the head's would not come from the files.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    _hush()
    config = _labelled(path, labels)
    if attention_dropout != "model":
        for key in ("attention_probs_dropout_prob", "attention_dropout"):
            if hasattr(config, key):
                setattr(config, key, float(attention_dropout))
    four_bits = quantization(config, dtype, device) if quantized else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, on keys of a checkpoint's own head
        model, found = AutoModelForSequenceClassification.from_pretrained(
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
    check_weights(path, model, architecture, found)
    _never_repacked(model)
    own = AutoConfig.from_pretrained(path, trust_remote_code=False).id2label
    if [own[i] for i in sorted(own)] != list(labels):
        _forget_labels(model, architecture, found)
    return model, architecture


@torch.no_grad()
def _forget_labels(
    model: PreTrainedModel, architecture: EncoderArchitecture, found: Mapping[str, Any]
) -> None:
    """Draw the checkpoint's own output layer anew: it speaks of other labels, or of these in
    another order. `found`: what loading told; a layer that was missing is drawn already."""
    drawn = {*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}
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
    """Return the standard deviation of new weights; Transformers' default where a family has none.

    BART, XLM and FlauBERT call it `init_std`.
    """
    known = (getattr(config, key, None) for key in ("initializer_range", "init_std"))
    return float(next((value for value in known if value is not None), 0.02))


def quantization(config: Any, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Options of `from_pretrained`: NF4 with double quantisation for the body alone.

    The head is named in full and stays as it is. Raises `MissingExtra` without bitsandbytes.

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


def pad_token(path: Path) -> int:
    """The token that the tokenizer in `path` pads with; of one that never pads, a text's end."""
    tokenizer = load_tokenizer(path)
    found = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id or 0) if found is None else int(found)


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
    adapter, rebuilt = folder / "adapter_config.json", folder / REBUILT
    base = folder / "base" if adapter.is_file() or rebuilt.is_file() else folder
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    _without_cache(config)
    model: nn.Module
    model, found = AutoModelForSequenceClassification.from_pretrained(
        base,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        **(quantization(config, dtype, device) if quantized else {}),
    )
    architecture = describe(model)  # type: ignore[arg-type]
    check_weights(base, model, architecture, found, with_head=base == folder)  # type: ignore[arg-type]
    _never_repacked(model)
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


REBUILT = "method.json"
"""Beside a model to which a method added modules that neither Transformers nor PEFT know."""


def _rebuild(model: nn.Module, architecture: EncoderArchitecture, folder: Path) -> nn.Module:
    """Let the method add its modules again, and fill in what was trained."""
    from safetensors.torch import load_file

    saved = json.loads((folder / REBUILT).read_text(encoding="utf-8"))
    method = registered(saved["method"])
    assert method.apply is not None
    model = method.apply(model, architecture, parse_config(method, saved["config"]))
    model.load_state_dict(load_file(folder / "trained.safetensors"), strict=False)
    return model


def _hush() -> None:
    """Hide remarks of libraries: a new head is intended, and bitsandbytes may lack CPU kernels."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
