import json
import pickle
from collections import Counter

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from dst_dist.data.clips import Step
from dst_dist.data.conversation import IGNORE, arrange, frame_list
from dst_dist.data.reading import read_clips
from dst_dist.data.state import Transition
from dst_dist.data.token_writer import TokenWriter
from dst_dist.errors import ConfigError
from tests.data.dialogs import (
    TOKENIZERS,
    counts_of,
    decoded,
    demo_tokenizer,
    make_clip,
    make_maker,
    reply,
    smol_tokenizer,
    supervised_texts,
    system,
    update,
    user,
    whole_sample,
)
from tests.data.handmade import proassist_clip, public_style_clip, write_proassist, write_prospect

both_tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS)

PUBLIC_TEXT = (
    "<|im_start|>System: You watch and help.\n\nTask: Assemble a toy\n"
    "Steps:\n- S1: Assemble the chassis.\n- S2: Attach the wheels.\nState: none<end_of_utterance>\n"
    "<image><image>"
    'DST: [{"id": "S1", "transition": "start"}]<end_of_utterance>\n'
    "User: I want to assemble a toy.<end_of_utterance>\n"
    "Assistant: Take the chassis.<end_of_utterance>\n"
    "<image><image><image><image>"
    'DST: [{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "start"}]<end_of_utterance>\n'
    "Assistant: Now the wheels.<end_of_utterance>\n"
    "<image><image>"
    'DST: [{"id": "S2", "transition": "complete"}]<end_of_utterance>\n'
)
DIALOG_TEXT = (
    "<|im_start|>System: You watch and help.\n\nTask: Make soup<end_of_utterance>\n"
    "<image><image>"
    "User: What now?<end_of_utterance>\n"
    "Assistant: Chop.<end_of_utterance>\n"
    "<image><image><image><image><image><image>"
    "Assistant: Stir.<end_of_utterance>\n"
)


@pytest.fixture
def public_clip(tmp_path):
    """The public kind of clip: an update, the user and a reply at one frame, two updates at another."""
    write_prospect(tmp_path, public_style_clip(), "toys")
    return read_clips(tmp_path, ["toys"], "train", True)[0][0]


@pytest.fixture
def dialog(tmp_path):
    """A ProAssist dialog: no steps, no updates."""
    write_proassist(tmp_path, [proassist_clip()])
    return read_clips(tmp_path, ["cooking/prepared/train.jsonl"], "train", True)[0][0]


@both_tokenizers
def test_the_public_clip_reads_as_written_by_hand(public_clip, tokenizer):
    maker = make_maker(tokenizer)
    sample = whole_sample(maker, public_clip)
    assert decoded(maker, sample.input_ids) == PUBLIC_TEXT
    assert sample.frames.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert supervised_texts(maker, sample) == [
        ' [{"id": "S1", "transition": "start"}]<end_of_utterance>',
        " Take the chassis.<end_of_utterance>",
        ' [{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "start"}]<end_of_utterance>',
        " Now the wheels.<end_of_utterance>",
        ' [{"id": "S2", "transition": "complete"}]<end_of_utterance>',
    ]
    of_dst = [bool(sample.is_dst[sample.turn == number].all()) for number in range(5)]
    assert of_dst == [True, False, True, False, True]
    assert not sample.is_dst[sample.turn == -1].any()
    assert sample.decision_frames.tolist() == [4, 5, 5, 6, 7, 8, 9, 10, 11]
    assert sample.decision_is_frame.tolist() == [True, True, False, True, True, True, True, True, True]
    assert sample.decisions["dst_update"].tolist() == [0, 1, 0, 0, 0, 0, 1, 0, 1]
    assert sample.decisions["speaking"].tolist() == [0, IGNORE, 1, 0, 0, 0, 1, 0, 0]


@both_tokenizers
def test_a_dialog_without_steps_reads_as_written_by_hand_and_asks_nothing_of_the_dst_head(dialog, tokenizer):
    maker = make_maker(tokenizer)
    sample = whole_sample(maker, dialog)
    assert decoded(maker, sample.input_ids).startswith(DIALOG_TEXT)
    assert supervised_texts(maker, sample)[:2] == [" Chop.<end_of_utterance>", " Stir.<end_of_utterance>"]
    assert set(sample.decisions["dst_update"].tolist()) == {IGNORE}
    assert not sample.is_dst.any()
    assert sample.decisions["speaking"].tolist()[:3] == [0, IGNORE, 1]
    lm, dst_gen, *heads = counts_of(sample)
    assert lm > 0 and dst_gen == 0
    assert heads[:2] == [0, 0] and heads[2] == 2


