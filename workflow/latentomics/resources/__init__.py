"""What jobs need of a machine: predicted before they run, recorded when they did, compared and fitted again."""
