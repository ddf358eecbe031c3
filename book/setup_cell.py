# @title Set-up for Google Colab (anywhere else this cell does nothing)
import os
import shutil
import subprocess
import sys

COLAB_MODE = "recorded"  # @param ["recorded", "smoke", "full"]
REPOSITORY = ""
TAG = "v0.1.0"

if "google.colab" in sys.modules:
    if not REPOSITORY:
        raise RuntimeError("no address is set: in a checkout, make set-repository URL=https://github.com/OWNER/NAME")
    checkout = "/content/" + REPOSITORY.rsplit("/", 1)[-1]
    if not os.path.exists(checkout):
        partial = checkout + ".partial"  # renamed when complete: an interrupted clone is not taken for a whole one
        shutil.rmtree(partial, ignore_errors=True)
        command = ["git", "clone", "--quiet", "--depth=1", f"--branch={TAG}", REPOSITORY, partial]
        git = subprocess.run(command, capture_output=True, text=True)
        if git.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{git.stderr}")
        os.rename(partial, checkout)
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    os.environ["NORMLIB_MODE"] = COLAB_MODE
    from normcourse import runtime

    runtime.install_missing()
    runtime.preflight()