def test_a_clip_that_declares_no_steps_asks_nothing_of_the_dst_head_whatever_its_format():
    clip = make_clip(reply(3), steps=(), has_dst=True)
    sample = whole_sample(make_maker(), clip)
    assert set(sample.decisions["dst_update"].tolist()) == {IGNORE}
    assert sample.decisions["speaking"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


@both_tokenizers
@pytest.mark.parametrize("tokens_per_frame", [1, 4])
def test_ids_are_those_of_the_whole_text_tokenized_at_once(public_clip, dialog, tokenizer, tokens_per_frame):
    maker = make_maker(tokenizer, tokens_per_frame)
    blanks, symbols, quote = " Two  blanks\n\nand lines ", "naïve ☕ 𝄞 你好?", "'s 1234!"
    odd = make_clip(system(1, blanks), user(2, symbols), reply(2, "\n- S1: no\n"), user(3, quote))
    for clip in (public_clip, dialog, odd):
        sample = whole_sample(maker, clip)
        text = decoded(maker, sample.input_ids)
        assert maker.writer.tokenizer(text, add_special_tokens=False)["input_ids"] == sample.input_ids.tolist()
        assert (sample.input_ids == maker.writer.image_id).sum() == len(sample.frames) * tokens_per_frame
        assert len(sample.labels) == len(sample.is_dst) == len(sample.turn) == len(sample.input_ids)


def test_decisions_stand_at_the_last_token_of_a_frame_and_of_a_user_turn(public_clip):
    maker = make_maker(tokens_per_frame=4)
    sample = whole_sample(maker, public_clip)
    text = [decoded(maker, sample.input_ids[: position + 1]) for position in sample.decision_positions]
    for number, (read, is_frame) in enumerate(zip(text, sample.decision_is_frame, strict=True)):
        assert read.endswith("<image>" * 4 if is_frame else "User: I want to assemble a toy.<end_of_utterance>\n")
        assert read.count("<image>") == 4 * (sample.decision_is_frame[: number + 1].sum())


SPELLED = "<image> <end_of_utterance> <|im_start|><|im_end|> <row_1_col_1> <fake_token_around_image><global-img>"


@both_tokenizers
def test_text_that_spells_special_tokens_stays_text(tokenizer):
    maker = make_maker(tokenizer)
    writer = maker.writer
    clip = make_clip(
        user(2, SPELLED),
        system(3, SPELLED),
        reply(4, SPELLED),
        update(5),
        end=6,
        prompt=SPELLED,
        goal=SPELLED,
        steps=(Step("S1", SPELLED),),
    )
    sample = whole_sample(maker, clip)
    assert decoded(maker, sample.input_ids).count(SPELLED) == 6
    added = set(writer.tokenizer.get_added_vocab().values())
    found = Counter(token for token in sample.input_ids.tolist() if token in added)
    assert found == {writer.start_id: 1, writer.image_id: 6, writer.end_id: 5}
    assert supervised_texts(maker, sample)[0] == f" {SPELLED}<end_of_utterance>"


@both_tokenizers
def test_a_turn_in_its_three_parts(tokenizer):
    writer = TokenWriter(TOKENIZERS[tokenizer](), 1)
    turn = writer.turn("DST_UPDATE", "[]")
    read = [writer.tokenizer.decode(ids) for ids in (turn.header, turn.body, turn.end)]
    assert read == ["DST:", " []<end_of_utterance>", "\n"]
    assert len(turn) == len(turn.header) + len(turn.body) + 1
    assert turn.body[-1] == writer.tokenizer.eos_token_id


def test_the_opening_says_what_there_is():
    writer = TokenWriter(demo_tokenizer(), 1)

    def text(state=None, **changes):
        return writer.tokenizer.decode(writer.header(make_clip(**changes), state or {}))

    assert text(steps=(), goal="") == "<|im_start|>System: You watch and help.<end_of_utterance>\n"
    assert text({"S2": "paused", "S1": "completed"}, goal="") == (
        "<|im_start|>System: You watch and help.\nSteps:\n- S1: Boil water\n- S2: Pour water\n"
        "State: S1 completed, S2 paused<end_of_utterance>\n"
    )
    assert text({"S1": "not_started"}).endswith("\nState: none<end_of_utterance>\n")


@pytest.mark.parametrize("token", ["<image>", "<|im_start|>", "<end_of_utterance>"])
def test_a_tokenizer_without_a_special_token_is_refused(token):
    backend = demo_tokenizer().backend_tokenizer.to_str().replace(token, "<other>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(backend), pad_token="<|im_end|>")
    with pytest.raises(ConfigError, match=f"lacks {token.replace('|', '.')};"):
        TokenWriter(tokenizer, 1)


def test_a_tokenizer_without_padding_is_refused():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=smol_tokenizer().backend_tokenizer)
    with pytest.raises(ConfigError, match="lacks a padding token;"):
        TokenWriter(tokenizer, 1)


def test_a_tokenizer_that_builds_a_special_token_of_letters_is_refused():
    """As one does that was trained on texts with special tokens in them; the ids are those of the tokens."""
    content = json.loads(demo_tokenizer().backend_tokenizer.to_str())
    content["model"]["merges"] = [["i", "m"], ["im", "a"], ["ima", "g"], ["imag", "e"], ["<", "image"], ["<image", ">"]]
    vocabulary = content["model"]["vocab"]
    for left, right in content["model"]["merges"]:
        vocabulary.setdefault(left + right, max(vocabulary.values()) + 1)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), pad_token="<|im_end|>"
    )
    with pytest.raises(ConfigError, match="makes a special token of the plain text <image>,"):
        TokenWriter(tokenizer, 1)


