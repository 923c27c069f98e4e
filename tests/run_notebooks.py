"""The notebooks: run from top to bottom, and kept as they should be kept.

    uv run python tests/run_notebooks.py [NAME …]      runs them (all, or those named) and stores their outputs

An output that depends on the machine (times, losses after training) stands in a cell with the tag `varies`; every other output must
come out the same, to the letter, wherever the notebook is run.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from compiler import QUICK
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
PATHS = tuple(sorted(FOLDER.glob("*.ipynb")))
VARIES = "varies"
TIMEOUT = 240  # seconds a cell; each notebook takes well under a minute on a quiet core


def execute(path: Path) -> Any:
    """The notebook with the outputs of a fresh kernel, tidied. Raises nbclient's CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "IPYTHONDIR": folder,  # nothing is left in the home of whoever runs this
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": QUICK,
            # As a reader has them; under pytest the environment has the strict ones.
            "JAX_NUMPY_RANK_PROMOTION": "allow",
            "JAX_NUMPY_DTYPE_PROMOTION": "standard",
        }
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--HistoryManager.enabled=False", "--log-level=40"],
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.execute(env=environment)
    return tidy(notebook)


def tidy(notebook: Any) -> Any:
    """Without what says nothing of the notebook: versions of the kernel, time stamps, how a viewer had it open."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({"tags": [VARIES]} if varies(cell) else {})
        for output in cell.get("outputs", ()):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return notebook


def varies(cell: Any) -> bool:
    return VARIES in cell.metadata.get("tags", ())


def texts(cell: Any) -> list[str]:
    """The text of each output of a code cell; of a picture, what kind it is."""
    found = []
    for output in cell.outputs:
        if output.output_type == "stream":
            found.append(output.text)
        else:
            data = output.get("data", {})
            found.append("\n".join(str(data[kind]) if kind.startswith("text/") else kind for kind in sorted(data)))
    return found


def faults(notebook: Any) -> list[str]:
    """What is not fit to be kept, one line each: empty for a clean notebook."""
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("its cells were not run once each, from top to bottom")
    for number, cell in enumerate(code, 1):
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"cell {number} ended with {output.ename}")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} wrote to standard error: {output.text.strip()[:80]!r}")
        for place in re.findall(r"(?<![\w.:/])(?:/[A-Za-z][\w.+-]*){2,}|[A-Z]:\\\w+", "\n".join(texts(cell))):
            found.append(f"cell {number} shows a path of the machine: {place}")
        for address in re.findall(r"0x[0-9a-f]{6,}", "\n".join(texts(cell))):
            found.append(f"cell {number} shows an address in memory: {address}")
    return found


def main(names: list[str]) -> int:
    for path in PATHS:
        if names and path.stem not in names:
            continue
        notebook = execute(path)
        nbformat.write(notebook, path)
        wrong = faults(notebook)
        print(f"{path.name}: {'; '.join(wrong) or 'stored'}")
        if wrong:
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main([Path(name).stem for name in sys.argv[1:]]))
