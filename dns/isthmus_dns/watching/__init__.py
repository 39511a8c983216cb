"""What is seen of queries: counts, the names asked for most or in vain, and the formats they are told in. Pure."""
