"""Every command that the README, the book and the chapters tell a reader to type: it is found here, and run.

Commands of the library and of the course run in this process, with runs made tiny. Verbs of make run in a copy of the
course, unless `make test` or a public workflow runs them anyway.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from torch.distributed.run import parse_args

import normcourse.cli
import normlib.cli
from normcourse import claims, experiments, paths
from normlib.training import run_dir, throughput

ROOT = Path(__file__).parents[2]
PROGRAMS = r"(?:[A-Z]\w*=\S+ )*(?:normlib|normcourse|make|python3?|torchrun|git|npm|npx|apt-get|\.venv/bin/\S+)(?=\s|$)"
PLACEHOLDERS = {
    "URL=…": "URL=https://github.com/someone/course",
    "TAG=…": "TAG=v2027.1",
    "OWNER/NAME": "someone/course",
    "[PRIVATE=…]": "",
    "HOST:29500": "localhost:29500",
    "record NAME": "record digits-simclr",
}
WORKFLOWS = "".join(path.read_text("utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml"))
MAINS = {"normlib": normlib.cli.main, "normcourse": normcourse.cli.main}
SETTING_UP = {"apt-get install chromium", "git fetch upstream --tags", "git merge upstream/main"}


def texts():
    """All that is written for readers."""
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("assignments/*.md")]):
        yield path.read_text("utf-8")
    for path in sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("assignments/*.ipynb")]):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for program, main in MAINS.items():
        for verb in re.findall(r"(?m)^    (\w+) ", help_of(main)):
            lines = help_of(main, verb).splitlines()
            yield "\n".join(["```", *(line[2:] for line in lines if line.startswith(f"  {program} ")), "```"])


def help_of(main, *words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return said.getvalue()


def commands_in(text):
    """Lines of blocks and spans of code that begin with a program's name, without the comments beside them."""
    blocks = r"^```\w*\n(.*?)^```"
    lines = [line for block in re.findall(blocks, text, re.M | re.S) for line in block.splitlines()]
    lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(blocks, "", text, flags=re.M | re.S))
    for line in lines:
        if re.match(PROGRAMS, line):
            yield re.split(r" {2,}[#(]| # ", line)[0].strip()


COMMANDS = sorted({command for text in texts() for command in commands_in(text) if " " in command})


def filled(command):
    for placeholder, value in PLACEHOLDERS.items():
        command = command.replace(placeholder, value)
    return command.strip()


def own_words(command):
    """Which of the two commands it is, in any of its forms, and the words after it; None for another command."""
    match = re.match(r"(?:\.venv/bin/|python -m )?(normlib|normcourse) (.*)", command)
    return (match[1], shlex.split(match[2])) if match else None


OUR_OWN = [command for command in COMMANDS if own_words(command)]
ON_SEVERAL_DEVICES = [command for command in COMMANDS if command.startswith("torchrun ")]
OF_MAKE = [command for command in COMMANDS if command.startswith("make ")]
OTHERS = [command for command in COMMANDS if command not in {*OUR_OWN, *ON_SEVERAL_DEVICES, *OF_MAKE, *SETTING_UP}]


def test_commands_are_found_where_they_are_written():
    assert {own_words(command)[0] for command in OUR_OWN} == {"normlib", "normcourse"}
    assert len(OUR_OWN) >= 15
    assert len(OF_MAKE) >= 20
    assert [*commands_in("Say `make book`.\n```bash\nnormlib info   # minutes\n```\n")] == ["normlib info", "make book"]


