"""Shared fixtures: tiny encoders that load in milliseconds, toy data, commands and runs."""

from __future__ import annotations

import contextlib
import csv
import gc
import io
import json
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from warm_workers import WarmWorkers

if TYPE_CHECKING:
    from tuneoff.engine.data.task import Task
    from tuneoff.engine.model.load import PreparedModel
    from tuneoff.results.record import RunRecord, TaskRecord
    from tuneoff.results.store import RunFolder
    from tuneoff.scheduling import Prepared

# Set before torch and Hugging Face libraries are imported, and inherited by child processes. Tiny
# products gain nothing from a second thread, and are much slower if cores are shared.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Each pytest worker and its child processes use one core only: threads of two processes that share
# cores wait for each other ten times as long as they compute.
if (_worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})

# Examples do not fail on slow or busy machines.
settings.register_profile("tuneoff", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tuneoff")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import the tests without garbage collection, which would take 20 % of the time for little."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


TOPICS = {
    "animals": ["cat", "dog", "bird", "horse"],
    "food": ["bread", "milk", "soup", "cheese"],
    "weather": ["rain", "snow", "wind", "storm"],
}
"""The label of a toy text is the topic of its words."""

FILLERS = ["the", "a", "on", "under", "in", "it", "was", "red", "fast", "slow", "here", "there"]

# Small enough to load and train in milliseconds, wide enough to learn the toy data.
_SIZES: dict[str, Any] = {
    "hidden_size": 64,  # bitsandbytes quantises in blocks of 64
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
}
_ROBERTA_SIZES = {**_SIZES, "max_position_embeddings": 130, "type_vocab_size": 1}
_TOKENS = {"bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "roberta": ("<s>", "<pad>", "</s>")}

_ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", _SIZES),
    "distilbert": (
        "bert",
        {
            "dim": 64,
            "hidden_dim": 128,
            "n_layers": 3,
            "n_heads": 4,
            "max_position_embeddings": 128,
        },
    ),
    "electra": ("bert", {**_SIZES, "embedding_size": 128}),
    "roberta": ("roberta", _ROBERTA_SIZES),
    "xlm-roberta": ("roberta", _ROBERTA_SIZES),
    "albert": ("bert", {**_SIZES, "embedding_size": 64}),  # all layers share their weights
    # The following cannot be packed: relative positions, windows, or their own attention.
    "mpnet": ("roberta", {k: v for k, v in _ROBERTA_SIZES.items() if k != "type_vocab_size"}),
    "deberta-v2": (
        "bert",
        {
            **_SIZES,
            "type_vocab_size": 0,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
    "modernbert": (
        "roberta",
        {
            **_SIZES,
            "global_attn_every_n_layers": 2,
            "local_attention": 16,
            "classifier_pooling": "mean",
            "reference_compile": False,
        },
    ),
    "mobilebert": (
        "bert",
        {
            **_SIZES,
            "embedding_size": 64,
            "intra_bottleneck_size": 64,
            "num_feedforward_networks": 2,
        },
    ),
    "funnel": (
        "bert",
        {
            "architectures": ["FunnelModel"],
            "block_sizes": [1, 1, 1],
            "d_model": 64,
            "n_head": 4,
            "d_head": 16,
            "d_inner": 128,
        },
    ),
    "llama": ("roberta", {**_SIZES, "num_key_value_heads": 2}),  # a decoder
    # Not in the conformance suite; each has a special property.
    "xlnet": (
        "bert",
        {"d_model": 64, "n_layer": 3, "n_head": 4, "d_inner": 128},
    ),  # its head reads the last token
    "flaubert": (
        "roberta",
        {"emb_dim": 64, "n_layers": 3, "n_heads": 4},
    ),  # its layers are in four lists
    "xlm": ("roberta", {"emb_dim": 64, "n_layers": 3, "n_heads": 4}),
    "bart": (
        "roberta",
        {
            "d_model": 64,
            "max_position_embeddings": 128,
            **{f"{part}_layers": 3 for part in ("encoder", "decoder")},
            **{f"{part}_attention_heads": 4 for part in ("encoder", "decoder")},
            **{f"{part}_ffn_dim": 128 for part in ("encoder", "decoder")},
        },
    ),
    "roformer": ("bert", {**_SIZES, "embedding_size": 64}),
    "convbert": ("bert", {**_SIZES, "embedding_size": 64}),  # its convolutions read padding
    "squeezebert": ("bert", {**_SIZES, "embedding_size": 64}),  # convolutions of width 1
    "longformer": ("roberta", {**_ROBERTA_SIZES, "attention_window": [16, 16, 16]}),
    "fnet": ("bert", {k: v for k, v in _SIZES.items() if k != "num_attention_heads"}),  # no mask
    # Needs lengths that are multiples of eight, so it is rejected.
    "nystromformer": ("bert", {**_SIZES, "segment_means_seq_len": 64, "num_landmarks": 8}),
}
"""By model type: the model whose special tokens it uses, and its sizes."""

TinyModel = Callable[..., Path]
LoadTiny = Callable[..., "PreparedModel"]
ToyCsv = Callable[..., Path]
ToyTask = Callable[..., "Task"]


@dataclass(frozen=True)
class ToyRun:
    """A run of `run_toy`."""

    record: RunRecord
    folder: RunFolder
    task: Task
    model: Path
    events: list[dict[str, Any]]


RunToy = Callable[..., ToyRun]


def _tokenizer(kind: str) -> Any:
    """Return a word tokenizer like BERT's (token types) or RoBERTa's (pad id 1)."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*(word for words in TOPICS.values() for word in words), *FILLERS]
    if kind == "bert":
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        first, last, pad, unknown = "[CLS]", "[SEP]", "[PAD]", "[UNK]"
        single, pair = f"{first} $A {last}", f"{first}:0 $A:0 {last}:0 $B:1 {last}:1"
        names = ["input_ids", "token_type_ids", "attention_mask"]
    else:
        specials = ["<s>", "<pad>", "</s>", "<unk>"]
        first, last, pad, unknown = "<s>", "</s>", "<pad>", "<unk>"
        single, pair = f"{first} $A {last}", f"{first} $A {last} {last} $B:0 {last}"
        names = ["input_ids", "attention_mask"]
    vocabulary = {token: i for i, token in enumerate([*specials, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=last,
        model_max_length=128,
        model_input_names=names,
    )


def _build_model(architecture: str, folder: Path) -> None:
    """Return a random encoder without a head, like a pretrained one.

    Its weights are so large that every position, type and neighbour affects the logits.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    kind, sizes = _ARCHITECTURES[architecture]
    tokenizer = _tokenizer(kind)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        **sizes,
    )
    spread = next(key for key in ("initializer_range", "init_std") if hasattr(config, key))
    setattr(config, spread, 0.25)  # for the head, which is initialised on loading
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = AutoModel.from_config(config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                # Embeddings differ as much as pretrained ones: a tiny encoder learns
                # from 60 rows only if words differ from the start.
                weight.normal_(0, 1.0 if name.endswith("embeddings.weight") else 0.08)
                if "norm" in name.lower() and name.endswith("weight"):
                    weight.add_(1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """`tiny_model("bert")`: the folder of a random encoder (3 layers, width 64) and its tokenizer.

    The argument is a key of `_ARCHITECTURES`; "mpnet" and the following cannot be packed. Each
    model is created once per session, so copy a folder before you change it.
    """
    made: dict[str, Path] = {}

    def make(architecture: str = "bert") -> Path:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            _build_model(architecture, folder)
            made[architecture] = folder
        return made[architecture]

    return make


@pytest.fixture(scope="session")
def load_tiny(tiny_model: TinyModel) -> LoadTiny:
    """`load_tiny("lora", "bert", dtype=torch.bfloat16, rank=4)`: a model prepared by a method.

    It is a tiny model on the CPU with the labels of the toy data. Other keywords are settings of
    the method.
    """
    import torch

    from tuneoff.engine.model.load import load_classifier
    from tuneoff.methods import method, parse_config

    def load(
        name: str,
        architecture: str = "bert",
        /,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        **config: Any,
    ) -> PreparedModel:
        chosen = method(name)
        return load_classifier(
            tiny_model(architecture),
            list(TOPICS),
            chosen,
            parse_config(chosen, config),
            dtype=dtype,
            device=device or torch.device("cpu"),
            attention_dropout=0.0,
            seed=0,
        )

    return load


def _csv_maker(folder: Path) -> ToyCsv:
    def make(
        rows: int = 60, *, pairs: bool = False, seed: int = 0, name: str = "toy.csv", **extra: Any
    ) -> Path:
        draw = random.Random(seed)
        header = ["text", *(["text_pair"] if pairs else []), "label", *extra]
        path = folder / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for i in range(rows):
                label = list(TOPICS)[i % len(TOPICS)]
                size = draw.randint(1, 6) * (4 if i % 10 == 0 else 1)
                words = draw.choices(FILLERS, k=size) + draw.choices(TOPICS[label], k=2 + size)
                draw.shuffle(words)
                text = [" ".join(words)]
                if pairs:
                    text.insert(0, " ".join(draw.choices(FILLERS, k=draw.randint(3, 12))))
                writer.writerow([*text, label, *(values[i] for values in extra.values())])
        return path

    return make


@pytest.fixture
def toy_csv(tmp_path: Path) -> ToyCsv:
    """`toy_csv(rows=60, pairs=False, seed=0, name="toy.csv")`: a CSV that a tiny encoder can learn.

    The columns are `text` and `label`, with `pairs` also `text_pair`. The label is the topic of the
    words in the text (with `pairs`, in the second text). Texts have 4 to 14 words, some up to 50.
    """
    return _csv_maker(tmp_path)


@pytest.fixture(scope="session")
def shared_csv(tmp_path_factory: pytest.TempPathFactory) -> ToyCsv:
    """Like `toy_csv`, in one folder for the session; each file needs a different name."""
    return _csv_maker(tmp_path_factory.mktemp("csv"))


@pytest.fixture(scope="session")
def hostile_strings() -> list[str]:
    """100 strings that are harmful if they are interpreted as code, markup or control sequences."""
    file = Path(__file__).with_name("hostile_strings.json")
    strings: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return strings


@pytest.fixture(scope="session")
def task_record() -> TaskRecord:
    """Record of a task with 1,200 rows and two labels in every split."""
    from tuneoff.results.record import Quantiles, SplitRecord, TaskRecord

    lengths = Quantiles(3, 4, 5, 6, 7, 8, 9, 5.0)
    split = SplitRecord(1200, {"a": 700, "b": 500}, lengths, [[3, 1200]], 0, 0.0, 0)
    return TaskRecord(
        fingerprint="d",
        key="k",
        labels=["a", "b"],
        pair=False,
        max_length=64,
        splits={"train": split, "validation": split, "test": split},
        shared_rows={},
        lengths_by_label={},
        model="m",
        model_fingerprint="f",
        model_type="bert",
    )


@pytest.fixture(scope="session")
def prepared(task_record: TaskRecord) -> Prepared:
    """Result of preparing this task, without files on disk."""
    from tuneoff.scheduling import Prepared

    return Prepared(task_record, Path("k"), Path("m"), device="cpu", precision="bf16")


@pytest.fixture(scope="session", autouse=True)
def _warm_workers() -> Iterator[WarmWorkers]:
    """Reuse the idle workers of a study in later tests."""
    warm = WarmWorkers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuneoff.scheduling.local.Worker", warm.take)
        yield warm
    warm.end_all()


@pytest.fixture
def fresh_workers(_warm_workers: WarmWorkers) -> Iterator[None]:
    """Start and end workers without reuse, for tests of the processes themselves."""
    with _warm_workers.off():
        yield


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., CommandResult]


@pytest.fixture(scope="session")
def tuneoff() -> Command:
    """`tuneoff("compare", "study.yaml", …)`: run a command in this process, 80 columns wide."""
    from tuneoff.cli import main

    def call(*arguments: Any) -> CommandResult:
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            patch.setattr("sys.argv", ["tuneoff", *map(str, arguments)])
            patch.setenv("COLUMNS", "80")
            code: Any = 0
            try:
                main()
            except SystemExit as end:
                code = end.code
        return CommandResult(int(code or 0), out.getvalue(), err.getvalue())

    return call


@dataclass(frozen=True)
class Finished:
    """A finished study, its command and its files."""

    path: Path
    arguments: tuple[Any, ...]
    result: CommandResult
    train: Path
    test: Path
    model: Path


@pytest.fixture(scope="session")
def finished_study(
    tuneoff: Command,
    tiny_model: TinyModel,
    shared_csv: ToyCsv,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """A study of tfidf, full and lora with one seed, run by the command; do not change it."""
    folder = tmp_path_factory.mktemp("studies")
    train = shared_csv(90, seed=1, name="study-train.csv")
    test = shared_csv(30, seed=2, name="study-test.csv")
    model = tiny_model("bert")
    file = folder / "asked.yaml"
    file.write_text(
        f"model: {model}\n"
        "data: {train: nowhere.csv, validation: 0.2}\n"
        "methods: [tfidf, full, {method: lora, name: 'lora/r 2', rank: 2}]\n"
        "train: {epochs: 1, precision: fp32, threads: 1, learning_rate: 3e-3}\n"
    )
    data = ("--train", train, "--test", test, "--seeds", 1, "--epochs", 6)
    arguments = ("compare", file, *data, "--out", folder / "toy")
    return Finished(folder / "toy", arguments, tuneoff(*arguments), train, test, model)


@pytest.fixture
def toy_task(tiny_model: TinyModel, toy_csv: ToyCsv, tmp_path: Path) -> ToyTask:
    """`toy_task("bert", rows=60, pairs=False, …)`: toy data, split and tokenised for a tiny model.

    Further arguments are those of `toy_csv`, and `data` has settings of the data section.
    """
    from tuneoff.config import DataSpec
    from tuneoff.engine.data.task import open_task, prepare

    def make(
        architecture: str = "bert",
        *,
        rows: int = 60,
        pairs: bool = False,
        file: Path | None = None,
        max_length: int = 64,
        data: dict[str, Any] | None = None,
        **csv_options: Any,
    ) -> Task:
        file = file or toy_csv(rows, pairs=pairs, **csv_options)
        settings = {"text_pair": "text_pair"} if pairs else {}
        record = prepare(
            DataSpec(train=str(file), **(settings | (data or {}))),
            model=f"tiny {architecture}",
            model_path=tiny_model(architecture),
            model_fingerprint="f" * 64,
            model_type=architecture,
            max_length=max_length,
            folder=tmp_path / "data",
        )
        return open_task(tmp_path / "data" / record.key)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Reset the number of threads, which a run changes for the whole process."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def _engine() -> None:
    """Import the engine's libraries once, without garbage collection."""
    gc.disable()
    import peft  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import transformers.models.auto.modeling_auto  # noqa: F401

    import tuneoff.engine.execute  # noqa: F401

    gc.enable()


@pytest.fixture(scope="module")
def _settled(_engine: None) -> None:
    """Exclude existing objects from garbage collection before the tests of a module.

    A run collects nine times, each time over the million objects of the libraries.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def run_toy(tiny_model: TinyModel, toy_task: ToyTask, tmp_path: Path, _settled: None) -> RunToy:
    """`run_toy("lora", "bert", config={"rank": 4}, epochs=2, …)`: run the engine in this process.

    It runs on the CPU in fp32 unless `precision` is given. Other keywords are training settings.
    """
    from tuneoff.config import RunSpec, TrainSpec
    from tuneoff.engine.execute import run
    from tuneoff.methods import methods
    from tuneoff.results.store import RunFolder

    def make(
        method: str = "full",
        architecture: str = "bert",
        *,
        task: Task | None = None,
        model: Path | None = None,
        config: dict[str, Any] | None = None,
        seed: int = 0,
        metric: str = "macro_f1",
        **train: Any,
    ) -> ToyRun:
        task = task or toy_task(architecture)
        model = model or tiny_model(architecture)
        settings = {"precision": "fp32", "device": "cpu", "epochs": 2, "learning_rate": 2e-3}
        spec = RunSpec(
            name=method,
            method=method,
            config=config or {},
            model=str(model),
            train=TrainSpec(**(settings | dict(methods()[method].train) | train)),
            seed=seed,
            metric=metric,
            data_fingerprint=task.record.fingerprint,
            model_fingerprint="f" * 64,
        )
        folder = RunFolder(tmp_path / "runs" / spec.run_id)
        folder.write_spec(spec)
        events: list[dict[str, Any]] = []
        record = run(
            spec,
            folder,
            task_path=task.splits["train"].path.parent,
            model_path=model,
            emit=events.append,
        )
        return ToyRun(record, folder, task, model, events)

    return make
