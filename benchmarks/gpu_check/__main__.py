"""Check tuneoff on a CUDA GPU and measure it there, in at most six minutes: `make gpu-check`.

    python benchmarks/gpu_check [--out FOLDER] [--results FOLDER] [--blocks a,b] [--budget SECONDS]
                                [--device cuda|cpu]

Each block runs in a process of its own with a timeout of its own, and a block that fails stops no
other. Its result is FOLDER/<block>.json as soon as it ends, its output FOLDER/<block>.log. All
results together are <card>-<date>.json, in the folder of `--results`. With `--device cpu` the check
is a dry run with tiny sizes, in which blocks that need a GPU say so.

Nothing is needed but the repository and the packages that tuneoff itself needs; models have random
weights, and rows are drawn. Everything works offline.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from blocks import BLOCKS, Block, chosen
from check import Check, NeedsGpu, write_json

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
TRACEBACK_LINES = 15

_at_work: list[subprocess.Popen[bytes]] = []
"""Processes of blocks that were started."""


def main() -> None:
    asked = _arguments()
    if asked.block:
        raise SystemExit(run_block(asked.block, asked.device, asked.out, asked.work))
    signal.signal(signal.SIGTERM, _end)
    out: Path = asked.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    budget = asked.budget or (360 if asked.device == "cuda" else 3600)
    blocks, end = chosen(asked.blocks), time.monotonic() + budget
    done: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        for group in _groups(blocks):
            # Blocks that measure no speed share the GPU; what limits them is their start.
            with ThreadPoolExecutor(len(group) if asked.device == "cuda" else 1) as pool:
                arguments = (asked.device, out, Path(work), end)
                running = {b.name: pool.submit(_isolated, b, *arguments) for b in group}
                for name, result in running.items():
                    done[name] = result.result()
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
    parser.add_argument("--block", help=argparse.SUPPRESS)  # of the process of one block
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _names() -> str:
    return "Blocks: " + ", ".join(block.name for block in BLOCKS)


def _groups(blocks: list[Block]) -> Iterator[list[Block]]:
    """Neighbours that may run at the same time; a block that measures speed by itself."""
    for alone, group in groupby(blocks, key=lambda block: block.alone):
        if alone:
            yield from ([block] for block in group)
        else:
            yield list(group)


def _isolated(block: Block, device: str, out: Path, work: Path, end: float) -> dict[str, Any]:
    """Run one block in a process of its own, and return what it has written."""
    file, log = out / f"{block.name}.json", out / f"{block.name}.log"
    file.unlink(missing_ok=True)
    left = end - time.monotonic()
    if left < 5:
        result = {"status": "not run", "summary": "the budget of seconds was spent"}
        return _told(block, file, result, 0.0)
    command = [sys.executable, str(HERE), "--block", block.name, "--device", device]
    command += ["--out", str(out), "--work", str(work)]
    start = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(one_thread=device == "cpu" or not block.alone),
        )
        _at_work.append(process)
        try:
            slower = 1 if device == "cuda" else 10  # a dry run may have one core of a busy machine
            process.wait(timeout=min(block.timeout * slower, left))
            ended = f"its process ended with code {process.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {time.monotonic() - start:.0f} s"
        finally:
            _kill(process)
            process.wait()
            _at_work.remove(process)
    result = json.loads(file.read_text()) if file.is_file() else {}
    if result.get("status", "running") == "running":
        result |= {"status": "broken", "summary": ended, "log": _tail(log)}
    return _told(block, file, result, time.monotonic() - start)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a block's process and those of its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(*_: object) -> None:
    """On SIGTERM, end the blocks at work with the check; their findings so far are on disk."""
    for process in _at_work:
        _kill(process)
    os._exit(143)


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


def _tail(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-TRACEBACK_LINES:]


def _environment(*, one_thread: bool) -> dict[str, str]:
    """Of a block's process: the repository's tuneoff, and no look at the network."""
    paths = [str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        **({"OMP_NUM_THREADS": "1"} if one_thread else {}),  # beside others, threads only wait
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }


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


def run_block(name: str, device: str, out: Path, work: Path) -> int:
    """The process of one block: do its work, and write how it ended."""
    block = next(b for b in BLOCKS if b.name == name)
    check = Check(device, out / f"{name}.json", work)
    check.write("running")
    try:
        if check.on_gpu:
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
