"""Commands that cannot be carried out: whatever is typed or lies on the disk, one message and no traceback."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import colab_check
import normcourse.cli
import normlib.cli
import print_edition
import repository
from normcourse import claims, experiments, paths
from normcourse.experiments import circumstances, runner
from normlib import data
from normlib.data import cifar10_files
from normlib.training import TrainConfig, throughput, trainer
from normlib.training.recipes import Recipe

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("vendor", ROOT / "tools" / "vendor.py")
vendor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vendor)


MAINS = {"normlib": normlib.cli.main, "normcourse": normcourse.cli.main}


def run(program, *words) -> tuple[int, str]:
    """Exit code and error stream of a command, which must not raise."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            code = MAINS[program]([str(word) for word in words])
        except SystemExit as stop:  # argparse shows usage
            code = stop.code
            assert code in (0, 2)
            return code, f"{program}: usage"
    assert code in (0, 1, 2, 130)
    assert "Traceback" not in errors.getvalue()
    return code, errors.getvalue()


def refused(program, *words) -> str:
    """The message of a command that cannot be carried out."""
    code, said = run(program, *words)
    assert code == 2
    assert said.startswith(f"{program}: ")
    assert len(said) > len(f"{program}: \n")
    return said


# --- what is typed ---

KEYS = [
    *Recipe.__dataclass_fields__,
    *TrainConfig.__dataclass_fields__,
    "__class__",
    "",
    " lr",
    "train.lr",
    "é",
    "a" * 500,
]
VALUES = [
    *("0", "-1", "0.5", "1e400", "nan", "inf", "None", "True", "()", "[]", "{}", "(0,0)", "(8,4)", "[3,8]", "(99,)"),
    *("(10**9,4)", "(1000000000000,4)", f"({10**26},4)", str(2**63), str(10**30), "9" * 5000, "0x" + "f" * 5000),
    *("{[]:1}", "{{}}", "[{}]", "({},)", "b'x'", "1j", "'x", "...", "lambda: 0", "__import__('os')", "-" * 3000 + "1"),
    *("(" * 150 + ")" * 150, "(" * 3000, "{" * 150, "../../etc", "\u202e", "\ud800", "\0", "\n", "plain", "digits"),
    *("sgd", "lars", "byol", "vicreg", "batch_norm", "digits_batch_norm", "decoupled", "16-mixed", "16"),
]
WORDS = st.sampled_from([*VALUES, "/", "/dev/null", ".", "~", "a/" * 2000]) | st.text(max_size=8)
SETTINGS = st.builds("{}={}".format, st.sampled_from(KEYS), st.sampled_from(VALUES) | st.text(max_size=12)) | WORDS
DEVICE = st.sampled_from([[], ["--accelerator", "cpu"], ["--accelerator", "abacus"], ["--accelerator", ""]])
SHARD = st.sampled_from(
    [[], *(["--shard", shard] for shard in ("1/2", "3/2", "0/0", "²/3", "9" * 5000 + "/1", "/", "-1/2"))]
)
MINUTES = st.sampled_from(
    [[], *(["--minutes", minutes] for minutes in ("0", "-1", "nan", "inf", "1e400", "x", "0.001"))]
)


def command(*parts):
    """Strategy: the words of all parts, in order."""
    return st.tuples(*parts).map(lambda found: [word for part in found for word in part])


