"""The page about built dialogs."""

import re
from html.parser import HTMLParser

from dst_dist.build.page import intervals, page_of
from tests.build.raw import build_videos, turn, video

ALL = "boil water\n[10.0s-14.0s] pour milk\n[15.0s-20.0s] stir\n[22.0s-25.0s] plays chess\n"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes).get("class")))


def page(folder, *videos) -> str:
    return "".join(page_of(build_videos(folder, *videos)))


def test_it_shows_what_was_found_beside_the_evidence(tmp_path):
    raw = video(turn("assistant", 9.5, "Pour the milk."), annotations={"all_step_descriptions": f"[2.0s-8.0s] {ALL}"})
    text = page(tmp_path, raw)
    tags = Tags()
    tags.feed(text)
    assert [tags.found.count(("rect", kind)) for kind in ("active", "line", "none", "said")] == [3, 3, 1, 1]
    assert "22.0 s: plays chess: less like any step" in text
    assert "<td>start</td><td>3</td>" in text and "<td>ego4d/train_training.json</td><td>1</td>" in text
    assert "from annotated lines" in text and "ProAssist none" in text


def test_it_needs_no_other_file_and_escapes_what_it_shows(tmp_path):
    nasty = "<script>alert(1)</script>"
    raw = video(
        video_uid="a<b",
        inferred_knowledge=f"Tea\n1. {nasty}",
        annotations={"all_step_descriptions": f"[1s-2s] {nasty}"},
    )
    text = page(tmp_path, raw)
    assert "<script" not in text and "a&lt;b" in text
    assert not re.search(r"(src|href)=", text)


def test_those_with_the_least_evidence_come_first_and_what_is_left_out_is_listed(tmp_path):
    text = page(
        tmp_path, video(), video(video_uid="spoken", parsed_video_anns=None), video(video_uid="x", conversations=[])
    )
    assert text.index("dialogs/spoken/0") < text.index("ego4d/tea/0")
    text = page(tmp_path / "again", video(), video(video_uid="x", inferred_knowledge="none"))
    assert "1 videos without numbered steps, left out" in text


def test_intervals_end_with_the_dialog_where_a_step_does_not(tmp_path):
    raw = video(turn("assistant", 1.0, "Boil the water."), parsed_video_anns=None)
    (dialog,) = build_videos(tmp_path, raw).dialogs
    assert list(intervals(dialog, 9.0)) == [(0, 1.0, 9.0)]
