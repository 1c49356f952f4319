"""Programs that run in two processes, which meet at a free port."""

import json
import os
import socket
import subprocess
import sys


def free_port():
    """A port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def printed_by(program):
    """What a program that forks its two processes itself prints, as JSON."""
    place = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def several(count=2):
    """The environment of some processes, but for their ranks."""
    port, count = free_port(), str(count)
    settings = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {**os.environ, **settings}