SECONDS = command(
    st.just(["info", "--seconds"]), st.sampled_from([["0"], ["nan"], ["inf"], ["-1"], ["x"], ["1e-9"]]), DEVICE
)
COMMANDS = {
    "normlib": st.one_of(
        command(st.just(["evaluate"]), WORDS.map(lambda word: [word]), DEVICE), SECONDS, st.lists(WORDS, max_size=4)
    ),
    "normcourse": st.one_of(
        command(st.just(["record"]), st.lists(WORDS, min_size=1, max_size=2), SHARD, MINUTES),
        command(st.just(["reproduce"]), st.tuples(WORDS) | WORDS.map(lambda word: ["--claim", word]), SHARD),
        SECONDS,
        st.lists(WORDS, max_size=4),
    ),
}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty folder to work in; nothing is downloaded, trained or measured."""

    def stopped(*arguments):
        raise KeyboardInterrupt("stopped before the first step")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NORMLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(cifar10_files, "MIRRORS", ())
    monkeypatch.setattr(trainer.Trainer, "train", stopped)
    monkeypatch.setattr(throughput, "pairs_per_second", lambda recipe, place, seconds: 1000.0)
    return tmp_path


QUICK = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=15, **QUICK)
@given(st.lists(SETTINGS, min_size=1, max_size=3))
@example(["lr={[]:1}"])
@example(["optimizer={}"])
@example(["precision=[{}]"])
@example(["seed=" + "-" * 3000 + "1"])
@example([f"projector=({10**26},4)"])
@example([f"cut={10**30}"])
@example([f"grad_scale_power={10**400}"])
def test_train_takes_or_refuses_any_settings(nowhere, words):
    code, said = run("normlib", "train", "digits", "--out", "run", "--accelerator", "cpu", "--set", *words)
    assert code in (2, 130)
    assert "normlib: " in said or code == 130
    assert not Path("run").exists()


@settings(max_examples=100, **QUICK)
@given(st.one_of(*(st.tuples(st.just(program), words) for program, words in COMMANDS.items())))
def test_any_words_are_carried_out_or_refused(nowhere, typed):
    program, words = typed
    code, said = run(program, *words)
    assert code != 2 or f"{program}: " in said


@pytest.mark.parametrize("place", ["a" * 300, "/dev/null/run", "file/run"])
def test_a_place_that_cannot_be_is_refused(nowhere, place):
    Path("file").touch()
    refused(
        "normlib", "train", "digits", "--out", place, "--accelerator", "cpu", "--set", "epochs=1", "warmup_epochs=0"
    )
    assert [path.name for path in nowhere.iterdir()] == ["file"]


def test_too_little_memory_is_said_with_what_to_do(nowhere, monkeypatch):
    def full(recipe):
        raise MemoryError("Unable to allocate 7 TiB")

    monkeypatch.setattr(Recipe, "images", full)
    said = refused("normlib", "train", "digits", "--out", "run", "--accelerator", "cpu")
    assert said == "normlib: Unable to allocate 7 TiB; set micro_batch_size to a divisor of batch_size\n"


@pytest.mark.parametrize(("output", "message"), [("pipe", ""), ("/dev/full", "[Errno 28] No space left on device\n")])
@pytest.mark.parametrize(("program", "verb"), [("normlib", "info"), ("normcourse", "record")])
def test_output_that_nobody_takes_is_no_traceback(program, verb, output, message):
    code = f"import sys; from {program} import cli; cli._{verb} = lambda _: print(1); sys.exit(cli.main(['{verb}']))"
    if output == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(output, os.O_WRONLY)
    said = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writing)
    assert (said.returncode, said.stderr) == (2, message and f"{program}: {message}")


# --- run directories ---


@pytest.fixture
def begun(nowhere):
    """A run directory with a recipe and no checkpoint."""
    folder = nowhere / "run"
    (folder / "checkpoints").mkdir(parents=True)
    from normlib.training import run_dir
    from normlib.training.recipes import RECIPES

    run_dir._write_recipe(folder, RECIPES["digits"])
    return folder


@settings(max_examples=40, **QUICK)
@given(st.data())
def test_a_damaged_recipe_is_named(begun, draw):
    path = begun / "recipe.json"
    whole = path.read_text()
    found = json.loads(whole)
    key = draw.draw(st.sampled_from([*found, *found["train"]]))
    value = draw.draw(st.sampled_from([None, [], {}, "x", -1, 1e400, 10**400, [[]], {"a": 1}, True]))
    place = found["train"] if key in found["train"] else found
    if draw.draw(st.booleans()):
        place[key] = value
    else:
        del place[key]
    texts = [
        json.dumps(found),
        whole[: draw.draw(st.integers(0, len(whole)))],
        "[]",
        "5",
        "{}",
        "\ud800",
        "[" * 100_000,
    ]
    path.write_text(draw.draw(st.sampled_from(texts)), errors="surrogatepass")
    try:
        for words in (["evaluate", begun], ["train", "digits", "--out", begun, "--accelerator", "cpu"]):
            code, said = run("normlib", *words)
            assert (code == 2 and str(begun) in said) or code == 130
    finally:
        path.write_text(whole)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("checkpoints/step-00000001.pt", b"", "no checkpoint can be read"),
        ("checkpoints/step-00000001.pt", b"x" * 99, "its checksum is wrong"),
        ("checkpoints/step-00000001.pt", None, "Is a directory"),
        ("checkpoints/notes.txt", b"mine", "holds no checkpoint yet"),
    ],
)
def test_a_run_without_a_whole_checkpoint_is_refused(begun, name, content, message):
    (begun / name).mkdir() if content is None else (begun / name).write_bytes(content)
    assert message in refused("normlib", "evaluate", begun)


def test_checkpoints_that_are_a_file_are_refused(begun):
    (begun / "checkpoints").rmdir()
    (begun / "checkpoints").touch()
    assert "checkpoints is a file" in refused("normlib", "evaluate", begun)
    assert "checkpoints is a file" in refused("normlib", "train", "digits", "--out", begun, "--accelerator", "cpu")


# --- records ---


@pytest.fixture
def recorded(nowhere, monkeypatch):
    """Two small experiments, recorded, one of one job and one of two; the folder of the second."""

    def table(settings, job, folder):
        return {"numbers": pd.DataFrame({"seed": [0, 1], "x": [1.0, 2.0]})}

    def two(settings, store):
        return [{"condition": name} for name in ("plain", "cut 3")]

    shared = {"question": "?", "settings": {"rows": 5, "rates": {"a": 1}}, "smoke": {}, "run": table}
    shared |= {"images": lambda settings: data.digits()}
    jobs = {"one": lambda settings, store: [{}], "two": two}
    named = {name: experiments.Experiment(name=name, jobs=each, **shared) for name, each in jobs.items()}
    monkeypatch.setattr(runner, "EXPERIMENTS", named)
    monkeypatch.setattr(paths, "RESULTS", nowhere / "results")
    monkeypatch.setattr(paths, "RUNS", nowhere / "runs")
    monkeypatch.setattr(circumstances, "describe", lambda accelerator: {"code": "none"})
    experiments.record(*named)
    return nowhere / "results" / "two"


@pytest.mark.parametrize("verb", ["record", "reproduce"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        '{"job": 5}',
        '{"settings": []}',
        '{"other_training_settings": null}',
        *('{"jobs": 5}', '{"jobs": [5]}', '{"jobs": [{}]}', '{"jobs": [{"job": 5}]}'),
        "\ud800",
        "[" * 100_000,
    ],
)
def test_a_damaged_provenance_is_named(recorded, verb, text):
    (recorded / "provenance.json").write_text(text, errors="surrogatepass")
    assert str(recorded / "provenance.json") in refused("normcourse", verb, "two")


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {}},
        {"settings": {"rows": "x", "rates": {}}},
        {"settings": {"rows": 5, "rates": 5}},
        {"job": {}},
        {"job": {"condition": ["plain"]}},
        {"job": {"condition": "../../x"}},
    ],
)
def test_a_job_that_is_none_of_the_experiment_is_refused(recorded, change):
    path = recorded / "provenance.json"
    found = json.loads(path.read_text())
    found["jobs"][0] |= change  # what a job says itself goes before what all say alike
    path.write_text(json.dumps(found | {"settings": {}} if "settings" in change else found))
    assert "the record of two has a job that is none of its jobs" in refused("normcourse", "reproduce", "two")
    assert run("normcourse", "record", "two")[0] == 0  # which records it again
    assert run("normcourse", "reproduce", "two")[0] == 0


def test_a_damaged_table_is_named(recorded):
    path = recorded / "numbers.parquet"
    whole = path.read_bytes()
    for content in (b"", whole[:-9], b"PAR1" + bytes(90), whole[:4] + bytes(50) + whole[54:]):
        path.write_bytes(content)
        assert str(path) in refused("normcourse", "reproduce", "two")
    for frame in (pd.DataFrame({"x": ["a"]}), pd.DataFrame({"seed": [1]})):
        frame.to_parquet(path)
        said = refused("normcourse", "reproduce", "two")
        assert "the record of two lacks the table numbers, or columns of it" in said
    path.unlink()
    assert "the record of two lacks the table numbers" in refused("normcourse", "reproduce", "two")


# --- the claims ledger ---


@pytest.fixture
def ledger(nowhere, monkeypatch):
    """A ledger of one claim that rests on no record, and the verdicts that the book states."""
    places = {"ledger": nowhere / "claims.yml", "stated": nowhere / "verdicts.json"}
    for name, path in places.items():
        monkeypatch.setattr(getattr(claims, name), "__defaults__", (path,))
    monkeypatch.setattr(claims.accept, "__defaults__", (places["stated"],))
    kept = {"path": places["ledger"], "results": nowhere / "results"}
    kept["results"].mkdir()
    monkeypatch.setattr(claims.judge_all, "__kwdefaults__", kept)
    places["ledger"].write_text("Group:\n- {id: one, statement: It is so., source: course, needs: much}\n")
    assert run("normcourse", "claims", "--accept") == (0, "")
    return places


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"one": 5}', '{"one": []}', '{"gone": "x"}', "\ud800", "[" * 100_000]
)
def test_damaged_verdicts_are_named_and_can_be_written_anew(ledger, text):
    ledger["stated"].write_text(text, errors="surrogatepass")
    for words in (["claims"], ["claims", "--json"]):
        said = refused("normcourse", *words)
        assert str(ledger["stated"]) in said
        assert "normcourse claims --accept" in said
    assert run("normcourse", "claims", "--accept") == (0, "")


@pytest.mark.parametrize("text", ["", "[", "- 1", "!!bool x", "a: 2001-99-99", "\ud800", "[" * 100_000])
@pytest.mark.parametrize("words", [["claims"], ["claims", "--accept"], ["reproduce", "--claim", "one"]])
def test_a_damaged_ledger_is_named_and_the_verdicts_stay(ledger, words, text):
    before = ledger["stated"].read_bytes()
    ledger["ledger"].write_text(text, errors="surrogatepass")
    assert str(ledger["ledger"]) in refused("normcourse", *words)
    assert ledger["stated"].read_bytes() == before


# --- the project's own tools ---


def outcome(capsys, main, *words) -> tuple[int, str]:
    code = main([*words])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.err


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The places that carry the course's address, and the files that the print edition is made from."""
    for name in ("pyproject.toml", "_config.yml", "_toc.yml", "CITATION.cff", "README.md", "book/setup_cell.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(
        next((ROOT / "notebooks").glob("00*.ipynb"), next((ROOT / "notebooks").glob("*.ipynb"))), tmp_path / "notebooks"
    )
    for tool in (repository, print_edition, colab_check):
        monkeypatch.setattr(tool, "ROOT", tmp_path)
    return tmp_path


