"""The README of each role has its variables, as the specs have them."""

import pytest

from scripts import role_docs

SPEC = {
    "description": ["Does C(one | thing) for *all* of <them>."],
    "options": {
        "part_mode": {"description": "How.", "type": "str", "choices": ["a", "b"], "default": "a"},
        "part_items": {
            "description": "What, B(bold), see U(https://x.example).",
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "size": {"description": "How big.", "type": "int"},
                "more": {"type": "dict", "options": {"deep": {"description": "Below."}}},
            },
        },
    },
}


def test_the_readmes_of_the_roles_are_what_the_specs_say():
    drifted = [path.parent.name for path in role_docs.drift(role_docs.ROLES)]
    assert drifted == [], "their README.md has drifted from argument_specs.yml: run `make docs`"


def test_every_level_of_the_variables_has_its_table():
    text = role_docs.section(SPEC)
    assert '| `part_mode` | str: `a`, `b` | `"a"` | How. |' in text
    row = "| `part_items` | [list of dict](#part_items) | **required** | What, **bold**"
    assert f"{row}, see https://x.example. |" in text
    assert "### `part_items[]`" in text
    assert "| `size` | int |  | How big. |" in text
    assert "| `more` | [dict](#part_itemsmore) |  |  |" in text
    assert "### `part_items[].more`" in text
    assert "| `deep` | str |  | Below. |" in text


def test_markup_is_markdown_and_nothing_else_is_taken_for_it():
    assert role_docs.section(SPEC).startswith("Does `one | thing` for \\*all\\* of \\<them>.")


def test_a_cell_cannot_end_its_row():
    text = role_docs.section({"options": {"x": {"description": "C(a|b)"}}})
    assert "`a\\|b`" in text


def test_the_text_around_the_variables_stays():
    made = role_docs.readme("part", None, SPEC)
    assert made.startswith("# kechi.vps.part\n")
    by_hand = made.replace(role_docs.BEGIN, f"Why.\n\n{role_docs.BEGIN}") + "\n## See also\n"
    changed = {**SPEC, "options": {"part_other": {"description": "New."}}}
    after = role_docs.readme("part", by_hand, changed)
    assert after.startswith("# kechi.vps.part\n\nWhy.\n")
    assert after.endswith("\n## See also\n")
    assert "part_other" in after
    assert "part_mode" not in after
    assert role_docs.readme("part", after, changed) == after


@pytest.mark.parametrize(
    "before", ["", role_docs.BEGIN, f"{role_docs.END}{role_docs.BEGIN}", role_docs.BEGIN * 2]
)
def test_a_readme_without_its_marks_is_refused_and_not_overwritten(before):
    with pytest.raises(ValueError, match=r"roles/part/README.md needs these two lines"):
        role_docs.readme("part", before, SPEC)


def test_a_new_role_needs_no_more_than_its_spec(tmp_path):
    meta = tmp_path / "fresh" / "meta"
    meta.mkdir(parents=True)
    (meta / "argument_specs.yml").write_text(
        "argument_specs: {main: {options: {fresh_x: {description: New.}}}}"
    )
    (path, text), *others = role_docs.drift(tmp_path).items()
    assert (path, others) == (tmp_path / "fresh" / "README.md", [])
    assert "| `fresh_x` | str |  | New. |" in text
    path.write_text(text)
    assert role_docs.drift(tmp_path) == {}
