"""An mbox whose changer is killed at each step, and at any moment. CRASH_N: how often; CRASH_SEED: as last time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("CRASH_N", "40"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)


def _victims(directory: Path, mode: str, timeout: float) -> int:
    """How many were killed, and nothing was lost."""
    print(f"CRASH_SEED={SEED}")
    command = [sys.executable, "-m", "tests.crash.mbox_victim", str(directory), mode, str(SEED), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return int(done.stdout)


@pytest.mark.timeout(300)
def test_killed_at_each_step(tmp_path: Path) -> None:
    """Every change, at every system call, in the middle of writes, with other programs appending, without power."""
    assert _victims(tmp_path, "steps", 280) > 500


@pytest.mark.timeout(60 + KILLS * 2)
def test_killed_at_any_moment(tmp_path: Path) -> None:
    assert _victims(tmp_path, "random", 30 + KILLS * 2) == KILLS
