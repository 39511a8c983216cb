"""Where a cluster's own services come from; every source gives `Latest[LocalServices]`."""
