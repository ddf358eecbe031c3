"""What holds a submission off the rest of the machine: namespaces, where the system makes them, and another user."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

UIDS = range(55000, 59000)  # users without a name: one for each submission that runs at a time
FULL = ("--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
FILES_AND_NETWORK = ("--mount", "--net", "--ipc")


class RefusedError(RuntimeError):
    """Submissions would run with too much power here."""


@dataclass(frozen=True)
class Isolation:
    """How submissions are held off, by what was found to work.

    Args:
        namespaces: Arguments of util-linux's `unshare`; empty where it, or the kernel, does not make any.
        root: Whether this process is root's, so that submissions are run as users without a name.
    """

    namespaces: tuple[str, ...]
    root: bool

    def uid(self, slot: int) -> int | None:
        """The user that runs submissions in this slot; None: the one that runs this process."""
        return UIDS[(16 * os.getpid() + slot) % len(UIDS)] if self.root else None

    def sentences(self) -> list[str]:
        """What is isolated here and what is not, for people to read."""
        cut, alone, files = (flag in self.namespaces for flag in ("--net", "--pid", "--mount"))
        return [
            "Submissions ran as users of their own, without a name."
            if self.root
            else "Submissions ran as the user who graded them, under a limit of processes.",
            "Network: none." if cut else "Network: NOT cut off on this system.",
            "Files: the home folder, tests, solutions and other submissions were hidden; the rest could be read."
            if files
            else "Files: NOT hidden; what this user may read, submissions could read. Tests were not on the disk; "
            "an attempt to read them, or other submissions, is named.",
            "Processes: none of others were visible, none outlives its submission."
            if alone
            else "Processes: visible to each other; those left over were looked for and ended.",
            "Within a submission nothing separates its code from the tests of its own names: code written to deceive "
            "them can. One test must fail; where it passed, the result is named 'forged'.",
        ]


def find_isolation() -> Isolation:
    """The strongest isolation that works here.

    Raises:
        RefusedError: On Windows, or as root where no other user can be given the Python that runs this.
    """
    if os.name != "posix":
        raise RefusedError(
            "submissions are run under limits that Windows lacks: run make grade in WSL, or on Linux or macOS"
        )
    root = os.geteuid() == 0
    mapped = () if root else ("--map-root-user",)
    for flags in (FULL, FILES_AND_NETWORK):
        if sys.platform == "linux" and _works(["unshare", *mapped, *flags, "true"]):
            return Isolation((*mapped, *flags), root)
    other = {"user": UIDS[0], "group": UIDS[0], "extra_groups": []}
    if root and not _works([sys.executable, "-c", "import nbclient"], **other):
        raise RefusedError(
            f"this is root, submissions are to run as another user, and other users cannot run {sys.executable}: "
            "run make grade as a user, or move the checkout and its Python where every user may read them"
        )
    return Isolation((), root)


@dataclass(frozen=True)
class View:
    """What a submission sees of the files.

    Args:
        work: Its own folder, and the only one in which it may write.
        covered: Folders that look empty.
        kept: Folders that stay as they are, also within covered ones, or above them.
        stash: An empty folder, outside all of these.
    """

    work: Path
    covered: Iterable[Path]
    kept: Iterable[Path]
    stash: Path


def entry(isolation: Isolation, command: list[str], slot: int, view: View) -> list[str]:
    """The command that runs `command` in the namespaces and with the view of files of a submission."""
    if not isolation.namespaces:
        return command
    rights = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    if uid := isolation.uid(slot):
        rights += [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    lines = ["set -e", *_mounts(view), f"cd {shlex.quote(os.fspath(view.work))}"]
    script = "\n".join([*lines, f"exec {shlex.join([*rights, '--', *command])}"])
    return ["unshare", *isolation.namespaces, "sh", "-c", script]


def _mounts(view: View) -> list[str]:
    """Lines that hide and show folders: what is kept is put aside first, then they go from the root to the leaves."""
    kept = {path for path in (view.work, *view.kept) if path != path.parent}
    quoted = {path: shlex.quote(os.fspath(path)) for path in {*view.covered, *kept} if path != path.parent}
    stash = shlex.quote(os.fspath(view.stash))
    aside = {path: f"{stash}/{number}" for number, path in enumerate(sorted(kept))}
    lines = [f"mount -t tmpfs -o size=1m none {stash}"]
    for path, place in aside.items():
        lines += [f"mkdir {place}", f"mount --rbind {quoted[path]} {place}"]
        lines += [f"mount -o remount,bind,ro {place}"] if path != view.work else []
    for path in sorted(quoted, key=lambda path: len(path.parts)):
        if path in aside:
            lines += [f"mkdir -p {quoted[path]}", f"mount -n --move {aside[path]} {quoted[path]}"]
        else:
            lines += [f"if [ -d {quoted[path]} ]; then mount -t tmpfs -o size=1m,mode=755 none {quoted[path]}; fi"]
    return lines


def _works(command: list[str], **options: object) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60, **options).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
