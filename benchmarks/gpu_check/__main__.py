"""Check tuneoff on a CUDA GPU and measure it there, in at most six minutes: `make gpu-check`.

    python benchmarks/gpu_check [--out FOLDER] [--results FOLDER] [--blocks a,b] [--budget SECONDS]
                                [--device cuda|cpu]

Each block runs in its own forked process with its own timeout, and a block that fails does not stop
the others. Its result is FOLDER/<block>.json as soon as it ends, its output FOLDER/<block>.log.
All results together are <card>-<date>.json, in the folder of `--results`. With `--device cpu` the
check is a dry run with tiny sizes, in which blocks that need a GPU say so.

Nothing is needed but the repository and the packages that tuneoff itself needs; models have random
weights, and rows are drawn. Everything works offline.
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
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    if asked.device == "cpu":
        os.environ["OMP_NUM_THREADS"] = "1"  # tiny sizes gain nothing by two
    _preload()
    out: Path = asked.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    budget = asked.budget or (360 if asked.device == "cuda" else 3600)
    blocks, end = chosen(asked.blocks), time.monotonic() + budget
    done: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        for group in _groups(blocks):
            if time.monotonic() + 5 > end:
                unspent = {"status": "not run", "summary": "the budget of seconds was spent"}
                done |= {b.name: _told(b, out / f"{b.name}.json", unspent, 0.0) for b in group}
                continue
            # Blocks that measure no speed share the GPU; what limits them is the host.
            parts = [group] if asked.device == "cuda" else [[block] for block in group]
            for part in parts:
                running = [(b, _start(b, asked.device, out, Path(work))) for b in part]
                for block, process in running:
                    done[block.name] = _finish(block, process, asked.device, out, end)
                    merged = _merge(asked.device, {b.name: done.get(b.name) for b in blocks})
                    write_json(out / merged["name"], merged)
    print(f"\nAll results: {out / merged['name']}")
    if asked.results and asked.device == "cuda":
        write_json(asked.results / merged["name"], merged)
        print(f"Stored as: {asked.results / merged['name']}")
    good = ("passed", "needs a GPU", "not possible here")
    failed = [name for name, result in done.items() if result["status"] not in good]
    print(f"{len(done) - len(failed)} of {len(done)} blocks without a problem", end="")
    print(f"; look at: {', '.join(failed)}" if failed else "")
    raise SystemExit(1 if failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check", description=__doc__.split("\n")[0], epilog=_names()
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"), help="folder")
    parser.add_argument("--results", type=Path, help="folder that keeps the merged result, too")
    parser.add_argument("--blocks", help="names or beginnings of names, separated by commas")
    parser.add_argument("--budget", type=float, help="seconds for all blocks [360]")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    return parser.parse_args()


def _preload() -> None:
    """Import once, in the process that forks, what each block and both sides need.

    A cold start of PyTorch, Transformers and their Trainer takes 20 s on some machines.
    """
    start = time.monotonic()
    sys.path.insert(0, str(SOURCE))
    paths = [str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # of the commands that a block starts
    from tuneoff.scheduling.worker import forks_can_use_cuda, load_engine

    load_engine()
    import transformers

    assert forks_can_use_cuda(), "CUDA was initialised by an import"

    assert transformers.Trainer is not None  # imported at this moment, as the peer needs it
    print(f"Imports: {time.monotonic() - start:.1f} s", flush=True)


def _names() -> str:
    return "Blocks: " + ", ".join(block.name for block in BLOCKS)


def _groups(blocks: list[Block]) -> Iterator[list[Block]]:
    """Group neighbouring blocks that may run at the same time; speed is measured alone."""
    for alone, group in groupby(blocks, key=lambda block: block.alone):
        if alone:
            yield from ([block] for block in group)
        else:
            yield list(group)


def _start(block: Block, device: str, out: Path, work: Path) -> Forked:
    (out / f"{block.name}.json").unlink(missing_ok=True)
    return Forked(lambda: run_block(block, device, out, work), out / f"{block.name}.log")


def _finish(block: Block, process: Forked, device: str, out: Path, end: float) -> dict[str, Any]:
    """Wait for a block, and return what it has written."""
    file = out / f"{block.name}.json"
    slower = 1 if device == "cuda" else 10  # a dry run may have one core of a busy machine
    ended = process.wait(min(block.timeout * slower, max(0.0, end - time.monotonic())))
    result = json.loads(file.read_text()) if file.is_file() else {}
    if result.get("status", "running") == "running":
        tail = process.log.read_text(encoding="utf-8", errors="replace").splitlines()
        result |= {"status": "broken", "summary": ended, "log": tail[-TRACEBACK_LINES:]}
    return _told(block, file, result, process.seconds)


def _told(block: Block, file: Path, result: dict[str, Any], seconds: float) -> dict[str, Any]:
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
    """All results in one, with the card and the versions in front."""
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
    """The process of one block: do its work, and write how it ended."""
    check = Check(device, out / f"{block.name}.json", work)
    check.write("running")
    try:
        if check.on_gpu and not block.where.startswith("training:"):
            import torch

            if not torch.cuda.is_available():
                raise RuntimeError("PyTorch finds no CUDA device; try --device cpu for a dry run")
        block.run(check)
    except NeedsGpu:
        check.summary = "nothing to do without a GPU"
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
