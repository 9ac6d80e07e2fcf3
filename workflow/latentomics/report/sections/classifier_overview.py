"""Does a deep model pay here? The verdict first, then what to beware of, and the key figures."""

from __future__ import annotations

import pandas as pd

from latentomics.report.classifier import KMER, MAJORITY, ClassifierData
from latentomics.report.section import Section
from latentomics.report.words import counted, listed, number, percent, setting

#: Share of the test reads with a near-duplicate among the training reads that is worth a warning.
LEAK_HIGH = 0.05
#: Fewer training reads of a class than this are few.
FEW_READS = 1000
#: Share of one class among the test reads from which accuracy says little.
SKEWED = 0.8
#: Share of sequences with contradicting labels that is worth a warning.
CONFLICTS_HIGH = 0.01
#: Expected calibration error that is worth a warning.
ECE_HIGH = 0.05
#: Names in a sentence; the rest are counted.
_MAX_NAMES = 6
#: Look and first word of the verdict: whether the best network beats the k-mers, None where that cannot be told.
_VERDICTS = {True: ("good", "Yes."), False: ("warning", "No."), None: ("note", "Undecided.")}

#: What to do about near-duplicates, by whether reads were split one by one.
_LEAK_HINTS = {
    True: "name the sources of the reads (`source` in the sheet of the training data, or `classifier.source_column`), so "
    "that whole genomes or samples are held out.",
    False: "some sources or regions resemble each other (relatives, repeats); `classifier.split.test_sources` shows how well "
    "a genome is recognised that was not trained on.",
}


