"""Asks a language model which step each annotated line is about, and takes its answer as one more similarity."""

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dst_dist.build.align import Costs, align, worth
from dst_dist.build.matching import Task
from dst_dist.data.reading_log import Report
from dst_dist.errors import ConfigError
from dst_dist.files import write_whole

KEY = "OPENAI_API_KEY"
"""Environment variable of the server's key."""
FOLDER = "build_answers"
"""Where good answers are kept, below the data root."""
SHARE = 0.5
"""Share of an answer in a line's similarity; the rest is the texts'."""
LEAST_WORTH = 0.5
"""Least worth of an answer by the texts alone, as a share of the best alignment's."""
TRIES = 2
_PROMPT = (
    "You are given the numbered steps of a task, and lines that annotators wrote while they watched a video of it. Say "
    "for every line, in order, the number of the step that it is a part of, or 0 for none. Answer with JSON: "
    '{"steps": [...]}.'
)


@dataclass(frozen=True)
class Proposer:
    """A model behind an OpenAI-compatible server.

    Args:
        url: the server's, up to and with `/v1`.
        folder: of the answers that are kept, so that a question is asked once.
    """

    url: str
    model: str
    folder: Path
    timeout_s: float = 120.0

    def advise(self, task: Task, name: str, report: Report) -> Task:
        """Return the task with the model's answer in its line scores; without a good one, as it is, and counted."""
        if not task.evidence.lines:
            return task
        answer = self._kept(task) or self._ask(task, name, report)
        if answer is None:
            report.count("videos whose lines the language model did not place, taken by their texts alone", name)
            return task
        numbers = [step.number for step in task.steps]
        proposed = np.array([[float(number == own) for own in numbers] for number in answer])
        return replace(task, line_scores=task.line_scores + SHARE * (proposed - task.line_scores))

    def _kept(self, task: Task) -> list[int] | None:
        # One edited by hand, or by another version of this code, is asked again.
        with suppress(FileNotFoundError, ValueError):
            return _read(self._path(task).read_text(encoding="utf-8"), task)
        return None

    def _path(self, task: Task) -> Path:
        question = json.dumps([self.model, _messages(task)])
        return self.folder / f"{hashlib.sha256(question.encode()).hexdigest()}.json"

    def _ask(self, task: Task, name: str, report: Report) -> list[int] | None:
        messages = _messages(task)
        for _ in range(TRIES):
            try:
                answer = _read(self._answer(messages, _schema(len(task.evidence.lines))), task)
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, IndexError) as error:
                self._refuse_for_good(error)
                fault = str(error) or type(error).__name__
                report.count("wrong answers of the language model", f"{name} ({fault[:80]})")
                messages = [*_messages(task), {"role": "user", "content": f"The last answer was wrong: {fault[:200]}"}]
            else:
                write_whole(self._path(task), json.dumps({"steps": answer}) + "\n")
                return answer
        return None

    def _refuse_for_good(self, error: Exception) -> None:
        """Raise ConfigError for what no other try will mend: a wrong key, model or address, or no server there."""
        is_refused = isinstance(error, urllib.error.HTTPError) and error.code in (400, 401, 403, 404)
        is_nowhere = isinstance(error, urllib.error.URLError) and isinstance(error.reason, ConnectionRefusedError)
        if is_refused or is_nowhere:
            raise ConfigError(
                f"--llm {self.url}, --llm-model {self.model}: {error}; look at both, and at {KEY} in the environment"
            ) from error

    def _answer(self, messages: list[dict[str, str]], schema: dict[str, Any]) -> str:
        """Return the text that the model writes; what goes wrong on the way is raised as it comes."""
        named = {"type": "json_schema", "json_schema": {"name": "steps", "strict": True, "schema": schema}}
        body = {"model": self.model, "messages": messages, "temperature": 0, "response_format": named}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
            return json.load(reply)["choices"][0]["message"]["content"]


def _messages(task: Task) -> list[dict[str, str]]:
    steps = "\n".join(f"{step.number}. {step.name}" for step in task.steps)
    lines = "\n".join(f"[{line.start:.1f} s] {'; '.join([line.text, *line.nested])}" for line in task.evidence.lines)
    return [{"role": "system", "content": _PROMPT}, {"role": "user", "content": f"Steps:\n{steps}\n\nLines:\n{lines}"}]


def _schema(num_lines: int) -> dict[str, Any]:
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": num_lines, "maxItems": num_lines}
    return {"type": "object", "properties": {"steps": numbers}, "required": ["steps"], "additionalProperties": False}


def _read(text: str, task: Task) -> list[int]:
    """Return the step's number for each line. Raises ValueError if the answer has another form, or makes no sense."""
    answer = json.loads(text)
    numbers = answer.get("steps") if isinstance(answer, dict) else None
    known = {0, *(step.number for step in task.steps)}
    if not isinstance(numbers, list) or len(numbers) != len(task.evidence.lines):
        raise ValueError(f"`steps` must be a list of {len(task.evidence.lines)} numbers")
    if not all(type(number) is int and number in known for number in numbers):
        raise ValueError("`steps` names a step that is not in the list")
    place_of = {step.number: place for place, step in enumerate(task.steps)}
    costs, scores = Costs(), task.line_scores
    best = worth(scores, align(scores, costs), costs)
    if worth(scores, [place_of.get(number) for number in numbers], costs) < LEAST_WORTH * best:
        raise ValueError("the lines are not about these steps, by their words")
    return numbers
