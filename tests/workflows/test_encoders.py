"""`histograde encoders` as a user meets it; the hub is a small server on loopback."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mil.encoders.published import PUBLISHED, UNAVAILABLE
from workflows.cli import main
from workflows.encoders import known, lines

WEIGHTS = b"weights of a small encoder" * 100
TOKEN = "hf_not_a_real_one"


class Hub(BaseHTTPRequestHandler):
    """What the hub says of three repositories: one is open, one asks for a token, one is not there."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        commit = "c" * 40
        open_id, gated_id = PUBLISHED["phikon"].hub_id, PUBLISHED["uni"].hub_id
        if gated_id in self.path and self.headers.get("authorization") != f"Bearer {TOKEN}":
            self.reply(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask the authors"})
        elif open_id not in self.path and gated_id not in self.path:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in self.path or self.path.startswith("/api/"):
            files = [
                {"type": "file", "path": name, "size": 1, "oid": "a"} for name in ("README.md", "pytorch_model.bin")
            ]
            self.reply(200, json.dumps(files).encode(), {"Content-Type": "application/json"})
        else:
            self.reply(200, WEIGHTS, {"X-Repo-Commit": commit, "ETag": '"' + "e" * 40 + '"'})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def histograde(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, since the hub's client reads its settings when it is imported."""
    told = {"PATH": "/usr/bin:/bin", "HOME": str(home), "HISTOGRADE_WEIGHTS": str(home / "weights"), **environment}
    command = [sys.executable, "-m", "workflows.cli", "encoders", *words]
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=120, check=False)


def test_list_names_every_encoder_with_its_licence_and_where_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HISTOGRADE_WEIGHTS", str(tmp_path))
    (tmp_path / "uni.bin").write_bytes(b"x")
    found = {one.name: one for one in known()}
    assert set(found) == {"toy", "lite0", *PUBLISHED}
    assert (found["uni"].weights, found["uni"].file) == ("here", str(tmp_path / "uni.bin"))
    assert (found["virchow2"].weights, found["phikon"].weights) == ("behind a gate", "to fetch")
    shown = lines(list(found.values()))
    assert all(len(line) <= 120 for line in shown[: len(found) + 1])
    assert [line.split()[0] for line in shown[1 : len(found) + 1]] == list(found)
    assert all(any(line.startswith(f"{name}:") for line in shown) for name in UNAVAILABLE)
    with pytest.raises(SystemExit):
        main(["encoders", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["licence"] for one in told}["midnight"] == "MIT"


def test_toy_and_lite0_are_listed_as_they_are() -> None:
    from mil.encoders import load_encoder

    for one in known()[:2]:
        card = load_encoder(one.name, device="cpu").card
        assert (one.dim, one.tile_px, one.mpp, one.licence) == (card.dim, card.tile_px, card.mpp, card.licence)


@pytest.mark.services
def test_fetched_weights_lie_where_they_are_looked_for(hub: str, tmp_path: Path) -> None:
    done = histograde(tmp_path, "fetch", "phikon", HF_ENDPOINT=hub)
    assert (done.returncode, done.stderr) == (0, "fetching phikon\n"), done.stderr
    assert (tmp_path / "weights" / "phikon.bin").read_bytes() == WEIGHTS
    assert done.stdout.startswith(f"phikon: {tmp_path / 'weights' / 'phikon.bin'} (0 MB, sha256 ")
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["phikon.bin"]


@pytest.mark.services
def test_a_gate_is_explained_and_opens_for_a_token(hub: str, tmp_path: Path) -> None:
    done = histograde(tmp_path, "fetch", "uni", HF_ENDPOINT=hub)
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert said.startswith("histograde: uni: its authors ask who uses it; agree to their terms at huggingface.co/")
    assert "HF_TOKEN" in said
    done = histograde(tmp_path, "fetch", "uni", HF_ENDPOINT=hub, HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.services
def test_what_is_not_on_the_hub_or_out_of_reach_is_one_line(hub: str, tmp_path: Path) -> None:
    done = histograde(tmp_path, "fetch", "midnight", HF_ENDPOINT=hub)
    assert done.returncode == 2
    assert "the hub shows no weights at huggingface.co/kaiko-ai/midnight" in done.stderr.splitlines()[-1]
    done = histograde(tmp_path, "fetch", "phikon", HF_ENDPOINT=hub, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bring"], "encoders bring: not known"),
        (["fetch"], "fetch whose weights?"),
        (["fetch", "conch"], "`histograde import` takes the features"),
        (["fetch", "lite0"], "no encoder is called 'lite0' on the hub"),
    ],
)
def test_what_is_asked_wrongly_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["encoders", *words])
    assert end.value.code == 2
    assert said in capsys.readouterr().err
