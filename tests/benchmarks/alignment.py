"""The alignment of generated dialogs, next to the ceiling where every text's step is known, and to simpler rules."""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import mean

from dst_dist.build.align import Costs
from dst_dist.build.dialogs import Video, Written
from dst_dist.build.evidence import read_evidence
from dst_dist.build.make import align_dialog
from dst_dist.build.matching import read_task
from dst_dist.build.similarity import TFIDF, Similarity, open_similarity
from dst_dist.build.steps import read_steps
from tests.build.generate import generate, knowing
from tests.build.scoring import Transition, f1, overlap
from tests.build.tasks import HELD_OUT, TASKS, Wording

WAYS = {
    "ceiling: every text's step is known": Costs(),
    "soft order": Costs(),
    "argmax": Costs(skip=0.0, back=0.0),
    "monotone": Costs(back=1e6),
}
CEILING = next(iter(WAYS))


def find(raw: dict, similarity: Similarity, costs: Costs) -> list[Transition]:
    """Return the transitions that are found in the one dialog of a raw video."""
    video = Video(Written.model_validate(raw), "generated", "train")
    steps, evidence = read_steps(raw["inferred_knowledge"]), read_evidence(video.annotations.all_step_descriptions)
    task = read_task(steps, evidence, similarity)
    aligned = align_dialog(video, video.written.conversations[0], "0", task, similarity, costs)
    return [(change.time, steps[change.step].id, change.transition) for change in aligned.changes]


def table(
    tasks: dict[str, Sequence[Wording]], seeds: Iterable[int], similarity: Similarity
) -> dict[str, tuple[float, float]]:
    """Return the mean transition F1 and overlap of spans of each way."""
    scores = defaultdict(list)
    for goal, wordings in tasks.items():
        for seed in seeds:
            raw, gold, truth = generate(goal, wordings, seed)
            end, ids = raw["parsed_video_anns"]["duration"], [f"S{n}" for n in range(1, len(wordings) + 1)]
            names = [wording.name for wording in wordings]
            for way, costs in WAYS.items():
                found = find(raw, knowing(truth, names) if way == CEILING else similarity, costs)
                scores[way].append((f1(gold, found), overlap(gold, found, ids, end)))
    return {way: (mean(a for a, _ in pairs), mean(b for _, b in pairs)) for way, pairs in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30, help="dialogs of each task")
    parser.add_argument("--similarity", default=TFIDF)
    options = parser.parse_args()
    for title, tasks in (("tasks that costs were chosen on", TASKS), ("held-out tasks", HELD_OUT)):
        print(f"{title}: transition F1, overlap of spans")
        # The tests and the choice of costs use lower seeds.
        rows = table(tasks, range(1000, 1000 + options.seeds), open_similarity(options.similarity))
        for way, (transitions, spans) in rows.items():
            print(f"  {way}: {transitions:.3f}, {spans:.3f}")


if __name__ == "__main__":
    main()
