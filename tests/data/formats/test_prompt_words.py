"""The prompt's own words about task, steps and state: none stay that the opening turn contradicts, now or later."""

import json
from collections import Counter

import pytest

from dst_dist.data.clips import Step
from dst_dist.data.formats.prompt_words import OTHER_STEP, OTHER_TASK, TWICE, UNTRUE_STATE, PromptWords
from dst_dist.data.reading_log import ClipLog, FileFaults, Report
from dst_dist.errors import DataError
from dst_dist.streaming.video_input import read_task
from tests.data.clip_files import read, read_one
from tests.data.dialogs import make_maker
from tests.data.handmade import make_root, proassist_clip, prospect_clip, spoken, write_proassist

STEPS = (Step("S1", "Boil water"), Step("S2", "Pour it: slowly"), Step("S3", "Sit down. Drink."))
STATE = {"S1": "completed", "S2": "in_progress"}
HELP = "You watch and help."
CASES = {
    # what the prompt adds -> (what stays of it, counted)
    "nothing": ("", "", None),
    "the state, as the opening turn writes it": ("\nState: S1 completed, S2 in_progress", "", TWICE),
    "another state": ("\nState: S1 in_progress", "", UNTRUE_STATE),
    "a state of nothing": ("\nState: none", "", UNTRUE_STATE),
    "JSON": ('\nCurrent dialog state: {"S1": "not_started", "S2": "not_started"}', "", UNTRUE_STATE),
    "Python": ("\nDialogue state = {'S1': 'completed', 'S2': 'in_progress'}", "", TWICE),
    "a list": ("\nState:\n- S1: completed\n- S2: paused\nBe brief.", "\nBe brief.", UNTRUE_STATE),
    "by names": ("\nBoil water: completed; Pour it: slowly: paused", "", UNTRUE_STATE),
    "by a name": ("\nBoil water is not started.", "", UNTRUE_STATE),
    "in a sentence": (" State: S1 paused. Be brief.", " Be brief.", UNTRUE_STATE),
    "steps as declared": ("\nSteps:\n- S1: Boil water\n- S2: Pour it: slowly", None, None),
    "a step of two sentences": ("\n- S3: Sit down. Drink.", None, None),
    "a step by another name": ("\nSteps:\n- S1: Fry eggs\n- S2: Pour it: slowly", "\nSteps:\n- S2: Pour it: slowly",
                               OTHER_STEP),
    "only other steps": ("\nSteps:\n- S1: Fry eggs\n- S2: Eat", "", OTHER_STEP),
    "the task": ("\nTask: make tea.", None, None),
    "another task": ("\n\nTask: Fry eggs", "\n", OTHER_TASK),
    "words about states in general": ("\nSay when a step is completed, or S1 is completed too early.", None, None),
    "a note": ("\nNote: S1 is hard. Goals matter: be kind.", None, None),
}  # fmt: skip


def beside(prompt, strict=False, goal="Make tea", state=STATE):
    faults, report = FileFaults("file"), Report()
    text = PromptWords(prompt, STEPS).beside(goal, state, ClipLog("clip", faults, report, strict))
    return text, report.counts, faults.texts


@pytest.mark.parametrize("case", CASES)
def test_what_stays_of_a_prompt(case):
    added, stays, kind = CASES[case]
    text, counts, _ = beside(HELP + added)
    assert text == HELP + (added if stays is None else stays)
    assert set(counts) - {TWICE} == ({kind} if kind else set()) - {TWICE}
    if kind != UNTRUE_STATE:
        assert set(counts) == ({kind} if kind else set())


@pytest.mark.parametrize("case", CASES)
def test_strict_data_may_repeat_what_is_true_and_contradict_nothing(case):
    added, _, kind = CASES[case]
    assert bool(beside(HELP + added, strict=True)[2]) == (kind not in (None, TWICE))


def test_whatever_stands_between_pieces_stays_as_it_was():
    prompt = " One.  Two!\n\nThree?\tFour\n"
    assert beside(prompt) == (prompt, Counter(), [])
    assert beside("State: S1 completed\nOne.")[0] == "One." and beside("")[0] == ""


STATED = f"{HELP}\nState: S1 completed"


def test_every_way_in_treats_a_prompt_alike(tmp_path, caplog):
    """A clip and a task for streaming open with the same tokens; a later part is not told the state of the first."""
    root, maker = make_root(tmp_path), make_maker("smol")
    turns = [{"role": "system", "content": STATED}, spoken("user", "Hi", 2, 4, dst_state={"S1": "completed"})]
    steps = [{"id": step.id, "name": step.name} for step in STEPS]
    clip, report = read_one(root, prospect_clip(conversation=turns, dst=steps, inferred_goal="Make tea"))
    assert dict(report.counts) == {TWICE: 1}
    task = {"goal": "Make tea", "steps": steps, "prompt": STATED}
    (tmp_path / "task.json").write_text(json.dumps(task))
    streamed = read_task(tmp_path / "task.json")
    assert TWICE in caplog.text
    assert streamed.initial_state == clip.initial_state == {"S1": "completed"}
    for state in ({"S1": "completed"}, {"S2": "paused"}):
        assert maker.writer.header(streamed, state) == maker.writer.header(clip, state)
    assert streamed.prompt == HELP


def test_a_dialog_without_steps_is_compared_by_its_task(tmp_path):
    root = make_root(tmp_path)
    turns = proassist_clip()["conversation"]
    turns[0] = {"role": "system", "content": f"{HELP}\nTask: Fry eggs"}
    write_proassist(root, [proassist_clip(conversation=turns)])
    index, _, report = read(root, "cooking/prepared/train.jsonl", strict=False)
    assert index[0].prompt == HELP and report.counts[OTHER_TASK] == 1
    with pytest.raises(DataError, match="data.strict refuses prompts that name another task"):
        read(root, "cooking/prepared/train.jsonl")
