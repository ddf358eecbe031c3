"""Imported by every Python of a submission: names on stderr each file it tries to read that is not for it.

`GRADING_GUARDED` lists the folders of tests, solutions and other submissions. Folders and files that autograders of
other courses have are guarded too, where they would lie: beside the submission.
"""

import os
import sys

GUARDED = [folder for folder in os.environ.get("GRADING_GUARDED", "").split(os.pathsep) if folder]
GUARDED += [os.path.join(os.getcwd(), "tests"), "/autograder"]
FILES = ("autograder.zip", "otter_config.json")
STDERR = os.dup(2)  # ipykernel replaces the other one


def is_guarded(path):
    """Whether this path is in a folder, or is a file, that a submission has no business with."""
    full = os.path.abspath(path)
    inside = any(full == folder or full.startswith(folder + os.sep) for folder in GUARDED)
    return inside or full.endswith(FILES)


def watch(event, arguments):
    """The hook: `open`, listings of folders, and commands that have such a path in them."""
    if event in ("open", "os.listdir", "os.scandir", "os.chdir", "shutil.copyfile"):
        path = arguments[0]
        found = [os.fsdecode(path)] if isinstance(path, (str, bytes, os.PathLike)) else []
        found = [each for each in found if is_guarded(each)]
    elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
        found = [folder for folder in (*GUARDED, *FILES) if folder in str(arguments[:2])]
    else:
        return
    for each in found:
        os.write(STDERR, f"\nread tests: {each[:300]!r}\n".encode())


sys.addaudithook(watch)
