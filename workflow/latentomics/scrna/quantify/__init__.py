"""Counts of genes from the reads of single cells, by kallisto | bustools as kb-python carries them.

kb-python: Sullivan et al. 2025, Nature Protocols 20:587; kallisto: Bray et al. 2016, Nature Biotechnology 34:525;
bustools: Melsted et al. 2021, Nature Biotechnology 39:813.
"""
