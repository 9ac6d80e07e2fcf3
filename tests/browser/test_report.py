"""The report in a real browser: it opens in silence, stays at home, and answers to its controls."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from make_metagenome_results import make_metagenome_results
from make_raw_inputs import SOUP
from make_results import HOSTILE, MARKUP, make_results
from make_usage import make_records

from latentomics.report.page import write_report
from latentomics.resources.account import job_table

sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def _chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Visit:
    """A page, and what it did that it should not have done."""

    def __init__(self, page: sync_api.Page):
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.complaints.append(str(e)))
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("dialog", self._dismiss)

    def _dismiss(self, dialog: sync_api.Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, path: Path) -> Visit:
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        self.settle()
        return self

    def settle(self) -> None:
        # Canvases are drawn in the next frame.
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def picture(self, method: str = "pca", layout: str = "umap") -> str:
        """What the panel's canvas holds."""
        self.settle()
        return self.page.evaluate(
            "([m, l]) => document.querySelector(`.panel[data-method=${m}][data-layout=${l}] canvas`).toDataURL()",
            [method, layout],
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    executable = _chromium()
    if executable is None:
        pytest.skip("no Chromium was found: install one, or name it in the environment variable CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: sync_api.Browser) -> Iterator[Callable[..., Visit]]:
    pages = []

    def start(**options: object) -> Visit:
        pages.append(browser.new_page(viewport={"width": 1400, "height": 900}, **options))
        return Visit(pages[-1])

    yield start
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    make_results(folder / "scrna", n_cells=1500, n_genes=120)
    out = folder / "report.html"
    write_report({"scrna": folder / "scrna"}, out, "Test study", max_points=1500, max_genes=40, n_top_markers=3, seed=0)
    return out


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_in_silence_and_fetches_nothing(visit: Callable[..., Visit], report: Path, scheme: str) -> None:
    seen = visit(color_scheme=scheme).open(report)
    seen.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    seen.settle()
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    # Every figure was drawn, every panel too.
    assert seen.page.locator(".plot[data-figure]").count() == seen.page.locator(".plot .main-svg:first-child").count()
    assert seen.page.locator(".panel canvas").count() == 6


def test_no_button_sends_a_figure_away(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit().open(report)
    seen.page.locator(".plot[data-figure]").first.hover()
    buttons = seen.page.locator(".plot .modebar-btn")
    titles = {buttons.nth(i).get_attribute("data-title") or "" for i in range(buttons.count())}
    assert "Zoom in" in titles, titles
    assert not [title for title in titles if re.search("cloud|upload|share|studio", title, re.IGNORECASE)], titles


def test_colour_switch_changes_the_picture(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit().open(report)
    pictures = [seen.picture()]
    for label in ("sample", "label", "total counts", "Clusters of scVI"):
        seen.page.select_option("[data-role=column]", label=label)
        pictures.append(seen.picture())
    for gene in ("LYZ", "MS4A1"):
        seen.page.fill("[data-role=feature]", gene)
        assert gene in seen.page.inner_text("[data-role=status]")
        pictures.append(seen.picture())
    assert len(set(pictures)) == len(pictures)
    seen.page.fill("[data-role=feature]", "")
    seen.page.select_option("[data-role=column]", "cluster")
    assert seen.picture() == pictures[0]
    assert seen.complaints == []


def test_own_clusters_share_colours_where_the_cells_agree(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit().open(report)
    # The fixture numbers the same clusters anew for every method; the colours must follow the cells.
    own = seen.picture("autoencoder")
    seen.page.uncheck("[data-role=names]")
    plain = seen.picture("autoencoder")
    assert plain != own
    seen.page.select_option("[data-role=column]", "cluster:pca")
    seen.page.uncheck("[data-role=names]")
    assert seen.picture("autoencoder") == plain


def test_legend_singles_out_in_every_panel(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit().open(report)
    before = [seen.picture(m) for m in ("pca", "scvi")]
    entry = seen.page.locator("[data-role=legend] button").first
    entry.click()
    assert entry.get_attribute("aria-pressed") == "true"
    assert all(a != b for a, b in zip(before, [seen.picture(m) for m in ("pca", "scvi")], strict=True))
    entry.click()
    seen.page.mouse.move(2, 2)
    assert [seen.picture(m) for m in ("pca", "scvi")] == before


def test_zoom_enlarge_and_reset(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit().open(report)
    before = seen.picture()
    panel = seen.page.locator(".panel").first
    panel.get_by_title("Zoom in").click()
    assert seen.picture() != before
    panel.get_by_title("Enlarge").click()
    assert seen.page.locator(".panel:visible").count() == 1
    seen.page.click("[data-role=reset]")
    assert seen.page.locator(".panel:visible").count() == 6
    seen.page.mouse.move(2, 2)
    seen.settle()
    assert seen.picture() == before


def test_hover_names_the_cell(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit().open(report)
    seen.page.select_option("[data-role=column]", label="label")
    canvas = seen.page.locator(".panel canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    tooltip = seen.page.locator("[data-role=tooltip]")
    for k in range(400):
        seen.page.mouse.move(box["x"] + 20 + 12 * (k % 20), box["y"] + 20 + 12 * (k // 20))
        if tooltip.is_visible():
            break
    assert tooltip.is_visible()
    text = tooltip.inner_text()
    assert "donor" in text
    assert "run_" in text
    assert "cluster of PCA" in text
    assert "label" in text


def test_hostile_gene_shows_as_text(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit().open(report)
    seen.page.fill("[data-role=feature]", HOSTILE)
    assert HOSTILE in seen.page.inner_text("[data-role=status]")
    assert seen.page.inner_text("[data-role=legend] h4") == HOSTILE
    seen.page.fill("[data-filter=markers]", "script")
    rows = seen.page.locator("[data-table=markers] tbody tr")
    assert rows.count() >= 1
    assert HOSTILE in rows.first.inner_text()
    # In plotly, whose labels are pseudo-HTML: the axis, and the hover box of the dot.
    labels = seen.page.text_content("[data-figure=dots] .xaxislayer-above")
    assert HOSTILE[:12] in labels
    assert MARKUP in labels
    seen.page.locator("[data-figure=dots]").scroll_into_view_if_needed()
    place = seen.page.evaluate(
        """() => {
          const plot = document.querySelector("[data-figure=dots]"), { x, y, text } = plot.data[0];
          const i = text.findIndex((t) => t.includes("alert(1)"));
          const box = plot.getBoundingClientRect(), l = plot._fullLayout;
          return [box.left + l._size.l + l.xaxis.c2p(x[i]), box.top + l._size.t + l.yaxis.c2p(y[i])];
        }"""
    )
    seen.page.mouse.move(*place)
    hover = seen.page.wait_for_selector("[data-figure=dots] .hoverlayer .hovertext", timeout=10_000)
    assert HOSTILE in hover.text_content()
    assert seen.dialogs == []
    assert seen.complaints == []
    assert seen.page.locator("main script:not(.payload)").count() == 0


def test_sampled_drawing_says_so(visit: Callable[..., Visit], report: Path, tmp_path: Path) -> None:
    assert visit().open(report).page.locator("[data-sampled]").count() == 0
    out = tmp_path / "sampled.html"
    results = report.parent / "scrna"
    write_report({"scrna": results}, out, "Test study", max_points=500, max_genes=5, n_top_markers=3, seed=0)
    seen = visit().open(out)
    assert "500 of 1,500 cells are drawn" in seen.page.inner_text("[data-sampled]")
    assert "500 cells drawn" in seen.page.inner_text("[data-role=status]")


def test_marker_table_sorts_and_filters(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit().open(report)
    seen.page.get_by_role("button", name="AUROC").click()
    column = [h.split()[0] for h in seen.page.locator("[data-table=markers] th").all_inner_texts()].index("AUROC")
    cells = seen.page.locator(f"[data-table=markers] td:nth-child({column + 1})").all_inner_texts()
    values = [float(v) for v in cells]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 10
    seen.page.select_option("[data-choose=markers]", "2")
    first = seen.page.locator("[data-table=markers] td:first-child").all_inner_texts()
    assert set(first) == {"2"}


def test_prints_on_white_paper(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit(color_scheme="dark").open(report)
    dark = seen.picture()
    seen.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert (
        seen.page.evaluate("getComputedStyle(document.querySelector('main section')).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    assert seen.picture() != dark
    seen.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert seen.picture() == dark


def test_droplets_are_drawn_on_logarithmic_axes(visit: Callable[..., Visit], report: Path) -> None:
    seen = visit(color_scheme="dark").open(report)
    plots = seen.page.locator("#droplets .plot[data-figure]")
    assert plots.count() == 2
    for i in range(2):
        shown = plots.nth(i).evaluate(
            """(plot) => {
              const points = [...plot.querySelectorAll(".scatterlayer .point")];
              const fills = new Set(points.map((p) => p.style.fill)), l = plot._fullLayout;
              const lines = l.shapes.map((s) => l.yaxis.d2p(s.y0)), words = l.annotations.map((a) => l.yaxis.l2p(a.y));
              const types = [l.xaxis.type, l.yaxis.type];
              return { n: points.length, colours: fills.size, types, lines, words, height: l.yaxis._length };
            }"""
        )
        assert shown["n"] > 100
        assert shown["colours"] >= 3, "none called, some, all"
        assert shown["types"] == ["log", "log"]
        # The lines lie in the plot from knee to empty, and each has its words at its height.
        assert 0 < shown["lines"][0] < shown["lines"][1] < shown["lines"][2] < shown["height"]
        assert shown["words"] == pytest.approx(shown["lines"])
    rows = seen.page.locator("#droplets [data-table=droplets] tbody tr")
    assert [rows.nth(i).locator("td").nth(1).inner_text() for i in range(3)] == ["raw", "raw", "already filtered"]
    assert SOUP in seen.page.locator("#ambient [data-table=ambient]").inner_text()
    assert seen.complaints == []


def test_corrected_counts_and_two_doublet_callers(visit: Callable[..., Visit], tmp_path: Path) -> None:
    make_results(tmp_path / "scrna", n_cells=600, n_genes=60, corrected=True)
    out = tmp_path / "report.html"
    write_report({"scrna": tmp_path / "scrna"}, out, "t", max_points=600, max_genes=10, n_top_markers=3, seed=0)
    seen = visit().open(out)
    axes = seen.page.locator("#quality [data-figure=distributions] .infolayer").text_content()
    assert "SOLO score" in axes
    assert seen.page.locator("#ambient [data-figure=shares] .scatterlayer .trace").count() == 9
    seen.page.select_option("#embeddings [data-role=column]", label="ambient share of counts")
    assert seen.complaints == []


@pytest.fixture(scope="module")
def chapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells, metagenomes and what the jobs needed in one page."""
    folder = tmp_path_factory.mktemp("chapters")
    make_results(folder / "scrna", n_cells=300, n_genes=60)
    make_metagenome_results(folder / "metagenome")
    out = folder / "report.html"
    folders = {assay: folder / assay for assay in ("scrna", "metagenome")}
    limits = {"max_points": 1500, "max_genes": 40, "n_top_markers": 3, "seed": 0}
    write_report(folders, out, "Test study", **limits, jobs=job_table(make_records()))
    return out


def test_metagenomes_draw_every_figure_in_silence(visit: Callable[..., Visit], chapters: Path) -> None:
    seen = visit(color_scheme="dark").open(chapters)
    seen.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    seen.settle()
    assert seen.complaints == []
    assert seen.dialogs == []
    assert [url for url in seen.requests if not url.startswith(("data:", "blob:"))] == [chapters.as_uri()]
    assert seen.page.locator(".plot[data-figure]").count() == seen.page.locator(".plot .main-svg:first-child").count()
    # The sunburst has an arc for every node of the tree.
    arcs = seen.page.locator("#metagenome-taxa [data-figure=tree] .sunburstlayer path.surface").count()
    assert arcs == seen.page.evaluate("document.querySelector('[data-figure=tree]').data[0].ids.length")
    assert HOSTILE in seen.page.text_content("#metagenome-taxa [data-figure=heat] .yaxislayer-above")
    assert seen.page.locator("main script:not(.payload)").count() == 0


def test_every_choice_of_figure_is_drawn(visit: Callable[..., Visit], chapters: Path) -> None:
    seen = visit().open(chapters)
    for select in seen.page.locator("select[data-switch]").all():
        place = seen.page.locator(f"[data-figure={select.get_attribute('data-switch')}]")
        pictures = []
        for value in select.locator("option").evaluate_all("(all) => all.map((o) => o.value)"):
            select.select_option(value)
            seen.settle()
            pictures.append(place.inner_html())
        assert len(set(pictures)) == len(pictures) >= 2
    seen.page.select_option("#metagenome-taxa [data-switch]", label="phylum")
    legend = seen.page.text_content("#metagenome-taxa .plot .legend")
    assert "Bacillota" in legend
    assert seen.complaints == []


def test_navigation_finds_the_chapters(visit: Callable[..., Visit], chapters: Path) -> None:
    seen = visit(reduced_motion="reduce").open(chapters)
    for anchor in ("metagenome-taxa", "scrna-markers", "metagenome-markers", "chapter-metagenome"):
        seen.page.click(f".sidebar a[href='#{anchor}']")
        seen.settle()
        top = seen.page.evaluate("(id) => document.getElementById(id).getBoundingClientRect().top", anchor)
        assert -5 < top < 100
        if not anchor.startswith("chapter"):
            seen.page.wait_for_selector(f".sidebar a[href='#{anchor}'][aria-current]", timeout=5000)
    assert seen.page.locator(".sidebar a[aria-current]").count() == 1


def test_abundance_below_zero_is_coloured(visit: Callable[..., Visit], chapters: Path) -> None:
    seen = visit().open(chapters)
    place = "#metagenome-embeddings"
    seen.page.fill(f"{place} [data-role=feature]", HOSTILE)
    status = seen.page.inner_text(f"{place} [data-role=status]")
    assert f"the abundance of {HOSTILE} (centred log-ratio); 24 samples drawn" in status
    assert "not detected" not in seen.page.inner_text(f"{place} [data-role=legend]")
    seen.page.fill("#scrna-embeddings [data-role=feature]", "LYZ")
    assert "the expression of LYZ (log-normalised), detected in" in seen.page.inner_text(
        "#scrna-embeddings [data-role=status]"
    )
    assert seen.complaints == []


@pytest.mark.parametrize(("width", "n_columns"), [(1400, 2), (420, 1)])
def test_resources_fit_the_page_and_their_points_name_the_job(
    visit: Callable[..., Visit], chapters: Path, width: int, n_columns: int
) -> None:
    seen = visit(reduced_motion="reduce")
    seen.page.set_viewport_size({"width": width, "height": 900})
    seen.open(chapters)
    boxes = [card.bounding_box() for card in seen.page.locator("#run-resources .card").all()]
    assert len({round(box["x"]) for box in boxes}) == n_columns
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    # The flagged point is drawn last, on top of the others; plotly itself listens in front of all of them.
    flagged = seen.page.locator("#run-resources [data-figure=memory] .scatterlayer .trace").last.locator("path.point")
    flagged.hover(force=True)
    seen.page.wait_for_selector("#run-resources [data-figure=memory] .hoverlayer .hovertext")
    label = seen.page.text_content("#run-resources [data-figure=memory] .hoverlayer")
    assert f"sample {HOSTILE}" in label
    assert "231" in label
    assert seen.complaints == []
    assert seen.dialogs == []