BROKEN = [
    "",
    "5",
    "[]",
    "{}",
    '{"cells": 5}',
    '{"cells": [5]}',
    '{"cells": [{}]}',
    '{"cells": [{"metadata": []}]}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", BROKEN)
def test_the_address_is_not_written_to_a_broken_notebook(checkout, capsys, text):
    (path,) = checkout.glob("notebooks/*.ipynb")
    path.write_text(text)
    before = {each: each.read_bytes() for each in checkout.rglob("*") if each.is_file()}
    code, said = outcome(capsys, repository.main, "set", "https://github.com/owner/course")
    assert (code, said.startswith(f"Nothing was changed: notebooks/{path.name}: ")) == (2, True)
    assert {each: each.read_bytes() for each in checkout.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "project = 5",
        "[project]",
        "[project]\nversion = []",
        "[project]\nversion = '1'\nurls = 5",
        "[[project]]",
    ],
)
def test_a_broken_pyproject_is_said(checkout, capsys, text):
    (checkout / "pyproject.toml").write_text(text)
    for words in (["check"], ["sync"], ["pin", "v1"], ["verify", "a/b"], ["set", "https://github.com/owner/course"]):
        code, said = outcome(capsys, repository.main, *words)
        assert (code, len(said.splitlines())) == (2, 1)


