"""Training and using the methods that have no encoder: a scikit-learn pipeline over raw texts."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from tuneoff.engine.data.task import Split, Task
from tuneoff.engine.training.loss import class_weights
from tuneoff.methods.base import Method
from tuneoff.results.store import write_json

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from tuneoff.config import ClassWeights

_FILE = "tfidf.json"


@dataclass(frozen=True)
class Fitted:
    """A fitted pipeline and what fitting took."""

    pipeline: Pipeline
    labels: int
    seconds: float

    @property
    def coefficients(self) -> int:
        """Weights and intercepts of the classifier."""
        classifier = self.pipeline[-1]
        return int(classifier.coef_.size + classifier.intercept_.size)

    def predict(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """(texts, labels) probabilities."""
        found = self.pipeline.predict_proba(texts)
        full = np.zeros((len(texts), self.labels), np.float32)
        full[:, self.pipeline[-1].classes_] = found
        return full


def fit(task: Task, method: Method, config: Any, weights: ClassWeights, seed: int) -> Fitted:
    """Fit the method's pipeline on the training rows, weighted by row and class."""
    assert method.estimator is not None
    rows = task.splits["train"]
    by_class = class_weights(weights, task.labels, rows.labels)
    sample_weight = (
        rows.weights if by_class is None else rows.weights * by_class.numpy()[rows.labels]
    )
    texts = joined_texts(rows.texts(), rows.pairs())
    at = rows.positions
    pipeline = method.estimator(config, seed)
    start = time.perf_counter()
    last = pipeline.steps[-1][0]
    weighing = {f"{last}__sample_weight": sample_weight[at]}
    pipeline.fit([texts[i] for i in at], rows.labels[at], **weighing)
    return Fitted(pipeline, len(task.labels), time.perf_counter() - start)


def joined_texts(texts: list[str], pairs: list[str] | None) -> list[str]:
    """Pairs as one text: a bag of words knows no sides, so the second's words are told apart."""
    if pairs is None:
        return texts
    return [f"{a} {_second(b)}" for a, b in zip(texts, pairs, strict=True)]


def _second(text: str) -> str:
    return " ".join(f"2_{word}" for word in text.split())


def predict_split(fitted: Fitted, split: Split) -> npt.NDArray[np.float32]:
    """(rows, labels) probabilities in the order of the split's rows."""
    return fitted.predict(joined_texts(split.texts(), split.pairs()))


def save(fitted: Fitted, labels: list[str], folder: Path) -> None:
    """Terms and settings as JSON, numbers as safetensors; no pickle."""
    vectorizer, classifier = fitted.pipeline[0], fitted.pipeline[-1]
    terms = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {
        "idf": vectorizer.idf_,
        "coef": classifier.coef_,
        "intercept": classifier.intercept_,
        "classes": classifier.classes_,
    }
    # safetensors 0.8 writes the bytes of a column-major array, coef_ say, as if it were row-major
    rows_first = {name: np.ascontiguousarray(values) for name, values in numbers.items()}
    save_file(rows_first, folder / "model.safetensors")
    settings = {k: getattr(vectorizer, k) for k in ("sublinear_tf", "token_pattern", "lowercase")}
    settings["ngram_range"] = list(vectorizer.ngram_range)
    write_json(folder / _FILE, {"labels": labels, "vectorizer": settings, "terms": terms})


def is_saved_in(folder: Path) -> bool:
    """Whether `folder` holds a saved classical model."""
    return (folder / _FILE).is_file()


def load(folder: Path) -> tuple[Fitted, list[str]]:
    """A saved model and its labels."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    numbers = load_file(folder / "model.safetensors")
    settings = {**content["vectorizer"], "ngram_range": tuple(content["vectorizer"]["ngram_range"])}
    vectorizer = TfidfVectorizer(**settings, vocabulary=content["terms"])
    vectorizer.idf_ = numbers["idf"]
    classifier = LogisticRegression()
    classifier.coef_, classifier.intercept_ = numbers["coef"], numbers["intercept"]
    classifier.classes_ = numbers["classes"]
    pipeline = make_pipeline(vectorizer, classifier)
    return Fitted(pipeline, len(content["labels"]), 0.0), content["labels"]
