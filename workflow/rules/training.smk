"""Which classifiers a study trains, and what their rules read.

Offers: READ_MODELS, READ_BASELINES, CLASSIFIED and the functions that the rules of the read classifiers use
"""

READ_MODELS = list(CONFIG.classifier.models) if TRAINING else []
READ_BASELINES = list(model_registry.BASELINES) if TRAINING else []
CLASSIFIED = READS if TRAINING and CONFIG.classifier.apply != "none" else []


def training_files(wildcards):
    return [str(row.path) for row in TRAINING]


def fitted(wildcards):
    """The folder of a network or of a baseline."""
    kind = "models" if wildcards.classifier in READ_MODELS else "baselines"
    return f"results/reads/{kind}/{wildcards.classifier}"


def classifier_params(*names):
    """Some keys of the config's section, as plain values for a rule's params."""
    return CONFIG.classifier.model_dump(mode="json", include=set(names))


def network_params(wildcards):
    return getattr(CONFIG.classifier, wildcards.classifier).model_dump(mode="json")


def curve_params(wildcards):
    return network_params(wildcards) if wildcards.classifier in READ_MODELS else {}


def classifier_code(script):
    """Content hash of a script and of the network that it reaches through the registry."""

    def code(wildcards):
        name = getattr(wildcards, "classifier", None)
        modules = [name] if name else READ_MODELS
        return code_of(
            script, *(model_registry.MODELS[m] for m in modules if m in model_registry.MODELS)
        )

    return code
