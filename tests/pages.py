"""Parts of the pages, and the recipe's schema, that are made from code.

`python -m tests.pages` writes them; a test says when one is stale.
"""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dst_dist.config import Recipe
from dst_dist.metrics import ENTRIES, KINDS
from dst_dist.recipes import keys
from dst_dist.recipes.faults import RENAMED, field_of, is_section, places_of

REPOSITORY = Path(__file__).parents[1]


def recipe_keys() -> str:
    """A table for each section of the recipe: key, default, choices, and what it decides."""
    return "\n\n".join(_section(name, section) for name, section in sections().items())


def sections() -> dict[str, type[BaseModel]]:
    """The sections of the recipe by their names; the top level's is empty."""
    found = {".".join(place): field_of(Recipe, list(place)).annotation for place in places_of(Recipe)}
    return {"": Recipe} | {name: annotation for name, annotation in found.items() if is_section(annotation)}


def _section(name: str, section: type[BaseModel]) -> str:
    title = f"## `{name}`\n\n{section.__doc__.splitlines()[0]}" if name else "## The top level"
    rows = [
        f"| `{key}` | `{keys.spelled(field.default)}` | {_choices(field.annotation)}{field.description} |"
        for key, field in section.model_fields.items()
        if not is_section(field.annotation)
    ]
    return "\n".join([title, "", "| key | default | what it decides |", "|---|---|---|", *rows])


def _choices(annotation: Any) -> str:
    """`a`, `b` or `c`: in front of the sentence, where a key has a few choices."""
    words = keys.choices(annotation)
    return f"One of {', '.join(f'`{word}`' for word in words)}. " if words else ""


def renamed_keys() -> str:
    """The names of earlier trainers and ours."""
    rows = [f"| `{old}` | `{new}` |" for old, new in RENAMED.items()]
    return "\n".join(["| there | here |", "|---|---|", *rows])


def metrics() -> str:
    """A table for each kind of evaluation: key, better direction, and what it is."""
    return "\n\n".join(_metrics_of(kind, title) for kind, title in KINDS.items())


def _metrics_of(kind: str, title: str) -> str:
    rows = []
    for metric in ENTRIES:
        if kind in metric.kinds:
            better = "" if metric.is_given else "less" if metric.less_is_better else "more"
            rows.append(f"| `{metric.key}` | {better} | {metric.about} |")
    return "\n".join(
        [f"### {title[0].upper()}{title[1:]}", "", "| key | better | what it is |", "|---|---|---|", *rows]
    )


PARTS = {
    ("dst_dist/recipes/README.md", "keys"): ("dst_dist/config.py", recipe_keys),
    ("dst_dist/recipes/README.md", "renamed keys"): ("dst_dist/recipes/faults.py", renamed_keys),
    ("dst_dist/evaluate/README.md", "metrics"): ("dst_dist/metrics.py", metrics),
}
"""(page, part) -> the file that it is made from, and the function that makes it."""


SCHEMA = REPOSITORY / "dst_dist/recipes/schema.json"


def with_part(page: str, part: str, source: str, text: str) -> str:
    """Return a page with the text between its two markers replaced. Raises ValueError if it lacks them."""
    begin, end = f"<!-- {part}: made from {source} -->", f"<!-- end of {part} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page lacks {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def main() -> None:
    for (file, part), (source, make) in PARTS.items():
        path = REPOSITORY / file
        path.write_text(with_part(path.read_text(), part, source, make()))
    SCHEMA.write_text(keys.schema())


if __name__ == "__main__":
    main()
