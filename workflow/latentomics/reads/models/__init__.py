"""Networks that classify single reads; each registered model is one file."""
