"""``embeddings``: which latent spaces are computed; each method brings its own parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, create_model, model_validator

from latentomics.config.base import Section
from latentomics.embed import registry

MethodName = Literal[tuple(registry.METHODS)]  # type: ignore[valid-type]


class _Embeddings(Section):
    methods: list[MethodName] = Field(
        list(registry.METHODS),
        min_length=1,
        description="Embeddings to compute, in the order of the report; each for the assays it is made for.",
    )
    primary: Literal["auto", *registry.METHODS] = Field(  # type: ignore[valid-type]
        "auto",
        description="Embedding whose clusters go into `obs['cluster']` of the final file. `auto`: for cells "
        "`scvi` where the sheet names several batches (PCA does not correct for batches), else `pca`; the first of "
        "`methods` where that one is not computed.",
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

    def methods_for(self, assay: str, counts: bool) -> list[str]:
        """The methods that can be computed for an assay, in the order of the config.

        Parameters
        ----------
        counts
            Whether its matrix holds counts; relative abundances have no count likelihood.
        """
        modules = {name: registry.method(name) for name in self.methods}
        return [
            name for name, module in modules.items() if assay in module.ASSAYS and (counts or not module.NEEDS_COUNTS)
        ]

    def primary_method(self, assay: str, methods: list[str], n_batches: int) -> tuple[str, str]:
        """The method whose clusters are the clusters of an assay, and why.

        Parameters
        ----------
        methods
            Those of :meth:`methods_for`.
        n_batches
            Batches that the sheet names.
        """
        if self.primary in methods:
            return self.primary, "named in the config"
        if assay != "scrna":
            wanted, why = "pca", "of few samples, and of relative abundances, it assumes least"
        elif n_batches > 1:
            wanted, why = "scvi", "the sheet names several batches, which PCA does not correct for"
        else:
            wanted, why = "pca", "the sheet names no batches, so there is nothing to correct for"
        if wanted in methods:
            return wanted, why
        return methods[0], f"{wanted} is not among the methods of the config; this is the first of them"


def _parameters(name: str) -> tuple[type[Section], Section]:
    params = registry.method(name).Params
    return params, Field(params(), description=f"Parameters of {registry.method(name).TITLE}.")


Embeddings = create_model(
    "Embeddings",
    __base__=_Embeddings,
    __doc__="Embedding methods and their parameters.",
    **{name: _parameters(name) for name in registry.METHODS},
)
