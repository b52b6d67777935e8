"""The worker process: loads the engine once and forks a process for every request.

The module reads requests as lines of JSON and answers with events. Loading the engine takes
seconds and is done once; a fork takes milliseconds and has memory of its own. The parent never
computes: threads that it had started would be missing in the child. Nor does it touch CUDA, which
a fork could not use any more. Where a library has done so all the same (looking for GPUs
initialises CUDA where NVML is missing, and on MIG instances), requests are done by new processes
that load the engine anew.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import selectors
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

from tuneoff.config import DataSpec
from tuneoff.exceptions import BadInput, Issue, IssueList
from tuneoff.methods import method
from tuneoff.results.store import RunFolder, disk_trouble
from tuneoff.scheduling import bitsandbytes
from tuneoff.scheduling.process import python_command

Request = dict[str, Any]
Send = Callable[[dict[str, Any]], None]
Start = Callable[[Request, int, tuple[IO[str], int]], int]
"""`start(request, writing, of_parent)`: starts a process that writes its events to the descriptor
`writing` and holds nothing `of_parent`; its process id."""


def prepare(request: Request, send: Send) -> None:
    """Find the model and prepare the task; answer `prepared`, or `refused` with the issues."""
    from tuneoff.engine.data import prepare
    from tuneoff.engine.data.gather import gather
    from tuneoff.engine.model.precision import choose_device, choose_precision
    from tuneoff.engine.model.source import find_model

    found, data = IssueList(), DataSpec(**request["data"])
    try:
        with found.collecting():
            device = choose_device(request["device"])
            for precision in request["precisions"]:
                choose_precision(precision, device)
        send({"event": "progress", "phase": "model"})
        with found.collecting():
            model = find_model(request["model"])
            asked = model.length(request["max_length"])
        send({"event": "progress", "phase": "data"})
        if found.issues:  # those of the data with them
            with found.collecting():
                gather(data)
        found.raise_any()
        folder = Path(request["folder"])
        task = prepare(
            data,
            model=model.name,
            model_path=model.path,
            model_fingerprint=model.fingerprint,
            model_type=model.model_type,
            max_length=asked,
            folder=folder,
        )
    except BadInput as error:
        send({"event": "refused", "issues": [asdict(issue) for issue in error.issues]})
        return
    except OSError as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        send({"event": "refused", "issues": [asdict(Issue(trouble))]})
        return
    send(
        {
            "event": "prepared",
            "task": task.to_plain(),
            "task_path": str(folder / task.key),
            "model_path": str(model.path),
            "device": device.type,
            "precision": choose_precision("auto", device),
        }
    )


def fit(request: Request, send: Send) -> None:
    """Check the model, then each method on its outline; answer `prepared` or `refused`."""
    import torch

    from tuneoff.engine.data.task import open_task
    from tuneoff.engine.model.load import check_fits
    from tuneoff.engine.model.source import hidden_size
    from tuneoff.engine.verification.before_training import check_model

    if any(method(chosen).quantized for _, chosen, _ in request["methods"]):
        bitsandbytes.reveal()
    torch.set_num_threads(request["threads"])
    model = Path(request["model_path"])
    task = open_task(Path(request["task_path"]))
    encoders = [m for _, name, _ in request["methods"] if (m := method(name)).apply]
    if encoders:
        try:
            check_model(
                model,
                task.labels,
                task.splits["train"],
                quantized=all(encoder.quantized for encoder in encoders),
                device=torch.device(request["device"]),
                precision=request["precision"],
            )
        except BadInput as error:
            send({"event": "refused", "issues": [asdict(issue) for issue in error.issues]})
            return
    longest = max(int(split.tokens.lengths.max()) for split in task.splits.values())
    issues: list[Issue] = []
    for name, chosen, config in request["methods"]:
        try:
            check_fits(model, chosen, config, task.labels, longest=longest)
        except BadInput as error:
            issues += [replace(x, message=f"method {name!r}: {x.message}") for x in error.issues]
    if issues:
        send({"event": "refused", "issues": [asdict(issue) for issue in issues]})
    else:
        send({"event": "prepared", "hidden_size": hidden_size(model)})


def run(request: Request, send: Send) -> None:
    """Run the spec that stands in the request's folder; what it prints goes to the run's log."""
    import torch

    from tuneoff.engine.execute import run

    folder = RunFolder(request["folder"])
    log = os.open(folder.log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(request["threads"])
    spec = folder.spec()
    if method(spec.method).quantized:
        bitsandbytes.reveal()
    run(
        spec,
        folder,
        task_path=Path(request["task_path"]),
        model_path=Path(request["model_path"]),
        emit=send,
        own_process=True,
        whole=Path(request["whole"]) if request["whole"] else None,
        profile=request["profile"],
        concurrent_runs=request["concurrent_runs"],
    )


def excerpt(request: Request, send: Send) -> None:
    """Write some rows of a prepared task as a task of their own; answer `prepared`."""
    from tuneoff.engine.data.excerpt import take_excerpt

    taken = take_excerpt(
        Path(request["task_path"]),
        Path(request["folder"]),
        batch_size=request["batch_size"],
        epochs=request["epochs"],
        seeds=request["seeds"],
        train_rows=request["train_rows"],
    )
    send({"event": "prepared", **taken.to_plain()})


def check(request: Request, send: Send) -> None:
    """Hold the model that a run has just saved against the one that it measured."""
    from tuneoff.engine.execute import check_saved

    folder = RunFolder(request["folder"])
    log = os.open(folder.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    send({"event": "progress", "phase": "check"})
    record = folder.record()
    if record is not None and method(record.method.method).quantized:
        bitsandbytes.reveal()
    check_saved(folder, Path(request["task_path"]))


_JOBS = {"prepare": prepare, "fit": fit, "run": run, "check": check, "excerpt": excerpt}


def load_engine() -> None:
    """Import what every run needs, so that forks have it.

    In the main thread: a child of a process that imported PyTorch in another one hangs in its first
    float32 product (MKL counts its memory by thread).
    """
    # On a CPU it says at import that it lacks kernels which tuneoff does not call.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    bitsandbytes.hide()
    # Garbage collection during the imports would take a sixth of their time and free little.
    gc.disable()
    import peft  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import transformers.models.auto.modeling_auto  # noqa: F401

    import tuneoff.engine.execute  # noqa: F401

    # A million objects of the libraries live until the end: a run need not look through them each
    # time it collects garbage (a second per run), nor copy their pages by doing so.
    gc.collect()
    gc.freeze()
    gc.enable()


def main() -> None:
    """Serve requests until standard input ends; with `--load` the engine is loaded at once.

    With `--request FD` the one request on standard input is done, its events going to FD.
    """
    # Notes of the libraries to their developers are no business of who runs a study.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    # Python 3.12 and newer say so of each fork: NumPy's library of products has started threads,
    # and starts them again in the child.
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, message="This process .* is multi-threaded"
    )
    # A study that is interrupted asks its runs to save and end; the worker itself ends with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--request", type=int, metavar="FD")
    asked = parser.parse_args()
    if asked.request is not None:
        request = json.loads(sys.stdin.read())
        if request["do"] != "prepare":
            load_engine()
        _work(_JOBS[request["do"]], request, asked.request)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    start: Start = _forked
    loaded = False
    if asked.load:
        start, loaded = _loaded(), True
    with os.fdopen(0, "rb", buffering=0) as requests:
        while line := requests.readline():
            request = json.loads(line)
            if request["do"] != "prepare" and not loaded:
                start, loaded = _loaded(), True
            code = _done(start, request, answers, requests)
            if (
                code == 0
                and request["do"] == "run"
                and RunFolder(request["folder"]).sample_file.is_file()
            ):
                # The record stands; what a failing check says is in the run's log.
                checked = _done(start, {**request, "do": "check"}, answers, requests)
                code = None if checked is None else code
            if code is None:
                return  # the parent process is gone
            if not _written(answers, json.dumps({"event": "ended", "exit": code}) + "\n"):
                return


def _loaded() -> Start:
    """Load the engine; the way to start processes with it."""
    load_engine()
    return _forked if forks_can_use_cuda() else _spawned


def forks_can_use_cuda() -> bool:
    """Whether a fork of this process could initialise CUDA; true where PyTorch is without it."""
    import torch

    child = os.fork()
    if child == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _say(channel: IO[str], event: dict[str, Any]) -> None:
    channel.write(json.dumps(event) + "\n")
    channel.flush()


def _written(answers: IO[str], text: str) -> bool:
    """Write `text`; return whether the parent process is still there to read it."""
    try:
        answers.write(text)
        answers.flush()
    except BrokenPipeError:
        return False
    return True


def _done(start: Start, request: Request, answers: IO[str], requests: IO[bytes]) -> int | None:
    """Do the request in a process of its own; its exit code, or minus its signal.

    Hands on what it sends. None if standard input ended meanwhile: then the process was killed,
    because nobody waits for it.
    """
    reading, writing = os.pipe()
    child = start(request, writing, (answers, reading))
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as events, selectors.DefaultSelector() as waiting:
        waiting.register(events, selectors.EVENT_READ)
        waiting.register(requests, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in waiting.select()}
            if requests not in ready:  # no request comes while one is done: that would be its end
                chunk = os.read(events.fileno(), 1 << 16)
                if not chunk:
                    break
                if _written(answers, chunk.decode()):
                    continue
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _forked(request: Request, writing: int, of_parent: tuple[IO[str], int]) -> int:
    """Start a fork that does the request; its process id."""
    child = os.fork()
    if child == 0:
        answers, reading = of_parent
        os.close(reading)
        answers.close()  # else the parent would not notice that the worker died
        _work(_JOBS[request["do"]], request, writing)
    return child


def _spawned(request: Request, writing: int, of_parent: tuple[IO[str], int]) -> int:
    """Start a new process that does the request; its process id."""
    command = python_command("tuneoff.scheduling.worker", "--request", str(writing))
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(request).encode())
        file.seek(0)
        os.set_inheritable(writing, True)
        return os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 0)],
        )


def _work(job: Callable[[Request, Send], None], request: Request, writing: int) -> NoReturn:
    """The child: does the job and never returns."""
    code, channel = 1, None
    try:
        channel = os.fdopen(writing, "w", buffering=1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        job(request, partial(_say, channel))
        channel.close()
        code = 0
    except BaseException as problem:
        if channel is not None and (trouble := disk_trouble(problem)) is not None:
            # Neither a record nor the log may have found room: the parent hears of it here.
            with suppress(OSError):
                _say(channel, {"event": "trouble", "said": trouble})
        with suppress(OSError):
            traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
