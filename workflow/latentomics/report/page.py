"""The report page: sections, style and scripts in one file that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from latentomics import __version__
from latentomics.report import words
from latentomics.report.data import Limits, ReportData
from latentomics.report.encode import json_text
from latentomics.report.registry import builders
from latentomics.report.section import Section

#: In the order in which they use each other.
_SCRIPTS = ("common.js", "panel.js", "explorer.js", "app.js")

#: Only this page's own inline code runs, and nothing is fetched: pictures come from the page itself.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def write_report(
    results_dirs: Mapping[str, Path],
    out: Path,
    title: str,
    max_points: int,
    max_genes: int,
    n_top_markers: int,
    seed: int,
) -> None:
    """Write the report of one or more assays as one self-contained HTML file.

    Parameters
    ----------
    results_dirs
        Results folder of each assay, in the order of the chapters.
    out
        The file to write; its folder is made if need be.
    title
        Title of the page.
    max_points
        Most observations drawn per embedding panel.
    max_genes
        Most marker features offered for colouring.
    n_top_markers
        Markers per cluster in the dot plot.
    seed
        Seed of the draw of observations.
    """
    limits = Limits(max_points=max_points, max_genes=max_genes, n_top_markers=n_top_markers, seed=seed)
    chapters = [ReportData(assay, Path(root), limits) for assay, root in results_dirs.items()]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(chapters, title), encoding="utf-8", newline="\n")


def render(chapters: ReportData | Sequence[ReportData], title: str) -> str:
    """The whole page as text; the same results give the same text.

    Parameters
    ----------
    chapters
        The results of one assay, or of several.
    title
        Title of the page.
    """
    if isinstance(chapters, ReportData):
        chapters = [chapters]
    environment = _environment()
    prefix = len(chapters) > 1
    rendered = []
    for data in chapters:
        built = [section for build in builders().values() if (section := build(data)) is not None]
        rendered.append(
            {
                "id": f"chapter-{data.assay}",
                "title": data.kind.TITLE,
                "sections": [
                    _rendered(environment, data, s, f"{data.assay}-{s.id}" if prefix else s.id) for s in built
                ],
            }
        )
    return environment.get_template("page.html.j2").render(
        title=title,
        chapters=rendered,
        several=prefix,
        policy=CONTENT_SECURITY_POLICY,
        style=_inline("style.css"),
        scripts=[_plotly(), *map(_inline, _SCRIPTS)],
        version=__version__,
    )


def _rendered(environment: Environment, data: ReportData, section: Section, anchor: str) -> dict[str, object]:
    html = environment.get_template(section.template).render(
        data=data, title=section.title, anchor=anchor, **section.context
    )
    payload = Markup(json_text(dict(section.payload))) if section.payload else None
    return {"id": anchor, "title": section.title, "html": Markup(html), "payload": payload}


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(files("latentomics.report") / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=words.number,
        setting=words.setting,
        percent=words.percent,
        duration=words.duration,
        megabytes=words.megabytes,
        listed=words.listed,
    )
    environment.globals.update(counted=words.counted)
    return environment


def _inline(name: str) -> Markup:
    return Markup((files("latentomics.report") / "assets" / name).read_text(encoding="utf-8"))


def _plotly() -> Markup:
    # Found, not imported: the package is slow to import and only its bundled script is needed.
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ImportError("plotly is not installed: the report inlines the script that it ships")
    script = (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return Markup(script.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
