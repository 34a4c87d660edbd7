"""The dialogs of the generated world, as clips and samples of the two public formats."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dst_dist.data.state import NOT_STARTED, TRANSITIONS, format_state, without_not_started
from dst_dist.demo.world import FPS, Domain, Moment, Task, World

MAX_SEQ_LEN = 4096
BOS, EOS, IMAGE = "<|im_start|>", "<end_of_utterance>", "<image>"


@dataclass(frozen=True)
class Video:
    """A video before it is drawn. `uid` is unique in the demo; `folder` is the dataset that it belongs to."""

    uid: str
    folder: str
    split: str
    domain: Domain
    task: Task
    moments: tuple[Moment, ...]
    frames_seed: int
    world: World

    @property
    def frames_file(self) -> str:
        """Path of the frames, below the demo's root."""
        return f"{self.folder}/frames/{self.uid}.arrow"

    def clip_heads(self, frames_per_clip: int) -> list[dict[str, Any]]:
        """Return the keys of each clip that both formats have."""
        return [
            {
                "dataset": self.folder,
                "video_uid": self.uid,
                "clip_idx": number,
                "frames_file": self.frames_file,
                "start_frame_idx": start,
                "end_frame_idx": start + frames_per_clip,
                "max_seq_len": MAX_SEQ_LEN,
                "seq_len": 0,
                "num_tokens_per_img": 1,
                "fps": FPS,
            }
            for number, start in enumerate(range(0, len(self.moments), frames_per_clip))
        ]


def step_id(position: int) -> str:
    """Return `S1` for the first step, whose position is 0."""
    return f"S{position + 1}"


def _join_ids(positions: Sequence[int]) -> str:
    return " and ".join(map(step_id, positions))


def _with_status(moment: Moment, status: str) -> list[int]:
    return [position for position, shown in enumerate(moment.statuses) if shown == status]


def speak(moment: Moment) -> str | None:
    """Return what the assistant says unasked: a warning at a new error, praise and the next step at a completion."""
    parts = ["Careful, that is wrong."] if moment.error_starts else []
    completed = [position for position, transition in moment.transitions if transition == "complete"]
    if completed:
        parts.append(f"{_join_ids(completed)} done, good.")
        left = _with_status(moment, NOT_STARTED)
        parts.append(f"Next is {step_id(left[0])}." if left else "No step is left.")
    return " ".join(parts) or None


def ask(question: str, task: Task) -> str:
    """Return the user turn of a kind of question."""
    return {
        "goal": f"I want to {task.goal[0].lower()}{task.goal[1:]}.",
        "open": "Which steps are open?",
        "done": "How many steps are done?",
        "thanks": "Thank you.",
    }[question]


def answer(question: str, moment: Moment) -> str | None:
    """Return the assistant's answer, which has to be read off the picture; None for thanks."""
    return {
        "goal": "I will watch your steps.",
        "open": f"Open: {_join_ids(_with_status(moment, 'in_progress')) or 'none'}.",
        "done": f"Done: {len(_with_status(moment, 'completed'))}.",
    }.get(question)


def _spoken(video: Video, frame: int) -> list[tuple[str, str, str]]:
    """Return the user and assistant turns right after `frame`: (role, text, labels)."""
    moment = video.moments[frame]
    turns = []
    if moment.question:
        turns.append(("user", ask(moment.question, video.task), f"user|{moment.question}"))
        if reply := answer(moment.question, moment):
            turns.append(("assistant", reply, "responsive|answer"))
    if unasked := speak(moment):
        turns.append(("assistant", unasked, "initiative|" + ("correction" if moment.error_starts else "feedback")))
    return turns


def _knowledge(task: Task) -> str:
    lines = [f"{number}. {step.name[0].upper()}{step.name[1:]}." for number, step in enumerate(task.steps, 1)]
    return "\n".join([task.goal, *lines])


def _state_before(video: Video, frame: int) -> dict[str, str]:
    statuses = video.moments[frame - 1].statuses if frame else (NOT_STARTED,) * len(video.task.steps)
    return {step_id(position): status for position, status in enumerate(statuses)}


def _step_times(video: Video, position: int) -> tuple[float | None, float | None]:
    """Return the seconds of a step's first start and of its last completion or cancellation."""
    changes = [(frame / FPS, dict(moment.transitions).get(position)) for frame, moment in enumerate(video.moments)]
    started = next((time for time, transition in changes if transition == "start"), None)
    ended = next((time for time, transition in reversed(changes) if transition in ("complete", "cancel")), None)
    return started, ended