def test_files_that_are_missing_or_cannot_be_written_are_said(checkout, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        code, said = outcome(capsys, repository.main, "pin", "v9")
        assert (code, said) == (2, "Not all was written, run the same again: [Errno 28] No space left on device\n")
    assert not [path for path in checkout.rglob(".*") if path.is_file()]
    shutil.rmtree(checkout / "notebooks")
    assert "there is no chapter" in outcome(capsys, repository.main, "check")[1]


@pytest.mark.parametrize("name", ["_config.yml", "_toc.yml", "pyproject.toml"])
@pytest.mark.parametrize("text", ["[", "5", "a: [", "parts: 5", "parts: [5]", "\x00", "title: x"])
def test_a_print_edition_of_broken_files_is_not_made(checkout, capsys, monkeypatch, name, text):
    monkeypatch.setattr(print_edition, "read_pages", lambda site, names: {})
    (checkout / name).write_text(text)
    code, said = outcome(capsys, print_edition.main, "join")
    assert (code, name in said, said.startswith("The print edition was not made: ")) == (1, True, True)


@pytest.mark.parametrize("text", ["", "text", "<article class='bd-article'></article>", "\0\xff"])
def test_a_page_that_is_none_of_the_book_is_named(checkout, capsys, text):
    site = checkout / "_build" / "html"
    for part in print_edition.read_parts(checkout):
        for name in part.names:
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / f"{name}.html").write_text(text)
    code, said = outcome(capsys, print_edition.main, "join")
    assert (code, "is no page of the book: run make book" in said) == (1, True)
    assert not (site / "print.html").exists()


