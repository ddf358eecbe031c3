"""The style sheets of a page, joined into one."""

import style_sheets

PAGE = """<head>
<link href="../_static/styles/theme.css" rel="stylesheet">
  <link rel="stylesheet" type="text/css" href="../_static/own.css?v=1" />
<link media="print" rel="stylesheet" type="text/css" href="../_static/print.css?v=2" />
<link rel="next" href="two.html">
</head>"""


def site(folder):
    """A site of one page with three style sheets, one of which imports another."""
    for name in ("_static/styles", "book"):
        (folder / name).mkdir(parents=True)
    static = folder / "_static"
    (static / "basic.css").write_text("p { background: url(dot.svg) }")
    (static / "styles" / "theme.css").write_text(
        '@charset "UTF-8";\n@import "../basic.css";\nb { x: url("../fonts/a.woff?v=1") }'
    )
    (static / "own.css").write_text("i { y: url(data:image/png;base64,AA) url('#id') url(https://example.org/a.png) }")
    (static / "print.css").write_text("u { z: 0 }")
    page = folder / "book" / "one.html"
    page.write_text(PAGE)
    return page, static


def test_one_file_holds_all_in_their_order(tmp_path):
    page, static = site(tmp_path)
    style_sheets.join(page, static)
    [sheet] = static.glob("styles-*.css")
    html = page.read_text()
    assert html.count('rel="stylesheet"') == 2
    assert f'<link rel="stylesheet" href="../_static/{sheet.name}">' in html
    assert "print.css?v=2" in html
    assert 'href="two.html"' in html
    assert sheet.read_text() == (
        '\np { background: url("dot.svg") }\nb { x: url("fonts/a.woff?v=1") }\n'
        "i { y: url(data:image/png;base64,AA) url('#id') url(https://example.org/a.png) }"
    )


def test_a_page_is_joined_once_and_one_whose_sheets_are_elsewhere_is_left(tmp_path):
    page, static = site(tmp_path)
    style_sheets.join(page, static)
    once = page.read_text()
    style_sheets.join(page, static)
    assert page.read_text() == once
    page.write_text(PAGE.replace("../_static/own", "/_static/own"))
    style_sheets.join(page, static)
    assert page.read_text().count('rel="stylesheet"') == 3