# The library and the course ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the run directories that the commands name."""
    folder = tmp_path_factory.mktemp("reader")
    words = ["train", "digits", "--out", str(folder / "runs/first"), "--accelerator", "cpu", "--set", "epochs=1"]
    assert normlib.cli.main([*words, "warmup_epochs=0"]) == 0
    shutil.copytree(folder / "runs/first", folder / "runs/cut")
    return folder


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The library with every run made tiny; the recipe that was asked for is made in full, and so checked."""
    from normcourse.experiments import runner
    from normcourse.experiments.store import Store, key_of
    from normlib.training import recipes

    def train(recipe, folder, **options):
        if recipe.data == "digits" and recipe.train.epochs <= 2:  # as tiny as that, as experiments in smoke mode are
            return real_train(recipe, folder, **options)
        small = recipes.get("digits").replace(epochs=1, warmup_epochs=0)
        assert recipe.build_model() is not None
        return real_train(small, f"{folder}-tiny", **options | {"accelerator": "cpu"})

    def record(*names, minutes, out, shard, overwrite):
        for name in names:
            experiments.smoke(name)
        return runner.Left({})

    def reproduce(name, *, shard=(1, 1), jobs=None):
        recorded = {key_of(job) for job in Store(paths.RESULTS).jobs(name)}
        assert {key_of(job) for job in jobs or []} <= recorded
        table = experiments.load(name)
        return next(iter(table.values())).assign(table=name, column="x", identical=True, difference=0.0)

    real_train = run_dir.train
    monkeypatch.setattr(run_dir, "train", train)
    monkeypatch.setattr(experiments, "record", record)
    monkeypatch.setattr(experiments, "reproduce", reproduce)
    (tmp_path / "reproduced").symlink_to(paths.RESULTS)
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(throughput, "pairs_per_second", lambda recipe, accelerator, seconds: 1000.0)
    monkeypatch.setattr(claims, "accept", lambda verdicts: None)


@pytest.mark.parametrize("command", OUR_OWN)
def test_a_command_of_ours_runs(command, trained, tiny, monkeypatch, capsys):
    if command in {"normlib train --set method=byol"}:  # a setting, named without the rest of its command
        command = "normlib train digits --out runs/byol --set method=byol"
    if command == "normcourse reproduce --claim ID":
        command = "normcourse reproduce --claim cut-is-rate"
    monkeypatch.chdir(trained)
    monkeypatch.setenv("NORMLIB_DATA", str(trained / "none"))
    program, words = own_words(filled(command))
    try:
        status = MAINS[program](words)
    except SystemExit as stop:  # --help
        status = stop.code
    assert status == 0, capsys.readouterr().err
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", ON_SEVERAL_DEVICES)
def test_a_command_for_several_devices_is_one_that_torchrun_and_the_library_take(command, tiny, tmp_path, monkeypatch):
    """test_distributed.py trains in several processes; here the words are taken as torchrun takes them."""
    launch = parse_args(shlex.split(filled(command))[1:])
    assert (launch.module, launch.training_script) == (True, "normlib")
    monkeypatch.chdir(tmp_path)
    assert normlib.cli.main(launch.training_script_args) == 0


def test_the_lines_of_python_in_the_readme_run(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    names = {}
    exec(compile(code.replace("epochs=20", "epochs=3"), "README.md", "exec"), names)
    columns = ["step", "layer", "class", "statistic", "value"]
    assert set(columns) <= set(names["tracker"].to_frame().columns)


# Make ----------------------------------------------------------------------------------------------------------------


HERE = "--old-file=.venv/.complete"  # the environment is as it should be
AFRESH = ("--new-file=pyproject.toml", "--new-file=tests/site/lighthouse/package-lock.json")


def make(*words, folder=ROOT, **options):
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, timeout=540, **options)


def would_do(*words):
    """What make says that it would do."""
    done = make("-n", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy():
    """Another checkout of the course as it is here now, with this environment."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # root grades submissions as somebody who is not root
        yield cloned(Path(folder))