def test_a_writer_can_be_sent_to_another_process():
    writer = TokenWriter(smol_tokenizer(), 4)
    copy = pickle.loads(pickle.dumps(writer))
    assert copy.turn("user", SPELLED) == writer.turn("user", SPELLED)


NONE = (IGNORE, IGNORE)
DECISIONS = {
    # Turns of a clip with frames 0 to 5, and the labels (dst_update, speaking) of its decision positions: "f2" is frame
    # 2, "u2" the end of a user turn there, "v2" that of a second one. A frame that is not named is a negative for both.
    "nothing": ([], {}),
    "an update": ([update(2)], {"f2": (1, 0)}),
    "a reply": ([reply(2)], {"f2": (0, 1)}),
    "an update and a reply": ([update(2), reply(2)], {"f2": (1, 1)}),
    "a reply and then an update": ([reply(2), update(2)], {"f2": (1, 1)}),
    "both at the first frame": ([update(0), reply(0)], {"f0": (1, 1)}),
    "both at the last frame": ([update(5), reply(5)], {"f5": (1, 1)}),
    "a question without answer": ([user(2)], {"f2": NONE, "u2": (0, 0)}),
    "a question at the end": ([user(5)], {"f5": NONE, "u5": (0, 0)}),
    "a reply at once": ([user(2), reply(2)], {"f2": NONE, "u2": (0, 1)}),
    "an update at once": ([user(2), update(2)], {"f2": NONE, "u2": (1, 0)}),
    "both at once": ([user(2), update(2), reply(2)], {"f2": NONE, "u2": (1, 1)}),
    "an update, a question, a reply": ([update(2), user(2), reply(2)], {"f2": (1, IGNORE), "u2": (0, 1)}),
    "a reply, then a question": ([reply(2), user(2)], {"f2": (IGNORE, 1), "u2": (0, 0)}),
    "an update before and after a question": ([update(2), user(2), update(2)], {"f2": (1, IGNORE), "u2": (1, 0)}),
    "a reply a frame later": ([user(2), reply(3)], {"f2": NONE, "u2": (0, IGNORE), "f3": (0, 1)}),
    "a reply two frames later": ([user(2), reply(4)], {"f2": NONE, "u2": (0, IGNORE), "f4": (0, 1)}),
    "a reply three frames later": ([user(2), reply(5)], {"f2": NONE, "u2": (0, 0), "f5": (0, 1)}),
    "an update two frames later": ([user(2), update(4)], {"f2": NONE, "u2": (IGNORE, 0), "f4": (1, 0)}),
    "each head has its own window": (
        [user(2), update(3), reply(5)],
        {"f2": NONE, "u2": (IGNORE, 0), "f3": (1, 0), "f5": (0, 1)},
    ),
    "an update at once, a reply later": ([user(2), update(2), reply(4)], {"f2": NONE, "u2": (1, IGNORE), "f4": (0, 1)}),
    "a reply at once stays a positive": ([user(2), reply(2), reply(4)], {"f2": NONE, "u2": (0, 1), "f4": (0, 1)}),
    "a reply before the question does not answer it": ([reply(1), user(2)], {"f1": (0, 1), "f2": NONE, "u2": (0, 0)}),
    "two questions, one reply": ([user(2), user(2), reply(2)], {"f2": NONE, "u2": (0, IGNORE), "v2": (0, 1)}),
    "two questions, no reply": ([user(2), user(2)], {"f2": NONE, "u2": (0, 0), "v2": (0, 0)}),
    "two questions, a late reply": (
        [user(2), user(2), reply(4)],
        {"f2": NONE, "u2": (0, IGNORE), "v2": (0, IGNORE), "f4": (0, 1)},
    ),
    "a reply between two questions": ([user(2), reply(2), user(2)], {"f2": NONE, "u2": (0, 1), "v2": (0, 0)}),
    "the reply to the next question comes soon": (
        [user(2), user(3), reply(3)],
        {"f2": NONE, "u2": (0, IGNORE), "f3": NONE, "u3": (0, 1)},
    ),
    "a system turn": ([system(2)], {"f2": NONE}),
    "an update, then a system turn": ([update(2), system(2)], {"f2": (1, IGNORE)}),
    "a system turn, then a reply": ([system(2), reply(2)], {"f2": (IGNORE, 1)}),
    "a question and a system turn": ([user(2), system(2)], {"f2": NONE, "u2": (0, 0)}),
    "a reply behind a question and a system turn": ([user(2), system(2), reply(2)], {"f2": NONE, "u2": (0, 1)}),
    "a system turn and a question": ([system(2), user(2), update(2)], {"f2": NONE, "u2": (1, 0)}),
    "ranges do not matter": ([update(3, first=1), reply(4, first=0)], {"f3": (1, 0), "f4": (0, 1)}),
}


