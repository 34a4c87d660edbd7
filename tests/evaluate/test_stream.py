"""Streaming sees the very tokens of training, keeps the state, and never runs out of context."""

import json
from dataclasses import replace

import pytest
import torch

from dst_dist import cli, config
from dst_dist.data.batching import Draw, MicroBatchSpec
from dst_dist.data.conversation import arrange, turn_text
from dst_dist.data.samples import Limits, SampleMaker
from dst_dist.data.state import Transition, parse_update
from dst_dist.evaluate.finished_run import FinishedRun
from dst_dist.evaluate.run import evaluate_run, stream_run
from dst_dist.evaluate.stream import Streamer, Thresholds
from dst_dist.model.finetune import load_model
from dst_dist.prepare import DataSetup
from tests.train.in_process import own_logging, train

NEVER = Thresholds(2.0, 2.0)


@pytest.fixture(scope="module")
def world(demo_words):
    """(dataset, model in evaluation mode) of the small demo, the model untrained."""
    recipe = config.load(["demo", *demo_words, "data.val=[]"])
    setup = DataSetup(recipe)
    torch.manual_seed(0)
    return setup.datasets(setup.check())["train"], load_model(recipe).eval()


def frames_of(data, index):
    return data[MicroBatchSpec(0, 0, [Draw(index, 0)], None, 0, True)]


class Scripted(Streamer):
    """Writes what the gold dialog says, when it says it, and remembers every hidden state."""

    def __init__(self, *arguments, script, **options):
        self.states = []
        self.script = script
        super().__init__(*arguments, **options)

    def _feed(self, embeddings):
        hidden = super()._feed(embeddings)
        self.states.append(hidden)
        return hidden

    def _decide(self, hidden):
        for turn in self.script.pop(0):
            self._write(self._whole(self.writer.turn(turn.role, turn_text(turn))))
        return []


def script_of(clip):
    """The turns that the model writes after each decision position, in order; user turns are pushed."""
    groups = arrange(clip, "continuous", "last")
    outcomes, users = [], []
    for group in groups:
        outcomes.append([])
        users.append([])
        for turn in group.turns:
            if turn.role == "user":
                users[-1].append(turn.text)
                outcomes.append([])
            else:
                outcomes[-1].append(turn)
    return outcomes, users


def test_hidden_states_are_those_of_teacher_forcing(world):
    data, model = world
    for index in (0, 1, 4):
        batch, clip = frames_of(data, index), data.clips.index[int(data.samples["clip"][index])]
        script, users = script_of(clip)
        assert sum(map(len, users)) > 0 or index != 0
        streamer = Scripted(model, clip, data.maker, NEVER, script=script)
        for frame, texts in zip(batch.frames, users, strict=True):
            streamer.push_frame(frame)
            for text in texts:
                streamer.push_user(text)
        with torch.no_grad():
            forced = model.hidden_states(batch.input_ids, batch.frames, batch.segment_lengths)
        streamed = torch.cat(streamer.states)
        assert streamed.shape == forced.shape
        torch.testing.assert_close(streamed, forced, atol=2e-5, rtol=1e-4)


def test_what_it_writes_is_what_greedy_decoding_writes(world):
    """Against decoding without a cache, token by token on the whole row."""
    data, model = world
    batch, clip = frames_of(data, 0), data.clips.index[0]
    streamer = Streamer(model, clip, data.maker, Thresholds(2.0, -1.0), max_new_tokens=5)
    (event,) = streamer.push_frame(batch.frames[0])
    writer = data.maker.writer
    ids = [*writer.header(clip, clip.initial_state), *writer.frame, *writer.turn("assistant", "").header]
    body = []
    with torch.no_grad():
        while len(body) < 5:
            hidden = model.hidden_states(torch.tensor(ids + body), batch.frames[:1], [len(ids + body)])
            token = int(model.lm_head(hidden[-1:]).argmax())
            if token == writer.end_id:
                break
            body.append(token)
    assert (event.role, event.text) == ("assistant", writer.tokenizer.decode(body).strip())
    assert event.frame == clip.start_frame


def answering(streamer, text):
    """Make the next turns say `text`."""
    streamer._generate = lambda role: text


def test_updates_change_the_state_and_what_is_not_allowed_is_counted(world):
    data, model = world
    frame, clip = frames_of(data, 0).frames[0], replace(data.clips.index[0], initial_state={"S1": "in_progress"})
    streamer = Streamer(model, clip, data.maker, Thresholds(-1.0, 2.0))
    answering(streamer, '[{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "resume"}]')
    (event,) = streamer.push_frame(frame)
    assert event.transitions == (Transition("S1", "complete"), Transition("S2", "resume")) and event.num_illegal == 1
    assert streamer.state == {"S1": "completed"}
    answering(streamer, "[{")
    assert streamer.push_frame(frame)[0].transitions == ()
    assert streamer.state == {"S1": "completed"}
    assert streamer.counts == {"transitions not allowed": 1, "updates that cannot be read": 1}


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "[1]", '[{"id": "S9", "transition": "start"}]', '[{"id": "S1", "transition": "begin"}]',
     '[{"id": "S1"}]', '[{"id": "S1", "transition": "start", "more": 1}]', '[{"id": "S1", "transition": "start"}] x'],
)  # fmt: skip
def test_updates_are_read_strictly(text):
    with pytest.raises(ValueError):
        parse_update(text, ["S1", "S2"])


