"""The dialogs of the generated world, as clips and samples of the two public formats."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dst_dist.data.state import NOT_STARTED, TRANSITIONS, format_state
from dst_dist.demo.world import FPS, Domain, Moment, Task

MAX_SEQ_LEN = 4096
BOS, EOS, IMAGE = "<|im_start|>", "<end_of_utterance>", "<image>"


@dataclass(frozen=True)
class Video:
    """A video before it is drawn. `uid` is its own over the whole demo; `folder` is its dataset's."""

    uid: str
    folder: str
    split: str
    domain: Domain
    task: Task
    moments: tuple[Moment, ...]
    frames_seed: int

    @property
    def frames_file(self) -> str:
        """Path of the frames, below the demo's root."""
        return f"{self.folder}/frames/{self.uid}.arrow"

    def clip_ranges(self, frames_per_clip: int) -> list[tuple[int, int]]:
        """The video in half-open stretches of `frames_per_clip` frames."""
        starts = range(0, len(self.moments), frames_per_clip)
        return [(start, min(start + frames_per_clip, len(self.moments))) for start in starts]


def step_id(position: int) -> str:
    return f"S{position + 1}"


def _join_ids(positions: Sequence[int]) -> str:
    return " and ".join(step_id(position) for position in positions)


def _with_status(moment: Moment, status: str) -> list[int]:
    return [position for position, at in enumerate(moment.statuses) if at == status]


def speak(moment: Moment) -> str | None:
    """What the assistant says unasked: a warning at a new error mark, praise and the next step at a completion."""
    parts = ["Careful, that is wrong."] if moment.error_starts else []
    completed = [position for position, transition in moment.transitions if transition == "complete"]
    if completed:
        parts.append(f"{_join_ids(completed)} done, good.")
        left = _with_status(moment, NOT_STARTED)
        parts.append(f"Next is {step_id(left[0])}." if left else "No step is left.")
    return " ".join(parts) or None


def ask(question: str, task: Task) -> str:
    """The user turn of a kind of question."""
    return {
        "goal": f"I want to {task.goal[0].lower()}{task.goal[1:]}.",
        "open": "Which steps are open?",
        "done": "How many steps are done?",
        "thanks": "Thank you.",
    }[question]


def answer(question: str, moment: Moment) -> str | None:
    """The assistant's answer, read off the picture; thanks need none."""
    if question == "goal":
        return "I will watch your steps."
    if question == "open":
        return f"Open: {_join_ids(_with_status(moment, 'in_progress')) or 'none'}."
    if question == "done":
        return f"Done: {len(_with_status(moment, 'completed'))}."
    return None


def _spoken(video: Video, frame: int) -> list[tuple[str, str, str]]:
    """User and assistant turns right after `frame`: (role, text, labels)."""
    moment = video.moments[frame]
    turns = []
    if moment.question:
        turns.append(("user", ask(moment.question, video.task), f"user|{moment.question}"))
        reply = answer(moment.question, moment)
        if reply:
            turns.append(("assistant", reply, "responsive|answer"))
    unasked = speak(moment)
    if unasked:
        turns.append(("assistant", unasked, "initiative|" + ("correction" if moment.error_starts else "feedback")))
    return turns


def knowledge(task: Task) -> str:
    lines = [f"{number}. {step.name[0].upper()}{step.name[1:]}." for number, step in enumerate(task.steps, 1)]
    return "\n".join([task.goal, *lines])


def _state_before(video: Video, frame: int) -> dict[str, str]:
    statuses = video.moments[frame - 1].statuses if frame else (NOT_STARTED,) * len(video.task.steps)
    return {step_id(position): status for position, status in enumerate(statuses)}


def _step_times(video: Video, position: int) -> tuple[float | None, float | None]:
    """Seconds of a step's first start and of its last completion or cancellation."""
    started = ended = None
    for frame, moment in enumerate(video.moments):
        transition = dict(moment.transitions).get(position)
        if transition == "start" and started is None:
            started = frame / FPS
        if transition in ("complete", "cancel"):
            ended = frame / FPS
    return started, ended


def _updates(video: Video, frame: int, state: dict[str, str], seen: set[str]) -> Iterator[dict[str, Any]]:
    """One DST_UPDATE turn for each transition at `frame`; `state` and `seen` move along."""
    for position, transition in video.moments[frame].transitions:
        name = step_id(position)
        seen.add(name)
        yield {
            "role": "DST_UPDATE",
            "content": [{"id": name, "transition": transition}],
            "dst_state": {key: status for key, status in state.items() if key in seen},
            "labels": f"initiative|dst_update,dst_{transition},steps_1",
        }
        state[name] = TRANSITIONS[transition][1]


