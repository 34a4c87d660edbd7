"""Words for comparing short instructions: stems, words that say nothing, and groups of verbs with one meaning."""

import re
import unicodedata
from functools import lru_cache

_SILENT = """
    a an the this that these those it its them they he she we you i me my your our their his her user student person
    is are was were be been being am do does did has have had will would can could should shall may might must
    and or but so as if of to in into on onto at by for from with up down over under out off then than too also very
    now next first finally last lastly okay ok alright right please let lets us s ll ve re d m t step there here just
    start starts started starting begin begins beginning go ahead time some any one all each more again still once
"""
SILENT = frozenset(_SILENT.split())
"""Words that do not tell steps apart, and are left out of every text."""

_VERBS = """
    cut slice chop dice mince quarter halve trim carve shred
    put place lay set position drop rest arrange add
    store keep
    sprinkle scatter drizzle top season
    pour fill tip
    mix stir whisk beat blend combine toss
    attach fit mount install fix fasten connect join secure
    insert plug push slide slot
    screw tighten twist turn rotate
    remove detach extract disconnect pull unscrew loosen
    open unfold uncap unwrap unlock
    close shut seal cover cap
    wash rinse clean wipe scrub
    heat warm boil cook simmer fry bake roast saute grill steam stew
    measure weigh scoop spoon portion
    spread smear coat brush apply
    check inspect test examine verify
    take grab pick get fetch grasp hold lift
    peel skin
    serve present plate
    roll wrap
    press tap click
    adjust align tune regulate
    switch activate power
    sand polish smooth
    tie bind knot
"""
_THINGS = """
    cable cord wire lead
    pan skillet pot saucepan
    bowl dish
"""

_SPELLINGS = """
    aluminium aluminum
    centre center
    colour color
    fibre fiber
    fridge refrigerator
    grey gray
    litre liter
    mould mold
    phone telephone
    tyre tire
"""


def stem(word: str) -> str:
    """Return a word without the commonest endings: slices, sliced, slicing and slice are the same."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    for ending in ("ing", "ed", "es", "s"):
        root = word[: -len(ending)]
        if word.endswith(ending) and len(root) >= 3 and not word.endswith("ss"):
            if ending in ("ing", "ed") and root[-1] == root[-2] and root[-1] not in "ls":
                root = root[:-1]
            return root.removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word


def _groups(text: str) -> dict[str, str]:
    return {stem(word): f"={line.split()[0]}" for line in text.strip().splitlines() for word in line.split()}


DOING = frozenset(_groups(_VERBS))
"""Stems of words for what is done; some, such as `cover`, are things too."""
GROUP_OF = _groups(_VERBS) | _groups(_THINGS)

_SPELLED = {stem(one): stem(other) for one, other in map(str.split, _SPELLINGS.strip().splitlines())}
"""Stems that are compared as those of another spelling."""

_LIGHT = "put place set take get grab pick use make hold add bring move turn"
LIGHT = frozenset(map(stem, _LIGHT.split())) | {"=put", "=take"}
"""Features that tell little: the verbs of what is done to everything."""


@lru_cache(1 << 16)
def telling(text: str) -> tuple[str, ...]:
    """Return the stems of the words in a text that tell something."""
    # A character with an accent may be written as one or as two.
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).casefold())
    stems = [stem(word) for word in words if word not in SILENT]
    return tuple(_SPELLED.get(word, word) for word in stems)


def with_groups(text: str) -> list[str]:
    """Return a text's telling stems, and the group of each that is in one."""
    stems = telling(text)
    return [*stems, *(GROUP_OF[word] for word in stems if word in GROUP_OF)]
