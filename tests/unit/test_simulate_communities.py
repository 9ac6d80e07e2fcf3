"""Simulated communities: covariates, effects, contaminants."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentomics.simulate.communities import Communities, MetagenomeParams, draw_communities


@pytest.fixture(scope="module")
def communities() -> Communities:
    return draw_communities(MetagenomeParams(replicates=40), np.random.default_rng(3))


def test_cells_sum_to_one_and_no_covariate_predicts_another(communities: Communities) -> None:
    assert np.allclose(communities.cells.sum(axis=1), 1)
    assert (communities.cells.to_numpy() >= 0).all()
    kept = communities.samples[~communities.samples["control"]]
    for a, b in (("batch", "condition"), ("batch", "label"), ("condition", "label")):
        assert set(pd.crosstab(kept[a], kept[b]).to_numpy().ravel()) == {80}
    low = kept[kept["low_biomass"]]
    assert all((low[column].value_counts() == 2).all() for column in ("batch", "condition", "label"))


def test_effects_are_those_of_the_truth(communities: Communities) -> None:
    params = MetagenomeParams()
    kept = communities.samples[~communities.samples["control"] & ~communities.samples["low_biomass"]]
    role = communities.taxa["role"]
    log = np.log(communities.cells.loc[kept.index, ~role.isin(["common", "contaminant"])])
    role = role[log.columns]

    def contrast(column: str, one: str, other: str, by: pd.Series, against: pd.Series) -> pd.Series:
        found = log[by.index[by]].sub(log[against.index[against]].mean(axis=1), axis=0)
        return found[kept[column] == one].mean() - found[kept[column] == other].mean()

    drivers = role.str.startswith("driver")
    responders = contrast("condition", "disease", "healthy", ~drivers, drivers)
    wanted = np.log(communities.taxa.loc[responders.index, "condition_factor"])
    assert set(np.exp(wanted).round(3)) == {3.0, round(1 / 3, 3)}
    assert np.allclose(responders, wanted, atol=0.3)
    first = contrast("label", "community1", "community2", role == "driver1", role == "driver2")
    # Drivers of the first group gain and those of the second lose: twice the logarithm of the factor.
    assert np.allclose(first, 2 * np.log(params.group_factor), atol=0.4)
    shift = contrast("batch", "batch2", "batch1", role.notna(), drivers)
    assert 0.05 < shift.std() < 0.6


def test_contaminants_are_in_controls_and_low_biomass_only(communities: Communities) -> None:
    foreign = communities.taxa["role"] == "contaminant"
    share = communities.cells.loc[:, foreign].sum(axis=1)
    samples = communities.samples
    plain = ~samples["control"] & ~samples["low_biomass"]
    assert foreign.sum() == 2
    assert (share[plain] == 0).all()
    assert share[samples["low_biomass"]].between(0.1, 0.3).all()
    assert np.allclose(share[samples["control"]].mean(), 0.95, atol=0.01)
    assert (samples.loc[samples["control"], ["condition", "label"]] == "").all(axis=None)
    depth = samples["pairs"]
    assert depth[plain].median() == pytest.approx(3500, rel=0.1)
    assert depth[samples["low_biomass"]].median() < 0.75 * depth[plain].median()
    assert samples.loc[plain, "host_share"].between(0.05, 0.3).all()


def test_one_group_has_no_structure() -> None:
    found = draw_communities(MetagenomeParams(groups=("only",), replicates=30), np.random.default_rng(0))
    kept = ~found.samples["control"] & ~found.samples["low_biomass"]
    log = np.log(found.cells.loc[kept, found.taxa["role"].str.startswith("driver")])
    clr = log.sub(log.mean(axis=1), axis=0)
    assert set(found.samples.loc[kept, "label"]) == {"only"}
    # With two groups the first component of the drivers holds nearly everything; here it is one of five.
    values = np.linalg.eigvalsh(np.cov(clr.T))[::-1]
    assert values[0] / values.sum() < 0.4


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"seed": -1}, "seed"),
        ({"batches": ()}, "non-empty"),
        ({"groups": ("a", "a")}, "repeats"),
        ({"conditions": ("a", "b", "c")}, "two at most"),
        ({"replicates": 0}, "3 samples"),
        ({"pairs": 3}, "pairs"),
        ({"length": 10}, "length"),
        ({"error_rate": 0.2}, "error_rate"),
        ({"insert_sd": -2}, "insert_sd"),
        ({"sample_scale": -1}, "sample_scale"),
        ({"group_factor": 0}, "group_factor"),
        ({"copy_share": 1.0}, "copy_share"),
        ({"host_share": (0.3, 0.1)}, "host_share"),
        ({"control_host_share": (0.5, 0.98)}, "leave room"),
    ],
)
def test_impossible_studies_are_named(bad: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MetagenomeParams(**bad)