def _conversation(video: Video, start: int, end: int) -> list[dict[str, Any]]:
    state, turns = _state_before(video, start), []
    seen = {name for name, status in state.items() if status != NOT_STARTED}
    for frame in range(start, end):
        at = {"time": frame / FPS, "start_frame": frame, "end_frame": frame + 1}
        turns += [turn | at for turn in _updates(video, frame, state, seen)]
        for role, text, labels in _spoken(video, frame):
            known = {name: status for name, status in state.items() if name in seen}
            turns.append({"role": role, "content": text, "dst_state": known, "labels": labels} | at)
    return turns


def prospect_clips(video: Video, frames_per_clip: int) -> list[dict[str, Any]]:
    """The video's clips in the PROSPECT format; every clip after the first carries its initial state."""
    steps = []
    for position, step in enumerate(video.task.steps):
        started, ended = _step_times(video, position)
        steps.append({"type": "step", "id": step_id(position), "start_ts": started, "end_ts": ended, "name": step.name})
    clips = []
    for number, (start, end) in enumerate(video.clip_ranges(frames_per_clip)):
        system = {"role": "system", "content": video.domain.prompt, "labels": "system|generic"}
        system |= {"start_frame": 0, "end_frame": 1}
        clip = {
            "video_uid": video.uid,
            "inferred_goal": video.task.goal,
            "inferred_knowledge": knowledge(video.task),
            "video_labels": {},
            "conversation": [system, *_conversation(video, start, end)],
            "dst": steps,
            "frames_file": video.frames_file,
            "start_frame_idx": start,
            "end_frame_idx": end,
            "seq_len": 0,
            "dataset": video.folder,
            "domain": video.domain.name,
            "clip_idx": number,
            "max_seq_len": MAX_SEQ_LEN,
            "num_tokens_per_img": 1,
            "fps": FPS,
            "quality": 5.0,
        }
        if start:
            clip["initial_dst_state"] = _state_before(video, start)
        clips.append(clip)
    return clips


def proassist_samples(video: Video, frames_per_clip: int) -> list[dict[str, Any]]:
    """The video's stretches in the ProAssist format: the same dialogs without any dialog state."""
    samples = []
    for number, (start, end) in enumerate(video.clip_ranges(frames_per_clip)):
        turns: list[dict[str, Any]] = [{"role": "system", "content": video.domain.prompt}]
        shown = start
        for frame in range(start, end):
            spoken = _spoken(video, frame)
            if spoken or frame == end - 1:
                turns.append({"role": "frames", "start": shown, "end": frame + 1})
                shown = frame + 1
            turns += [_proassist_turn(video, frame, *turn) for turn in spoken]
        samples.append(
            {
                "dataset": video.folder,
                "video_uid": video.uid,
                "clip_idx": number,
                "frames_file": video.frames_file,
                "max_seq_len": MAX_SEQ_LEN,
                "seq_len": 0,
                "num_tokens_per_img": 1,
                "use_img_sep_token": False,
                "start_frame_idx": start,
                "end_frame_idx": end,
                "conversation": turns,
                "fps": FPS,
                "metadata": {"task_goal": video.task.goal, "knowledge": knowledge(video.task)},
            }
        )
    return samples


def _proassist_turn(video: Video, frame: int, role: str, text: str, labels: str) -> dict[str, Any]:
    turn = {"role": role, "time": frame / FPS, "content": text, "labels": labels}
    if role == "assistant":
        done = _with_status(video.moments[frame], "completed")
        turn["progress"] = len(done) / len(video.task.steps)
    return turn


def render(record: dict[str, Any]) -> str:
    """A clip or sample as the text that training sees, one `<image>` a frame; for the tokenizer and `seq_len`."""
    prompt, *turns = [turn for turn in record["conversation"] if turn["role"] != "frames"]
    goal = record["inferred_goal"] if "dst" in record else record["metadata"]["task_goal"]
    opening = f"{BOS}System: {prompt['content']}\n\nTask: {goal}"
    if "dst" in record:
        ids = [step["id"] for step in record["dst"]]
        steps = "".join(f"\n- {step['id']}: {step['name']}" for step in record["dst"])
        state = format_state(record.get("initial_dst_state", {}), ids)
        opening += f"\nSteps:{steps}\nState: {state}"
    said: dict[int, list[str]] = {}
    for frame, of_frame in groupby(turns, key=lambda turn: round(turn["time"] * FPS)):
        said[frame] = list(_render_turns(of_frame))
    frames = range(record["start_frame_idx"], record["end_frame_idx"])
    return f"{opening}{EOS}\n" + "".join("".join([IMAGE, *said.get(frame, [])]) for frame in frames)


def _render_turns(turns: Iterable[dict[str, Any]]) -> Iterator[str]:
    for role, of_role in groupby(turns, key=lambda turn: turn["role"]):
        if role == "DST_UPDATE":
            yield f"DST: {json.dumps([change for turn in of_role for change in turn['content']])}{EOS}\n"
        else:
            yield from (f"{role.capitalize()}: {turn['content']}{EOS}\n" for turn in of_role)
