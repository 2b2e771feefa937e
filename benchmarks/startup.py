"""How long until the command line answers? Wall time of fresh processes, taken in turns.

Bars: the median of `nas --help` over 10 fresh processes is <= 0.7 s; `import nas` imports no torch.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring.report import machine, parser, print_table, write

HELP_BAR_SECONDS = 0.7
# The command stands beside the interpreter of its environment.
NAS = str(Path(sys.executable).with_name("nas"))
COMMANDS = {
    "nas --help": [NAS, "--help"],
    "python -c 'import nas'": [sys.executable, "-c", "import nas"],
    "python -c pass": [sys.executable, "-c", "pass"],
}
LOADS_TORCH = "import sys, nas; print('torch' in sys.modules)"


def seconds(command: list[str]) -> float:
    """Wall time of one process; raises `CalledProcessError` where it fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--processes", type=int, default=10)
    given = arguments.parse_args()
    for command in COMMANDS.values():
        # Bytecode is compiled once after an installation, not at every start.
        seconds(command)
    rounds = [
        {name: seconds(command) for name, command in COMMANDS.items()}
        for _ in range(given.processes)
    ]
    taken = {name: [each[name] for each in rounds] for name in COMMANDS}
    shown = subprocess.run(
        [sys.executable, "-c", LOADS_TORCH], check=True, capture_output=True, text=True
    )
    loads_torch = shown.stdout.strip() == "True"
    print_table(
        f"Start-up, {given.processes} fresh processes of each; "
        f"import nas {'imports torch' if loads_torch else 'imports no torch'}",
        ("command", "median, s", "fastest to slowest", "bar, s"),
        [
            (
                name,
                f"{statistics.median(each):.3f}",
                f"{min(each):.3f} to {max(each):.3f}",
                f"{HELP_BAR_SECONDS:g}" if name == "nas --help" else "",
            )
            for name, each in taken.items()
        ],
    )
    figures = {
        "machine": machine(),
        "seconds": taken,
        "medians": {name: statistics.median(each) for name, each in taken.items()},
        "bars": {"nas --help": HELP_BAR_SECONDS},
        "import_nas_imports_torch": loads_torch,
    }
    write(given.out, figures)


if __name__ == "__main__":
    main()
