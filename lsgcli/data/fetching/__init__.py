"""From a host to a folder: downloads, archives, manifests, and data sets that come this way."""
