"""The worker process: it loads the engine once and forks a process for every request.

It reads requests as lines of JSON and answers with events. Loading the engine takes seconds and is
done once; a fork takes milliseconds and has its own memory. The worker itself never computes,
because its threads would be missing in the child, and never initialises CUDA, which a fork could
then not use. If a library has initialised CUDA (detection of GPUs does so without NVML and on MIG
instances), each request is handled by a new process that loads the engine again.
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
"""`start(request, writing, of_parent)` starts a process for a request and returns its id.

The process writes its events to the descriptor `writing` and closes the streams `of_parent`.
"""


def prepare(request: Request, send: Send) -> None:
    """Find the model and prepare the task; send `prepared`, or `refused` with the issues."""
    from tuneoff.engine.data import prepare
    from tuneoff.engine.data.gather import gather
    from tuneoff.engine.model.precision import choose_device, choose_precision
    from tuneoff.engine.model.source import find_model

    collected, data = IssueList(), DataSpec(**request["data"])
    try:
        with collected.collecting():
            device = choose_device(request["device"])
            for precision in request["precisions"]:
                choose_precision(precision, device)
        send({"event": "progress", "phase": "model"})
        with collected.collecting():
            model = find_model(request["model"])
            max_length = model.length(request["max_length"])
        send({"event": "progress", "phase": "data"})
        if collected.issues:  # report the issues of the data as well
            with collected.collecting():
                gather(data)
        collected.raise_any()
        folder = Path(request["folder"])
        task = prepare(
            data,
            model=model.name,
            model_path=model.path,
            model_fingerprint=model.fingerprint,
            model_type=model.model_type,
            max_length=max_length,
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
    """Check the model, and each method on a model without weights; send `prepared` or `refused`."""
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
    """Execute the run whose specification is in the folder; the output goes to its log."""
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
    """Write an excerpt of a prepared task; send `prepared`."""
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
    """Check that the saved model of a run gives the same output as in the run."""
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
    """Import the modules that every run needs, so that forks have them.

    This must be called in the main thread: if PyTorch was imported in another thread, a forked
    child hangs in its first float32 matrix product (MKL counts its memory by thread).
    """
    # On a CPU, bitsandbytes logs at import that kernels are missing which tuneoff does not use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    bitsandbytes.hide()
    # Garbage collection would take a sixth of the time of the imports, and free little memory.
    gc.disable()
    import peft  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import transformers.models.auto.modeling_auto  # noqa: F401

    import tuneoff.engine.execute  # noqa: F401

    # A million objects of the libraries exist until the end. Frozen objects are ignored by garbage
    # collection in a run, which saves a second per run and avoids copies of their memory pages.
    gc.collect()
    gc.freeze()
    gc.enable()


def main() -> None:
    """Handle requests until standard input ends.

    With `--load`, the engine is loaded immediately. With `--request FD`, a single request is read
    from standard input, and its events are written to the file descriptor FD.
    """
    # Hide deprecation warnings of third-party libraries.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    # Python 3.12 and newer warn at each fork about the threads of NumPy's BLAS library, which are
    # started again in the child.
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, message="This process .* is multi-threaded"
    )
    # When a study is interrupted, its runs get these signals to save and end. The worker ends when
    # the study does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--request", type=int, metavar="FD")
    arguments = parser.parse_args()
    if arguments.request is not None:
        request = json.loads(sys.stdin.read())
        if request["do"] != "prepare":
            load_engine()
        _work(_JOBS[request["do"]], request, arguments.request)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # separates the output of libraries from the answers
    start: Start = _forked
    loaded = False
    if arguments.load:
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
                # A failed check does not change the record; its error is in the log of the run.
                checked = _done(start, {**request, "do": "check"}, answers, requests)
                code = None if checked is None else code
            if code is None:
                return  # the parent process is gone
            if not _written(answers, json.dumps({"event": "ended", "exit": code}) + "\n"):
                return


def _loaded() -> Start:
    """Load the engine, and return the function that starts processes with it."""
    load_engine()
    return _forked if forks_can_use_cuda() else _spawned


def forks_can_use_cuda() -> bool:
    """Return whether a fork of this process can initialise CUDA; True if PyTorch has no CUDA."""
    import torch

    child = os.fork()
    if child == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _say(channel: IO[str], event: dict[str, Any]) -> None:
    channel.write(json.dumps(event) + "\n")
    channel.flush()


def _written(answers: IO[str], text: str) -> bool:
    """Write `text`, and return whether the parent process still exists to read it."""
    try:
        answers.write(text)
        answers.flush()
    except BrokenPipeError:
        return False
    return True


def _done(start: Start, request: Request, answers: IO[str], requests: IO[bytes]) -> int | None:
    """Handle a request in a new process, and forward its events.

    Returns:
        Its exit code, or minus the number of the signal that ended it. None if the parent process
        has ended; the new process is then killed.
    """
    reading, writing = os.pipe()
    child = start(request, writing, (answers, reading))
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as events, selectors.DefaultSelector() as waiting:
        waiting.register(events, selectors.EVENT_READ)
        waiting.register(requests, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in waiting.select()}
            # During a request, standard input becomes readable only when it ends.
            if requests not in ready:
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
    """Start a fork that handles the request, and return its process id."""
    child = os.fork()
    if child == 0:
        answers, reading = of_parent
        os.close(reading)
        answers.close()  # otherwise the parent would not notice the death of the worker
        _work(_JOBS[request["do"]], request, writing)
    return child


def _spawned(request: Request, writing: int, of_parent: tuple[IO[str], int]) -> int:
    """Start a new process that handles the request, and return its process id."""
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
    """Handle the request in the child process, which then exits."""
    code, channel = 1, None
    try:
        channel = os.fdopen(writing, "w", buffering=1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        job(request, partial(_say, channel))
        channel.close()
        code = 0
    except BaseException as error:
        if channel is not None and (trouble := disk_trouble(error)) is not None:
            # The disk may be too full for a record or a log, so the parent process is told.
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