def cloned(folder):
    origin, clone = folder / "origin", folder / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, origin / name)
    me = ["-c", "user.name=Reader", "-c", "user.email=reader@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*me, "commit", "-qm", "The course"]):
        subprocess.run(["git", *words], cwd=origin, check=True)
    subprocess.run(["git", "clone", "-q", origin, clone], check=True)
    (clone / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    return clone


def really(folder, command):
    """Run a command as a reader would, with the library of that folder."""
    words = shlex.split(filled(command))
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    if words[0] == "make":
        done = make(HERE, *words[1:], folder=folder, env=environment)
    else:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=540, env=environment)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


IN_A_COPY = {goal: f"make {goal} {word}" for goal, word in (("set-repository", "URL=…"), ("release-links", "TAG=…"))}
IN_ORDER = ("assignments", "sample-class", "grade", "outputs", "lab", "serve", "print")  # by tests of their own, below
IN_WORKFLOWS = {"links", "colab-check", "lint-workflows", "test-lowest", "print", "lighthouse", "bench"}


@pytest.mark.parametrize("command", OF_MAKE)
def test_a_verb_of_make_is_run_somewhere(command, copy):
    goals = [word for word in filled(command).split()[1:] if "=" not in word]
    for goal in goals:
        does = set(would_do(HERE, goal).splitlines())
        assert does
        if goal in IN_A_COPY:
            really(copy, command if "=" in command else IN_A_COPY[goal])
        elif goal in IN_WORKFLOWS:
            assert f"run: make {goal}" in WORKFLOWS
        else:
            assert goal in IN_ORDER or does <= set(would_do(HERE, "test").splitlines()), f"nothing runs make {goal}"


def test_an_assignment_is_made_and_a_class_is_graded(copy):
    for other in set(copy.glob("assignments/A*.ipynb")) - set(copy.glob("assignments/A1*")):
        other.unlink()
    (command,) = [command for command in OF_MAKE if command.endswith("sample-class") and "assignments" in command]
    assert re.search(r"^A1: .*made/sample-class", really(copy, command), re.M | re.S)
    (command,) = [command for command in OF_MAKE if "SUBMISSIONS=made/" in command]
    assert "Graded:" in really(copy, command)


def test_outputs_are_executed_in_place(copy, tmp_path):
    path = tmp_path / "one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), path)
    really(copy, f"make outputs NOTEBOOKS={path}")
    assert nbformat.read(path, 4).cells[0].outputs[0].data["text/plain"] == "2"


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize(("verb", "page"), [("lab", "lab"), ("serve", "index.html")])
def test_a_server_answers(verb, page, copy):
    (copy / "_build/html").mkdir(parents=True, exist_ok=True)
    (copy / "_build/html/index.html").write_text("<title>The book</title>")
    (line,) = [
        line for line in would_do(HERE, "--old-file=book", verb).splitlines() if "http.server" in line or "lab" in line
    ]
    words = shlex.split(line)
    words += ["--no-browser", "--allow-root", "--port=8000", "--IdentityProvider.token="] if verb == "lab" else []
    words = [word.replace("8000", "8642") for word in words]
    server = subprocess.Popen(words, cwd=copy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert "<title>" in answer(f"http://127.0.0.1:8642/{page}", server)
    finally:
        server.terminate()
        server.wait(30)


def answer(address, server):
    """What the server says, as soon as it listens."""
    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            return urllib.request.urlopen(address, timeout=30).read().decode()
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(address)


# Commands beside make ------------------------------------------------------------------------------------------------


def rows():
    """Verb, and the commands without make that the README has for it."""
    for verb, without in re.findall(r"^\| (.+?) \| .+ \| (.+) \|$", (ROOT / "README.md").read_text("utf-8"), re.M):
        if verb == "–" or "`make " in verb:
            yield verb.strip("`"), re.findall(r"`([^`]+)`", without)


def within(words, line):
    """Whether all words stand in the line, in their order; a line may have more options."""
    rest = iter(line)
    return all(word in rest for word in words)


def normal(command):
    """The words, without what a reader has to fill in and what stands for the folder of the environment."""
    command = re.sub(r"[\"']", " ", command.replace(".venv/bin/", "").replace("python3 ", "python "))
    words = [word for word in command.replace(", …", "").split() if word not in {"DIR", "URL", "TAG"}]
    return [word for word in words if not re.fullmatch(r"SUBMISSIONS|ROSTER|POLICY|notebooks(/\S+)?", word)]


def lines_of(*words):
    """The commands that make would run, one by one."""
    lines = re.split(r"\n|&&", would_do(*words).replace("\\\n", " "))
    return [line.strip() for line in lines if re.search(r"\.venv/bin/|^\s*(\w+=\S+ )*(python|npm|npx)", line)]


@pytest.mark.parametrize(("verb", "commands"), [*rows()], ids=lambda value: value if isinstance(value, str) else "")
def test_the_commands_without_make_are_what_make_runs(verb, commands):
    goals = re.sub(r"[\[\]`]|^–$|^make ", "", verb).replace("…", "x").split() or [".venv/.complete"]
    lines = re.split(r"\n|&&", would_do(*AFRESH, *goals))
    for command in commands:
        if command in SETTING_UP or command.startswith(("_build", "http")):
            continue
        if verb == "make bench":
            assert (ROOT / command.split()[1]).is_file()
            continue
        assert any(within(normal(command), normal(line)) for line in lines), command


@pytest.mark.parametrize(("verb", "commands"), [*rows()], ids=lambda value: value if isinstance(value, str) else "")
def test_what_make_runs_is_named_among_the_commands_without_make(verb, commands):
    if verb in {"–", "make bench"} or not commands:  # making the environment depends on uv; benchmarks end with "…"
        return
    goals = re.sub(r"[\[\]`]|^make ", "", verb).replace("…", "x").split()
    needed = set(lines_of(HERE, "book")) if verb != "make book" else set()  # such rows say "the book"
    needed |= set(lines_of(HERE, "check")) if verb == "make test" else set()  # "the above"
    left = [line for line in lines_of(HERE, *goals) if line not in needed]
    assert [line for line in left if not any(within(normal(command), normal(line)) for command in commands)] == []