def decisions(clip, frames="continuous", positive_frames="last"):
    labels = {}
    for group in arrange(clip, frames, positive_frames):
        labels[f"f{group.frame}"] = (group.decision["dst_update"], group.decision["speaking"])
        for name, decision in zip("uv", group.user_decisions, strict=False):
            labels[f"{name}{group.frame}"] = (decision["dst_update"], decision["speaking"])
    return labels


@pytest.mark.parametrize("case", DECISIONS)
def test_decisions(case):
    turns, expected = DECISIONS[case]
    negatives = {f"f{frame}": (0, 0) for frame in range(6)}
    assert decisions(make_clip(*turns, end=6)) == negatives | expected


@pytest.mark.parametrize("case", DECISIONS)
def test_the_arrays_of_a_sample_say_the_same(case):
    turns, _ = DECISIONS[case]
    clip = make_clip(*turns, end=6)
    sample = whole_sample(make_maker(tokens_per_frame=4), clip)
    assert list(
        zip(sample.decisions["dst_update"].tolist(), sample.decisions["speaking"].tolist(), strict=True)
    ) == list(decisions(clip).values())
    frame_positions = sample.decision_positions[sample.decision_is_frame]
    assert frame_positions.tolist() == [at for at in range(len(sample.input_ids)) if is_end_of_frame(sample, at)]


def is_end_of_frame(sample, position):
    image = sample.input_ids[position] == demo_tokenizer().convert_tokens_to_ids("<image>")
    return image and (sample.input_ids[: position + 1] == sample.input_ids[position]).sum() % 4 == 0


def test_every_turn_that_is_learned_has_a_positive_before_it():
    for turns, _ in DECISIONS.values():
        sample = whole_sample(make_maker(), make_clip(*turns, end=6))
        lm, dst_gen, updates, _, replies, _ = counts_of(sample)
        assert updates == sum(turn.role == "DST_UPDATE" for turn in turns)
        assert replies == sum(turn.role == "assistant" for turn in turns)
        assert (lm > 0) == (updates + replies > 0) and (dst_gen > 0) == (updates > 0)


def arranged(*turns, **options):
    counts = Counter()
    groups = arrange(make_clip(*turns, end=6), options.get("frames", "continuous"), "last", counts)
    return [(turn.role, turn.text, turn.transitions) for group in groups for turn in group.turns], dict(counts)


