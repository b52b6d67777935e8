"""Rows of the demo: deterministic, disjoint modules, no library names in texts."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tuneoff import demo
from tuneoff.demo import Row, clean, read_docstrings, write_docstrings
from tuneoff.exceptions import BadInput

NAMES = re.compile(
    r"torch|numpy|scipy|sklearn|scikit|pandas|matplotlib|pyplot|sympy|networkx|transformers"
    r"|hugging ?face|datasets|peft|\b(np|pd|plt|nx|mpl)\.",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def sides() -> tuple[list[Row], list[Row]]:
    return read_docstrings()


def test_rows_and_classes(sides: tuple[list[Row], list[Row]]) -> None:
    train, test = sides
    assert 1300 <= len(train) <= 1600
    assert 600 <= len(test) <= 700
    labels = {row.label for row in train}
    assert 9 <= len(labels) <= 12
    assert {row.label for row in test} == labels
    counts = sorted(sum(row.label == label for row in train) for label in labels)
    assert counts[0] >= 40  # enough for training
    assert counts[-1] >= 3 * counts[0]  # imbalanced, like the libraries


def test_training_and_test_modules_are_disjoint(sides: tuple[list[Row], list[Row]]) -> None:
    train, test = sides
    assert {row.module for row in train}.isdisjoint(row.module for row in test)


def test_no_duplicate_texts(sides: tuple[list[Row], list[Row]]) -> None:
    texts = [
        re.sub(r"[\W\d_]+", " ", row.text).casefold().strip() for side in sides for row in side
    ]
    assert len(set(texts)) == len(texts)


def test_no_text_names_a_library(sides: tuple[list[Row], list[Row]]) -> None:
    assert [row for side in sides for row in side if NAMES.search(row.text)] == []


def test_no_text_has_markup(sides: tuple[list[Row], list[Row]]) -> None:
    markup = re.compile(r"`|>>>|\.\. [a-z]+::|:param|:[a-z]+:|https?:|\n")
    assert [row for side in sides for row in side if markup.search(row.text)] == []


def test_text_lengths(sides: tuple[list[Row], list[Row]]) -> None:
    lengths = [len(row.text) for side in sides for row in side]
    assert min(lengths) >= demo.SHORTEST
    assert max(lengths) <= demo.LONGEST


def test_files_are_equal_in_another_process_without_imports(
    tmp_path: Path, sides: tuple[list[Row], list[Row]]
) -> None:
    code = (
        "import sys; from tuneoff.demo import write_docstrings; write_docstrings(sys.argv[1]);"
        "print([n for n in ('torch', 'sympy', 'numpy', 'pandas', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    for name, rows in zip(("train.csv", "test.csv"), sides, strict=True):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        assert read == [{"text": r.text, "label": r.label, "module": r.module} for r in rows]


def test_files_are_identical(tmp_path: Path) -> None:
    first = write_docstrings(tmp_path / "first", train_rows=120, test_rows=60)
    second = write_docstrings(tmp_path / "second", train_rows=120, test_rows=60)
    assert [path.name for path in first] == ["train.csv", "test.csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_fewer_rows_on_request() -> None:
    train, test = read_docstrings(train_rows=240, test_rows=120)
    assert 200 <= len(train) <= 240
    assert 90 <= len(test) <= 120


@pytest.mark.parametrize("rows", [0, 1, 7, 240, 1600, 1601])
@pytest.mark.parametrize("sizes", [[1.0], [1, 1, 1], [40, 22, 13, 9, 7, 7, 5, 5, 3, 2, 1], [9, 1]])
def test_subsample_has_the_requested_rows(rows: int, sizes: list[float]) -> None:
    shares = {str(i): size / sum(sizes) for i, size in enumerate(sizes)}
    divided = demo._apportioned(rows, shares)
    assert sum(divided.values()) == rows
    assert all(abs(count - rows * shares[label]) < 1 for label, count in divided.items())


def test_too_few_libraries_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {f"absent{i}": f"absent_package_{i}" for i in range(9)}
    few = {"numpy": "numpy", "pandas": "pandas", "scipy": "scipy"}
    monkeypatch.setattr(demo, "LIBRARIES", {**absent, **few})
    with pytest.raises(
        BadInput, match=r"but only 3 of them are installed.*\n.*pip install 'tuneoff\[demo\]'"
    ):
        read_docstrings()


def test_missing_library_is_not_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    some = ("numpy", "pandas", "scipy", "networkx")
    monkeypatch.setattr(demo, "LIBRARIES", {**{n: n for n in some}, "gone": "absent_package"})
    train, _ = read_docstrings(train_rows=200, test_rows=80)
    assert {row.label for row in train} == set(some)


def library(folder: Path, name: str, files: dict[str, str]) -> Path:
    """Write a small package as pip installs it."""
    for path, source in {"__init__.py": "", **files}.items():
        target = folder / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source, encoding="utf-8")
    return folder / name


def function(number: str, text: str) -> str:
    return f'def f{number}():\n    """{text}"""\n\n\n'


def test_shared_texts_and_invalid_files_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = "Return what every library returns when it is asked nicely."
    words = [
        "apples",
        "bananas",
        "cherries",
        "dates",
        "elderberries",
        "figs",
        "grapes",
        "honeydews",
    ]
    for name in ("alpha", "beta", "gamma", "delta"):
        own = {
            f"part{i}.py": function("1", f"The {name} way of counting {word}, with examples of it.")
            + function("2", shared)
            for i, word in enumerate(words)
        }
        odd = {
            "broken.py": "def (:",
            "escape.py": function(
                "1", f"An invalid {name} escape such as \\d stands in this text."
            ),
            "made.py": "# This file was automatically generated.\n" + function("1", "x " * 40),
            "tests/test_it.py": function(
                "1", f"Tests of {name} are none of the rows that are read."
            ),
        }
        library(tmp_path, name, {**own, **odd})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(demo, "LIBRARIES", {n: n for n in ("alpha", "beta", "gamma", "delta")})
    train, test = read_docstrings(train_rows=400, test_rows=200)
    texts = [row.text for row in train + test]
    assert shared not in texts
    assert len(texts) == 4 * (len(words) + 1)
    assert not any("tests" in row.module or "made" in row.module for row in train + test)


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        (
            "Return a :class:`~torch.Tensor` of the *given* ``shape``, filled with ones.\n\nMore.",
            "Return a library.Tensor of the given shape, filled with ones.",
        ),
        (
            "Call np.linalg.norm on each of the rows of PyTorch's [`Trainer`](https://x.y).",
            "Call library.linalg.norm on each of the rows of library's Trainer.",
        ),
        (
            "Concatenate the latent states of all layers in order.\nArgs:\n    x: states",
            "Concatenate the latent states of all layers in order.",
        ),
        (
            "Fit the model to the data that is given here.\n.. versionadded:: 1.2",
            "Fit the model to the data that is given here.",
        ),
        ("dropout (`float`, *optional*): The share of the units that is dropped.", None),
        ("Too short.", None),
        (">>> f(1, 2, 3)\n[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]", None),
        ("f(x[, y=0, *, out=None]) -> (a[1], b[2], c[3]) {0: 1, 2: 3}", None),
    ],
)
def test_clean(docstring: str, text: str | None) -> None:
    assert clean(docstring) == text


def test_long_text_is_cut_after_a_sentence_or_word() -> None:
    sentence = "Compute the sum over all of the rows that are given. "
    cut = clean(sentence * 9)
    assert cut is not None
    assert cut == (sentence * 4).strip()
    cut = clean("wordy " * 99)
    assert cut is not None
    assert cut.endswith("wordy")
    assert len(cut) <= demo.LONGEST
