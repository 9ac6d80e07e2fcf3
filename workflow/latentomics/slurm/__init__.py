"""What a run does on a Slurm cluster beyond submitting: take back the jobs of a killed run, say why jobs failed."""