JOINED_UPDATES = "DST_UPDATE turns joined with another of their frame"
JOINED_REPLIES = "replies joined with another of their frame"
REORDERED = "outcomes reordered: the update before the reply"


def test_updates_at_one_frame_become_one_and_keep_their_order():
    turns, counts = arranged(update(2, "S2 start"), update(2, "S1 start"), update(2, "S1 complete"))
    assert [turn[2] for turn in turns] == [
        (Transition("S2", "start"), Transition("S1", "start"), Transition("S1", "complete"))
    ]
    assert counts == {JOINED_UPDATES: 2}
    maker = make_maker()
    sample = whole_sample(maker, make_clip(update(2, "S2 start"), update(2, "S1 start")))
    assert supervised_texts(maker, sample) == [
        ' [{"id": "S2", "transition": "start"}, {"id": "S1", "transition": "start"}]<end_of_utterance>'
    ]


def test_replies_at_one_frame_become_one():
    turns, counts = arranged(reply(2, "One."), reply(2, "Two."), reply(3, "Three."))
    assert [turn[:2] for turn in turns] == [("assistant", "One. Two."), ("assistant", "Three.")]
    assert counts == {JOINED_REPLIES: 1}


def test_the_update_is_put_before_the_reply():
    turns, counts = arranged(reply(2, "A."), update(2, "S1 start"), reply(2, "B."), update(2, "S2 start"))
    assert [turn[0] for turn in turns] == ["DST_UPDATE", "assistant"]
    assert turns[0][2] == (Transition("S1", "start"), Transition("S2", "start"))
    assert turns[1][1] == "A. B."
    assert counts == {REORDERED: 1, JOINED_UPDATES: 1, JOINED_REPLIES: 1}


@pytest.mark.parametrize("between", [user, system])
def test_nothing_moves_past_a_user_or_system_turn(between):
    turns, counts = arranged(reply(2, "A."), between(2, "B."), update(2), reply(2, "C."), update(3))
    assert [turn[0] for turn in turns] == ["assistant", between(2).role, "DST_UPDATE", "assistant", "DST_UPDATE"]
    assert counts == {}


def test_arranging_changes_no_clip(public_clip):
    before = pickle.dumps(public_clip)
    assert decisions(public_clip, positive_frames="all") == decisions(public_clip, positive_frames="all")
    assert pickle.dumps(public_clip) == before


def test_positive_frames_all_takes_the_whole_range_of_every_turn():
    clip = make_clip(
        reply(1, first=0), user(2), update(4, first=2), update(4, first=3), reply(4, first=3), reply(4, first=4), end=7
    )
    assert decisions(clip, positive_frames="all") == {
        "f0": (0, 1),
        "f1": (0, 1),
        "f2": (1, IGNORE),
        "u2": (IGNORE, IGNORE),
        "f3": (1, 1),
        "f4": (1, 1),
        "f5": (0, 0),
        "f6": (0, 0),
    }


def test_positive_frames_all_without_steps_leaves_the_dst_head_alone():
    clip = make_clip(reply(4, first=2), end=6, steps=())
    assert set(decisions(clip, positive_frames="all").values()) == {(IGNORE, 0), (IGNORE, 1)}


def test_event_frames_are_those_of_the_turns_ranges_once_each():
    clip = make_clip(reply(4, first=2), user(4, first=4), update(9, first=8), reply(9, first=7), start=1, end=20)
    assert frame_list(clip, "event") == [2, 3, 4, 7, 8, 9]
    assert decisions(clip, frames="event") == {
        "f2": (0, 0),
        "f3": (0, 0),
        "f4": (IGNORE, 1),
        "u4": (0, 0),
        "f7": (0, 0),
        "f8": (0, 0),
        "f9": (1, 1),
    }
    sample = whole_sample(make_maker(frames="event"), clip)
    assert sample.frames.tolist() == sample.decision_frames[sample.decision_is_frame].tolist() == [2, 3, 4, 7, 8, 9]


def test_the_answer_window_counts_frames_of_the_video_also_where_frames_are_left_out():
    assert decisions(make_clip(user(2), reply(4)), frames="event") == {"f2": NONE, "u2": (0, IGNORE), "f4": (0, 1)}
    assert decisions(make_clip(user(2), reply(5)), frames="event")["u2"] == (0, 0)


def test_continuous_shows_every_frame_of_the_clip():
    assert frame_list(make_clip(reply(4), start=3, end=7), "continuous") == [3, 4, 5, 6]
