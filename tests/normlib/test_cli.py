"""The command of the library: what it prints, what it leaves, and that whatever is wrong is said in one line."""

import re
import subprocess
import sys

import pandas as pd
import pytest
import torch

from normlib import cli, data
from normlib.training import recipes, run_dir, throughput
from normlib.training.launch import precision_on

SHORT = ["epochs=2", "warmup_epochs=1", "batch_size=512"]


def run(*words):
    return cli.main([str(word) for word in words])


@pytest.fixture
def finished(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run("train", "digits", "--out", folder, "--accelerator", "cpu", "--set", *SHORT) == 0
    return folder, capsys.readouterr()


def test_train_prints_the_recipe_and_a_summary(finished):
    folder, said = finished
    assert re.search(r"^batch_size +512$", said.out, re.M)
    summary = said.out.splitlines()
    header = next(i for i, line in enumerate(summary) if line.split()[:3] == ["epoch", "loss", "norm"])
    assert [line.split()[0] for line in summary[header + 1 : header + 4]] == ["0", "1", "2"]
    assert f"run directory: {folder}" in said.out


def test_summary_has_only_the_epochs_that_were_evaluated(tmp_path, capsys):
    words = ["epochs=7", "warmup_epochs=1", "batch_size=1024"]
    assert run("train", "digits", "--out", tmp_path / "run", "--accelerator", "cpu", "--set", *words) == 0
    table = capsys.readouterr().out.split("pairs_per_second\n")[1].splitlines()
    assert [line.split()[0] for line in table[:-1]] == ["0", "1", "2", "4", "7"]


def test_train_again_does_nothing_and_says_the_same(finished, capsys):
    folder, said = finished
    checkpoint = next((folder / "checkpoints").iterdir())
    before = checkpoint.read_bytes()
    assert run("train", "digits", "--out", folder, "--accelerator", "cpu", "--set", *SHORT) == 0
    assert capsys.readouterr().out == said.out
    assert checkpoint.read_bytes() == before


def test_evaluate_scores_the_test_images(finished, capsys):
    folder, _ = finished
    assert run("evaluate", folder) == 0
    said = capsys.readouterr().out
    samples = pd.read_parquet(folder / "samples.parquet")
    assert len(samples) == len(data.digits("test"))
    assert "checkpoint of step 4 of 4" in said  # two epochs of two steps
    scores = said.split("test ", 1)[1].split()[:4]
    assert scores[:3] == ["450", f"{samples['knn_correct'].mean():.3f}", f"{samples['probe_correct'].mean():.3f}"]


def test_evaluate_names_the_checkpoint_that_it_went_back_to(finished, capsys):
    folder, _ = finished
    whole = next((folder / "checkpoints").iterdir())
    (folder / "checkpoints" / "step-00000003.pt").write_bytes(whole.read_bytes())
    whole.write_bytes(b"cut short")
    with pytest.warns(UserWarning, match=r"went back to .*step-00000003\.pt"):
        assert run("evaluate", folder) == 0
    assert "checkpoint of step 3 of 4" in capsys.readouterr().out


def test_evaluate_keeps_classes_apart_that_were_not_trained_on(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run("train", "digits", "--out", folder, "--accelerator", "cpu", "--set", *SHORT, "held_out=[3,8]") == 0
    assert run("evaluate", folder, "--accelerator", "cpu") == 0
    samples = pd.read_parquet(folder / "samples.parquet")
    assert set(samples[samples["split"] == "held out"]["label"]) == {3, 8}
    assert set(samples[samples["split"] == "test"]["label"]) == set(range(10)) - {3, 8}
    assert re.search(r"held out +89 +0\.000", capsys.readouterr().out)


def test_evaluate_refuses_a_folder_that_cannot_be_written_before_it_works(finished, monkeypatch, capsys):
    folder, _ = finished
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    monkeypatch.setattr("normlib.training.run_dir.load", lambda run: pytest.fail("worked"))
    assert run("evaluate", folder) == 2
    assert re.fullmatch(r"normlib: .* is read-only or not yours; name another\n", capsys.readouterr().err)


def test_info_names_devices_and_the_speed_of_every_recipe(monkeypatch, capsys):
    monkeypatch.setattr(throughput, "pairs_per_second", lambda recipe, accelerator, seconds: 1000.0)
    assert run("info") == 0
    said = capsys.readouterr().out
    assert re.match(r"CPU: \d+ cores, \d+ threads(, \d+ GiB)?; 32-true", said)
    rows = [line.split() for line in said.splitlines()]
    found = {row[0]: row[1:] for row in rows if row[0] in recipes.RECIPES}
    assert [*found] == [*recipes.RECIPES]
    assert found["digits"] == ["32-true", "1000", "2.2"]  # 100 epochs of 1,347 pairs
    assert found["two_cores"] == [precision_on("auto", "auto"), "1000", "83.3"]


@pytest.mark.parametrize("recipe", ["digits", "cpu"])
def test_the_probe_measures_a_speed(recipe):
    state = torch.get_rng_state()
    speed = throughput.pairs_per_second(recipes.RECIPES[recipe], "cpu", 0.1)
    assert 1 < speed < 1e6
    assert torch.equal(torch.get_rng_state(), state)  # the reader's own random numbers stay as they were


NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "papr", "--out", "OUT"],
            "recipe must be one of 'paper', 'colab_t4', 'cpu', 'two_cores', 'digits', got 'papr'",
        ),
        (["train", "digits", "--out", "OUT", "--set", "epoch=3"], "there is no setting 'epoch'; did you mean epochs?"),
        (["train", "digits", "--out", "OUT", "--set", "epochs"], "--set takes KEY=VALUE, got 'epochs'"),
        (["train", "digits", "--out", "OUT", "--set", "lr=-1"], "lr must be a number > 0, got -1"),
        (["train", "digits", "--out", "OUT", "--set", "lr=fast"], "lr must be a number > 0, got 'fast'"),
        (["train", "digits", "--out", "OUT", "--set", "data={}"], "data must be a name, got {}"),
        (["train", "digits", "--out", "OUT", "--set", "network={}"], "network must be one of 'resnet18', "),
        (["train", "digits", "--out", "OUT", "--set", f"cut={10**400}"], "cut must be a number > 0, got 1000"),
        (["train", "digits", "--out", "OUT", "--set", "data=mnist"], "name must be one of 'digits', 'cifar10'"),
        (["train", "digits", "--out", "OUT", "--set", "batch_size=5000"], "1347 images, fewer than batch_size = 5000"),
        (["train", "digits", "--out", "OUT", "--set", "precision=8-bit"], "8-bit"),
        (
            ["train", "cpu", "--out", "OUT", "--set", "data=digits"],
            "digits-train has images of 1x8x8, but network='narrow_resnet' takes 3x32x32; choose another network",
        ),
        (["train", "cpu", "--out", "OUT", "--set", "data=cifar10-jpeg"], "cifar10-jpeg"),
        pytest.param(
            ["train", "digits", "--out", "OUT", "--accelerator", "cuda"], "'cuda' is not available here", marks=NO_CUDA
        ),
        (["train", "digits", "--out", "OUT", "--accelerator", "abacus"], "'abacus' is not available here"),
        (["train", "digits", "--out", "FILE/below"], "FILE"),
        (["evaluate", "OUT"], "OUT holds no run"),
        (["info", "--seconds", "0"], "seconds must be a number > 0, got 0"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2_and_leaves_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NORMLIB_DATA", str(tmp_path / "no-data"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    (tmp_path / "FILE").write_text("a file, not a folder")
    places = {"OUT": str(tmp_path / "OUT"), "FILE/below": str(tmp_path / "FILE" / "below")}
    assert run(*(places.get(word, word) for word in words)) == 2
    said = capsys.readouterr()
    assert said.out == "" or not said.out.startswith("Traceback")
    last = said.err.strip().splitlines()[-1] if "\n" not in said.err.strip() else said.err.strip()
    assert last.startswith("normlib: ")
    assert message in said.err
    assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


def test_divergence_is_said_with_what_to_do(tmp_path, capsys):
    assert run("train", "digits", "--out", tmp_path / "run", "--accelerator", "cpu", "--set", "lr=1e30", *SHORT) == 2
    last = capsys.readouterr().err.splitlines()[-1]  # after the progress, which a carriage return takes back
    assert re.fullmatch(r"normlib: the loss became .* at step \d .*; lower lr, or raise warmup_epochs", last)


def test_ctrl_c_between_checkpoints_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_dir, "train", interrupt)
    assert run("train", "digits", "--out", "nowhere") == 130
    assert capsys.readouterr().err == "\nstopped; the same command goes on with what was saved\n"


def test_traceback_shows_where_an_error_came_from():
    with pytest.raises(ValueError, match="recipe must be one of"):
        cli.main(["train", "papr", "--out", "nowhere", "--traceback"])


@pytest.mark.parametrize("words", [[], ["fly"], ["train"], ["record", "digits-simclr"]])
def test_a_command_that_is_none_shows_usage_and_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "usage: normlib" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["train", "evaluate", "info"])
def test_help_of_every_verb_has_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"normlib {verb}" in capsys.readouterr().out.split("example", 1)[1]


def test_the_module_is_the_command_and_help_needs_no_torch():
    code = "import sys, normlib.cli as c; sys.argv=['normlib']; "
    code += "\ntry: c.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "False"
    module = subprocess.run([sys.executable, "-m", "normlib", "evaluate", "nowhere"], capture_output=True, text=True)
    assert module.returncode == 2
    assert module.stderr == "normlib: nowhere holds no run\n"
