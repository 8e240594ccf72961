"""The page of blocks is that of the code."""


def test_the_page_of_blocks_is_that_of_the_code():
    from compare.study.blocks import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "stale: run `python -m compare.study.blocks`"
