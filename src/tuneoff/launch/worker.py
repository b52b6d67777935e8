"""The other side: holds the engine, and forks for every request.

`python -m tuneoff.launch.worker` reads requests as lines of JSON and answers with events. Loading
the engine takes seconds and is done once; a fork takes milliseconds and has memory of its own. The
parent never computes: threads that it had started would be missing in the child.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import selectors
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from tuneoff.errors import BadInput, Fault, FaultList
from tuneoff.launch import bitsandbytes
from tuneoff.methods import method
from tuneoff.spec import DataSpec
from tuneoff.store import RunFolder, disk_trouble

Request = dict[str, Any]
Send = Callable[[dict[str, Any]], None]


def prepare(request: Request, send: Send) -> None:
    """Find the model and prepare the task; answer `prepared`, or `refused` with the faults."""
    from tuneoff.data import prepare
    from tuneoff.data.gather import gather
    from tuneoff.model.precision import choose_device, choose_precision
    from tuneoff.model.source import find_model

    found, data = FaultList(), DataSpec(**request["data"])
    try:
        with found.collecting():
            device = choose_device(request["device"])
        send({"event": "progress", "phase": "model"})
        with found.collecting():
            model = find_model(request["model"])
            asked = model.length(request["max_length"])
        send({"event": "progress", "phase": "data"})
        if found.faults:  # those of the data with them
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
        send({"event": "refused", "faults": [asdict(fault) for fault in error.faults]})
        return
    except OSError as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        send({"event": "refused", "faults": [asdict(Fault(trouble))]})
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
    """Try each method on the model's outline; answer `prepared`, or `refused` with the faults."""
    from tuneoff.data.task import open_task
    from tuneoff.model.load import check_fits
    from tuneoff.model.source import hidden_size

    if any(method(chosen).quantized for _, chosen, _ in request["methods"]):
        bitsandbytes.reveal()
    model = Path(request["model_path"])
    task = open_task(Path(request["task_path"]))
    longest = max(int(split.tokens.lengths.max()) for split in task.splits.values())
    faults: list[Fault] = []
    for name, chosen, config in request["methods"]:
        try:
            check_fits(model, chosen, config, task.labels, longest=longest)
        except BadInput as error:
            faults += [replace(x, message=f"method {name!r}: {x.message}") for x in error.faults]
    if faults:
        send({"event": "refused", "faults": [asdict(fault) for fault in faults]})
    else:
        send({"event": "prepared", "hidden_size": hidden_size(model)})


def run(request: Request, send: Send) -> None:
    """Run the spec that stands in the request's folder; what it prints goes to the run's log."""
    import torch

    from tuneoff.run import run

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
    )


def excerpt(request: Request, send: Send) -> None:
    """Write some rows of a prepared task as a task of their own; answer `prepared`."""
    from tuneoff.data.excerpt import take_excerpt

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
    from tuneoff.run import check_saved

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
    import peft  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torch
    import transformers.models.auto.modeling_auto  # noqa: F401

    import tuneoff.run  # noqa: F401

    assert not torch.cuda.is_initialized(), "CUDA is initialised before the fork"

    # A million objects of the libraries live until the end: a run need not look through them each
    # time it collects garbage (a second per run), nor copy their pages by doing so.
    gc.collect()
    gc.freeze()


def main() -> None:
    """Serve requests until standard input ends; with `--load` the engine is loaded at once."""
    # Notes of the libraries to their developers are no business of who runs a study.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    # A study that is interrupted asks its runs to save and end; the worker itself ends with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    if "--load" in sys.argv:
        load_engine()
    with os.fdopen(0, "rb", buffering=0) as requests:
        while line := requests.readline():
            request = json.loads(line)
            if request["do"] != "prepare":
                load_engine()
            job = _JOBS[request["do"]]
            code = _forked(job, request, answers, requests)
            if code == 0 and job is run and RunFolder(request["folder"]).sample_file.is_file():
                # The record stands; what a failing check says is in the run's log.
                checked = _forked(check, request, answers, requests)
                code = None if checked is None else code
            if code is None:
                return  # the desk is gone
            if not _written(answers, json.dumps({"event": "ended", "exit": code}) + "\n"):
                return


def _say(channel: IO[str], event: dict[str, Any]) -> None:
    channel.write(json.dumps(event) + "\n")
    channel.flush()


def _written(answers: IO[str], text: str) -> bool:
    """Whether there is still a desk to read `text`."""
    try:
        answers.write(text)
        answers.flush()
    except BrokenPipeError:
        return False
    return True


def _forked(
    job: Callable[[Request, Send], None], request: Request, answers: IO[str], requests: IO[bytes]
) -> int | None:
    """Do `job` in a child and hand on what it sends; its exit code, or minus its signal.

    None if standard input ended meanwhile: then the child was killed, because nobody waits for it.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        answers.close()  # else the desk would not see that the worker died
        _work(job, request, writing)
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


def _work(job: Callable[[Request, Send], None], request: Request, writing: int) -> None:
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
            # Neither a record nor the log may have found room: the desk hears of it here.
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