def test_a_check_on_colab_that_cannot_be_made_is_said(checkout, capsys, monkeypatch):
    (path,) = checkout.glob("notebooks/*.ipynb")
    failing = [
        OSError("no disk"),
        RuntimeError("git failed"),
        subprocess.CalledProcessError(1, ["pip"]),
        ValueError("no cell"),
    ]
    for error in failing:

        def fail(python, error=error):
            raise error

        monkeypatch.setattr(colab_check, "make_environment", fail)
        monkeypatch.setattr(sys, "argv", ["colab_check.py", str(path)])
        assert colab_check.main() == 2
        assert capsys.readouterr().err == f"The check was not finished: {error}\n"


@pytest.mark.parametrize("text", BROKEN[:-2])
def test_a_broken_notebook_is_named_by_the_check_on_colab(tmp_path, text):
    if text != '{"cells": 5}':
        (tmp_path / "01.ipynb").write_text(text)
        with pytest.raises(ValueError, match=r"01\.ipynb is no notebook"):
            colab_check._code_cells(tmp_path / "01.ipynb")


@pytest.fixture
def vendored(tmp_path, monkeypatch):
    """A folder with a manifest of one package, which is not fetched yet."""
    folder = tmp_path / "vendor"
    folder.mkdir()
    monkeypatch.setattr(vendor, "FOLDER", folder)
    return folder


def manifest(**package) -> str:
    files = {"b": {"from": "a", "sha256": ""}}
    entry = {"name": "p", "version": "1", "folder": "p", "integrity": "", "files": files, **package}
    return json.dumps({"packages": [entry]})


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"packages": 5}', '{"packages": [5]}', "[" * 100_000),
        *(
            manifest(files=5),
            manifest(files={"b": 5}),
            manifest(folder=5),
            manifest(folder="../p"),
            manifest(folder="/p"),
        ),
        manifest(files={"../../evil": {"from": "a", "sha256": ""}}),
        manifest(files={"/evil": {"from": "a", "sha256": ""}}),
    ],
)
@pytest.mark.parametrize("words", ["check", "refresh"])
def test_a_manifest_that_is_none_is_named(vendored, capsys, monkeypatch, words, text):
    monkeypatch.setattr(vendor, "pack", lambda wanted, scratch: pytest.fail("asked npm"))
    (vendored / vendor.MANIFEST).write_text(text)
    code, said = outcome(capsys, vendor.main, words)
    assert (code, f"{vendor.MANIFEST} is no manifest" in said) == (2, True)


def package(name="package/a", content=b"text", **member) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as made:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        for key, value in member.items():
            setattr(entry, key, value)
        made.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"text", package()[:40], package("../a"), package("/a"), package("package/../a")),
        *(
            package(type=kind, linkname="/etc/passwd", content=b"")
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE)
        ),
    ],
    ids=["empty", "text", "cut", "above", "absolute", "around", "symbolic link", "link", "folder"],
)
def test_what_npm_gives_instead_of_the_package_changes_nothing(vendored, capsys, monkeypatch, content):
    (vendored / vendor.MANIFEST).write_text(manifest())
    monkeypatch.setattr(vendor, "pack", lambda wanted, scratch: content)
    code, said = outcome(capsys, vendor.main, "refresh")
    assert (code, said.startswith("Nothing was changed: ")) == (2, True)
    assert [path.name for path in vendored.iterdir()] == [vendor.MANIFEST]
    assert [path.name for path in vendored.parent.iterdir()] == ["vendor"]


def test_a_fresh_folder_that_cannot_take_its_place_puts_the_earlier_one_back(vendored, capsys, monkeypatch):
    (vendored / vendor.MANIFEST).write_text(manifest())
    monkeypatch.setattr(vendor, "pack", lambda wanted, scratch: package())
    replace = os.replace

    def refuse_the_fresh(source, target):
        if Path(source).name == "fresh":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse_the_fresh)
    assert outcome(capsys, vendor.main, "refresh")[0] == 2
    assert (vendored / vendor.MANIFEST).read_text() == manifest()
    assert [path.name for path in vendored.parent.iterdir()] == ["vendor"]
