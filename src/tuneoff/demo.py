"""Text that every machine has: the docstrings of the libraries installed beside tuneoff.

The task: tell from the first paragraph of a docstring which library it documents. The texts are
read from the source files of the libraries that stand beside tuneoff, with `ast`; nothing is
imported, nothing is downloaded, and the same versions give the same rows.
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

_INSTALL_DEMO = "Install what the demo needs with: pip install 'tuneoff[demo]'"

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
"""The classes: label, and the package that is read for it."""

FEWEST_LIBRARIES = 4
MASK = "library"
"""Stands where a text named a library."""


@dataclass(frozen=True)
class Row:
    """One docstring's first paragraph, its library and the module that it stands in."""

    text: str
    label: str
    module: str


def write_docstrings(
    folder: str | Path, *, train_rows: int = 1600, test_rows: int = 700
) -> tuple[Path, Path]:
    """Write `train.csv` and `test.csv` with the columns text, label, module; takes some seconds.

    A side has fewer rows where a library is too small for its share, never more. Raises
    `BadInput` if fewer than four of the `LIBRARIES` are installed.
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
    """The rows of the training and the test side, each in an order that mixes the libraries.

    No module stands on both sides, and no text twice or under two labels.
    """
    folders = {
        label: folder
        for label, package in sorted(LIBRARIES.items())
        if (folder := _package_folder(package)) is not None
    }
    if len(folders) < FEWEST_LIBRARIES:
        raise BadInput(
            f"The demo reads the docstrings of at least {FEWEST_LIBRARIES} libraries, and only "
            f"{len(folders)} of {', '.join(LIBRARIES)} are installed here.",
            hint=_INSTALL_DEMO,
        )
    shares = _shares(folders)
    test_share = test_rows / (train_rows + test_rows)
    sides: tuple[list[Row], list[Row]] = [], []
    quotas = _apportioned(train_rows, shares), _apportioned(test_rows, shares)
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
    """Where a top-level package lies; looking for one does not import it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        return None
    return Path(spec.origin).parent


def _shares(folders: dict[str, Path]) -> dict[str, float]:
    """Each library's share of the rows, by the square root of its code's size.

    The largest library has some forty times the code of the smallest: the root keeps the order
    and leaves the smallest enough rows to be learned from.
    """
    roots = {
        label: sum((folder / file).stat().st_size for file in _modules(folder)) ** 0.5
        for label, folder in folders.items()
    }
    return {label: root / sum(roots.values()) for label, root in roots.items()}


def _apportioned(rows: int, shares: dict[str, float]) -> dict[str, int]:
    """`rows` divided among the labels by their shares, which add up to 1 (largest remainders)."""
    exact = {label: rows * share for label, share in shares.items()}
    whole = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(exact, key=lambda label: whole[label] - exact[label])
    for label in by_remainder[: rows - sum(whole.values())]:
        whole[label] += 1
    return whole


_SKIPPED = re.compile(
    r"(^|/)(_?tests?|testing|conftest|_?vendor(ed)?|_?externals?|extern|_generated|examples?"
    r"|benchmarks?|array_api_compat|array_api_extra|setup)(/|\.py$)|(^|/)test_|_test\.py$"
)


def _modules(folder: Path) -> list[str]:
    """Source files worth reading, relative to `folder`, sorted; no tests, no foreign code."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    return sorted(path for path in paths if not _SKIPPED.search(path))


PER_MODULE = 4
"""Rows from one module at the most, so that no large one speaks for its library. Test rows of one
module are a group for the verdict, and few large groups resolve less than many small ones."""


def _sample(
    label: str, folder: Path, quotas: tuple[int, int], test_share: float
) -> tuple[list[Row], list[Row]]:
    """Rows of one library for both sides, parsing only as many files as the quotas need."""
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
    """The cleaned first paragraphs of a file's classes, functions and methods."""
    source = path.read_text(encoding="utf-8", errors="replace")
    if _GENERATED.search(source[:2000]):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in other people's strings
            tree = ast.parse(source)
    except SyntaxError:  # a template, or a syntax newer than this Python
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            text = clean(docstring) if docstring else None
            if text is not None:
                yield text


# -- from a docstring to a text ------------------------------------------------------------------

SHORTEST, LONGEST = 40, 240
"""Characters of a text; a longer one is cut after its last whole sentence or word."""

_SECTION = re.compile(
    r"^\s*(args?|arguments|parameters?|params|returns?|raises|yields|examples?|usage|notes?|inputs?"
    r"|outputs?|attributes|see also|references|warning)\s*:{0,2}\s*$"
    r"|^\s*(:param|:return|:raise|:type|@|>>>|\.\. |```|---|===|\|)",
    re.IGNORECASE | re.MULTILINE,
)
_ENTRY = re.compile(r"\w+ ?\([^)]*\) ?:")
"""`name (type): …`, the entry of a list of parameters and no prose."""
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
    """A docstring's first paragraph without markup and library names; None if little is left."""
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
    """Equal for texts that differ only in case, digits and punctuation."""
    return re.sub(r"[\W\d_]+", " ", text).casefold().strip()


def _digest(*parts: str) -> str:
    """An order that looks random, and is the same on every machine."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
