"""The notebooks run from top to bottom in a fresh kernel, and what is stored in them is what comes out."""

import copy

import nbformat
import pytest
import run_notebooks as notebooks

STALE = "run `uv run python tests/run_notebooks.py`, look at it, and commit it"
ALL = [pytest.param(path, id=path.stem) for path in notebooks.PATHS]
LONG = (
    "02_compare_runs",
    "03_your_own_scheme",
    "04_look_inside_a_trained_model",
)  # that train: a minute of processor time each
RUN = [
    pytest.param(path, id=path.stem, marks=pytest.mark.full if path.stem in LONG else ()) for path in notebooks.PATHS
]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Unclosed|unclosed:ResourceWarning"),  # sockets that zmq closes later
]


def stored(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_four():
    assert [path.stem for path in notebooks.PATHS] == [
        "01_add_and_norm_by_hand",
        "02_compare_runs",
        "03_your_own_scheme",
        "04_look_inside_a_trained_model",
    ]


@pytest.mark.parametrize("path", ALL)
def test_what_is_stored_is_clean(path):
    """Valid, run in order, without errors, warnings, paths or addresses of the machine, and small."""
    notebook = stored(path)
    nbformat.validate(notebook)
    assert notebooks.faults(notebook) == []
    assert notebook == notebooks.tidy(copy.deepcopy(notebook)), STALE
    assert path.stat().st_size < 400_000


@pytest.mark.parametrize("path", RUN)
def test_it_runs_and_gives_what_is_stored(path):
    kept, fresh = stored(path), notebooks.execute(path)
    assert notebooks.faults(fresh) == []
    for number, (one, other) in enumerate(zip(code(kept), code(fresh), strict=True), 1):
        if notebooks.varies(one):
            assert [output.output_type for output in one.outputs] == [output.output_type for output in other.outputs]
        else:
            assert notebooks.texts(one) == notebooks.texts(other), f"cell {number} of {path.name} is stale: {STALE}"


def test_a_notebook_that_is_not_fit_to_be_kept_is_told():
    cell = nbformat.v4.new_code_cell("1", execution_count=2)
    cell.outputs = [
        nbformat.v4.new_output(
            "stream", name="stdout", text="wrote /home/me/runs/a.png and <object at 0x7f00aa00bb>\n"
        ),
        nbformat.v4.new_output("stream", name="stderr", text="a warning"),
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]),
    ]
    told = "\n".join(notebooks.faults(nbformat.v4.new_notebook(cells=[cell])))
    for fault in ("not run once each", "/home/me/runs/a.png", "0x7f00aa00bb", "a warning", "ValueError"):
        assert fault in told
    fine = nbformat.v4.new_code_cell("1", execution_count=1)
    fine.outputs = [nbformat.v4.new_output("stream", text="runs/tiny/a.png, x/y, https://a.org/b/c, 1e-3/2\n")]
    assert notebooks.faults(nbformat.v4.new_notebook(cells=[fine])) == []
