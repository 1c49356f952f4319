"""A process that has imported what scripts need, and runs each in a fork of itself: importing takes longer than that.

    python -m warm < requests

A request is a line of JSON: a script, the folder to run it in, and two files for what it prints. The answer is a line
with its exit status. attar itself is imported by each script anew.
"""

import contextlib
import importlib
import json
import os
import runpy
import shlex
import subprocess
import sys
import traceback

BEFOREHAND = (
    "torch",
    "torch.func",
    "torch._dynamo",
    "sklearn.datasets",
    "sklearn.cluster",
    "sklearn.mixture",
    "scipy.optimize",
    "scipy.stats",
    "pyarrow.parquet",
    "datasets",
    "accelerate",
    "safetensors.torch",
    "huggingface_hub",
    "tyro",
    "rich.progress",
    "PIL.Image",
    "jaxtyping",
    "transformers",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "peft",
    "trl",
)
SHELL = set("|&;<>*?$`~(){}\\")


def serve():
    """Run what is asked for, one after the other."""
    for name in BEFOREHAND:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        script, place, *files = json.loads(line)
        status = in_a_fork(lambda: of_its_own(script, place, *files))  # noqa: B023 -- called before the next
        os.write(1, f"{status}\n".encode())


def run(line):
    """A command of a page: one of attar's in a fork, any other in a shell."""
    words = shlex.split(line, comments=True)
    if words[0] != "attar" or SHELL & set(line):
        subprocess.run(line, shell=True, check=True)
        return
    if status := in_a_fork(lambda: command(words[1:])):
        raise subprocess.CalledProcessError(status, line)


def command(words):
    from attar.cli import main

    main(words)


def in_a_fork(work):
    """The exit status of a piece of work that is done by a child."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        work()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def of_its_own(script, place, output, errors):
    """A script as the main program."""
    os.chdir(place)
    for number, file in ((0, os.devnull), (1, output), (2, errors)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.argv, sys.path[0] = [script], os.path.dirname(script)  # noqa: PTH120 -- as Python has it
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    serve()