@pytest.mark.parametrize("on_full_context", ["carry_state", "drop_middle", "drop_all"])
def test_a_long_video_stays_within_the_limits(world, on_full_context):
    data, model = world
    clip, frames = data.clips.index[0], frames_of(data, 0).frames
    header = len(data.maker.writer.header(clip, clip.initial_state))
    maker = SampleMaker(data.maker.writer, data.maker.data, data.maker.labels, Limits(header + 60, 40))
    streamer = Streamer(model, clip, maker, NEVER, on_full_context, max_new_tokens=8)
    longest = 0
    for number in range(300):
        streamer.push_frame(frames[number % len(frames)])
        longest = max(longest, streamer._num_tokens, streamer._cache.get_seq_length())
        assert streamer._num_tokens == streamer._cache.get_seq_length() and len(streamer._groups) <= 40
    assert longest <= header + 60
    assert streamer.counts[f"contexts that were full: {on_full_context}"] > 3


def test_a_new_context_is_the_one_that_training_makes_of_a_split_clip(world):
    """Opening turn with the state reached, then the last seconds of frames without turns."""
    data, model = world
    clip, frames = data.clips.index[0], frames_of(data, 0).frames
    limits = Limits(len(data.maker.writer.header(clip, {"S1": "completed"})) + 60, 12)
    maker = SampleMaker(data.maker.writer, data.maker.data.model_copy(update={"context_seconds": 2.0}), data.maker.labels, limits)
    streamer = Streamer(model, clip, maker, NEVER, max_new_tokens=8)
    for number in range(12):
        streamer.push_frame(frames[number])
    streamer.state = {"S1": "completed"}
    streamer.push_frame(frames[12])
    assert streamer.counts == {"contexts that were full: carry_state": 1}
    with torch.no_grad():
        ids = [*maker.writer.header(clip, {"S1": "completed"}), *maker.writer.frame * 5]
        # fps 2: four frames of context, then the new one.
        forced = model.hidden_states(torch.tensor(ids), frames[8:13], [len(ids)])
        expected = model.decide(forced[-1:])
    assert streamer.probabilities == pytest.approx([float(value[0]) for value in expected], abs=1e-5)


def test_the_command_prints_what_a_run_writes_on_a_video(demo_words, tmp_path, capsys):
    with own_logging():
        short = ("data.val=[]", "data.num_workers=0", "log.report_to=[]", "train.max_steps=1", "train.global_batch_size=2")
        assert train(["demo", *demo_words, *short, f"output_dir={tmp_path}/run"]) == 0
        command = ["stream", f"{tmp_path}/run", "--split", "test", "--video", "kitchen-test-0000", "eval.speaking_threshold=1.0"]
        capsys.readouterr()
        assert cli.main([*command, "eval.dst_threshold=1.0"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("kitchen/kitchen-test-0000/") for line in lines) == 3
        assert sum(" user: " in line for line in lines) > 0 and not any("DST_UPDATE" in line for line in lines)
        assert sum("ms a frame" in line for line in lines) == 3
        command[command.index("kitchen-test-0000")] = "nowhere"
        assert cli.main(command) == 2
        assert "no clip of a video nowhere in data.test; there are garden-test-0000" in capsys.readouterr().err


def test_evaluation_of_the_training_split_counts_every_negative(demo_words, tmp_path):
    with own_logging():
        words = ("labels.neg_frame_sampling_rate=0.1", "train.max_steps=1", "train.global_batch_size=2", "data.num_workers=0")
        assert train(["demo", *demo_words, *words, "log.report_to=[]", f"output_dir={tmp_path}/run"]) == 0
        result = evaluate_run(tmp_path / "run", "train")
    run = FinishedRun.open(tmp_path / "run", "train")
    counts = run.data.counts([Draw(index, 0) for index in range(len(run.data))], 0)
    groups = [group for clip in run.data.clips.index for group in arrange(clip, "continuous", "last")]
    negatives = sum(d.dst_update == 0 for group in groups for d in (group.decision, *group.user_decisions))
    assert result["num_dst_update_negatives"] == counts[3] == negatives > 100


def test_the_streams_of_a_split_are_measured(demo_words, tmp_path):
    with own_logging():
        words = ("train.max_steps=1", "train.global_batch_size=2", "data.num_workers=0", "data.val=[kitchen]", "log.report_to=[]")
        assert train(["demo", *demo_words, *words, f"output_dir={tmp_path}/run"]) == 0
        result = stream_run(tmp_path / "run", "val", ["eval.dst_threshold=1.0", "eval.speaking_threshold=1.0"])
    # A model that never writes is the baseline that never does.
    never = result["baselines"]["never"]
    assert never["transition/recall"] == 0 and 0 < never["joint_goal_accuracy/frames"] < 1
    assert {key: result[key] for key in never} == never
    assert result["num_videos"] == 2 and result["real_time_factor"] > 0
    assert json.loads((tmp_path / "run/evaluation/val-streaming.json").read_text()) == result
