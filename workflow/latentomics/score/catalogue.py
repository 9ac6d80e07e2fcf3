"""What each score is called, what it means, and whether an embedding can win on it."""

from __future__ import annotations

from typing import NamedTuple


class Score(NamedTuple):
    """One score of an embedding.

    Attributes
    ----------
    name
        As in a sentence.
    meaning
        One line.
    group
        Heading under which the report shows it.
    ranked
        Whether more of it makes a better embedding. Stability does not: fewer clusters are more stable.
    """

    name: str
    meaning: str
    group: str
    ranked: bool


#: In the order of the scoreboard.
SCORES = {
    "label_ari": Score(
        "Agreement with labels (ARI)",
        "adjusted Rand index of the chosen clusters with the known labels",
        "Known labels",
        True,
    ),
    "label_nmi": Score(
        "Agreement with labels (NMI)",
        "normalised mutual information of the chosen clusters with the known labels",
        "Known labels",
        True,
    ),
    "label_silhouette": Score(
        "Silhouette of labels",
        "silhouette of the known labels in the latent space, rescaled to 0..1",
        "Known labels",
        True,
    ),
    "label_purity": Score(
        "Purity of labels", "share of an observation's nearest neighbours that carry its label", "Known labels", True
    ),
    "batch_mixing": Score(
        "Batch mixing",
        "inverse Simpson's index of batches among nearest neighbours (iLISI), rescaled to 0..1",
        "Batches",
        True,
    ),
    "batch_mixing_expected": Score(
        "Batch mixing expected", "the same if batch labels were shuffled: no batch effect at all", "Batches", False
    ),
    "neighbour_prediction": Score(
        "Neighbour prediction",
        "variance of the normalised values of held-out observations that nearest neighbours in the latent space predict",
        "Without labels",
        True,
    ),
    "neighbour_overlap_pca": Score(
        "Overlap with PCA", "share of nearest neighbours that PCA names too", "Without labels", False
    ),
    "trustworthiness": Score(
        "Trustworthiness",
        "how far latent neighbours are neighbours in the normalised values too",
        "Without labels",
        False,
    ),
    "stability": Score(
        "Stability",
        "adjusted Rand index of the chosen clusters between subsamples of the observations; fewer clusters are more stable",
        "Without labels",
        False,
    ),
}
#: Scores that say which embedding is better; the others describe.
RANKED = tuple(name for name, score in SCORES.items() if score.ranked)
