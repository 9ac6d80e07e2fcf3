"""Predict a condition from taxa and from embeddings, everything fitted inside the fold."""

from latentomics.io.job import job

with job(snakemake, "Prediction"):
    from latentomics.config.prediction import Prediction
    from latentomics.embed.registry import method
    from latentomics.io.store import CountsStore
    from latentomics.metagenome.encoders import registered_encoder
    from latentomics.metagenome.prediction import predict_study

    encoders = {
        name: registered_encoder(name, method(name).Params(**params), snakemake.threads)
        for name, params in snakemake.params.embeddings.items()
    }
    summary, splits = predict_study(
        CountsStore(snakemake.input.store),
        Prediction(**snakemake.params.prediction),
        snakemake.params.seed,
        snakemake.threads,
        encoders,
    )
    summary.to_csv(snakemake.output.prediction, sep="\t", index=False, float_format="%.8g")
    splits.to_csv(snakemake.output.splits, sep="\t", index=False, float_format="%.8g")
    print(summary.drop(columns="verdict").to_string())
    print("\n".join(summary["verdict"]))
