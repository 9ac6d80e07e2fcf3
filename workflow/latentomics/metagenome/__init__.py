"""From shotgun reads or taxon tables to a samples x taxa counts store."""
