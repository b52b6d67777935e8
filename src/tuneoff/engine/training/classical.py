"""Methods without an encoder: train, save, load and use a scikit-learn pipeline on texts."""

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
    """A fitted pipeline."""

    pipeline: Pipeline
    labels: int
    """Size of the label set."""
    seconds: float
    """Time of the fit; 0 if the pipeline was loaded."""

    @property
    def coefficients(self) -> int:
        """Number of weights and intercepts of the classifier."""
        classifier = self.pipeline[-1]
        return int(classifier.coef_.size + classifier.intercept_.size)

    def predict(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return the probabilities (texts, labels)."""
        known = self.pipeline.predict_proba(texts)
        full = np.zeros((len(texts), self.labels), np.float32)
        full[:, self.pipeline[-1].classes_] = known
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
    positions = rows.positions
    pipeline = method.estimator(config, seed)
    start = time.perf_counter()
    last = pipeline.steps[-1][0]
    fit_params = {f"{last}__sample_weight": sample_weight[positions]}
    pipeline.fit([texts[i] for i in positions], rows.labels[positions], **fit_params)
    return Fitted(pipeline, len(task.labels), time.perf_counter() - start)


def joined_texts(texts: list[str], pairs: list[str] | None) -> list[str]:
    """Join each pair to one text, with a prefix for words of the second text.

    A bag of words could not distinguish them from words of the first text otherwise.
    """
    if pairs is None:
        return texts
    return [f"{a} {_second(b)}" for a, b in zip(texts, pairs, strict=True)]


def _second(text: str) -> str:
    return " ".join(f"2_{word}" for word in text.split())


def predict_split(fitted: Fitted, split: Split) -> npt.NDArray[np.float32]:
    """Return the probabilities (rows, labels) in the order of the split's rows."""
    return fitted.predict(joined_texts(split.texts(), split.pairs()))


def save(fitted: Fitted, labels: list[str], folder: Path) -> None:
    """Save terms and settings as JSON and numbers as safetensors, without pickle."""
    vectorizer, classifier = fitted.pipeline[0], fitted.pipeline[-1]
    terms = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {
        "idf": vectorizer.idf_,
        "coef": classifier.coef_,
        "intercept": classifier.intercept_,
        "classes": classifier.classes_,
    }
    # safetensors 0.8 writes the bytes of a column-major array (such as coef_) as if row-major
    rows_first = {name: np.ascontiguousarray(values) for name, values in numbers.items()}
    save_file(rows_first, folder / "model.safetensors")
    settings = {k: getattr(vectorizer, k) for k in ("sublinear_tf", "token_pattern", "lowercase")}
    settings["ngram_range"] = list(vectorizer.ngram_range)
    write_json(folder / _FILE, {"labels": labels, "vectorizer": settings, "terms": terms})


def is_saved_in(folder: Path) -> bool:
    """Return whether `folder` contains a saved model of such a method."""
    return (folder / _FILE).is_file()


def load(folder: Path) -> tuple[Fitted, list[str]]:
    """Return a saved model and its labels."""
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
