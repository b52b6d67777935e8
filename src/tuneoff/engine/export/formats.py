"""The formats of an export: one entry for each, with the function that writes the model."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tuneoff.engine.export.merge import MergedModel
from tuneoff.exceptions import BadInput, MissingExtra, nearest

SAMPLE_TEXTS = ("a", "a longer text of a few words")
"""Texts of the batch that the exporters trace. Two texts of different lengths, because an exporter
takes a dimension of 1 for a constant."""

SINGLE_FILE_BYTES = 1_900_000_000
"""Largest model that is written to one ONNX file. Protobuf limits a file to 2 GiB; the weights of
larger models are in a second file."""

Write = Callable[[MergedModel, Any, Path], None]
"""`write(merged, tokenizer, folder)`: write the model's own files into `folder`."""


@dataclass(frozen=True)
class Format:
    """A format of an export."""

    name: str
    summary: str
    write: Write
    runtime: str
    """Key of the reader: `transformers`, `onnx` or `openvino`."""
    requires: dict[str, str] = field(default_factory=dict)
    """Modules that the format needs, with the package of each."""
    lossy: bool = False
    """Whether the format rounds the weights, so that predictions may change."""

    def check_installed(self) -> None:
        """Raise `MissingExtra` if a package that the format needs is missing."""
        for module, package in self.requires.items():
            if find_spec(module) is None:
                raise MissingExtra(package, "export", f"The export format {self.name!r}")


def format_of(name: str) -> Format:
    """Return the format called `name`; raise `BadInput` with similar names if it is unknown."""
    if name not in FORMATS:
        listed = ", ".join(FORMATS)
        raise BadInput(
            f"unknown export format {name!r}; formats are {listed}.", hint=nearest(name, FORMATS)
        )
    return FORMATS[name]


def _transformers(merged: MergedModel, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    if merged.added_modules:
        raise BadInput(
            "the method adds modules that the classes of Transformers do not have, so the format"
            " 'transformers' cannot hold the model.",
            hint="Use --format onnx or openvino, which save the computation with the weights.",
        )
    model: Any = merged.model
    model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(folder)


def _onnx(merged: MergedModel, tokenizer: Any, folder: Path) -> None:
    import onnx_ir
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    with _quiet():
        exported = OnnxExporter().export(
            merged.model, sample_inputs(merged, tokenizer), config=OnnxConfig(dynamic=True)
        )
    size = sum(weight.nbytes for weight in merged.model.state_dict().values())
    beside = None if size < SINGLE_FILE_BYTES else "model.onnx_data"
    # Transformers 5.18 returns the program itself.
    program: Any = getattr(exported, "program", exported)
    graph: Any = getattr(program, "model", program)
    onnx_ir.save(graph, str(folder / "model.onnx"), external_data=beside)
    merged.model.config.save_pretrained(folder)


def _onnx_int8(merged: MergedModel, tokenizer: Any, folder: Path) -> None:
    """Write int8 weights; activations are quantised when the model runs.

    Weights have one scale per output channel. Products of 8-bit integers saturate on processors
    without VNNI unless a bit is left free (`reduce_range`).
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _onnx(merged, tokenizer, folder)
    exact, quantized = folder / "model.onnx", folder / "quantized.onnx"
    with _quiet():
        model = onnx.load(str(exact))
        # Shapes of initializers are inferred again after some weights were transposed in place.
        names = {initializer.name for initializer in model.graph.initializer}
        kept = [value for value in model.graph.value_info if value.name not in names]
        del model.graph.value_info[:]
        model.graph.value_info.extend(kept)
        quantize_dynamic(
            model, str(quantized), per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )
    (folder / "model.onnx_data").unlink(missing_ok=True)
    quantized.replace(exact)


def _openvino(merged: MergedModel, tokenizer: Any, folder: Path) -> None:
    import openvino
    from transformers.exporters.configs import OpenVINOConfig
    from transformers.exporters.exporter_openvino import OpenVINOExporter

    with _quiet():
        exported = OpenVINOExporter().export(
            merged.model, sample_inputs(merged, tokenizer), config=OpenVINOConfig(dynamic=True)
        )
    # OpenVINO would round the weights to float16 by default.
    program = getattr(exported, "program", exported)
    openvino.save_model(program, str(folder / "openvino_model.xml"), compress_to_fp16=False)
    merged.model.config.save_pretrained(folder)


def sample_inputs(merged: MergedModel, tokenizer: Any) -> dict[str, Any]:
    """Return the inputs that an exporter traces: (2, tokens) int64 each, as the tokenizer gives."""
    from inspect import signature

    given = tokenizer(list(SAMPLE_TEXTS), padding=True, return_tensors="pt")
    taken = signature(merged.model.forward).parameters
    return {name: value for name, value in given.items() if name in taken}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporters print and log about their progress."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _in(dtype: torch.dtype) -> Write:
    return lambda merged, tokenizer, folder: _transformers(merged, tokenizer, folder, dtype)


_ONNX = {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"}

FORMATS = {
    entry.name: entry
    for entry in (
        Format(
            "transformers",
            "float32 weights for AutoModelForSequenceClassification and pipeline",
            _in(torch.float32),
            "transformers",
        ),
        Format(
            "transformers-bf16",
            "the same in bfloat16, half the size",
            _in(torch.bfloat16),
            "transformers",
            lossy=True,
        ),
        Format(
            "transformers-fp16",
            "the same in float16, half the size, for GPUs",
            _in(torch.float16),
            "transformers",
            lossy=True,
        ),
        Format("onnx", "float32 for ONNX Runtime", _onnx, "onnx", _ONNX),
        Format(
            "onnx-int8",
            "int8 weights for ONNX Runtime on a CPU, a quarter of the size",
            _onnx_int8,
            "onnx",
            _ONNX,
            lossy=True,
        ),
        Format(
            "openvino",
            "float32 for OpenVINO",
            _openvino,
            "openvino",
            {"openvino": "openvino"},
        ),
    )
}
"""All formats by name."""
