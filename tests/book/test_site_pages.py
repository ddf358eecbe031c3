"""What is done to every page of the site after its template."""

import pytest

pages = pytest.importorskip("pages", reason="the book's packages are not installed")

MATH = '<span class="math notranslate nohighlight">\\(z\\)</span>'


def test_a_formula_keeps_what_touches_it_and_stands_alone_otherwise():
    for text in (f"({MATH}).", f"{MATH},", f"{MATH}-axis", f"“{MATH}"):
        assert pages.mend(f"<p>of {text} it") == f'<p>of <span class="unbroken">{text}</span> it'
    for text in (f"of {MATH} it", f"<li>{MATH}</li>", f"{MATH}<em>.</em>"):
        assert pages.mend(text) == text


def test_a_number_keeps_its_percent_sign_but_not_in_code():
    code = "<pre>95 % of 100 % 7</pre>"
    assert pages.mend(f"<p>a 95 % interval</p>{code}<p>by 5 %.</p>") == (
        f"<p>a 95\u00a0% interval</p>{code}<p>by 5\u00a0%.</p>"
    )


def test_a_line_of_code_knows_its_indent():
    code = '<pre><span></span><span class="k">if</span> x:\n    <span class="n">y</span>\n\n</pre>'
    assert pages.mend(code) == (
        '<pre><span></span><span class="line"><span class="k">if</span> x:</span>\n'
        '<span class="line" style="--hang: 6ch"><span class="indent">    </span><span class="n">y</span></span>\n</pre>'
    )


def test_rows_of_a_table_are_told_from_lines_with_a_gap():
    rows = ["norm at 1  loss", "1  2  3", "word", "norm:  1"]
    found = pages.mend("<pre><span></span>" + "\n".join(rows) + "\n</pre>")
    assert [f'<span class="line columns">{row}</span>' in found for row in rows] == [True, True, False, False]
