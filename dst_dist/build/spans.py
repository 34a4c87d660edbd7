"""Makes transitions of the pieces of work on steps, and of what is said about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dst_dist.build.hearing import MEANT, NAMED, Cue
from dst_dist.build.matching import Matches, Run
from dst_dist.build.speech import ALONGSIDE, BACK, DONE, GIVE_UP, HOLD, UNDO
from dst_dist.data.state import TRANSITIONS

SLACK_S = 1.0
"""Times that are nearer than this are the same moment."""
EARLY_S = 3.0
"""Longest time from words about an interruption to the end of the work that they interrupt."""
LONG_S = 5.0
"""Least length of work that goes on with the step at hand after a break; shorter work begins the next step."""
ANSWERS = {
    "not_started": {"told": "start", BACK: "start"},
    "in_progress": {"other": "complete", DONE: "complete", HOLD: "pause", GIVE_UP: "cancel"},
    "paused": {"told": "resume", BACK: "resume", GIVE_UP: "cancel"},
    "completed": {UNDO: "reset"},
}
"""Status of a step -> the transition that a moment means for it, by what `_moments` says of that moment."""


@dataclass(frozen=True)
class Change:
    """A transition of a step, by its place among the steps, at a time in seconds."""

    time: float
    step: int
    transition: str


@dataclass(frozen=True)
class Scene:
    """Surroundings of a step's own work: all that is matched, and all work that begins, in order of time."""

    matches: Matches
    begins: Sequence[tuple[float, int]]

    def subject(self, cue: Cue) -> int | None:
        """Return the step that a cue is about."""
        return cue.subject([step for start, step in self.begins if start <= cue.sentence.time - SLACK_S])

    def about(self, step: int, act: str, after: float, before: float = float("inf")) -> list[Cue]:
        """Return the cues of a kind in [after, before] about a step."""
        return [
            cue
            for cue in self.matches.cues
            if cue.sentence.act == act and after <= cue.sentence.time <= before and self.subject(cue) == step
        ]

    def next_begin(self, step: int, after: float) -> float | None:
        """Return when another step begins, more than a moment later."""
        return next((start for start, other in self.begins if other != step and start > after + SLACK_S), None)


def find_changes(matches: Matches, untimed: dict[int, tuple[float, float | None]]) -> list[Change]:
    """Return the changes of all steps in order of time; those of a step are allowed one after the other.

    A step with annotated lines gets its times from them, another from the dialog.

    Args:
        untimed: ranges of the steps that are described without a time, for those that nobody tells either.
    """
    own: dict[int, list[Run]] = {}
    for run in matches.runs:
        own.setdefault(run.step, []).append(run)
    own = {step: runs for step, runs in own.items() if not all(run.is_undoing for run in runs)}
    begins = [(run.start, run.step) for run in matches.runs]
    spoken = _spoken_begins(matches, own)
    begins += [(time, step) for step, time in spoken.items()]
    placed = {step: times for step, times in untimed.items() if step not in own and step not in spoken}
    begins += [(start, step) for step, (start, _) in placed.items()]
    scene = Scene(matches, sorted(begins))
    changes: list[Change] = []
    for step, runs in own.items():
        by_lines = _from_lines(step, runs, scene)
        # What was said within the last line has been followed, if the step goes on behind it.
        is_open = by_lines[-1].transition in ("start", "resume") and runs[-1].end is not None
        changes += _with_words(by_lines, runs[-1].end if is_open else runs[-1].start, scene)
    for step, time in spoken.items():
        changes += _with_words([Change(time, step, "start")], time, scene)
    for step, (start, end) in placed.items():
        changes += [Change(start, step, "start"), *([Change(end, step, "complete")] if end is not None else [])]
    return sorted(changes, key=lambda change: change.time)


def _spoken_begins(matches: Matches, own: dict[int, list[Run]]) -> dict[int, float]:
    """Return when each step without lines is told: outside of the lines of other steps, where it is told twice."""
    told: dict[int, list[float]] = {}
    for tell in matches.tells:
        if tell.step not in own:
            told.setdefault(tell.step, []).append(tell.time)
    return {step: next((t for t in times if not _is_inside(t, matches.runs)), times[0]) for step, times in told.items()}


def _is_inside(time: float, runs: Sequence[Run]) -> bool:
    return any(run.start + SLACK_S < time < (run.end or run.start) - SLACK_S for run in runs)


def _from_lines(step: int, runs: Sequence[Run], scene: Scene) -> list[Change]:
    """Return the changes of a step up to the end of its last line: runs that come back, undoing, and how it ends."""
    runs = _joined(runs)
    changes: list[Change] = []
    end = 0.0
    for before, run in pairwise([None, *runs]):
        if before is None or before.is_undoing:
            if not run.is_undoing:
                changes.append(Change(run.start, step, "start"))
        elif run.is_undoing:
            # Who undoes a thing has stopped doing it, whatever its line says.
            changes += [Change(min(end, run.start), step, "complete"), Change(run.start, step, "reset")]
        else:
            changes += _between(step, before, end, run, scene)
        if not run.is_undoing:
            changes += _holds_within(step, run, scene)
        is_new = run.is_undoing or (before is not None and before.is_undoing)
        end = run.end or run.start if is_new else max(end, run.end or run.start)
    if not runs[-1].is_undoing:
        changes += _end(step, runs[-1], scene)
    return changes


