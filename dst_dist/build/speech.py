"""Recognises what a sentence of a dialog does: tell, complete, hold, take up, give up or undo a step."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dst_dist.build.dialogs import Turn

TELL, DONE, HOLD, BACK, GIVE_UP, UNDO, ALONGSIDE = "tell", "done", "hold", "back", "give up", "undo", "alongside"
# `For a while` is a time, and joins nothing.
WHILE = r"(?<!\ba )(?<!\blittle )(?<!\bshort )\bwhile\b"

_SENTENCE = re.compile(r"(?<=[.!?])[\"')]*\s+|\s+-\s+|\s*[;\u2014]\s*|,\s+(?=(?:and )?(?:now|next)\b)", re.IGNORECASE)
_NOT_YET = re.compile(
    r"\b(not|n't|never|almost|nearly|until|when|once|if|before|after|as soon as|still)\b.{0,30}"
    r"\b(done|finish\w*|complet\w*|ready)\b|\bso far\b|\bkeep\b"
)
_CUES = (
    (
        ALONGSIDE,
        rf"{WHILE}|\bmeanwhile\b|\bin the mean ?time\b|\b(on|by) (its|their) own\b|\bby (itself|themselves)\b"
        r"|\bin the background\b",
    ),
    (
        GIVE_UP,
        r"\b(give|gave|giving) (it |this |that )?up\b|\bforget (it|about|the|that|this)\b|\bnever ?mind\b|\bskip\w*\b"
        r"|\bcancel\w*\b|\babandon\w*\b|\bdo without\b|\b(don't|won't|not going to) (bother|need|do|finish)\b"
        r"|\bno (need|point)\b|\b(let's|we'll|i'll|i will|we) (not|drop)\b|\bcall (it|that) off\b"
        r"|\bleav\w+\b(?= (it|that|this|the [\w ]+) (out|undone|unfinished|as it is)\b)",
    ),
    (
        HOLD,
        r"\b(tele)?phone('s| is|)? (ring\w*|call\w*)\b|\banswer\w* (the|my) (tele)?phone\b"
        r"|\b(take|got|have) (this|a) (phone )?call\b"
        r"|\bdoor ?bell\b|\b(someone|somebody|a visitor|visitors?|neighbou?r)\b.*\b(door|here|came|come)\b"
        r"|\bhold on\b|\b(wait|one|just a|give me a|hang on|a) (moment|minute|second|sec)\b|\bhang on\b"
        r"|\b(a|short|quick|little|coffee) break\b"
        r"|\bpaus\w+\b|\bfor now\b|\bfor later\b"
        r"|\b(be )?right back\b|\bbrb\b|\b(set|put)\b(?= .{1,40} aside\b)|\binterrupt\w*\b"
        r"|\b(have|need|got) to (go|leave|answer|take (this|a call)|step away|run)\b"
        r"|\b(come|get) back to\b(?=.*\blater\b)|\b(continue|go on)\b(?= .*\b(later|afterwards)\b)",
    ),
    (
        BACK,
        r"\b(i'm|i am|we're|we are|welcome) back\b|\b(back|return\w*) to\b|\bresum\w+\b|\bcarry on\b|\bcontinu\w+\b"
        r"|\bgo(ing)? on\b|\bkeep (going|on|\w+ing)\b|\bpick(ing)? (it )?up (where|again)\b|\bwhere were we\b"
        r"|\bwhere (we|you|i) (left|stopped)\b",
    ),
    (
        UNDO,
        r"\b(take|took|taking|pull|pulled|pulling)\b(?= (it|them|that|this|the [\w ]+?) (back )?(off|out|apart|down)\b)"
        r"|\btake (off|out|apart)\b|\bundo\w*\b|\bunscrew\w*\b|\bdetach\w*\b|\bdisassembl\w+\b|\bremov\w+\b"
        r"|\b(start|starting|do|redo) (it |that |this )?(over|again|from scratch)\b|\bredo\b|\brevers\w+\b",
    ),
    (
        DONE,
        r"\b(all|is|are|'s|'re|'m|am|was|were|we're|i'm|now|well) (now |all |both )?(done|finished|complete\w*|ready)\b"
        r"|^(done|finished|completed|ready)\b|\ball set\b|\b(have|'ve|has|just) (\w+ )?(finished|completed|done)\b"
        r"|\b(i|we|you) (just )?(finished|completed)\b|\bthat's (it|that|everything)\b|\bfinished (the|with|it)\b"
        r"|^((got it|there|okay|ok|yes)[,.!]? )?(it|they)('s|'re| is| are) (now |all )?"
        r"(on|in|off|out|up|together|tight)\b",
    ),
)
_PATTERNS = tuple((act, re.compile(pattern)) for act, pattern in _CUES)
_THING = (
    r"(?:^|, so )(?:(?:okay|ok|yes|good|great|there|now)[,.!]? )*(?:the|my|your|both|all)"
    r"(?: (?!(?:until|till|when|where|that|which|if|to|check|make|wait)\b)[\w'-]+){1,5}"
)
"""The beginning of a sentence that says of a thing what it is."""
_HAVE_DONE = re.compile(
    r"\b(i|we|you)('ve| have)\b(?! (to|got|an?|the|no|not|never|some|my)\b)"
    r"|\bi (just |already )?(?!need|want)\w+ed\b(?! to\b)"
    rf"|{_THING} (is|are) (now |all )?"
    r"(\w+(ed|en|wn)|cut|set|put|shut|spread|built|lit|in|on|off|out|up|together|tight)\b"
    # What a thing becomes by itself, or by work.
    rf"|({_THING}|^(now )?(it|they)) (is|are|looks?) ((now|all|quite|just|nice|nicely|fully|evenly|really|very|and) )*"
    r"(hot|warm|cool|cold|dry|clean|solid|firm|clear|soft|golden|brown|smooth|right|full|empty|level|even|flat)"
    r"( (now|enough))*[.!]*$"
    rf"|({_THING}|^(it|they)) (has|have) (now |just )?(?!red\b)(\w+ed|set|risen)\b"
)
_LATER = re.compile(
    r"\b(later|afterwards|in a (moment|minute|bit)|at the end|eventually|before (that|you|we)|will need|you'll need"
    r"|you need|remember|soon|by the way|earlier|already)\b"
)
_NOT_NOW = re.compile(
    r"\b(later|afterwards|at the end(?! of)|eventually|tomorrow|tonight)\b"
    r"|\bafter (breakfast|lunch|dinner|supper|the break)\b"
)
_OWN_ACT = re.compile(
    r"\b(i'm|i am|i'll|i will|let me|we're|i) (just |now |going to |already |starting )*"
    r"(?!want|need|like|have|think|see|know|wonder|hope|guess|would|can|could|do|don't|did|didn't|not|am)\w+"
)
_GO_AHEAD = re.compile(r"\b(now|go ahead|yes|sure|fine|okay)\b")
_ONLY_FOR_NOW = re.compile(r"^(?!.*\b(leav\w+|stop\w*|enough|that's|let)\b)(?P<told>.*)\bfor now\b")
_BARE = re.compile(
    r"^((okay|ok|there|all|both|now)[,.!]? )*"
    r"(?!(agreed|noted|indeed|interested|confused|excited|worried|scared|tired|surprised|relieved|need|speed|red)\b)"
    r"\w{2,}ed[.!]*$"
)
_ASKED = re.compile(r"\b(can|could|would|will) you\b|\bwhy don't you\b|\bhow about\b")


_MISTAKE = (
    r"\bwrong\w*\b|\bmistake\w*\b|\bincorrect\w*\b|\bupside\b|\bbackwards?\b|\bredo\b|\bundo\w*\b|\bshouldn't\b"
    r"|\bnot right\b|\binstead\b|\bunscrew\b|\bdetach\b|\breset\b|\bfrom scratch\b"
)
_WRONG = re.compile(rf"{_MISTAKE}|\bagain\b")
_FOR_LATER = re.compile(r"\bfor now\b|\blater\b|\baside\b|\bunfinished\b|\bafterwards\b|\bcome back to\b")
_CLAUSE = re.compile(r",?\s*\b(?:and then|then|after that|finally|afterwards)\b,?\s*", re.IGNORECASE)
_BEFOREHAND = re.compile(r"^(?:but |and )?(?:before|after|once|when|as soon as|if)\s[^,]+,\s*(?=\S)", re.IGNORECASE)
_MEANWHILE = re.compile(r"\b(?:meanwhile|in the mean ?time)\b", re.IGNORECASE)
_WHILE = re.compile(
    rf"(?:{WHILE}|\bas)\s+(?P<clause>[^,.]+?)(?:,|\s(?=(?:you|we|i) (?:can|could|may|might|should|will)\b)|[.!]?$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sentence:
    """A sentence and what it does; `act` is None for nothing that moves a step.

    `may_tell` says that it could tell a step if it had no act of its own. `answers` is the question just before it.
    `is_wrong` says that something was done wrongly or is done again, `is_mistake` that it was surely done wrongly,
    `is_for_later` that something is left for later. `role` is who says it.
    """

    time: float
    text: str
    act: str | None
    may_tell: bool = False
    answers: str = ""
    is_wrong: bool = False
    is_mistake: bool = False
    is_for_later: bool = False
    role: str = "assistant"


def read_sentences(said: Sequence[Turn]) -> list[Sentence]:
    """Return the sentences of what was said, in order.

    A `while` clause is a sentence of its own; what is said to come before or after, as in `Once it is dry, paint it`,
    is left out.
    """
    found: list[Sentence] = []
    question = ""
    for turn in said:
        texts = _split(turn.content)
        if turn.role == "user":
            question = next((text for text in texts if text.endswith("?")), "")
        content = turn.content.casefold()
        is_mistake = bool(re.search("correction|mistake", turn.labels or "") or re.search(_MISTAKE, content))
        is_wrong = is_mistake or bool(_WRONG.search(content))
        for text in texts:
            for part, act in _acts(text, turn):
                answers = question if turn.role == "assistant" else ""
                is_for_later = bool(_FOR_LATER.search(part.casefold()))
                if act == UNDO and not is_wrong:
                    act = TELL if _tells(part.casefold(), turn) else None
                may_tell = _tells(part.casefold(), turn)
                found.append(
                    Sentence(turn.time, part, act, may_tell, answers, is_wrong, is_mistake, is_for_later, turn.role)
                )
        if turn.role == "assistant":
            question = ""
    return found


def without_cue(sentence: Sentence) -> str:
    """Return a sentence's text without the words that make its act: `on the bulb` of `I give up on the bulb.`"""
    text = sentence.text
    for pattern in [pattern for act, pattern in _PATTERNS if act == sentence.act] + [_WRONG] * (sentence.act == UNDO):
        text = re.sub(pattern.pattern, " ", text, flags=re.IGNORECASE)
    return text