def build(data: ClassifierData) -> Section | None:
    """Verdict, warnings and one tile per key figure."""
    return Section(
        id="overview",
        title="Does a deep model pay?",
        template="classifier_overview.html.j2",
        context={"verdict": _verdict(data), "warnings": _warnings(data), "tiles": _tiles(data)},
    )


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed.

    >>> points(-0.0123)
    '−1.2'
    """
    return f"{100 * difference:+.1f}".replace("-", "−")


def _verdict(data: ClassifierData) -> dict[str, str] | None:
    verdict = data.verdict
    if not verdict:
        return None
    beats = verdict.get("beats_kmer")
    kind, word = _VERDICTS[beats if isinstance(beats, bool) else None]
    return {"kind": kind, "word": word, "text": _sentence(data) or str(verdict.get("sentence") or "")}


def _sentence(data: ClassifierData) -> str:
    """The verdict in words; empty if a number that it needs is missing."""
    verdict = {key: value for key, value in data.verdict.items() if value is not None}
    best, baseline = _row(data, data.best), _row(data, KMER)
    if data.best is None or "difference" not in verdict or "accuracy" not in best or "accuracy" not in baseline:
        return ""
    text = (
        f"The best network, {data.phrase_of(data.best)}, names the right class for {percent(best['accuracy'])} of the test "
        f"reads, {data.phrase_of(KMER)} for {percent(baseline['accuracy'])}: a difference of "
        f"{points(verdict['difference'])} percentage points on the same reads"
    )
    if {"difference_low", "difference_high"} <= set(verdict):
        interval = f"{points(verdict['difference_low'])} to {points(verdict['difference_high'])}"
        outcome = {
            True: "more than chance explains",
            False: "so that the network is the worse one",
            None: "so that these reads cannot tell which is better",
        }[verdict["beats_kmer"] if isinstance(verdict.get("beats_kmer"), bool) else None]
        text += f" (95 % interval {interval}), {outcome}"
    text += "."
    if {"only_best", "only_kmer"} <= set(verdict):
        text += (
            f" Of {counted(int(verdict['only_best']), 'read')} only the network knows the class, of "
            f"{number(verdict['only_kmer'])} only the regression."
        )
    return text


def _warnings(data: ClassifierData) -> list[dict[str, str]]:
    found = [*_of_data(data), *_of_scores(data)]
    return [{"where": where, "message": message, "hint": hint} for where, message, hint in found]


def _of_data(data: ClassifierData) -> list[tuple[str, str, str]]:
    found = []
    leak = data.facts.get("leak") or {}
    if (share := leak.get("share")) is not None and share > LEAK_HIGH:
        found.append(
            (
                "near-duplicates",
                f"{percent(share)} of the test reads share a stretch of {leak.get('k', 31)} bases with a training read: "
                "the scores hold for reads that overlap what was trained on, and promise too much for others.",
                _LEAK_HINTS["sequence" in str(data.facts.get("unit", ""))],
            )
        )
    if identical := leak.get("identical"):
        found.append(
            (
                "the same reads on both sides",
                f"{counted(int(identical), 'sequence stands', 'sequences stand')} in more than one split.",
                "the training data are damaged: make them again.",
            )
        )
    if "sequence" in str(data.facts.get("unit", "")):
        found.append(
            (
                "split",
                "Where reads are from is not known, so they were split by their sequence: reads of one genome stand "
                "on both sides. The scores tell how well new reads of the same genomes are recognised, not relatives "
                "that were never seen.",
                "name the sources of the reads, or hold some out with `classifier.split.test_sources`.",
            )
        )
    train, test = (data.counts[split] for split in ("train", "test"))
    if len(few := train[train < FEW_READS]):
        found.append(
            (
                "few reads",
                f"Fewer than {FEW_READS:,} training reads: {_named(few)}. A network learns little from so few.",
                "add reads of these classes, or join them with others.",
            )
        )
    if test.sum() and test.max() > SKEWED * test.sum():
        found.append(
            (
                "unequal classes",
                f"{test.idxmax()} makes {percent(test.max() / test.sum())} of the test reads, so whoever always says so is "
                "right as often.",
                "read macro-F1, which counts every class alike, not accuracy.",
            )
        )
    conflicts, n_reads = data.facts.get("conflicts") or 0, data.facts.get("reads") or 0
    if conflicts > CONFLICTS_HIGH * (n_reads + conflicts):
        found.append(
            (
                "contradicting labels",
                f"{counted(int(conflicts), 'sequence was', 'sequences were')} left out because the labels of their "
                f"copies contradict each other ({percent(conflicts / (n_reads + conflicts))}).",
                "reads that several classes share cannot be told apart by any model; if there are many, the labels may "
                "be wrong.",
            )
        )
    return found


def _of_scores(data: ClassifierData) -> list[tuple[str, str, str]]:
    if data.best is None:
        return []
    found = []
    best, name = _row(data, data.best), data.phrase_of(data.best)
    majority = _row(data, MAJORITY).get("accuracy")
    if (low := best.get("accuracy_low")) is not None and majority is not None and low <= majority:
        found.append(
            (
                "no better than naming the largest class",
                f"The accuracy of {name} cannot be told from that of always naming the largest class ({percent(majority)}).",
                "do not use it for samples: the classes may not differ in what these reads show.",
            )
        )
    if (error := best.get("ece_scaled", best.get("ece"))) is not None and error > ECE_HIGH:
        found.append(
            (
                "calibration",
                f"The confidence of {name} is off by {percent(error)} on average, even after temperature scaling: it must "
                "not be read as a probability.",
                "see Calibration and abstention; the test reads may differ from those that set the temperature.",
            )
        )
    if "threshold" in data.scores and "threshold" not in best:
        found.append(
            (
                "threshold",
                f"At no threshold of confidence is {name} right as often as was asked for, so no read of a sample is "
                "classified.",
                "lower `classifier.precision`, or give more training reads.",
            )
        )
    return found


def _row(data: ClassifierData, name: str | None) -> dict[str, float]:
    """The known numbers of a row of the scores."""
    if name not in data.scores.index:
        return {}
    return {str(key): value for key, value in data.scores.loc[name].items() if not pd.isna(value)}


def _named(reads: pd.Series) -> str:
    names = [f"{name} ({number(n)})" for name, n in reads.sort_values(kind="stable").items()]
    return listed([*names[:_MAX_NAMES], *([f"{len(names) - _MAX_NAMES} more"] if len(names) > _MAX_NAMES else [])])


def _tiles(data: ClassifierData) -> list[dict[str, str | bool]]:
    tiles: list[dict[str, str | bool]] = []
    if data.classes:
        n_sources = len(data.facts.get("sources") or [])
        note = f"from {counted(n_sources, 'source')}" if n_sources > 1 else ""
        tiles.append({"label": "Classes", "value": number(len(data.classes)), "note": note})
    if (n_reads := data.facts.get("reads")) is not None:
        n_read = data.facts.get("read")
        note = f"of {n_read:,} read, {percent(n_reads / n_read)}" if n_read else ""
        tiles.append({"label": "Reads kept", "value": number(n_reads), "note": note})
    if data.best is None:
        return tiles
    best, majority = _row(data, data.best), _row(data, MAJORITY)
    note = f"of {counted(len(data.networks), 'network')} trained"
    tiles.append({"label": "Best network", "value": data.title_of(data.best), "note": note, "long": True})
    for key, label, show in (("accuracy", "Accuracy", percent), ("macro_f1", "Macro-F1", _fixed)):
        if key in best:
            interval = f"{show(best[f'{key}_low'])} to {show(best[f'{key}_high'])}" if f"{key}_low" in best else ""
            floor = f"largest class: {show(majority[key])}" if key in majority else ""
            tiles.append({"label": label, "value": show(best[key]), "note": "; ".join(filter(None, (interval, floor)))})
    if "share_classified" in best:
        note = f"at a confidence of {setting(round(best['threshold'], 3))}" if "threshold" in best else ""
        if "precision_classified" in best:
            note += f", and right {percent(best['precision_classified'])} of the time"
        tiles.append({"label": "Confidently classified", "value": percent(best["share_classified"]), "note": note})
    return tiles


def _fixed(value: float) -> str:
    return f"{value:.3f}"
