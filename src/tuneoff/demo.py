"""Data for the demo: docstrings of the libraries in the same environment as tuneoff.

The task is to predict from the first paragraph of a docstring which library it documents. The texts
are read from source files with `ast`: nothing is imported or downloaded, and the same versions of
the libraries give the same rows.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import importlib.util
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuneoff.exceptions import BadInput
from tuneoff.results.store import write_atomic

_INSTALL_DEMO = "Install the libraries with: pip install 'tuneoff[demo]'"

LIBRARIES: dict[str, str] = {
    "datasets": "datasets",
    "huggingface-hub": "huggingface_hub",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "pandas": "pandas",
    "peft": "peft",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "sympy": "sympy",
    "torch": "torch",
    "transformers": "transformers",
}
"""Package by label."""

FEWEST_LIBRARIES = 4
"""Minimum number of installed libraries."""
MASK = "library"
"""Replacement for names of libraries in texts."""


@dataclass(frozen=True)
class Row:
    """First paragraph of a docstring, its library and its module."""

    text: str
    label: str
    module: str


def write_docstrings(
    folder: str | Path, *, train_rows: int = 1600, test_rows: int = 700
) -> tuple[Path, Path]:
    """Write `train.csv` and `test.csv` with the columns text, label and module.

    This takes some seconds.

    Args:
        folder: Folder of the files.
        train_rows: Maximum number of training rows. There are fewer if a library is too small.
        test_rows: Maximum number of test rows.

    Returns:
        Paths of the two files.

    Raises:
        BadInput: Fewer than four of the `LIBRARIES` are installed.
    """
    train, test = read_docstrings(train_rows=train_rows, test_rows=test_rows)
    folder = Path(folder)
    paths = folder / "train.csv", folder / "test.csv"
    for path, rows in zip(paths, (train, test), strict=True):
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("text", "label", "module"))
        writer.writerows((row.text, row.label, row.module) for row in rows)
        write_atomic(path, table.getvalue())
    return paths


def read_docstrings(*, train_rows: int = 1600, test_rows: int = 700) -> tuple[list[Row], list[Row]]:
    """Return the training and test rows, each in an order that mixes the libraries.

    Train and test have no module in common. No text occurs twice or with two labels.

    Args:
        train_rows: Maximum number of training rows.
        test_rows: Maximum number of test rows.

    Raises:
        BadInput: Fewer than four of the `LIBRARIES` are installed.
    """
    folders = {
        label: folder
        for label, package in sorted(LIBRARIES.items())
        if (folder := _package_folder(package)) is not None
    }
    if len(folders) < FEWEST_LIBRARIES:
        raise BadInput(
            f"the demo needs at least {FEWEST_LIBRARIES} of the libraries {', '.join(LIBRARIES)},"
            f" but only {len(folders)} of them are installed",
            hint=_INSTALL_DEMO,
        )
    fractions = _shares(folders)
    test_share = test_rows / (train_rows + test_rows)
    sides: tuple[list[Row], list[Row]] = [], []
    quotas = _apportioned(train_rows, fractions), _apportioned(test_rows, fractions)
    for label, folder in folders.items():
        of_label = quotas[0][label], quotas[1][label]
        for side, rows in zip(sides, _sample(label, folder, of_label, test_share), strict=True):
            side.extend(rows)
    labels_of = Counter(key for key, _ in {(_key(r.text), r.label) for s in sides for r in s})
    train, test = (
        sorted(
            (row for row in side if labels_of[_key(row.text)] == 1),
            key=lambda row: _digest(row.module, row.text),
        )
        for side in sides
    )
    return train, test


def _package_folder(package: str) -> Path | None:
    """Return the folder of a top-level package, without importing it; None if it has none."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        return None
    return Path(spec.origin).parent


def _shares(folders: dict[str, Path]) -> dict[str, float]:
    """Return the fraction of rows of each library, proportional to the root of its code size.

    The largest library has about forty times as much code as the smallest. With the square root,
    the order is kept and the smallest has enough rows to be learned.
    """
    roots = {
        label: sum((folder / file).stat().st_size for file in _modules(folder)) ** 0.5
        for label, folder in folders.items()
    }
    return {label: root / sum(roots.values()) for label, root in roots.items()}


def _apportioned(rows: int, fractions: dict[str, float]) -> dict[str, int]:
    """Distribute `rows` to the labels by their fractions (largest remainder method)."""
    exact = {label: rows * fraction for label, fraction in fractions.items()}
    counts = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(exact, key=lambda label: counts[label] - exact[label])
    for label in by_remainder[: rows - sum(counts.values())]:
        counts[label] += 1
    return counts


_SKIPPED = re.compile(
    r"(^|/)(_?tests?|testing|conftest|_?vendor(ed)?|_?externals?|extern|_generated|examples?"
    r"|benchmarks?|array_api_compat|array_api_extra|setup)(/|\.py$)|(^|/)test_|_test\.py$"
)


