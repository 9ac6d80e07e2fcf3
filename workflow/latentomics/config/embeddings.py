"""``embeddings``: which latent spaces are computed; each method brings its own parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, create_model, model_validator

from latentomics.config.base import Section
from latentomics.embed import registry

MethodName = Literal[tuple(registry.METHODS)]  # type: ignore[valid-type]


class _Embeddings(Section):
    methods: list[MethodName] = Field(
        list(registry.METHODS), min_length=1, description="Embeddings to compute, in the order of the report."
    )
    primary: Literal["auto", *registry.METHODS] = Field(  # type: ignore[valid-type]
        "auto",
        description="Embedding whose clusters go into `obs['cluster']` of the final file. `auto`: `scvi` where the "
        "sheet names several batches (PCA does not correct for batches), else `pca`; the first of `methods` where "
        "that one is not computed.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> _Embeddings:
        faults = []
        if len(set(self.methods)) != len(self.methods):
            faults.append("a method is listed twice")
        if self.primary != "auto" and self.primary not in self.methods:
            faults.append(f"primary is {self.primary!r}, which is not among methods {list(self.methods)}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def primary_method(self, n_batches: int) -> tuple[str, str]:
        """The method whose clusters are the study's clusters, and why."""
        if self.primary != "auto":
            return self.primary, "named in the config"
        wanted, why = (
            ("scvi", "the sheet names several batches, which PCA does not correct for")
            if n_batches > 1
            else ("pca", "the sheet names no batches, so there is nothing to correct for")
        )
        if wanted in self.methods:
            return wanted, why
        return self.methods[0], f"{wanted} is not among the methods of the config; this is the first of them"


def _parameters(name: str) -> tuple[type[Section], Section]:
    params = registry.method(name).Params
    return params, Field(params(), description=f"Parameters of {registry.method(name).TITLE}.")


Embeddings = create_model(
    "Embeddings",
    __base__=_Embeddings,
    __doc__="Embedding methods and their parameters.",
    **{name: _parameters(name) for name in registry.METHODS},
)
