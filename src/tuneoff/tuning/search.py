"""Execution of a search: the trials of each method, then the study with the best settings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.util import find_spec

from tuneoff.config import RunSpec, StudySpec, Trial, TuneSpec
from tuneoff.exceptions import BadInput, MissingExtra
from tuneoff.results.record import RunRecord, Status, TaskRecord
from tuneoff.results.store import StudyFolder, alone_in, check_inside, check_writable
from tuneoff.scheduling import Launcher, Prepared
from tuneoff.scheduling.plan import complete, plan
from tuneoff.scheduling.study import (
    Undecided,
    Watcher,
    in_parallel,
    is_set_aside,
    prepare,
    run_one,
    run_study,
    with_columns,
)
from tuneoff.tuning.propose import floors, propose
from tuneoff.tuning.space import Settings, space_of, start_of, tuning_issues, with_settings
from tuneoff.tuning.trials import SETTLED, MethodSearch, Tuned, higher_is_better, tried


def run_tuned(
    study: StudySpec,
    folder: StudyFolder,
    *,
    launcher: Launcher,
    watch: Watcher,
    fresh: bool = False,
    undecided: Undecided | None = None,
) -> tuple[TaskRecord, list[RunRecord]]:
    """Execute a study, with the settings that `tune_study` finds if the study has a search.

    The test rows are not read before all searches have ended. For arguments, result and errors see
    `tuneoff.scheduling.study.run_study`.
    """
    settings = None
    if study.tune is not None:
        settings = tune_study(study, folder, launcher=launcher, watch=watch, fresh=fresh).methods
    return run_study(
        study,
        folder,
        launcher=launcher,
        watch=watch,
        fresh=fresh,
        settings=settings,
        undecided=undecided,
    )


def tune_study(
    study: StudySpec,
    folder: StudyFolder,
    *,
    launcher: Launcher,
    watch: Watcher,
    fresh: bool = False,
) -> Tuned:
    """Execute the trials of each method, and write `tuned.yaml` with the best settings.

    Args:
        study: Specification of the study, with a section `tune`.
        folder: Folder of the study.
        launcher: Executes the trials.
        watch: Receives the progress.
        fresh: Whether to repeat trials that have records.

    Returns:
        The searches of all methods.

    Raises:
        BadInput: The study is invalid; nothing was run.
    """
    study = complete(study)
    assert study.tune is not None
    if issues := tuning_issues(study):
        raise BadInput(issues)
    if find_spec("optuna") is None:
        raise MissingExtra("optuna", "tune", "Tuning")
    check_writable(folder.path)
    with alone_in(folder.path):
        # The file is written again at the end; until then it would be out of date.
        folder.trials_file.unlink(missing_ok=True)
        prepared = prepare(study, folder, launcher, watch)
        searches = [
            _Search(study, study.tune, i, folder, prepared) for i in range(len(study.methods))
        ]
        if not fresh:
            for search in searches:
                search.replay()
        done = sum(len(search.found.tried) for search in searches)
        wanted = sum(search.wanted for search in searches)
        watch.planned(wanted, done, prepared.task, "trial")
        jobs = [
            partial(search.go_on, launcher=launcher, watch=watch, fresh=fresh)
            for search in searches
        ]
        in_parallel(jobs, launcher)
        tuned = Tuned(study.tune, study.metric, [search.found for search in searches])
        named = with_columns(study, prepared)
        final = replace(named, methods=tuned.methods, tune=None)
        folder.write_tuned(final, tuned.to_plain())
    return tuned


def _is_settled(record: RunRecord) -> bool:
    """Return whether a trial with this record is not run again."""
    return record.status in SETTLED or is_set_aside(record)


class _Search:
    """Search of one entry of the study."""

    def __init__(
        self,
        study: StudySpec,
        tune: TuneSpec,
        place: int,
        folder: StudyFolder,
        prepared: Prepared,
    ) -> None:
        entry = study.methods[place]
        space = space_of(entry, study, prepared.hidden_size)
        self.found = MethodSearch(
            entry,
            start_of(entry, study, list(space), prepared.hidden_size),
            space,
            higher_is_better(study.metric),
        )
        self.wanted = tune.trials if space else 0
        self._study, self._tune = study, tune
        self._folder, self._prepared = folder, prepared

    def replay(self) -> None:
        """Read the trials of an earlier execution, up to the first missing one."""
        while len(self.found.tried) < self.wanted:
            spec, settings = self._next()
            record = self._folder.trial(spec.run_id).record()
            if record is None or not _is_settled(record):
                return
            self._take(spec, settings, record)

    def go_on(self, *, launcher: Launcher, watch: Watcher, fresh: bool) -> None:
        """Execute the missing trials; return early if the study is interrupted."""
        while len(self.found.tried) < self.wanted:
            spec, settings = self._next()
            folder = self._folder.trial(spec.run_id)
            check_inside(folder.path, self._folder.path)
            known = None if fresh else folder.record()
            if known is None or not _is_settled(known):
                known = run_one(
                    spec, folder, self._prepared, launcher=launcher, watch=watch, fresh=fresh
                )
            else:  # a trial with the same settings has finished before
                watch.ended(spec, known)
            if known.status is Status.INTERRUPTED:
                return
            self._take(spec, settings, known)

    def _take(self, spec: RunSpec, settings: Settings, record: RunRecord) -> None:
        history = self._folder.trial(spec.run_id).history()
        self.found.tried.append(tried(spec, settings, record, history))

    def _next(self) -> tuple[RunSpec, Settings]:
        """Return the next trial and its searched settings; the first has the study's settings."""
        search, tune = self.found, self._tune
        settings, entry = search.start, search.entry
        if search.tried or not all(search.start[n] in own for n, own in search.space.items()):
            settings = propose(
                search.space, search.tried, seed=tune.seed, higher_is_better=search.higher_is_better
            )
            entry = with_settings(entry, settings)
        can_prune = tune.prune and "epochs" not in search.space
        trial = Trial(
            number=len(search.tried) + 1,
            floors=floors(search.tried, higher_is_better=search.higher_is_better)
            if can_prune
            else (),
            rows=tune.rows,
        )
        study = replace(self._study, methods=(entry,), seeds=(tune.seed,))
        (spec,) = plan(study, self._prepared)
        return replace(spec, trial=trial), settings
