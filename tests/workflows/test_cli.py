"""The command line as a user meets it: help, one-line errors, exit codes, defaults out of a file."""

import re
from pathlib import Path

import pytest

from workflows import cli
from workflows.cli import COMMANDS, main


@pytest.fixture
def code_of(capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return run


def is_one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.endswith("\n") and "Traceback" not in text


def test_help_lists_every_command(code_of) -> None:
    code, out, err = code_of("--help")
    assert code == 0
    assert not err
    for name in COMMANDS:
        assert f" {name} " in out
    assert "Exit codes" in out


def test_no_argument_shows_the_help(code_of) -> None:
    code, out, err = code_of()
    assert code == 2
    assert all(name in out + err for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_an_example(code_of, name: str) -> None:
    code, out, err = code_of(name, "--help")
    assert code == 0
    assert not err
    assert f"histograde {name}" in out
    assert "Example" in out


@pytest.mark.parametrize(
    ("name", "panels"),
    [
        ("train", ("Model and loss", "Folds", "Training", "What each fold chooses on its training side")),
        ("sweep", ("Model and loss", "Folds", "Training", "What each fold chooses on its training side")),
        ("evaluate", ("Operating points", "Maps against annotations")),
    ],
)
def test_many_options_are_grouped(code_of, name: str, panels: tuple[str, ...]) -> None:
    _, out, _ = code_of(name, "--help")
    heads = re.findall(r"^╭─ (.+?) ─+╮$", out, flags=re.MULTILINE)
    assert tuple(heads) == ("Options", *panels)


def test_version(code_of) -> None:
    from importlib.metadata import version

    assert code_of("--version") == (0, f"histograde {version('histograde')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gradde"], "gradde"),
        (["--speed"], "--speed"),
        (["info", "--speed", "slide.svs"], "--speed"),
        (["info"], "SLIDE"),
        (["info", "a.svs", "b.svs"], "b.svs"),
        (["train", "--labels", "labels.csv"], "--store"),
        (["evaluate", "--predictions", "p.csv", "--labels", "l.csv", "--out", "o", "--bootstrap", "5"], "bootstrap"),
        (["train", "--store", "s", "--labels", "absent.csv", "--out", "o"], "absent.csv"),
        (["train", "--store", "s", "--labels", "l.csv", "--out", "o", "--task", "guess"], "--task is 'guess'"),
        (["grade", "s.svs", "--model", "absent", "--out", "o"], "absent"),
        (["extract", "absent.csv", "--store", "s", "--encoder", "toy"], "absent.csv"),
        (["report", "absent"], "absent"),
        (["verify", "absent"], "absent"),
        (["info", "s.svs", "--slide-mpp", "fine"], "fine"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    code_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = code_of(*arguments)
    assert (code, out) == (2, "")
    assert is_one_line(err), err
    assert said in err
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    from wsi.errors import UsageError

    with pytest.raises(UsageError, match=r"slides\.csv"):
        main(["extract", str(tmp_path / "slides.csv"), "--store", str(tmp_path / "s"), "--debug"])


def test_unexpected_error_is_one_line_and_code_1(code_of, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(cli, "load_command", fail)
    code, _, err = code_of("info", "slide.svs")
    assert code == 1
    assert is_one_line(err)
    assert "RuntimeError: first line second line" in err
    assert "--debug" in err


def test_interrupt(code_of, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_command", stop)
    code, _, err = code_of("info", "slide.svs")
    assert code == 130
    assert is_one_line(err)
    assert "interrupted; the same command goes on" in err


class TestConfigFile:
    def write(self, folder: Path, text: str) -> Path:
        path = folder / "defaults.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def test_gives_defaults(self, code_of, tmp_path: Path, small_svs: Path) -> None:
        config = self.write(tmp_path, "[info]\njson = true\n[train]\nfold-by = 'site'\n")
        code, out, _ = code_of("--config", config, "info", small_svs)
        assert code == 0
        assert out.startswith("{")
        code, out, _ = code_of("info", small_svs)
        assert not out.startswith("{")

    def test_names_as_on_the_command_line(self, code_of, tmp_path: Path) -> None:
        labels = tmp_path / "labels.csv"
        labels.write_text("slide_id,label\na,0\n", encoding="utf-8")
        config = self.write(tmp_path, "[train]\nfold-by = 'moon'\nstore = 's'\nout = 'o'\n")
        code, _, err = code_of("--config", config, "train", "--labels", labels)
        assert code == 2
        assert "--fold-by is 'moon'" in err

    def test_command_line_goes_before(self, code_of, tmp_path: Path) -> None:
        config = self.write(tmp_path, "[train]\nfold-by = 'moon'\nstore = 's'\nout = 'o'\n")
        labels = tmp_path / "absent.csv"
        code, _, err = code_of("--config", config, "train", "--labels", labels, "--fold-by", "site")
        assert code == 2
        assert "moon" not in err
        assert "absent.csv" in err

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[grading]\nworkers = 2\n", "no command is called 'grading'"),
            ("[info]\nspeed = 2\n", "no option is called 'speed'"),
            ("json = true\n", "outside a table"),
            ("[info\n", "TOML"),
        ],
    )
    def test_refused(self, code_of, tmp_path: Path, text: str, said: str) -> None:
        code, _, err = code_of("--config", self.write(tmp_path, text), "info", "slide.svs")
        assert code == 2
        assert is_one_line(err)
        assert said in err

    def test_absent(self, code_of, tmp_path: Path) -> None:
        code, _, err = code_of("--config", tmp_path / "absent.toml", "info", "slide.svs")
        assert code == 2
        assert is_one_line(err)
        assert "absent.toml" in err
