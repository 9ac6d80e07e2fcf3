"""Where the assays differ: normalisation, choice of features, tests of markers, and the words for them."""
