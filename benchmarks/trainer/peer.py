"""Measure one training with Transformers' Trainer and PEFT, and print its figures as JSON.

    python benchmarks/trainer/peer.py CASE.json

The "default" recipe is that of the guides: dynamic padding and bf16. The "expert" recipe adds
settings that experienced users choose: batches grouped by length, no attention dropout (which
permits the fast attention kernel), the fused optimizer, and `torch_compile` on a GPU if requested.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import peft
import torch
from case import ALPHA, RANK, Case, read_case
from sklearn.metrics import f1_score
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from tuneoff.engine.measure.memory import PeakMemory  # the same definition for both sides
from tuneoff.engine.model.architecture import describe


class Stopwatch(TrainerCallback):
    """Measure the time from the first step to the last, and from the end of the warm-up.

    The warm-up is the first tenth of the steps, as for tuneoff. The GPU is synchronised only when
    the clock is read.
    """

    def __init__(self) -> None:
        self.start = self.warm = self.end = 0.0
        self.warm_steps = self.steps = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.start = self.start or self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == max(1, state.max_steps // 10):
            self.warm, self.warm_steps = self._now(), state.global_step
        if state.global_step == state.max_steps:
            self.end, self.steps = self._now(), state.global_step

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def step_seconds(self) -> float:
        """Seconds per step after the warm-up; over all steps if there are too few."""
        if self.steps == self.warm_steps:
            return self.seconds / self.steps
        return (self.end - self.warm) / (self.steps - self.warm_steps)

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def load(case: Case, path: str, labels: list[str], expert: bool) -> Any:
    config = AutoConfig.from_pretrained(path, num_labels=len(labels))
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if expert and hasattr(config, name):
            setattr(config, name, 0.0)
    options: dict[str, Any] = {"config": config}
    if case.method == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if case.precision == "bf16" else torch.float32,
            llm_int8_skip_modules=["classifier", "bert.pooler", "pre_classifier"],
        )
    model = AutoModelForSequenceClassification.from_pretrained(path, **options)
    architecture = describe(model)
    for module in model.modules():
        # On a CPU with bf16 products, bitsandbytes repacks 4-bit weights in the first evaluation
        # and cannot train afterwards. tuneoff switches this off, so the scripts do, too.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    if case.method in ("head", "partial", "bitfit"):
        model.requires_grad_(False)
        above = architecture.layers[-2:] if case.method == "partial" else ()
        for name in (*above, *architecture.head):
            model.get_submodule(name).requires_grad_(True)
        if case.method == "bitfit":
            for name, weight in model.named_parameters():
                if name.endswith("bias"):
                    weight.requires_grad_(True)
    if case.method in ("lora", "qlora"):
        if case.method == "qlora":
            model = peft.prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=not expert
            )
        config: Any = peft.LoraConfig(
            task_type="SEQ_CLS",
            r=RANK,
            lora_alpha=ALPHA,
            target_modules=list(architecture.linears),
            modules_to_save=sorted({name.rsplit(".", 1)[-1] for name in architecture.head}),
        )
        model = peft.get_peft_model(model, config)
    if case.method == "ia3":
        inputs = architecture.linear("ffn_out")
        config = peft.IA3Config(
            task_type="SEQ_CLS",
            target_modules=[*architecture.linear("key"), *architecture.linear("value"), *inputs],
            feedforward_modules=inputs,
            modules_to_save=sorted({name.rsplit(".", 1)[-1] for name in architecture.head}),
        )
        model = peft.get_peft_model(model, config)
    return model


class WeightedTrainer(Trainer):
    """Trainer with class weights, as in the Trainer's guide."""

    weights: torch.Tensor

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, self.weights)
        return (loss, outputs) if return_outputs else loss


def rows(path: Path, tokenizer: Any, labels: list[str]) -> list[dict[str, Any]]:
    frame = pd.read_csv(path, keep_default_na=False, dtype=str)
    pairs = frame["text_pair"].tolist() if "text_pair" in frame else None
    tokens = tokenizer(frame["text"].tolist(), pairs, truncation=True, max_length=512)
    return [
        {key: values[i] for key, values in tokens.items()}
        | {"labels": labels.index(label), "length": len(tokens["input_ids"][i])}
        for i, label in enumerate(frame["label"])
    ]


def main() -> None:
    case, more = read_case(Path(sys.argv[1]))
    expert, folder = more["side"] == "expert", Path(more["folder"])
    set_seed(case.seed)
    gpu = torch.cuda.is_available() and more.get("device") != "cpu"
    device = torch.device("cuda" if gpu else "cpu")
    labels = sorted(pd.read_csv(folder / "train.csv", dtype=str)["label"].unique())
    tokenizer = AutoTokenizer.from_pretrained(more["model"])
    train, test = (rows(folder / f"{s}.csv", tokenizer, labels) for s in ("train", "test"))
    memory = PeakMemory(device)
    model = load(case, more["model"], labels, expert)
    flags: dict[str, Any] = {}
    if expert:
        flags = {
            "train_sampling_strategy": "group_by_length",
            "optim": "adamw_torch_fused",
            "torch_compile": bool(more.get("compile")),
        }
    watch = Stopwatch()
    trainer = (WeightedTrainer if case.method == "weighted" else Trainer)(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "out"),
            num_train_epochs=case.epochs,
            per_device_train_batch_size=case.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=case.learning_rate,
            weight_decay=0.01,
            warmup_steps=0.1,
            bf16=case.precision == "bf16",
            use_cpu=not gpu,
            seed=case.seed,
            save_strategy="no",
            eval_strategy="epoch" if more.get("validate") else "no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            **flags,
        ),
        train_dataset=train,
        eval_dataset=rows(folder / "validation.csv", tokenizer, labels),
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[watch],
    )
    if case.method == "weighted":
        counts = np.bincount([r["labels"] for r in train], minlength=len(labels))
        trainer.weights = torch.tensor(len(train) / (len(labels) * counts), dtype=torch.float32)
    memory.reset()
    trainer.train()
    peak = memory.peak()
    seconds, tokens = watch.seconds, sum(r["length"] for r in train)
    steady = len(train) * case.epochs / watch.steps / watch.step_seconds
    result: dict[str, Any] = {
        "seconds": seconds,
        "samples_per_second": len(train) * case.epochs / seconds,
        "tokens_per_second": tokens * case.epochs / seconds,
        "steady_samples_per_second": steady,
        "steady_tokens_per_second": steady * tokens / len(train),
        "step_seconds": watch.step_seconds,
        "peak_memory_bytes": peak,
        "macro_f1": None,
    }
    if case.test_rows:
        predictions = trainer.predict(test)  # in another order if grouped by length
        found = predictions.predictions.argmax(-1)
        result["macro_f1"] = float(f1_score(predictions.label_ids, found, average="macro"))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
