"""The report page: sections, style and scripts in one file that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from latentomics import __version__
from latentomics.report import words
from latentomics.report.classifier import ClassifierData
from latentomics.report.data import Limits, ReportData, SampleData
from latentomics.report.encode import json_text
from latentomics.report.registry import CLASSIFIER_SECTIONS, RUN_SECTIONS, SAMPLE_SECTIONS, SECTIONS, builders
from latentomics.report.section import Section

#: In the order in which they use each other.
_SCRIPTS = ("common.js", "panel.js", "explorer.js", "app.js")

#: Only this page's own inline code runs, and nothing is fetched: pictures come from the page itself.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Chapter:
    """What stands under one heading of the page.

    Attributes
    ----------
    id
        Begins the anchors of its sections where the page has several chapters; lower-case letters.
    title
        The heading.
    data
        What its sections are built of; their templates know it as ``data``.
    sections
        Names of the sections, in page order.
    """

    id: str
    title: str
    data: Any
    sections: Sequence[str]


def assay_chapter(data: ReportData, sections: Sequence[str] = SECTIONS) -> Chapter:
    """The chapter of an assay."""
    return Chapter(data.assay, data.kind.TITLE, data, sections)


def classifier_chapter(data: ClassifierData) -> Chapter:
    """The chapter of the read classifier."""
    return Chapter("classifier", "Read classifier", data, CLASSIFIER_SECTIONS)


def run_chapter(jobs: pd.DataFrame) -> Chapter:
    """The chapter of the run, of :func:`latentomics.resources.account.job_table`."""
    return Chapter("run", "This run", jobs, RUN_SECTIONS)


def write_report(
    results_dirs: Mapping[str, Path],
    out: Path,
    title: str,
    max_points: int,
    max_genes: int,
    n_top_markers: int,
    seed: int,
    classifier: Path | None = None,
    jobs: pd.DataFrame | None = None,
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
    classifier
        Results folder of the read classifier, a chapter after the assays; None if the study trains none.
    jobs
        What the jobs needed (:func:`latentomics.resources.account.job_table`), the last chapter.
    """
    limits = Limits(max_points=max_points, max_genes=max_genes, n_top_markers=n_top_markers, seed=seed)
    chapters = [assay_chapter(ReportData(assay, Path(root), limits)) for assay, root in results_dirs.items()]
    if classifier is not None:
        chapters.append(classifier_chapter(ClassifierData(classifier)))
    if jobs is not None and not jobs.empty:
        chapters.append(run_chapter(jobs))
    _write(out, render(chapters, title))


def write_quality(results_dirs: Mapping[str, Path], out: Path, title: str, config: Mapping[str, Any]) -> None:
    """Write the page on the samples and their quality, before anything is made of them.

    Parameters
    ----------
    results_dirs, out, title
        As of :func:`write_report`.
    config
        The sections of the config that the page speaks of.
    """
    chapters = [
        assay_chapter(SampleData(assay, Path(root), config), SAMPLE_SECTIONS) for assay, root in results_dirs.items()
    ]
    _write(out, render(chapters, title))


def _write(out: Path, page: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8", newline="\n")


def render(chapters: ReportData | Sequence[ReportData | Chapter], title: str) -> str:
    """The whole page as text; the same results give the same text.

    Parameters
    ----------
    chapters
        In the order of the page; the results of an assay stand for their chapter with all its sections.
    title
        Title of the page.
    """
    if isinstance(chapters, ReportData):
        chapters = [chapters]
    environment = _environment()
    prefix = len(chapters) > 1
    rendered = []
    for given in chapters:
        chapter = assay_chapter(given) if isinstance(given, ReportData) else given
        data = chapter.data
        built = [section for build in builders(chapter.sections).values() if (section := build(data)) is not None]
        rendered.append(
            {
                "id": f"chapter-{chapter.id}",
                "title": chapter.title,
                "sections": [
                    _rendered(environment, data, s, f"{chapter.id}-{s.id}" if prefix else s.id) for s in built
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


def _rendered(environment: Environment, data: Any, section: Section, anchor: str) -> dict[str, object]:
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
