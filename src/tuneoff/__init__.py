"""tuneoff: which way to fine-tune an encoder, shown on your own data."""

__version__ = "0.1.0"
