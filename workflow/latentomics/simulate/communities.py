"""Communities whose composition is known: groups of samples, a condition, batches, contaminants and negative controls.

The abundance of a taxon in a sample is log-normal (the additive logistic normal of Aitchison and Shen 1980, Biometrika
67:261, once scaled to sum to one): the taxon's own level, times the factor of the sample's group on that group's driver
taxa, of its condition on the responding taxa and of its batch on every taxon, times noise of the sample.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from latentomics.simulate.genomes import SPECIES, GenomeParams
from latentomics.simulate.reads import ERROR_RATES

#: Level of taxa that drive no group, relative to a driver outside its group: they must be seen beside the drivers.
BYSTANDER_LEVEL = 2.5


@dataclass(frozen=True)
class MetagenomeParams:
    """What to simulate.

    Attributes
    ----------
    seed
        Seed of every draw; the same parameters give the same bytes.
    batches, conditions, groups
        Their names; every combination is sampled, so that none is confounded. ``groups`` are the kinds of community, the
        known clusters; with one there is no structure. At most two conditions and two groups.
    replicates
        Samples of each combination.
    pairs, depth_scale
        Log-normal depth: median (read pairs per sample) and standard deviation of the logarithm. Samples of low
        biomass have half as many, negative controls a third.
    length, insert_mean, insert_sd, error_rate
        Bases of a read, normal fragment length (bases), mean error rate per base (fraction).
    taxon_scale, sample_scale, batch_scale
        Standard deviation of the natural logarithm of a taxon's level, of a sample's noise and of a batch's factor.
    group_factor, condition_factor
        Factor of a group on its drivers, and of the second condition on the responding taxa (down: its inverse).
    absent
        Probability that a sample lacks a taxon that is neither driver nor responder (fraction).
    leak
        Range of the contaminants' share of the cells in a sample of low biomass (fraction).
    cross_talk
        Share of the cells of a negative control that come from the other samples (fraction).
    host_share, control_host_share
        Range of the host's share of a library, in samples and in negative controls (fraction).
    spike_share
        Share of the spike-in in the one library that has it (fraction).
    copy_share
        Share of a library that are exact copies of other pairs (fraction).
    dark_share
        Share of reads with a poly-G tail (fraction).
    simple_share
        Share of a library that is of low complexity (fraction).
    genomes
        Sizes and distances of the genomes.

    Raises
    ------
    ValueError
        When a value is out of range; says which.
    """

    seed: int = 0
    batches: tuple[str, ...] = ("batch1", "batch2")
    conditions: tuple[str, ...] = ("healthy", "disease")
    groups: tuple[str, ...] = ("community1", "community2")
    replicates: int = 3
    pairs: int = 3500
    depth_scale: float = 0.25
    length: int = 100
    insert_mean: float = 220.0
    insert_sd: float = 70.0
    error_rate: float = 0.004
    taxon_scale: float = 0.4
    sample_scale: float = 0.5
    batch_scale: float = 0.2
    group_factor: float = 8.0
    condition_factor: float = 3.0
    absent: float = 0.15
    leak: tuple[float, float] = (0.1, 0.3)
    cross_talk: float = 0.05
    host_share: tuple[float, float] = (0.05, 0.3)
    control_host_share: tuple[float, float] = (0.3, 0.5)
    spike_share: float = 0.03
    copy_share: float = 0.05
    dark_share: float = 0.04
    simple_share: float = 0.01
    genomes: GenomeParams = field(default_factory=GenomeParams)

    def __post_init__(self) -> None:
        names = (self.batches, self.conditions, self.groups)
        scales = (self.depth_scale, self.taxon_scale, self.sample_scale, self.batch_scale)
        shares = (self.absent, self.cross_talk, self.copy_share, self.dark_share)
        ranges = (self.leak, self.host_share, self.control_host_share)
        most_host = max(self.host_share[-1], self.control_host_share[-1])
        checks = {
            "seed must not be negative": self.seed >= 0,
            "batches, conditions and groups must be non-empty, without repeats": all(
                0 < len(n) == len(set(n)) for n in names
            ),
            "conditions and groups must be two at most": max(len(self.conditions), len(self.groups)) <= 2,
            "batches, conditions, groups and replicates must make at least 3 samples": self.n_samples >= 3,
            "pairs must be at least 30": self.pairs >= 30,
            "length must be at least 30": self.length >= 30,
            "insert_mean must be positive and insert_sd not negative": self.insert_mean > 0 and self.insert_sd >= 0,
            f"error_rate must lie between {ERROR_RATES[0]} and {ERROR_RATES[1]}": ERROR_RATES[0]
            <= self.error_rate
            <= ERROR_RATES[1],
            "depth_scale, taxon_scale, sample_scale and batch_scale must not be negative": min(scales) >= 0,
            "group_factor and condition_factor must be positive": min(self.group_factor, self.condition_factor) > 0,
            "absent, cross_talk, copy_share and dark_share must lie between 0 and 1": all(0 <= s < 1 for s in shares),
            "leak, host_share and control_host_share must be ranges between 0 and 1": all(
                0 <= low <= high < 1 for low, high in ranges
            ),
            "simple_share and spike_share must not be negative, and leave room beside the host's share": min(
                self.simple_share, self.spike_share
            )
            >= 0
            and most_host + self.simple_share + self.spike_share < 1,
        }
        failed = [rule for rule, holds in checks.items() if not holds]
        if failed:
            raise ValueError("; ".join(failed))

    @property
    def n_samples(self) -> int:
        """Samples, the negative controls (one per batch) not counted."""
        return len(self.batches) * len(self.conditions) * len(self.groups) * self.replicates


@dataclass(frozen=True, eq=False)
class Communities:
    """Samples and their composition.

    Attributes
    ----------
    samples
        Indexed by sample, the negative controls last: batch, condition, label (its group; both empty in controls),
        control, low_biomass, spiked (bool), pairs, host_share.
    cells
        Share of each genome among a sample's cells, samples x genomes in the order of ``SPECIES``; rows sum to 1.
    taxa
        Indexed by genome: lineage, role, condition_factor (of the second condition on the taxon's abundance).
    """

    samples: pd.DataFrame
    cells: pd.DataFrame
    taxa: pd.DataFrame


def draw_communities(params: MetagenomeParams, rng: np.random.Generator) -> Communities:
    """Draw the samples and what lives in them."""
    role = np.array([species.role for species in SPECIES])
    condition_factor = np.select(
        [role == "up", role == "down"], [params.condition_factor, 1 / params.condition_factor], 1
    )
    taxa = pd.DataFrame(
        {"lineage": [species.lineage for species in SPECIES], "role": role, "condition_factor": condition_factor},
        index=pd.Index([species.genome for species in SPECIES], name="genome"),
    )
    samples = _draw_samples(params, rng)
    foreign = role == "contaminant"
    level = rng.normal(0, params.taxon_scale, role.size)
    level += np.where(np.char.startswith(role, "driver"), 0, np.log(BYSTANDER_LEVEL))
    batch_effect = dict(
        zip(params.batches, rng.normal(0, params.batch_scale, (len(params.batches), role.size)), strict=True)
    )
    rows = []
    for sample in samples[~samples["control"]].itertuples():
        log = level + batch_effect[sample.batch] + rng.normal(0, params.sample_scale, role.size)
        log[role == f"driver{params.groups.index(sample.label) + 1}"] += np.log(params.group_factor)
        if sample.condition == params.conditions[-1] and len(params.conditions) == 2:
            log += np.log(condition_factor)
        there = ~foreign & ~((role == "common") & (rng.random(role.size) < params.absent))
        own = np.where(there, np.exp(log), 0)
        share = rng.uniform(*params.leak) * sample.low_biomass
        rows.append((1 - share) * own / own.sum() + share * _contamination(foreign, rng))
    average = np.mean(rows, axis=0)
    rows += [
        (1 - params.cross_talk) * _contamination(foreign, rng) + params.cross_talk * average for _ in params.batches
    ]
    return Communities(samples, pd.DataFrame(np.array(rows), index=samples.index, columns=taxa.index), taxa)


def _contamination(foreign: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shares of the contaminants among themselves: every kit brings both, in much the same proportion."""
    found = np.zeros(foreign.size)
    found[foreign] = rng.dirichlet(np.full(foreign.sum(), 20.0))
    return found


def _draw_samples(params: MetagenomeParams, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    combined = itertools.product(*(enumerate(names) for names in (params.batches, params.conditions, params.groups)))
    for (b, batch), (c, condition), (g, group) in combined:
        for replicate in range(params.replicates):
            # In one sample of every other combination, so that low biomass is not confounded either.
            low = replicate == params.replicates - 1 and (b + c + g) % 2 == 0
            rows.append((f"gut{len(rows) + 1:02d}", batch, condition, group, False, low))
    rows += [(f"blank{i}", batch, "", "", True, False) for i, batch in enumerate(params.batches, 1)]
    samples = pd.DataFrame(rows, columns=["sample", "batch", "condition", "label", "control", "low_biomass"])
    samples["spiked"] = samples.index == 1
    depth = rng.lognormal(np.log(params.pairs), params.depth_scale, len(samples))
    factor = np.select([samples["control"], samples["low_biomass"]], [1 / 3, 1 / 2], 1.0)
    samples["pairs"] = np.maximum(np.rint(depth * factor), 10).astype(int)
    low, high = np.where(samples["control"].to_numpy()[:, None], params.control_host_share, params.host_share).T
    samples["host_share"] = rng.uniform(low, high)
    return samples.set_index("sample")