def _modules(folder: Path) -> list[str]:
    """Return the sorted paths of source files in `folder`, without tests and vendored code."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    return sorted(path for path in paths if not _SKIPPED.search(path))


PER_MODULE = 4
"""Maximum number of rows of a module, so that large modules do not dominate.

Test rows of a module are a group in the comparison, and many small groups give more power than few
large ones.
"""


def _sample(
    label: str, folder: Path, quotas: tuple[int, int], test_share: float
) -> tuple[list[Row], list[Row]]:
    """Return training and test rows of one library; only as many files as needed are parsed."""
    sides: tuple[list[Row], list[Row]] = [], []
    seen: set[str] = set()
    for file in sorted(_modules(folder), key=lambda path: _digest(label, path)):
        side = int(_digest("side", label, file)[:8], 16) / 16**8 < test_share
        if all(len(rows) >= quota for rows, quota in zip(sides, quotas, strict=True)):
            break
        if len(sides[side]) >= quotas[side]:
            continue
        module = ".".join((folder.name, *file.removesuffix(".py").split("/")))
        fresh = []
        for text in _texts(folder / file):
            key = _key(text)
            if key not in seen:
                seen.add(key)
                fresh.append(Row(text, label, module.removesuffix(".__init__")))
        fresh.sort(key=lambda row: _digest(row.text))
        sides[side].extend(fresh[: min(PER_MODULE, quotas[side] - len(sides[side]))])
    return sides


_GENERATED = re.compile(r"auto(matically |-| ?)generated|do not edit", re.IGNORECASE)


def _texts(path: Path) -> Iterator[str]:
    """Yield the cleaned first paragraphs of the docstrings of classes, functions and methods."""
    source = path.read_text(encoding="utf-8", errors="replace")
    if _GENERATED.search(source[:2000]):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escape sequences in third-party code
            tree = ast.parse(source)
    except SyntaxError:  # a template, or a syntax newer than this Python
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            text = clean(docstring) if docstring else None
            if text is not None:
                yield text


# -- conversion of docstrings to texts -----------------------------------------------------------

SHORTEST, LONGEST = 40, 240
"""Minimum and maximum length in characters; longer texts are cut after a sentence or a word."""

_SECTION = re.compile(
    r"^\s*(args?|arguments|parameters?|params|returns?|raises|yields|examples?|usage|notes?|inputs?"
    r"|outputs?|attributes|see also|references|warning)\s*:{0,2}\s*$"
    r"|^\s*(:param|:return|:raise|:type|@|>>>|\.\. |```|---|===|\|)",
    re.IGNORECASE | re.MULTILINE,
)
_ENTRY = re.compile(r"\w+ ?\([^)]*\) ?:")
"""`name (type): …`, an entry of a list of parameters."""
_MARKUP = [
    (re.compile(r":[a-z:]+:`~?[.!]?([^`<]*?)\s*(<[^`>]*>)?`"), r"\1"),  # :class:`~x.Y`
    (re.compile(r"\[(`?[^\]]+`?)\]\([^)]*\)"), r"\1"),  # [title](address)
    (re.compile(r"\[(`[^\]`]+`)\]"), r"\1"),
    (re.compile(r"https?://\S+|www\.\S+"), " "),
    (re.compile(r"[`*|\\$~]+|_(?=\s|$)"), " "),
    (re.compile(r"::"), ":"),
    (re.compile(r"\s+(?=[.,;](\s|$))"), ""),
]
_NAMES = re.compile(
    r"\w*(?:torch|numpy|scipy|sklearn|scikit[-_ ]?learn|pandas|matplotlib|pyplot|sympy|networkx"
    r"|transformers|hugging[-_ ]?face|datasets|peft)\w*|\b(?:np|pd|plt|mpl|nx|sp|hf)\b",
    re.IGNORECASE,
)


def clean(docstring: str) -> str | None:
    """Return a docstring's first paragraph without markup and library names; None if it is short.

    Texts that are not prose are None as well.
    """
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    section = _SECTION.search(paragraph)
    text = paragraph[: section.start()] if section else paragraph
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    text = _NAMES.sub(MASK, text)
    text = _shortened(re.sub(r"\s+", " ", text).strip(" :-#"))
    if _ENTRY.match(text):
        return None
    letters = sum(character.isalpha() or character == " " for character in text)
    prose = letters >= 0.8 * len(text) and text.count(" ") >= 4
    return text if len(text) >= SHORTEST and prose else None


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    cut = text[:LONGEST]
    sentence = cut.rfind(". ")
    return cut[: sentence + 1] if sentence >= SHORTEST else cut.rsplit(" ", 1)[0]


def _key(text: str) -> str:
    """Return a key that is equal for texts that differ only in case, digits and punctuation."""
    return re.sub(r"[\W\d_]+", " ", text).casefold().strip()


def _digest(*parts: str) -> str:
    """Return a hash, for a pseudo-random order that is the same on every machine."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
