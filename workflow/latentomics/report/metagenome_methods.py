"""How the metagenomes became a table of taxa, and how their groups were compared, in sentences about this very run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from latentomics.report.data import ReportData, natural_order
from latentomics.report.words import counted, listed, percent, setting


def sentences(data: ReportData) -> list[str]:
    """Reads, host, profile and taxa, then the comparisons; what is unknown is left out."""
    reads, profiles = data.sample_facts("reads"), data.sample_facts("profile")
    return [*_reads(data, reads), *_hosts(data, reads), *_profiles(data, profiles), *_taxa(data)]


def comparisons(data: ReportData) -> list[str]:
    """Diversity, PERMANOVA, differential abundance and prediction, as far as they were done."""
    get, text = data.setting, []
    if len(data.table("ordination")):
        text.append(
            "Distances between samples are Aitchison's (Euclidean on centred log-ratios) and Bray and Curtis's (on shares), "
            "drawn by principal coordinates."
        )
    if len(data.table("diversity_tests")):
        text.append("Diversity was compared by the Kruskal–Wallis test.")
    if len(permanova := data.table("permanova")):
        n = permanova["n_permutations"].max() if "n_permutations" in permanova else None
        by = f" ({setting(float(n))} permutations)" if n is not None and n == n else ""
        text.append(f"Composition was compared by PERMANOVA on Aitchison distances{by}, with a test of dispersion.")
    found = data.table("associations")
    methods = natural_order(m for m in found.get("method", []) if isinstance(m, str) and m)
    if methods:
        least = get("associations", "min_prevalence")
        rare = f"; taxa seen in less than {percent(least, 0)} of the samples compared were not tested" if least else ""
        text.append(
            f"Differential abundance of single taxa was tested by {listed(methods)}, zeros read both as missing and as small, "
            f"with false discovery rates after Benjamini and Hochberg{rare}."
        )
    if len(data.table("prediction")) and get("prediction", "target") is not None:
        text.append(
            f"The column {get('prediction', 'target')} was predicted in {get('prediction', 'n_repeats')} repeats of "
            f"{get('prediction', 'n_folds')}-fold stratified cross-validation, everything fitted inside the training folds; "
            "intervals are the corrected resampled t (Nadeau and Bengio 2003)."
        )
    return text


def _versions(facts: Iterable[Mapping[str, Any]], tool: str) -> str:
    return " and ".join(natural_order({str(f["versions"][tool]) for f in facts if tool in f.get("versions", {})}))


def _reads(data: ReportData, reads: list[dict[str, Any]]) -> list[str]:
    if not reads:
        return []
    get = data.setting
    runs = [run for fact in reads for run in fact.get("runs") or []]
    cut = []
    if get("reads", "min_quality"):
        cut.append(f"3' ends below Phred {setting(get('reads', 'min_quality'))}")
    if n := sum(bool(run.get("poly_g")) for run in runs):
        cut.append(f"poly-G tails ({n:,} of {counted(len(runs), 'run')})")
    names = natural_order({a.get("name") or a.get("sequence", "") for run in runs for a in run.get("adapters") or []})
    if names:
        how = " found in the first reads of each run" if get("reads", "adapters") == "auto" else ""
        cut.append(f"adapters{how} ({listed(names)})")
    rules = []
    if get("reads", "min_length"):
        rules.append(f"shorter than {setting(get('reads', 'min_length'))} bases")
    if (share := get("reads", "max_ambiguous")) is not None:
        rules.append(f"with more than {percent(share, 0)} N")
    if (least := get("reads", "min_complexity")) is not None:
        rules.append(f"of an entropy of base triplets below {setting(least)}")
    if get("reads", "deduplicate"):
        rules.append("that were exact copies")
    version = _versions(reads, "cutadapt")
    tool = f"with cutadapt {version}" if version else "with cutadapt"
    text = f"Reads of {counted(len(reads), 'sample')} were trimmed {tool}"
    text += f": {listed(cut)} were cut" if cut else ""
    return [text + (f"; reads {' or '.join(rules)} were dropped, with their mates." if rules else ".")]


def _hosts(data: ReportData, reads: list[dict[str, Any]]) -> list[str]:
    hosts = [host for fact in reads for host in fact.get("hosts") or []]
    if not hosts:
        return []
    names = list(dict.fromkeys(str(host.get("name", "")) for host in hosts))
    tools = natural_order({f"{h.get('tool', '')} {h.get('version') or ''}".strip() for h in hosts})
    share = data.setting("reads", "min_host_share")
    least = f" over at least {percent(share, 0)} of their length" if share is not None else ""
    return [f"Reads that matched {listed(names)}{least} were removed ({listed(tools)})."]


def _profiles(data: ReportData, profiles: list[dict[str, Any]]) -> list[str]:
    tools: dict[str, int] = {}
    tables: dict[str, int] = {}
    for profile in profiles:
        n = len(profile.get("observations") or [None])
        if profile.get("source") == "reads":
            tool = " ".join(str(profile[k]) for k in ("profiler", "version") if profile.get(k))
            tool += f" against the database {profile['database']}" if profile.get("database") else ""
            tools[tool] = tools.get(tool, 0) + n
        else:
            source = str(profile.get("source") or "unknown").replace("_", " ")
            tables[source] = tables.get(source, 0) + n
    text = [f"Taxa of {counted(n, 'sample')} were profiled with {tool}." for tool, n in tools.items()]
    text += [f"Taxa of {counted(n, 'sample')} were read from {source} files." for source, n in tables.items()]
    get = data.setting
    if tools and (least := get("profile", "min_evidence")) is not None:
        text.append(
            f"Detections on fewer than {setting(least)} distinct k-mers of their own, on less than "
            f"{percent(get('profile', 'min_evidence_ratio'), 0)} of those that the abundance would let expect, or below "
            f"{percent(get('profile', 'min_abundance'), 2)} of the community were dropped."
        )
    return text


def _taxa(data: ReportData) -> list[str]:
    get = data.setting
    if get("taxa", "rank") is None:
        return []
    text = [
        f"Taxa were summed by {get('taxa', 'rank')}; samples with fewer than {setting(get('taxa', 'min_reads'))} "
        f"classified reads and taxa present (from {percent(get('taxa', 'min_abundance'), 2)} on) in less than "
        f"{percent(get('taxa', 'min_prevalence'), 0)} of the samples were dropped."
    ]
    controls = data.samples["control"].astype(str) if "control" in data.samples else []
    if (limit := get("taxa", "contaminant_threshold")) is not None and any(
        c not in ("", "False", "nan") for c in controls
    ):
        text.append(
            f"Taxa whose prevalence score against the negative controls was below {setting(limit)} were dropped as contaminants "
            "(the method of decontam, Davis et al. 2018)."
        )
    return text
