"""What was seen of a run, and the figures made of it."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any

import pytest

from iota_subnet.localnet.observe import Picture, fetch_status
from iota_subnet.localnet.summary import sentences, summarise

from .recorded import hotkey, picture


def status(epoch: int, done: int, losses: list[float]) -> dict[str, Any]:
    return {"reports": [{}] * epoch, "recent_losses": losses[-240:], "microbatches": {"in_epoch": done}}


def test_every_loss_is_kept_once_also_in_epochs_longer_than_what_is_shown() -> None:
    seen, all_losses = Picture(), [float(n) for n in range(700)]
    for done in (0, 3, 3, 100, 239, 240, 241, 300, 500, 700):
        seen.take(status(1, done, all_losses[:done]))
    assert seen.losses == all_losses
    seen.take(status(1, 700, []))
    seen.take(status(2, 2, [900.0, 901.0]))
    seen.take(status(2, 2, [900.0, 901.0]))
    assert seen.losses == [*all_losses, 900.0, 901.0]


def test_looking_too_seldom_loses_losses_and_nothing_else() -> None:
    seen = Picture()
    seen.take(status(1, 1000, [float(n) for n in range(1000)]))
    assert seen.losses == [float(n) for n in range(760, 1000)]


@pytest.fixture
def answers() -> Any:
    """A server on loopback with a scripted answer."""
    script: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(script[0] if self.path == "/v1/status" else b"HTTP/1.0 404 no\r\n\r\n")

        def log_message(self, *args: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield script, server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_status_is_read_without_asking_the_proxy(answers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script, port = answers
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    script.append(b'HTTP/1.0 200 OK\r\n\r\n{"phase": "train"}')
    assert fetch_status(port) == {"phase": "train"}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 500 no\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nno json",
        b"HTTP/1.0 200 OK\r\nContent-Length: 90\r\n\r\n{",
        b"rubbish\r\n\r\n",
        b"",
    ],
)
def test_a_validator_that_does_not_answer_well_has_no_status(answers: Any, answer: bytes) -> None:
    script, port = answers
    script.append(answer)
    assert fetch_status(port) is None


def test_a_validator_that_does_not_listen_has_no_status() -> None:
    assert fetch_status(1) is None


def test_the_summary_of_a_run_is_its_figures() -> None:
    seen, names = picture()
    assert seen.status is not None
    seen.status["first_eval"] = 5.5
    found = summarise(seen, names, ["miner-2"], 12.345, 4.0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["complete"] is True and found["epochs"] == 2
    assert (found["eval_loss_first"], found["eval_loss_last"], found["eval_losses"]) == (5.5, 3.0, [5.5, 3.0, 3.0])
    assert found["tokens_per_second"] == round(found["tokens_trained"] / 4.0, 1)
    assert found["microbatches_retired"] >= 20 and found["microbatches_lost"] == 0
    assert found["merge_coverage"] == [1.0] * 4 and found["replicas_identical"] is True
    assert found["twins_compared"] >= 2 and found["twin_disagreements"] == 0
    assert found["killed"] == [hotkey(2)] and set(found["weights"]) == set(names) == set(found["incentive"])
    assert (found["wall_seconds"], found["train_seconds"]) == (12.35, 4.0) or found["wall_seconds"] == 12.34


def test_the_sentences_say_what_counts() -> None:
    seen, names = picture()
    assert seen.status is not None
    seen.status["first_eval"] = 6.0
    lines = sentences(summarise(seen, names, ["miner-2"], 12.3, 4.0))
    assert lines[0] == "held-out loss      6.000 -> 3.000 nats per token (50 % lower)"
    assert "0 lost" in lines[2] and "100 % of the parameters covered" in lines[3]
    assert "replicas identical: yes" in lines[3]
    assert [line.split()[0] for line in lines[6:]] == [f"miner-{n}" for n in range(6)]
    assert [line.endswith("(killed)") for line in lines[6:]] == [False, False, True, False, False, False]


def test_links_and_cpu_shares_are_told_where_there_are_any() -> None:
    seen, names = picture()
    found = summarise(seen, names, [], 12.3, 4.0)
    lane = {"packets": 1000, "bytes": 1_400_000, "lost": 10, "dropped": 1}
    lanes = [lane | {"bytes": 100_000 * number} for number in range(6)]
    found["link"] = {"link": "1%", "up": lanes, "down": [lane] * 6, "cpu_seconds": 3.2, "late_ms_max": 1.0}
    found["cpu_share"] = {"miner-3": 0.25, "chain": 0.01}
    lines = sentences(found)
    assert "1% for each miner: 12,000 packets, 120 lost by chance, 12 dropped" in lines[6]
    assert lines[10].startswith("miner-3") and "CPU 25 %   sent 0.3 MB, received 1.4 MB" in lines[10]
    assert "CPU" not in lines[9]


def test_a_run_of_which_nothing_was_seen_has_a_summary_too() -> None:
    found = summarise(Picture(), {"h": "miner-0"}, [], 1.0, 0.0)
    assert found["complete"] is False and found["eval_loss_first"] is None and found["tokens_per_second"] is None
    assert found["replicas_identical"] is False and found["weights"] == {"h": 0.0}
    assert sentences(found)[0] == "held-out loss      ? -> ? nats per token"
