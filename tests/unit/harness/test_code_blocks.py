"""The code blocks of a page: found with their section and what is to be done, or refused."""

from pathlib import Path

import pytest

from harness import code_blocks
from harness.code_blocks import Block, PageError

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = """\
# A page
```sh
echo first
```
## A real VPS
1. Do:

   ```sh
   # no heading
   make setup
     indented
   ```

2. Write:

   <!-- write: inventory/mine/hosts.yml -->
   ```yaml
   vps: {}
   ```

### On the machine
<!-- run: on the machine -->
```sh
uptime
```
<!-- not run: it is an answer -->
```
12 days
```
## Further
```sh
echo last
```
"""


def test_blocks_of_a_section_are_found_in_order_with_what_is_to_be_done():
    found = code_blocks.blocks(PAGE, "A real VPS")
    assert found == [
        Block(8, "A page / A real VPS", "run", "here", "# no heading\nmake setup\n  indented\n"),
        Block(17, "A page / A real VPS", "write", "inventory/mine/hosts.yml", "vps: {}\n"),
        Block(23, "A page / A real VPS / On the machine", "run", "on the machine", "uptime\n"),
        Block(27, "A page / A real VPS / On the machine", "not run", "it is an answer",
              "12 days\n"),
    ]  # fmt: skip
    assert [block.text for block in code_blocks.blocks(PAGE)][-1] == "echo last\n"


@pytest.mark.parametrize(
    ("page", "section", "sentence"),
    [
        ("```yaml\na: 1\n```\n", "", "line 1: a block that is no shell's"),
        ("```\nwords\n```\n", "", "line 1: a block that is no shell's"),
        ("<!-- not run: why -->\n\n```yaml\na: 1\n```\n", "", "line 3: a block"),
        ("<!-- not run:  -->\n```yaml\na: 1\n```\n", "", "line 2: a block"),
        ("<!-- run: on the moon -->\n```sh\n:\n```\n", "", '"on the moon" is no place'),
        ("```sh\necho\n", "", "line 1: the block has no end"),
        (PAGE, "A real server", "no code block in A real server"),
        ("words\n", "", "no code block in the page"),
    ],
)
def test_a_block_of_which_nobody_says_what_to_do_is_refused(page, section, sentence):
    with pytest.raises(PageError, match=sentence):
        code_blocks.blocks(page, section)


def test_what_is_replaced_is_noted():
    used: set[str] = set()
    (block, *_) = code_blocks.blocks(PAGE)
    text = code_blocks.substituted(block, {"first": "second", "third": "fourth"}, used)
    assert (text, used) == ("echo second\n", {"first"})


@pytest.mark.parametrize(
    ("page", "section"),
    [
        ("README.md", "A real VPS"),
        ("docs/deploy.md", ""),
        ("docs/backup.md", ""),
        ("examples/README.md", ""),
    ],
)
def test_each_block_of_the_pages_for_newcomers_is_run_or_says_why_not(page, section):
    found = code_blocks.blocks((REPOSITORY / page).read_text(), section)
    assert any(block.action == code_blocks.RUN for block in found)
