"""A clip as a page."""

from html.parser import HTMLParser

from dst_dist.data.frames import ArrowFrames
from dst_dist.inspection.page import page_of
from dst_dist.inspection.show import shown_clip


class Page(HTMLParser):
    """Counts elements; raises AssertionError where they are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert self.open in ([], ["meta"])

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "html"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "html":
            assert self.open.pop() == tag


def test_every_frame_and_text_is_on_the_page(words):
    shown = shown_clip(words, "train")
    found = Page("".join(page_of(shown))).found
    pictures = [about["src"] for tag, about in found if tag == "img"]
    assert len(pictures) == 16 and all(source.startswith("data:image/jpeg;base64,") for source in pictures)
    kinds = [about.get("class") for tag, about in found if tag == "pre"]
    pieces = next(iter(shown.samples.values()))
    assert [kinds.count(kind) for kind in ("lm", "dst_gen")] == [
        sum(piece.trained == kind for piece in pieces) for kind in ("lm", "dst_gen")
    ]
    assert not [tag for tag, _ in found if tag in ("script", "link")]


def test_a_frame_that_cannot_be_read_has_no_picture(words, monkeypatch):
    def image(file, row):
        raise ValueError("bad")

    monkeypatch.setattr(ArrowFrames, "image", image)
    text = "".join(page_of(shown_clip(words, "train")))
    assert text.count("no picture") == 16 and "<img" not in text


def test_words_of_the_data_are_no_markup(words):
    text = "".join(page_of(shown_clip(words, "train")))
    assert "&lt;end_of_utterance&gt;" in text and "<end_of_utterance>" not in text
