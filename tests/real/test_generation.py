"""The trained LoRA writes one frame at a time, as in use; the gold dialog decides when."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dst_dist.data.batching import Draw, MicroBatchSpec, PackedBatch
from dst_dist.data.clips import Clip
from dst_dist.data.conversation import Group, arrange
from dst_dist.evaluate.open_run import FinishedRun
from dst_dist.heads import HEAD_NAMES
from dst_dist.measure.timeline import Event
from dst_dist.streaming.stream import Streamer

pytestmark = pytest.mark.long

VALID_AT_LEAST = 0.95
TOLERANCE = 1e-3


class Dictation:
    """Hook on the language head that makes it pick the next of `ids`, and keeps states and its own picks."""

    def __init__(self, ids: Sequence[int]):
        self.ids = list(ids)
        self.states, self.picks = [], []

    def __call__(self, head: nn.Module, inputs: tuple[torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
        self.states.append(inputs[0][-1])
        self.picks.append(int(logits[-1].argmax()))
        dictated = torch.zeros_like(logits)
        dictated[-1, self.ids[len(self.picks) - 1]] = 1
        return dictated


def force_decisions(model, groups: Sequence[Group], monkeypatch) -> list[torch.Tensor]:
    """Decide as the gold dialog does; return a list that grows by the state [hidden] of each decision position."""
    gold = iter([decision for group in groups for decision in (group.decision, *group.user_decisions)])
    states = []

    def decide(hidden):
        decision = next(gold)
        states.append(hidden[-1])
        return tuple(hidden.new_tensor([float(label == 1)]) for label in (decision["dst_update"], decision["speaking"]))

    monkeypatch.setattr(model, "decide", decide)
    return states


def stream(run: FinishedRun, clip: Clip, groups: Sequence[Group], frames: torch.Tensor) -> SimpleNamespace:
    """Stream a clip with the user's turns at their frames; return its `events` and `counts`."""
    streamer = Streamer(run.model, clip, run.data.maker, dict.fromkeys(HEAD_NAMES, 0.5), "carry_state", 128)
    events: list[Event] = []
    for group, frame in zip(groups, frames, strict=True):
        events += streamer.push_frame(frame)
        for turn in group.turns:
            if turn.role == "user":
                events += streamer.push_user(turn.text)
    return SimpleNamespace(events=events, counts=streamer.counts)


def sample_of(run: FinishedRun, number: int) -> tuple[PackedBatch, Clip, list[Group]]:
    """Return a whole clip as it is trained on, and its gold dialog."""
    clip = run.data.clips.index[int(run.data.samples["clip"][number])]
    return run.data[MicroBatchSpec(0, 0, [Draw(number, 0)], 0, True)], clip, arrange(clip, "continuous", "last")


@torch.no_grad()
def test_streaming_the_gold_dialog_is_teacher_forcing(lora_run, monkeypatch):
    run = FinishedRun.open(lora_run.folder, "train")
    model = run.model
    assert len(run.data) == len(run.data.clips.index) == 2
    for number in range(len(run.data)):
        batch, clip, groups = sample_of(run, number)
        forced = model.hidden_states(batch.input_ids, batch.frames, batch.segment_lengths)
        expected = model.lm_head(forced[batch.lm_positions]).argmax(-1)
        dictation = Dictation(batch.lm_targets.tolist())
        hook = model.lm_head.register_forward_hook(dictation)
        with monkeypatch.context() as patch:
            decided = force_decisions(model, groups, patch)
            watched = stream(run, clip, groups, batch.frames)
        hook.remove()
        assert not +watched.counts and len(dictation.picks) == len(batch.lm_targets)
        torch.testing.assert_close(
            torch.stack(dictation.states), forced[batch.lm_positions], rtol=TOLERANCE, atol=TOLERANCE
        )
        torch.testing.assert_close(
            torch.stack(decided), forced[batch.decision_positions], rtol=TOLERANCE, atol=TOLERANCE
        )
        assert dictation.picks == expected.tolist()
        right = (expected == batch.lm_targets).float().mean()
        print(f"{clip.id}: {len(dictation.picks)} tokens picked alike, {right:.3f} of them the gold ones")


def test_the_model_writes_valid_updates(lora_run, monkeypatch):
    """It does so with its own words and states, on the dialogs that it learned."""
    run = FinishedRun.open(lora_run.folder, "train")
    num_gold, valid, exact = 0, 0, 0
    for number in range(len(run.data)):
        batch, clip, groups = sample_of(run, number)
        with monkeypatch.context() as patch:
            force_decisions(run.model, groups, patch)
            watched = stream(run, clip, groups, batch.frames)
        gold = [turn.transitions for group in groups for turn in group.turns if turn.role == "DST_UPDATE"]
        written = [event for event in watched.events if event.role == "DST_UPDATE"]
        assert len(written) == len(gold)
        num_gold += len(gold)
        valid += sum(bool(event.transitions) for event in written)
        exact += sum(event.transitions == transitions for event, transitions in zip(written, gold, strict=True))
        print(f"{clip.id}: {[event.text for event in watched.events]}; {dict(watched.counts)}")
    print(f"{valid} of {num_gold} updates are valid, {exact} the gold ones")
    assert num_gold == 6 and valid >= VALID_AT_LEAST * num_gold