def acts_like(act: str, text: str) -> bool:
    """Return whether a text has the words of an act."""
    return any(pattern.search(text.casefold()) for name, pattern in _PATTERNS if name == act)


def begins_by_answer(sentence: Sentence) -> bool:
    """Return whether an answer lets a step begin that the question before it named."""
    return bool(_GO_AHEAD.search(sentence.text.casefold()))


def clauses(text: str) -> list[str]:
    """Return what a sentence tells one after the other: `Cut it, then fry it` gives `Cut it` and `fry it`."""
    return [part for part in _CLAUSE.split(text) if part.strip(" ,.!")]


@lru_cache(1 << 16)
def _split(text: str) -> tuple[str, ...]:
    text = " ".join(text.replace("\u2019", "'").split())
    return tuple(part.strip() for part in _SENTENCE.split(text) if part.strip())


def _acts(text: str, turn: Turn) -> list[tuple[str, str | None]]:
    text = _BEFOREHAND.sub("", text)
    clause = _WHILE.search(text)
    act = _act(text.casefold(), turn)
    if act == ALONGSIDE and clause is None and _MEANWHILE.search(text):
        # What goes on is the step at hand, and this is another.
        told = _MEANWHILE.sub("", text).strip(" ,.")
        return [("", ALONGSIDE), *([(told, _act(told.casefold(), turn))] if told else [])]
    if act != ALONGSIDE or clause is None:
        return [(text, act)]
    rest = (text[: clause.start()] + text[clause.end() :]).strip(" ,")
    return [(clause["clause"], ALONGSIDE), *([(rest, _act(rest.casefold(), turn))] if rest else [])]


def _act(text: str, turn: Turn) -> str | None:
    if text.endswith("?") and not (turn.role == "assistant" and _ASKED.search(text)):
        return None
    if turn.role == "assistant":
        # `Screw it in by hand for now` is work; `leave it for now` is none.
        text = _ONLY_FOR_NOW.sub(r"\g<told>", text)
    for act, pattern in _PATTERNS:
        if pattern.search(text) and not (act == DONE and _NOT_YET.search(text)):
            return act
    if _HAVE_DONE.search(text) or (turn.role == "user" and _BARE.search(text)):
        return DONE
    return TELL if _tells(text, turn) else None


def _tells(text: str, turn: Turn) -> bool:
    if turn.role == "user":
        return bool(_OWN_ACT.search(text)) and not _NOT_NOW.search(text)
    return not _LATER.search(text) and (not turn.labels or "instruction" in turn.labels)
