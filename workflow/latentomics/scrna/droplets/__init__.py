"""Which droplets of a raw matrix hold a cell."""
