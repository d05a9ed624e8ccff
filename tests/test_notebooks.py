"""The notebooks of the documentation run from top to bottom, and say the same in both languages."""

import nbclient
import nbformat
import pytest

from conftest import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"
TRANSLATIONS = {"homework": "tarefa", "photographs": "fotos", "is_it_better": "sera_melhor"}


def read_notebook(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path):
    notebook = read_notebook(name)
    location = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=location).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert any("<table" in output.data.get("text/html", "") for output in shown)
    assert (tmp_path / "outputs").is_dir()


def test_every_notebook_is_translated():
    names = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    assert names == {*TRANSLATIONS, *TRANSLATIONS.values()}


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_the_languages_share_their_code(name):
    """So a translation runs where the original does."""
    originals, translations = read_notebook(name).cells, read_notebook(TRANSLATIONS[name]).cells
    assert [cell.cell_type for cell in originals] == [cell.cell_type for cell in translations]
    for original, translation in zip(originals, translations, strict=True):
        assert (original.source == translation.source) == (original.cell_type == "code"), translation.source


@pytest.mark.parametrize("name", [*TRANSLATIONS, *TRANSLATIONS.values()])
def test_a_notebook_is_committed_without_outputs(name):
    code = [cell for cell in read_notebook(name).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
