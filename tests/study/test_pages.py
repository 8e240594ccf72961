"""README shows a lesson as it stands in its script."""

from pathlib import Path

from compare.study.cells import load

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_the_two_cells_of_the_file():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = load(ROOT / "examples/backprop/batch_norm.py").lessons["train_eval"]
    ours, theirs = (part.of(side)[0].text.strip() for side in ("jax", "torch"))
    columns = text[text.index("<table>") : text.index("</table>")].split("</td><td>")
    for shown, column in zip((ours, theirs), columns, strict=True):
        assert f"```python\n{shown}\n```" in column
