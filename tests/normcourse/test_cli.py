"""The command of the course: what it prints, what it leaves, and that whatever is wrong is said in one line."""

import re
import subprocess
import sys

import pandas as pd
import pytest

from normcourse import cli, experiments, paths
from normcourse.experiments import runner
from normlib import data
from normlib.training import throughput


def run(*words):
    return cli.main([str(word) for word in words])


def test_record_lists_experiments_and_smoke_keeps_nothing(capsys):
    assert run("record") == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(experiments.EXPERIMENTS)
    before = sorted(paths.RESULTS.rglob("*"))
    assert run("record", "cifar10-rates-gpu", "--smoke") == 0
    assert "epochs: " in capsys.readouterr().out
    assert sorted(paths.RESULTS.rglob("*")) == before


def test_record_and_reproduce_a_small_experiment(monkeypatch, tmp_path, capsys):
    def jobs(settings, store):
        return [{"seed": 0}, {"seed": 1}]

    def table(settings, job, folder):
        return {"epochs": pd.DataFrame({"loss": [2.0, 1.0 + job["seed"]]})}

    small = experiments.Experiment(
        name="small",
        question="?",
        settings={"seeds": 2},
        smoke={},
        jobs=jobs,
        run=table,
        images=lambda settings: data.digits(),
    )
    monkeypatch.setattr(runner, "EXPERIMENTS", {"small": small})
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    assert run("record", "small", "--shard", "1/2") == 0
    assert capsys.readouterr().out == "small: 1 jobs left\n"
    assert run("record", "small") == 0
    assert capsys.readouterr().out == "all jobs are recorded\n"
    assert (tmp_path / "results" / "small").is_dir()
    assert run("reproduce", "small") == 0
    assert re.search(r"epochs +loss +2 +2 +0", capsys.readouterr().out)


def test_info_names_every_experiment_that_trains(monkeypatch, capsys):
    monkeypatch.setattr(throughput, "pairs_per_second", lambda recipe, accelerator, seconds: 1000.0)
    assert run("info") == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.split()[0] in experiments.EXPERIMENTS}
    trained = [name for name, experiment in experiments.EXPERIMENTS.items() if experiment.work]
    assert list(rows) == trained
    # 24 runs of 2 epochs of 50,000 pairs at 1,000 a second are 2,400 s
    assert rows["cifar10-rates-cpu"] == ["cifar10-rates-cpu", "cpu", "1000", "24", "40.0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["record", "cifar11"], "name must be one of 'cifar10"),
        (["record", "digits-simclr", "--shard", "3/2"], "shard must be"),
        (["reproduce", "cifar10-nothing"], "name must be one of 'cifar10"),
        (["reproduce", "--claim", "nothing"], "--claim must be one of "),
        (["info", "--seconds", "0"], "seconds must be a number > 0, got 0"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2_and_leaves_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    assert run(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("normcourse: ")
    assert message in said.err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_between_checkpoints_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(*names, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "record", interrupt)
    assert run("record", "digits-simclr") == 130
    assert capsys.readouterr().err == "\nstopped; the same command goes on with what was saved\n"


def test_traceback_shows_where_an_error_came_from():
    with pytest.raises(ValueError, match="name must be one of"):
        cli.main(["record", "cifar11", "--traceback"])


@pytest.mark.parametrize("words", [[], ["fly"], ["train", "digits"], ["reproduce"], ["record", "x", "--shard", "one"]])
def test_a_command_that_is_none_shows_usage_and_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "usage: normcourse" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["record", "reproduce", "claims", "info"])
def test_help_of_every_verb_has_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"normcourse {verb}" in capsys.readouterr().out.split("example", 1)[1]


def test_the_module_is_the_command_and_help_needs_no_torch():
    code = "import sys, normcourse.cli as c; sys.argv=['normcourse']; "
    code += "\ntry: c.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "False"
    words = [sys.executable, "-m", "normcourse", "record", "nothing"]
    module = subprocess.run(words, capture_output=True, text=True)
    assert module.returncode == 2
    assert module.stderr.startswith("normcourse: name must be one of ")
