"""What holds for every test: the same examples on each run, and no word to anybody outside."""

import os
import signal
from pathlib import Path

from hypothesis import settings

# A property is tested on the same examples everywhere, so that a red test is red again.
settings.register_profile("deterministic", derandomize=True, database=None, deadline=None)
settings.load_profile("deterministic")

# A background job is started with SIGINT ignored, and hands that on to the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before the packages are imported: they read it once.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Where there is no GPU, Triton's kernels run by its interpreter; torch imports Triton too.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
