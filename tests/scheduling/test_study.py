"""Studies: their runs, finished runs, and invalid studies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tuneoff.config import RunSpec, StudySpec, parse_study
from tuneoff.display.progress import Lines, Quiet, end_line, plan_line, progress_line
from tuneoff.exceptions import BadInput
from tuneoff.results.record import Cost, DataInfo, MethodInfo, RunRecord, Status, TaskRecord
from tuneoff.results.store import RunFolder, StudyFolder
from tuneoff.scheduling import Prepared
from tuneoff.scheduling.launcher import Exit
from tuneoff.scheduling.plan import complete, plan
from tuneoff.scheduling.study import run_study, train_one


class InMemory(nullcontext[Any]):
    """A launcher without processes; `exits` defines how each run ends, by name."""

    workers = 1

    def __init__(self, prepared: Prepared, exits: dict[str, Exit]) -> None:
        super().__init__()
        self.prepared = prepared
        self.exits = exits
        self.ran: list[str] = []

    def prepare(self, *_: Any) -> Prepared:
        return self.prepared

    def run(
        self, spec: RunSpec, folder: RunFolder, prepared: Prepared, watch: Callable[..., None]
    ) -> Exit:
        self.ran.append(spec.run_id)
        assert folder.spec() == spec
        return self.exits[spec.name]

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def in_memory(prepared: Prepared) -> Callable[..., InMemory]:
    return partial(InMemory, prepared)


def asked(*methods: Any, **changes: Any) -> StudySpec:
    plain = {"model": "m", "data": {"train": "t.csv"}, "methods": list(methods), **changes}
    return complete(parse_study(plain))


def test_all_methods_run_with_one_seed_before_the_next_begins(prepared: Prepared) -> None:
    specs = plan(asked("full", {"method": "lora", "learning_rate": 1e-3}, seeds=[4, 2]), prepared)
    assert [(s.name, s.seed) for s in specs] == [
        *(("full", 4), ("lora", 4)),
        *(("full", 2), ("lora", 2)),
    ]
    assert len({s.run_id for s in specs}) == 4
    assert specs[1].train.learning_rate == 1e-3
    assert specs[0].train.learning_rate == "auto"
    assert {s.train.max_length for s in specs} == {
        64
    }  # the value of the task, if the study has none
    assert {s.data_fingerprint for s in specs} == {"d"}


def test_deterministic_method_runs_with_the_first_seed_only(prepared: Prepared) -> None:
    specs = plan(
        asked("tfidf", "full", {"method": "tfidf", "name": "words", "c": 3}, seeds=[4, 2]), prepared
    )
    runs = [(s.name, s.seed) for s in specs]
    assert runs == [("tfidf", 4), ("full", 4), ("words", 4), ("full", 2)]


def test_precision_of_the_machine_is_part_of_the_run_id(prepared: Prepared) -> None:
    study = asked("full", {"method": "full", "name": "exact", "precision": "fp32"}, seeds=1)
    here = plan(study, prepared)
    assert [(s.train.device, s.train.precision) for s in here] == [("cpu", "bf16"), ("cpu", "fp32")]
    plain = plan(study, replace(prepared, precision="fp32"))
    assert plain[0].run_id != here[0].run_id
    assert plain[1].run_id == here[1].run_id
    assert plan(study, replace(prepared, device="cuda"))[1].run_id != here[1].run_id


def test_further_seeds_of_undecided_methods(in_memory: Any, tmp_path: Path) -> None:
    """`undecided` is called after each seed with the runs so far."""
    failed = Exit(1, out_of_memory=False, interrupted=False)
    asked_of: list[set[str]] = []
    answers = [["full", "lora", "tfidf"], ["lora"], []]

    def undecided(run_ids: Any) -> list[str]:
        asked_of.append({run_id.rpartition("-")[0] for run_id in run_ids})
        return answers[len(asked_of) - 1]

    launcher = in_memory(dict.fromkeys(("full", "lora", "tfidf"), failed))
    study = asked("full", "lora", "tfidf", seeds="2:5")
    folder = StudyFolder(tmp_path)
    _, records = run_study(study, folder, launcher=launcher, watch=Quiet(), undecided=undecided)
    runs = [(r.method.name, r.seed) for r in records]
    first = [("full", 0), ("lora", 0), ("tfidf", 0), ("full", 1), ("lora", 1)]
    assert runs == [*first, ("full", 2), ("lora", 2), ("lora", 3)]
    assert [len(ids) for ids in asked_of] == [5, 7, 8]
    assert asked_of[1] - asked_of[0] == {"full-s2", "lora-s2"}

    answers[:] = [["lora"]] * 9
    asked_of.clear()
    _, records = run_study(study, folder, launcher=launcher, watch=Quiet(), undecided=undecided)
    assert len(records) == 5 + 3  # the limit
    _, records = run_study(study, folder, launcher=launcher, watch=Quiet())
    assert len(records) == 5


def test_no_further_seed_after_the_time_limit(in_memory: Any, tmp_path: Path) -> None:
    class Timed(Quiet):
        """Launcher whose runs have records of ten minutes."""

        def started(self, spec: RunSpec) -> None:
            folder = StudyFolder(tmp_path).run(spec.run_id)
            folder.write_record(
                RunRecord(
                    run_id=spec.run_id,
                    status=Status.FINISHED,
                    method=MethodInfo(spec.name, spec.method, "full", spec.config),
                    seed=spec.seed,
                    model=spec.model,
                    metric=spec.metric,
                    data=DataInfo("d", 1, 1, 1, ["a", "b"]),
                    train={},
                    cost=Cost(total_seconds=600),
                )
            )

    def runs(limit: str | None, workers: int = 1) -> int:
        launcher = in_memory(dict.fromkeys(("full", "lora"), Exit(0, False, False)))
        launcher.workers = workers
        study = asked("full", "lora", seeds="2:8", max_study_seconds=limit)
        _, records = run_study(
            study,
            StudyFolder(tmp_path),
            launcher=launcher,
            watch=Timed(),
            undecided=lambda _: ["full", "lora"],
        )
        return len(records)

    assert runs("10m") == 4  # the first seeds are always run
    assert runs("1h") == 6
    assert runs("1h") == 6  # the time of finished runs counts
    assert runs("1h", workers=2) == 12
    assert runs("1h", workers=9) == 12  # seeds are run one after another
    assert runs(None) == 16


@pytest.mark.parametrize(
    ("ended", "status", "said"),
    [
        (Exit(-9, False, False), Status.FAILED, "was ended (signal 9)"),
        (Exit(-9, True, False), Status.OUT_OF_MEMORY, "by the system, which was out of memory"),
        (Exit(-9, False, True), Status.INTERRUPTED, "because the study was interrupted"),
        (Exit(1, False, False), Status.FAILED, "(exit code 1)"),
    ],
)
def test_process_without_record_gets_one(
    in_memory: Any, tmp_path: Path, ended: Exit, status: Status, said: str
) -> None:
    launcher = in_memory({"full": ended})
    folder = StudyFolder(tmp_path)
    _, (record,) = run_study(asked("full", seeds=1), folder, launcher=launcher, watch=Quiet())
    assert record.status == status
    assert said in (record.error or "")
    assert folder.run(record.run_id).record() == record
    assert record.data.test_rows == 1200
    assert record.parameters is None

    # The run is not finished, so the next call repeats it.
    run_study(asked("full", seeds=1), folder, launcher=launcher, watch=Quiet())
    assert launcher.ran == [record.run_id] * 2


def test_run_that_fails_three_times_is_skipped(in_memory: Any, tmp_path: Path) -> None:
    study = asked("full", "lora", seeds=1)
    folder, failed = StudyFolder(tmp_path), Exit(1, out_of_memory=False, interrupted=False)
    for failures in (1, 2, 3):
        launcher = in_memory({"full": failed, "lora": failed})
        _, records = run_study(study, folder, launcher=launcher, watch=Quiet())
        assert len(launcher.ran) == 2
        assert [r.failures for r in records] == [failures] * 2
        assert ("--fresh" in (records[0].error or "")) == (failures == 3)
    kept = folder.run(records[0].run_id).record()
    assert kept == records[0]

    class Noted(Quiet):
        ended_runs: list[str] = []  # noqa: RUF012

        def ended(self, spec: RunSpec, record: RunRecord) -> None:
            self.ended_runs.append(record.run_id)

    launcher, watch = in_memory({"ia3": failed}), Noted()
    more = asked("full", "lora", "ia3", seeds=1)
    _, records = run_study(more, folder, launcher=launcher, watch=watch)
    assert launcher.ran == [records[2].run_id]  # the others are skipped and reported
    assert watch.ended_runs == [r.run_id for r in records]
    assert [r.status for r in records] == [Status.FAILED] * 3

    launcher = in_memory({"full": failed, "lora": failed})
    _, records = run_study(study, folder, launcher=launcher, watch=Quiet(), fresh=True)
    assert len(launcher.ran) == 2
    assert [r.failures for r in records] == [1, 1]


def test_interruption_is_not_a_failure(in_memory: Any, tmp_path: Path) -> None:
    stopped = Exit(-15, out_of_memory=False, interrupted=True)
    for _ in range(4):
        launcher = in_memory({"full": stopped})
        run_study(asked("full", seeds=1), StudyFolder(tmp_path), launcher=launcher, watch=Quiet())
        assert len(launcher.ran) == 1


def test_study_and_run_need_separate_folders(in_memory: Any, tmp_path: Path) -> None:
    launcher = in_memory({"full": Exit(1, False, False)})
    study = asked("full", seeds=1)
    run_study(study, StudyFolder(tmp_path / "study"), launcher=launcher, watch=Quiet())
    train_one(study, tmp_path / "run", launcher=launcher, watch=Quiet())
    assert [r.path for r in StudyFolder(tmp_path / "run").runs()] == [tmp_path / "run"]
    with pytest.raises(BadInput, match="is the folder of a study, not of a run"):
        train_one(study, tmp_path / "study", launcher=launcher, watch=Quiet())
    with pytest.raises(BadInput, match="is the folder of a run, not of a study"):
        run_study(study, StudyFolder(tmp_path / "run"), launcher=launcher, watch=Quiet())
    assert len(launcher.ran) == 2


def test_old_files_of_a_run_are_removed(in_memory: Any, tmp_path: Path) -> None:
    launcher = in_memory({"full": Exit(1, False, False)})
    folder = StudyFolder(tmp_path)
    (run_id,) = (spec.run_id for spec in plan(asked("full", seeds=1), launcher.prepared))
    run = folder.run(run_id)
    run.model.mkdir(parents=True)
    run.predictions_file.touch()
    run_study(asked("full", seeds=1), folder, launcher=launcher, watch=Quiet(), fresh=True)
    assert {p.name for p in run.path.iterdir()} == {"spec.json", "record.json"}


def test_class_weights_name_labels_of_the_task(in_memory: Any, tmp_path: Path) -> None:
    launcher = in_memory({})
    study = asked({"method": "full", "class_weights": {"b": 2, "B": 3}})
    with pytest.raises(
        BadInput, match=r"'B' is not a label of the data\n  Hint: Did you mean 'b'\?"
    ):
        run_study(study, StudyFolder(tmp_path), launcher=launcher, watch=Quiet())
    assert launcher.ran == []
    assert not (tmp_path / "study.yaml").exists()


def test_progress_in_lines(
    in_memory: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = in_memory({"full": Exit(1, False, False), "head": Exit(1, False, False)})
    warned = replace(launcher.prepared.task, warnings=["two [rows] are odd"])
    launcher.prepared = replace(launcher.prepared, task=warned)
    study = asked("full", "head", seeds=1)
    run_study(study, StudyFolder(tmp_path), launcher=launcher, watch=Lines())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "2 runs on 1,200 / 1,200 / 1,200 rows (train / validation / test), 2 labels,"
        " up to 64 tokens"
    )
    assert lines[1] == "note: two [rows] are odd"
    assert lines[2] == "full, seed 0: started"
    assert lines[3].startswith("[1/2] full, seed 0: failed: the process of the run was ended")
    assert lines[5].startswith("[2/2] head, seed 0: failed: ")


def test_progress_messages(task_record: TaskRecord) -> None:
    assert plan_line(1, 0, task_record).startswith("1 run on ")
    assert plan_line(3, 2, task_record).endswith("; 2 already finished")
    event = {"phase": "train", "step": 1500, "steps": 3000}
    assert progress_line(event) == "training 1,500/3,000"
    fast = progress_line({**event, "samples_per_second": 1234.5, "seconds_left": 61.0})
    assert fast.startswith("training 1,500/3,000, 1,234 samples/s, ")
    assert fast.endswith(" left")


def test_progress_of_a_run_without_messages(in_memory: Any, tmp_path: Path) -> None:
    launcher = in_memory({"full": Exit(1, False, False)})
    study = asked("full", seeds=1)
    _, (record,) = run_study(study, StudyFolder(tmp_path), launcher=launcher, watch=Quiet())
    silent = RunRecord.from_plain({**record.to_plain(), "error": None})
    assert end_line(plan(study, launcher.prepared)[0], silent) == "full, seed 0: failed: "
