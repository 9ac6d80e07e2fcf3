"""Deep classifiers of short reads: data, models, judgement, application."""
