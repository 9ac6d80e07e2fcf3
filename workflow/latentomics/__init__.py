"""latentomics: from raw counts to latent embeddings, clusters and the evidence for both.

The science of the workflow, as an importable and typed package. It never sees
``snakemake``: the scripts in ``workflow/scripts`` are the only link between the two.
"""

__version__ = "0.1.0"
