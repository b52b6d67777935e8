"""Predictions for new texts with a trained model."""

from tuneoff.engine.inference.predict import Predictor
from tuneoff.engine.inference.texts import as_texts, blank_note

__all__ = ["Predictor", "as_texts", "blank_note"]
