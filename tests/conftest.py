"""What holds for every test: the same examples on each run, and no word to anybody outside."""

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need fairseq are skipped without it, unless it is they that are asked for."""
    if importlib.util.find_spec("fairseq") is not None:
        return
    reason = "fairseq is not installed here: make test-fairseq"
    if config.option.markexpr == "fairseq":
        raise pytest.UsageError(reason)
    for item in items:
        if item.get_closest_marker("fairseq"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def bert_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small table of NAS-Bench-BERT's form, where data are looked up."""
    from tests.task.small_bert_table import write

    monkeypatch.setenv("NAS_DATA_DIR", str(tmp_path))
    return write(tmp_path / "nas_bench_bert.json")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tasks keep stands in a folder of the run, made anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
