"""What commands cost over many runs: those that read a study's folder, and the dry run that plans one.

    python benchmarks/shell.py                             # 20,000 finished runs; a plan of 10,000; 80 rows
    python benchmarks/shell.py --runs=400 --plan=400       # a look at it
    python benchmarks/shell.py --keep=DIR                  # keeps the studies in DIR, and reuses them

many_runs.py makes the studies. A process of its own carries out each command. The table has its seconds by the clock, its processor
seconds, and the peak of its memory. This process imports nothing of ours: a child's peak begins with the memory of its parent.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = ("command", "runs", "s", "processor s", "MB")


def make(folder: Path, *words: str) -> Path:
    if not (folder / "study.py").exists():
        subprocess.run([sys.executable, str(ROOT / "benchmarks/many_runs.py"), str(folder), *words], check=True)
    return folder


def measured(*words: str) -> tuple[float, float, float]:
    """Seconds by the clock, processor seconds and megabytes of a command, which must succeed."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--plan", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=80)
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--only", default="", help="commands, separated by commas")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place, rows = (given.keep or Path(temporary)).resolve(), f"--rows={given.rows}"
        finished = make(place / f"{given.runs}_runs_{given.rows}", f"--runs={given.runs}", rows)
        planned = make(place / f"plan_of_{given.plan}_{given.rows}", f"--runs={given.plan}", rows, "--plan_only")
        study = str(finished / "runs/study")
        commands = {
            "table": ("table", study),
            "runs": ("runs", study),
            "plot": ("plot", study, f"--out={finished / 'figures'}"),
            "dashboard": ("dashboard", study, f"--out={finished / 'page.html'}"),
            "dry_run": ("sweep", str(planned / "study.py"), "--dry_run", f"--runs={planned / 'runs'}"),
        }
        print("{:10} {:>7} {:>7} {:>11} {:>6}".format(*HEAD), flush=True)
        for name, words in commands.items():
            if name in (given.only or name).split(","):
                count = given.plan if name == "dry_run" else given.runs
                print("{:10} {:>7,} {:>7.1f} {:>11.1f} {:>6.0f}".format(name, count, *measured(*words)), flush=True)


if __name__ == "__main__":
    main()
