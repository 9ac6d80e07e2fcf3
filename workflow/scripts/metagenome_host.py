"""Index the genome of a host, or of a spike-in, once for all samples."""

from pathlib import Path

from latentomics.io.job import job

with job(snakemake, f"Host {snakemake.wildcards.host}"):
    from latentomics.metagenome.host import build_index, choose_tool

    tool = choose_tool(snakemake.params.tool)
    bases = build_index(Path(snakemake.input.fasta), Path(snakemake.output.index), tool, snakemake.threads)
    print(f"{bases} bases indexed by {tool}")
