"""Answers of a language model, from a small server that sometimes lies, times out and sends half an answer."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dst_dist.build.proposals import KEY, Proposer
from dst_dist.build.show import build_lines
from dst_dist.errors import ConfigError
from tests.build.raw import build_videos, read_strictly, video, write

LINES = "[2.0s-8.0s] kettle is on the stove\n[10.0s-14.0s] white stuff goes in\n[15.0s-20.0s] stir with spoon\n"
RAW = video(annotations={"all_step_descriptions": LINES})
SECRET = "sk-secret"


class Server(ThreadingHTTPServer):
    """Answers with the given texts in turn, the last one for ever; `slow` never comes, a number is a status."""

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.ended = answers, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        answer = self.server.answers[min(len(self.server.asked), len(self.server.answers)) - 1]
        if answer == "slow":
            self.server.ended.wait(5)
            return
        if isinstance(answer, int):
            self.send_error(answer)
            return
        reply = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply[: len(reply) // 2] if answer == "half" else reply)

    def log_message(self, *_):
        pass


def steps(*numbers) -> str:
    return json.dumps({"steps": numbers})


GOOD = steps(1, 2, 3)
WRONG = [
    "no JSON",
    "half",
    "slow",
    500,
    429,
    "[1, 2, 3]",
    steps(1, 2),
    steps(1, 2, 9),
    steps(1, 2, "3"),
    steps(1, 2, True),
    steps(3, 3, 1),
]


def built(folder, server, timeout_s=2):
    return build_videos(folder, RAW, fps=2.0, proposer=Proposer(server.url, "m", folder / "answers", timeout_s))


def starts(found) -> list[int]:
    return [change.step + 1 for change in found.dialogs[0].changes if change.transition == "start"]


def test_a_good_answer_is_taken_kept_and_not_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    assert starts(build_videos(tmp_path / "alone", RAW)) == [1, 3]
    with Server(GOOD) as server:
        first, second = built(tmp_path, server), built(tmp_path, server)
    assert starts(first) == starts(second) == [1, 2, 3] and first.files == second.files
    assert first.report.lines() == [] and read_strictly(tmp_path / "root", first) == []
    ((path, authorization, body),) = server.asked
    assert (path, authorization, body["model"]) == ("/v1/chat/completions", f"Bearer {SECRET}", "m")
    assert body["response_format"]["json_schema"]["schema"]["properties"]["steps"]["minItems"] == 3
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert written and not any(SECRET.encode() in content for content in written)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_is_asked_for_again_once(tmp_path, wrong):
    with Server(wrong, GOOD) as server:
        found = built(tmp_path, server)
    assert starts(found) == [1, 2, 3] and len(server.asked) == 2
    assert found.report.counts == {"wrong answers of the language model": 1}


@pytest.mark.parametrize("wrong", ["no JSON", "half", steps(3, 3, 1)])
def test_two_wrong_answers_are_replaced_by_the_texts_and_not_kept(tmp_path, wrong):
    with Server(wrong) as server:
        found = built(tmp_path, server)
        assert len(server.asked) == 2
        built(tmp_path, server)
        assert len(server.asked) == 4
    assert starts(found) == [1, 3]
    assert sum("did not place" in kind for kind in found.report.counts) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_no_other_try_mends_is_the_users_fault(tmp_path, status):
    with Server(status) as server, pytest.raises(ConfigError, match=f"--llm .*{status}"):
        built(tmp_path, server)
    assert len(server.asked) == 1


def test_no_server_is_the_users_fault(tmp_path):
    with Server(GOOD) as server:
        pass
    with pytest.raises(ConfigError, match="--llm"):
        built(tmp_path, server)


def test_a_dialog_without_lines_asks_nothing(tmp_path):
    with Server(GOOD) as server:
        proposer = Proposer(server.url, "m", tmp_path / "answers")
        build_videos(tmp_path, video(parsed_video_anns=None), proposer=proposer)
    assert server.asked == []


def test_the_address_and_the_model_belong_together(tmp_path):
    with pytest.raises(ConfigError, match="belong together"):
        list(build_lines([write(tmp_path / "train.json", [RAW])], tmp_path, None, "tfidf", None, ("http://x", None)))