def _conversation(video: Video, start: int, end: int) -> list[dict[str, Any]]:
    """Return a clip's turns in the PROSPECT format; each carries the state before it, of the steps seen so far."""
    state, turns = without_not_started(_state_before(video, start)), []
    for frame in range(start, end):
        place = {"time": frame / FPS, "start_frame": frame, "end_frame": frame + 1}
        for position, transition in video.moments[frame].transitions:
            content = [{"id": step_id(position), "transition": transition}]
            labels = f"initiative|dst_update,dst_{transition},steps_1"
            state.setdefault(step_id(position), NOT_STARTED)
            turns.append(_prospect_turn("DST_UPDATE", content, state, labels) | place)
            state[step_id(position)] = TRANSITIONS[transition][1]
        turns += [_prospect_turn(role, text, state, labels) | place for role, text, labels in _spoken(video, frame)]
    return turns


def _prospect_turn(role: str, content: Any, state: dict[str, str], labels: str) -> dict[str, Any]:
    return {"role": role, "content": content, "dst_state": dict(sorted(state.items())), "labels": labels}


def prospect_clips(video: Video, frames_per_clip: int) -> list[dict[str, Any]]:
    """Return the video's clips in the PROSPECT format; every clip after the first carries its initial state."""
    steps = []
    for position, step in enumerate(video.task.steps):
        started, ended = _step_times(video, position)
        steps.append({"type": "step", "id": step_id(position), "start_ts": started, "end_ts": ended, "name": step.name})
    clips = []
    for head in video.clip_heads(frames_per_clip):
        start, end = head["start_frame_idx"], head["end_frame_idx"]
        system = {"role": "system", "content": video.domain.prompt, "labels": "system|generic"}
        clip = head | {
            "inferred_goal": video.task.goal,
            "inferred_knowledge": _knowledge(video.task),
            "video_labels": {},
            "conversation": [system | {"start_frame": 0, "end_frame": 1}, *_conversation(video, start, end)],
            "dst": steps,
            "domain": video.domain.name,
            "quality": 5.0,
        }
        if start:
            clip["initial_dst_state"] = _state_before(video, start)
        clips.append(clip)
    return clips


def proassist_samples(video: Video, frames_per_clip: int) -> list[dict[str, Any]]:
    """Return the video's clips in the ProAssist format: the same dialogs without any dialog state."""
    samples = []
    for head in video.clip_heads(frames_per_clip):
        turns: list[dict[str, Any]] = [{"role": "system", "content": video.domain.prompt}]
        shown, end = head["start_frame_idx"], head["end_frame_idx"]
        for frame in range(shown, end):
            spoken = _spoken(video, frame)
            if spoken or frame == end - 1:
                turns.append({"role": "frames", "start": shown, "end": frame + 1})
                shown = frame + 1
            for role, text, labels in spoken:
                turns.append({"role": role, "time": frame / FPS, "content": text, "labels": labels})
                if role == "assistant":
                    num_completed = len(_with_status(video.moments[frame], "completed"))
                    turns[-1]["progress"] = num_completed / len(video.task.steps)
        metadata = {"task_goal": video.task.goal, "knowledge": _knowledge(video.task)}
        samples.append(head | {"use_img_sep_token": False, "conversation": turns, "metadata": metadata})
    return samples


def render(record: dict[str, Any]) -> str:
    """Return a clip as the text that training sees, one `<image>` a frame; for the tokenizer and `seq_len`."""
    prompt, *turns = [turn for turn in record["conversation"] if turn["role"] != "frames"]
    goal = record["inferred_goal"] if "dst" in record else record["metadata"]["task_goal"]
    opening = f"{BOS}System: {prompt['content']}\n\nTask: {goal}"
    if "dst" in record:
        steps = "".join(f"\n- {step['id']}: {step['name']}" for step in record["dst"])
        state = format_state(record.get("initial_dst_state", {}), [step["id"] for step in record["dst"]])
        opening += f"\nSteps:{steps}\nState: {state}"
    by_frame = groupby(turns, key=lambda turn: round(turn["time"] * FPS))
    texts = {frame: "".join(_render_turns(of_frame)) for frame, of_frame in by_frame}
    frames = range(record["start_frame_idx"], record["end_frame_idx"])
    return f"{opening}{EOS}\n" + "".join(IMAGE + texts.get(frame, "") for frame in frames)


def _render_turns(turns: Iterable[dict[str, Any]]) -> Iterator[str]:
    for role, of_role in groupby(turns, key=lambda turn: turn["role"]):
        if role == "DST_UPDATE":
            yield f"DST: {json.dumps([change for turn in of_role for change in turn['content']])}{EOS}\n"
        else:
            yield from (f"{role.capitalize()}: {turn['content']}{EOS}\n" for turn in of_role)
