"""What the API's process loads: no engine, and not much memory."""

import json
import subprocess
import sys
from pathlib import Path

# Asked in a process of its own, as tests load all of it.
ASK = """
import json, sys
from pathlib import Path
from starlette.testclient import TestClient
from nas.run.workspace import workspace
from nas_services.app import create_app
from nas_services.settings import Settings
from tests.services.launcher import StubLauncher

settings = Settings(place=workspace(sys.argv[1]))
client = TestClient(create_app(settings, launcher=StubLauncher()), base_url="http://127.0.0.1")
with client:
    for address in ("healthz", "readyz", "metrics", "spaces", "tasks", "attentions", "strategies",
                    "exporters", "openapi.json", "docs", "searches"):
        client.get(f"/api/v1/{address}")
    body = {"space": "digits_tiny", "task": "digits", "constraints": ["flops <= 1e7"]}
    answer = client.post("/api/v1/spaces/validate", json=body)
    assert answer.status_code == 200, answer.text
    request = {"name": "small", "task": "digits", "space": "digits_tiny"}
    found = client.post("/api/v1/searches", json=request)
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
# Not what getrusage says, which begins with what the process that started this one held.
status = Path("/proc/self/status").read_text().splitlines()
peak = next(line.split() for line in status if line.startswith("VmHWM:"))
print(json.dumps({"modules": loaded, "kilobytes": int(peak[1])}))
"""
NOT_HERE = {
    "torch", "torchvision", "ray", "mlflow", "plotly", "pandas", "pyarrow", "sklearn", "lightgbm",
    "optuna", "scipy", "multipart", "python_multipart",
}  # fmt: skip
LIMIT_KILOBYTES = 250 * 1024


def test_the_api_loads_no_engine_and_stays_small(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path / "home")],
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'services'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert not NOT_HERE & set(found["modules"])
    assert found["kilobytes"] < LIMIT_KILOBYTES
