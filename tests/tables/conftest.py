from __future__ import annotations

from small_files import tokenizer_folder, write_csv

__all__ = ["tokenizer_folder", "write_csv"]
