"""scVI's count likelihoods at the cost of the non-zero counts, and scvi-tools' SCVI trained with them."""