def _joined(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of a step, one inside or right behind another joined, leading undoing left out."""
    joined: list[Run] = []
    for run in runs:
        last = joined[-1] if joined else None
        if last is None and run.is_undoing:
            continue
        if last is not None and last.is_undoing == run.is_undoing and last.end is not None and run.start <= last.end:
            end = max(last.end, run.end or run.start)
            joined[-1] = Run(run.step, last.start, end, run.is_undoing)
        else:
            joined.append(run)
    return joined


def _between(step: int, before: Run, end: float, run: Run, scene: Scene) -> list[Change]:
    """Return what happens between two runs of a step: it is undone, broken off and taken up again, or goes on."""
    undone = [cue for cue in scene.about(step, UNDO, end, run.start) if cue.sentence.is_wrong]
    if undone:
        return [
            Change(end, step, "complete"),
            Change(undone[0].sentence.time, step, "reset"),
            Change(run.start, step, "start"),
        ]
    if run.start <= end:
        return []
    if not scene.about(step, HOLD, end - EARLY_S, run.start):
        goes_on = scene.about(step, ALONGSIDE, before.start, run.start)
        if goes_on or not _others_between(step, end, run.start, scene):
            return []
    return [Change(end, step, "pause"), Change(run.start, step, "resume")]


def _others_between(step: int, end: float, start: float, scene: Scene) -> bool:
    for run in scene.matches.runs:
        overlap = min(run.end or run.start, start) - max(run.start, end)
        middle = (run.start + (run.end or run.start)) / 2
        if run.step != step and (overlap > SLACK_S or end < middle < start):
            return True
    return any(other != step and end - SLACK_S / 2 < time < start - SLACK_S for time, other in scene.begins)


def _holds_within(step: int, run: Run, scene: Scene) -> list[Change]:
    """Return the pauses that are said to begin and end inside one line."""
    if run.end is None:
        return []
    changes: list[Change] = []
    given_up = [cue.sentence.time for cue in scene.about(step, GIVE_UP, run.start, run.end)]
    resumed, end = run.start, min([run.end, *given_up])
    for hold in scene.about(step, HOLD, run.start, end - EARLY_S):
        time = hold.sentence.time
        back = next((cue.sentence.time for cue in scene.about(step, BACK, time + EARLY_S, end)), None)
        if back is not None and time >= resumed:
            changes += [Change(time, step, "pause"), Change(back, step, "resume")]
            resumed = back
    return changes


def _end(step: int, run: Run, scene: Scene) -> list[Change]:
    """Return how the last run of a step ends: given up, left for later, done, or as words alone can tell."""
    if run.end is None:
        return []
    given_up = [cue.sentence.time for cue in scene.about(step, GIVE_UP, run.start)]
    held = scene.about(step, HOLD, run.end - EARLY_S, run.end + EARLY_S)
    following = scene.next_begin(step, run.end - SLACK_S) or float("inf")
    if given_up:
        is_broken_off = given_up[0] > run.end + SLACK_S and (bool(held) or following < given_up[0])
        return [Change(run.end, step, "pause") if is_broken_off else Change(given_up[0], step, "cancel")]
    is_back = held and scene.about(step, BACK, run.end + EARLY_S, following - LONG_S)
    is_left = is_back or any(cue.sentence.is_for_later for cue in held)
    return [Change(run.end, step, "pause")] if is_left else _completed(step, run, following, scene)


def _completed(step: int, run: Run, following: float, scene: Scene) -> list[Change]:
    """Return the end of a step with its last line, or later if it goes on by itself, as somebody says.

    Then it ends when it is said to be done. Behind all other work it goes on for as long as the dialog lasts.
    """
    alone, done = (
        [cue.sentence.time for cue in scene.about(step, act, run.start) if cue.similarities[step] >= MEANT]
        for act in (ALONGSIDE, DONE)
    )
    ends = [time for time in done if alone and time > max(run.end, alone[0])]
    if not ends and following == float("inf") and any(time > run.end for time in alone):
        return []
    return [Change(next(iter(ends), run.end), step, "complete")]


def _with_words(changes: Sequence[Change], since: float, scene: Scene) -> list[Change]:
    """Return the changes of a step, followed by those that are only spoken of, after them and after `since`."""
    last = changes[-1]
    begin, step, status = max(since, last.time), last.step, TRANSITIONS[last.transition][1]
    changes = list(changes)
    for time, what in _moments(step, begin, scene):
        transition = ANSWERS.get(status, {}).get(what)
        if transition == "complete" and what == "other":
            if scene.about(step, ALONGSIDE, begin, time + SLACK_S) or _is_named(
                step, (DONE, HOLD, GIVE_UP), time, scene
            ):
                continue
            if _is_named(step, (BACK,), time, scene):
                transition = "pause"
        if transition is not None:
            changes.append(Change(time, step, transition))
            status = TRANSITIONS[transition][1]
    return changes


def _moments(step: int, begin: float, scene: Scene) -> list[tuple[float, str]]:
    """Return what may change a step by words after a time, in order of time."""
    moments = [(tell.time, "told") for tell in scene.matches.tells if tell.step == step and tell.time > begin + SLACK_S]
    moments += [(time, "other") for time, other in scene.begins if other != step and time > begin + SLACK_S / 2]
    for act in (DONE, HOLD, BACK, GIVE_UP, UNDO):
        moments += [
            (cue.sentence.time, act)
            for cue in scene.about(step, act, begin + SLACK_S)
            if act != UNDO or cue.sentence.is_wrong
        ]
    return sorted(moments)


def _is_named(step: int, acts: Sequence[str], time: float, scene: Scene) -> bool:
    """Return whether the next that is said of the step by its name, from a time on, is one of some kinds."""
    named = [
        (cue.sentence.time, act)
        for act in (DONE, HOLD, BACK, GIVE_UP, UNDO)
        for cue in scene.about(step, act, time)
        if cue.similarities[step] >= NAMED
    ]
    return bool(named) and min(named)[1] in acts
