import shutil
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

import print_edition

ONE = """<html><head><link rel="stylesheet" href="../_static/a.css?v=1"><link rel="next" href="two.html">
<script>window.MathJax = {}</script><script src="../_static/menu.js"></script></head><body><nav>menu</nav>
<article class="bd-article"><section id="same"><h1>One &amp; <em>only</em><a class="headerlink" href="#same">#</a></h1>
<p>See <a href="two.html#same">two</a>, <a href="#same">this</a>, <a href="https://example.org/?a=1&amp;b=2">that</a>,
<a href="../_modules/x.html">code</a>. <a href="two.html">All</a> of it. <a href="../print.html">On paper</a>.</p>
<img loading="lazy" src="../_images/plot.png" alt="A plot">
<section id="part"><h2>Part</h2><div class="exercise dropdown" aria-labelledby="same part">Solution</div></section>
<details class="hide"><summary>Show the code</summary>x &lt; 1</details><details><summary>Proof</summary>So.</details>
<div class="cell tag_setup">git clone</div>
<div class="highlight"><pre><span class="n">f</span><span class="p">(</span><span class="mi">1</span></pre></div>
</section></article></body></html>"""
TWO = """<html><head><link rel="stylesheet" href="../_static/a.css?v=1"><script>window.MathJax = {}</script></head>
<body>
<article class="bd-article"><section id="same"><h1>Two</h1><p><a href="../notebooks/one.html#part">back</a></p>
</section></article></body></html>"""


@pytest.fixture
def checkout(tmp_path):
    """A book of two pages."""
    files = {
        "_config.yml": "title: A & B\nauthor: Us\nlogo: book/logo.svg\nhtml: {extra_footer: '<b>CC</b>'}\n",
        "_toc.yml": "root: notebooks/one\nparts: [{caption: Then, chapters: [{file: notebooks/two}]}]\n",
        "pyproject.toml": '[project]\nname = "x"\nversion = "1.2"\n',
        "_build/html/notebooks/one.html": ONE,
        "_build/html/notebooks/two.html": TWO,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def page(checkout):
    return BeautifulSoup(print_edition.join(checkout).read_bytes(), "html.parser")


def addresses(page, within):
    return [link["href"] for link in page.select(f"{within} a")]


def test_links_between_pages_lead_within_the_joined_one_and_others_stay_or_become_text(page):
    assert addresses(page, "#notebooks-one") == [
        "#notebooks-two--same",
        "#notebooks-one--same",
        "https://example.org/?a=1&b=2",
        "#notebooks-two",
    ]
    assert addresses(page, "#notebooks-two") == ["#notebooks-one--part"]
    assert "that, code. All of it. On paper." in " ".join(page.select_one("#notebooks-one").get_text().split())


def test_ids_and_what_names_them_are_those_of_their_page(page):
    ids = [element["id"] for element in page.select("article [id]")]
    assert ids == [
        "notebooks-one",
        "notebooks-one--same",
        "notebooks-one--part",
        "notebooks-two",
        "notebooks-two--same",
    ]
    assert page.select_one(".exercise")["aria-labelledby"] == "notebooks-one--same notebooks-one--part"


def test_everything_folded_is_open_and_what_serves_the_screen_is_gone(page):
    assert page.select("details, summary, .dropdown, .headerlink, .tag_setup, nav:not(.edition-contents)") == []
    text = page.select_one("article").get_text()
    assert "Solution" in text
    assert "x < 1" in text
    assert "Proof" in text
    assert "Show the code" not in text
    assert "git clone" not in text
    assert page.pre.decode_contents() == 'f(<span class="mi">1</span>'


def test_files_are_found_from_the_joined_page_and_images_are_loaded_at_once(page):
    assert page.select_one("article img").attrs == {"src": "_images/plot.png", "alt": "A plot"}
    assert [link["href"] for link in page.select("head link")] == ["_static/a.css?v=1", "_static/edition.css"]
    assert [script.get_text() for script in page.select("script")] == ["window.MathJax = {}"]


def test_the_contents_list_parts_pages_and_sections(page):
    contents = page.select_one("nav")
    assert contents.get_text(" ", strip=True) == "Contents One & only Part Then Two"
    assert addresses(page, "nav") == ["#notebooks-one", "#notebooks-one--part", "#notebooks-two"]
    assert contents.li.em.get_text() == "only"


def test_the_title_page_names_title_author_version_and_licence(page):
    assert page.title.get_text() == "A & B"
    assert page.header.get_text(" ", strip=True) == "A & B Us Version 1.2 CC"
    assert page.header.img["src"] == "_static/logo.svg"


def test_the_title_page_links_to_the_repository_once_its_address_is_set(checkout):
    with (checkout / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write('urls = { Repository = "https://github.com/o/n" }\n')
    page = BeautifulSoup(print_edition.join(checkout).read_bytes(), "html.parser")
    assert addresses(page, "header") == ["https://github.com/o/n"]


def test_a_second_joining_gives_the_same(checkout):
    first = print_edition.join(checkout).read_bytes()
    assert print_edition.join(checkout).read_bytes() == first
    assert sorted(path.name for path in (checkout / "_build" / "html").iterdir()) == ["notebooks", "print.html"]


@pytest.mark.parametrize(
    ("step", "removed", "message"),
    [
        ("join", "_build/html", "the site is not built"),
        ("join", "_build/html/notebooks/two.html", "_toc.yml names notebooks/two, but"),
        ("pdf", "_build/html/print.html", "the pages are not joined"),
    ],
)
def test_what_is_missing_is_said_in_one_line(checkout, monkeypatch, capsys, step, removed, message):
    monkeypatch.setattr(print_edition, "ROOT", checkout)
    path = checkout / removed
    if path.exists():
        path.rename(checkout / "elsewhere")
    assert print_edition.main([step]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "run make book" in error
    assert error.count("\n") == 1


def test_a_browser_that_does_not_start_is_named_in_one_line(checkout, monkeypatch, capsys):
    monkeypatch.setattr(print_edition, "ROOT", checkout)
    monkeypatch.setenv("NORMLIB_CHROMIUM", shutil.which("false"))
    print_edition.main(["join"])
    assert print_edition.main(["pdf"]) == 1
    error = capsys.readouterr().err
    assert shutil.which("false") in error
    assert error.count("\n") == 1
    assert not (checkout / "_build" / "html" / print_edition.PDF).exists()


def test_without_a_browser_the_error_says_how_to_get_one(checkout, monkeypatch, capsys):
    monkeypatch.setattr(print_edition, "ROOT", checkout)
    monkeypatch.setenv("NORMLIB_CHROMIUM", str(Path("no", "such", "program")))
    print_edition.main(["join"])
    assert print_edition.main(["pdf"]) == 1
    assert "apt-get install chromium" in capsys.readouterr().err
    assert not (checkout / "_build" / "html" / print_edition.PDF).exists()


def test_the_pdf_is_linked_once_behind_the_joined_page(checkout):
    site = checkout / "_build" / "html" / "notebooks"
    two = (site / "two.html").read_bytes()
    for _ in range(2):
        print_edition.offer(checkout)
        behind = '<a href="../print.html">On paper</a> (<a href="../embedding-norms.pdf">PDF</a>).</p>'
        assert (site / "one.html").read_text(encoding="utf-8") == ONE.replace(
            '<a href="../print.html">On paper</a>.</p>', behind
        )
        assert (site / "two.html").read_bytes() == two
