"""Who asks: whether its address is proven, where it is, and how many answers it may have. Pure."""
