"""Check and measure tuneoff on a CUDA GPU in at most six minutes: `make gpu-check`.

    python benchmarks/gpu_check [--out FOLDER] [--results FOLDER] [--blocks a,b] [--budget SECONDS]
                                [--device cuda|cpu]

Each block runs in its own forked process with its own timeout, and a block that fails does not stop
the others. Its result is written to FOLDER/<block>.json as soon as it ends, its output to
FOLDER/<block>.log. All results together are in <card>-<date>.json, in the folder of `--results`.
With `--device cpu` the check is a dry run with tiny sizes, without the blocks that need a GPU.

Only the repository and the dependencies of tuneoff are needed. Models have random weights, and
texts consist of random words, so everything works offline.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from blocks import BLOCKS, Block, chosen
from check import Check, NeedsGpu, write_json
from forked import Forked

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
TRACEBACK_LINES = 15


def main() -> None:
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    if options.device == "cpu":
        os.environ["OMP_NUM_THREADS"] = "1"  # a second thread gains nothing with tiny sizes
    _preload()
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    budget = options.budget or (360 if options.device == "cuda" else 3600)
    blocks, end = chosen(options.blocks), time.monotonic() + budget
    done: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        for group in _groups(blocks):
            if time.monotonic() + 5 > end:
                unspent = {"status": "not run", "summary": "no time left (--budget)"}
                done |= {b.name: _report(b, out / f"{b.name}.json", unspent, 0.0) for b in group}
                continue
            # Blocks that do not measure speed share the GPU; they are limited by the host.
            parts = [group] if options.device == "cuda" else [[block] for block in group]
            for part in parts:
                running = [(b, _start(b, options.device, out, Path(work))) for b in part]
                for block, process in running:
                    done[block.name] = _finish(block, process, options.device, out, end)
                    merged = _merge(options.device, {b.name: done.get(b.name) for b in blocks})
                    write_json(out / merged["name"], merged)
    print(f"\nAll results: {out / merged['name']}")
    if options.results and options.device == "cuda":
        write_json(options.results / merged["name"], merged)
        print(f"Stored as: {options.results / merged['name']}")
    good = ("passed", "needs a GPU", "not possible here")
    failed = [name for name, result in done.items() if result["status"] not in good]
    print(f"{len(done) - len(failed)} of {len(done)} blocks without problems", end="")
    print(f"; problems in: {', '.join(failed)}" if failed else "")
    raise SystemExit(1 if failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check", description=__doc__.split("\n")[0], epilog=_names()
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"), help="folder")
    parser.add_argument("--results", type=Path, help="additional folder for the merged result")
    parser.add_argument("--blocks", help="names or prefixes of names, separated by commas")
    parser.add_argument("--budget", type=float, help="seconds for all blocks [360]")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    return parser.parse_args()


def _preload() -> None:
    """Import what all blocks need once, in the process that forks.

    A cold start of PyTorch, Transformers and their Trainer takes 20 s on some machines.
    """
    start = time.monotonic()
    sys.path.insert(0, str(SOURCE))
    paths = [str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # for the commands that a block starts
    from tuneoff.scheduling.worker import forks_can_use_cuda, load_engine

    load_engine()
    import transformers

    assert forks_can_use_cuda(), "CUDA was initialised by an import"

    assert transformers.Trainer is not None  # this access imports it, for the Trainer's side
    print(f"Imports: {time.monotonic() - start:.1f} s", flush=True)


def _names() -> str:
    return "Blocks: " + ", ".join(block.name for block in BLOCKS)


def _groups(blocks: list[Block]) -> Iterator[list[Block]]:
    """Group adjacent blocks that may run at the same time; speed is measured alone."""
    for alone, group in groupby(blocks, key=lambda block: block.alone):
        if alone:
            yield from ([block] for block in group)
        else:
            yield list(group)


def _start(block: Block, device: str, out: Path, work: Path) -> Forked:
    (out / f"{block.name}.json").unlink(missing_ok=True)
    return Forked(lambda: run_block(block, device, out, work), out / f"{block.name}.log")


def _finish(block: Block, process: Forked, device: str, out: Path, end: float) -> dict[str, Any]:
    """Wait for a block, and return its result."""
    file = out / f"{block.name}.json"
    slower = 1 if device == "cuda" else 10  # a dry run may share a core with other programs
    outcome = process.wait(min(block.timeout * slower, max(0.0, end - time.monotonic())))
    result = json.loads(file.read_text()) if file.is_file() else {}
    if result.get("status", "running") == "running":
        tail = process.log.read_text(encoding="utf-8", errors="replace").splitlines()
        result |= {"status": "broken", "summary": outcome, "log": tail[-TRACEBACK_LINES:]}
    return _report(block, file, result, process.seconds)


def _report(block: Block, file: Path, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Write the result, and print its line, its problems and the end of its traceback."""
    result["seconds"] = round(seconds, 1)
    write_json(file, result)
    lines = [f"{result['status']:<12} {block.name:<24} {seconds:5.1f} s  {result['summary']}"]
    lines += [f"    {problem}" for problem in result.get("problems", [])]
    shown = result.get("traceback") or result.get("log") or []
    lines += [f"    | {line}" for line in shown[-TRACEBACK_LINES:]]
    print("\n".join(lines), flush=True)
    return result


def _merge(device: str, results: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Return all results in one dictionary, beginning with the card and the versions."""
    facts = (results.get("versions") or {}).get("findings", {})
    card = facts.get("card") or device
    date = time.strftime("%Y-%m-%d")
    plain = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    return {
        "name": f"{plain}-{date}.json",
        "date": date,
        "card": card,
        **{key: facts.get(key) for key in ("memory_bytes", "driver", "cuda", "versions")},
        "blocks": {name: result for name, result in results.items() if result is not None},
    }


def run_block(block: Block, device: str, out: Path, work: Path) -> int:
    """Run a block in its own process, and write its result."""
    check = Check(device, out / f"{block.name}.json", work)
    check.write("running")
    try:
        if check.on_gpu and not block.where.startswith("training:"):
            import torch

            if not torch.cuda.is_available():
                raise RuntimeError("PyTorch finds no CUDA device; try --device cpu for a dry run")
        block.run(check)
    except NeedsGpu:
        check.summary = "this block needs a GPU"
        check.write("needs a GPU")
        return 0
    except Exception as error:
        traceback.print_exc()
        check.summary = check.summary or f"{type(error).__name__}: {str(error)[:200]}"
        check.write("broken", traceback=traceback.format_exc().splitlines()[-TRACEBACK_LINES:])
        return 1
    check.write("failed" if check.problems else "passed")
    return 0


if __name__ == "__main__":
    main()
