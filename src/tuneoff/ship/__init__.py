"""Putting a trained run to use."""

from tuneoff.ship.predict import Predictor

__all__ = ["Predictor"]
